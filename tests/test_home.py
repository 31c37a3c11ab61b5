"""The home: when a record is signed anew, a genesis that is no use or unusual, and names."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aegis_edge import config, home, membership
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseLocked
from aegis_edge.home import HomeError
from aegis_edge.peers import places
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import COUNTER_MAX, NodeRecord, Verified


def made(path: Path, port: int = 1001, name: str = "a") -> Config:
    """A home with an identity in it."""
    path.mkdir()
    (path / "config.toml").write_text(f"name = '{name}'\np2p_port = {port}")
    settings = config.load({"home": path}, {})
    keyfile.create(settings.key_file)
    return settings


def own(settings: Config) -> Verified[NodeRecord]:
    return home.own_record(settings, keyfile.read(settings.key_file))


def test_a_record_is_signed_anew_only_when_something_changed(tmp_path: Path) -> None:
    settings = made(tmp_path / "a")
    first = own(settings)
    assert own(settings) == first
    assert first.message.addresses == ("tcp:127.0.0.1:1001",)
    moved = config.load({"home": tmp_path / "a", "p2p_port": 1002}, {})
    second = own(moved)
    assert second.message.version == first.message.version + 1
    assert second.message.addresses == ("tcp:127.0.0.1:1002",)
    settings.record_file.write_text("damaged")
    assert own(moved).message.version == second.message.version + 1


def test_a_record_is_renewed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made(tmp_path / "a")
    first = own(settings)
    later = first.message.expires_s - home.RECORD_RENEWAL_S
    monkeypatch.setattr(home.time, "time", lambda: float(later))
    second = own(settings)
    assert second.message.version == first.message.version + 1
    assert second.message.expires_s == later + home.RECORD_LIFETIME_S


def test_a_record_is_small_and_shows_that_its_onion_addresses_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    made(path, 65_535, "é" * 16)
    settings = config.load({"home": path, "transport": "tor"}, {})
    assert len(own(settings).message.proofs) == 1
    keyfile.rotate_onion(settings.key_file)  # as many as there ever are
    record = own(settings)
    assert len(places.of(record)) == keyfile.GENERATIONS_MAX
    most = replace(record.message, version=COUNTER_MAX, expires_s=COUNTER_MAX)
    seed = keyfile.read(settings.key_file).seed
    assert len(Signer(seed, b"").sign(most).raw) <= 512
    assert own(settings) == record


def test_a_genesis_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    settings = made(tmp_path / "a")
    with pytest.raises(HomeError, match="there is no genesis yet"):
        home.read_genesis(settings)
    settings.genesis_file.write_text("something else")
    with pytest.raises(HomeError, match=f"^{settings.genesis_file}: "):
        home.read_genesis(settings)
    settings.genesis_file.unlink()
    settings.genesis_file.mkdir()
    with pytest.raises(HomeError, match=r"cannot be read \(Is a directory\); check its owner"):
        home.read_genesis(settings)


def test_a_genesis_with_odd_parameters_is_remarked_on(tmp_path: Path) -> None:
    record = own(made(tmp_path / "a"))
    assert home.remarks(Genesis.of([record], Parameters(0, bytes(16)))) == []
    odd = Genesis.of([record], Parameters(0, bytes(16), 8, 16, 0, 1))
    assert home.remarks(odd) == [  # one member bears no hostile one, whatever the ratio
        "checkpoint_interval is 8, and usually 64",
        "window is 16, and usually 128",
        "history_versions is 1, and usually 16",
    ]


def test_members_of_one_name_are_told_apart(tmp_path: Path) -> None:
    records = [own(made(tmp_path / f"{i}", 1001 + i, name)) for i, name in enumerate("aab")]
    names = home.member_names(Genesis.of(records, Parameters(0, bytes(16))).records)
    assert names[records[2].signer] == "b"
    assert len(set(names.values())) == 3
    assert sum(name.startswith("a ") for name in names.values()) == 2


@pytest.mark.parametrize("words", [["init", "--single"], ["record"], ["genesis", "show"]])
def test_commands_read_a_home_without_the_machinery_of_a_node(
    words: list[str], tmp_path: Path
) -> None:
    program = """
import sys
from aegis_edge.cli import main
try:
    main()
finally:
    assert "trio" not in sys.modules, "it loaded what only a node needs"
"""
    directory = tmp_path / "a"
    first = [] if words[0] == "init" else [["init", "--single"]]
    for each in [*first, words]:
        line = [sys.executable, "-c", program, *each, "--home", str(directory)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_is_known_of_members_is_kept_for_the_node_to_begin_with(tmp_path: Path) -> None:
    settings, other = made(tmp_path / "a"), made(tmp_path / "b", 1003, "b")
    genesis = Genesis.of([own(settings), own(other)], Parameters(0, bytes(16)))
    moved = config.load({"home": tmp_path / "b", "p2p_port": 1004}, {})
    key, newer = own(settings).signer, own(moved)
    home.remember(settings, genesis, key, [own(settings).raw, newer.raw])
    with pytest.raises(WireError):
        home.remember(settings, genesis, key, [newer.raw[:-1]])
    database = Database.open(
        settings.database_file,
        cluster_id=genesis.cluster_id,
        node=key,
        history_versions=genesis.parameters.history_versions,
        founders=membership.founders(genesis),
        rules=membership.rules(genesis),
    )
    try:
        assert database.node_records() == [newer.raw]
        with pytest.raises(DatabaseLocked):
            home.remember(settings, genesis, key, [newer.raw])
    finally:
        database.close()

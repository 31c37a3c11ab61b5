"""genesis: made once, installed on each board, never replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.peers.genesis import Genesis
from aegis_edge.peers.identity import record_to_text
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord
from tests.cli.conftest import Cli


def boards(cli: Cli, tmp_path: Path, count: int) -> list[Path]:
    """Homes of new nodes, each with its record beside it."""
    homes = [tmp_path / f"n{number}" for number in range(count)]
    for home in homes:
        cli("--home", home, "init", "--name", home.name)
        cli("--home", home, "record", "export", "-o", home.with_suffix(".record"))
    return homes


def test_a_genesis_is_made_and_installed(cli: Cli, tmp_path: Path) -> None:
    homes = boards(cli, tmp_path, 4)
    records = [home.with_suffix(".record") for home in homes]
    said = cli("genesis", "create", *records, "--output", tmp_path / "genesis", "--json")
    assert said.json["faulty_max"] == 1
    for home in homes:
        installed = cli("--home", home, "genesis", "install", tmp_path / "genesis", "--json")
        assert installed.json["cluster"] == said.json["cluster"]
        assert cli("--home", home, "genesis", "install", tmp_path / "genesis").code == 0
        shown = cli("--home", home, "genesis", "show")
        assert said.json["cluster"] in shown.out
        assert "4; 3 needed; 1 may be off or hostile" in shown.out
    assert cli("genesis", "show", tmp_path / "genesis").code == 0


def test_odd_parameters_are_seen_where_they_are_chosen(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "byzantine" not in cli("--home", tmp_path / "usual", "init").err
    monkeypatch.setenv("BYZANTINE_THRESHOLD_RATIO", "0")
    said = cli("--home", tmp_path / "odd", "init")
    assert "byzantine_threshold_ratio is 0 (environment BYZANTINE_THRESHOLD_RATIO)" in said.err
    records = [home.with_suffix(".record") for home in boards(cli, tmp_path, 4)]
    said = cli("genesis", "create", *records, "-o", tmp_path / "genesis")
    assert "none of 4 members may be hostile, where so many could bear 1" in said.out
    shown = cli("genesis", "show", tmp_path / "genesis", "--json")
    assert len(shown.json["remarks"]) == 1


def test_the_ratio_is_a_flag_where_it_counts_and_nowhere_else(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(path: Path) -> int:
        return Genesis.from_text(path.read_text()).parameters.byzantine_ratio_percent

    flag = "--byzantine-threshold-ratio"
    records = [home.with_suffix(".record") for home in boards(cli, tmp_path, 4)]
    assert cli("genesis", "create", *records, "-o", tmp_path / "few", flag, "0.1").code == 0
    assert made(tmp_path / "few") == 10
    assert cli("genesis", "create", *records, "-o", tmp_path / "no", flag, "many").code == 2
    assert not (tmp_path / "no").exists()
    assert cli("--home", tmp_path / "one", "init", "--single", flag, "0.2").code == 0
    assert made(tmp_path / "one" / "genesis") == 20
    assert not (tmp_path / "one" / "config.toml").exists(), "the genesis has it, once for all"
    alone = cli("--home", tmp_path / "two", "init", flag, "0.1")
    assert alone.code == 2
    assert "give it with --single" in alone.err
    assert not (tmp_path / "two").exists()
    assert "No such option" in cli("run", flag, "0.1").err
    monkeypatch.setenv("BYZANTINE_THRESHOLD_RATIO", "0.3")
    assert cli("genesis", "create", *records, "-o", tmp_path / "env").code == 0
    assert made(tmp_path / "env") == 30


def test_a_large_cluster_gets_a_window_that_its_messages_can_hold(cli: Cli, tmp_path: Path) -> None:
    records = []
    for number in range(20):
        signer = Signer(bytes((number,)) * 32, b"")
        record = signer.sign(NodeRecord(1, bytes((number,)) * 32, (), 2**40, f"n{number}"))
        records.append(tmp_path / f"{number}.record")
        records[-1].write_text(record_to_text(record))
    made = cli("genesis", "create", *records, "-o", tmp_path / "genesis")
    assert made.code == 0, made.err
    genesis = Genesis.from_text((tmp_path / "genesis").read_text())
    assert (genesis.parameters.checkpoint_interval, genesis.parameters.window) == (59, 118)


def test_members_behind_tor_take_checkpoints_more_often(cli: Cli, tmp_path: Path) -> None:
    record = tmp_path / "record"
    assert cli("--home", tmp_path / "home", "init", "--name", "attic", "--tor").code == 0
    record.write_text(cli("--home", tmp_path / "home", "record").out)
    assert cli("genesis", "create", record, "-o", tmp_path / "genesis").code == 0
    genesis = Genesis.from_text((tmp_path / "genesis").read_text())
    assert (genesis.parameters.checkpoint_interval, genesis.parameters.window) == (8, 32)


def test_a_genesis_is_never_replaced(cli: Cli, tmp_path: Path) -> None:
    (home,) = boards(cli, tmp_path, 1)
    record = home.with_suffix(".record")
    for name in ("one", "two"):
        assert cli("genesis", "create", record, "-o", tmp_path / name).code == 0
    assert cli("genesis", "create", record, "-o", tmp_path / "one").code == 1
    assert cli("--home", home, "genesis", "install", tmp_path / "one").code == 0
    said = cli("--home", home, "genesis", "install", tmp_path / "two")
    assert said.code == 1
    assert "is there already" in said.err


def test_what_is_no_genesis_is_refused(cli: Cli, tmp_path: Path) -> None:
    home, other = boards(cli, tmp_path, 2)
    cli("genesis", "create", other.with_suffix(".record"), "-o", tmp_path / "theirs")
    said = cli("--home", home, "genesis", "install", tmp_path / "theirs")
    assert said.code == 0, "who is let in later begins with the same genesis"
    assert "is not one of its members" in said.out
    assert "aegis-edge members add" in said.out
    (home / "genesis").unlink()
    (tmp_path / "junk").write_bytes(b"\xff\x00junk")
    (tmp_path / "text").write_text("junk")
    for name, code in (("junk", 78), ("text", 78), ("missing", 1), ("n0", 1)):
        for words in (("genesis", "install"), ("genesis", "show")):
            assert cli("--home", home, *words, tmp_path / name).code == code, name
        assert cli("genesis", "create", tmp_path / name, "-o", tmp_path / "new").code == 1
    assert not (tmp_path / "new").exists()
    twice = [home.with_suffix(".record")] * 2
    said = cli("genesis", "create", *twice, "-o", tmp_path / "new")
    assert said.code == 1
    assert "is there twice" in said.err

"""verify: what a proof shows, to people and to programs, and an exit code for each way to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.cli import verify
from aegis_edge.peers.identity import node_id
from aegis_edge.proof import PROOF_BYTES_MAX
from tests.cli.conftest import Cli
from tests.proofs import SEQUENCE, TIME_MS, changed, cluster


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis"
    path.write_text(cluster().genesis.to_text())
    return path


def proof_of(folder: Path, key: str) -> Path:
    path = folder / "a.proof"
    path.write_bytes(cluster().proof(key))
    return path


def test_people_read_what_was_so_and_when(cli: Cli, tmp_path: Path, genesis: Path) -> None:
    said = cli("verify", proof_of(tmp_path, "door"), "--genesis", genesis)
    assert (said.code, said.err) == (0, "")
    names = {record.signer: record.message.name for record in cluster().genesis.records}
    one, two, three = (names[signer.public] for signer in cluster().signers[:3])
    assert said.out.splitlines() == [
        "proven   it holds",
        "key      door",
        'value    {"open":false}',
        f"written  revision 2, by {one}, 2027-01-15 08:00:00 UTC",
        f"as of    batch {SEQUENCE}, 2027-01-15 08:00:00 UTC; not of what came after",
        f"signed   {one}, {two}, {three}: 3 of 4 members",
        f"cluster  {cluster().genesis.cluster_id.hex()}",
    ]
    gone = cli("verify", proof_of(tmp_path, "gone"), "--genesis", genesis)
    assert "value    none: deleted\nwritten  revision 7" in gone.out
    never = cli("verify", proof_of(tmp_path, "never"), "--genesis", genesis)
    assert "value    none, and there never was one\nas of" in never.out
    assert (gone.code, never.code) == (0, 0), "the proof holds, whatever it proves"


def test_members_who_came_later_are_shown_as_such(cli: Cli, tmp_path: Path, genesis: Path) -> None:
    for changes, words in ((1, "once"), (5, "5 times")):
        made = changed(changes)
        (tmp_path / "proof").write_bytes(made.proof("door"))
        shown = cli("verify", tmp_path / "proof", "--genesis", genesis)
        assert f"members  changed {words} since the genesis" in shown.out
        assert "3 of 4 members" in shown.out
        said = cli("verify", tmp_path / "proof", "--genesis", genesis, "--json").json["state"]
        assert said["configuration"] == changes
        assert said["members"] == [node_id(signer.public) for signer in made.signers]
    assert "members  " not in cli("verify", proof_of(tmp_path, "door"), "--genesis", genesis).out


def test_programs_read_it_too(cli: Cli, tmp_path: Path, genesis: Path) -> None:
    signers = [node_id(signer.public) for signer in cluster().signers[:3]]
    rest = {
        "state": {
            "configuration": 0,
            "members": [node_id(key) for key in cluster().genesis.members],
            "agreed": {},
            "sequence": SEQUENCE,
            "revision": 69,
            "time_ms": TIME_MS + SEQUENCE,
            "signers": signers,
        },
        "cluster": cluster().genesis.cluster_id.hex(),
    }
    wanted = {
        "door": {
            "present": True,
            "deleted": False,
            "revision": 2,
            "author": signers[0],
            "time_ms": TIME_MS + 1,
            "media": "json",
            "value": {"open": False},
        },
        "gone": {
            "present": False,
            "deleted": True,
            "revision": 7,
            "author": signers[0],
            "time_ms": TIME_MS + 2,
        },
        "odd": {
            "present": True,
            "deleted": False,
            "revision": 5,
            "author": signers[0],
            "time_ms": TIME_MS + 1,
            "media": "json",
            "value_base64": "/w==",
        },
        "never": {"present": False},
    }
    for key, said in wanted.items():
        found = cli("verify", proof_of(tmp_path, key), "--genesis", genesis, "--json").json
        assert found == {"key": key} | said | rest


def test_what_does_not_hold_has_a_code_of_its_own(cli: Cli, tmp_path: Path, genesis: Path) -> None:
    path = proof_of(tmp_path, "door")
    data = bytearray(path.read_bytes())
    data[data.index(b"false")] ^= 1
    path.write_bytes(data)
    said = cli("verify", path, "--genesis", genesis)
    assert (said.code, said.out) == (7, "")
    assert "the proof does not hold" in said.err
    path.write_bytes(path.read_bytes()[:-1])
    assert cli("verify", path, "--genesis", genesis, "--json").code == 7
    other = tmp_path / "other"
    other.write_text(cluster(1).genesis.to_text())
    said = cli("verify", proof_of(tmp_path, "door"), "--genesis", other, "--json")
    assert said.code == 7
    assert '"error": "not_proven"' in said.err


def test_what_cannot_be_read_has_another(cli: Cli, tmp_path: Path, genesis: Path) -> None:
    for content in (b"", b"\0" * 100, genesis.read_bytes(), b"x" * (PROOF_BYTES_MAX + 2)):
        (tmp_path / "file").write_bytes(content)
        said = cli("verify", tmp_path / "file", "--genesis", genesis)
        assert said.code == 66
        assert "is it the right file?" in said.err
    for path in (tmp_path / "missing", tmp_path):
        assert cli("verify", path, "--genesis", genesis).code == 66
    assert cli("verify", genesis).code == 2


def test_a_genesis_that_is_none_is_for_a_person_to_mend(
    cli: Cli, tmp_path: Path, genesis: Path
) -> None:
    path = proof_of(tmp_path, "door")
    (tmp_path / "garbage").write_bytes(b"-----\xff")
    (tmp_path / "text").write_text("a genesis")
    for wrong in (tmp_path / "garbage", tmp_path / "text", tmp_path / "missing", tmp_path):
        said = cli("verify", path, "--genesis", wrong)
        assert said.code == 78, wrong
        assert "aegis-edge genesis create" in said.err


def test_no_node_no_home_and_nothing_written(cli: Cli, tmp_path: Path, genesis: Path) -> None:
    before = sorted(tmp_path.iterdir())
    path = proof_of(tmp_path, "door")
    assert cli("verify", path, "--genesis", genesis).code == 0
    assert sorted(tmp_path.iterdir()) == sorted([*before, path])


def test_a_time_that_no_calendar_knows_is_shown_as_it_is() -> None:
    assert verify._time(2**63 - 1) == f"{2**63 - 1} ms after 1970"

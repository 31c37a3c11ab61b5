"""kb: a key at a time, as people and as programs see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_edge.cli import kb
from aegis_edge.client import Change, Client, Disconnected, Version
from tests import proofs
from tests.api.node import AUTHOR, Failure, Replication
from tests.cli.conftest import Cli


def test_put_get_rm(cli: Cli, node: Replication) -> None:
    assert cli("kb", "put", "a/b", "hello").out == "a/b  revision 1\n"
    assert cli("kb", "get", "a/b").out == "hello\n"
    assert cli("kb", "get", "a/b", "--raw").raw == b"hello"
    assert cli("kb", "get", "a/b", "--json").json["value"] == "hello"
    assert cli("kb", "put", "a/b", "x", "--json").json["revision"] == 2
    assert cli("kb", "get", "a/b", "--revision", "1").out == "hello\n"
    assert cli("kb", "rm", "a/b").code == 0
    assert cli("kb", "get", "a/b").code == 3
    assert cli("kb", "rm", "a/b").code == 3


def test_it_waits_as_long_as_the_node_thinks_right_or_its_caller(
    cli: Cli, node: Replication
) -> None:
    for given, waits_s in (((), 2 * node.timeout_ticks / 1000), (("--timeout", "7"), 7)):
        assert cli("kb", "put", "a", "x", *given).code == 0
        assert cli("kb", "get", "a", "--linearizable", *given).code == 0
        assert cli("kb", "rm", "a", *given).code == 0
        assert node.timeouts_s == [waits_s] * 3
        node.timeouts_s.clear()


def test_values_come_from_everywhere(cli: Cli, node: Replication, tmp_path: Path) -> None:
    every_byte = bytes(range(256))
    assert cli("kb", "put", "in", "-", stdin=every_byte).code == 0
    assert cli("kb", "get", "in", "--raw").raw == every_byte
    assert cli("kb", "get", "in").raw == every_byte
    assert "value_base64" in cli("kb", "get", "in", "--json").json
    (tmp_path / "f").write_bytes(b"from a file")
    assert cli("kb", "put", "file", "--file", tmp_path / "f").code == 0
    assert cli("kb", "get", "file", "--raw").raw == b"from a file"
    assert cli("kb", "put", "x").code == 2
    assert cli("kb", "put", "x", "y", "--file", tmp_path / "f").code == 2
    assert cli("kb", "put", "x", "--file", tmp_path / "missing").code == 2
    assert cli("kb", "put", "x", "y" * 300_000).code == 1


def test_a_number_below_zero_is_no_option(cli: Cli, node: Replication) -> None:
    said = cli("kb", "put", "cellar/celsius", "-5")
    assert said.code == 2
    assert "Put -- before a value that begins with a dash." in said.err
    assert cli("kb", "put", "cellar/celsius", "--", "-5").code == 0
    assert "Put --" not in cli("kb", "put", "cellar/celsius", "--nonsense").err


def test_json_is_checked_and_kept_to_the_byte(cli: Cli, node: Replication) -> None:
    assert cli("kb", "put", "j", "--json-value", '{ "open":  false }').code == 0
    assert cli("kb", "get", "j", "--raw").raw == b'{ "open":  false }'
    assert cli("kb", "get", "j", "--json").json["value"] == {"open": False}
    for wrong in ("{", "NaN", "[" * 100_000, '"\udcff"'):
        said = cli("kb", "put", "j", "--json-value", wrong)
        assert said.code == 2, wrong[:9]
        assert "--json-value: the value is not JSON" in said.err


def test_a_conflict_is_4(cli: Cli, node: Replication) -> None:
    assert cli("kb", "put", "a", "1", "--expect", "0").code == 0
    said = cli("kb", "put", "a", "2", "--expected", "0")
    assert said.code == 4
    assert "has revision 1 now" in said.err
    assert '"revision": 1' in cli("kb", "rm", "a", "--expect", "7", "--json").err


def test_no_quorum_is_5(cli: Cli, node: Replication) -> None:
    node.failing = Failure("no_quorum")
    said = cli("kb", "put", "a", "1")
    assert said.code == 5
    assert "the node says no_quorum" in said.err
    assert "do what the test says" in said.err
    node.failing = Failure("timeout")
    assert cli("kb", "get", "a", "--linearizable").code == 5


def test_advice_is_for_whoever_typed_the_command(cli: Cli, node: Replication) -> None:
    said = cli("kb", "get", "green house/")
    assert said.code == 1
    assert "list them: aegis-edge kb ls 'green house/'" in said.err
    node.failing = Failure("no_quorum")
    said = cli("kb", "get", "a", "--linearizable")
    assert "can be read without --linearizable" in said.err


def test_a_watch_that_the_node_ends_says_where_to_go_on(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(self: Client, *, after: int | None, prefix: str) -> Iterator[Change]:
        if after == 0:
            yield Change(version("a"), b"x")
        raise Disconnected("the node closed the connection", "read before you retry")

    monkeypatch.setattr(Client, "watch", ending)
    said = cli("kb", "watch", "--after", "0")
    assert said.code == 1
    assert "once it runs again, go on with --after 7" in said.err
    assert "read before you retry" not in said.err
    assert "once it runs again, watch again" in cli("kb", "watch").err


def test_listing_and_history(cli: Cli, node: Replication) -> None:
    for key in ("b/1", "b/2", "c"):
        cli("kb", "put", key, "xyz")
    said = cli("kb", "ls", "b/").out.splitlines()
    assert said[0].split() == ["KEY", "REVISION", "SIZE", "KIND", "AUTHOR", "WRITTEN"]
    assert [line.split()[0] for line in said[1:]] == ["b/1", "b/2"]
    assert [row["key"] for row in cli("kb", "ls", "--json").lines] == ["b/1", "b/2", "c"]
    assert said[1].split()[-4] == AUTHOR.hex()[:8], "nobody knows a name"
    node.more = {"id": AUTHOR.hex(), "name": "attic"}
    assert cli("kb", "ls", "b/").out.splitlines()[1].split()[-4] == "attic"
    assert "  attic  " in cli("kb", "history", "b/1").out
    node.more, node.peers = {"id": "x", "name": "y"}, [{"peer": AUTHOR.hex(), "name": "barn"}]
    assert "  barn  " in cli("kb", "history", "b/1").out
    assert cli("kb", "ls", "--json").lines[0]["author"] == AUTHOR.hex()
    assert "no keys start with z" in cli("kb", "ls", "z").err
    cli("kb", "rm", "c")
    assert "deleted" in cli("kb", "history", "c").out
    assert [row["deleted"] for row in cli("kb", "history", "c", "--json").lines] == [True, False]
    assert cli("kb", "history", "nothing").code == 3


def version(key: str, **more: object) -> Version:
    return Version(key, 7, "abcdefghijkl", 0, True, False, 3)._replace(**more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change(version("a"), {"x": 1}), '7  abcdefgh  a  {"x": 1}'),
        (Change(version("a"), b"two\nlines"), "7  abcdefgh  a  two lines"),
        (Change(version("a"), b"\xff\xff\xff"), "7  abcdefgh  a  3 B"),
        (Change(version("a", deleted=True), None), "7  abcdefgh  a  deleted"),
        (Change(version("a"), "\x1b[2J" + "x" * 99), None),
    ],
)
def test_a_change_is_a_line(change: Change, text: str | None) -> None:
    import click

    line = click.unstyle(kb.line_of(change, {}))
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 90
    if text is not None:
        assert line == text


def test_a_change_names_its_author() -> None:
    import click

    line = click.unstyle(kb.line_of(Change(version("a"), b"x"), {"abcdefghijkl": "attic"}))
    assert line == "7  attic  a  x"


def test_a_terminal_gets_text_only(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("kb", "put", "t", "a\x1b[2Jb\nc")
    cli("kb", "put", "b", "-", stdin=b"\xff")
    monkeypatch.setattr("aegis_edge.cli.kb.on_terminal", lambda: True)
    assert cli("kb", "get", "t").out == "a\N{REPLACEMENT CHARACTER}[2Jb\nc\n"
    said = cli("kb", "get", "b")
    assert said.code == 1
    assert "--raw > FILE" in said.err


def test_a_value_comes_with_its_proof(
    cli: Cli, node: Replication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli("kb", "get", "door", "--proof", "door.proof")
    assert (said.code, said.out) == (0, '{"open":false}\n')
    assert said.err == f"the proof, as of batch {proofs.SEQUENCE}, is door.proof\n"
    assert Path("door.proof").read_bytes() == proofs.cluster().proof("door")
    assert node.barriers == 0
    more = ("--linearizable", "--timeout", 7, "--json")
    said = cli("kb", "get", "text", "--proof", "door.proof", *more)
    assert 6 < node.proven[-1][1] <= 7
    assert said.json["value"] == "a line\n"
    assert said.json["revision"] == 4
    assert said.err == ""
    assert node.barriers == 1


def test_an_absence_is_proven_and_still_is_one(cli: Cli, node: Replication, tmp_path: Path) -> None:
    for key in ("gone", "never"):
        said = cli("kb", "get", key, "--proof", tmp_path / "proof")
        assert (said.code, said.out) == (3, "")
        assert f"no key {key}" in said.err
        assert f"the proof of that, as of batch {proofs.SEQUENCE}, is " in said.err
        assert (tmp_path / "proof").read_bytes() == proofs.cluster().proof(key)


def test_a_disk_without_room_for_a_proof_is_named(cli: Cli, node: Replication) -> None:
    said = cli("kb", "get", "door", "--proof", "/dev/full")
    assert said.code == 1
    assert "/dev/full: No space left on device" in said.err
    assert "make room on its file system" in said.err


def test_a_proof_that_is_not_to_be_had_leaves_no_file(
    cli: Cli, node: Replication, tmp_path: Path
) -> None:
    file = tmp_path / "proof"
    assert cli("kb", "get", "door", "--proof", file, "--revision", 1).code == 2
    node.proof = b"something else"
    said = cli("kb", "get", "door", "--proof", file)
    assert said.code == 1
    assert "the node answered with no proof" in said.err
    node.failing = Failure("no_quorum")
    said = cli("kb", "get", "door", "--proof", file)
    assert said.code == 5
    assert "without --linearizable and --proof" in said.err
    assert not file.exists()
    node.failing = node.proof = None
    assert cli("kb", "get", "door", "--proof", tmp_path / "no" / "folder").code == 1

"""Whoever waits for the cluster is told why; programs are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aegis_edge.cli import patience
from aegis_edge.client import Client
from aegis_edge.knowledge.operations import Dismiss, Propose
from aegis_edge.peers.identity import record_to_text
from tests.api.node import FOUNDERS, NEWCOMER, Replication
from tests.cli.conftest import Cli

STATUS: dict[str, Any] = {
    "nodes": 4,
    "quorum": 3,
    "has_quorum": False,
    "reachable": ["barn"],
    "primary_name": "barn",
    "view_changing": False,
    "patience_s": 60,
}
PEERS = [
    {"peer": "b", "name": "barn", "state": "linked"},
    {"peer": "d", "name": "do\x1bck", "state": "expected"},
    {"peer": "c", "name": "cellar", "state": "waiting"},
]
LINE = (
    "waiting for a quorum: 2 of 4 nodes reachable, 3 needed;"
    " missing cellar, do\N{REPLACEMENT CHARACTER}ck"
)


@pytest.mark.parametrize(
    ("more", "waited_s", "line"),
    [
        ({}, 2, LINE + " (Ctrl-C gives up)"),
        (
            {"has_quorum": True, "view_changing": True},
            2,
            "waiting for the nodes to replace barn as the leader",
        ),
        ({"has_quorum": True}, 5, ""),
        ({"has_quorum": True}, 5.1, "waiting for the cluster: there is a quorum, and barn leads"),
        ({"has_quorum": True, "patience_s": 159}, 13, ""),
        (
            {"has_quorum": True, "patience_s": 159},
            14,
            "waiting for the cluster: there is a quorum, and barn leads",
        ),
    ],
)
def test_a_reason_is_said_at_once_and_that_there_is_none_when_it_is_late(
    more: dict[str, Any], waited_s: float, line: str
) -> None:
    assert patience.words(STATUS | more, PEERS, waited_s) == line


def test_what_comes_up_later_is_said_once(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that waits as it should at first; then its leader is lost."""
    node.more, node.held = STATUS | {"has_quorum": True, "patience_s": 3600}, True
    monkeypatch.setattr(patience, "LOOK_S", 0)
    looks: list[str] = []
    words = patience.words

    def looked(*seen: Any) -> str:
        looks.append(words(*seen))
        if len(looks) == 2:
            node.more = node.more | {"view_changing": True}
        if len(looks) == 5:
            assert node.token is not None
            node.token.run_sync_soon(node.release)
        return looks[-1]

    monkeypatch.setattr(patience, "words", looked)
    said = cli("kb", "put", "a", "x")
    assert said.code == 0
    assert looks[:2] == ["", ""]
    assert said.err.count("waiting for the nodes to replace barn as the leader") == 1


@pytest.fixture
def waiting(node: Replication, monkeypatch: pytest.MonkeyPatch) -> Replication:
    """A node without a quorum, until the line has been said."""
    node.write("a", b"1", 0, False)
    node.more, node.peers, node.held = STATUS, PEERS, True
    say = patience._say

    def and_then_it_comes(line: str) -> None:
        say(line)
        assert node.token is not None
        node.token.run_sync_soon(node.release)

    monkeypatch.setattr(patience, "_say", and_then_it_comes)
    monkeypatch.setattr(patience, "LOOK_S", 0)
    return node


@pytest.mark.parametrize(
    "words", [("put", "a", "x"), ("rm", "a"), ("get", "a", "--linearizable")], ids=lambda w: w[0]
)
def test_a_person_is_told_what_is_waited_for(
    words: tuple[str, ...], cli: Cli, waiting: Replication
) -> None:
    said = cli("kb", *words)
    assert said.code == 0
    assert LINE in said.err
    assert "waiting" not in said.out


@pytest.mark.parametrize(
    "words",
    [("approve", 1), ("reject", 1), ("invite",), ("remove", "n1"), ("leave",), ("replace", "n1")],
    ids=lambda w: w[0],
)
def test_who_wants_other_members_is_told_what_is_waited_for(
    words: tuple[object, ...], cli: Cli, waiting: Replication
) -> None:
    waiting.decide(Propose(Dismiss(FOUNDERS.members[1])))
    said = cli(*words)
    assert said.code == 0, said.err
    assert LINE in said.err
    assert "waiting" not in said.out


def test_who_adds_a_member_is_told_what_is_waited_for(
    cli: Cli, waiting: Replication, tmp_path: Path
) -> None:
    (tmp_path / "record").write_text(record_to_text(NEWCOMER))
    said = cli("members", "add", tmp_path / "record")
    assert said.code == 0
    assert LINE in said.err


def test_a_wish_has_a_time_of_its_own_and_may_be_left(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("leave", "--timeout", "7").code == 0
    assert node.timeouts_s == [7]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "leave", interrupted)
    said = cli("leave")
    assert said.code == 130
    assert "it may still happen" in said.err


def test_an_import_is_no_less_patient(cli: Cli, waiting: Replication, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b").write_text("x")
    said = cli("kb", "import", tmp_path / "docs")
    assert said.code == 0
    assert LINE in said.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (STATUS, "no quorum: 2 of 4 nodes reachable; waiting for cellar, do"),
        (STATUS | {"has_quorum": True}, "the node did not answer in time"),
    ],
)
def test_an_import_that_waited_in_vain_says_for_whom(
    more: dict[str, Any], words: str, cli: Cli, node: Replication, tmp_path: Path
) -> None:
    node.more, node.peers, node.held = more, PEERS, True
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b").write_text("x")
    said = cli("kb", "import", tmp_path / "docs", "--timeout", "0.2", "--json")
    assert said.code == 5
    assert words in json.loads(said.err)["message"]


def test_a_program_is_not_told(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "threading", None)  # nobody looks
    assert cli("kb", "put", "a", "x", "--json").err == ""
    assert cli("kb", "get", "a").err == "", "a local read waits for nobody"


def test_a_quick_answer_needs_no_words(cli: Cli, node: Replication) -> None:
    assert cli("kb", "put", "a", "x").err == ""


def test_a_node_that_does_not_say_is_let_be(
    cli: Cli, waiting: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting.held = False
    waiting.more = {}
    looked = patience.threading.Thread

    def at_once(**more: Any) -> Any:
        thread = looked(**more)
        thread.start()
        thread.join()
        return looked(target=lambda: None)

    monkeypatch.setattr(patience.threading, "Thread", at_once)
    said = cli("kb", "put", "a", "x")
    assert said.code == 0
    assert said.err == ""

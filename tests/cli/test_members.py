"""`members`, `remove` and `leave`: who takes part, on one screen, and how people change it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.cli.members import named
from aegis_edge.cli.screen import Failure
from aegis_edge.knowledge.operations import Dismiss, Leave, Propose
from aegis_edge.peers.identity import node_id, record_to_text
from tests.api.node import FOUNDERS, NEWCOMER, Replication
from tests.cli.conftest import Cli

FIRST, SECOND = map(node_id, FOUNDERS.members)


def test_members_are_shown_with_their_links(cli: Cli, node: Replication) -> None:
    node.peers = [{"peer": SECOND, "state": "waiting"}]
    said = cli("members")
    assert said.code == 0
    lines = said.out.splitlines()
    assert "n0" in lines[1] and "here" in lines[1]
    assert "n1" in lines[2] and "waiting" in lines[2] and "tcp:192.0.2.1:8080" in lines[2]
    assert "configuration 0: 2 of them decide, 0 may be faulty" in said.out
    assert [m["id"] for m in cli("members", "--json").json["members"]] == [FIRST, SECOND]
    node.more = {"is_member": False}
    assert "this node is none of them" in cli("members").out


def test_observers_are_shown_and_the_boards_own_are_removed(cli: Cli, node: Replication) -> None:
    assert "OBSERVER" not in cli("members").out
    shed, other = NEWCOMER.signer, "o" * 56
    linked = {"role": "observer", "state": "linked"}
    node.desk.vouched = {shed: "shed"}
    node.peers = [
        {"peer": node_id(shed), "name": "shed", "behind": 1, **linked},
        {"peer": other, "name": "barn", "behind": None, **linked},
    ]
    lines = cli("members").out.splitlines()[5:]
    assert lines[0].split() == ["OBSERVER", "NAME", "STATE", "BEHIND", "INVITED", "BY"]
    rows = sorted(line.split()[1:] for line in lines[1:])
    assert rows == [
        ["barn", "linked", "another"],
        ["shed", "linked", "1", "batch", "this", "board"],
    ]
    assert "is no member" in cli("remove", "barn").err, "who invited it removes it"
    assert "vouches for it no more" in cli("remove", "shed").out
    assert (node.desk.vouched, node.ballots) == ({}, [])
    node.desk.vouched = {shed: "shed"}
    assert cli("remove", "shed", "--json").json == {"observer": node_id(shed)}


def test_a_record_file_proposes_a_member(cli: Cli, node: Replication, tmp_path: Path) -> None:
    record = tmp_path / "new.record"
    record.write_text(record_to_text(NEWCOMER))
    said = cli("members", "add", record)
    assert said.code == 0
    assert "proposal 1 waits for others: aegis-edge approve 1" in said.out
    node.who = 1
    assert "it is a member now" in cli("members", "add", record).out
    assert NEWCOMER.signer in node.database.members.members
    assert cli("members", "add", record).code == 4, "it is one already"
    record.write_bytes(b"\xff")
    assert "not a text file" in cli("members", "add", record).err
    assert cli("members", "add", tmp_path / "missing").code == 1


def test_a_board_that_was_not_seen_is_proposed_only_if_told_so(
    cli: Cli, node: Replication, tmp_path: Path
) -> None:
    node.unseen = "nobody listens there"
    record = tmp_path / "new.record"
    record.write_text(record_to_text(NEWCOMER))
    said = cli("members", "add", record)
    assert said.code == 4
    assert "it was not seen: nobody listens there" in said.err
    assert "--unseen" in said.err
    assert node.ballots == []
    assert cli("members", "add", record, "--unseen").code == 0
    assert len(node.ballots) == 1


def test_who_goes_is_named_as_people_do(cli: Cli, node: Replication) -> None:
    for name in ("n1", SECOND, SECOND[:8]):
        node.ballots.clear()
        node.database.members = FOUNDERS
        assert cli("remove", name).code == 0
        assert node.ballots == [Propose(Dismiss(FOUNDERS.members[1]), 0)]
    for name, words in (("nobody", "is no member"), ("", "is no member")):
        said = cli("remove", name)
        assert said.code == 1
        assert words in said.err
    node.database.members = FOUNDERS
    assert "waits" in cli("remove", "n1").out
    node.who = 1
    assert "it is no member any more" in cli("remove", "n1").out


def test_a_name_of_several_boards_names_them_all() -> None:
    members = [{"id": f"{start}5678rest", "name": f"pi {start}5678"} for start in ("1234", "abcd")]
    members.append({"id": "pixxxxxxxxxx", "name": "attic"})
    assert named("pi abcd5678", members) == "abcd5678rest"
    assert named("abcd", members) == "abcd5678rest"
    with pytest.raises(Failure, match=r"^pi is more than one: pi 12345678, pi abcd5678$"):
        named("pi", members)
    with pytest.raises(Failure, match="is no member"):
        named("p", members[:2])


def test_a_node_leaves(cli: Cli, node: Replication) -> None:
    said = cli("leave")
    assert said.code == 0
    assert "this node is no member any more" in said.out
    assert node.ballots == [Leave(0)]
    node.who = 1
    node.database.members = FOUNDERS
    assert cli("leave", "--json").json["open"] is False

"""`proposals`, `approve` and `reject`: what waits for votes, and a vote."""

from __future__ import annotations

from aegis_edge.knowledge.operations import Approve, Dismiss, Propose
from tests.api.node import FOUNDERS, Replication
from tests.cli.conftest import Cli


def test_what_waits_is_shown(cli: Cli, node: Replication) -> None:
    assert "nothing waits for votes" in cli("proposals").out
    node.decide(Propose(Dismiss(FOUNDERS.members[1])))
    said = cli("proposals")
    assert said.code == 0
    for words in ("1", "remove", "n1", "n0", "1 of 2"):
        assert words in said.out.splitlines()[1]
    (proposal,) = cli("proposals", "--json").json["proposals"]
    assert (proposal["number"], proposal["yes"]) == (1, ["n0"])


def test_a_vote_decides_or_waits(cli: Cli, node: Replication) -> None:
    node.decide(Propose(Dismiss(FOUNDERS.members[1])))
    assert "proposal 1 waits for others" in cli("approve", 1).out
    node.who = 1
    assert "proposal 1 is decided" in cli("reject", 1).out
    assert node.ballots[-2:] == [Approve(1, True), Approve(1, False)]
    assert node.database.members == FOUNDERS or not node.database.members.proposals
    assert cli("approve", 1).code == 3
    assert cli("approve", 0).code == 2


def test_a_vote_for_programs(cli: Cli, node: Replication) -> None:
    node.decide(Propose(Dismiss(FOUNDERS.members[1])))
    node.who = 1
    assert cli("approve", 1, "--json").json["open"] is False
    assert FOUNDERS.members[1] not in node.database.members.members

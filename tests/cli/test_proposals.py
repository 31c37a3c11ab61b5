"""`proposals`, `approve` and `reject`: what waits for votes, and a vote."""

from __future__ import annotations

from aegis_edge.knowledge.agreed import PARAMETERS
from aegis_edge.knowledge.operations import Adjust, Admit, Approve, Dismiss, Propose
from aegis_edge.peers.identity import node_id
from tests.api.node import FOUNDERS, NEWCOMER, Replication
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


def test_who_goes_for_a_newcomer_is_said_before_and_after_a_vote(
    cli: Cli, node: Replication
) -> None:
    old = FOUNDERS.members[1]
    node.decide(Propose(Admit(NEWCOMER.raw, old)))
    change = "add new, remove n1"
    line = cli("proposals").out.splitlines()[1]
    assert change in line
    for key in (NEWCOMER.signer, old):
        assert node_id(key)[:8] in line
    said = cli("approve", 1, "--json").json
    assert said["proposal"]["instead_of"]["name"] == "n1"
    assert f"proposal 1, {change} (" in cli("approve", 1).out
    node.who = 1
    assert f"proposal 1, {change} (" in cli("reject", 1).out


def test_a_value_is_proposed_with_words_for_what_comes_of_it(cli: Cli, node: Replication) -> None:
    assert (
        "proposal 1 waits for others: aegis-edge approve 1"
        in cli("propose", "pbft_timeout", 10).out
    )
    assert node.ballots == [Propose(Adjust("pbft_timeout", 10_000), 0)]
    said = cli("proposals").out.splitlines()[1]
    for words in ("set pbft_timeout to 10 seconds", "all", "n0", "1 of 2"):
        assert words in said
    node.who = 1
    assert "pbft_timeout is 10 now, on all members" in cli("propose", "pbft_timeout", 10).out
    said = cli("propose", "checkpoint_interval", 8, "--json")
    assert said.json["open"] is True
    assert node.ballots[-1] == Propose(Adjust("checkpoint_interval", 8), 0)


def test_what_cannot_be_agreed_on_is_refused_with_its_bounds(cli: Cli, node: Replication) -> None:
    for words, value, said in (
        ("pbft_timeout", 0.05, "must be a number, 0.1 to 3600 seconds, and not 0.05"),
        ("checkpoint_interval", 2.5, "must be a whole number, 1 to 128 batches, and not 2.5"),
        ("checkpoint_interval", "nan", "must be a whole number"),
        ("quorum", 1, "there is no parameter 'quorum'"),
    ):
        refused = cli("propose", words, value)
        assert refused.code == 1 and said in refused.err
    assert "checkpoint_interval (1 to 128 batches)" in cli("propose", "quorum", 1).err
    assert cli("propose", "pbft_timeout", "soon").code == 2
    assert node.ballots == []
    shown = cli("propose", "--help").out
    for parameter in PARAMETERS.values():
        assert parameter.name in shown and parameter.bounds in shown


def test_a_vote_decides_or_waits(cli: Cli, node: Replication) -> None:
    node.decide(Propose(Dismiss(FOUNDERS.members[1])))
    change = f"proposal 1, remove n1 ({node_id(FOUNDERS.members[1])[:8]}), "
    assert change + "waits for others" in cli("approve", 1).out
    node.who = 1
    assert change + "is decided" in cli("reject", 1).out
    assert node.ballots[-2:] == [Approve(1, True), Approve(1, False)]
    assert node.database.members == FOUNDERS or not node.database.members.proposals
    said = cli("approve", 1)
    assert said.code == 3
    assert "there is no open proposal 1" in said.err
    assert cli("approve", 0).code == 2


def test_a_vote_for_programs(cli: Cli, node: Replication) -> None:
    node.decide(Propose(Dismiss(FOUNDERS.members[1])))
    node.who = 1
    assert cli("approve", 1, "--json").json["open"] is False
    assert FOUNDERS.members[1] not in node.database.members.members

"""Who once were a quorum sign another history, later: a node that was told better refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import Deliver, Effect, LinkUp, Persist, Received
from aegis_edge.pbft.route import Route, Waypoint
from aegis_edge.wire import messages
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    HANDOVERS,
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    PrePrepare,
    Proposal,
    StableCheckpoint,
    StatePart,
    Status,
    Verified,
    pack_handover,
    pack_lineage,
)
from tests.pbft.stage import CLOCK_MS, Actor, Stage

ZERO = Configuration(0, (b"a" * 32,), 0)
ONE = ZERO.followed_by(3, (b"a" * 32, b"b" * 32))
TWO = ONE.followed_by(5, (b"b" * 32,))
OTHER = ZERO.followed_by(3, (b"a" * 32, b"x" * 32))


def test_a_node_that_knows_the_genesis_alone_believes_what_is_signed() -> None:
    route = Route(None)
    assert not route.is_behind(0) and not route.is_closed(0) and not route.ends_at(ZERO)
    assert route.leads_through(OTHER)


def test_a_way_is_open_once_it_leads_where_the_cluster_was() -> None:
    route = Route(Waypoint.at(TWO))
    assert [route.is_behind(number) for number in range(4)] == [True, True, False, False]
    assert [route.is_closed(number) for number in range(4)] == [True, True, False, False]
    assert [route.ends_at(each) for each in (ZERO, ONE, TWO)] == [False, False, True]
    elsewhere = OTHER.followed_by(5, (b"x" * 32,))
    assert not route.open([OTHER, elsewhere])
    assert route.is_closed(0)
    assert route.open([ONE, TWO])
    assert not route.is_closed(0) and route.is_behind(1)
    assert route.leads_through(ONE) and not route.leads_through(OTHER)


@pytest.mark.parametrize(
    ("sequence", "successor", "allowed"),
    [
        (2, b"", True),
        (2, ONE.digest, False),
        (3, ONE.digest, True),
        (3, OTHER.digest, False),
        (3, b"", False),
        (4, b"", False),
        (4, ONE.digest, False),
    ],
)
def test_on_an_open_way_a_configuration_ends_with_one_batch_alone(
    sequence: int, successor: bytes, allowed: bool
) -> None:
    batch = Batch((), ())
    said = Commit(0, 0, sequence, batch.digest, CLOCK_MS, successor)
    committed = Committed((Signer(b"s" * 32, b"").sign(said),), batch)
    route = Route(Waypoint.at(TWO))
    assert not route.allows(committed), "before that, with none"
    route.open([ONE, TWO])
    assert route.allows(committed) is allowed
    assert Route(None).allows(committed)


# --- plays ----------------------------------------------------------------------------------------


class Town:
    """A cluster that A began alone.  B and C came in, who agreed on something; then D came in.

    D was told of the configuration of A, B and C (`told`), and hears nobody yet.
    E is a key that A made up; what A signs alone now is another history.
    """

    def __init__(self, *, told: bool = True) -> None:
        self.stage = stage = Stage(1, outsiders=4)
        self.a, self.b, self.c, self.d, self.e = stage.actors
        inside = {self.a.key, self.b.key, self.c.key}
        stage.lost = lambda sender, to, raw: not {sender, to} <= inside
        for change in ("+B", "+C"):
            stage.change_members("A", change)
            stage.wait(8000)
        stage.submit("B", b"true")
        stage.wait(3000)
        if told:
            stage.crash("D")
            self.d.waypoint = Waypoint.at(self.c.replica.configuration)
            self.d.start()
        stage.change_members("B", "+D")
        stage.wait(8000)
        assert self.b.replica.configuration.number == 3
        self.now, self.number = stage.configuration, 1

    def forged(self, signer: Actor, *members: Actor, operation: bytes) -> Committed:
        """The next batch of the other history, after which these are the members."""
        of_members = operation.startswith(b"+")
        bundle = signer.signer.sign(Bundle(99, self.number, (operation,), of_members))
        batch = Batch((), (bundle,))
        after = self.now
        if of_members:
            after = self.now.followed_by(self.number, tuple(sorted(x.key for x in members)))
        successor = after.digest if of_members else b""
        said = Commit(self.now.number, 0, self.number, batch.digest, CLOCK_MS, successor)
        signers = [x for x in (self.a, self.e) if x.key in self.now]
        commits = tuple(x.signer.sign(said) for x in sorted(signers, key=lambda x: x.key))
        self.now, self.number = after, self.number + 1
        return Committed(commits, batch)

    def handover(self, committed: Committed) -> bytes:
        return pack_handover(self.now.members, tuple(c.raw for c in committed.commits))

    def tells(self, *answers: Any) -> list[Effect]:
        """What D does when A says this."""
        effects: list[Effect] = []
        for answer in answers:
            raw = answer.raw if isinstance(answer, Verified) else answer.pack()
            message = messages.read(raw, self.d.opener.open)
            effects += self.d.step(Received(self.a.key, message))
        return effects

    def goes_on_without_a(self) -> None:
        """A falls silent, and D hears B and C."""
        self.stage.crash("A")
        self.stage.crash("E")
        self.stage.heal()
        self.stage.wait(20_000)


def answer(*handovers: bytes, stable: bytes = b"") -> StatePart:
    return StatePart(1, HANDOVERS, pack_lineage(stable, handovers))


def proposal(town: Town, committed: Committed) -> Proposal:
    named = PrePrepare(0, 0, 1, committed.batch.digest)
    return Proposal(town.a.signer.sign(named), committed.batch)


def checkpoint(town: Town) -> bytes:
    """One of the other history's first change of members."""
    said = Checkpoint(1, 4, bytes(32))
    signers = sorted((town.a, town.e), key=lambda x: x.key)
    return StableCheckpoint(tuple(x.signer.sign(said) for x in signers)).pack()


def test_the_founder_alone_captures_no_newcomer_that_was_told_of_the_members() -> None:
    town = Town()
    captured = [
        town.forged(town.a, town.a, town.e, operation=b"+E"),
        town.forged(town.a, town.a, town.d, town.e, operation=b"+D"),
        town.forged(town.a, operation=b"lie"),
    ]
    assert not [e for e in town.tells(*captured) if isinstance(e, Deliver)]
    town.goes_on_without_a()
    assert town.stage.agree("B", "C", "D")[:3] == [b"+B", b"+C", b"true"]
    town.stage.submit("D", b"needs three of four")
    town.stage.wait(20_000)
    assert b"needs three of four" in town.stage.agree("B", "C", "D")


def test_without_a_word_of_the_members_the_founder_is_believed() -> None:
    """Why the word is needed: nothing else tells one history from the other."""
    town = Town(told=False)
    town.tells(town.forged(town.a, town.a, town.e, operation=b"+E"))
    assert town.d.operations == [b"+E"]


def test_a_history_that_leads_elsewhere_is_refused_and_its_teller_named() -> None:
    town = Town()
    d = town.d
    first = town.forged(town.a, town.a, town.e, operation=b"+E")
    one = town.handover(first)
    two = town.handover(town.forged(town.a, town.a, town.d, town.e, operation=b"+D"))
    town.tells(first)
    town.tells(answer(one))
    assert not d.alarms, "so far it may be the only one"
    town.tells(answer(two))
    assert [(x.about, "was told of" in x.reason) for x in d.alarms] == [(town.a.key, True)]
    assert not d.handovers
    town.goes_on_without_a()
    assert town.stage.agree("B", "C", "D")[:3] == [b"+B", b"+C", b"true"]
    assert sorted(d.handovers) == [1, 2, 3]


def test_what_one_peer_said_of_the_way_is_not_put_together_with_the_words_of_another() -> None:
    town = Town()
    d = town.d
    first = town.forged(town.a, town.a, town.e, operation=b"+E")
    town.tells(first)
    town.tells(answer(town.handover(first)))
    town.goes_on_without_a()
    assert town.stage.agree("B", "C", "D")[:3] == [b"+B", b"+C", b"true"]
    assert not d.alarms


def test_on_the_way_each_configuration_ends_where_it_ended() -> None:
    """By its members of then another end can still be signed, and other batches after it."""
    town = Town()
    d, true = town.d, [town.c.handovers[1], town.c.handovers[2]]
    forged = town.forged(town.a, town.a, town.e, operation=b"+E")
    handover = town.handover(forged)
    town.tells(forged)
    town.tells(answer(*true))
    assert d.handovers == dict(enumerate(true, 1))
    assert not [e for e in town.tells(forged) if isinstance(e, Deliver)], "proven by who was alone"
    votes = (forged.commits[0], proposal(town, forged))
    assert not [e for e in town.tells(*votes) if isinstance(e, Deliver)], "nor by its votes"
    town.tells(town.a.signer.sign(Status(1, 0, False, 0, 9, CLOCK_MS)))
    d.replica.catchup.lacks(town.a.key, 0)
    town.stage.tick(60_000, run=False)
    town.tells(answer(handover, stable=checkpoint(town)))
    assert [(x.about, "was another one" in x.reason) for x in d.alarms] == [(town.a.key, True)]
    town.goes_on_without_a()
    assert town.stage.agree("B", "C", "D")[:3] == [b"+B", b"+C", b"true"]


def test_who_knows_that_a_configuration_ended_votes_in_it_no_more() -> None:
    """Of two, who lost its disk votes again as soon as it hears the other: but not below that."""
    stage = Stage(2, outsiders=1)
    stage.change_members("A", "+C")
    a = stage["A"]
    assert a.replica.configuration.number == 1
    stage.crash("A")
    a.lose_disk()
    a.waypoint = Waypoint.at(stage["B"].replica.configuration)
    a.start()
    said = stage["B"].signer.sign(Status(0, 0, False, 0, 0, CLOCK_MS))
    effects = a.step(Received(stage["B"].key, said))
    assert not [e for e in effects if isinstance(e, Persist)]
    assert not a.replica._at.voting
    for peer in stage.actors[1:]:
        a.step(LinkUp(peer.key))
        peer.step(LinkUp(a.key))
    stage.run()
    stage.wait(6000)
    assert a.replica.configuration.number == 1


def test_who_finds_the_way_goes_it_at_once() -> None:
    """What came before was not believed, which is no fault of whoever sent it."""
    town = Town()
    stage, d = town.stage, town.d
    stage.lost = lambda *_: False
    asked_at = stage.now
    for peer in stage.actors[:3]:
        d.step(LinkUp(peer.key))
        peer.step(LinkUp(d.key))
    assert d.replica.wake_at is not None
    assert d.replica.wake_at > asked_at, "it sleeps until there is an answer"
    stage.run()
    stage.wait(200)
    assert d.replica.configuration.number == 3
    assert stage.agree("A", "B", "C", "D") == [b"+B", b"+C", b"true", b"+D"]

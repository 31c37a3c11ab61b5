"""Who missed changes of members learns who they are by now, believing none but those before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegis_edge.pbft import journal
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import (
    Alarm,
    BeginTransfer,
    Effect,
    Event,
    InstallState,
    KeepHandovers,
    LinkUp,
    PartJudged,
    Persist,
    Prune,
    Received,
    Restored,
    Send,
    SendPart,
    Settled,
    Tick,
)
from aegis_edge.pbft.execution import FORKED
from aegis_edge.pbft.replica import Replica
from aegis_edge.pbft.transfer import ANSWER_BYTES, BATCHES_MAX
from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    HANDOVERS,
    Checkpoint,
    Commit,
    FetchState,
    Gone,
    Handover,
    StableCheckpoint,
    StatePart,
    Status,
    Verified,
    pack_handover,
    pack_lineage,
)
from tests.pbft.parts import KEYS, OPEN, PARAMETERS, ROOT, SIGNERS
from tests.pbft.stage import PACE, Stage
from tests.pbft.test_reconfiguration import follow

ZERO = Configuration(0, KEYS[:4], 1)
ONE = ZERO.followed_by(10, KEYS[:5])
TWO = ONE.followed_by(20, KEYS[1:6], b"what they agreed on")
THREE = TWO.followed_by(30, KEYS[2:7])
PATIENCE = PACE.fetch_ticks + PACE.travel_ticks(ANSWER_BYTES)


def signed(before: Configuration, after: Configuration, count: int | None = None) -> bytes:
    """What so many members of `before` say about who follows them, or a quorum."""
    said = Commit(before.number, 0, after.start, bytes(32), 7, after.digest)
    signers = [s for s in SIGNERS if s.public in before][
        : before.quorum if count is None else count
    ]
    return pack_handover(after.members, tuple(s.sign(said).raw for s in signers), after.terms)


def stable(of: Configuration, sequence: int, count: int | None = None) -> bytes:
    said = Checkpoint(of.number, sequence, ROOT)
    signers = [s for s in SIGNERS if s.public in of][: of.quorum if count is None else count]
    return StableCheckpoint(tuple(s.sign(said) for s in signers)).pack()


FIRST, SECOND, THIRD = signed(ZERO, ONE), signed(ONE, TWO), signed(TWO, THREE)


class Play:
    """Member 3, which has executed nothing; members 0 to 2 are two configurations ahead of it."""

    def __init__(self, claimed: int = 40, lacking: bool = True) -> None:
        self.replica = Replica(SIGNERS[3], ZERO, PARAMETERS, Restored(2), OPEN)
        self.now = 10_000
        self.effects: list[Effect] = []
        self.asked: list[tuple[int, FetchState]] = []
        self.alarms: list[Alarm] = []
        self.step(Tick(self.now, 1))
        for peer in KEYS[:3]:
            self.step(LinkUp(peer))
        for member in range(3):
            self.hears(member, Status(2, 0, False, 24, claimed, 5))
        for _ in range(3 if lacking else 0):
            request = self.replica.catchup.request
            assert request is not None
            self.hears(KEYS.index(request.peer), Gone(2, 1))

    def step(self, event: Event) -> list[Effect]:
        self.effects = self.replica.step(event)
        self.alarms += [e for e in self.effects if isinstance(e, Alarm)]
        for effect in self.effects:
            if isinstance(effect, Send):
                message = messages.read(effect.raw, OPEN)
                inner = message.message if isinstance(message, Verified) else message
                if isinstance(inner, FetchState):
                    self.asked += [(KEYS.index(peer), inner) for peer in effect.peers]
        return self.effects

    def of(self, *kinds: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kinds)]

    def hears(self, member: int, message: Any) -> list[Effect]:
        said = SIGNERS[member].sign(message) if hasattr(message, "fields") else message
        return self.step(Received(KEYS[member], said))

    def passes(self, ticks: int) -> list[Effect]:
        self.now += ticks
        return self.step(Tick(self.now, 1))

    @property
    def questions(self) -> list[tuple[int, int]]:
        """Who was asked what leads on from which configuration."""
        return [
            (member, int.from_bytes(said.items[0], "big"))
            for member, said in self.asked
            if said.kind == HANDOVERS
        ]

    def told(self, member: int, checkpoint: bytes, *handovers: bytes) -> list[Effect]:
        return self.hears(member, StatePart(1, HANDOVERS, pack_lineage(checkpoint, handovers)))


def test_it_follows_from_what_it_knows_to_the_last_checkpoint_and_fetches_the_state_there() -> None:
    play = Play()
    assert play.questions == [(0, 0)]
    play.told(0, stable(TWO, 24), FIRST, SECOND, THIRD)
    assert play.of(KeepHandovers) == [KeepHandovers(1, (FIRST, SECOND))], "and no further"
    assert play.of(BeginTransfer) == [BeginTransfer(24, ROOT)]
    assert [(s.configuration, s.sequence, s.kind) for _, s in play.asked[1:]] == [(0, 24, 0)]
    asked = play.asked[-1][0]
    play.hears(asked, StatePart(24, 0, b"head"))
    play.step(PartJudged(24, KEYS[asked], None, (), 0, 0, 77, {}))
    assert play.of(InstallState) == [InstallState(24)]
    assert not play.of(Persist), "nothing is written before it is known who the members are"
    assert play.replica.bundle_room == 0 and play.replica.wake_at is None
    play.step(Settled(24, ROOT, TWO, PARAMETERS))
    replica = play.replica
    assert (replica.configuration, replica.executed, replica.time_ms) == (TWO, 24, 77)
    assert (replica.stable, replica.stable_checkpoint[0].message.root) == (24, ROOT)
    assert [e.record.kind for e in play.of(Persist)] == [journal.STABLE]
    assert play.of(Prune) == [Prune(24)]
    assert replica.transfer_progress is None and replica.bundle_room > 0
    play.passes(PATIENCE)
    assert not play.of(InstallState) and len(play.questions) == 1


def test_what_one_answer_does_not_hold_is_asked_for_at_once() -> None:
    play = Play()
    play.told(0, stable(THREE, 36), FIRST)
    assert play.questions == [(0, 0), (0, 1)] and not play.of(BeginTransfer)
    play.told(0, stable(THREE, 36), SECOND, THIRD)
    assert play.of(KeepHandovers) == [KeepHandovers(2, (SECOND, THIRD))]
    assert play.of(BeginTransfer) == [BeginTransfer(36, ROOT)]


def test_members_of_its_own_configuration_need_no_handover() -> None:
    play = Play()
    play.told(0, stable(ZERO, 8))
    assert not play.of(KeepHandovers)
    assert play.of(BeginTransfer) == [BeginTransfer(8, ROOT)]


def others(before: Configuration, after: Configuration) -> bytes:
    """Signed by the right ones, but about other members."""
    honest = Handover.open(signed(before, after), OPEN)
    return pack_handover(KEYS[:1], tuple(c.raw for c in honest.commits))


LIES: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "too few signed": (stable(TWO, 24), (signed(ZERO, ONE, 2), SECOND)),
    "one is skipped": (stable(THREE, 36), (FIRST, THIRD)),
    "two are swapped": (stable(THREE, 36), (FIRST, THIRD, SECOND)),
    "by those who follow": (stable(TWO, 24), (signed(replace(TWO, number=0), ONE),)),
    "about others": (stable(TWO, 24), (others(ZERO, ONE), SECOND)),
    "a batch that changes nothing": (
        stable(ONE, 16),
        (
            pack_handover(
                ONE.members,
                tuple(s.sign(Commit(0, 0, 10, bytes(32), 7)).raw for s in SIGNERS[:3]),
            ),
        ),
    ),
    "no handover": (stable(TWO, 24), (b"", SECOND)),
    "a checkpoint of too few": (stable(TWO, 24, 2), (FIRST, SECOND)),
    "a checkpoint of others": (
        StableCheckpoint(tuple(s.sign(Checkpoint(2, 24, ROOT)) for s in SIGNERS[:4])).pack(),
        (FIRST, SECOND),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_is_not_believed_and_not_asked_again(lie: str) -> None:
    play = Play()
    checkpoint, handovers = LIES[lie]
    play.told(0, checkpoint, *handovers)
    assert not play.of(KeepHandovers, BeginTransfer)
    assert [alarm.about for alarm in play.alarms] == [KEYS[0]]
    assert "a history of members that is not the agreed one" in play.alarms[0].reason
    for _ in range(4):
        play.passes(PATIENCE)
    assert {member for member, _ in play.questions[1:]} == {1, 2}
    member, number = play.questions[-1]
    assert number == 0, "nothing of it counts"
    play.told(member, stable(TWO, 24), FIRST, SECOND)
    assert play.of(BeginTransfer) == [BeginTransfer(24, ROOT)]


@pytest.mark.parametrize("data", [b"", b"\x80", pack_lineage(b"\x80", ()), pack_lineage(b"x", ())])
def test_what_is_no_lineage_is_a_lie(data: bytes) -> None:
    play = Play()
    play.hears(0, StatePart(1, HANDOVERS, data))
    assert [alarm.about for alarm in play.alarms] == [KEYS[0]]


def test_who_does_not_answer_is_left_for_the_next_one() -> None:
    play = Play()
    assert play.replica.wake_at is not None
    assert play.replica.wake_at <= play.now + PATIENCE
    play.passes(PATIENCE - 1)
    assert play.questions == [(0, 0)]
    play.passes(1)
    assert play.questions == [(0, 0), (1, 0)]
    play.told(0, stable(TWO, 24), FIRST, SECOND)
    assert not play.of(BeginTransfer), "too late"
    play.told(1, b"")
    assert not play.of(BeginTransfer) and not play.alarms, "it has proven no checkpoint yet"
    play.passes(PACE.resend_ticks - 1)
    assert len(play.questions) == 2
    play.passes(1)
    assert play.questions[2:] == [(2, 0)]
    play.passes(PATIENCE)
    assert play.questions[3:] == [(0, 0)]


def test_a_late_answer_to_an_earlier_question_accuses_nobody() -> None:
    """It takes a peer its time, which is asked again meanwhile, from another number on."""
    play = Play()
    for member in (1, 2, 0):
        play.passes(PATIENCE)
        assert play.questions[-1] == (member, 0)
    play.told(0, stable(THREE, 36), FIRST)
    assert play.questions[-1] == (0, 1)
    play.told(0, stable(THREE, 36), FIRST)
    play.passes(PATIENCE)
    assert play.questions[-1] == (1, 1)
    play.told(1, stable(THREE, 36), FIRST, SECOND, THIRD)
    assert not play.of(BeginTransfer) and not play.alarms
    play.told(1, stable(THREE, 36), SECOND, THIRD)
    assert play.of(BeginTransfer) == [BeginTransfer(36, ROOT)]


def test_who_is_not_so_far_is_followed_from_the_beginning() -> None:
    play = Play()
    play.told(0, stable(THREE, 36), FIRST, SECOND)
    assert play.questions[-1] == (0, 2)
    play.passes(PATIENCE)
    assert play.questions[-1] == (1, 2)
    play.told(1, stable(ONE, 16), THIRD)
    assert not play.of(BeginTransfer) and not play.alarms
    play.passes(PATIENCE)
    assert play.questions[-1] == (2, 0)
    play.told(2, stable(ONE, 16), FIRST)
    assert play.of(BeginTransfer) == [BeginTransfer(16, ROOT)]


def test_it_asks_where_the_batches_are_gone_or_too_many_and_not_before() -> None:
    assert Play(lacking=False).questions == []
    assert Play(BATCHES_MAX, lacking=False).questions == []
    assert Play(BATCHES_MAX + 1, lacking=False).questions == [(0, 0)]


def test_nobody_is_asked_who_is_in_no_later_configuration() -> None:
    play = Play(lacking=False)
    play.replica.lineage._ahead.clear()
    for member in range(3):
        play.hears(member, Status(0, 0, False, 24, BATCHES_MAX + 9, 5))
    assert play.questions == []
    assert play.replica.lineage.wake_at() is None


def test_what_another_passes_on_is_no_news() -> None:
    play = Play(lacking=False)
    play.replica.lineage._ahead.clear()
    said = SIGNERS[1].sign(Status(2, 0, False, 24, BATCHES_MAX + 9, 5))
    play.step(Received(KEYS[0], said))
    assert play.questions == []


def test_a_state_whose_members_are_others_than_a_quorum_signed_is_the_end() -> None:
    play = Play()
    play.told(0, stable(TWO, 24), FIRST, SECOND)
    asked = play.asked[-1][0]
    play.hears(asked, StatePart(24, 0, b"head"))
    play.step(PartJudged(24, KEYS[asked], None, (), 0, 0, 77, {}))
    play.step(Settled(24, ROOT, replace(TWO, members=KEYS[:4]), PARAMETERS))
    assert play.replica.halted == FORKED


def test_pieces_are_given_to_whoever_is_in_another_configuration() -> None:
    stage = Stage(4, outsiders=1)
    stage.change_members("A", "+E")
    follow(stage, "E")
    for number in (0, 1, 7):
        asks = stage["D"].signer.sign(FetchState(number, 8, 0, (b"",)))
        effects = stage["C"].step(Received(stage["D"].key, asks))
        assert [e for e in effects if isinstance(e, SendPart)] == [
            SendPart(stage["D"].key, 8, 0, (b"",))
        ]
        stage.answer()

"""Rules 17 and 18: who missed what nobody keeps fetches a proven state, from whoever has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegis_edge.pbft import transfer
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import (
    Alarm,
    BatchesGone,
    BeginTransfer,
    Effect,
    Event,
    InstallState,
    JudgePart,
    LinkUp,
    PartJudged,
    Persist,
    Prune,
    Received,
    Restored,
    Send,
    SendPart,
    Submitted,
    Tick,
)
from aegis_edge.pbft.execution import IN_USE_ELSEWHERE
from aegis_edge.pbft.replica import Replica
from aegis_edge.pbft.transfer import ANSWER_BYTES, DOUBLINGS_MAX
from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    FetchBatches,
    FetchState,
    Gone,
    StableCheckpoint,
    StatePart,
    Status,
    Verified,
    ViewChange,
)
from tests.pbft.parts import (
    KEYS,
    OPEN,
    PARAMETERS,
    ROOT,
    SIGNERS,
    Parts,
    batch,
    bundle,
    committed,
    stable,
)
from tests.pbft.stage import PACE

A, B, C, ME = KEYS[:4]
HEAD = (0, (b"",))
TOOK = PACE.fetch_ticks


class Play:
    """Member 3 of four, which has executed nothing; the others claim to have executed 40."""

    def __init__(
        self, claims: tuple[int, ...] = (0, 1, 2), parameters: Parameters = PARAMETERS
    ) -> None:
        configuration = Configuration(0, KEYS[:4], 1)
        self.replica = Replica(SIGNERS[3], configuration, parameters, Restored(2), OPEN)
        self.now = 10_000
        self.asked: dict[bytes, FetchState] = {}
        self.effects: list[Effect] = []
        self.step(Tick(self.now, 1))
        for peer in (A, B, C):
            self.step(LinkUp(peer))
        for member in claims:
            self.claims(member, 40)

    def step(self, event: Event) -> list[Effect]:
        self.effects = self.replica.step(event)
        for peer, said in self.said(FetchState):
            self.asked[peer] = said
        return self.effects

    def said(self, kind: type) -> list[tuple[bytes, Any]]:
        """What of this kind was sent, to whom."""
        found = []
        for effect in self.effects:
            if isinstance(effect, Send):
                message = messages.read(effect.raw, OPEN)
                inner = message.message if isinstance(message, Verified) else message
                found += [(peer, inner) for peer in effect.peers if isinstance(inner, kind)]
        return found

    def of(self, *kinds: type) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, kinds)]

    def hears(self, member: int, message: Any) -> list[Effect]:
        signed = SIGNERS[member].sign(message) if hasattr(message, "fields") else message
        return self.step(Received(KEYS[member], signed))

    def claims(self, member: int, executed: int) -> None:
        self.hears(member, Status(0, 0, False, 36, executed, 5))

    def passes(self, ticks: int) -> list[Effect]:
        self.now += ticks
        return self.step(Tick(self.now, 1))

    def in_vain(self, lacking: tuple[int, ...] = (0, 1, 2)) -> None:
        """Whoever is asked for batches says that they are gone; who is not `lacking` is silent."""
        for _ in range(3):
            asked = self.replica.catchup.request
            if asked is None:
                return
            member = KEYS.index(asked.peer)
            if member in lacking:
                self.hears(member, Gone(0, 1))
            else:
                self.passes(TOOK)

    def begin(self) -> None:
        self.hears(0, StableCheckpoint(stable(36)))
        self.in_vain()
        assert self.replica.transfer_progress == (36, 0, 0)

    def part(self, member: int, data: bytes = b"data") -> list[Effect]:
        asked = self.asked[KEYS[member]]
        return self.hears(member, StatePart(asked.sequence, asked.kind, data))

    def judged(self, member: int, *wants: tuple[int, bytes], **more: Any) -> list[Effect]:
        sequence = self.replica.transfer.sequence
        assert sequence is not None
        return self.step(PartJudged(sequence, KEYS[member], None, wants, **more))

    def holder(self) -> int:
        """The only one that is asked just now."""
        (peer,) = self.replica.transfer._asked
        return KEYS.index(peer)


def test_s8_18_the_state_is_fetched_from_several_at_once_and_installed() -> None:
    play = Play()
    play.begin()
    assert play.of(BeginTransfer) == [BeginTransfer(36, ROOT)]
    first = play.holder()
    assert play.asked[KEYS[first]] == FetchState(0, 36, *HEAD)
    play.part(first)
    assert play.of(JudgePart) == [JudgePart(KEYS[first], 36, 0, (b"",), b"data")]
    items = [b"%03d" % number for number in range(100)]
    play.asked.clear()
    play.judged(first, *((3, item) for item in items), (2, b"other"))
    assert {KEYS.index(peer): said.kind for peer, said in play.asked.items()} == {1: 3, 2: 3, 0: 2}
    assert [len(play.asked[KEYS[m]].items) for m in (1, 2, 0)] == [64, 36, 1]
    for member in (0, 1):
        play.part(member)
        play.judged(member, done=member, parts=2)
    assert play.replica.transfer_progress == (36, 1, 2)
    play.part(2)
    play.judged(2, done=2, parts=2, time_ms=77, origins={ME: (1, 9), A: (3, 4)})
    assert play.of(InstallState, Persist, Prune)[0] == InstallState(36)
    assert Prune(36) in play.effects
    replica = play.replica
    assert (replica.executed, replica.time_ms, replica.stable) == (36, 77, 36)
    assert replica.pool.last_executed(A) == (3, 4)
    assert replica.transfer_progress is None
    assert replica.past.root(36) == ROOT
    play.passes(TOOK)
    assert [said.first for _, said in play.said(FetchBatches)] == [37]


def far(monkeypatch: pytest.MonkeyPatch, batches: int, **parameters: int) -> Play:
    """Who is behind a proven checkpoint at 36, which is so many batches more than is worth it."""
    monkeypatch.setattr(transfer, "BATCHES_MAX", 36 - batches)
    play = Play(parameters=replace(PARAMETERS, **parameters))
    play.hears(0, StableCheckpoint(stable(36)))
    return play


def test_who_missed_very_much_does_not_ask_for_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert far(monkeypatch, 0).replica.transfer_progress is None
    assert far(monkeypatch, 1, bytes_a_second=424).replica.transfer_progress is None
    assert far(monkeypatch, 1).replica.transfer_progress == (36, 0, 0)


def test_who_finds_no_state_asks_for_batches_until_there_is_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = far(monkeypatch, 1)
    for _ in range(3):
        play.part(play.holder(), b"")
    assert play.replica.transfer_progress is None
    play.passes(TOOK)
    assert [said.first for _, said in play.said(FetchBatches)] == [1]
    assert play.replica.transfer_progress is None
    play.hears(0, StableCheckpoint(stable(40)))
    assert play.replica.transfer_progress == (40, 0, 0)


def heavy(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Who is behind a proven checkpoint at 36, and has seen by one batch what they all measure."""
    monkeypatch.setattr(transfer, "LOOK_BYTES", 36 * committed(1, batch()).size_bytes - 1)
    play = Play()
    play.hears(0, StableCheckpoint(stable(36)))
    assert play.replica.transfer_progress is None
    play.hears(0, committed(1, batch()))
    return play


def test_batches_that_weigh_much_are_worth_a_look_at_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert heavy(monkeypatch).replica.transfer_progress is None, "35 do not weigh so much"
    with monkeypatch.context() as lighter:
        lighter.setattr(transfer, "LOOK_BYTES", 0)
        play = Play()
        play.hears(0, StableCheckpoint(stable(36)))
        play.hears(0, committed(1, batch()))
    assert play.replica.transfer_progress == (36, 0, 0)
    assert play.said(FetchBatches) == [], "what comes with the state is not asked for as well"


def test_a_state_that_weighs_more_than_the_batches_is_left_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "LOOK_BYTES", 0)
    size = committed(1, batch()).size_bytes
    for listing, is_worth_it in ((35 * size, True), (50 * size, False)):
        play = Play()
        play.hears(0, StableCheckpoint(stable(36)))
        play.hears(0, committed(1, batch()))
        first = play.holder()
        play.part(first)
        play.judged(first, (1, b"0"))
        assert play.replica.transfer_progress == (36, 0, 0), "it is not known yet what differs"
        play.part(play.holder())
        play.judged(play.holder(), (2, b"00"), parts=1, listing_bytes=listing)
        assert (play.replica.transfer_progress is not None) is is_worth_it
    play.passes(TOOK)
    assert [said.first for _, said in play.said(FetchBatches)] == [2]
    play.hears(0, StableCheckpoint(stable(40)))
    play.hears(0, committed(2, batch(number=2)))
    assert play.replica.transfer_progress is None, "what is left weighs less than what was seen"


def test_what_nobody_keeps_is_fetched_whatever_it_weighs() -> None:
    play = Play()
    play.begin()
    first = play.holder()
    play.part(first)
    play.judged(first, (2, b"00"), parts=1, listing_bytes=10**9)
    assert play.replica.transfer_progress == (36, 0, 1)


def test_nothing_is_executed_while_the_state_of_others_is_on_its_way() -> None:
    play = Play()
    play.begin()
    play.step(Received(A, committed(1, batch())))
    assert play.replica.executed == 0
    made = Parts()
    made.at.fetching = True
    made.accepted(1, batch(), votes=3)
    assert made.said(made.execution.run) == []
    made.catchup.note(A, Status(0, 0, False, 0, 100, 5))
    assert made.said(made.repair.fetch) == []


def test_batches_that_one_still_keeps_are_fetched_instead() -> None:
    play = Play()
    play.hears(0, StableCheckpoint(stable(36)))
    asked = play.replica.catchup.request
    assert asked is not None
    play.hears(KEYS.index(asked.peer), Gone(0, 1))
    second = play.replica.catchup.request
    assert second is not None and second.peer != asked.peer
    play.step(Received(second.peer, committed(1, batch())))
    assert play.replica.executed == 1
    assert play.replica.transfer_progress is None


def test_a_silent_peer_does_not_keep_the_state_away() -> None:
    play = Play()
    play.hears(0, StableCheckpoint(stable(36)))
    play.in_vain(lacking=(1, 2))
    for _ in range(3):
        play.in_vain(lacking=(1, 2))
    assert play.replica.transfer_progress == (36, 0, 0)


def test_what_is_gone_counts_only_of_who_was_asked_and_for_what() -> None:
    play = Play()
    play.hears(0, StableCheckpoint(stable(36)))
    asked = play.replica.catchup.request
    assert asked is not None
    member = KEYS.index(asked.peer)
    for said in (Gone(0, 2), Gone(0, 5)):
        play.hears(member, said)
    play.hears((member + 1) % 3, Gone(0, 1))
    passed_on = SIGNERS[member].sign(Gone(0, 1))
    play.step(Received(KEYS[(member + 1) % 3], passed_on))
    assert play.replica.catchup.request == asked


def test_without_a_later_checkpoint_there_is_nothing_to_fetch() -> None:
    play = Play()
    play.in_vain()
    assert play.replica.catchup.is_futile(0)
    assert play.replica.transfer_progress is None
    assert play.replica.wake_at is not None
    play.hears(1, StableCheckpoint(stable(36)))
    assert play.replica.transfer_progress == (36, 0, 0)


def test_s8_17_an_unproven_checkpoint_is_no_target() -> None:
    play = Play()
    play.hears(0, StableCheckpoint(stable(36)[:2]))
    play.hears(0, StableCheckpoint(()))
    play.in_vain()
    assert play.replica.transfer_progress is None


def test_an_older_checkpoint_does_not_take_the_place_of_a_later_one() -> None:
    play = Play()
    for sequence in (36, 32):
        play.hears(0, StableCheckpoint(stable(sequence)))
    play.in_vain()
    assert play.replica.transfer_progress == (36, 0, 0)


def test_s8_17_a_liar_is_named_and_not_asked_again() -> None:
    play = Play()
    play.begin()
    first = play.holder()
    play.part(first)
    play.step(PartJudged(36, KEYS[first], "a head that is not the certified one"))
    (alarm,) = play.of(Alarm)
    assert isinstance(alarm, Alarm)
    assert alarm.about == KEYS[first]
    assert "is not the agreed one" in alarm.reason
    second = play.holder()
    assert second != first
    assert play.asked[KEYS[second]] == FetchState(0, 36, *HEAD)


def test_who_has_nothing_or_is_silent_is_passed_over_and_in_the_end_all_begins_anew() -> None:
    play = Play()
    play.begin()
    first = play.holder()
    play.part(first, b"")
    second = play.holder()
    assert play.replica.wake_at == min(
        play.now + PACE.fetch_ticks + PACE.travel_ticks(ANSWER_BYTES), play.replica.wake_at or 0
    )
    play.hears(0, StableCheckpoint(stable(40)))
    assert play.replica.transfer_progress == (36, 0, 0), "what is held is held on"
    play.passes(TOOK)
    third = play.holder()
    assert {first, second, third} == {0, 1, 2}
    play.part(third, b"")
    for doubling in range(1, DOUBLINGS_MAX + 1):
        assert play.holder() == second, "perhaps it was only slow"
        play.passes((TOOK << doubling) - 1)
        assert play.replica.transfer_progress == (36, 0, 0)
        play.passes(1)
    assert play.replica.transfer_progress is None
    assert not play.replica._at.fetching
    play.passes(TOOK)
    play.in_vain()
    assert play.replica.transfer_progress == (40, 0, 0)


def test_who_takes_long_to_look_through_its_keys_is_asked_again() -> None:
    play = Play()
    play.begin()
    for _ in range(4):
        slow = play.holder()
        play.passes(TOOK)
    play.passes(TOOK - 1)
    assert play.holder() == slow, "there was time for twice as much"
    play.part(slow)
    assert play.of(JudgePart)


def test_what_nobody_was_asked_for_is_not_looked_at() -> None:
    play = Play()
    play.hears(0, StatePart(36, 0, b"data"))
    assert play.of(JudgePart) == []
    play.begin()
    first = play.holder()
    for sequence, kind in ((32, 0), (36, 1)):
        play.hears(first, StatePart(sequence, kind, b"data"))
    play.hears((first + 1) % 3, StatePart(36, 0, b"data"))
    assert play.of(JudgePart) == []
    play.part(first)
    play.part(first)
    assert play.of(JudgePart) == [], "one answer to one question"
    play.step(PartJudged(32, KEYS[first], "another transfer"))
    play.step(PartJudged(36, KEYS[(first + 1) % 3], "nobody asked"))
    assert play.of(Alarm) == []
    play.passes(100 * TOOK)
    assert play.holder() == first, "what is being judged is not asked for again"


def test_a_state_in_which_a_later_life_of_this_node_spoke_halts_it() -> None:
    play = Play()
    play.begin()
    first = play.holder()
    play.part(first)
    play.judged(first, time_ms=1, origins={ME: (7, 1)})
    assert play.replica.halted == IN_USE_ELSEWHERE


def test_the_own_low_watermark_may_be_the_target_and_is_not_moved() -> None:
    made = Parts()
    made.said(made.checkpoints.advance, 4, stable(4))
    assert made.said(made.checkpoints.jumped, stable(4)) == []
    assert made.past.root(4) == ROOT


def test_bundles_that_were_executed_elsewhere_wait_no_more() -> None:
    made = Parts()
    for number in (1, 2):
        made.pool.add(bundle(2, number), 5)
    made.pool.add(bundle(0), 5)
    made.pool.jump({KEYS[2]: (1, 1), KEYS[0]: (1, 1)})
    assert [b.message.number for b, _ in made.pool.waiting(KEYS[2])] == [2]
    assert made.pool.origins() == [KEYS[2]]


def test_who_asks_for_what_is_gone_is_told_so_with_the_checkpoint() -> None:
    play = Play(claims=())
    play.step(BatchesGone(B, 5))
    assert play.said(Gone) == [(B, Gone(0, 5))]
    assert play.said(StableCheckpoint) == [(B, StableCheckpoint(()))]


def test_who_is_no_member_is_given_pieces_as_well() -> None:
    play = Play(claims=())
    play.hears(4, FetchState(0, 36, 1, (b"\x01",)))
    assert play.effects == [SendPart(KEYS[4], 36, 1, (b"\x01",))]


def test_pieces_are_given_to_who_asks_for_some() -> None:
    play = Play(claims=())
    play.hears(1, FetchState(0, 36, 1, (b"\x01",)))
    assert play.effects == [SendPart(B, 36, 1, (b"\x01",))]


@pytest.mark.parametrize("is_whole", [True, False])
def test_s8_10_who_fetches_a_state_holds_nothing_against_the_primary(is_whole: bool) -> None:
    """It executes nothing meanwhile: alone in a view that nobody else wants, it would have no vote
    in the one that goes on."""
    play = Play(claims=(0,))
    play.begin()
    play.step(Submitted((b"op",)))
    started = play.now
    while play.now < started + 3 * PARAMETERS.timeout_ticks:
        play.part(0)
        play.judged(0, (3, b"row"))
        play.passes(TOOK - 1)
        assert not play.said(ViewChange)
    assert play.replica.transfer_progress is not None
    if is_whole:
        play.part(0)
        play.judged(0)
    else:
        play.part(0, b"")
    assert play.replica.transfer_progress is None
    assert play.replica.executed == (36 if is_whole else 0)
    play.passes(PARAMETERS.timeout_ticks - 1)
    assert not play.replica.changing
    play.passes(1)
    assert play.replica.changing, "from then on, like everybody"

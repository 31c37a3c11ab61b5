"""A peer gets what its status says that it lacks, and is asked for what it has more."""

from dataclasses import replace

import pytest

from aegis_edge.pbft import repair
from aegis_edge.pbft.events import Effect, Send, SendCommitted
from aegis_edge.pbft.pacing import Turns
from aegis_edge.pbft.restart import Memory
from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    Body,
    Checkpoint,
    Commit,
    FetchBatches,
    FetchBody,
    NewView,
    Prepare,
    Proposal,
    StableCheckpoint,
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
    change,
    stable,
)
from tests.pbft.stage import PACE

RESEND = PACE.resend_ticks
PEER = KEYS[2]


def status(
    *, view: int = 0, changing: bool = False, stable: int = 0, executed: int = 0
) -> Verified[Status]:
    return SIGNERS[2].sign(Status(0, view, changing, stable, executed, 55))


def hear(made: Parts, said: Verified[Status], peer: bytes = PEER) -> list[Effect]:
    return made.said(made.repair.on_status, said, peer)


def kinds(effects: list[Effect], to: bytes = PEER) -> list[type]:
    """The kinds of what was sent, all of it to one peer."""
    found = []
    for effect in effects:
        assert isinstance(effect, Send)
        assert effect.peers == (to,)
        message = messages.read(effect.raw, OPEN)
        found.append(type(message.message if isinstance(message, Verified) else message))
    return found


def test_who_stands_where_we_stand_gets_nothing() -> None:
    made = Parts()
    assert hear(made, status()) == []
    assert made.readings.clock_ms(PEER) == 55
    assert made.catchup.statuses == {PEER: status().message}


def test_only_its_sender_s_own_word_of_now_is_news() -> None:
    made = Parts()
    made.at.view = 1
    other = SIGNERS[2].sign(Status(1, 0, False, 0, 0, 55))
    assert hear(made, status(), peer=KEYS[3]) == []
    assert hear(made, other) == []
    assert made.catchup.statuses == {}
    assert made.readings.clock_ms(PEER) == 0


def test_our_own_status_goes_to_all_and_counts_as_a_reading() -> None:
    made = Parts(own=1, executed=3)
    made.at.clock_ms = 99
    (said,) = made.said(made.repair.tell)
    assert said == Send(
        (KEYS[0], KEYS[2], KEYS[3]), SIGNERS[1].sign(Status(0, 0, False, 0, 3, 99)).raw
    )
    assert made.readings.clock_ms(KEYS[1]) == 99


def test_who_forgot_its_votes_learns_from_statuses() -> None:
    made = Parts(own=3)
    made.views.restore(Memory(), rebuilt=True)
    for member in range(3):
        said = SIGNERS[member].sign(Status(0, 0, False, 0, 4, 55))
        made.repair.on_status(said, KEYS[member])
    assert made.views.learning() == 4 + PARAMETERS.window


@pytest.mark.parametrize(("executed", "is_lost"), [(3, True), (4, False)])
def test_a_primary_below_our_checkpoint_counts_as_lost(executed: int, is_lost: bool) -> None:
    made = Parts(executed=5, now=10_000)
    made.log.advance(4, stable(4))
    hear(made, status(executed=executed))
    ticks = PACE.lost_primary_ticks if is_lost else PARAMETERS.timeout_ticks
    assert made.suspicion.suspect_at(PEER, 10_000) == 10_000 + ticks


def test_on_a_schedule_a_status_that_was_on_its_way_accuses_nobody() -> None:
    scheduled = replace(PARAMETERS, turn_ticks=4_600)
    for executed, is_lost in ((0, False), (-1, True)):
        made = Parts(executed=5, now=10_000, parameters=scheduled)
        made.log.advance(4 - executed * 4, stable(4 - executed * 4))  # 4, or 8: beyond a pipeline
        hear(made, status(executed=0))
        pace = made.at.pace
        ticks = pace.lost_primary_ticks if is_lost else pace.timeout_ticks
        assert made.suspicion.suspect_at(PEER, 10_000) == 10_000 + ticks


def test_only_who_comes_back_is_judged_by_how_little_it_says_to_have() -> None:
    for comes_back in (True, False):
        made = Parts(executed=8, now=10_000)
        hear(made, status(executed=4))
        made.log.advance(8, stable(8))
        if comes_back:
            made.repair.link(PEER, False)
            made.repair.link(PEER, True)
        hear(made, status(executed=7))
        pace = made.at.pace
        ticks = pace.lost_primary_ticks if comes_back else pace.timeout_ticks
        assert made.suspicion.suspect_at(PEER, 10_000) == 10_000 + ticks


# --- views and checkpoints ---


def in_view_1(made: Parts) -> None:
    new = SIGNERS[1].sign(NewView(0, 1, tuple(change(i, 1) for i in range(3)), ()))
    made.views.restore(Memory(view=1, begun=new), rebuilt=False)


@pytest.mark.parametrize(
    ("said", "lacks"),
    [
        (status(view=0), True),
        (status(view=1, changing=True), True),
        (status(view=1), False),
        (status(view=2, changing=True), False),
    ],
)
def test_who_missed_the_view_gets_it(said: Verified[Status], lacks: bool) -> None:
    made = Parts(own=3)
    in_view_1(made)
    assert (NewView in kinds(hear(made, said))) is lacks


def test_a_view_that_began_just_now_is_on_its_way() -> None:
    made = Parts(own=3, now=10_000)
    in_view_1(made)
    made.suspicion.entered(10_001)
    made.at.now_ticks = 10_000 + RESEND
    assert hear(made, status(view=0)) == []
    made.suspicion.link(PEER, True, 10_001)
    made.repair._helped = Turns()
    assert kinds(hear(made, status(view=0))) == [NewView], "unless the link is newer"
    made.suspicion.link(PEER, True, 10_000)
    made.at.now_ticks += 1
    made.repair._helped = Turns()
    assert NewView in kinds(hear(made, status(view=0)))


def test_a_view_that_lines_are_slow_to_carry_is_on_its_way_for_long() -> None:
    made = Parts(own=3, now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
    in_view_1(made)
    made.suspicion.entered(10_001)
    assert made.views.begun is not None
    travels = made.at.pace.travel_ticks(len(made.views.begun.raw))
    assert travels > 5 * RESEND
    asked = SIGNERS[2].sign(ViewChange(0, 1, 0, (), ()))
    for late, told in ((0, []), (1, [NewView])):
        made.at.now_ticks = 10_000 + RESEND + travels + late
        made.repair._helped = Turns()
        made.views._changes.clear()
        assert kinds(hear(made, status(view=0))) == told
        assert kinds(made.said(made.views.on_view_change, asked)) == told


@pytest.mark.parametrize(("view", "lacks"), [(1, True), (2, True), (3, False)])
def test_while_changing_our_view_change_is_said_again(view: int, lacks: bool) -> None:
    made = Parts(own=3)
    in_view_1(made)
    made.views.ask(2)
    told = kinds(hear(made, status(view=view)))
    assert (ViewChange in told) is lacks
    assert NewView not in told


def test_a_view_change_that_is_on_its_way_is_not_said_again() -> None:
    made = Parts(own=3, now=10_000)
    in_view_1(made)
    made.at.now_ticks = 10_001
    made.views.ask(2)
    made.at.now_ticks += RESEND - 1
    assert ViewChange not in kinds(hear(made, status(view=1)))
    made.suspicion.link(PEER, True, 10_001)
    made.repair._helped = Turns()
    assert ViewChange in kinds(hear(made, status(view=1))), "unless the link is newer"
    made.suspicion.link(PEER, True, 10_000)
    made.at.now_ticks += 1
    made.repair._helped = Turns()
    assert ViewChange in kinds(hear(made, status(view=1)))


def test_who_is_under_the_watermark_gets_the_proof_of_it() -> None:
    made = Parts(executed=4)
    made.log.advance(4, stable(4))
    assert kinds(hear(made, status(executed=4))) == [StableCheckpoint]


def test_a_checkpoint_that_is_not_stable_yet_is_said_again() -> None:
    made = Parts(own=1, executed=4)
    made.log.add_checkpoint(SIGNERS[1].sign(Checkpoint(0, 4, ROOT)), 4)
    assert kinds(hear(made, status(executed=4))) == [Checkpoint]


# --- slots ---


def test_votes_are_said_again_for_what_the_peer_has_not_executed() -> None:
    made = Parts(own=1)
    for sequence in (1, 2):
        slot = made.accepted(sequence, batch(2, sequence))
        slot.own_commit = SIGNERS[1].sign(Commit(0, 0, sequence, batch(2, sequence).digest, 5))
    made.accepted(3, batch(2, 3))
    effects = hear(made, status(executed=1))
    assert kinds(effects) == [Prepare, Commit, Prepare, Status]
    votes = [OPEN(e.raw).message.sequence for e in effects[:3] if isinstance(e, Send)]
    assert votes == [2, 2, 3]


def test_a_primary_proposes_again() -> None:
    made = Parts(own=0)
    made.accepted(1, batch(2, 1))
    assert kinds(hear(made, status())) == [Proposal]
    bodiless = made.log.slot(2)
    bodiless.pre_prepare = SIGNERS[0].sign(messages.PrePrepare(0, 0, 2, b"gone".ljust(32)))
    bodiless.journalled = True
    made.at.now_ticks += RESEND
    assert kinds(hear(made, status())) == [Proposal], "nothing of a batch that is not here"


def test_what_is_on_its_way_is_not_said_again() -> None:
    made = Parts(now=10_000)
    made.at.now_ticks = 10_001  # the links stand since before
    made.accepted(1, batch(2, 1))
    assert hear(made, status()) == []
    made.at.now_ticks = 10_000 + RESEND
    assert hear(made, status()) == []
    made.at.now_ticks += 1
    made.repair._helped = Turns()
    assert kinds(hear(made, status())) == [Prepare], "it led to nothing for so long"


def test_what_links_are_slow_to_carry_is_not_said_again_meanwhile() -> None:
    made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
    made.at.now_ticks = 10_001
    made.accepted(1, batch(2, 1))
    travels = 2 * len(bundle(2, 1).raw)
    made.at.now_ticks = 10_000 + RESEND + travels
    assert hear(made, status()) == []
    made.at.now_ticks += 1
    made.repair._helped = Turns()
    assert kinds(hear(made, status())) == [Prepare]


def test_only_the_primary_says_what_it_begins_to_send_and_in_its_own_view() -> None:
    made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
    made.pool.add(bundle(1), 10_000)
    alone = made.pacing.travel_ticks()
    for member, view, travels in ((2, 0, 0), (0, 1, 0), (0, 0, 2 * 400), (2, 0, 2 * 400)):
        said = SIGNERS[member].sign(Status(0, view, False, 0, 0, 55, 400))
        made.said(made.repair.on_status, said, KEYS[member])
        assert made.pacing.travel_ticks() == alone + travels
    made.said(made.repair.on_status, SIGNERS[0].sign(Status(0, 0, False, 0, 0, 55)), KEYS[0])
    assert made.pacing.travel_ticks() == alone


def test_what_was_said_before_the_link_is_said_again_at_once() -> None:
    made = Parts(now=10_000)
    made.at.now_ticks = 10_001
    made.accepted(1, batch(2, 1))
    made.suspicion.link(PEER, False, 10_005)
    made.suspicion.link(PEER, True, 10_010)
    made.at.now_ticks = 10_010
    assert kinds(hear(made, status())) == [Prepare]
    made.accepted(2, batch(2, 2)).since_ticks = 10_011
    made.repair._helped = Turns()
    assert kinds(hear(made, status())) == [Prepare], "not what came after"


def test_what_is_lacking_here_is_asked_for_instead() -> None:
    made = Parts(own=1)
    made.log.slot(1)
    named = SIGNERS[0].sign(messages.PrePrepare(0, 0, 2, batch().digest))
    made.log.slot(2).pre_prepare = named
    assert kinds(hear(made, status())) == [FetchBody]


def test_one_status_makes_us_say_a_few_slots_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "RESEND_SLOTS", 2)
    made = Parts(own=1, executed=4)
    made.log.advance(4, stable(4))
    for sequence in (5, 7, 8):
        made.accepted(sequence, batch(2, sequence))
    effects = hear(made, status(stable=4, executed=4))
    assert kinds(effects) == [Prepare], "of sequences 5 and 6"
    made.at.now_ticks += RESEND // 4
    assert kinds(hear(made, status(stable=4, executed=5))) == [Prepare, Status], "of 6 and 7"


@pytest.mark.parametrize("why", ["we change", "it changes", "another view", "we forgot"])
def test_no_votes_where_they_would_not_count(why: str) -> None:
    made = Parts(own=1)
    made.accepted(1, batch())
    view = 1 if why in ("another view", "we change") else 0
    said = status(changing=why == "it changes", view=view)
    if why == "we change":
        made.views.ask(1)
    made.at.voting = why != "we forgot"
    assert Prepare not in kinds(hear(made, said))


def test_nobody_is_helped_all_the_time() -> None:
    made = Parts(executed=4)
    made.log.advance(4, stable(4))
    for wait, helped in ((0, True), (RESEND // 4 - 1, False), (1, True)):
        made.at.now_ticks += wait
        assert (StableCheckpoint in kinds(hear(made, status()))) is helped


# --- answers ---


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (status(), False),
        (status(view=1), True),
        (status(executed=1), True),
        (status(stable=4), True),
    ],
)
def test_who_stands_elsewhere_learns_where_we_stand(said: Verified[Status], answered: bool) -> None:
    made = Parts()
    assert (Status in kinds(hear(made, said))) is answered


def test_a_higher_watermark_in_a_lower_view_is_answered_too() -> None:
    made = Parts(executed=4)
    made.at.view = 1
    assert kinds(hear(made, status(view=0, stable=4, executed=4))) == [Status]


def test_answers_take_turns() -> None:
    made = Parts(executed=1)
    for wait, answered in ((0, True), (RESEND // 2 - 1, False), (1, True)):
        made.at.now_ticks += wait
        assert (Status in kinds(hear(made, status()))) is answered


# --- batches ---


def test_who_is_far_behind_asks_at_once() -> None:
    made = Parts()
    made.catchup.came(900)
    effects = hear(made, status(executed=9))
    assert kinds(effects) == [Status, FetchBatches]
    fetch = effects[1]
    assert isinstance(fetch, Send)
    assert OPEN(fetch.raw).message == FetchBatches(0, 1, 9)


def test_a_small_gap_waits_until_nothing_moves() -> None:
    made = Parts()
    hear(made, status(executed=1))
    assert made.said(made.repair.fetch) == []
    made.at.now_ticks += RESEND
    assert kinds(made.said(made.repair.fetch)) == [FetchBatches]


def test_the_last_batch_of_a_request_asks_for_more() -> None:
    made = Parts()
    made.catchup.came(900)
    assert made.said(made.repair.fetched) == [], "nothing was asked for"
    hear(made, status(executed=9))
    hear(made, status(executed=20))
    made.at.executed = 8
    made.at.now_ticks += 500
    assert made.said(made.repair.fetched) == [], "it is late, but it brings something"
    made.at.executed = 9
    made.voice.halted = "for good"
    assert made.said(made.repair.fetched) == []
    made.voice.halted = None
    assert kinds(made.said(made.repair.fetched)) == [FetchBatches]


def serve(made: Parts, first: int, last: int, peer: bytes = PEER) -> list[Effect]:
    fetch = SIGNERS[2].sign(FetchBatches(0, first, last))
    return made.said(made.repair.on_fetch_batches, fetch, peer)


def test_batches_are_served_as_far_as_they_are_here() -> None:
    made = Parts(executed=5)
    first, *rest = serve(made, 2, 9)
    assert first == SendCommitted(PEER, 2, 5)
    assert kinds(rest) == [Status]
    assert kinds(serve(made, 6, 9)) == [Status], "only where we stand, if there is nothing"
    assert serve(Parts(executed=5), 5, 9)[0] == SendCommitted(PEER, 5, 5)
    assert serve(made, 7, 9, peer=KEYS[3]) == [], "asked for by another"


def test_what_is_served_is_cut_to_what_links_carry() -> None:
    slow = replace(PARAMETERS, bytes_a_second=1_000, turn_ticks=500)
    made = Parts(executed=5, parameters=slow)
    assert serve(made, 2, 9)[0] == SendCommitted(PEER, 2, 5, 500)


def test_the_same_is_served_after_a_pause_and_what_follows_at_once() -> None:
    made = Parts(executed=9)
    assert serve(made, 1, 3)
    assert serve(made, 1, 3) == []
    assert serve(made, 4, 6)
    made.at.now_ticks += RESEND - 1
    assert serve(made, 2, 6) == []
    made.at.now_ticks += 1
    assert serve(made, 2, 6)


# --- bodies ---


def test_bodies_are_asked_for_and_given() -> None:
    made = Parts(own=1)
    wanted = SIGNERS[2].sign(FetchBody(0, batch().digest))
    assert made.said(made.repair.on_fetch_body, wanted, PEER) == []
    made.accepted(1, batch())
    assert kinds(made.said(made.repair.on_fetch_body, wanted, PEER)) == [Body]
    assert made.said(made.repair.on_fetch_body, wanted, KEYS[3]) == [], "asked for by another"
    assert kinds(made.said(made.repair.fetch_body, b"d" * 32, PEER)) == [FetchBody]
    (to_all,) = made.said(made.repair.fetch_body, b"d" * 32)
    assert isinstance(to_all, Send)
    assert to_all.peers == (KEYS[0], KEYS[2], KEYS[3])


# --- links that come and go ---


def relink(made: Parts) -> list[Effect]:
    return made.said(made.repair.link, PEER, False) + made.said(made.repair.link, PEER, True)


def test_over_a_new_link_who_lacks_something_is_helped_and_answered_at_once() -> None:
    made = Parts(executed=4)
    made.log.advance(4, stable(4))
    for again in (False, True):
        assert kinds(hear(made, status())) == [StableCheckpoint, Status]
        assert hear(made, status()) == []
        assert kinds(relink(made)) == [Status], f"where we stand; {again=}"


def test_over_a_new_link_the_same_is_served_again_at_once() -> None:
    made = Parts(own=1, executed=9)
    made.accepted(5, batch())
    wanted = SIGNERS[2].sign(FetchBody(0, batch().digest))
    for _ in range(2):
        assert serve(made, 1, 3)
        assert serve(made, 1, 3) == []
        assert made.said(made.repair.on_fetch_body, wanted, PEER)
        assert made.said(made.repair.on_fetch_body, wanted, PEER) == []
        relink(made)


def test_what_was_asked_over_a_link_that_broke_is_asked_again_over_the_next() -> None:
    made = Parts()
    assert FetchBatches in kinds(hear(made, status(executed=9)))
    assert kinds(relink(made)) == [Status, FetchBatches]
    assert made.said(made.repair.fetch) == [], "once"


def test_what_was_asked_over_a_link_that_broke_is_asked_of_another_at_once() -> None:
    made = Parts()
    made.repair.on_status(SIGNERS[3].sign(Status(0, 0, False, 0, 9, 55)), KEYS[3])
    assert FetchBatches not in kinds(hear(made, status(executed=9)))
    effects = made.said(made.repair.link, KEYS[3], False)
    assert kinds(effects) == [FetchBatches]
    made.repair.link(KEYS[0], False)
    assert made.said(made.repair.fetch) == [], "and another's link changes nothing"

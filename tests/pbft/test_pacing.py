"""What is due when: the pace is that of the oldest thing that waits."""

from dataclasses import replace

import pytest

from aegis_edge.pbft.pacing import Turns
from aegis_edge.wire.messages import NULL_BATCH, Batch, Bundle, Status, Verified
from tests.pbft.parts import KEYS, PARAMETERS, SIGNERS, Parts, batch, bundle
from tests.pbft.stage import PACE

RESEND = PACE.resend_ticks
COMPLAINT = PACE.complaint_ticks


def test_a_turn_comes_again_after_the_pause() -> None:
    turns = Turns()
    assert turns.take(b"a", 100, 50)
    assert not turns.take(b"a", 149, 1)
    assert turns.take(b"b", 149, 50), "of each peer for itself"
    assert turns.take(b"a", 150, 50)
    assert not turns.take(b"a", 199, 1)
    turns.forget(b"a")
    turns.forget(b"never seen")
    assert turns.take(b"a", 199, 50)
    assert not turns.take(b"b", 198, 50)


def test_nothing_waits() -> None:
    made = Parts(now=10_000)
    assert made.pacing.oldest_ticks() is None
    assert made.pacing.change_due() is None
    assert made.pacing.complaint_due() is None
    assert made.pacing.status_due() == 10_000 + PARAMETERS.status_ticks
    assert made.pacing.wake_at() == made.pacing.status_due()
    assert not made.pacing.has_come(None)


def test_the_oldest_of_bundles_and_slots_counts() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_300)
    assert made.pacing.oldest_ticks() == 10_300
    made.accepted(1, batch()).since_ticks = 10_200
    made.log.slot(2)  # in which nothing was accepted
    assert made.pacing.oldest_ticks() == 10_200
    made.at.executed = 1
    assert made.pacing.oldest_ticks() == 10_300, "a slot that is executed waits no more"


def test_a_view_is_left_when_its_primary_is_suspected_or_never_comes() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_100)
    assert made.pacing.change_due() == 10_100 + PARAMETERS.timeout_ticks
    assert not made.pacing.has_come(made.pacing.change_due())
    made.at.now_ticks = 10_100 + PARAMETERS.timeout_ticks
    assert made.pacing.has_come(made.pacing.change_due())
    made.at.view, made.at.changing = 1, True
    assert made.pacing.change_due() is None, "before a quorum asks, nobody is timed"
    made.suspicion.left_by_quorum(20_000)
    assert made.pacing.change_due() == 20_000 + PARAMETERS.timeout_ticks
    made.at.voting = False
    assert made.pacing.change_due() is None, "who forgot its votes asks for no view"


def test_statuses_hurry_while_something_waits_and_grow_rarer() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_000)
    assert made.pacing.status_due() == 10_000 + RESEND
    made.at.now_ticks = 10_000 + 8 * RESEND
    made.pacing.status_said()
    assert made.pacing.status_due() == made.at.now_ticks + 2 * RESEND
    made.at.now_ticks = 1_000_000
    made.pacing.status_said()
    assert made.pacing.status_due() == 1_000_000 + PARAMETERS.status_ticks, "but not rarer still"


def test_progress_puts_a_hurried_status_off() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_000)
    made.suspicion.progressed(10_050)
    assert made.pacing.status_due() == 10_050 + RESEND


@pytest.mark.parametrize("why", ["changing", "behind"])
def test_statuses_hurry_without_anything_of_ones_own(why: str) -> None:
    made = Parts(now=10_000)
    if why == "changing":
        made.at.changing = True
    else:
        made.catchup.note(KEYS[0], Status(0, 0, False, 0, 9, 0))
        assert made.pacing.status_due() == 10_000 + PARAMETERS.status_ticks, "one may lie"
        made.catchup.note(KEYS[2], Status(0, 0, False, 0, 9, 0))
    assert made.pacing.status_due() == 10_000 + RESEND


def test_a_fetch_that_runs_out_of_time_wakes() -> None:
    made = Parts(now=10_000)
    made.catchup.note(KEYS[0], Status(0, 0, False, 0, 9, 0))
    request = made.catchup.choose(0, True, 9_000)
    assert request is not None
    assert made.pacing.wake_at() == request.deadline_ticks == 9_500


def test_nothing_moves() -> None:
    made = Parts(now=10_000)
    made.at.now_ticks = 10_000 + RESEND - 1
    assert not made.pacing.is_stalled()
    made.at.now_ticks += 1
    assert made.pacing.is_stalled()


def test_complaints_wait_for_the_oldest_bundle_and_for_the_last_complaint() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_000)
    assert made.pacing.complaint_due() == 10_000 + COMPLAINT
    assert not made.pacing.is_overdue(10_001 - COMPLAINT)
    assert made.pacing.is_overdue(10_000 - COMPLAINT)
    made.at.now_ticks = 11_000
    made.pacing.complained()
    assert made.pacing.complaint_due() == 11_000 + COMPLAINT
    made.at.now_ticks = 10_500
    made.pacing.entrusted()
    assert made.pacing.complaint_due() == 11_000 + COMPLAINT, "never sooner for something new"
    made.at.now_ticks = 11_100
    made.pacing.entrusted()
    assert made.pacing.complaint_due() == 11_100 + COMPLAINT


def test_who_is_alone_complains_to_nobody() -> None:
    made = Parts(own=0, n=1)
    made.pool.add(bundle(0), 10_000)
    made.accepted(1, NULL_BATCH)
    assert made.pacing.complaint_due() is None
    assert made.pacing.oldest_ticks() == 10_000


def test_what_began_to_wait_just_now_is_given_time_first() -> None:
    made = Parts(now=10_000)
    made.pool.add(bundle(2), 10_500)
    assert made.pacing.status_due() == 10_500 + RESEND, "not from the last status on"
    made.at.now_ticks = 10_500 + RESEND
    made.pacing.status_said()
    assert made.pacing.status_due() == 10_500 + 2 * RESEND


def test_what_links_are_slow_to_carry_is_given_time_to_travel() -> None:
    slow = replace(PARAMETERS, bytes_a_second=1_000)
    made = Parts(now=10_000, parameters=slow)
    raw = bundle(2).raw
    made.pool.add(bundle(2), 10_000)
    travels = 2 * len(raw)
    assert made.pacing.travel_ticks() == travels
    assert made.pacing.change_due() == 10_000 + PARAMETERS.timeout_ticks + travels
    assert made.pacing.complaint_due() == 10_000 + COMPLAINT + travels
    assert not made.pacing.is_overdue(10_001 - COMPLAINT - travels)
    assert made.pacing.is_overdue(10_000 - COMPLAINT - travels)
    made.accepted(1, batch(2))
    assert made.pacing.travel_ticks() == travels, "it is the same bundle"
    made.accepted(2, batch(3))
    assert made.pacing.travel_ticks() == 2 * travels
    made.at.executed = 2
    assert made.pacing.travel_ticks() == travels, "what is executed has arrived"


def test_what_came_meanwhile_is_what_the_oldest_waited_for() -> None:
    made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=1_000))
    assert made.pacing.travel_ticks() == 0
    large = SIGNERS[3].sign(Bundle(1, 1, (bytes(300),)))
    for waiting in (bundle(2), large):
        made.pool.add(waiting, 10_000)
    travels = made.pacing.travel_ticks()
    assert travels == 2 * (len(bundle(2).raw) + len(large.raw))
    made.pool.execute((large,), 10_500)
    assert made.pacing.travel_ticks() == travels
    made.pool.forget_proposed(10_500)
    assert made.pacing.travel_ticks() == 2 * len(bundle(2).raw), "a new view waits for itself"


def test_what_the_primary_begins_to_send_is_in_front_of_what_waits() -> None:
    for bytes_a_second, travels in ((1_000, 2 * 400), (0, 0)):
        made = Parts(now=10_000, parameters=replace(PARAMETERS, bytes_a_second=bytes_a_second))
        made.pool.add(bundle(2), 10_000)
        alone = made.pacing.travel_ticks()
        made.pacing.follows(400)
        assert made.pacing.travel_ticks() == alone + travels
        made.accepted(1, batch(0))
        both = made.pacing.travel_ticks()
        made.pacing.follows(0)
        assert made.pacing.travel_ticks() == both - travels


def big(origin: int, number: int) -> Verified[Bundle]:
    return SIGNERS[origin].sign(Bundle(1, number, (bytes(100_000),)))


@pytest.mark.parametrize("how", ["an origin", "the primary", "the primary's word"])
def test_s8_10_one_member_delays_a_view_change_to_three_halves(how: str) -> None:
    slow = replace(PARAMETERS, bytes_a_second=1_000)
    made = Parts(now=10_000, parameters=slow)
    made.pool.add(bundle(3), 10_000)
    waits = PARAMETERS.timeout_ticks + 2 * len(bundle(3).raw)
    assert made.pacing.change_due() == 10_000 + waits
    if how == "an origin":
        made.pool.executed[KEYS[2]] = (1, 1)
        for number in (3, 4, 5):
            assert made.pool.add(big(2, number), 10_000) == "new"
        assert made.pacing.change_due() == 10_000 + waits, "behind a gap nothing travels"
        made.pool.add(big(2, 2), 10_000)
    elif how == "the primary's word":
        made.pacing.follows(10**9)
    else:
        for sequence in (1, 2, 3):
            made.accepted(sequence, Batch((), (big(0, sequence),)))
    assert made.pacing.change_due() == 10_000 + waits + PARAMETERS.timeout_ticks // 2
    made.pool.add(big(3, 2), 10_000)
    assert made.pacing.change_due() == 10_000 + 2 * PARAMETERS.timeout_ticks, "all of them, twice"

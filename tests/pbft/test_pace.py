"""Timers follow what links measure, within bounds, and on no single member's word."""

from dataclasses import replace

import pytest

from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import LinkDown, LinkUp, Measured
from aegis_edge.pbft.pace import Pace, bundle_bytes_max
from aegis_edge.wire.messages import BUNDLE_BYTES_MAX
from tests.pbft.stage import Stage

KEYS = tuple(bytes([i]) * 32 for i in range(7))
FAR = Parameters(turn_ticks=4_600, way_ticks=2_000)


def pace(parameters: Parameters = FAR, n: int = 4, f: int = 1) -> Pace:
    return Pace(KEYS[0], Configuration(0, KEYS[:n], f), parameters)


def test_a_bundle_keeps_no_line_busy_for_more_than_half_of_the_shortest_time_out() -> None:
    assert bundle_bytes_max(Parameters()) == BUNDLE_BYTES_MAX
    assert bundle_bytes_max(Parameters(bytes_a_second=400)) == 15 * 400
    assert bundle_bytes_max(Parameters(bytes_a_second=400, turn_ticks=5_000)) == 30 * 400
    assert bundle_bytes_max(Parameters(bytes_a_second=10**9)) == BUNDLE_BYTES_MAX


def test_where_messages_take_no_time_the_settings_decide() -> None:
    quick = pace(Parameters())
    quick.measured(KEYS[1], 60_000)
    quick.measured(KEYS[2], 60_000)
    assert quick.hop_ticks == 0
    assert (quick.timeout_ticks, quick.status_ticks) == (30_000, 10_000)
    assert (quick.lost_primary_ticks, quick.resend_ticks) == (1_500, 1_000)
    assert (quick.complaint_ticks, quick.fetch_ticks) == (7_500, 5_000)
    shortest = pace(Parameters(timeout_ticks=1))
    assert shortest.lost_primary_ticks == shortest.resend_ticks == shortest.complaint_ticks == 1


def test_timers_leave_room_for_messages_that_take_long() -> None:
    slow = pace()
    assert (slow.hop_ticks, slow.lost_primary_ticks) == (6_600, 5_600)
    assert (slow.timeout_ticks, slow.status_ticks) == (79_200, 39_600)
    assert (slow.resend_ticks, slow.complaint_ticks, slow.fetch_ticks) == (19_800, 19_800, 99_000)
    assert pace(Parameters(timeout_ticks=200_000, way_ticks=2_000)).timeout_ticks == 200_000
    assert pace(Parameters(status_ticks=50_000, way_ticks=2_000)).status_ticks == 50_000


def test_what_is_measured_takes_the_place_of_what_is_assumed() -> None:
    made = pace()
    made.measured(KEYS[1], 900)
    assert made.hop_ticks == 6_600, "one alone decides nothing"
    made.measured(KEYS[2], 1_200)
    assert made.hop_ticks == 4_600 + 1_200
    made.measured(KEYS[3], 700)
    assert made.hop_ticks == 4_600 + 900
    made.measured(KEYS[1], 3_000)
    assert made.hop_ticks == 4_600 + 1_200, "the last link to a member counts"


@pytest.mark.parametrize(("n", "f"), [(4, 1), (7, 2)])
@pytest.mark.parametrize("lie", [1, 1_000_000])
def test_who_lets_its_answers_wait_moves_no_timer(n: int, f: int, lie: int) -> None:
    made = pace(n=n, f=f)
    for peer in KEYS[1 : n - f]:
        made.measured(peer, 3_000)
    for liar in KEYS[n - f : n]:
        made.measured(liar, lie)
    assert made.hop_ticks == 4_600 + 3_000


def test_who_tolerates_no_liar_takes_the_slowest_member_into_account() -> None:
    made = pace(n=3, f=0)
    made.measured(KEYS[1], 700)
    made.measured(KEYS[2], 5_000)
    assert made.hop_ticks == 4_600 + 5_000


@pytest.mark.parametrize(("measured", "counts"), [(1, 500), (499, 500), (8_001, 8_000)])
def test_no_measure_counts_beyond_its_bounds(measured: int, counts: int) -> None:
    made = pace()
    for peer in KEYS[1:4]:
        made.measured(peer, measured)
    assert made.hop_ticks == 4_600 + counts


def test_a_replica_paces_itself_by_what_its_links_measured() -> None:
    stage = Stage(4, Parameters(checkpoint_interval=4, window=8, way_ticks=2_000), start=False)
    for actor in stage.actors:
        actor.start()
    a, b, c, d = stage.actors
    timer = a.replica.suspicion
    for peer in (b, c):
        a.step(LinkUp(peer.key, 6_000))
    a.step(LinkDown(b.key))
    a.step(LinkUp(b.key))  # by who measures nothing: what was known holds
    a.step(LinkUp(a.key, 1))
    a.step(LinkUp(b"?" * 32, 1))
    assert timer.suspect_at(b.key, 0) == 72_000
    a.step(Measured(b.key, 3_000))
    for nobody in (a.key, b"?" * 32):
        a.step(Measured(nobody, 1))
    assert timer.suspect_at(b.key, 0) == 36_000, "the way became shorter"
    a.step(Measured(b.key, 6_000))
    assert timer.suspect_at(b.key, 0) == 72_000
    a.step(LinkDown(d.key))
    assert timer.suspect_at(d.key, 0) == 3_000


def test_things_are_said_again_later_where_batches_take_longer() -> None:
    made = pace(Parameters())
    for waited, resend in ((5_000, 1_000), (2_400, 1_000), (2_500, 1_000), (2_600, 4_800)):
        made.executed(waited)
        assert made.resend_ticks == resend, "as the quickest of four in a row"
    made.executed(2_700)
    made.executed(2_800)
    assert made.resend_ticks == 5_000
    made.executed(400)
    assert made.resend_ticks == 1_000, "never sooner than the settings want"


def test_who_slows_batches_down_makes_nothing_else_slow() -> None:
    made = pace(Parameters())
    for _ in range(4):
        made.executed(29_000)
    assert made.resend_ticks == made.complaint_ticks == 7_500
    assert (made.timeout_ticks, made.lost_primary_ticks) == (30_000, 1_500)
    assert made.status_ticks == 10_000


def test_where_complaints_come_often_things_are_not_said_again_more_often_for_that() -> None:
    assert pace(Parameters(timeout_ticks=1)).resend_ticks == 1
    far = pace(Parameters(way_ticks=10_000))
    for _ in range(4):
        far.executed(1_000_000)
    assert far.resend_ticks == far.complaint_ticks == 30_000


def test_who_catches_up_delays_the_votes_by_a_hop_at_most() -> None:
    assert pace(Parameters()).portion_bytes == 1024 * 1024
    far = Parameters(turn_ticks=4_600, way_ticks=2_000, bytes_a_second=424)
    assert pace(far).portion_bytes == 2_798
    assert pace(replace(far, bytes_a_second=10**6)).portion_bytes == 1024 * 1024


def test_much_takes_long_where_links_carry_little() -> None:
    made = pace(Parameters(bytes_a_second=400))
    assert made.travel_ticks(400) == 2_000, "to the primary, and from there to all"
    assert made.travel_ticks(6_000) == made.travel_ticks(10**9) == 30_000, "a time-out at most"
    assert pace(Parameters()).travel_ticks(10**9) == 0


def test_what_one_member_says_buys_half_a_time_out_at_most() -> None:
    made = pace(Parameters(bytes_a_second=400))
    own, one, two, three = KEYS[:4]
    assert made.allowance_ticks({}) == 0
    assert made.allowance_ticks({one: 400, two: 800}) == 6_000
    assert made.allowance_ticks({one: 10**9}) == 15_000
    assert made.allowance_ticks({one: 10**9, two: 400}) == 17_000
    assert made.allowance_ticks({one: 10**9, two: 10**9, three: 400}) == 30_000, "all a time-out"
    assert made.allowance_ticks({own: 5_000}) == 25_000, "who waits for its own knows how much"
    assert made.allowance_ticks({own: 10**9}) == 30_000
    assert pace(Parameters()).allowance_ticks({one: 10**9}) == 0


def test_a_slow_primary_slows_neither_catching_up_nor_its_successor() -> None:
    made = pace(Parameters())
    before = (made.resend_ticks, made.fetch_ticks)
    for _ in range(4):
        made.executed(14_000)
    assert made.resend_ticks > before[0]
    assert made.fetch_ticks == before[1]
    made.changed()
    assert made.resend_ticks == before[0]

"""Timers: age decides, lost links count for more than silence, failures double the patience."""

from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.pace import Pace
from aegis_edge.pbft.suspicion import DOUBLINGS_MAX, Suspicion

KEYS = tuple(bytes([i]) * 32 for i in range(4))
CONFIGURATION = Configuration(0, KEYS, 1)
PACE = Pace(KEYS[0], CONFIGURATION, Parameters(timeout_ticks=2000))


def suspicion(*linked: bytes) -> Suspicion:
    made = Suspicion(KEYS[0], CONFIGURATION, PACE)
    made.start(100)
    for peer in linked:
        made.link(peer, True, 100)
    return made


def test_the_oldest_request_decides() -> None:
    made = suspicion(*KEYS[1:])
    assert made.suspect_at(KEYS[1], 500) == 2500
    made.progressed(2400)
    assert made.suspect_at(KEYS[1], 500) == 2500, "10: some progress saves no primary"


def test_what_is_on_its_way_does_not_wait_for_the_primary() -> None:
    made = suspicion(*KEYS[1:])
    assert made.suspect_at(KEYS[1], 500, 1300) == 3800
    made.link(KEYS[1], False, 600)
    assert made.suspect_at(KEYS[1], 500, 1300) == 700, "a lost link is seen at once"
    made.progressed(3000, 500, 1501)
    assert made.suspect_at(KEYS[2], 3000) == 5000, "it waited for less than half of the timer"
    made.progressed(3000, 500, 1499)
    assert made.suspect_at(KEYS[2], 3000) == 4000, "and now for more"
    assert made.suspect_at(KEYS[2], 3000, 1000) == 4500, "whoever was slow has half of all time"
    made.progressed(4900, 2900, 3000)
    assert made.suspect_at(KEYS[2], 4990) == 5990, "that was just in time"
    made.progressed(4901, 2900, 3000)
    assert made.suspect_at(KEYS[2], 5000) == 5500
    made.entered(6000)
    made.asked(6000)
    assert made.suspect_at(KEYS[2], 6000, 1000) == 6000 + 2 * 3000, "all of it doubles"


def test_a_lost_primary_is_suspected_sooner() -> None:
    made = suspicion(*KEYS[1:])
    made.link(KEYS[1], False, 600)
    assert made.suspect_at(KEYS[1], 500) == 700
    assert made.suspect_at(KEYS[1], 900) == 1000


def test_alone_nobody_is_suspected() -> None:
    made = suspicion(KEYS[1])
    assert made.suspect_at(KEYS[2], 500) is None
    made.link(KEYS[3], True, 5000)
    assert made.suspect_at(KEYS[1], 500) == 7000, "the time-out starts with the quorum"
    made.link(KEYS[3], False, 6000)
    assert made.suspect_at(KEYS[1], 500) is None


def test_who_could_execute_nothing_itself_begins_to_wait_when_it_can() -> None:
    made = suspicion(*KEYS[1:])
    made.resumed(5000)
    assert made.suspect_at(KEYS[1], 500) == 7000
    made = suspicion(KEYS[1])
    made.resumed(5000)
    assert made.suspect_at(KEYS[1], 500) is None


def test_patience_doubles_and_is_bounded() -> None:
    made = suspicion(*KEYS[1:])
    for _ in range(3):
        made.asked(0)
    made.entered(1000)
    assert made.suspect_at(KEYS[1], 500) == 1000 + 2000 * 8
    for _ in range(20):
        made.asked(0)
    assert made.suspect_at(KEYS[1], 500) == 1000 + (2000 << DOUBLINGS_MAX)
    made.progressed(1500)
    assert made.suspect_at(KEYS[1], 1500) == 3500


def test_a_view_that_nobody_joined_is_not_given_up() -> None:
    made = suspicion(*KEYS[1:])
    made.asked(0)
    assert made.give_up_at(KEYS[2]) is None
    made.left_by_quorum(1200)
    made.left_by_quorum(1300)
    assert made.give_up_at(KEYS[2]) == 1200 + 4000
    made.link(KEYS[2], False, 1250)
    assert made.give_up_at(KEYS[2]) == 1200 + 200


def test_one_reaches_oneself() -> None:
    assert suspicion().reachable(KEYS[0])
    assert not suspicion().reachable(KEYS[1])


def test_a_primary_just_under_the_timer_loses_its_patience() -> None:
    made = suspicion(*KEYS[1:])
    made.entered(1000)
    made.progressed(2900, 1000)
    assert made.suspect_at(KEYS[1], 3000) == 4000, "half the time-out after a slow request"
    made.progressed(3600, 3000)
    assert made.suspect_at(KEYS[1], 4000) == 4500, "a quarter after another one"
    made.progressed(4400, 4000)
    assert made.suspect_at(KEYS[1], 5000) == 5500, "and never less"
    made.progressed(5500, 5490)
    assert made.suspect_at(KEYS[1], 6399) == 6899, "a quick one excuses nothing"
    assert made.suspect_at(KEYS[1], 6400) == 7400, "but a time-out without a slow one does"
    assert made.suspect_at(KEYS[1], 8399) == 9399
    assert made.suspect_at(KEYS[1], 8400) == 10_400, "and another one all"
    made.progressed(9000, 8399)
    assert made.suspect_at(KEYS[1], 9000) == 9500, "which still was halved when it began to wait"
    made.progressed(11_600, 10_900)
    assert made.suspect_at(KEYS[1], 11_600) == 12_100
    made.entered(9950)
    assert made.suspect_at(KEYS[1], 9960) == 11_960, "the next primary starts with all of it"


def test_where_one_of_them_must_have_been_correct_the_cluster_is_slow() -> None:
    """More than f primaries in a row were just under the timer: the next one has all of it."""
    made = suspicion(*KEYS[1:])
    now = 10_000
    for _ in range(2):
        made.progressed(now, now - 1500)
        made.asked(0)
        made.asked(0)
        made.entered(now)
        now += 10_000
    made.progressed(now, now - 1500)
    made.progressed(now, now - 1500)
    assert made.suspect_at(KEYS[1], now) == now + 2000
    made.progressed(now + 1999, now + 1950)
    now += 3000
    made.progressed(now, now - 1500)
    assert made.suspect_at(KEYS[1], now) == now + 2000, "it was not quick for long enough"
    made.progressed(now + 2000, now + 1950)
    now += 5000
    made.progressed(now, now - 1500)
    assert made.suspect_at(KEYS[1], now) == now + 1000, "but then that is over"


def test_a_view_that_begins_unasked_counts_its_slow_primary_too() -> None:
    made = suspicion(*KEYS[1:])
    for now in (10_000, 20_000):
        made.progressed(now, now - 1500)
        made.entered(now)
    made.progressed(30_000, 28_500)
    assert made.suspect_at(KEYS[1], 30_000) == 32_000


def test_s8_10_a_primary_that_came_back_empty_is_as_good_as_lost() -> None:
    made = suspicion(*KEYS[1:])
    made.is_empty(KEYS[1], 600)
    made.is_empty(KEYS[1], 650)
    assert made.suspect_at(KEYS[1], 500) == 700
    assert made.suspect_at(KEYS[1], 900) == 1000
    assert made.suspect_at(KEYS[2], 500) == 2500
    made.proposed(KEYS[2])
    made.proposed(KEYS[1])
    assert made.suspect_at(KEYS[1], 500) == 2500, "it remembers, and was only away"
    made.is_empty(KEYS[1], 700)
    made.entered(1000)
    assert made.suspect_at(KEYS[1], 500) == 3000


def test_what_waited_for_a_quorum_is_not_the_primarys_fault() -> None:
    made = suspicion(*KEYS[1:])
    made.link(KEYS[2], False, 200)
    made.link(KEYS[3], False, 200)
    made.progressed(5000, 300)
    assert made.suspect_at(KEYS[1], 5000) is None
    made.link(KEYS[2], True, 6000)
    made.progressed(6500, 300)
    assert made.suspect_at(KEYS[1], 7000) == 9000

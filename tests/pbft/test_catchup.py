"""Rule 9: a source that claims much and brings nothing is left for the next one."""

from aegis_edge.pbft.catchup import FIRST_BATCHES, Catchup
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.pace import Pace
from aegis_edge.wire.messages import FETCH_BATCHES_MAX, Status

PACE = Pace(b"o", Configuration(0, (b"o",), 0), Parameters(timeout_ticks=3_000))
assert PACE.fetch_ticks == 500


def at(executed: int) -> Status:
    return Status(0, 0, False, 0, executed, 0)


def catchup(batch_bytes: int = 900, **executed: int) -> Catchup:
    made = Catchup(PACE, lag=10)
    made.batch_bytes = batch_bytes
    for peer, sequence in executed.items():
        made.note(peer.encode(), at(sequence))
    return made


def test_nobody_is_ahead() -> None:
    made = catchup(a=5)
    assert made.choose(5, True, 0) is None
    assert not made.is_behind(5, 0)


def test_one_liar_does_not_make_us_behind() -> None:
    assert not catchup(a=10**9, b=5).is_behind(5, 1)
    assert catchup(a=10**9, b=6).is_behind(5, 1)


def test_level_is_who_heard_an_honest_one_and_lacks_nothing() -> None:
    assert not catchup(a=5).is_level(5, 1), "perhaps it lies"
    assert catchup(a=10**9, b=5).is_level(5, 1)
    assert not catchup(a=6, b=6).is_level(5, 1)


def test_a_small_gap_is_left_to_the_votes_unless_nothing_moves() -> None:
    made = catchup(a=8)
    assert made.choose(5, False, 0) is None
    request = made.choose(5, True, 0)
    assert request is not None
    assert (request.peer, request.first, request.last) == (b"a", 6, 8)


def test_a_large_gap_is_fetched_at_once_and_in_parts() -> None:
    made = catchup(0, a=1000)
    request = made.choose(5, False, 0)
    assert request is not None
    assert (request.first, request.last) == (6, 5 + FIRST_BATCHES), "who knows how large they are"
    made.came(900)
    request = made.choose(request.last, False, 0)
    assert request is not None
    assert request.last == request.first - 1 + FETCH_BATCHES_MAX


def test_how_large_batches_are_follows_those_that_came_last() -> None:
    made = catchup(0, a=1000)
    for size in (1000, 1000, 5000):
        made.came(size)
    assert made.batch_bytes == 2000


def test_a_good_source_is_continued() -> None:
    made = catchup(a=1000, b=1000)
    first = made.choose(0, False, 0)
    assert first is not None
    assert first.peer == b"a"
    assert made.choose(10, False, 1) is None, "in the middle of an answer"
    assert made.choose(10, False, 1, spoke=b"b") is None
    second = made.choose(10, False, 1, spoke=b"a")
    assert second is not None
    assert (second.peer, second.first) == (b"a", 11)
    third = made.choose(second.last, False, 2)
    assert third is not None
    assert (third.peer, third.first) == (b"a", second.last + 1)


def test_a_source_that_drips_is_left_when_its_time_is_up() -> None:
    made = catchup(a=1000, b=1000)
    assert made.choose(0, False, 0).peer == b"a"  # type: ignore[union-attr]
    drop = made.choose(1, False, 490, spoke=b"a")
    assert drop is not None
    assert (drop.peer, drop.first, drop.deadline_ticks) == (b"a", 2, 500)
    assert made.choose(2, False, 500, spoke=b"a").peer == b"b"  # type: ignore[union-attr]


def test_a_source_in_vain_is_left_for_the_next_one() -> None:
    made = catchup(a=10**9, b=1000)
    assert made.choose(0, False, 0).peer == b"a"  # type: ignore[union-attr]
    assert made.choose(0, False, 499) is None
    assert made.choose(0, False, 500).peer == b"b"  # type: ignore[union-attr]
    made.note(b"a", at(0))
    made.note(b"b", at(0))
    assert made.choose(0, False, 501) is None
    assert made.request is None
    made.note(b"a", at(10**9))
    made.note(b"b", at(1000))
    later = made.choose(0, False, 502)
    assert later is not None
    assert later.peer == b"b", "a brought nothing so far"


def test_a_source_that_falls_back_is_left() -> None:
    made = catchup(a=1000, b=1000)
    assert made.choose(0, False, 0).peer == b"a"  # type: ignore[union-attr]
    made.note(b"a", at(0))
    assert made.choose(5, False, 500).peer == b"b"  # type: ignore[union-attr]


def test_what_was_asked_over_a_link_that_went_is_asked_at_once_of_the_next() -> None:
    made = catchup(a=1000, b=1000)
    assert made.choose(0, False, 0).peer == b"a"  # type: ignore[union-attr]
    made.link(b"b", False)
    assert made.choose(0, False, 1) is None, "another's link"
    made.link(b"a", False)
    assert made.choose(0, False, 2) is None, "nobody can hear it"
    made.link(b"b", True)
    assert made.choose(0, False, 3).peer == b"b"  # type: ignore[union-attr]
    made.link(b"b", True)
    assert made.choose(0, False, 4).deadline_ticks == 504  # type: ignore[union-attr]
    made.link(b"a", True)
    made.link(b"b", False)
    assert made.choose(0, False, 5).peer == b"a"  # type: ignore[union-attr]


def test_a_small_rest_that_was_asked_for_is_asked_for_again_too() -> None:
    made = catchup(a=3)
    assert made.choose(0, True, 0) is not None
    made.link(b"a", False)
    assert made.choose(1, False, 1) is None
    made.link(b"a", True)
    again = made.choose(1, False, 2)
    assert again is not None
    assert (again.peer, again.first) == (b"a", 2)
    made.link(b"a", False)
    assert made.choose(3, False, 3) is None, "all of it is here"
    made.link(b"a", True)
    made.note(b"a", at(4))
    assert made.choose(3, False, 4) is None


def test_when_all_were_in_vain_the_first_is_asked_again() -> None:
    made = catchup(a=1000)
    assert made.choose(0, False, 0).peer == b"a"  # type: ignore[union-attr]
    assert made.choose(0, False, 500).peer == b"a"  # type: ignore[union-attr]
    assert made.choose(1, False, 1000).peer == b"a"  # type: ignore[union-attr]

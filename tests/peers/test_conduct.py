"""The score of a member: what it is made of, and how it fades."""

from __future__ import annotations

import pytest

from aegis_edge.peers.conduct import HALF_LIFE_TICKS, RANK_POINTS, UNKNOWN, Conduct, What


def after(*several: What, now_ticks: int = 0) -> Conduct:
    conduct = Conduct()
    for what in several:
        conduct = conduct.noted(what, now_ticks)
    return conduct


def test_of_whom_nothing_is_known_is_in_the_middle() -> None:
    assert Conduct().score(0) == UNKNOWN
    assert Conduct().reasons(0) == ()
    assert (Conduct().last, Conduct().last_ticks) == ("", None)


def test_what_happened_last_weighs_nothing() -> None:
    conduct = Conduct().happened("it was linked", 5).happened("its link ended", 7)
    assert (conduct.last, conduct.last_ticks) == ("its link ended", 7)
    assert conduct.score(7) == UNKNOWN


@pytest.mark.parametrize(
    ("what", "score"),
    [
        (What.STEADY, 75),
        (What.UNREACHABLE, 45),
        (What.CUT, 45),
        (What.REFUSED, 40),
        (What.SILENT, 40),
        (What.GARBAGE, 30),
        (What.WRONG, 0),
    ],
)
def test_each_kind_has_its_weight(what: What, score: int) -> None:
    assert after(what).score(0) == score


def test_half_of_it_is_forgotten_in_each_half_life() -> None:
    conduct = after(What.GARBAGE, What.GARBAGE, now_ticks=1_000)
    assert conduct.score(1_000) == 10
    assert conduct.score(1_000 + HALF_LIFE_TICKS) == 30
    assert conduct.score(1_000 + 2 * HALF_LIFE_TICKS) == 40
    assert conduct.score(1_000 + 100 * HALF_LIFE_TICKS) == UNKNOWN
    once_more = conduct.noted(What.GARBAGE, 1_000 + HALF_LIFE_TICKS)
    assert once_more.score(1_000 + HALF_LIFE_TICKS) == 10
    assert conduct.score(1_000) == 10, "what was is as it was"


def test_a_board_that_was_off_for_long_is_good_again_after_a_few_good_links() -> None:
    off = after(*[What.UNREACHABLE] * 1_000)
    assert off.score(0) == 0
    assert off.noted(What.STEADY, 0).score(0) == 25
    assert off.noted(What.STEADY, 0).noted(What.STEADY, 0).score(0) == UNKNOWN
    best = after(*[What.STEADY] * 9)
    assert best.score(0) == 100
    assert best.noted(What.CUT, 0).score(0) == 95


def test_the_reasons_are_told_the_heaviest_first_and_counted() -> None:
    conduct = after(What.CUT, What.SILENT, What.CUT).noted(What.STEADY, 9)
    reasons = conduct.reasons(9)
    assert [(each.what, each.count) for each in reasons] == [
        (What.STEADY, 1),
        (What.CUT, 2),
        (What.SILENT, 1),
    ]
    assert [each.at_ticks for each in reasons] == [9, 0, 0]
    late = conduct.noted(What.CUT, 20 * HALF_LIFE_TICKS).reasons(20 * HALF_LIFE_TICKS)
    assert late[0].what is What.CUT, "time has left nothing of the others"
    assert late[0].count == 3


def test_members_about_as_good_have_one_rank() -> None:
    assert after(What.CUT).rank(0) == after(What.GARBAGE).rank(0) == 30 // RANK_POINTS
    assert after(What.STEADY).rank(0) > Conduct().rank(0) > after(What.CUT).rank(0)

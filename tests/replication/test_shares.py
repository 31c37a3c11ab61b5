from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.replication.shares import (
    ALLOWANCE_S,
    PRICE,
    REMEMBERED_MAX,
    RESTED_S,
    Shares,
)

ANNA, BERT = b"anna", b"bert"


def test_who_takes_little_never_rests() -> None:
    shares = Shares(4)
    for number in range(1000):
        assert not shares.charge(ANNA, 0.002, number * 0.0161)
    assert shares.resting == {}
    assert shares.wake_at == math.inf


def test_who_took_more_than_the_allowance_rests_and_others_do_not() -> None:
    shares = Shares(4)
    assert not shares.charge(ANNA, ALLOWANCE_S, 10.0)
    assert shares.charge(ANNA, 0.01, 10.0)
    assert not shares.charge(BERT, ALLOWANCE_S, 10.0)
    assert shares.wake_at == pytest.approx(10.28)
    assert shares.rested(10.27) == []
    assert shares.rested(10.29) == [ANNA]
    assert shares.resting == {}
    assert not shares.charge(ANNA, RESTED_S - 0.001, 10.29), "not once more for every little thing"
    assert shares.charge(ANNA, 0.01, 10.29)


@given(st.lists(st.floats(0.0001, 0.5), min_size=50, max_size=200), st.sampled_from([1, 4, 7]))
def test_nobody_takes_more_than_half_of_an_even_share(took: list[float], members: int) -> None:
    """A peer that always has something heavy to say, and is heard whenever it does not rest."""
    shares = Shares(members)
    now = busy = 0.0
    for took_s in took:
        now, busy = now + took_s, busy + took_s
        if shares.charge(ANNA, took_s, now):
            now = max(now, shares.wake_at)
            assert shares.rested(now) == [ANNA]
    assert busy <= now / (PRICE * members) + ALLOWANCE_S + 1e-6


def test_those_who_share_one_share_rest_for_longer() -> None:
    alone, sharing = Shares(4), Shares(4)
    assert alone.charge(ANNA, 2 * ALLOWANCE_S, 0.0)
    assert sharing.charge(ANNA, 2 * ALLOWANCE_S, 0.0, 8)
    assert sharing.wake_at == pytest.approx(8 * alone.wake_at)


def test_those_who_came_and_went_are_forgotten_once_they_owe_nothing() -> None:
    shares = Shares(4)
    assert shares.charge(ANNA, 2 * ALLOWANCE_S, 0.0, 1_000)
    for number in range(3 * REMEMBERED_MAX):
        shares.charge(b"%d" % number, 0.0001, float(number))
    assert len(shares._paid_at) <= REMEMBERED_MAX + 1
    assert ANNA not in shares._paid_at or shares._paid_at[ANNA] > 2 * REMEMBERED_MAX
    owes = Shares(4)
    owes.charge(ANNA, 1.0, 0.0, 1_000)
    for number in range(REMEMBERED_MAX):
        owes.charge(b"%d" % number, 0.0001, float(number))
    assert ANNA in owes._paid_at, "this one still does"

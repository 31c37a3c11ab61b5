"""Who is kept out, for what and for how long."""

from __future__ import annotations

import math

from aegis_edge.peers.bans import BAN_TICKS, BAN_TICKS_MAX, FORGET_TICKS, Ban, Bans

ANNA, BERT = b"a" * 32, b"b" * 32


def until(bans: Bans, peer: bytes, *, is_needed: bool = False) -> float:
    ban = bans.of(peer, is_needed=is_needed)
    return -1 if ban is None else ban.until_ticks


def test_nobody_is_kept_out_for_nothing() -> None:
    bans = Bans()
    assert bans.of(ANNA, is_needed=False) is None
    assert bans.is_spotless(ANNA)
    assert bans.by_hand(0) == {}


def test_one_offence_is_none_and_from_the_second_on_the_time_doubles_up_to_a_bound() -> None:
    bans, now, lengths = Bans(), 1_000, []
    bans.offence(ANNA, "noise", now)
    assert until(bans, ANNA) == now, "over already"
    assert not bans.is_spotless(ANNA)
    for _ in range(40):
        bans.offence(ANNA, "noise", now)
        lengths.append(until(bans, ANNA) - now)
        now = int(until(bans, ANNA))
    assert lengths[:4] == [BAN_TICKS, 2 * BAN_TICKS, 4 * BAN_TICKS, 8 * BAN_TICKS]
    assert lengths[-30:] == [BAN_TICKS_MAX] * 30
    assert bans.of(BERT, is_needed=False) is None, "it is by the key"


def test_whoever_contradicts_itself_is_kept_out_at_once() -> None:
    bans = Bans()
    bans.offence(ANNA, "two votes", 5, contradicts=True)
    assert bans.of(ANNA, is_needed=False) == Ban(5 + BAN_TICKS, "two votes")


def test_what_happens_while_it_is_kept_out_adds_nothing() -> None:
    bans = Bans()
    bans.offence(ANNA, "two votes", 0, contradicts=True)
    bans.offence(ANNA, "two more", BAN_TICKS - 1, contradicts=True)
    assert bans.of(ANNA, is_needed=False) == Ban(BAN_TICKS, "two votes")


def test_each_half_minute_of_good_conduct_makes_one_forgotten() -> None:
    bans = Bans()
    for now in (0, 0, BAN_TICKS):
        bans.offence(ANNA, "noise", now)
    end = int(until(bans, ANNA))
    assert end == 3 * BAN_TICKS
    bans.offence(ANNA, "noise", end + 2 * FORGET_TICKS)
    assert until(bans, ANNA) == end + 2 * FORGET_TICKS + BAN_TICKS, "one was left, and this"
    later = int(until(bans, ANNA)) + 9 * FORGET_TICKS
    bans.offence(ANNA, "noise", later)
    assert until(bans, ANNA) == later, "it is as good as the first"


def test_whoever_is_needed_is_let_in_whatever_it_did_unless_the_owner_wants_it_out() -> None:
    bans = Bans()
    bans.offence(ANNA, "two votes", 0, contradicts=True)
    assert bans.of(ANNA, is_needed=True) is None
    assert bans.of(ANNA, is_needed=False) is not None
    bans.ban(ANNA, 7)
    assert bans.of(ANNA, is_needed=True) == Ban(7, by_hand=True)
    assert until(bans, ANNA) == BAN_TICKS, "the longer one counts"
    bans.ban(ANNA, math.inf)
    assert until(bans, ANNA) == until(bans, ANNA, is_needed=True) == math.inf


def test_by_hand_anybody_is_kept_out_until_it_is_over_or_lifted() -> None:
    bans = Bans()
    bans.ban(BERT, math.inf)
    bans.ban(ANNA, 10)
    assert bans.by_hand(9) == {ANNA: 10, BERT: math.inf}
    assert bans.by_hand(10) == {BERT: math.inf}
    bans.offence(BERT, "two votes", 0, contradicts=True)
    bans.lift(BERT)
    assert bans.by_hand(9) == {ANNA: 10}
    assert bans.is_spotless(BERT)
    bans.lift(BERT)

"""Whose pass counts, until when, and who of too many observers has to go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.peers.observers import (
    KNOWN_MAX,
    PASS_MS,
    PLACES,
    RENEWAL_MS,
    SLACK_MS,
    Observers,
)
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Pass, Verified

CLUSTER = b"c" * 32
ANNA, BERT, EVE = (Signer(bytes([n]) * 32, CLUSTER) for n in (1, 2, 3))
OWN, GUEST, OTHER = b"o" * 32, b"g" * 32, b"t" * 32
NOW = 1_800_000_000_000


def word(signer: Signer = ANNA, key: bytes = GUEST, until_ms: int = NOW + 1) -> Verified[Pass]:
    return signer.sign(Pass(key, until_ms))


@pytest.fixture
def observers() -> Observers:
    found = Observers(OWN)
    found.meet((ANNA.public, BERT.public, OWN))
    return found


def test_a_pass_of_a_member_lets_in_whom_it_names_until_it_ends(observers: Observers) -> None:
    assert "no member vouches" in observers.refusal(GUEST, NOW)
    assert observers.show(word(), GUEST, NOW) == ""
    assert observers.refusal(GUEST, NOW) == ""
    assert "has ended" in observers.refusal(GUEST, NOW + 1)
    assert "no member vouches" in observers.refusal(OTHER, NOW)
    assert (GUEST in observers, observers[GUEST]) == (True, word())


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (word(EVE), "of somebody who is no member"),
        (word(until_ms=NOW), "has ended"),
        (word(key=OTHER), "of another board"),
        (word(until_ms=NOW + PASS_MS + SLACK_MS + 1), "longer than any does"),
    ],
)
def test_any_other_pass_is_worth_nothing(
    observers: Observers, shown: Verified[Pass], words: str
) -> None:
    assert words in observers.show(shown, GUEST, NOW)
    assert GUEST not in observers
    assert observers.show(word(until_ms=NOW + PASS_MS + SLACK_MS), GUEST, NOW) == ""


def test_a_member_that_goes_takes_its_word_with_it(observers: Observers) -> None:
    observers.show(word(), GUEST, NOW)
    observers.meet((BERT.public, OWN))
    assert "somebody who is no member" in observers.refusal(GUEST, NOW)
    assert observers.show(word(BERT), GUEST, NOW) == "", "another one's does in its place"
    assert observers.issuer(GUEST) == BERT.public


def test_who_becomes_a_member_has_no_pass_any_more(observers: Observers) -> None:
    observers.show(word(), GUEST, NOW)
    observers.meet((ANNA.public, OWN, GUEST))
    assert GUEST not in observers
    assert observers.learn(word(), NOW) == ""
    assert GUEST not in observers


def test_the_pass_that_lasts_longer_stays(observers: Observers) -> None:
    long, longer = word(until_ms=NOW + 10), word(BERT, until_ms=NOW + 20)
    for shown, kept in ((long, long), (longer, longer), (long, longer)):
        assert observers.show(shown, GUEST, NOW) == ""
        assert observers[GUEST] == kept
    observers.meet((ANNA.public, OWN))
    assert observers.show(long, GUEST, NOW) == ""
    assert observers[GUEST] == long, "of those that are good"


def test_guests_and_the_host_need_no_pass(observers: Observers) -> None:
    observers.guests = frozenset((GUEST,))
    observers.host = OTHER
    assert [observers.refusal(key, NOW) for key in (GUEST, OTHER)] == ["", ""]
    assert (observers.issuer(GUEST), observers.issuer(OTHER)) == (OWN, b"")


def test_where_it_was_taken_back_a_pass_is_worth_nothing_and_elsewhere_until_it_ends() -> None:
    host, other = Observers(ANNA.public), Observers(BERT.public)
    for each in (host, other):
        each.meet((ANNA.public, BERT.public))
    host.guests = frozenset((GUEST,))
    assert "taken back" in host.show(word(), GUEST, NOW), "but it needs none there"
    assert host.refusal(GUEST, NOW) == ""
    host.guests = frozenset()
    assert "taken back" in host.show(word(), GUEST, NOW)
    assert "no member vouches" in host.refusal(GUEST, NOW)
    assert host.show(word(BERT), GUEST, NOW) == "", "another may vouch for it still"
    assert other.show(word(), GUEST, NOW) == ""


def test_who_is_introduced_may_have_a_pass_that_lasts_long_and_is_forgotten_first(
    observers: Observers,
) -> None:
    far = NOW + 10 * PASS_MS
    keys = [bytes([n]) * 32 for n in range(150, 151 + KNOWN_MAX)]
    for key in keys:
        assert observers.learn(word(key=key, until_ms=far), NOW, linked=keys[:1]) == ""
    assert keys[0] in observers, "it is linked"
    assert keys[1] not in observers, "the oldest"
    assert all(key in observers for key in keys[2:])
    assert "has ended" in observers.learn(word(key=keys[1]), NOW + 1)
    assert observers.learn(word(key=OWN), NOW) == ""
    assert OWN not in observers
    observers.forget(keys[2])
    observers.forget(keys[2])
    assert keys[2] not in observers


def test_its_own_pass_is_of_its_host(observers: Observers) -> None:
    assert not observers.is_late(NOW), "nobody has invited it"
    for word_, giver in (
        (word(key=GUEST), ANNA),
        (word(key=OWN), BERT),
        (word(EVE, key=OWN), ANNA),
    ):
        assert not observers.take(word_, giver.public)
    assert observers.take(word(key=OWN), ANNA.public)
    assert (observers.host, observers.word) == (ANNA.public, word(key=OWN))
    assert not observers.take(word(BERT, key=OWN, until_ms=NOW + 5), BERT.public)
    assert not observers.take(word(key=OWN), ANNA.public), "there is nothing new in it"
    later = word(key=OWN, until_ms=NOW + PASS_MS)
    assert observers.take(later, ANNA.public)
    assert not observers.is_late(NOW + PASS_MS - RENEWAL_MS - 1)
    assert observers.is_late(NOW + PASS_MS - RENEWAL_MS)


def test_who_was_invited_and_has_no_pass_yet_needs_one(observers: Observers) -> None:
    observers.host = ANNA.public
    assert observers.is_late(0)


# --- places -------------------------------------------------------------------------------------


def keys_of(observers: Observers, signer: Signer, first: int, count: int) -> list[bytes]:
    keys = [bytes([first + n]) * 32 for n in range(count)]
    for key in keys:
        assert observers.show(word(signer, key=key), key, NOW) == ""
    return keys


def test_a_crowd_of_one_members_guests_takes_no_place_of_anothers(observers: Observers) -> None:
    crowd = keys_of(observers, ANNA, 100, PLACES + 1)
    (guest,) = keys_of(observers, BERT, 50, 1)
    assert observers.who_goes(crowd[0], ()) is None
    assert observers.who_goes(crowd[-1], crowd[: PLACES - 1]) is None
    full = crowd[:PLACES]
    assert observers.who_goes(crowd[-1], full) == crowd[-1]
    assert observers.who_goes(guest, full) == full[-1], "the last that came"
    assert observers.who_goes(full[3], full) is None, "it takes its own place again"
    assert observers.who_goes(crowd[-1], [guest, *full[1:]]) == crowd[-1]


@given(st.lists(st.tuples(st.sampled_from([ANNA, BERT]), st.integers(0, 60)), max_size=200))
def test_of_two_members_each_has_half_of_the_places_if_it_likes(
    comers: list[tuple[Signer, int]],
) -> None:
    observers = Observers(OWN)
    observers.meet((ANNA.public, BERT.public))
    linked: list[bytes] = []
    for signer, number in comers:
        key = bytes([number, signer.public[0]]) * 16
        observers.show(word(signer, key=key), key, NOW)
        leaves = observers.who_goes(key, linked)
        if leaves != key:
            linked = [k for k in linked if k not in (key, leaves)] + [key]
        assert len(linked) <= PLACES
    for signer in (ANNA, BERT):
        came = {n for s, n in comers if s is signer}
        here = [key for key in linked if observers.issuer(key) == signer.public]
        assert len(here) >= min(len(came), PLACES // 2)

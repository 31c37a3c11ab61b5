from __future__ import annotations

import math
import random
from typing import Any

import pytest

from aegis_edge.peers.bans import BAN_TICKS, Ban
from aegis_edge.peers.book import (
    BACKOFF_TICKS,
    BACKOFF_TICKS_MAX,
    DIALS_MAX,
    SIMULTANEOUS_TICKS,
    STEADY_TICKS,
    Book,
    Dial,
)
from aegis_edge.peers.conduct import What
from aegis_edge.wire.messages import NodeRecord, Verified

Record = Verified[NodeRecord]


@pytest.fixture
def pair(make_record: Any) -> tuple[Record, Record]:
    """Two records, that of the lower key first."""
    low, high = sorted((make_record(1), make_record(2)), key=lambda r: r.signer)
    return low, high


def book_of(own: Record, *others: Record, schemes: tuple[str, ...] = ("tcp",)) -> Book:
    return Book(own.signer, [own, *others], schemes)


# --- who is in it -------------------------------------------------------------------------------


def test_it_holds_the_others_in_order(make_record: Any) -> None:
    records = [make_record(seed) for seed in (1, 2, 3)]
    book = book_of(*records)
    assert book.members == tuple(sorted(r.signer for r in records[1:]))
    assert records[1].signer in book
    assert records[0].signer not in book
    assert book[records[1].signer].record == records[1]


def test_a_member_alone_has_nothing_to_do(make_record: Any) -> None:
    book = book_of(make_record(1))
    assert book.dials(0) == ()
    assert book.wake_at is None


@pytest.mark.parametrize(
    "addresses",
    [("nonsense",), ("tcp:a b:1",), ("onion:abc:1",), ("tcp:127.1:1",), ("tcp:a:1", "tcp:A:1")],
)
def test_a_record_with_bad_addresses_is_refused(
    addresses: tuple[str, ...], make_record: Any
) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    assert "is of no use" in book.refusal(make_record(2, version=2, addresses=addresses))


PECULIAR = ("tcp:127.0.0.1:22", "tcp:[::1]:22", "tcp:localhost:22", "tcp:169.254.169.254:80")


@pytest.mark.parametrize("peculiar", [*PECULIAR, "tcp:0.0.0.0:1", "tcp:[ff02::1]:1"])
def test_a_record_that_is_learnt_leads_nobody_to_services_of_its_own(
    peculiar: str, make_record: Any
) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    newer = make_record(2, version=2, addresses=(peculiar, "tcp:192.168.1.20:22"))
    assert book.refusal(newer) == "", "its owner may have erred, and it can call us"
    book.learn(newer)
    assert book.shunned(other.signer) == (peculiar,)
    for now in range(5):
        assert [dial.address for dial in book.dials(now)] == ["tcp:192.168.1.20:22"]
        book.dial_failed(other.signer, now, "no", 0.0)
    book.learn(make_record(2, version=3, addresses=(peculiar,)))
    book.dial_failed(other.signer, 9, "no", 0.0)
    assert book.shunned(other.signer) == (peculiar,)


def test_members_on_one_host_from_the_beginning_may_move_on_it(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, addresses=("tcp:127.0.0.1:1",))
    third = make_record(3)
    book = book_of(own, other, third)
    book.learn(make_record(2, version=2, addresses=("tcp:[::1]:2", "tcp:169.254.1.1:2")))
    assert book.shunned(other.signer) == ("tcp:169.254.1.1:2",)
    book.learn(make_record(3, version=2, addresses=("tcp:127.0.0.1:3",)))
    assert book.shunned(third.signer) == ("tcp:127.0.0.1:3",), "it is not on that host"


def test_what_was_learnt_before_a_restart_is_taken_up_again(make_record: Any) -> None:
    own, old, other = make_record(1), make_record(2), make_record(3, version=7)
    newer = make_record(2, version=5, addresses=("tcp:new:1",))
    learnt = [newer, make_record(3, version=6), make_record(4), make_record(1, version=9)]
    book = Book(own.signer, [own, old, other], ["tcp"], 0, learnt)
    assert book[old.signer].record == newer
    assert book[other.signer].record == other
    assert len(book.members) == 2
    assert "version 5 is known" in book.refusal(make_record(2, version=4))
    assert Dial(old.signer, "tcp:new:1") in book.dials(0)


@pytest.mark.parametrize(("before", "after"), [(("tcp:a:1",), ()), ((), ("tcp:a:1",))])
def test_what_was_learnt_before_a_restart_says_whether_there_is_anything_to_dial(
    before: tuple[str, ...], after: tuple[str, ...], make_record: Any
) -> None:
    own, old = make_record(1), make_record(2, addresses=before)
    learnt = make_record(2, version=2, addresses=after)
    book = Book(own.signer, [own, old], ["tcp"], 0, [learnt])
    assert [dial.address for dial in book.dials(0)] == list(after)


# --- dials ---------------------------------------------------------------------------------------


def test_every_member_is_dialled_at_once_and_only_once(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book = book_of(own, other)
    assert book.wake_at == 0
    assert book.dials(0) == (Dial(other.signer, "tcp:198.51.100.7:8080"),)
    assert book[other.signer].dialing == "tcp:198.51.100.7:8080"
    assert book.dials(10**9) == ()
    assert book.wake_at is None


def test_only_addresses_that_can_be_dialled_are(make_record: Any) -> None:
    own = make_record(1)
    other = make_record(2, addresses=("tcp:h:1",))
    silent = make_record(3, addresses=())
    book = book_of(own, other, silent)
    assert [dial.address for dial in book.dials(0)] == ["tcp:h:1"]
    assert book_of(own, other, silent, schemes=()).dials(0) == ()


def test_failed_dials_wait_ever_longer_up_to_a_bound_and_say_why(
    pair: tuple[Record, Record],
) -> None:
    own, other = pair
    book, now, pauses = book_of(own, other), 0, []
    for _ in range(12):
        assert len(book.dials(now)) == 1
        book.dial_failed(other.signer, now, "nobody there", 1.0)
        assert book[other.signer].last_error == "nobody there"
        assert book.wake_at is not None
        assert book.dials(book.wake_at - 1) == ()
        pauses.append(book.wake_at - now)
        now = book.wake_at
    assert pauses[:4] == [
        2 * BACKOFF_TICKS,
        4 * BACKOFF_TICKS,
        8 * BACKOFF_TICKS,
        16 * BACKOFF_TICKS,
    ]
    assert pauses[-1] == BACKOFF_TICKS_MAX


def test_the_wait_is_anything_from_nothing_to_the_bound(pair: tuple[Record, Record]) -> None:
    own, other = pair
    for jitter, wait in ((0.0, 0), (0.5, BACKOFF_TICKS), (1.0, 2 * BACKOFF_TICKS)):
        book = book_of(own, other)
        book.dials(0)
        book.dial_failed(other.signer, 100, "no", jitter)
        assert book.wake_at == 100 + wait


def test_the_addresses_are_tried_in_turn_and_the_good_one_first(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, addresses=("tcp:a:1", "tcp:b:1", "tcp:c:1"))
    book, now = book_of(own, other), 0
    for address in ("tcp:a:1", "tcp:b:1"):
        assert book.dials(now)[0].address == address
        book.dial_failed(other.signer, now, "no", 0.0)
    assert book.dials(now)[0].address == "tcp:c:1"
    assert book.opened(other.signer, True, now)
    book.closed(other.signer, now + STEADY_TICKS, "cut", 0.0)
    now += STEADY_TICKS
    for address in ("tcp:c:1", "tcp:a:1", "tcp:b:1", "tcp:c:1"):
        assert book.dials(now)[0].address == address
        book.dial_failed(other.signer, now, "no", 0.0)


def test_a_few_dials_at_once_and_members_that_were_good_lately_first(make_record: Any) -> None:
    records = [make_record(seed) for seed in range(1, DIALS_MAX + 4)]
    book = book_of(*records)
    first = book.dials(0)
    assert len(first) == DIALS_MAX
    assert book.wake_at is None, "no room for another dial"
    for dial in first:
        book.dial_failed(dial.peer, 0, "no", 0.0)
    for dial in book.dials(0):
        book.dial_failed(dial.peer, 0, "no", 0.0)
    for age, record in enumerate(records[1:3]):
        assert book.opened(record.signer, False, 100 + age)
        book.closed(record.signer, 200, "cut", 0.0)
    again = [dial.peer for dial in book.dials(200)]
    assert again[:2] == [records[2].signer, records[1].signer]
    assert len(again) == DIALS_MAX


# --- links ---------------------------------------------------------------------------------------


def test_a_linked_member_is_not_dialled(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book = book_of(own, other)
    assert book.opened(other.signer, False, 5)
    assert book.dials(10**9) == ()
    entry = book[other.signer]
    assert entry.link is not None
    assert (entry.link.outbound, entry.link.since_ticks, entry.good_at) == (False, 5, 5)


@pytest.mark.parametrize(("lasted", "wait"), [(STEADY_TICKS, 1), (STEADY_TICKS - 1, 2)])
def test_a_link_that_lasted_starts_the_back_off_anew(
    pair: tuple[Record, Record], lasted: int, wait: int
) -> None:
    own, other = pair
    book = book_of(own, other)
    book.opened(other.signer, False, 0)
    book.closed(other.signer, lasted, "cut", 1.0)
    assert book[other.signer].last_error == "cut"
    assert book.wake_at == lasted + wait * BACKOFF_TICKS


def test_a_member_that_cannot_be_dialled_is_waited_for(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, addresses=())
    book = book_of(own, other)
    book.opened(other.signer, False, 0)
    book.closed(other.signer, 5, "cut", 1.0)
    assert book.wake_at is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_simultaneous_links_both_keep_what_the_lower_key_dialled(
    pair: tuple[Record, Record], order: tuple[int, int]
) -> None:
    low, high = pair
    for own, other in ((low, high), (high, low)):
        book = book_of(own, other)
        book.dials(0)
        # The links come up in this order: the one that low dialled is 0, that of high is 1.
        kept = None
        for link in order:
            outbound = (link == 0) == (own is low)
            if book.opened(other.signer, outbound, 10):
                kept = link
        assert kept == 0
        assert book[other.signer].dialing == ""


def test_of_two_links_one_after_the_other_the_newer_stays(pair: tuple[Record, Record]) -> None:
    low, high = pair
    book = book_of(low, high)
    assert book.opened(high.signer, False, 0)
    assert book.opened(high.signer, False, 1), "the same dialler has lost its older one"
    book = book_of(low, high)
    assert book.opened(high.signer, True, 0)
    assert not book.opened(high.signer, False, SIMULTANEOUS_TICKS), "it may have dialled then too"
    assert book.opened(high.signer, False, SIMULTANEOUS_TICKS + 1), "it cannot know the older one"


def test_a_dial_under_way_is_not_doubled_when_a_link_comes_and_goes(
    pair: tuple[Record, Record],
) -> None:
    low, high = pair
    book = book_of(high, low)
    book.dials(0)
    assert book.opened(low.signer, False, 1)
    assert book[low.signer].dialing
    book.closed(low.signer, 2, "cut", 0.5)
    assert book.dials(10**6) == (), "the first dial still runs"
    book.dial_failed(low.signer, 3, "no", 0.5)
    assert book.wake_at is not None


def test_a_dial_that_fails_beside_an_open_link_is_no_news(pair: tuple[Record, Record]) -> None:
    low, high = pair
    book = book_of(high, low)
    book.dials(0)
    book.opened(low.signer, False, 1)
    book.dial_failed(low.signer, 2, "no", 0.5)
    entry = book[low.signer]
    assert (entry.last_error, entry.dial_at, entry.dialing, entry.tries) == ("", None, "", 0)


# --- records -------------------------------------------------------------------------------------


def test_a_newer_record_is_learnt_with_its_addresses(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, version=4)
    newer = make_record(2, version=5, addresses=("tcp:new:1",))
    book = book_of(own, other)
    for record in (other, newer):
        assert book.refusal(record) == ""
        book.learn(record)
    assert book.dials(0)[0].address == "tcp:new:1"


def test_an_older_record_is_refused_with_the_likely_cause(make_record: Any) -> None:
    book = book_of(make_record(1), make_record(2, version=4))
    assert "restored from an old backup" in book.refusal(make_record(2, version=3))
    with pytest.raises(AssertionError):
        book.learn(make_record(2, version=3))


def test_two_records_with_one_version_are_refused(make_record: Any) -> None:
    book = book_of(make_record(1), make_record(2, version=4))
    assert "key file copied" in book.refusal(make_record(2, version=4, name="other"))


# --- both ends together --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(300))
def test_whatever_order_things_happen_in_both_ends_keep_the_same_link(
    pair: tuple[Record, Record], seed: int
) -> None:
    """Two books, links that come up at each end at any time, and ends that tell each other late."""
    dice, (low, high) = random.Random(seed), pair
    books = {low: book_of(low, high), high: book_of(high, low)}
    other = {low: high, high: low}
    now = 0
    # Each end dials once; a link comes up at its dialler first, at the other end a little later.
    for book in books.values():
        book.dials(now)
    waiting = [(dialler, end) for dialler in pair for end in (dialler, other[dialler])]
    kept: dict[Record, Record | None] = {low: None, high: None}
    dead: set[Record] = set()
    while waiting:
        now += dice.randrange(100)
        dialler, end = dice.choice(waiting)
        if end is not dialler and (dialler, dialler) in waiting:
            continue
        waiting.remove((dialler, end))
        if dialler in dead:
            if end is dialler:
                books[end].dial_failed(other[end].signer, now, "closed", 0.5)
            continue
        before = kept[end]
        if books[end].opened(other[end].signer, dialler is end, now):
            kept[end] = dialler
            if before is not None:
                dead.add(before)
        else:
            dead.add(dialler)
        for gone in dead:
            for side in pair:
                if kept[side] is gone and side is not end:
                    kept[side] = None
                    books[side].closed(other[side].signer, now, "closed by the other end", 0.5)
    assert kept[low] is kept[high] is low


# --- calls ---------------------------------------------------------------------------------------


def test_after_its_second_failed_call_a_member_is_not_heard_for_ever_longer(
    pair: tuple[Record, Record],
) -> None:
    """On average an honest member, which counts the same, waits as long by itself."""
    own, other = pair
    book, now, pauses = book_of(own, other), 1000, []
    for failures in range(1, 12):
        assert book.deaf_ticks(other.signer, now) == 0
        book.call_failed(other.signer, now)
        pauses.append(book.deaf_ticks(other.signer, now))
        assert pauses[-1] <= min(BACKOFF_TICKS_MAX, BACKOFF_TICKS << failures) / 2
        if pauses[-1]:
            assert book.deaf_ticks(other.signer, now + pauses[-1] - 1) == 1
        now += pauses[-1]
    assert pauses[:4] == [0, 2 * BACKOFF_TICKS, 4 * BACKOFF_TICKS, 8 * BACKOFF_TICKS]
    assert pauses[-1] == BACKOFF_TICKS_MAX // 2


@pytest.mark.parametrize(
    ("outbound", "lasted", "deaf"),
    [(False, 0, True), (False, STEADY_TICKS, False), (True, 0, False), (True, STEADY_TICKS, False)],
)
def test_a_short_link_is_a_failed_call_if_it_was_one(
    outbound: bool, lasted: int, deaf: bool, pair: tuple[Record, Record]
) -> None:
    own, other = pair
    book, now = book_of(own, other), 0
    for _ in range(3):
        assert book.opened(other.signer, outbound, now)
        now += lasted
        book.closed(other.signer, now, "cut", 1.0)
    assert (book.deaf_ticks(other.signer, now) > 0) is deaf


@pytest.mark.parametrize(("apart", "deaf"), [(0, True), (STEADY_TICKS, False)])
def test_calls_that_take_each_others_place_count_as_short_links(
    apart: int, deaf: bool, pair: tuple[Record, Record]
) -> None:
    own, other = pair
    book, now = book_of(own, other), 0
    for _ in range(4):
        assert book.opened(other.signer, False, now)
        now += apart
    assert (book.deaf_ticks(other.signer, now) > 0) is deaf


def test_two_links_dialled_at_the_same_moment_are_nobodys_failure(
    pair: tuple[Record, Record],
) -> None:
    low, high = pair
    book = book_of(high, low)
    for now in range(4):
        assert book.opened(low.signer, True, now)
        assert book.opened(low.signer, False, now)
        book.closed(low.signer, now + STEADY_TICKS, "cut", 0.0)
    assert book[low.signer].calls_failed == 0


def test_a_good_link_is_a_new_start(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book = book_of(own, other)
    for _ in range(5):
        book.call_failed(other.signer, 0)
    assert book.opened(other.signer, True, 0)
    book.closed(other.signer, STEADY_TICKS, "cut", 0.0)
    assert book.deaf_ticks(other.signer, 1) == 0
    book.call_failed(other.signer, STEADY_TICKS)
    assert book.deaf_ticks(other.signer, STEADY_TICKS) == 0


# --- who comes and who goes -------------------------------------------------------------------


def test_who_is_admitted_is_dialled_at_once(make_record: Any) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own)
    book.admit(own, 5)
    assert book.members == ()
    book.admit(other, 5)
    assert book.members == (other.signer,)
    assert book.dials(5) == (Dial(other.signer, other.message.addresses[0]),)
    entry = book[other.signer]
    book.admit(other, 9)
    assert book[other.signer] is entry, "it is a member already"


def test_who_is_dismissed_is_not_dialled_and_gets_no_link(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book = book_of(own, other)
    (dial,) = book.dials(0)
    book.dismiss(other.signer)
    assert other.signer not in book
    assert book.members == ()
    assert book.wake_at is None
    assert not book.opened(dial.peer, True, 1), "it was on its way"
    book.dial_failed(other.signer, 2, "refused", 0.5)
    assert book.dials(10**9) == ()
    assert not book.opened(other.signer, False, 3)


def test_the_end_of_a_link_to_who_was_dismissed_brings_no_dial(
    pair: tuple[Record, Record],
) -> None:
    own, other = pair
    book = book_of(own, other)
    book.dials(0)
    assert book.opened(other.signer, True, 1)
    book.dismiss(other.signer)
    book.closed(other.signer, 5, "it is no member any more", 0.5)
    assert book.wake_at is None


def test_who_comes_back_is_known_by_the_newest_record(make_record: Any) -> None:
    own, other = make_record(1), make_record(2)
    newer = make_record(2, version=2, addresses=("tcp:192.0.2.9:1",))
    book = book_of(own, other)
    book.dials(0)
    assert book.opened(other.signer, True, 1)
    book.learn(newer)
    book.dismiss(other.signer)
    book.admit(other, 2)
    entry = book[other.signer]
    assert entry.record == newer
    assert entry.link is not None, "the old one is still there"
    assert book.wake_at is None
    book.closed(other.signer, 3, "gone", 0.0)
    assert book.dials(3) == (Dial(other.signer, "tcp:192.0.2.9:1"),)


def test_the_noise_key_of_a_member_stays_what_it_was_let_in_with(make_record: Any) -> None:
    """Each change of it would have all others take their onion services down and announce them."""
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    for version in (1, 2, 3):
        changed = make_record(2, version=version, noise=bytes([version]) * 32)
        assert "another Noise key than it was let in with" in book.refusal(changed)
        assert not book.introduced(changed, version)
    assert book[other.signer].record == other
    learnt = Book(own.signer, [own, other], ("tcp",), 0, [changed])
    assert learnt[other.signer].record == other, "nor by what is on the disk"
    assert book.introduced(make_record(2, version=4), 4)


def test_who_comes_back_with_other_keys_is_known_by_those(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, version=7)
    book = book_of(own, other)
    book.dismiss(other.signer)
    again = make_record(2, version=1, noise=b"n" * 32)
    book.admit(again, 2)
    assert book[other.signer].record == again
    assert not book.refusal(make_record(2, version=2, noise=b"n" * 32))


def test_who_calls_and_is_admitted_without_an_address_is_waited_for(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, addresses=())
    book = book_of(own)
    book.admit(other, 0)
    assert book.wake_at is None
    assert book.opened(other.signer, False, 1)


# --- what others tell ----------------------------------------------------------------------------


def test_a_newer_record_that_somebody_hands_on_is_news_once(make_record: Any) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    book.dials(0)
    book.dial_failed(other.signer, 0, "no", 1.0)
    newer = make_record(2, version=2, addresses=("tcp:198.51.100.9:1",))
    assert book.news(own.signer) == ()
    assert book.introduced(newer, 5)
    assert not book.introduced(newer, 6)
    assert not book.introduced(other, 6), "an old one"
    assert book[other.signer].record == newer
    assert book.dials(5) == (Dial(other.signer, "tcp:198.51.100.9:1"),), "it is tried at once"
    assert book.news(own.signer) == (newer,)
    assert book.news(other.signer) == (), "which knows it"


def test_what_is_handed_on_of_strangers_of_oneself_or_with_one_version_is_none(
    make_record: Any,
) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    assert not book.introduced(make_record(3), 0)
    assert not book.introduced(make_record(1, version=9), 0)
    assert not book.introduced(make_record(2, name="another"), 0)
    assert book[other.signer].record == other


def test_news_without_a_new_address_hurries_nobody(make_record: Any) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    book.dials(0)
    book.dial_failed(other.signer, 0, "no", 1.0)
    due = book.wake_at
    assert book.introduced(make_record(2, version=2, name="barn"), 1)
    assert book.wake_at == due
    book.hasten(other.signer, 1)
    assert book.wake_at == 1


def test_whoever_is_linked_or_gone_is_not_hastened(make_record: Any) -> None:
    own, other = make_record(1), make_record(2)
    book = book_of(own, other)
    book.dials(0)
    assert book.opened(other.signer, True, 0)
    book.hasten(other.signer, 1)
    assert book.dials(1) == ()
    book.closed(other.signer, 2, "gone", 0.0)
    assert book.introduced(make_record(2, version=2), 2)
    book.dismiss(other.signer)
    assert book.news(own.signer) == ()
    book.admit(make_record(2, version=2), 3)
    assert book.news(own.signer) == (), "all know what it came with"


def test_a_member_is_found_by_its_address(make_record: Any) -> None:
    own, other = make_record(1), make_record(2, addresses=("tcp:198.51.100.7:1", "tcp:b:2"))
    book = book_of(own, other)
    assert book.at("tcp:b:2") == other.signer
    assert book.at("tcp:c:2") is None


# --- conduct ---------------------------------------------------------------------------------


def test_the_score_says_what_the_links_were_like(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book, peer = book_of(own, other), other.signer
    book.dials(0)
    book.dial_failed(peer, 1, "nobody there", 0.0)
    assert (book.conduct(peer, 1).last, book.conduct(peer, 1).last_ticks) == ("a dial failed", 1)
    assert book.conduct(peer, 1).score(1) == 45
    book.dials(1)
    book.dial_failed(peer, 2, "it said nothing", 0.0, What.SILENT)
    assert book.conduct(peer, 2).score(2) == 35
    assert book.opened(peer, False, 3)
    assert book.conduct(peer, 3).last == "it was linked"
    assert book.conduct(peer, 2 + STEADY_TICKS).score(3) == 35, "it may break at once"
    assert book.conduct(peer, 3 + STEADY_TICKS).score(3) == 60
    book.closed(peer, 3 + STEADY_TICKS, "cut", 0.0)
    assert book.conduct(peer, 9).score(3 + STEADY_TICKS) == 55
    assert book.conduct(peer, 9).last == "its link ended"
    book.call_failed(peer, 4 + STEADY_TICKS)
    assert book.conduct(peer, 9).score(4 + STEADY_TICKS) == 45
    assert book.conduct(peer, 9).last == "a call of its was refused"


def test_members_that_were_good_are_tried_before_those_that_were_not(make_record: Any) -> None:
    """However lately one was linked that speaks nonsense."""
    own, *others = sorted((make_record(seed) for seed in (1, 2, 3, 4)), key=lambda r: r.signer)
    bad, unknown, good = (record.signer for record in others)
    book = book_of(own, *others)
    assert book.opened(good, False, 0)
    book.closed(good, STEADY_TICKS, "cut", 0.0)
    assert book.opened(bad, False, STEADY_TICKS + 1)
    book.closed(bad, STEADY_TICKS + 2, "noise", 0.0, What.GARBAGE)
    assert [dial.peer for dial in book.dials(STEADY_TICKS + 2)] == [good, unknown, bad]


# --- bans ------------------------------------------------------------------------------------


@pytest.fixture
def four(make_record: Any) -> tuple[Book, list[bytes]]:
    """The book of a member of four, where three are a quorum, and the others."""
    records = [make_record(seed) for seed in (1, 2, 3, 4)]
    book = book_of(*records)
    book.quorum = 3
    return book, [record.signer for record in records[1:]]


def test_wrong_twice_and_it_is_kept_out_while_a_quorum_is_linked_without_it(
    four: tuple[Book, list[bytes]],
) -> None:
    book, (liar, second, third) = four
    for peer in (liar, second, third):
        assert book.opened(peer, True, 0)
    book.closed(liar, 1, "noise", 0.0, What.WRONG)
    assert book.barred(liar, 1) is None, "the first costs the link alone"
    assert book.dials(1) == (Dial(liar, "tcp:198.51.100.7:8080"),)
    assert book.opened(liar, True, 1)
    book.closed(liar, 2, "noise", 0.0, What.WRONG)
    ban = book.barred(liar, 2)
    assert ban == Ban(2 + BAN_TICKS, "noise")
    assert book.dials(1 + BAN_TICKS) == ()
    assert book.wake_at == 2 + BAN_TICKS
    assert [dial.peer for dial in book.dials(2 + BAN_TICKS)] == [liar]
    assert book.barred(liar, 2 + BAN_TICKS) is None


def test_who_is_needed_for_a_quorum_gets_its_link_whatever_it_did(
    four: tuple[Book, list[bytes]],
) -> None:
    book, (liar, second, third) = four
    book.dials(0)
    for peer in (liar, second, third):
        assert book.opened(peer, True, 0)
    book.contradicted(liar, 1, "two votes")
    assert book.barred(liar, 1) == Ban(1 + BAN_TICKS, "two votes")
    assert book.conduct(liar, 1).score(1) == 0
    book.closed(liar, 1, "kept out", 0.0)
    assert book.dials(1) == ()
    book.closed(third, 2, "crashed", 1.0)
    assert book.barred(liar, 2) is None
    assert [dial.peer for dial in book.dials(2)] == [liar]
    assert book.opened(liar, True, 3)
    assert book.opened(third, False, 4)
    assert book[liar].link is not None, "nobody ends it for what was before"
    book.dismiss(third)
    assert book.barred(liar, 4) is None, "who is no member counts for no quorum"


def test_alone_nobody_is_kept_out_of_two(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book = book_of(own, other)
    book.quorum = 2
    book.contradicted(other.signer, 0, "two votes")
    assert book.barred(other.signer, 0) is None


def test_strangers_contradict_nobody_but_the_owner_may_keep_them_out(
    pair: tuple[Record, Record], make_record: Any
) -> None:
    own, other = pair
    book, stranger = book_of(own, other), make_record(9).signer
    book.contradicted(stranger, 0, "two votes")
    assert book.barred(stranger, 0) is None
    book.bans.ban(stranger, math.inf)
    assert book.barred(stranger, 10**12) == Ban(math.inf, by_hand=True)


def test_whom_the_owner_keeps_out_is_never_dialled(pair: tuple[Record, Record]) -> None:
    own, other = pair
    book = book_of(own, other)
    book.quorum = 2
    book.bans.ban(other.signer, math.inf)
    assert book.dials(10**12) == ()
    assert book.wake_at is None
    book.bans.lift(other.signer)
    assert book.wake_at == 0
    assert [dial.peer for dial in book.dials(0)] == [other.signer]


# --- who is no member ---------------------------------------------------------------------------


def test_an_observer_may_link_and_is_dialled_only_if_it_is_wanted(make_record: Any) -> None:
    own, member, observer = (make_record(seed) for seed in (1, 2, 3))
    book = book_of(own, member)
    assert book.refusal(observer) == ""
    assert "is of no use" in book.refusal(make_record(3, addresses=("nonsense",)))
    book.vouch(observer, 0)
    book.vouch(own, 0)
    key = observer.signer
    assert (key in book, book.is_member(key), book.is_member(member.signer)) == (True, False, True)
    assert (book.members, book.observers) == ((member.signer,), (key,))
    assert [dial.peer for dial in book.dials(0)] == [member.signer]
    assert (book.wake_at, book.is_wanted(key)) == (None, False)
    book.want(frozenset((key,)))
    assert (book.wake_at, book.is_wanted(key), book.is_wanted(member.signer)) == (0, True, False)
    assert book.dials(0) == (Dial(key, "tcp:198.51.100.7:8080"),)
    book.dial_failed(key, 0, "nobody answers", 0.5)
    assert book[key].last_error == "nobody answers"
    book.vouch(make_record(3, version=7), 0)
    assert book[key].record == observer, "newer records are for `introduced`"
    assert book.opened(key, False, 10)
    assert book.news(own.signer) == ()


def test_of_an_observer_nothing_stays_once_nobody_vouches_for_it(make_record: Any) -> None:
    own, observer, other = (make_record(seed) for seed in (1, 2, 3))
    book = book_of(own)
    for record in (observer, other):
        book.vouch(record, 0)
    assert book.opened(observer.signer, False, 0)
    book.bans.offence(other.signer, "noise", 0, contradicts=True)
    book.bans.ban(other.signer, 9.0)
    for record in (observer, other):
        book.disown(record.signer)
    assert book.observers == ()
    assert book.sweep() == [other.signer], "the first still has its link"
    assert book.bans.of(other.signer, is_needed=False) == Ban(9.0, by_hand=True)
    assert not book.opened(observer.signer, False, 5)
    book.closed(observer.signer, 10, "it went", 0.5)
    assert book.sweep() == [observer.signer]
    assert book.sweep() == []
    with pytest.raises(KeyError):
        book[other.signer]


def test_an_observer_that_is_let_in_keeps_its_link_and_a_member_that_goes_is_none(
    make_record: Any,
) -> None:
    own, newcomer = make_record(1), make_record(2)
    book = book_of(own)
    book.vouch(newcomer, 0)
    key = newcomer.signer
    assert book.opened(key, False, 0)
    book.admit(newcomer, 5)
    assert book.is_member(key) and book[key].link is not None
    assert book.observers == ()
    book.dismiss(key)
    assert (key in book, book.observers) == (False, ())
    book.closed(key, 9, "it goes", 0.5)
    assert book.sweep() == [], "what it has shown as a member is remembered"
    book.vouch(newcomer, 10)
    assert book.observers == (key,)

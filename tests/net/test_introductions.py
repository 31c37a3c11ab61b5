"""Who moved is found again, if anybody whom both know could be reached."""

from __future__ import annotations

import logging
import math

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.introductions import RECORD, SPAN_TICKS, SPARE, Introductions, Surplus, word
from aegis_edge.net.links import LinkClosed, LinkOpened, Links
from tests.net.network import Member, MemoryNetwork, cluster, next_event, running, send, until

# --- the word ------------------------------------------------------------------------------------


def test_a_word_hands_an_envelope_on() -> None:
    told = Introductions(0)
    assert told.hear(word(b"envelope"), 1, 0) == b"envelope"
    assert told.hear(b"\x01envelope", 1, 0) is None
    assert told.hear(b"", 1, 0) is None


def test_a_link_tells_of_everybody_and_a_few_more_and_then_seldom() -> None:
    told = Introductions(1_000)
    for _ in range(3 + SPARE):
        assert told.hear(RECORD, 3, 1_000) == b""
    for _ in range(2):
        with pytest.raises(Surplus):
            told.hear(RECORD, 3, 1_000 + SPAN_TICKS - 1)
    later = Introductions(0)
    for _ in range(SPARE):
        assert later.hear(word(b"one"), 0, 0) == b"one"
    for at in range(1, 100):
        assert later.hear(word(b"one"), 0, at * SPAN_TICKS) == b"one"
        with pytest.raises(Surplus):
            later.hear(word(b"two"), 0, at * SPAN_TICKS)


def test_the_newest_record_of_each_is_told_once_a_span() -> None:
    told = Introductions(500)
    assert (told.due(3, 500), told.wake_at(3)) == ([], math.inf)
    told.tell(b"one", b"1")
    told.tell(b"two", b"1")
    assert told.due(3, 600) == [word(b"1")] * 2
    told.tell(b"one", b"2")
    told.tell(b"one", b"3")
    assert (told.due(3, 600 + SPAN_TICKS - 1), told.wake_at(3)) == ([], 600 + SPAN_TICKS)
    assert told.due(3, 600 + SPAN_TICKS) == [word(b"3")]


def test_however_many_have_newer_records_no_more_is_told_than_is_heard() -> None:
    """By an end whose link began later, and so counts fewer spans."""
    teller, hearer = Introductions(0), Introductions(5)
    told, members = 0, 30
    for now in range(0, 40 * SPAN_TICKS, SPAN_TICKS // 2):
        for third in range(members):
            teller.tell(bytes([third]), b"%d" % now)
        for said in teller.due(members, now):
            assert hearer.hear(said, members, max(now, 5))
            told += 1
        assert teller.wake_at(members) > now
    assert told == members + SPARE - 1 + 39


# --- links ---------------------------------------------------------------------------------------


def everybody(network: MemoryNetwork, members: list[Member]) -> list[tuple[Links, list[str]]]:
    records = [member.record for member in members]
    return [(m.links(records, {"tcp": network}), [f"tcp:board{m.seed}:1"]) for m in members]


def addresses(links: Links, member: Member) -> tuple[str, ...]:
    (seen,) = (s for s in links.statistics() if s.peer == member.key)
    return seen.addresses


async def test_two_who_moved_at_once_find_each_other_through_a_third(
    autojump_clock: MockClock,
) -> None:
    members = cluster(1, 2, 3)
    one, two, third = members
    before = [member.record for member in members]
    network = MemoryNetwork()
    stays = third.links(before, {"tcp": network})
    async with running((stays, [f"tcp:board{third.seed}:1"])):
        one.record, two.record = one.says(("tcp:hill:1",), 2), two.says(("tcp:dale:1",), 2)
        first = one.links([one.record, *before[1:]], {"tcp": network})
        second = two.links([before[0], two.record, before[2]], {"tcp": network})
        async with running((first, ["tcp:hill:1"]), (second, ["tcp:dale:1"])):
            linked = set()
            with trio.fail_after(5):
                while linked != {two.key, third.key}:
                    linked.add((await until(first, LinkOpened)).peer)
            assert addresses(first, two) == ("tcp:dale:1",)
            assert addresses(second, one) == ("tcp:hill:1",)


async def test_whoever_comes_later_hears_what_changed_while_it_was_away(
    autojump_clock: MockClock,
) -> None:
    members = cluster(1, 2, 3)
    one, two, third = members
    before = [member.record for member in members]
    network = MemoryNetwork()
    stays = third.links(before, {"tcp": network})
    kept: list[bytes] = []
    async with running((stays, [f"tcp:board{third.seed}:1"])):
        two.record = two.says(("tcp:dale:1",), 2)
        gone = two.links(before, {"tcp": network})
        async with running((gone, [])):
            await until(stays, LinkOpened)
        late = one.links(before, {"tcp": network})
        late.learnt = lambda record: kept.append(record.raw)
        async with running((late, [])):
            await until(late, LinkOpened)
            with trio.fail_after(5):
                while not kept:
                    await trio.sleep(0.1)
            assert kept == [two.record.raw]
            assert addresses(late, two) == ("tcp:dale:1",)
            assert addresses(late, third) == third.record.message.addresses


async def test_what_is_old_or_of_nobody_is_passed_over_and_what_is_no_record_ends_the_link(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    members = cluster(1, 2, 3)
    one, _, third = members
    stranger = Member(9, ("tcp:board9:1",))
    network = MemoryNetwork()
    (first, at_first), (second, at_second), _ = everybody(network, members)
    async with running((first, at_first), (second, at_second)):
        await until(first, LinkOpened)
        await until(second, LinkOpened)
        forged = bytearray(third.says(("tcp:trap:1",), 9).raw)
        for record in (stranger.record, third.record, one.record, third.says((), 0)):
            send(second, one.key, word(record.raw))
        await trio.sleep(1)
        assert addresses(first, third) == third.record.message.addresses
        assert "told of" not in caplog.text
        forged[-1] ^= 1
        send(second, one.key, word(bytes(forged)))
        assert "is no record" in (await until(first, LinkClosed)).reason
        assert addresses(first, third) == third.record.message.addresses


async def test_a_member_that_is_waited_for_can_be_dialled_at_once(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    links = one.links([two.record], {"tcp": network})
    async with running((links, [])):
        await trio.sleep(1_000)
        tried = len(network.dials)
        (address,) = two.record.message.addresses
        assert links.dial(address) == two.key
        await trio.sleep(0.01)
        assert len(network.dials) == tried + 1
        assert links.dial("tcp:nowhere:1") is None


async def test_a_member_with_ever_newer_records_ends_no_link_of_two_others(
    autojump_clock: MockClock,
) -> None:
    members = cluster(1, 2, 3, 4)
    *honest, restless = members
    network = MemoryNetwork()
    records = [member.record for member in members]
    links = [member.links(records, {"tcp": network}) for member in honest]
    ended: list[str] = []

    async def watch(each: Links) -> None:
        while True:
            event = await next_event(each)
            if type(event) is LinkClosed and event.peer != restless.key:
                ended.append(event.reason)

    rest = [(each, [f"tcp:board{m.seed}:1"]) for each, m in zip(links, honest, strict=True)]
    async with trio.open_nursery() as nursery, running(*rest):
        for each in links:
            nursery.start_soon(watch, each)
        await trio.sleep(30)
        for version in range(2, 2 * (len(members) + SPARE)):
            place = f"tcp:board{restless.seed}:{version}"
            restless.record = restless.says((place,), version)
            moving = restless.links([*records[:3], restless.record], {"tcp": network})
            async with running((moving, [])):
                await trio.sleep(10.2)
        assert ended == []
        await trio.sleep(2 * SPAN_TICKS / 1000)
        assert {addresses(each, restless) for each in links} == {(place,)}
        nursery.cancel_scope.cancel()

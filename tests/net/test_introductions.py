"""Who moved is found again, if anybody whom both know could be reached."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.channel import LinkError
from aegis_edge.net.introductions import RECORD, SPAN_TICKS, SPARE, Introductions, word
from aegis_edge.net.links import LinkClosed, LinkOpened, Links
from tests.net.network import Member, MemoryNetwork, cluster, running, send, until

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
    with pytest.raises(LinkError, match="again and again"):
        told.hear(RECORD, 3, 1_000 + SPAN_TICKS - 1)
    later = Introductions(0)
    for _ in range(SPARE):
        later.hear(RECORD, 0, 0)
    for at in range(100):
        assert later.hear(RECORD, 0, (at + 1) * SPAN_TICKS) == b""


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

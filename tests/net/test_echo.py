"""The way of a link, measured anew: by questions that nobody can answer before they come."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.echo import ANSWER, NONCE_BYTES, QUESTION, TRIPS, Echo
from aegis_edge.net.links import LinkOpened, Links, Measured, Schedule
from aegis_edge.wire.messages import Commit
from aegis_edge.wire.session import CELL_CAPACITY_BYTES, CELL_FRAME_BYTES
from tests.net.network import (
    MemoryChannel,
    MemoryNetwork,
    cluster,
    next_event,
    running,
    send,
    until,
)

PAUSE = 1_000


def dice(size: int) -> bytes:
    return bytes(range(1, size + 1))


def asked(echo: Echo, now_ticks: int) -> bytes:
    (question,) = echo.say(now_ticks, dice)
    assert question == QUESTION + dice(NONCE_BYTES)
    return question


def answer(question: bytes) -> bytes:
    echo = Echo(1, 0, PAUSE)
    assert echo.hear(question, 0)
    assert echo.is_owing
    (said,) = echo.say(0, dice)
    assert not echo.is_owing
    return said


def test_one_question_at_a_time_each_after_a_pause() -> None:
    echo = Echo(70, 100, PAUSE)
    assert echo.round_trip_ticks == 70
    assert echo.say(100 + PAUSE - 1, dice) == []
    question = asked(echo, 100 + PAUSE)
    assert echo.say(100 + 9 * PAUSE, dice) == [], "it is not answered yet"
    assert echo.hear(answer(question), 130 + PAUSE)
    assert echo.round_trip_ticks == 30
    assert echo.say(100 + 2 * PAUSE - 1, dice) == []
    asked(echo, 100 + 2 * PAUSE)


def test_a_way_that_got_longer_is_known_when_all_came_over_it() -> None:
    echo, now = Echo(50, 0, PAUSE), 0
    for trip in range(TRIPS):
        assert echo.round_trip_ticks == 50
        now += PAUSE
        echo.hear(answer(asked(echo, now)), now + 500 + trip)
    assert echo.round_trip_ticks == 500, "the shortest of them"


def test_nobody_answers_what_was_not_asked_or_twice() -> None:
    echo = Echo(50, 0, PAUSE)
    forged = ANSWER + bytes(NONCE_BYTES)
    assert echo.hear(forged, 1)
    question = asked(echo, PAUSE)
    assert echo.hear(forged, PAUSE + 1)
    assert echo.hear(answer(question), PAUSE + 60)
    assert echo.hear(answer(question), PAUSE + 1)
    assert echo.hear(ANSWER, PAUSE + 1) is False
    assert echo.round_trip_ticks == 50


def test_of_many_questions_the_last_is_answered_and_all_in_one_frame() -> None:
    echo = Echo(50, 0, PAUSE)
    for number in range(5):
        assert echo.hear(QUESTION + bytes([number]) * NONCE_BYTES, 0)
    said = echo.say(PAUSE, dice)
    assert said == [ANSWER + b"\4" * NONCE_BYTES, QUESTION + dice(NONCE_BYTES)]


def test_a_message_is_no_word(member_message: bytes) -> None:
    assert not Echo(1, 0, PAUSE).hear(member_message, 0)
    assert not Echo(1, 0, PAUSE).hear(QUESTION + bytes(NONCE_BYTES + 1), 0)
    assert not Echo(1, 0, PAUSE).hear(b"\2" + bytes(NONCE_BYTES), 0)


@pytest.fixture
def member_message() -> bytes:
    (one,) = cluster(1)
    return one.signer.sign(Commit(0, 0, 1, bytes(32), 5)).raw


# --- over links ---


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


async def listen(links: Links, found: list[int]) -> None:
    """Note what a node measures, for as long as it is let."""
    while True:
        event = await next_event(links)
        if type(event) is Measured:
            found.append(event.round_trip_ticks)


@pytest.mark.parametrize("schedule", [None, Schedule(0.5)])
async def test_a_link_follows_a_way_that_changes(
    schedule: Schedule | None, autojump_clock: MockClock
) -> None:
    one, two = cluster(1, 2)
    one.record = one.says((), 1)
    delay_s = 0.1
    network = MemoryNetwork(lambda: delay_s)
    options = {"schedule": schedule, "jitter": lambda: 0.5}
    first = one.links([two.record], {"tcp": network}, entropy=seeded(1), **options)
    second = two.links([one.record], {"tcp": network}, entropy=seeded(2), **options)
    found: list[int] = []
    async with running((first, []), (second, [f"tcp:board{two.seed}:1"])):
        assert (await until(first, LinkOpened)).round_trip_ticks == pytest.approx(200, abs=2)
        for delay_s in (1.5, 0.05):
            with trio.move_on_after(1_500):
                await listen(first, found)
            (peer,) = first.statistics()
            assert peer.rtt_ms == found[-1]
            # On a schedule the answer waits for its turn, which is after the frame before it.
            turn = 0 if schedule is None else 1_000 * delay_s + 200
            assert 2_000 * delay_s <= found[-1] <= 2_000 * delay_s + turn + 5


async def test_who_measures_adds_no_frame_to_a_schedule_and_costs_little_room(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    one.record = one.says((), 1)
    network = MemoryNetwork()
    links = [
        member.links(
            [other.record], {"tcp": network}, schedule=Schedule(1.0), entropy=seeded(member.seed)
        )
        for member, other in ((one, two), (two, one))
    ]
    first, second = links
    found: list[int] = []
    async with running((first, []), (second, [f"tcp:board{two.seed}:1"])):
        await until(first, LinkOpened)
        (channel,) = [c for c in network.channels if c.remote == f"tcp:board{two.seed}:1"]
        channel._out.seen.clear()
        chance = random.Random(1)
        for _ in range(600):  # each fills a cell: nothing could take more room than here
            send(first, two.key, b"\x80" + chance.randbytes(CELL_CAPACITY_BYTES - 5))
        with trio.move_on_after(500):
            await listen(first, found)
        assert {size for _, size in channel._out.seen} == {CELL_FRAME_BYTES}
        (peer,) = first.statistics()
        assert len(found) > 3, "it measures while it has much to say"
        assert peer.traffic.messages_out > 0.9 * peer.traffic.frames_out
        assert max(found) < 4_000


async def test_where_the_transport_measures_nothing_is_asked(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    one.record = one.says((), 1)
    network = Counting(lambda: 0.1)
    found: list[int] = []
    first = one.links([two.record], {"tcp": network})
    second = two.links([one.record], {"tcp": network})
    async with running((first, []), (second, [f"tcp:board{two.seed}:1"])):
        await until(first, LinkOpened)
        network._delays = lambda: 0.5
        with trio.move_on_after(3_000):
            await listen(first, found)
        assert found == []
        for links in (first, second):
            (peer,) = links.statistics()
            assert peer.rtt_ms == 7.5


class Counting(MemoryNetwork):
    """A transport that knows its way."""

    async def dial(self, address: str) -> MemoryChannel:
        channel = await super().dial(address)
        for end in self.channels:
            end.rtt_ms = 7.5
        return channel

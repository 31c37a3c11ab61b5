"""Links on a schedule: what an observer of the line sees is the same whatever is said."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.links import Arrived, LinkOpened, Links, Schedule
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.wire.messages import MESSAGE_BYTES_MAX
from aegis_edge.wire.session import CELL_FRAME_BYTES
from tests.net.network import MemoryNetwork, cluster, running, until

SECONDS = 600


def dice(seed: int) -> Callable[[int], bytes]:
    """Random bytes, for each size a sequence of its own, so that one cannot shift another."""
    sources: dict[int, random.Random] = {}
    return lambda size: sources.setdefault(size, random.Random(seed + size)).randbytes(size)


async def watched(
    say: Callable[[Links, bytes, int], object], *, mean_interval_s: float = 0.5
) -> tuple[list[tuple[float, int]], list[bytes]]:
    """What is seen from one member to another in `SECONDS`, and what arrives there."""
    one, two = cluster(1, 2)
    one.record = one.says((), 1)
    network = MemoryNetwork()
    schedule = Schedule(mean_interval_s)
    first = one.links([two.record], {"tcp": network}, schedule=schedule, entropy=dice(1))
    second = two.links([one.record], {"tcp": network}, schedule=schedule, entropy=dice(2))
    async with running((first, []), (second, [f"tcp:board{two.seed}:1"])):
        await until(first, LinkOpened)
        (channel,) = [c for c in network.channels if c.remote == f"tcp:board{two.seed}:1"]
        channel._out.seen.clear()
        start = trio.current_time()
        for number in range(SECONDS):
            say(first, two.key, number)
            first.flush()
            await trio.sleep_until(start + number + 1)
        seen = [(round(at - start, 6), size) for at, size in channel._out.seen]
        await trio.sleep(300)
        heard = []
        with trio.move_on_after(1):
            while True:
                heard.append((await until(second, Arrived)).raw)
        (statistics_,) = first.statistics()
        assert statistics_.state == "linked"
    return seen, heard


def nothing(links: Links, peer: bytes, number: int) -> None:
    pass


def now_and_then(links: Links, peer: bytes, number: int) -> None:
    if number % 7 == 0:
        links.post(peer, b"%d" % number + bytes(number))


def as_much_as_goes(links: Links, peer: bytes, number: int) -> None:
    for _ in range(20):
        links.post(peer, bytes(300))


def one_that_is_huge(links: Links, peer: bytes, number: int) -> None:
    if number == 0:
        links.post(peer, bytes(MESSAGE_BYTES_MAX))


async def test_what_is_seen_does_not_depend_on_what_is_said(autojump_clock: MockClock) -> None:
    idle, _ = await watched(nothing)
    some, heard = await watched(now_and_then)
    full, _ = await watched(as_much_as_goes)
    assert idle == some == full, "the same sizes at the same times, to the microsecond"
    assert {size for _, size in idle} == {CELL_FRAME_BYTES}
    assert heard == [b"%d" % n + bytes(n) for n in range(0, SECONDS, 7)], "whole, in order"


async def test_what_waits_for_its_turn_does_not_wait_twice(autojump_clock: MockClock) -> None:
    long, short = bytes(5_000), b"short"

    def say_again(links: Links, peer: bytes, number: int) -> None:
        if number in (0, 1, 2):  # the long one is on its way for seconds, and the other behind it
            links.post(peer, long)
            links.post(peer, short)
        if number == 300:
            links.post(peer, short)

    _, heard = await watched(say_again)
    assert heard == [long, short, short], "but once more when it has gone"


async def test_frames_are_a_poisson_process(autojump_clock: MockClock) -> None:
    seen, _ = await watched(nothing)
    pauses = [b[0] - a[0] for a, b in itertools.pairwise(seen)]
    assert len(seen) == pytest.approx(SECONDS / 0.5, rel=0.1)
    # Of an exponential distribution the mean is the deviation, and 1 - 1/e are below the mean.
    assert statistics.stdev(pauses) == pytest.approx(0.5, rel=0.12)
    assert sum(p < 0.5 for p in pauses) / len(pauses) == pytest.approx(0.632, abs=0.04)


@pytest.mark.parametrize("level", [SecurityLevel.HIGH, SecurityLevel.PARANOID])
async def test_a_link_keeps_its_budget_whatever_waits(
    level: SecurityLevel, autojump_clock: MockClock
) -> None:
    shape = levels.TABLE[level].shape
    assert shape.mean_interval_s is not None
    seen, _ = await watched(one_that_is_huge, mean_interval_s=shape.mean_interval_s)
    one_way = levels.line_bytes(len(seen), sum(size for _, size in seen))
    # Of a Poisson process the deviation is the root of the mean, and 4 of them are beyond chance.
    chance = 4 * (shape.mean_interval_s / SECONDS) ** 0.5
    budget = shape.link_bytes_a_day / 2 * SECONDS / levels.SECONDS_A_DAY
    assert one_way == pytest.approx(budget, rel=chance)


async def test_a_node_that_was_late_does_not_make_up_for_it(autojump_clock: MockClock) -> None:
    """Frames that a stalled line held up do not follow each other at once."""
    one, two = cluster(1, 2)
    one.record = one.says((), 1)
    stall = 0.0
    network = MemoryNetwork(lambda: stall)
    options = {"schedule": Schedule(0.5)}
    first = one.links([two.record], {"tcp": network}, **options)
    second = two.links([one.record], {"tcp": network}, **options)
    async with running((first, []), (second, [f"tcp:board{two.seed}:1"])):
        await until(first, LinkOpened)
        (channel,) = [c for c in network.channels if c.remote == f"tcp:board{two.seed}:1"]
        stall = 20.0
        await trio.sleep(1)
        stall = 0.0
        await trio.sleep(19)
        channel._out.seen.clear()
        await trio.sleep(10)
        assert len(channel._out.seen) < 45

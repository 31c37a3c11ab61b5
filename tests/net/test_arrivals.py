"""Who may come in, over the direct transport; who has to go when there is no room."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from aegis_edge.net import websocket
from aegis_edge.net.arrivals import OPENING_TIMEOUT_S, Arrivals
from aegis_edge.net.channel import Channel, Goodbye, LinkError
from aegis_edge.net.direct import SILENCE_S, Direct
from aegis_edge.net.websocket import LINGER_S
from tests.net.test_direct import echo, gone, serving


async def test_one_stranger_too_many_costs_its_own_kind_a_place() -> None:
    async with serving(Direct(arrivals=Arrivals(SILENCE_S, unproven_max=2)), echo) as place:
        opened = [await place.dial() for _ in range(2)]
        silent = [await place.raw() for _ in range(20)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sum([await gone(stream, 0.01) for stream in silent]) == 18
        for channel in opened:
            await channel.send([b"x"])
            assert await channel.receive() == b"x"


async def test_who_says_nothing_is_left_after_a_moment_and_who_is_slow_is_not() -> None:
    async with serving(Direct(arrivals=Arrivals(0.05)), echo) as place:
        silent, slow = await place.raw(), await place.raw()
        await slow.send_all(b"G")
        assert await gone(silent, 5)
        assert not await gone(slow, 0.01)
    assert SILENCE_S < OPENING_TIMEOUT_S / 5


async def test_who_has_to_go_gets_no_time_to_linger() -> None:
    async def linger(channel: Channel) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await channel.aclose(Goodbye.GOING_AWAY)
            ended.append(trio.current_time() - start)

    ended: list[float] = []
    async with serving(Direct(arrivals=Arrivals(SILENCE_S, unproven_max=1)), linger) as place:
        start = trio.current_time()
        for _ in range(4):
            await place.dial()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(ended) == 3
        assert max(ended) < LINGER_S


async def test_who_has_proven_itself_takes_no_room_of_strangers() -> None:
    async def trust(channel: Channel) -> None:
        channel.proven()
        await echo(channel)

    async with serving(Direct(arrivals=Arrivals(SILENCE_S, unproven_max=1)), trust) as place:
        channels = [await place.dial() for _ in range(3)]
        for channel in channels:
            await channel.send([b"x"])
            assert await channel.receive() == b"x"


# --- members who knock ---------------------------------------------------------------------------


def whose(knock: bytes) -> bytes | None:
    return knock if knock.startswith(b"member") else None


@pytest.mark.parametrize("crowds", [b"", b"nobody", b"member's, hostile"])
async def test_a_crowd_takes_no_place_of_a_member_that_knocked(crowds: bytes) -> None:
    arrivals = Arrivals(SILENCE_S, unproven_max=4, whose=whose)
    async with serving(Direct(arrivals=arrivals), echo) as place:
        honest = await websocket.connect(await place.raw(), 5, b"member")
        for _ in range(100):
            with suppress(LinkError):
                await websocket.connect(await place.raw(), 5, crowds)
        await honest.send([b"x"])
        assert await honest.receive() == b"x"


@pytest.mark.parametrize("refusal", [Goodbye.TOO_SOON, Goodbye.BANNED])
async def test_a_member_that_must_wait_makes_no_other_one_wait(refusal: Goodbye) -> None:
    async def refuse_once(channel: Channel) -> Goodbye:
        refused.append(channel)
        if len(refused) == 1:
            return refusal
        await echo(channel)
        return Goodbye.NORMAL

    refused: list[Channel] = []
    arrivals = Arrivals(SILENCE_S, hold_s=1_000, whose=whose)
    async with serving(Direct(arrivals=arrivals), refuse_once) as place:
        first = await websocket.connect(await place.raw(), 5, b"member one")
        with pytest.raises(LinkError):
            await first.receive()
        other = await websocket.connect(await place.raw(), 5, b"member two")
        await other.send([b"x"])
        with trio.fail_after(10):
            assert await other.receive() == b"x"
        again = await websocket.connect(await place.raw(), 5, b"member one")
        await again.send([b"x"])
        with trio.move_on_after(0.05) as waited:
            await again.receive()
        assert waited.cancelled_caught


async def test_there_is_a_bound_on_all_connections() -> None:
    async with serving(Direct(arrivals=Arrivals(SILENCE_S, inbound_max=1)), echo) as place:
        one = await place.dial()
        with pytest.raises(LinkError, match=r"hung up|broke"):
            await place.dial()
        await one.send([b"x"])
        assert await one.receive() == b"x"


async def test_who_hangs_up_leaves_room() -> None:
    async with serving(Direct(arrivals=Arrivals(SILENCE_S, inbound_max=1)), echo) as place:
        one = await place.dial()
        await one.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        two = await place.dial()
        await two.send([b"x"])
        assert await two.receive() == b"x"

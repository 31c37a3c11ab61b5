"""A shared bound: in order, nothing lost, nobody forgotten."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.api.room import Room

SIZE = 10


async def test_room_is_given_in_order_and_not_past_who_waits() -> None:
    room = Room(SIZE)
    took: list[int] = []

    async def take(amount: int) -> None:
        await room.take(amount)
        took.append(amount)

    async with trio.open_nursery() as nursery:
        await room.take(6)
        for amount in (8, 3, 2):
            nursery.start_soon(take, amount)
            await trio.testing.wait_all_tasks_blocked()
        assert not room.take_now(1)
        room.give(6)
        await trio.testing.wait_all_tasks_blocked()
        assert took == [8]
        room.give(8)
    assert sorted(took) == [2, 3, 8]
    assert room.free == SIZE - 5


async def test_who_gives_up_at_the_head_makes_way() -> None:
    room = Room(SIZE)
    await room.take(6)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            nursery.start_soon(room.take, 3)
            first.cancel()
            await room.take(9)
    assert room.free == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, SIZE), st.booleans()), max_size=30))
def test_nothing_is_lost_whoever_gives_up(plan: list[tuple[int, int, bool]]) -> None:
    async def play() -> None:
        room = Room(SIZE)
        held = 0

        async def caller(start: int, amount: int, hasty: bool) -> None:
            nonlocal held
            await trio.sleep(start)
            with trio.move_on_after(1 if hasty else 1000):
                await room.take(amount)
                held += amount
                assert held <= SIZE
                try:
                    await trio.sleep(2)
                finally:
                    held -= amount
                    room.give(amount)

        async with trio.open_nursery() as nursery:
            for one in plan:
                nursery.start_soon(caller, *one)
        assert room.free == SIZE

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))

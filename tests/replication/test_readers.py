"""Readers share questions, and none takes an answer that may be older than itself."""

from __future__ import annotations

import trio
import trio.testing

from aegis_edge.replication.readers import Readers


class Room:
    """Some readers, and what each was told."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.readers = Readers()
        self.told: dict[str, bool] = {}
        self._nursery = nursery

    async def enters(self, name: str) -> None:
        async def read() -> None:
            self.told[name] = await self.readers.wait()

        self._nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()

    async def answer(self, *, is_fresh: bool) -> None:
        self.readers.answered(is_fresh=is_fresh)
        await trio.testing.wait_all_tasks_blocked()


async def test_one_question_at_a_time_for_all_who_wait() -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery)
        assert room.readers.due() is None, "nobody waits"
        await room.enters("one")
        await room.enters("two")
        assert room.readers.due() == 1
        await room.enters("three")
        assert room.readers.due() is None, "one is under way"
        await room.answer(is_fresh=True)
        assert room.told == {"one": True, "two": True}
        assert room.readers.due() == 2
        await room.answer(is_fresh=False)
        assert room.told == {"one": True, "two": True, "three": False}
        assert room.readers.due() is None


async def test_at_the_end_everybody_is_told_that_nothing_is_fresh() -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery)
        await room.enters("one")
        assert room.readers.due() == 1
        await room.enters("two")
        room.readers.refuse()
        await trio.testing.wait_all_tasks_blocked()
        assert room.told == {"one": False, "two": False}


async def test_who_gives_up_is_not_waited_for() -> None:
    readers = Readers()
    with trio.move_on_after(0):
        await readers.wait()
    assert readers.due() == 1
    readers.answered(is_fresh=True)
    assert readers.due() is None

"""A bound that connections share: whoever finds no room waits for it, first come, first served.

Knows amounts.  Refuses to know of what: bytes of memory here, operations there.
Nobody waits for room in two of them in opposite orders, so nobody waits for ever.
"""

from __future__ import annotations

from collections import deque

import trio


class Room:
    """So much of something, for all; `free` is what nobody holds."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._queue: deque[tuple[int, trio.Event]] = deque()

    def take_now(self, amount: int) -> bool:
        """Take `amount` if it is free and nobody waits; else take nothing."""
        if self._queue or amount > self.free:
            return False
        self.free -= amount
        return True

    async def take(self, amount: int) -> None:
        """Return when `amount` was taken; it must be no more than the whole."""
        if self.take_now(amount):
            return
        mine = (amount, trio.Event())
        self._queue.append(mine)
        try:
            await mine[1].wait()
        except trio.Cancelled:
            if mine[1].is_set():
                self.give(amount)
            else:
                self._queue.remove(mine)
                self.give(0)  # those behind may want less
            raise

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self.free += amount
        while self._queue and self._queue[0][0] <= self.free:
            amount, taken = self._queue.popleft()
            self.free -= amount
            taken.set()

"""Callers who read what is newest: one question to the members serves all who wait for one.

Knows who waits for which question.  Refuses to know what is asked, and what is read.
Whoever comes while a question is under way waits for the next one: the answers to this one may be
older than the call.
"""

from __future__ import annotations

import trio


class _Reader:
    __slots__ = ("answered", "is_fresh")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.is_fresh = False


class Readers:
    def __init__(self) -> None:
        self._waiting: list[_Reader] = []
        self._asking: list[_Reader] = []
        self._number = 0

    async def wait(self) -> bool:
        """Whether this node has, on return, all that was acknowledged before the call."""
        reader = _Reader()
        self._waiting.append(reader)
        await reader.answered.wait()
        return reader.is_fresh

    def due(self) -> int | None:
        """The number of the next question, to be asked now; None if there is none to ask."""
        if not self._waiting or self._asking:
            return None
        self._asking, self._waiting = self._waiting, []
        self._number += 1
        return self._number

    def answered(self, *, is_fresh: bool) -> None:
        """The question under way has its answer."""
        asking, self._asking = self._asking, []
        for reader in asking:
            reader.is_fresh = is_fresh
            reader.answered.set()

    def refuse(self) -> None:
        """Nobody will be told that anything is fresh."""
        self._asking += self._waiting
        self._waiting = []
        self.answered(is_fresh=False)

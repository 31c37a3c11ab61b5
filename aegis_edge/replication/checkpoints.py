"""Who waits for a checkpoint, and whether it has to be brought about.

Knows which roots were taken here for checkpoints, and after which batch one is wanted.
Refuses to know what for, and how a batch is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Checkpoints:
    """`news` is set, and replaced, whenever a checkpoint is agreed on, or none will be any more."""

    def __init__(self) -> None:
        self.news = trio.Event()
        self._taken = 0
        self._wanted: list[int] = []

    @property
    def is_lacking(self) -> bool:
        """Whether a batch is needed: the root that somebody waits for was not taken yet."""
        return any(map(self.is_after, self._wanted))

    def is_after(self, executed: int) -> bool:
        """Whether the next root that is taken here is the first after so many batches."""
        return executed >= self._taken

    @contextmanager
    def wanted(self, executed: int) -> Iterator[None]:
        """Within the block, somebody waits for a checkpoint after more than `executed` batches."""
        self._wanted.append(executed)
        try:
            yield
        finally:
            self._wanted.remove(executed)

    def took(self, sequence: int) -> None:
        """The root was taken here after `sequence`; now the others have to say theirs."""
        self._taken = sequence

    def tell(self) -> None:
        """Wake all who wait."""
        self.news.set()
        self.news = trio.Event()

"""Whether the disk answers: a read that no cache can stand in for.

Knows one small file beside the database, which nobody writes.  Refuses to read the database: to
close any descriptor of it would give up SQLite's locks (sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
from pathlib import Path

_BYTES = 4_096


class Card:
    """`path`: a file on the same disk; it stays open, so it may go."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def answer(self) -> None:
        """Read from the disk itself; raises `OSError` if it says no, waits if it is silent."""
        os.posix_fadvise(self._descriptor, 0, _BYTES, os.POSIX_FADV_DONTNEED)
        os.pread(self._descriptor, _BYTES, 0)

    def close(self) -> None:
        """Ask no more."""
        os.close(self._descriptor)

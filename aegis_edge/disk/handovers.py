"""How the members came about: for each configuration, what those before it signed.

Knows numbers, order and bytes.  Refuses to know what a handover says (`wire.messages.Handover`).
A row is written in the transaction of the batch that ends a configuration, and never changed; where
a state was fetched, those that lead to its members were proven and kept before.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable


class Handovers:
    """The table `handovers`; every write belongs to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def keep(self, first: int, raws: Iterable[bytes]) -> None:
        """Keep the handovers to configuration `first` and to those after it."""
        for number, raw in enumerate(raws, first):
            self._execute("REPLACE INTO handovers VALUES (?, ?, ?)", (number, zlib.crc32(raw), raw))

    def after(self, number: int, bytes_max: int) -> tuple[bytes, ...]:
        """Those that lead on from configuration `number`, up to a gap or to `bytes_max`.

        At least one, if there is one.
        """
        taken: list[bytes] = []
        size_bytes = 0
        query = "SELECT number, data FROM handovers WHERE number > ? ORDER BY number"
        for at, data in self._execute(query, (min(number, 2**63 - 1),)):
            size_bytes += len(data)
            is_next = at == number + len(taken) + 1 and type(data) is bytes
            if not is_next or (taken and size_bytes > bytes_max):
                break
            taken.append(data)
        return tuple(taken)

    def is_sound(self) -> bool:
        """Whether every one is on the disk as it was written."""
        rows = self._execute("SELECT checksum, data FROM handovers")
        return all(type(data) is bytes and zlib.crc32(data) == sum_ for sum_, data in rows)

"""The applied state in SQLite: `knowledge.state.State` over the tables `versions` and `keys`.

Knows rows.  Writes are held back until `flush`, so that a key written ten times in a batch costs
one row, and the rows of a batch go in together.  Refuses to know what a version means.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.knowledge.state import RETAINED_BYTES, Progress, Version

_RETAINED = "SELECT retained FROM keys WHERE key = ?"
_ADD_VERSION = "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SET_ROW = (
    "INSERT INTO keys VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET retained = excluded.retained"
)
_DROP_VERSION = "DELETE FROM versions WHERE revision = ?"


class AppliedState:
    """One connection's view of the applied state; see `knowledge.state.State`."""

    def __init__(self, connection: sqlite3.Connection, progress: Progress) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._progress = progress
        self._versions: dict[int, Version] = {}
        self._rows: dict[str, bytes] = {}
        self._pruned: list[tuple[int]] = []

    def progress(self) -> Progress:
        return self._progress

    def keep(self, progress: Progress) -> None:
        self._progress = progress

    def retained(self, key: str) -> bytes | None:
        held = self._rows.get(key)
        if held is not None:
            return held
        found = self._execute(_RETAINED, (key,)).fetchone()
        return None if found is None else found[0]

    def write(self, version: Version, row: bytes) -> None:
        self._versions[version.revision] = version
        self._rows[version.key] = row

    def prune(self, revision: int) -> None:
        if self._versions.pop(revision, None) is None:
            self._pruned.append((revision,))

    def rows(self) -> Iterator[tuple[str, bytes]]:
        for key, row in self._execute("SELECT key, retained FROM keys"):
            if not row or len(row) % RETAINED_BYTES:
                raise DatabaseDamaged(f"the row of the key {key!r} has {len(row)} bytes", "")
            yield key, row

    def flush(self) -> None:
        """Hand everything that was held back to SQLite, inside the caller's transaction."""
        self._executemany(_ADD_VERSION, self._versions.values())
        self._executemany(_SET_ROW, sorted(self._rows.items()))
        self._executemany(_DROP_VERSION, self._pruned)
        self.discard()

    def discard(self) -> None:
        """Forget what was held back."""
        self._versions.clear()
        self._rows.clear()
        self._pruned.clear()

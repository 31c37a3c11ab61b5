"""The applied state in SQLite: `knowledge.state.State` over the tables `versions` and `keys`.

Knows rows.  Writes are held back until `flush`, so that a key written ten times in a batch costs
one row, and the rows of a batch go in together.  Refuses to know what a version means.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.disk.origins import pack_origins, unpack_origins
from aegis_edge.knowledge.merkle import row_digest
from aegis_edge.knowledge.state import RETAINED_BYTES, Progress, Version

_RETAINED = "SELECT retained FROM keys WHERE key = ?"
#: Where there are so many rows, one statement inserts them: a fifth cheaper than one at a time.
_ROWS = 32
_ADD_VERSION, _ADD_VERSIONS = (
    f"INSERT INTO versions VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?)'] * rows)}"
    for rows in (1, _ROWS)
)
_SET_ROW, _SET_ROWS = (
    f"INSERT INTO keys VALUES {', '.join(['(?, ?)'] * rows)}"
    " ON CONFLICT (key) DO UPDATE SET retained = excluded.retained"
    for rows in (1, _ROWS)
)
_SET_ROLL = "REPLACE INTO roll VALUES (1, ?)"
_DROP_VERSION = "DELETE FROM versions WHERE revision = ?"
_VERSION = "SELECT * FROM versions WHERE revision = ?"
_PAGE = "SELECT key, retained FROM keys WHERE key > ? ORDER BY key LIMIT ?"
_REPLACE_VERSION = "REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_STAGE = "REPLACE INTO staged_rows VALUES (?, ?, ?)"
_STAGE_VERSION = "REPLACE INTO staged_versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UNSTAGED = "SELECT retained FROM staged_rows WHERE key = ?"
_UNSTAGED_VERSIONS = "SELECT * FROM staged_versions WHERE key = ? AND revision >= ?"
#: Both in hexadecimal: the first revision of a row is that of the oldest version it names.
_LEFT = (
    "SELECT versions.* FROM versions JOIN keys USING (key)"
    " WHERE hex(substr(retained, 1, 8)) > printf('%016X', revision) ORDER BY revision"
)
_MARK = "REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?)"


class AppliedState:
    """One connection's view of the applied state; see `knowledge.state.State`."""

    def __init__(self, connection: sqlite3.Connection, progress: Progress) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._progress = progress
        self._roll = progress.roll
        self._versions: dict[int, Version] = {}
        self._rows: dict[str, bytes] = {}
        self._pruned: list[tuple[int]] = []

    def progress(self) -> Progress:
        return self._progress

    def keep(self, progress: Progress) -> None:
        self._progress = progress

    def has_its_roll(self) -> bool:
        """Whether the roll is on the disk as it was last written."""
        found = self._execute("SELECT roll FROM roll").fetchone()
        return bool(self._roll == (b"" if found is None else found[0]))

    def retained(self, key: str) -> bytes | None:
        held = self._rows.get(key)
        if held is not None:
            return held
        found = self._execute(_RETAINED, (key,)).fetchone()
        return None if found is None else _whole(key, found[0])

    def write(self, version: Version, row: bytes) -> None:
        self._versions[version.revision] = version
        self._rows[version.key] = row

    def prune(self, revision: int) -> None:
        if self._versions.pop(revision, None) is None:
            self._pruned.append((revision,))

    def rows(self) -> Iterator[tuple[str, bytes]]:
        for key, row in self._execute("SELECT key, retained FROM keys"):
            yield key, _whole(key, row)

    def version(self, revision: int) -> Version | None:
        found = self._execute(_VERSION, (revision,)).fetchone()
        return None if found is None else _version(found)

    def page(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        return [(key, _whole(key, row)) for key, row in self._execute(_PAGE, (after, limit))]

    def adopt(self, key: str, row: bytes, versions: Iterable[Version]) -> None:
        self._executemany(_REPLACE_VERSION, versions)
        self._execute(_SET_ROW, (key, row))

    def forget(self, key: str) -> None:
        self._execute("DELETE FROM keys WHERE key = ?", (key,))

    def stage(self, label: bytes, key: str, row: bytes) -> None:
        self._execute(_STAGE, (label, key, row))

    def stage_version(self, version: Version) -> None:
        self._execute(_STAGE_VERSION, version)

    def staged(self) -> list[tuple[str, bytes]]:
        rows = self._execute("SELECT label, key, retained FROM staged_rows ORDER BY key")
        return [
            (key, label + row_digest(key.encode(), _whole(key, row))) for label, key, row in rows
        ]

    def unstaged(self, key: str) -> tuple[bytes, list[Version]]:
        (row,) = self._execute(_UNSTAGED, (key,)).fetchone()
        oldest = int.from_bytes(row[:8], "big")
        return row, [_version(v) for v in self._execute(_UNSTAGED_VERSIONS, (key, oldest))]

    def clear_stage(self) -> None:
        self._execute("DELETE FROM staged_rows")
        self._execute("DELETE FROM staged_versions")

    def mark(self, progress: Progress) -> None:
        executed, time_ms, revision, origins, roll = progress
        self._execute(_MARK, (executed, time_ms, revision, pack_origins(origins), roll))

    def marked(self) -> list[Progress]:
        rows = self._execute("SELECT * FROM checkpoints ORDER BY sequence")
        return [Progress(s, t, r, unpack_origins(packed), roll) for s, t, r, packed, roll in rows]

    def unmark(self, stable: int) -> None:
        self._execute("DELETE FROM checkpoints WHERE sequence < ?", (stable,))

    def left(self) -> Iterator[Version]:
        (named,) = self._execute("SELECT ifnull(sum(length(retained)), 0) FROM keys").fetchone()
        (kept,) = self._execute("SELECT count(*) FROM versions").fetchone()
        if kept > named // RETAINED_BYTES:
            yield from map(_version, self._execute(_LEFT))

    def flush(self) -> None:
        """Hand everything that was held back to SQLite, inside the caller's transaction."""
        # For bytes and truth values sqlite3 looks for an adapter, each time and in vain: that takes
        # longer than to copy them.
        versions = [
            (
                revision,
                key,
                previous,
                bytearray(author),
                at_ms,
                media,
                int(deleted),
                bytearray(value),
            )
            for revision, key, previous, author, at_ms, media, deleted, value in (
                self._versions.values()
            )
        ]
        self._insert(_ADD_VERSION, _ADD_VERSIONS, versions)
        rows = [(key, bytearray(row)) for key, row in sorted(self._rows.items())]
        self._insert(_SET_ROW, _SET_ROWS, rows)
        self._executemany(_DROP_VERSION, self._pruned)
        if self._progress.roll != self._roll:
            self._roll = self._progress.roll
            self._execute(_SET_ROLL, (self._roll,))
        self.discard()

    def _insert(self, one: str, many: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, `_ROWS` of them with one statement, and what is left one at a time."""
        whole = len(rows) - len(rows) % _ROWS
        for at in range(0, whole, _ROWS):
            self._execute(many, tuple(chain.from_iterable(rows[at : at + _ROWS])))
        self._executemany(one, rows[whole:])

    def discard(self) -> None:
        """Forget what was held back."""
        self._versions.clear()
        self._rows.clear()
        self._pruned.clear()


def _whole(key: object, row: object) -> bytes:
    if type(key) is not str:
        raise DatabaseDamaged(f"{key!r} is kept as a key, and is no text", "")
    if type(row) is not bytes or not row or len(row) % RETAINED_BYTES:
        raise DatabaseDamaged(f"what is kept of the key {key!r} has no whole number of parts", "")
    return row


def _version(row: tuple[int, str, int, bytes, int, int, int, bytes]) -> Version:
    return Version(*row[:6], bool(row[6]), row[7])

"""Questions to the applied state: all bounded, all in pages, none of them agreed on.

Knows the tables of `schema`.  Refuses to know whether the answer is the cluster's newest: whoever
needs that orders a barrier first.
Keys are ordered bytewise as UTF-8, which is also the order of their code points.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from aegis_edge.knowledge.operations import KEY_BYTES_MAX, OperationError
from aegis_edge.knowledge.state import Version, newest_retained, unpack_retained

#: What one call returns, and what it looks at, at most.
PAGE_ENTRIES_MAX = 1000
SCAN_ROWS_MAX = 4096
PAGE_VALUE_BYTES_MAX = 256 * 1024

#: Above every key that has a given prefix: one character of four bytes more than a key can hold.
_ABOVE = "\U0010ffff" * (KEY_BYTES_MAX // 4 + 1)
_VERSION = "SELECT * FROM versions WHERE revision = ?"


class Pruned(LookupError):
    """The key had a value at that revision, but its history is no longer kept that far back."""

    def __init__(self, oldest_revision: int) -> None:
        super().__init__(f"the history of the key begins at revision {oldest_revision} by now")
        self.oldest_revision = oldest_revision


class Entry(NamedTuple):
    """A key that has a value, without the value; the fields are those of `Version`."""

    key: str
    revision: int
    author: bytes
    time_ms: int
    media: int
    size_bytes: int


class Listing(NamedTuple):
    """A page of keys.  `more`: ask again with `after=more`; None when there are no further ones."""

    entries: list[Entry]
    more: str | None


class Changes(NamedTuple):
    """A page of versions, oldest first.  Ask again with `after_revision=upto`.

    Nothing that matches lies between `after_revision` and `upto` except these versions and those
    that the history no longer keeps: a version whose `previous_revision` the reader has not seen
    shows such a gap.  `upto` equals `info().revision` when there is nothing more.
    """

    versions: list[Version]
    upto: int


def get(connection: sqlite3.Connection, key: str, revision: int | None) -> Version | None:
    """The value of `key` now, or as it was at `revision`; None if it has, or had, none."""
    row = _row(connection, key)
    if row is None:
        return None
    if revision is None:
        newest, deleted = newest_retained(row)
        return None if deleted else version_at(connection, newest)
    kept = unpack_retained(row)
    for entry in reversed(kept):
        if entry.revision <= revision:
            return None if entry.deleted else version_at(connection, entry.revision)
    oldest = version_at(connection, kept[0].revision)
    if oldest.previous_revision:
        raise Pruned(oldest.revision)
    return None


def ls(connection: sqlite3.Connection, prefix: str, after: str, limit: int) -> Listing:
    """The keys that have a value, start with `prefix` and follow `after`, in order."""
    limit = min(limit, PAGE_ENTRIES_MAX)
    entries: list[Entry] = []
    rows = connection.execute(
        "SELECT key, retained FROM keys WHERE key >= ? AND key > ? AND key < ?"
        " ORDER BY key LIMIT ?",
        (_text(prefix), _text(after), prefix + _ABOVE, SCAN_ROWS_MAX + 1),
    )
    last = after
    for scanned, (key, row) in enumerate(rows):
        if len(entries) == limit or scanned == SCAN_ROWS_MAX:
            return Listing(entries, last)
        last = key
        revision, deleted = newest_retained(row)
        if not deleted:
            author, time_ms, media, size_bytes = connection.execute(
                "SELECT author, time_ms, media, length(value) FROM versions WHERE revision = ?",
                (revision,),
            ).fetchone()
            entries.append(Entry(key, revision, author, time_ms, media, size_bytes))
    return Listing(entries, None)


def history(connection: sqlite3.Connection, key: str, limit: int) -> list[Version]:
    """The kept versions of `key`, newest first, deletions included; at least one if there is one.

    Ends before the values together pass `PAGE_VALUE_BYTES_MAX`.
    """
    row = _row(connection, key)
    versions: list[Version] = []
    size_bytes = 0
    for entry in reversed(unpack_retained(row or b"")):
        version = version_at(connection, entry.revision)
        size_bytes += len(version.value)
        if len(versions) >= limit or (versions and size_bytes > PAGE_VALUE_BYTES_MAX):
            break
        versions.append(version)
    return versions


def changes(
    connection: sqlite3.Connection, after_revision: int, limit: int, prefix: str, newest: int
) -> Changes:
    """The kept versions after a revision, oldest first; `newest` is the state's revision."""
    limit = min(limit, PAGE_ENTRIES_MAX)
    upto = min(after_revision + SCAN_ROWS_MAX, newest)
    rows = connection.execute(
        "SELECT versions.* FROM versions JOIN keys USING (key)"
        " WHERE revision > ? AND revision <= ? AND key >= ? AND key < ?"
        # What was pruned may be there yet: the row begins with the oldest revision that is kept.
        " AND hex(substr(retained, 1, 8)) <= printf('%016X', revision)"
        " ORDER BY revision LIMIT ?",
        (after_revision, upto, _text(prefix), prefix + _ABOVE, limit + 1),
    )
    versions: list[Version] = []
    size_bytes = 0
    for row in rows:
        version = _made(row)
        size_bytes += len(version.value)
        if len(versions) == limit or (versions and size_bytes > PAGE_VALUE_BYTES_MAX):
            return Changes(versions, versions[-1].revision)
        versions.append(version)
    return Changes(versions, max(upto, after_revision))


def _row(connection: sqlite3.Connection, key: str) -> bytes | None:
    found = connection.execute("SELECT retained FROM keys WHERE key = ?", (_text(key),)).fetchone()
    return None if found is None else found[0]


def version_at(connection: sqlite3.Connection, revision: int) -> Version:
    """The version with a revision that a key's row names."""
    return _made(connection.execute(_VERSION, (revision,)).fetchone())


def _made(row: tuple[int, str, int, bytes, int, int, int, bytes]) -> Version:
    return Version(*row[:6], bool(row[6]), row[7])


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OperationError("a key must be UTF-8; this one holds half a surrogate pair") from None
    return text

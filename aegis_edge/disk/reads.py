"""Questions to the applied state: all bounded, all in pages, none of them agreed on.

Knows the tables of `schema`.  Refuses to know whether the answer is the cluster's newest: whoever
needs that orders a barrier first.
What is read is held against what was agreed on, and what differs is not given: `Rotten` is raised.
Keys are ordered bytewise as UTF-8, which is also the order of their code points.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.operations import KEY_BYTES_MAX, OperationError
from aegis_edge.knowledge.state import (
    Retained,
    Rotten,
    Version,
    newest_retained,
    stands_for,
    unpack_retained,
)

#: What one call returns, and what it looks at, at most.
PAGE_ENTRIES_MAX = 1000
SCAN_ROWS_MAX = 4096
PAGE_VALUE_BYTES_MAX = 256 * 1024

#: Above every key that has a given prefix: one character of four bytes more than a key can hold.
_ABOVE = "\U0010ffff" * (KEY_BYTES_MAX // 4 + 1)
_VERSION = "SELECT * FROM versions WHERE revision = ?"


#: Gives the row of a key, as agreed on; see `Machine.row`.
Rows = Callable[[str], bytes | None]


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


def get(
    connection: sqlite3.Connection, rows: Rows, key: str, revision: int | None
) -> Version | None:
    """The value of `key` now, or as it was at `revision`; None if it has, or had, none."""
    row = rows(_text(key))
    if row is None:
        return None
    kept = unpack_retained(row)
    for entry in reversed(kept):
        if revision is None or entry.revision <= revision:
            version = _named(connection, key, entry)
            return None if version.deleted else version
    oldest = _named(connection, key, kept[0])
    if oldest.previous_revision:
        raise Pruned(oldest.revision)
    return None


def ls(connection: sqlite3.Connection, rows: Rows, prefix: str, after: str, limit: int) -> Listing:
    """The keys that have a value, start with `prefix` and follow `after`, in order.

    Whether one is missing, or has another size, only the scrub sees: here no value is read.
    """
    limit = min(limit, PAGE_ENTRIES_MAX)
    entries: list[Entry] = []
    found = connection.execute(
        "SELECT key FROM keys WHERE key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?",
        (_text(prefix), _text(after), prefix + _ABOVE, SCAN_ROWS_MAX + 1),
    )
    last = after
    for scanned, (key,) in enumerate(found):
        if len(entries) == limit or scanned == SCAN_ROWS_MAX:
            return Listing(entries, last)
        last = key
        row = rows(key)
        if row is None:
            raise Rotten(label(key.encode()))
        revision, deleted = newest_retained(row)
        if not deleted:
            said = connection.execute(
                "SELECT author, time_ms, media, length(value) FROM versions WHERE revision = ?",
                (revision,),
            ).fetchone()
            if said is None:
                raise Rotten(label(key.encode()))
            entries.append(Entry(key, revision, *said))
    return Listing(entries, None)


def history(connection: sqlite3.Connection, rows: Rows, key: str, limit: int) -> list[Version]:
    """The kept versions of `key`, newest first, deletions included; at least one if there is one.

    Ends before the values together pass `PAGE_VALUE_BYTES_MAX`.
    """
    row = rows(_text(key))
    versions: list[Version] = []
    size_bytes = 0
    for entry in reversed(unpack_retained(row or b"")):
        version = _named(connection, key, entry)
        size_bytes += len(version.value)
        if len(versions) >= limit or (versions and size_bytes > PAGE_VALUE_BYTES_MAX):
            break
        versions.append(version)
    return versions


def changes(
    connection: sqlite3.Connection,
    rows: Rows,
    after_revision: int,
    limit: int,
    prefix: str,
    newest: int,
) -> Changes:
    """The kept versions after a revision, oldest first; `newest` is the state's revision."""
    limit = min(limit, PAGE_ENTRIES_MAX)
    upto = min(after_revision + SCAN_ROWS_MAX, newest)
    found = connection.execute(
        "SELECT versions.* FROM versions JOIN keys USING (key)"
        " WHERE revision > ? AND revision <= ? AND key >= ? AND key < ?"
        # What was pruned may be there yet: the row begins with the oldest revision that is kept.
        " AND hex(substr(retained, 1, 8)) <= printf('%016X', revision)"
        " ORDER BY revision LIMIT ?",
        (after_revision, upto, _text(prefix), prefix + _ABOVE, limit + 1),
    )
    versions: list[Version] = []
    size_bytes = 0
    for each in found:
        version = _made(each)
        row = rows(version.key)
        if not any(stands_for(entry, version) for entry in unpack_retained(row or b"")):
            raise Rotten(label(version.key.encode()))
        size_bytes += len(version.value)
        if len(versions) == limit or (versions and size_bytes > PAGE_VALUE_BYTES_MAX):
            return Changes(versions, versions[-1].revision)
        versions.append(version)
    return Changes(versions, max(upto, after_revision))


def version_at(connection: sqlite3.Connection, revision: int) -> Version | None:
    """What there is under a revision: whether it is what a key's row names, is not looked at."""
    found = connection.execute(_VERSION, (revision,)).fetchone()
    return None if found is None else _made(found)


def _named(connection: sqlite3.Connection, key: str, entry: Retained) -> Version:
    """The version that the row of `key` names."""
    version = version_at(connection, entry.revision)
    if version is None or not stands_for(entry, version):
        raise Rotten(label(key.encode()))
    return version


def _made(row: tuple[int, str, int, bytes, int, int, int, bytes]) -> Version:
    return Version(*row[:6], bool(row[6]), row[7])


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OperationError("a key must be UTF-8; this one holds half a surrogate pair") from None
    return text

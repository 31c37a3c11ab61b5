"""Protocol records and batch certificates: what a replica must not forget, and what it can prove.

Knows keys, sizes, and which kinds a stable checkpoint makes worthless.  Refuses to know what a
record says, and when it must be durable: s8_13 (tests/pbft/test_checklist.py) is the caller's
business.  Follows: `pbft.journal` for the kinds.

Written for cards that wear out.  A worthless record is not deleted: its row is written over by the
next of its kind, so that in steady state a record costs one page and moves no other.  A batch is
on disk once: the record of its proposal and its certificate end with the same bytes, so a
certificate of a big batch keeps only its own head and names the record that holds the tail.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from aegis_edge.disk.origins import pack_origins, unpack_origins
from aegis_edge.pbft.events import Record
from aegis_edge.pbft.journal import (
    CHECKPOINT,
    DIVERGED,
    INHERITED,
    PREPARED,
    PROPOSAL,
    REMEMBERS,
    STABLE,
)

#: A proposal that was replaced while a certificate still names it: a kind of this file's own.
BODY = 9
#: Kinds that a stable checkpoint at their sequence makes worthless; a checkpoint's own record is
#: so made by the next one.
_PRUNED_THROUGH = (PROPOSAL, PREPARED)

#: A shorter tail is written twice: the row of its proposal is worth more when it is used again.
_TAIL_BYTES_MIN = 2048
#: Bigger worthless rows are deleted, to give their room to others.
_REUSED_BYTES_MAX = 4096

_Key = tuple[int, int, int]


class _Row(NamedTuple):
    id: int
    size_bytes: int
    check: int  # CRC-32: whether the card gives back what it was given


class Log:
    """The tables `records` and `certificates`; every write belongs to the caller's transaction.

    Keeps a few words per live record in memory.  After a transaction that failed, drop it.
    """

    def __init__(self, connection: sqlite3.Connection, bytes_max: int) -> None:
        self._execute = connection.execute
        self._bytes_max = bytes_max
        self.pruned: int
        (self.pruned,) = self._execute("SELECT pruned FROM meta").fetchone()
        self._bytes: int
        (self._bytes,) = self._execute(
            "SELECT ifnull(sum(length(data) + ifnull(tail_bytes, 0)), 0) FROM certificates"
        ).fetchone()
        self._tails = {
            tail
            for (tail,) in self._execute("SELECT tail FROM certificates WHERE tail IS NOT NULL")
        }
        self._rows: dict[_Key, _Row] = {}
        self._free: dict[int, list[int]] = {}
        self._last_id = 0
        for row, kind, view, sequence, data in self._execute(
            "SELECT id, kind, view, sequence, data FROM records ORDER BY id"
        ):
            self._last_id = row
            if row in self._tails and (kind == BODY or sequence <= self.pruned):
                continue
            if self._worthless(kind, sequence):
                self._free.setdefault(kind, []).append(row)
            else:
                self._rows[kind, view, sequence] = _Row(row, len(data), zlib.crc32(data))

    def _worthless(self, kind: int, sequence: int) -> bool:
        if kind in _PRUNED_THROUGH:
            return sequence <= self.pruned
        return kind == BODY or (kind == CHECKPOINT and sequence < self.pruned)

    # --- records ----------------------------------------------------------------------------

    def persist(self, record: Record) -> None:
        """Keep `record` in place of the one with the same key."""
        kind, view, sequence, data = record.kind, record.view, record.sequence, record.data
        if self._worthless(kind, sequence):
            return  # late: a stable checkpoint came first
        row = self._rows.get((kind, view, sequence))
        if row is not None and row.id in self._tails:
            self._execute("UPDATE records SET kind = ? WHERE id = ?", (BODY, row.id))
            row = None
        free = self._free.get(kind)
        if row is not None:
            row_id = row.id
            self._execute("UPDATE records SET data = ? WHERE id = ?", (data, row_id))
        elif free:
            row_id = free.pop()
            self._execute(
                "UPDATE records SET view = ?, sequence = ?, data = ? WHERE id = ?",
                (view, sequence, data, row_id),
            )
        else:
            self._last_id = row_id = self._last_id + 1
            self._execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?)", (row_id, kind, view, sequence, data)
            )
        self._rows[kind, view, sequence] = _Row(row_id, len(data), zlib.crc32(data))

    def records(self) -> tuple[Record, ...]:
        """Every record that still serves, ordered by sequence, kind and view."""
        found = []
        for (kind, view, sequence), row in self._rows.items():
            (data,) = self._execute("SELECT data FROM records WHERE id = ?", (row.id,)).fetchone()
            found.append(Record(kind, view, sequence, data))
        return tuple(sorted(found, key=lambda r: (r.sequence, r.kind, r.view)))

    def is_sound(self) -> bool:
        """Whether every record that still serves is on the disk as it was written."""
        query = "SELECT kind, view, sequence, data FROM records WHERE id = ?"
        for key, row in self._rows.items():
            found = self._execute(query, (row.id,)).fetchone()
            if found is None or found[:3] != key or zlib.crc32(found[3]) != row.check:
                return False
        return True

    def forget(self) -> None:
        """The configuration that all records are of has ended: none serves any more.

        But for the last checkpoint that was proven: others may be behind it.  And who remembered
        what it said until now remembers it in the next configuration, from the first moment on.
        """
        remembers = self._rows.pop((REMEMBERS, 0, 0), None)
        proven = self._rows.pop((STABLE, 0, 0), None)
        if proven is None:
            proven = self._rows.pop((INHERITED, 0, 0), None)
        else:
            query = "UPDATE records SET kind = ? WHERE id = ?"
            self._execute(query, (INHERITED, proven.id))
        for row in self._rows.values():
            if row.id in self._tails:  # with a certificate, which stays
                self._execute("UPDATE records SET kind = ? WHERE id = ?", (BODY, row.id))
            else:
                self._execute("DELETE FROM records WHERE id = ?", (row.id,))
        self._rows.clear()
        if proven is not None:
            self._rows[INHERITED, 0, 0] = proven
        if remembers is not None:
            self._rows[REMEMBERS, 0, 0] = remembers

    def proven(self) -> bytes:
        """The last checkpoint that was proven here, in this configuration or before it; or b""."""
        row = self._rows.get((STABLE, 0, 0)) or self._rows.get((INHERITED, 0, 0))
        if row is None:
            return b""
        (data,) = self._execute("SELECT data FROM records WHERE id = ?", (row.id,)).fetchone()
        return bytes(data)

    def has_diverged(self) -> bool:
        """Whether the replica found that the state here is not the agreed one."""
        return any(kind == DIVERGED for kind, _, _ in self._rows)

    # --- certificates -----------------------------------------------------------------------

    def certify(
        self,
        sequence: int,
        certificate: bytes,
        time_ms: int,
        origins: Mapping[bytes, tuple[int, int]],
    ) -> None:
        """Keep the certificate of the batch just executed; its row says how far execution came."""
        tail, tail_bytes, head = None, None, certificate
        proposed = max(
            (key for key in self._rows if key[2] == sequence and key[0] == PROPOSAL), default=None
        )
        if proposed is not None and self._rows[proposed].size_bytes >= _TAIL_BYTES_MIN:
            row_id = self._rows[proposed].id
            (data,) = self._execute("SELECT data FROM records WHERE id = ?", (row_id,)).fetchone()
            shared = _common_tail_bytes(certificate, data)
            if shared >= _TAIL_BYTES_MIN:
                tail, tail_bytes = row_id, shared
                head = certificate[: len(certificate) - shared]
                self._tails.add(row_id)
        # Only the newest row needs the origins.
        self._execute("UPDATE certificates SET origins = NULL WHERE sequence = ?", (sequence - 1,))
        self._add(sequence, time_ms, origins, tail, tail_bytes, head)
        self._bytes += len(certificate)

    def _add(
        self,
        sequence: int,
        time_ms: int,
        origins: Mapping[bytes, tuple[int, int]],
        tail: int | None,
        tail_bytes: int | None,
        head: bytes,
    ) -> None:
        packed = pack_origins(origins)
        self._execute(
            "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?)",
            (sequence, time_ms, packed, tail, tail_bytes, head),
        )

    def jump(self, sequence: int, time_ms: int, origins: Mapping[bytes, tuple[int, int]]) -> None:
        """Execution goes on after `sequence`, in a state that was fetched: no batch leads there.

        A row without a certificate says so; what can be proven to others begins after it.
        """
        live = {row.id for row in self._rows.values()}
        for tail in self._tails - live:
            self._execute("DELETE FROM records WHERE id = ?", (tail,))
        self._tails.clear()
        self._execute("DELETE FROM certificates")
        self._bytes = 0
        self._add(sequence, time_ms, origins, None, None, b"")

    def oldest(self) -> int:
        """The first batch whose certificate is kept; 0 if there is none."""
        (first,) = self._execute(
            "SELECT ifnull(min(sequence), 0) FROM certificates WHERE data != x''"
        ).fetchone()
        return int(first)

    def executed(self) -> tuple[int, int, dict[bytes, tuple[int, int]]]:
        """The last executed sequence, the agreed time there, and each origin's last bundle."""
        newest = self._execute(
            "SELECT sequence, time_ms, origins FROM certificates ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        if newest is None:
            return 0, 0, {}
        sequence, time_ms, packed = newest
        return sequence, time_ms, unpack_origins(packed)

    def certificates(self, first: int, last: int, max_bytes: int) -> list[bytes]:
        """The certificates from `first` on: to `last`, the first missing one, or `max_bytes`.

        At least one, however big, if there is one.
        """
        taken: list[bytes] = []
        size_bytes = 0
        for sequence in range(first, last + 1):
            found = self._execute(
                "SELECT head.data, tail_bytes, body.data FROM certificates AS head"
                " LEFT JOIN records AS body ON body.id = head.tail"
                " WHERE head.sequence = ? AND head.data != x''",
                (sequence,),
            ).fetchone()
            if found is None:
                break
            head, tail_bytes, body = found
            certificate = head if tail_bytes is None else head + body[-tail_bytes:]
            size_bytes += len(certificate)
            if taken and size_bytes > max_bytes:
                break
            taken.append(certificate)
        return taken

    # --- what goes --------------------------------------------------------------------------

    def prune(self, sequence: int, executed: int) -> None:
        """A checkpoint at `sequence` is stable: free what it makes worthless, and old batches.

        Batches are dropped, oldest first, while the log is above its size; those above the
        checkpoint never, nor the newest, which says how far execution came.
        """
        if sequence <= self.pruned:
            return
        self.pruned = sequence
        self._execute("UPDATE meta SET pruned = ?", (sequence,))
        for key in [key for key in self._rows if self._worthless(key[0], key[2])]:
            row = self._rows.pop(key)
            if row.id in self._tails:
                continue
            if row.size_bytes > _REUSED_BYTES_MAX:
                self._execute("DELETE FROM records WHERE id = ?", (row.id,))
            else:
                self._free.setdefault(key[0], []).append(row.id)
        if self._bytes > self._bytes_max:
            self._retire(min(sequence, executed - 1))

    def _retire(self, last: int) -> None:
        """Drop certificates, oldest first and none above `last`, until the log has its size."""
        oldest = self._execute(
            "SELECT sequence, tail, length(data) + ifnull(tail_bytes, 0) FROM certificates"
            " WHERE sequence <= ? ORDER BY sequence",
            (last,),
        )
        gone = []
        for sequence, tail, size_bytes in oldest:
            if self._bytes <= self._bytes_max:
                break
            self._bytes -= size_bytes
            gone.append((sequence, tail))
        oldest.close()
        for sequence, tail in gone:
            self._execute("DELETE FROM certificates WHERE sequence = ?", (sequence,))
            if tail is not None:
                self._execute("DELETE FROM records WHERE id = ?", (tail,))
                self._tails.remove(tail)


def _common_tail_bytes(one: bytes, other: bytes) -> int:
    """How many bytes at their ends are equal."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.endswith(other[len(other) - middle :]):
            low = middle
        else:
            high = middle - 1
    return low

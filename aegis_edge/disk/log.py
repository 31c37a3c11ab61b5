"""Protocol records and batch certificates, in one table ordered by sequence.

Knows keys, sizes, and the kinds that a stable checkpoint makes worthless.  Refuses to know what a
record says.  Follows: `pbft.journal` for the kinds; checklist rule 13 is the caller's business.

Row ids are sequence * 2^20 + slot: all rows about one sequence are neighbours at the right edge of
the tree, so that a transaction dirties few pages.  Slot 0 is the certificate.  A batch is on disk
once: its proposal's record and its certificate end with the same bytes, so the certificate keeps
its own head and points at the proposal's row for the tail.
"""

from __future__ import annotations

import sqlite3

from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.pbft.events import Record
from aegis_edge.wire import codec

CERTIFICATE = 0
PROPOSAL = 4
CHECKPOINT = 7
#: A proposal that was replaced while a certificate still needs its tail.
BODY = 9
#: Kinds that a stable checkpoint at their sequence makes worthless.
_PRUNED_THROUGH = "(4, 5, 6)"

_SLOT_BITS = 20
#: Shorter tails than this are not worth a second read.
_TAIL_BYTES_MIN = 128

Origins = dict[bytes, tuple[int, int]]


class Log:
    """The table `log`; every call belongs to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, bytes_max: int) -> None:
        self._execute = connection.execute
        self._bytes_max = bytes_max
        (self.pruned,) = self._execute("SELECT pruned FROM meta").fetchone()
        self._bytes = self._size(1, (1 << 63 - _SLOT_BITS) - 1)

    # --- records ----------------------------------------------------------------------------

    def persist(self, record: Record) -> None:
        """Keep `record` in place of the one with the same key."""
        sequence = record.sequence
        if 0 < sequence < self.pruned or (
            0 < sequence == self.pruned and record.kind != CHECKPOINT
        ):
            return  # late: a stable checkpoint has made it worthless already
        first = sequence << _SLOT_BITS
        free = first + 1
        for found, kind, view in self._execute(
            "SELECT id, kind, view FROM log WHERE id > ? AND id < ? ORDER BY id",
            (first, first + (1 << _SLOT_BITS)),
        ).fetchall():
            free = found + 1
            if (kind, view) == (record.kind, record.view):
                if self._kept_as_tail(first, found):
                    self._execute("UPDATE log SET kind = ? WHERE id = ?", (BODY, found))
                else:
                    self._drop(found, found)
        self._insert(free, record.kind, record.view, record.data)

    def records(self) -> tuple[Record, ...]:
        """Every record that still serves, in the order of sequences."""
        rows = self._execute(
            "SELECT id, kind, view, data FROM log"
            " WHERE (id < ? OR id >= ?) AND kind NOT IN (?, ?) ORDER BY id",
            (1 << _SLOT_BITS, self.pruned << _SLOT_BITS, CERTIFICATE, BODY),
        )
        return tuple(
            Record(kind, view, row >> _SLOT_BITS, data)
            for row, kind, view, data in rows
            if kind == CHECKPOINT or not 0 < row >> _SLOT_BITS == self.pruned
        )

    def _kept_as_tail(self, certificate: int, row: int) -> bool:
        found = self._execute("SELECT tail FROM log WHERE id = ?", (certificate,)).fetchone()
        return found is not None and found[0] == row

    # --- certificates -----------------------------------------------------------------------

    def certify(self, sequence: int, certificate: bytes, time_ms: int, origins: Origins) -> None:
        """Keep the certificate of the batch just executed; its row says how far execution came."""
        first = sequence << _SLOT_BITS
        tail, tail_bytes, head = None, None, certificate
        proposed = self._execute(
            "SELECT id, data FROM log WHERE id > ? AND id < ? AND kind = ?"
            " ORDER BY view DESC LIMIT 1",
            (first, first + (1 << _SLOT_BITS), PROPOSAL),
        ).fetchone()
        if proposed is not None:
            shared = _common_tail_bytes(certificate, proposed[1])
            if shared >= _TAIL_BYTES_MIN:
                tail, tail_bytes = proposed[0], shared
                head = certificate[: len(certificate) - shared]
        # Only the newest row needs the origins.
        self._execute("UPDATE log SET origins = NULL WHERE id = ?", (first - (1 << _SLOT_BITS),))
        packed = codec.encode(tuple((o, *origins[o]) for o in sorted(origins)))
        self._execute(
            "INSERT INTO log VALUES (?, ?, 0, ?, ?, ?, ?, ?)",
            (first, CERTIFICATE, tail, tail_bytes, time_ms, packed, head),
        )
        self._bytes += len(head)

    def executed(self) -> tuple[int, int, Origins]:
        """The last executed sequence, the agreed time there, and each origin's last bundle."""
        newest = self._execute(
            "SELECT id, time_ms, origins FROM log WHERE kind = ? ORDER BY id DESC LIMIT 1",
            (CERTIFICATE,),
        ).fetchone()
        if newest is None:
            return 0, 0, {}
        row, time_ms, packed = newest
        try:
            origins = {origin: (i, n) for origin, i, n in codec.decode(packed)}
        except (codec.WireError, TypeError, ValueError) as error:
            raise DatabaseDamaged(f"the table of origins cannot be read: {error}", "") from error
        return row >> _SLOT_BITS, time_ms, origins

    def certificates(self, first: int, last: int, max_bytes: int) -> list[bytes]:
        """The certificates from `first` on: to `last`, the first missing one, or `max_bytes`.

        At least one, however big, if there is one.
        """
        taken: list[bytes] = []
        size_bytes = 0
        for sequence in range(first, last + 1):
            found = self._execute(
                "SELECT head.data, head.tail_bytes, body.data FROM log AS head"
                " LEFT JOIN log AS body ON body.id = head.tail WHERE head.id = ?",
                (sequence << _SLOT_BITS,),
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

    def first_certificate(self) -> int:
        """The lowest sequence whose certificate is kept; 0 if there is none."""
        found = self._execute(
            "SELECT id FROM log WHERE kind = ? AND id >= ? ORDER BY id LIMIT 1",
            (CERTIFICATE, 1 << _SLOT_BITS),
        ).fetchone()
        return 0 if found is None else int(found[0]) >> _SLOT_BITS

    # --- what goes --------------------------------------------------------------------------

    def prune(self, sequence: int, executed: int) -> None:
        """A checkpoint at `sequence` is stable: drop what it makes worthless, and old batches.

        Batches are dropped, oldest first, while the log is above its size; those above the
        checkpoint never, nor the newest, which says how far execution came.
        """
        if sequence <= self.pruned:
            return
        span = (self.pruned << _SLOT_BITS, (sequence + 1 << _SLOT_BITS) - 1)
        worthless = (
            f" FROM log WHERE id BETWEEN ? AND ? AND (kind IN {_PRUNED_THROUGH}"
            " AND id NOT IN (SELECT tail FROM log WHERE id BETWEEN ? AND ? AND tail NOT NULL)"
            " OR kind = ? AND id < ?)"
        )
        bounds = (*span, *span, CHECKPOINT, sequence << _SLOT_BITS)
        (gone,) = self._execute(f"SELECT total(length(data)){worthless}", bounds).fetchone()
        self._execute(f"DELETE{worthless}", bounds)
        self._bytes -= int(gone)
        self.pruned = sequence
        self._execute("UPDATE meta SET pruned = ?", (sequence,))
        oldest = self.first_certificate()
        last = oldest
        room = self._bytes
        while room > self._bytes_max and last <= min(sequence, executed - 1):
            room -= self._size(last, last)
            last += 1
        if last > oldest:
            self._drop(1 << _SLOT_BITS, (last << _SLOT_BITS) - 1)

    def _size(self, first: int, last: int) -> int:
        (size_bytes,) = self._execute(
            "SELECT total(length(data)) FROM log WHERE id BETWEEN ? AND ?",
            (first << _SLOT_BITS, (last + 1 << _SLOT_BITS) - 1),
        ).fetchone()
        return int(size_bytes)

    def _insert(self, row: int, kind: int, view: int, data: bytes) -> None:
        self._execute(
            "INSERT INTO log (id, kind, view, data) VALUES (?, ?, ?, ?)", (row, kind, view, data)
        )
        if row >= 1 << _SLOT_BITS:
            self._bytes += len(data)

    def _drop(self, first: int, last: int) -> None:
        (gone,) = self._execute(
            "SELECT total(length(data)) FROM log WHERE id BETWEEN ? AND ? AND id >= ?",
            (first, last, 1 << _SLOT_BITS),
        ).fetchone()
        self._execute("DELETE FROM log WHERE id BETWEEN ? AND ?", (first, last))
        self._bytes -= int(gone)


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

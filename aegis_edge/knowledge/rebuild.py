"""The state of others at a checkpoint, taken in piece by piece, each one proven before it counts.

Knows the certified root, what of the own state differs from it, and what is still wanted.
Refuses to know who is asked, and who certified the root.
Follows: Castro's thesis, chapter 5; s8_17 (tests/pbft/test_checklist.py): from the root down every
digest proves those under it, a partition's entries prove its rows, and a row proves its versions.

What is proven is staged at once, so a restart, or another checkpoint, costs only digests again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from aegis_edge.knowledge import merkle, parts
from aegis_edge.knowledge.merkle import DIGEST_BYTES, LABEL_BYTES
from aegis_edge.knowledge.parts import GROUP, GROUP_PARTITIONS, HEAD, PARTITION, ROWS, Row, Want
from aegis_edge.knowledge.roll import digest_of
from aegis_edge.knowledge.state import (
    RETAINED_BYTES,
    Progress,
    Retained,
    State,
    pack_totals,
    state_root,
    unpack_retained,
)
from aegis_edge.wire.codec import WireError

T = TypeVar("T")

#: Where every transfer begins.
FIRST: Want = (HEAD, b"")


class Rebuild:
    """One transfer, to the state with `root` after the batch at `sequence`.

    `own` are the partitions of the own tree, which may not change meanwhile, `own_revision` the
    last revision of the own state; `founders` is the encoded roll of a cluster whose members never
    changed.  `entries`: those of the partitions that differ, once proven.  `parts` are known to
    differ, `done` of them are here with all their rows.
    """

    def __init__(
        self,
        sequence: int,
        root: bytes,
        own: Sequence[bytes],
        own_revision: int,
        state: State,
        founders: bytes,
    ) -> None:
        self.sequence = sequence
        self.root = root
        self.entries: dict[int, bytes] = {}
        self.progress: Progress | None = None
        self.done = 0
        self.own = own
        self._own_revision = own_revision
        self._state = state
        self._founders = founders
        self._staged = {entry for _, entry in state.staged()}
        self._groups = b""
        self._open_groups: set[int] | None = None
        self._leaves: dict[int, bytes] = {}
        self._due: dict[int, set[bytes]] = {}
        self._partly: dict[bytes, set[Retained]] = {}

    def take(self, kind: int, items: Sequence[bytes], data: bytes) -> list[Want]:
        """Prove and keep the answer to `items`; what is wanted next, unanswered items included.

        Raises `WireError` for what is not proven, before anything is kept of it but whole rows.
        """
        if kind == HEAD:
            return self._head(data)
        if kind == GROUP:
            return self._numbered(GROUP, items, data)
        if kind == PARTITION:
            return self._numbered(PARTITION, items, data)
        return self._rows(items, data)

    @property
    def parts(self) -> int:
        return len(self._leaves)

    @property
    def listing_bytes(self) -> int | None:
        """What the own entries of all partitions that differ measure; None until all are known.

        Those of the others are to be fetched, whatever rows come with them, and measure about as
        much where most keys stayed.
        """
        return None if self._open_groups != set() else sum(len(self.own[n]) for n in self._leaves)

    def has_entry(self, entry: bytes) -> bool:
        """Whether a label with the digest of its row is in a partition that differs."""
        return entry in parts.entries(self.entries.get(merkle.partition(entry), b""))

    # --- digests ---

    def _head(self, data: bytes) -> list[Want]:
        head = parts.read_head(data)
        progress = Progress(self.sequence, head.time_ms, head.revision, head.origins, head.roll)
        roll = digest_of(head.roll or self._founders)
        totals = pack_totals(head.revision, head.time_ms, head.origins, roll)
        if state_root(merkle.digest_above(head.groups), totals) != self.root:
            raise WireError("a head that is not the certified one")
        self.progress, self._groups = progress, head.groups
        wants = []
        for number in range(merkle.GROUPS):
            first = number * GROUP_PARTITIONS
            leaves = map(merkle.leaf_digest, self.own[first : first + GROUP_PARTITIONS])
            if merkle.digest_above(b"".join(leaves)) != _digest(head.groups, number):
                wants.append((GROUP, parts.group_item(number)))
        self._open_groups = {parts.read_number(item) for _, item in wants}
        return wants

    def _numbered(self, kind: int, items: Sequence[bytes], data: bytes) -> list[Want]:
        open_ = dict.fromkeys(items)
        wants: list[Want] = []
        for number, joined in _some(parts.read_numbered(data)):
            item = _item(kind, number)
            if item not in open_:
                raise WireError("a piece that nobody asked for")
            del open_[item]
            wants += self._group(number, joined) if kind == GROUP else self._entries(number, joined)
        return wants + [(kind, item) for item in open_]

    def _group(self, number: int, leaves: bytes) -> list[Want]:
        right = len(leaves) == GROUP_PARTITIONS * DIGEST_BYTES
        if not right or merkle.digest_above(leaves) != _digest(self._groups, number):
            raise WireError("a group that is not the certified one")
        assert self._open_groups is not None, "the head comes first"
        self._open_groups.discard(number)
        wants = []
        for index in range(GROUP_PARTITIONS):
            partition = number * GROUP_PARTITIONS + index
            digest = _digest(leaves, index)
            if digest != merkle.leaf_digest(self.own[partition]):
                self._leaves[partition] = digest
                wants.append((PARTITION, parts.partition_item(partition)))
        return wants

    def _entries(self, number: int, entries: bytes) -> list[Want]:
        if merkle.leaf_digest(entries) != self._leaves[number]:
            raise WireError("a partition that is not the certified one")
        self.entries[number] = entries
        known = parts.entries(self.own[number])
        due = set(parts.entries(entries)).difference(known, self._staged)
        self._due[number] = due
        self.done += not due
        wanted = sorted({entry[:LABEL_BYTES] for entry in due})
        return [(ROWS, parts.row_item(head, self._own_revision)) for head in wanted]

    # --- rows ---

    def _rows(self, items: Sequence[bytes], data: bytes) -> list[Want]:
        open_ = dict(map(parts.read_row_item, items))
        given: dict[bytes, list[Row]] = {}
        for found in _some(parts.read_rows(data)):
            given.setdefault(merkle.label(found.key.encode()), []).append(found)
        wants: list[Want] = []
        for head, rows in given.items():
            after = open_.pop(head, None)
            if after is None:
                raise WireError("a row that nobody asked for")
            wants += self._sharing(head, after, rows)
        return wants + [(ROWS, parts.row_item(head, after)) for head, after in open_.items()]

    def _sharing(self, head: bytes, after: int, rows: Sequence[Row]) -> list[Want]:
        """Take in the rows of all keys with one label: nearly always of one."""
        come = [self._row(head, after, found) for found in rows]
        further = [revision for revision in come if revision is not None]
        if further:
            return [(ROWS, parts.row_item(head, min(further)))]
        if any(entry.startswith(head) for entry in self._due[merkle.partition(head)]):
            raise WireError("not all rows of one label")
        return []

    def _row(self, head: bytes, after: int, found: Row) -> int | None:
        """Take in a row; after which revision its versions are wanted still, if any are."""
        entry = head + merkle.row_digest(found.key.encode(), found.row)
        if not self.has_entry(entry):
            raise WireError("a row that is not the certified one")
        number = merkle.partition(head)
        if entry not in self._due[number]:
            return None  # it is here, and comes along with another key of the same label
        retained = unpack_retained(found.row)
        known = self._partly.get(entry) or set(unpack_retained(self._own_row(found.key)))
        if any(r.revision <= after and r not in known for r in retained):
            return 0
        due = [r for r in retained if r.revision > after]
        come = [Retained(v.revision, v.deleted, v.digest()) for v in found.versions]
        if come != due[: len(come)] or (due and not come):
            raise WireError("versions that are not the certified ones")
        for version in found.versions:
            self._state.stage_version(version)
        if len(come) < len(due):
            self._partly[entry] = known.union(come)
            return come[-1].revision
        self._state.stage(head, found.key, found.row)
        self._staged.add(entry)
        self._due[number].remove(entry)
        self.done += not self._due[number]
        return None

    def _own_row(self, key: str) -> bytes:
        row = self._state.retained(key) or b""
        return row[: len(row) // RETAINED_BYTES * RETAINED_BYTES]  # whatever a rotten one is


def _some(pieces: list[T]) -> list[T]:
    """Whoever has none says so in another way; else it could be asked for ever."""
    if not pieces:
        raise WireError("an answer without any piece")
    return pieces


def _item(kind: int, number: int) -> bytes:
    try:
        return parts.group_item(number) if kind == GROUP else parts.partition_item(number)
    except OverflowError:
        raise WireError("a piece with a number out of its bounds") from None


def _digest(joined: bytes, index: int) -> bytes:
    return joined[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

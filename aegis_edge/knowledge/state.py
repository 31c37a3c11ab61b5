"""The nouns of the applied state, and the small port behind which it lies.

Knows what one version of a value is, and which hash stands for it.  Refuses to know where it is
kept: `disk` keeps it in SQLite, the tests and the simulator in a dict.
Follows: Castro's thesis, chapter 5 (hierarchical state partitions with digests), as far as leaves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import NamedTuple, Protocol

from aegis_edge.crypto import sodium

_VERSION_DOMAIN = b"aegis-edge vrsn"
_STATE_DOMAIN = b"aegis-edge state"
_HEADER = Struct(">QQQBBHH")
_RETAINED = Struct(">QB32s")
_TOTALS = Struct(">QQ32sI")
_ORIGIN = Struct(">BQQ")


class Version(NamedTuple):
    """One value that a key had, or its deletion (`deleted`, with an empty value).

    `revision` counts all writes of the cluster from 1; `previous_revision` is the key's version
    before this one (0: none), though that may be pruned by now; `author` is the public key of the
    node that took the write, `time_ms` the agreed time in Unix milliseconds; `media` is 0 for
    bytes and 1 for JSON.
    """

    revision: int
    key: str
    previous_revision: int
    author: bytes
    time_ms: int
    media: int
    deleted: bool
    value: bytes

    def digest(self) -> bytes:
        """The 32 bytes that stand for this version in the state root: they bind every field."""
        key = self.key.encode()
        header = _HEADER.pack(
            self.revision,
            self.previous_revision,
            self.time_ms,
            self.media,
            self.deleted,
            len(self.author),
            len(key),
        )
        return sodium.digest(_VERSION_DOMAIN, b"".join((header, self.author, key, self.value)))


class Progress(NamedTuple):
    """How far execution has come: part of the agreed state, and durable together with it.

    `executed`: the last sequence; `time_ms`: the agreed time there; `revision`: the last one of
    all; `origins`: each origin's last executed (incarnation, number); `roll`: who the members are,
    as `knowledge.roll` encodes it, and b"" for as long as that is as the cluster was founded.
    """

    executed: int = 0
    time_ms: int = 0
    revision: int = 0
    origins: Mapping[bytes, tuple[int, int]] = {}
    roll: bytes = b""


class Retained(NamedTuple):
    """What a key's row says about one of its versions: enough for the root without the values."""

    revision: int
    deleted: bool
    digest: bytes


class Rotten(Exception):
    """What lies on the disk is not what was agreed on: the rows with these labels (`merkle`)."""

    def __init__(self, *labels: bytes) -> None:
        super().__init__(f"rows that are not as agreed: {len(labels)}")
        self.labels = labels


RETAINED_BYTES = _RETAINED.size
TOTALS_BYTES_MIN = _TOTALS.size


def pack_retained(revision: int, deleted: bool, digest: bytes) -> bytes:
    """One entry, `RETAINED_BYTES` long; a key's row is its entries, oldest first."""
    return _RETAINED.pack(revision, deleted, digest)


def unpack_retained(row: bytes) -> list[Retained]:
    """A key's retained versions, oldest first."""
    return [
        Retained(revision, bool(deleted), d) for revision, deleted, d in _RETAINED.iter_unpack(row)
    ]


def retained_of(version: Version) -> Retained | None:
    """What a row says about a version; None if it has fields of any other type: the disk rots."""
    try:
        return Retained(version.revision, version.deleted, version.digest())
    except (AttributeError, TypeError, ValueError, struct.error):
        return None


def stands_for(retained: Retained, version: Version | None) -> bool:
    """Whether this is the version that a row names."""
    return version is not None and retained == retained_of(version)


def newest_retained(row: bytes) -> tuple[int, bool]:
    """The revision of a key's newest version, and whether it is a deletion."""
    revision, deleted, _ = _RETAINED.unpack_from(row, len(row) - RETAINED_BYTES)
    return revision, bool(deleted)


def pack_totals(
    revision: int, time_ms: int, origins: Mapping[bytes, tuple[int, int]], roll: bytes
) -> bytes:
    """What a state root binds beside the rows; see `Progress`.  `roll`: the digest of the roll."""
    parts = [_TOTALS.pack(revision, time_ms, roll, len(origins))]
    for origin in sorted(origins):
        parts += (_ORIGIN.pack(len(origin), *origins[origin]), origin)
    return b"".join(parts)


def unpack_totals(totals: bytes) -> tuple[int, int]:
    """The revision and the agreed time (Unix milliseconds) in totals that a root binds."""
    revision, time_ms, _, _ = _TOTALS.unpack_from(totals)
    return revision, time_ms


def state_root(top: bytes, totals: bytes) -> bytes:
    """The 32 bytes that checkpoints sign: for the rows under `top` (`merkle`), and `totals`."""
    return sodium.digest(_STATE_DOMAIN, top + totals)


class State(Protocol):
    """Where the applied state lies.  All calls of one batch become durable together, or none."""

    def progress(self) -> Progress:
        """As last given to `keep`; a fresh state has `Progress()`."""
        ...

    def keep(self, progress: Progress) -> None:
        """Remember how far execution has come."""
        ...

    def retained(self, key: str) -> bytes | None:
        """The row of `key`, or None if it never had a version."""
        ...

    def write(self, version: Version, row: bytes) -> None:
        """Add `version` to its key, whose row is `row` from now on."""
        ...

    def prune(self, revision: int) -> None:
        """Forget the version with this revision: no row names it any more."""
        ...

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Every key and its row, in any order."""
        ...

    # --- for who is given this state, or gives it ---

    def mark(self, progress: Progress) -> None:
        """This is a checkpoint, which others may fetch."""
        ...

    def marked(self) -> list[Progress]:
        """What was marked and not unmarked, oldest first."""
        ...

    def unmark(self, stable: int) -> None:
        """Checkpoints before the one at `stable` are not worth finding again."""
        ...

    def left(self) -> Iterator[Version]:
        """The versions that no row names and that were not pruned yet, oldest first."""
        ...

    def version(self, revision: int) -> Version | None:
        """The version with this revision, if it was written and not pruned."""
        ...

    def page(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """The next keys after `after` and their rows, in bytewise order of the keys."""
        ...

    def adopt(self, key: str, row: bytes, versions: Iterable[Version]) -> None:
        """Let `row` be the row of `key`; those of its versions that were not here are given."""
        ...

    def forget(self, key: str) -> None:
        """Let `key` have no row, as if it had never been written."""
        ...

    # --- what was fetched and proven, but is not part of the state yet ---

    def stage(self, label: bytes, key: str, row: bytes) -> None:
        """Keep a row that is complete: its versions are here, or were staged before."""
        ...

    def stage_version(self, version: Version) -> None:
        """Keep a version of a row that may be staged later."""
        ...

    def staged(self) -> list[tuple[str, bytes]]:
        """The key of every staged row, and its entry (`merkle`): its label and its digest."""
        ...

    def unstaged(self, key: str) -> tuple[bytes, list[Version]]:
        """The row that was staged for this key, and its staged versions."""
        ...

    def clear_stage(self) -> None:
        """Forget all that was staged."""
        ...

"""The nouns of the applied state, and the small port behind which it lies.

Knows what one version of a value is, and which hash stands for it.  Refuses to know where it is
kept: `disk` keeps it in SQLite, the tests and the simulator in a dict.
Follows: Castro's thesis, chapter 5 (hierarchical state partitions with digests), as far as leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple, Protocol

from aegis_edge.crypto import sodium

_VERSION_DOMAIN = b"aegis-edge vrsn"
_HEADER = Struct(">QQQBBHH")
_RETAINED = Struct(">QB32s")


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
    all; `origins`: each origin's last executed (incarnation, number).
    """

    executed: int = 0
    time_ms: int = 0
    revision: int = 0
    origins: Mapping[bytes, tuple[int, int]] = {}


class Retained(NamedTuple):
    """What a key's row says about one of its versions: enough for the root without the values."""

    revision: int
    deleted: bool
    digest: bytes


RETAINED_BYTES = _RETAINED.size


def pack_retained(revision: int, deleted: bool, digest: bytes) -> bytes:
    """One entry, `RETAINED_BYTES` long; a key's row is its entries, oldest first."""
    return _RETAINED.pack(revision, deleted, digest)


def unpack_retained(row: bytes) -> list[Retained]:
    """A key's retained versions, oldest first."""
    return [
        Retained(revision, bool(deleted), d) for revision, deleted, d in _RETAINED.iter_unpack(row)
    ]


def newest_retained(row: bytes) -> tuple[int, bool]:
    """The revision of a key's newest version, and whether it is a deletion."""
    revision, deleted, _ = _RETAINED.unpack_from(row, len(row) - RETAINED_BYTES)
    return revision, bool(deleted)


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

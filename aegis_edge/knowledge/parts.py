"""The pieces in which a state at a checkpoint travels, as values and as bytes.

Knows their shapes and bounds.  Refuses to know whether a piece is true: `rebuild` compares it with
what a quorum signed.  Any bytes at all give a piece or `WireError`.
Follows: Castro's thesis, chapter 5 (hierarchical state transfer): first the digests, from the top
down, then the rows of those partitions that differ.

    HEAD       item: nothing            what the root binds besides rows, and 64 digests of groups
    GROUP      item: number, 1 byte     the digests of the 64 partitions of a group
    PARTITION  item: number, 2 bytes    the entries of a partition (`merkle`)
    ROWS       item: label, revision    a row, and its versions after that revision, oldest first;
                                        where several keys have one label, those of all of them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any, NamedTuple

from aegis_edge.knowledge.merkle import (
    DIGEST_BYTES,
    ENTRY_BYTES,
    GROUPS,
    LABEL_BYTES,
    PARTITIONS,
)
from aegis_edge.knowledge.operations import KEY_BYTES_MAX, REVISION_MAX, VALUE_BYTES_MAX
from aegis_edge.knowledge.state import Version
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

HEAD, GROUP, PARTITION, ROWS = range(4)

#: What is wanted of a state: the kind of a piece, and which one.
Want = tuple[int, bytes]

GROUP_PARTITIONS = PARTITIONS // GROUPS
_AUTHOR_BYTES_MAX = 64
_ROW_ITEM = Struct(f">{LABEL_BYTES}sQ")


class Head(NamedTuple):
    """See `state.Progress`; `groups` are 64 joined digests."""

    revision: int
    time_ms: int
    origins: Mapping[bytes, tuple[int, int]]
    groups: bytes
    roll: bytes = b""


class Row(NamedTuple):
    """A key's row, and some of the versions that it names, oldest first."""

    key: str
    row: bytes
    versions: Sequence[Version]


def group_item(number: int) -> bytes:
    return number.to_bytes(1, "big")


def partition_item(number: int) -> bytes:
    return number.to_bytes(2, "big")


def row_item(label: bytes, after_revision: int) -> bytes:
    return _ROW_ITEM.pack(label, after_revision)


def read_number(item: bytes) -> int:
    return int.from_bytes(item, "big")


def read_row_item(item: bytes) -> tuple[bytes, int]:
    """The label and the revision in an item; raises `WireError`."""
    if len(item) != _ROW_ITEM.size:
        raise WireError("a row is asked for by its label and a revision")
    label, after = _ROW_ITEM.unpack(item)
    return label, after


def entries(joined: bytes) -> list[bytes]:
    """The entries of a partition, one by one."""
    return [joined[at : at + ENTRY_BYTES] for at in range(0, len(joined), ENTRY_BYTES)]


# --- packing ----------------------------------------------------------------------------------


def pack_head(head: Head) -> bytes:
    origins = tuple((origin, *head.origins[origin]) for origin in sorted(head.origins))
    return codec.encode((head.revision, head.time_ms, origins, head.groups, head.roll))


def pack_numbered(found: Sequence[tuple[int, bytes]]) -> bytes:
    """Groups or partitions, each with its number."""
    return codec.encode(tuple(found))


def pack_rows(rows: Sequence[Row]) -> bytes:
    return codec.encode(
        tuple(
            (key, row, tuple((v.revision, *v[2:6], v.deleted, v.value) for v in versions))
            for key, row, versions in rows
        )
    )


# --- reading ----------------------------------------------------------------------------------


def read_head(data: bytes) -> Head:
    revision, time_ms, origins, groups, roll = _fields(
        codec.decode(data), int, int, tuple, bytes, bytes
    )
    if len(groups) != GROUPS * DIGEST_BYTES:
        raise WireError("a head has 64 digests")
    table = {}
    for each in origins:
        origin, incarnation, number = _fields(each, bytes, int, int)
        if len(origin) > _AUTHOR_BYTES_MAX:
            raise WireError("an origin of too many bytes")
        table[origin] = (_counter(incarnation), _counter(number))
    return Head(_counter(revision), _counter(time_ms), table, groups, roll)


def read_numbered(data: bytes) -> list[tuple[int, bytes]]:
    found = _fields(codec.decode(data))
    return [(number, joined) for number, joined in (_fields(each, int, bytes) for each in found)]


def read_rows(data: bytes) -> list[Row]:
    rows = []
    for each in _fields(codec.decode(data)):
        key, row, versions = _fields(each, str, bytes, tuple)
        if len(key.encode()) > KEY_BYTES_MAX:
            raise WireError("a key above its size bound")
        rows.append(Row(key, row, [_version(key, version) for version in versions]))
    return rows


def _version(key: str, fields: Any) -> Version:
    revision, previous, author, time_ms, media, deleted, value = _fields(
        fields, int, int, bytes, int, int, bool, bytes
    )
    if len(author) > _AUTHOR_BYTES_MAX or len(value) > VALUE_BYTES_MAX or not 0 <= media < 256:
        raise WireError("a version out of its bounds")
    counters = [_counter(number) for number in (revision, previous, time_ms)]
    return Version(counters[0], key, counters[1], author, counters[2], media, deleted, value)


def _fields(value: Any, *types: type) -> tuple[Any, ...]:
    """An array; where types are given, of exactly these."""
    if type(value) is not tuple or (types and tuple(map(type, value)) != types):
        raise WireError("a piece of a state of another shape")
    return value


def _counter(value: int) -> int:
    if not 0 <= value <= REVISION_MAX:
        raise WireError("a number out of its bounds")
    return value

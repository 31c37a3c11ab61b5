"""What shows anybody that a key has this version, or never had one, in the state with a given root.

Knows the way from a version up to the root, and what each step of it binds.
Refuses to know who vouches for the root: that is a certificate, see `aegis_edge.proof`.
Follows: RFC 9162 section 2.1.3 (inclusion proofs), over the tree of `merkle`.

It carries its key's whole partition: 40 bytes for one of 4096 keys, 1 KB with 100,000 keys.  A tree
within each partition would make that 200 bytes, and the hashing of a put 16 times what it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from aegis_edge.crypto import sodium
from aegis_edge.knowledge import merkle
from aegis_edge.knowledge.merkle import DIGEST_BYTES, ENTRY_BYTES, LABEL_BYTES, Tree
from aegis_edge.knowledge.operations import (
    MEDIA_BYTES,
    MEDIA_JSON,
    REVISION_MAX,
    VALUE_BYTES_MAX,
    check_key,
)
from aegis_edge.knowledge.state import (
    RETAINED_BYTES,
    TOTALS_BYTES_MIN,
    Version,
    state_root,
    unpack_retained,
    unpack_totals,
)
from aegis_edge.wire.codec import WireError

_PATH_BYTES = merkle.LEVELS * DIGEST_BYTES


class InclusionError(WireError):
    """Bytes that show nothing about a key; the message says where they break."""


class Unprovable(Exception):
    """That a key is absent cannot be shown: another one has its label (see `merkle`)."""


class Inclusion(NamedTuple):
    """A key and its newest version at one moment, None if it never had one, with the way up.

    `row`: all that the key retains then (`state`), empty without a version; `entries`: of its
    partition; `path`: the digests beside the way to the top; `totals`: the rest of the root.
    """

    key: str
    version: Version | None
    row: bytes
    entries: bytes
    path: bytes
    totals: bytes

    @property
    def revision(self) -> int:
        """The last revision of all in that state."""
        return unpack_totals(self.totals)[0]

    @property
    def time_ms(self) -> int:
        """The agreed time of that state, Unix milliseconds."""
        return unpack_totals(self.totals)[1]

    def fields(self) -> tuple[Any, ...]:
        """What `parse` reads; the revision and the deletion stand in the row already."""
        version = self.version
        said = version and (
            version.previous_revision,
            version.author,
            version.time_ms,
            version.media,
            version.value,
        )
        return (self.key, said, self.row, self.entries, self.path, self.totals)

    @classmethod
    def parse(cls, fields: Any) -> Inclusion:
        """Of anything decoded; raises `InclusionError`.  It shows nothing before `check`."""
        if type(fields) is not tuple or len(fields) != 6:
            raise InclusionError("not the six parts of what shows a key")
        key, said, row, entries, path, totals = fields
        try:
            check_key(key)
        except WireError as error:
            raise InclusionError(f"its key is none: {error}") from None
        if not all(type(part) is bytes for part in (row, entries, path, totals)):
            raise InclusionError("a part that is no byte string")
        if len(row) % RETAINED_BYTES or len(entries) % ENTRY_BYTES or len(path) != _PATH_BYTES:
            raise InclusionError("a part of a wrong size")
        if len(totals) < TOTALS_BYTES_MIN:
            raise InclusionError("totals that are too short")
        if bool(row) != (said is not None):
            raise InclusionError("a version without a row, or a row without a version")
        version = None if said is None else _version(key, row, said)
        return cls(key, version, row, entries, path, totals)

    def check(self, root: bytes) -> None:
        """Raise `InclusionError` unless the key had this version in the state with this root."""
        key = self.key.encode()
        head = merkle.label(key)
        top = merkle.top_by_path(merkle.partition(head), self.entries, self.path)
        if state_root(top, self.totals) != root:
            raise InclusionError("it does not lead to the state root that was signed")
        if self.version is None:
            if head in _labels(self.entries):
                raise InclusionError("the key that it calls absent is there")
            return
        if head + merkle.row_digest(key, self.row) not in _each(self.entries):
            raise InclusionError("the key does not have this row")
        if self.version.digest() != unpack_retained(self.row)[-1].digest:
            raise InclusionError("the row names another version")


class Moment:
    """A state whose root was taken; see `Machine.moment`.

    It holds digests, and looks its partitions up in the `tree` as that is now: so of the keys in
    those that changed since it shows nothing.
    """

    def __init__(self, tree: Tree, totals: bytes) -> None:
        self._tree = tree
        self._then = tree.snapshot()
        self._totals = totals

    def is_current(self, key: str) -> bool:
        """Whether all keys in the partition of `key` have the rows that they had then."""
        number = merkle.partition(merkle.label(key.encode()))
        return merkle.leaf_digest(self._tree.entries(number)) == self._then.leaf(number)

    def shows(self, key: str, row: bytes | None, version: Version | None) -> Inclusion:
        """What shows that `version` was the newest of `key` then, in its `row`; None: it had none.

        To be asked where it `is_current`.  Raises `Unprovable` if `key` had none, and another key
        has its label.
        """
        head = merkle.label(key.encode())
        number = merkle.partition(head)
        entries = self._tree.entries(number)
        if row is None and head in _labels(entries):
            raise Unprovable(f"{key} is absent, but another key has the same label")
        path = self._then.path(number)
        return Inclusion(key, version, row or b"", entries, path, self._totals)


def _each(entries: bytes) -> list[bytes]:
    return [entries[at : at + ENTRY_BYTES] for at in range(0, len(entries), ENTRY_BYTES)]


def _labels(entries: bytes) -> list[bytes]:
    return [entries[at : at + LABEL_BYTES] for at in range(0, len(entries), ENTRY_BYTES)]


def _version(key: str, row: bytes, said: Any) -> Version:
    if type(said) is not tuple or len(said) != 5:
        raise InclusionError("not the five fields of a version")
    previous_revision, author, time_ms, media, value = said
    counters = (previous_revision, time_ms, media)
    if not all(type(each) is int and 0 <= each <= REVISION_MAX for each in counters):
        raise InclusionError("a number of the version that is none")
    if media not in (MEDIA_BYTES, MEDIA_JSON):
        raise InclusionError("a value that is neither bytes nor JSON")
    if type(author) is not bytes or len(author) != sodium.KEY_BYTES:
        raise InclusionError("an author that is no public key")
    if type(value) is not bytes or len(value) > VALUE_BYTES_MAX:
        raise InclusionError("a value that is no byte string, or too large")
    newest = unpack_retained(row)[-1]
    return Version(
        newest.revision,
        key,
        previous_revision,
        author,
        time_ms,
        media,
        newest.deleted,
        value,
    )

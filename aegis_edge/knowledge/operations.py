"""What callers ask of the knowledge base, as values and as bytes.

Knows the shape and the bounds of each operation.  Refuses to know what it does, and to whom.
Follows: the house's deterministic CBOR (RFC 8949 section 4.2); any bytes at all give an operation
or `OperationError`, the same everywhere, for bad bytes may well be agreed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple

from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

KEY_BYTES_MAX = 512
VALUE_BYTES_MAX = 256 * 1024
REVISION_MAX = 2**63 - 1
RECORD_BYTES_MAX = 2048
MEMBER_KEY_BYTES = 32

#: What a value is; the state machine itself never looks inside one.
MEDIA_BYTES = 0
MEDIA_JSON = 1

#: Segments between slashes: none empty, none "." or "..", and no control characters (C0, DEL, C1).
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f-\x9f]+"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*").fullmatch
#: What the name of a parameter looks like, whether there is one or not.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}").fullmatch


class OperationError(WireError):
    """An operation that nobody may execute; the message says what to change."""


class Status(IntEnum):
    """What came of an operation."""

    DONE = 0
    #: The key's revision is not the expected one; nothing changed.
    CONFLICT = 1
    #: There was nothing to delete; nothing changed.
    ABSENT = 2
    #: The bytes are no operation; nothing changed.
    INVALID = 3
    #: The rules about members do not allow it; nothing changed.
    REFUSED = 4


class Outcome(NamedTuple):
    """What an executed operation answers; equal on every correct node.

    `revision`: the one that a write made, and for a barrier the last one of all; for a conflict
    the revision that the key has (0: none); else 0.  `time_ms`: the agreed time, Unix milliseconds.
    """

    status: Status
    revision: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Put:
    """Give `key` a value.  `expected`: the revision the key must have (0: it must not exist)."""

    TAG: ClassVar[int] = 1
    key: str
    value: bytes
    media: int = MEDIA_BYTES
    expected: int | None = None

    def encode(self) -> bytes:
        """The bytes for a bundle; raises `OperationError` when a bound is passed."""
        _check_put(self.key, self.value, self.media, self.expected)
        return codec.encode((self.TAG, self.key, self.value, self.media, self.expected))


@dataclass(frozen=True, slots=True)
class Delete:
    """Take `key` away; its history stays.  `expected`: the revision the key must have."""

    TAG: ClassVar[int] = 2
    key: str
    expected: int | None = None

    def encode(self) -> bytes:
        """The bytes for a bundle; raises `OperationError` when a bound is passed."""
        _check_delete(self.key, self.expected)
        return codec.encode((self.TAG, self.key, self.expected))


@dataclass(frozen=True, slots=True)
class Barrier:
    """Change nothing: its outcome says that everything agreed before it is readable."""

    TAG: ClassVar[int] = 3

    def encode(self) -> bytes:
        """The bytes for a bundle."""
        return codec.encode((self.TAG,))


@dataclass(frozen=True, slots=True)
class Admit:
    """A change of members: the node whose signed record this is joins, perhaps `instead_of` one."""

    KIND: ClassVar[int] = 1
    record: bytes
    instead_of: bytes | None = None

    def fields(self) -> tuple[object, ...]:
        return (self.KIND, self.record, self.instead_of)


@dataclass(frozen=True, slots=True)
class Dismiss:
    """A change of members: the one with this key goes."""

    KIND: ClassVar[int] = 2
    key: bytes

    def fields(self) -> tuple[object, ...]:
        return (self.KIND, self.key)


@dataclass(frozen=True, slots=True)
class Adjust:
    """A change of what all members do alike: the parameter of this name gets this value.

    Which there are, and what each may be: see `agreed`.
    """

    KIND: ClassVar[int] = 3
    name: str
    value: int

    def fields(self) -> tuple[object, ...]:
        return (self.KIND, self.name, self.value)


Change = Admit | Dismiss | Adjust


@dataclass(frozen=True, slots=True)
class Propose:
    """Put a change of members, or of what they share, to the vote; who proposes it says yes.

    `expected`: the number of the configuration for which it is meant: what comes late must not
    change another one.
    """

    TAG: ClassVar[int] = 4
    change: Change
    expected: int | None = None

    def encode(self) -> bytes:
        """The bytes for a bundle that is `of_members`; raises `OperationError` out of bounds."""
        _check_change(*self.change.fields())
        _check_expected(self.expected)
        return codec.encode((self.TAG, self.change.fields(), self.expected))


@dataclass(frozen=True, slots=True)
class Approve:
    """A vote on the open proposal `number`; a later one of the same member replaces it."""

    TAG: ClassVar[int] = 5
    number: int
    yes: bool

    def encode(self) -> bytes:
        """The bytes for a bundle that is `of_members`; raises `OperationError` out of bounds."""
        _check_vote(self.number, self.yes)
        return codec.encode((self.TAG, self.number, self.yes))


@dataclass(frozen=True, slots=True)
class Leave:
    """The node whose bundle this is goes, and asks nobody; for `expected` see `Propose`."""

    TAG: ClassVar[int] = 6
    expected: int | None = None

    def encode(self) -> bytes:
        """The bytes for a bundle that is `of_members`; raises `OperationError` out of bounds."""
        _check_expected(self.expected)
        return codec.encode((self.TAG, self.expected))


Operation = Put | Delete | Barrier | Propose | Approve | Leave


def decode(raw: bytes) -> Operation:
    """The operation that `raw` stands for; raises `OperationError`, and nothing else."""
    try:
        fields = codec.decode(raw)
    except WireError as error:
        raise OperationError(f"not an operation: {error}") from None
    if type(fields) is not tuple or not fields or type(fields[0]) is not int:
        raise OperationError("not an operation: no array that starts with a kind")
    kind, *rest = fields
    if kind == Put.TAG and len(rest) == 4:
        key, value, media, expected = rest
        _check_put(key, value, media, expected)
        return Put(key, value, media, expected)
    if kind == Delete.TAG and len(rest) == 2:
        key, expected = rest
        _check_delete(key, expected)
        return Delete(key, expected)
    if kind == Barrier.TAG and not rest:
        return Barrier()
    if kind == Propose.TAG and len(rest) == 2 and type(rest[0]) is tuple:
        change, expected = rest
        _check_expected(expected)
        return Propose(_check_change(*change), expected)
    if kind == Approve.TAG and len(rest) == 2:
        number, yes = rest
        _check_vote(number, yes)
        return Approve(number, yes)
    if kind == Leave.TAG and len(rest) == 1:
        (expected,) = rest
        _check_expected(expected)
        return Leave(expected)
    raise OperationError("not an operation: an unknown kind, or fields that do not belong to it")


def check_key(key: object) -> None:
    """Raise `OperationError` unless `key` is a path of 1 to 512 bytes of UTF-8.

    Keys are compared byte by byte: texts that look alike but are composed differently (Unicode
    normal forms) are different keys.
    """
    if type(key) is not str or not key:
        raise OperationError("a key is a text that is not empty, such as notes/garden")
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise OperationError("a key must be UTF-8; this one holds half a surrogate pair") from None
    if size_bytes > KEY_BYTES_MAX:
        raise OperationError(f"a key of {size_bytes} bytes: at most {KEY_BYTES_MAX} are allowed")
    if _KEY(key) is None:
        raise OperationError(
            "a key is segments with single slashes between them: none at either end, "
            'no segment "." or "..", and no control characters'
        )


def _check_change(kind: object = None, *fields: object) -> Change:
    if kind == Admit.KIND and len(fields) == 2:
        record, instead_of = fields
        if type(record) is bytes and len(record) <= RECORD_BYTES_MAX:
            if instead_of is None:
                return Admit(record)
            if type(instead_of) is bytes and len(instead_of) == MEMBER_KEY_BYTES:
                return Admit(record, instead_of)
    if kind == Dismiss.KIND and len(fields) == 1:
        (key,) = fields
        if type(key) is bytes and len(key) == MEMBER_KEY_BYTES:
            return Dismiss(key)
    if kind == Adjust.KIND and len(fields) == 2:
        name, value = fields
        if type(name) is str and _NAME(name) and type(value) is int and 0 <= value <= REVISION_MAX:
            return Adjust(name, value)
    raise OperationError("no change: an unknown kind, or fields that do not belong to it")


def _check_vote(number: object, yes: object) -> None:
    if type(number) is not int or not 1 <= number <= REVISION_MAX or type(yes) is not bool:
        raise OperationError("a vote names a proposal, from 1 on, and says yes or no")


def _check_put(key: object, value: object, media: object, expected: object) -> None:
    check_key(key)
    if type(value) is not bytes:
        raise OperationError("a value is a byte string")
    if len(value) > VALUE_BYTES_MAX:
        raise OperationError(
            f"a value of {len(value)} bytes: at most {VALUE_BYTES_MAX} are allowed; split it"
        )
    if type(media) is not int or media not in (MEDIA_BYTES, MEDIA_JSON):
        raise OperationError("a value is marked 0 (bytes) or 1 (JSON), nothing else")
    _check_expected(expected)


def _check_delete(key: object, expected: object) -> None:
    check_key(key)
    _check_expected(expected)


def _check_expected(expected: object) -> None:
    if expected is not None and (type(expected) is not int or not 0 <= expected <= REVISION_MAX):
        raise OperationError("an expected revision is a number from 0 to 2^63-1, or absent")

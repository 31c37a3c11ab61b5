"""The vocabulary: every message that two nodes exchange, as frozen dataclasses and one tag table.

Knows the shape and the bounds of each message, and which bytes stand for it.
Refuses to know what a message is for: no quorum, no view, no clock.
Follows: Castro and Liskov, "Practical Byzantine Fault Tolerance" (OSDI '99), sections 4.2 to 4.5,
in the variant with signatures; the encoding is `codec`, the signatures are `envelope`.

Two families travel on a link.  *Signed* messages go inside an envelope and are what a node says.
*Carriers* are containers without a signature of their own: each part is a signed envelope, or is
covered by a digest that a signed envelope names, so nothing in them is believed unproven.  Who
follows the agreed log without a vote asks in carriers, too; what comes back proves itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, cast

from aegis_edge.crypto import sodium
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

#: Sizes and counts that no message may exceed: the decoders allocate nothing beyond them.
DIGEST_BYTES = sodium.DIGEST_BYTES
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
OPERATION_BYTES_MAX = 320 * 1024
BUNDLE_OPERATIONS_MAX = 512
BUNDLE_BYTES_MAX = 512 * 1024
BATCH_BUNDLES_MAX = 64
BATCH_BYTES_MAX = 1024 * 1024
MEMBERS_MAX = 64
WINDOW_MAX = 256
ADDRESSES_MAX = 8
ADDRESS_BYTES_MAX = 128
NAME_BYTES_MAX = 32
COUNTER_MAX = 2**63 - 1
FETCH_BATCHES_MAX = 128
FETCH_STATE_ITEMS_MAX = 64
OTHERS_MAX = 4
#: How many hand the agreed log on, one to the next, before it is too far from those who vote.
HOPS_MAX = 16
STATE_ITEM_BYTES_MAX = 16
#: Of all kinds of pieces the one that is of no state: see `read_lineage`.  Its one item is the
#: number of the configuration that the asker knows.
HANDOVERS = 4
HANDOVERS_ITEM_BYTES = 8
#: A piece of a state: see `knowledge.held`, and a partition with very many keys.
STATE_PART_BYTES_MAX = 2 * 1024 * 1024
#: A commit of each of so many members, and the keys of as many.
HANDOVER_BYTES_MAX = 32 * 1024
#: What they agreed on beside.
TERMS_BYTES_MAX = 1024
#: What one answer brings of them.
HANDOVERS_MAX = 1024
#: What a pre-prepare, a prepare or a checkpoint measures at most, in its envelope and an array.
_VOTE_BYTES_MAX = 176

M = TypeVar("M", bound="Signed")
M_co = TypeVar("M_co", bound="Signed", covariant=True)


class Verified(Generic[M_co]):
    """A message whose signature has been checked; only `envelope` makes one.

    `message` is what was said, `signer` the 32-byte public key that said it, `raw` the whole
    envelope as it came, ready to be stored or passed on.
    """

    __slots__ = ("message", "raw", "signer")
    message: M_co
    signer: bytes
    raw: bytes

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError("only the check of an envelope makes a Verified: see envelope.Opener")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Verified never changes: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Verified never changes: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verified) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Verified({self.message!r}, signer={self.signer.hex()[:8]})"


_new = object.__new__
_set_message = Verified.__dict__["message"].__set__
_set_signer = Verified.__dict__["signer"].__set__
_set_raw = Verified.__dict__["raw"].__set__


def mint(message: M, signer: bytes, raw: bytes) -> Verified[M]:
    """For `envelope` alone, after the check: a test sees to it that no other module calls it."""
    verified: Verified[M] = _new(Verified)
    _set_message(verified, message)
    _set_signer(verified, signer)
    _set_raw(verified, raw)
    return verified


Open = Callable[[bytes], "Verified[Any]"]


class Signed:
    """Base of the messages that travel in envelopes; `TAG` opens the payload array."""

    TAG: ClassVar[int]
    #: False for messages that exist before any cluster does: their signature covers no cluster id.
    IN_CLUSTER: ClassVar[bool] = True

    def fields(self) -> tuple[Any, ...]:
        raise AssertionError("each message lists its own fields")

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Signed:
        raise AssertionError("each message parses its own fields")


# --- identity -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeRecord(Signed):
    """What a node says about itself: how to reach it and which Noise key is its own.

    `version` rises with every change, `expires_s` is Unix seconds, `addresses` are texts such as
    ``tcp:host:port``, `proofs` signatures (64 bytes) of those who hold the keys of the onion
    services among them, in order.  The signer of the envelope is the node.
    """

    TAG: ClassVar[int] = 1
    IN_CLUSTER: ClassVar[bool] = False
    version: int
    noise_key: bytes
    addresses: tuple[str, ...]
    expires_s: int
    name: str
    proofs: tuple[bytes, ...] = ()

    def fields(self) -> tuple[Any, ...]:
        return (
            self.version,
            self.noise_key,
            self.addresses,
            self.expires_s,
            self.name,
            self.proofs,
        )

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> NodeRecord:
        version, noise_key, addresses, expires_s, name, proofs = _count(fields, 6)
        return cls(
            _counter(version),
            _digest(noise_key),
            tuple(_address(a) for a in _array(addresses, ADDRESSES_MAX)),
            _counter(expires_s),
            _line(name, NAME_BYTES_MAX),
            tuple(_signature(p) for p in _array(proofs, ADDRESSES_MAX)),
        )


@dataclass(frozen=True, slots=True)
class Pass(Signed):
    """A member's word for `observer` (its key), who is none: it may follow until `until_ms`.

    That is agreed time, in Unix milliseconds.  The signer of the envelope is the member.
    """

    TAG: ClassVar[int] = 16
    observer: bytes
    until_ms: int

    def fields(self) -> tuple[Any, ...]:
        return (self.observer, self.until_ms)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Pass:
        observer, until_ms = _count(fields, 2)
        return cls(_digest(observer), _counter(until_ms))


# --- requests -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bundle(Signed):
    """Operations that one node took from its callers, signed once by that node (the origin).

    It executes at most once: exactly when (`incarnation`, `number`) follows the origin's last
    executed pair, i.e. the same incarnation and the next number, or a higher incarnation and 1.
    Only one that is `of_members` can change who the members are: nobody executes the next batch
    before it is known whether it did.
    """

    TAG: ClassVar[int] = 2
    incarnation: int
    number: int
    operations: tuple[bytes, ...]
    of_members: bool = False

    def fields(self) -> tuple[Any, ...]:
        last = (True,) if self.of_members else ()
        return (self.incarnation, self.number, self.operations, *last)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Bundle:
        of_members = len(fields) == 4 and fields[3] is True
        incarnation, number, operations = _count(fields[:3] if of_members else fields, 3)
        taken = tuple(
            _bytes(op, OPERATION_BYTES_MAX) for op in _array(operations, BUNDLE_OPERATIONS_MAX)
        )
        if not taken:
            raise WireError("a bundle without operations")
        if sum(map(len, taken)) > BUNDLE_BYTES_MAX:
            raise WireError("a bundle above its size bound")
        return cls(_positive(incarnation), _positive(number), taken, of_members)


# --- agreement: the three phases -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vote(Signed):
    configuration: int
    view: int
    sequence: int
    digest: bytes

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.view, self.sequence, self.digest)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> _Vote:
        configuration, view, sequence, digest = _count(fields, 4)
        return cls(_counter(configuration), _counter(view), _positive(sequence), _digest(digest))


@dataclass(frozen=True, slots=True)
class PrePrepare(_Vote):
    """The primary of `view` gives `sequence` to the batch with `digest`."""

    TAG: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class Prepare(_Vote):
    """A backup took that pre-prepare, and will take no other for the same view and sequence."""

    TAG: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class Commit(_Vote):
    """The sender holds a prepared certificate; `clock_ms` is its clock (Unix milliseconds).

    `successor` stands for the configuration that begins after this batch, if one does; else it is
    empty.  So a quorum of commits proves, beside the batch, who the members are from then on.
    """

    TAG: ClassVar[int] = 5
    clock_ms: int
    successor: bytes = b""

    @property
    def vote(self) -> tuple[Any, ...]:
        """All that commits of one certificate have in common: everything but the clock."""
        return (self.configuration, self.view, self.sequence, self.digest, self.successor)

    def fields(self) -> tuple[Any, ...]:
        last = (self.successor,) if self.successor else ()
        return (self.configuration, self.view, self.sequence, self.digest, self.clock_ms, *last)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Commit:
        count = 6 if len(fields) == 6 else 5
        configuration, view, sequence, digest, clock_ms, *last = _count(fields, count)
        return cls(
            _counter(configuration),
            _counter(view),
            _positive(sequence),
            _digest(digest),
            _counter(clock_ms),
            *map(_digest, last),
        )


# --- agreement: checkpoints, views, repair ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint(Signed):
    """The sender's state root after it executed `sequence`."""

    TAG: ClassVar[int] = 6
    configuration: int
    sequence: int
    root: bytes

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.sequence, self.root)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Checkpoint:
        configuration, sequence, root = _count(fields, 3)
        return cls(_counter(configuration), _counter(sequence), _digest(root))


@dataclass(frozen=True, slots=True)
class PreparedCertificate:
    """A pre-prepare and the prepares that match it; counted and judged by `pbft.certificates`."""

    pre_prepare: Verified[PrePrepare]
    prepares: tuple[Verified[Prepare], ...]

    def pack(self) -> tuple[Any, ...]:
        return (self.pre_prepare.raw, tuple(p.raw for p in self.prepares))

    @classmethod
    def unpack(cls, value: Any, open_: Open) -> PreparedCertificate:
        pre_prepare, prepares = _count(_array(value, 2), 2)
        return cls(
            _nested(pre_prepare, PrePrepare, open_),
            _votes(prepares, Prepare, open_),
        )


@dataclass(frozen=True, slots=True)
class ViewChange(Signed):
    """The sender leaves for `view` with what it knows: a stable checkpoint and what it prepared."""

    TAG: ClassVar[int] = 7
    configuration: int
    view: int
    stable_sequence: int
    stable: tuple[Verified[Checkpoint], ...]
    prepared: tuple[PreparedCertificate, ...]

    def fields(self) -> tuple[Any, ...]:
        return (
            self.configuration,
            self.view,
            self.stable_sequence,
            tuple(c.raw for c in self.stable),
            tuple(p.pack() for p in self.prepared),
        )

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> ViewChange:
        configuration, view, stable_sequence, stable, prepared = _count(fields, 5)
        return cls(
            _counter(configuration),
            _positive(view),
            _counter(stable_sequence),
            _votes(stable, Checkpoint, open_),
            tuple(PreparedCertificate.unpack(p, open_) for p in _array(prepared, WINDOW_MAX)),
        )


@dataclass(frozen=True, slots=True)
class NewView(Signed):
    """The primary of `view` shows a quorum of view changes and the pre-prepares that follow."""

    TAG: ClassVar[int] = 8
    configuration: int
    view: int
    view_changes: tuple[Verified[ViewChange], ...]
    pre_prepares: tuple[Verified[PrePrepare], ...]

    def fields(self) -> tuple[Any, ...]:
        return (
            self.configuration,
            self.view,
            tuple(v.raw for v in self.view_changes),
            tuple(p.raw for p in self.pre_prepares),
        )

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> NewView:
        configuration, view, view_changes, pre_prepares = _count(fields, 4)
        return cls(
            _counter(configuration),
            _positive(view),
            _votes(view_changes, ViewChange, open_),
            tuple(_nested(p, PrePrepare, open_) for p in _array(pre_prepares, WINDOW_MAX)),
        )


@dataclass(frozen=True, slots=True)
class Status(Signed):
    """Where the sender stands, so that a peer can resend what it lacks; also a clock reading.

    `view` is the view the sender is in or, while `changing`, the view it wants.  `following_bytes`
    go to all in one piece right after this, where that takes long; else 0.
    """

    TAG: ClassVar[int] = 9
    configuration: int
    view: int
    changing: bool
    stable_sequence: int
    executed_sequence: int
    clock_ms: int
    following_bytes: int = 0

    def fields(self) -> tuple[Any, ...]:
        return (
            self.configuration,
            self.view,
            self.changing,
            self.stable_sequence,
            self.executed_sequence,
            self.clock_ms,
            self.following_bytes,
        )

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Status:
        configuration, view, changing, stable, executed, clock_ms, following = _count(fields, 7)
        return cls(
            _counter(configuration),
            _counter(view),
            _bool(changing),
            _counter(stable),
            _counter(executed),
            _counter(clock_ms),
            _counter(following),
        )


@dataclass(frozen=True, slots=True)
class FetchBatches(Signed):
    """Asks for the committed batches `first` to `last`, both included."""

    TAG: ClassVar[int] = 10
    configuration: int
    first: int
    last: int

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.first, self.last)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> FetchBatches:
        configuration, first, last = _count(fields, 3)
        if not _positive(first) <= _positive(last) < first + FETCH_BATCHES_MAX:
            raise WireError("a fetch of no batches, or of too many")
        return cls(_counter(configuration), first, last)


@dataclass(frozen=True, slots=True)
class FetchBody(Signed):
    """Asks for the batch with `digest`, which a certificate names and the sender lacks."""

    TAG: ClassVar[int] = 11
    configuration: int
    digest: bytes

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.digest)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> FetchBody:
        configuration, digest = _count(fields, 2)
        return cls(_counter(configuration), _digest(digest))


@dataclass(frozen=True, slots=True)
class Gone(Signed):
    """The sender no longer keeps the batch `first`, which was asked for."""

    TAG: ClassVar[int] = 12
    configuration: int
    first: int

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.first)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> Gone:
        configuration, first = _count(fields, 2)
        return cls(_counter(configuration), _positive(first))


@dataclass(frozen=True, slots=True)
class FetchState(Signed):
    """Asks for pieces of the state after the stable checkpoint at `sequence`.

    What kinds and items there are is for `knowledge.parts` to know, but for `HANDOVERS`.
    """

    TAG: ClassVar[int] = 13
    configuration: int
    sequence: int
    kind: int
    items: tuple[bytes, ...]

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.sequence, self.kind, self.items)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> FetchState:
        configuration, sequence, kind, items = _count(fields, 4)
        return cls(
            _counter(configuration),
            _positive(sequence),
            _counter(kind),
            tuple(_bytes(i, STATE_ITEM_BYTES_MAX) for i in _array(items, FETCH_STATE_ITEMS_MAX)),
        )


@dataclass(frozen=True, slots=True)
class AskReadIndex(Signed):
    """Asks up to where the others have committed themselves; the sender's question `number`."""

    TAG: ClassVar[int] = 14
    configuration: int
    incarnation: int
    number: int

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.incarnation, self.number)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> AskReadIndex:
        configuration, incarnation, number = _count(fields, 3)
        return cls(_counter(configuration), _positive(incarnation), _positive(number))


@dataclass(frozen=True, slots=True)
class ReadIndex(Signed):
    """The answer: the highest `sequence` for which the sender ever signed a commit, or above."""

    TAG: ClassVar[int] = 15
    configuration: int
    incarnation: int
    number: int
    sequence: int

    def fields(self) -> tuple[Any, ...]:
        return (self.configuration, self.incarnation, self.number, self.sequence)

    @classmethod
    def parse(cls, fields: tuple[Any, ...], open_: Open) -> ReadIndex:
        configuration, incarnation, number, sequence = _count(fields, 4)
        return cls(
            _counter(configuration),
            _positive(incarnation),
            _positive(number),
            _counter(sequence),
        )


def new_view_bytes_max(quorum: int, window: int) -> int:
    """What a NEW-VIEW measures at most: `quorum` view changes, a full window prepared in each."""
    change = (quorum + quorum * window + 3) * _VOTE_BYTES_MAX
    return quorum * change + (window + 3) * _VOTE_BYTES_MAX


#: The one table of signed messages.
SIGNED: dict[int, type[Signed]] = {
    kind.TAG: kind
    for kind in (
        NodeRecord,
        Bundle,
        PrePrepare,
        Prepare,
        Commit,
        Checkpoint,
        ViewChange,
        NewView,
        Status,
        FetchBatches,
        FetchBody,
        Gone,
        FetchState,
        AskReadIndex,
        ReadIndex,
        Pass,
    )
}


# --- carriers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """What one sequence number orders: bundles, and clock readings that move the agreed time.

    `evidence` is empty, or clock readings (commits or statuses) of distinct members.  The digest
    is recomputed from the content, never taken from a field.  The null batch of a new view has
    neither bundles nor evidence.
    """

    evidence: tuple[Verified[Commit] | Verified[Status], ...]
    bundles: tuple[Verified[Bundle], ...]
    _raw: bytes | None = field(default=None, compare=False, repr=False)

    @cached_property
    def raw(self) -> bytes:
        if self._raw is not None:
            return self._raw
        return codec.encode(
            (tuple(e.raw for e in self.evidence), tuple(b.raw for b in self.bundles))
        )

    @cached_property
    def digest(self) -> bytes:
        return sodium.digest(b"aegis-edge batch", self.raw)

    @classmethod
    def open(cls, raw: bytes, open_: Open) -> Batch:
        """Decode and check a batch; raises `WireError`."""
        evidence, bundles = _count(_array(codec.decode(raw), 2), 2)
        return cls(
            cast(
                "tuple[Verified[Commit] | Verified[Status], ...]",
                _votes(evidence, (Commit, Status), open_),
            ),
            tuple(_nested(b, Bundle, open_) for b in _array(bundles, BATCH_BUNDLES_MAX)),
            raw,
        )


NULL_BATCH = Batch((), ())


@dataclass(frozen=True, slots=True)
class Proposal:
    """A pre-prepare and the batch that it names."""

    TAG: ClassVar[int] = 1
    pre_prepare: Verified[PrePrepare]
    batch: Batch

    def pack(self) -> bytes:
        return codec.encode((self.TAG, self.pre_prepare.raw, self.batch.raw))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> Proposal:
        pre_prepare, raw = _count(fields, 2)
        batch = Batch.open(_bytes(raw, MESSAGE_BYTES_MAX), open_)
        named = _nested(pre_prepare, PrePrepare, open_)
        if named.message.digest != batch.digest:
            raise WireError("the batch is not the one that its pre-prepare names")
        return cls(named, batch)


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch and the commits that prove it; counted and judged by `pbft.certificates`."""

    TAG: ClassVar[int] = 2
    commits: tuple[Verified[Commit], ...]
    batch: Batch

    @property
    def size_bytes(self) -> int:
        """What it carries; nearly all that it measures."""
        return len(self.batch.raw) + sum(len(commit.raw) for commit in self.commits)

    def pack(self) -> bytes:
        return codec.encode((self.TAG, tuple(c.raw for c in self.commits), self.batch.raw))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> Committed:
        commits, raw = _count(fields, 2)
        batch = Batch.open(_bytes(raw, MESSAGE_BYTES_MAX), open_)
        taken = _votes(commits, Commit, open_)
        if any(c.message.digest != batch.digest for c in taken):
            raise WireError("a commit is for another batch")
        return cls(taken, batch)


@dataclass(frozen=True, slots=True)
class Body:
    """A batch on its own: the answer to `FetchBody`."""

    TAG: ClassVar[int] = 3
    batch: Batch

    def pack(self) -> bytes:
        return codec.encode((self.TAG, self.batch.raw))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> Body:
        (raw,) = _count(fields, 1)
        return cls(Batch.open(_bytes(raw, MESSAGE_BYTES_MAX), open_))


@dataclass(frozen=True, slots=True)
class StableCheckpoint:
    """A quorum of equal checkpoints; counted and judged by `pbft.certificates`."""

    TAG: ClassVar[int] = 4
    checkpoints: tuple[Verified[Checkpoint], ...]

    def pack(self) -> bytes:
        return codec.encode((self.TAG, tuple(c.raw for c in self.checkpoints)))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> StableCheckpoint:
        (checkpoints,) = _count(fields, 1)
        return cls(_votes(checkpoints, Checkpoint, open_))


@dataclass(frozen=True, slots=True)
class StatePart:
    """The answer to a `FetchState`: pieces, judged by `knowledge.rebuild`; none: not held here."""

    TAG: ClassVar[int] = 5
    sequence: int
    kind: int
    data: bytes

    def pack(self) -> bytes:
        return codec.encode((self.TAG, self.sequence, self.kind, self.data))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> StatePart:
        sequence, kind, data = _count(fields, 3)
        return cls(_positive(sequence), _counter(kind), _bytes(data, STATE_PART_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class Handover:
    """Who the members are in the next configuration, and the commits of its last batch by which
    those before them say so; counted and judged by `pbft.certificates`.

    `members` are in bytewise order; `terms`: what they agreed on (`knowledge.agreed`).  `raw`, as
    disks and proofs keep it, is the one form of it.
    """

    members: tuple[bytes, ...]
    commits: tuple[Verified[Commit], ...]
    terms: bytes = b""

    @property
    def raw(self) -> bytes:
        return pack_handover(self.members, tuple(c.raw for c in self.commits), self.terms)

    @classmethod
    def open(cls, raw: Any, open_: Open) -> Handover:
        """Decode and check; raises `WireError`."""
        decoded = codec.decode(_bytes(raw, HANDOVER_BYTES_MAX), items_max=2 * MEMBERS_MAX)
        fields = _array(decoded, 3)
        joined, commits = _count(fields[:2], 2)
        terms = b"".join(_bytes(each, TERMS_BYTES_MAX) for each in fields[2:])
        if fields[2:] == (b"",):
            raise WireError("nothing where something agreed on belongs")
        key_bytes = sodium.KEY_BYTES
        keys = _bytes(joined, MEMBERS_MAX * key_bytes)
        members = tuple(keys[at : at + key_bytes] for at in range(0, len(keys), key_bytes))
        if not members or len(keys) % key_bytes or list(members) != sorted(set(members)):
            raise WireError("not the keys of members in their order")
        return cls(members, _votes(commits, Commit, open_), terms)


def pack_handover(
    members: tuple[bytes, ...], commits: tuple[bytes, ...], terms: bytes = b""
) -> bytes:
    """See `Handover.raw`; `commits` are envelopes."""
    joined = b"".join(members)
    return codec.encode((joined, commits, terms) if terms else (joined, commits))


def pack_lineage(stable: bytes, handovers: tuple[bytes, ...]) -> bytes:
    """The answer to a `FetchState` for `HANDOVERS`: see `read_lineage`."""
    return codec.encode((stable, handovers))


def read_lineage(
    data: bytes, open_: Open
) -> tuple[tuple[Verified[Checkpoint], ...], tuple[bytes, ...]]:
    """The last checkpoint that the sender can prove, () if there is none, and raw handovers.

    They lead from the configuration that was asked for towards that of the checkpoint.  Raises
    `WireError`.
    """
    stable, handovers = _count(_array(codec.decode(data), 2), 2)
    raws = tuple(_bytes(raw, HANDOVER_BYTES_MAX) for raw in _array(handovers, HANDOVERS_MAX))
    if not _bytes(stable, STATE_PART_BYTES_MAX):
        return (), raws
    tag, *fields = _array(codec.decode(stable), 2) or (None,)
    if tag != StableCheckpoint.TAG:
        raise WireError("no stable checkpoint where one belongs")
    return StableCheckpoint.unpack(tuple(fields), open_).checkpoints, raws


@dataclass(frozen=True, slots=True)
class Follow:
    """Asks for the batches after `after`, about `bytes_max` of them, as soon as there are any.

    The answer is as many `Committed` as it takes, and a `Reached`.  `bytes_max` 0 asks where the
    other stands, and for nothing else.
    """

    TAG: ClassVar[int] = 6
    after: int
    bytes_max: int

    def pack(self) -> bytes:
        return codec.encode((self.TAG, self.after, self.bytes_max))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> Follow:
        after, bytes_max = _count(fields, 2)
        return cls(_counter(after), _counter(bytes_max))


@dataclass(frozen=True, slots=True)
class Reached:
    """The end of the answer to a `Follow`: the sender has executed so much.

    `depth` hand on from those who vote to the sender: 0 is one of them.  `takes`: it goes on
    answering; if not, some of the `others`, nodes that follow it, may.
    """

    TAG: ClassVar[int] = 7
    executed: int
    depth: int
    takes: bool
    others: tuple[bytes, ...]

    def pack(self) -> bytes:
        return codec.encode((self.TAG, self.executed, self.depth, self.takes, self.others))

    @classmethod
    def unpack(cls, fields: tuple[Any, ...], open_: Open) -> Reached:
        executed, depth, takes, others = _count(fields, 4)
        if _counter(depth) > HOPS_MAX:
            raise WireError("too far from those who vote")
        return cls(
            _counter(executed),
            depth,
            _bool(takes),
            tuple(_digest(key) for key in _array(others, OTHERS_MAX)),
        )


Carrier = Proposal | Committed | Body | StableCheckpoint | StatePart | Follow | Reached

#: The one table of carriers.
CARRIERS: dict[int, type[Carrier]] = {
    kind.TAG: kind
    for kind in (Proposal, Committed, Body, StableCheckpoint, StatePart, Follow, Reached)
}

#: Anything that may come over a link, after the check of its signatures and digests.
Message = Verified[Any] | Carrier


def read(raw: bytes, open_: Open) -> Message:
    """The message in the bytes that a link brought; raises `WireError`, and nothing else.

    `open_` is `envelope.Opener.open`.  An envelope starts with a byte string, a carrier with its
    tag, so the first item tells the families apart.
    """
    if len(raw) > MESSAGE_BYTES_MAX:
        raise WireError("a message above its size bound")
    if raw[:1] == b"\x84":
        first = raw[1:2]
        if first and first[0] >> 5 == 2:
            return open_(raw)
    tag, *fields = _array(codec.decode(raw), 8) or (None,)
    if type(tag) is not int or tag not in CARRIERS:
        raise WireError("a carrier of an unknown kind")
    return CARRIERS[tag].unpack(tuple(fields), open_)


# --- checks of shape ------------------------------------------------------------------------


def _count(fields: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(fields) != count:
        raise WireError(f"{len(fields)} fields where {count} belong")
    return fields


def _array(value: Any, count_max: int) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) > count_max:
        raise WireError(f"not an array of at most {count_max} items")
    return value


def _counter(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= COUNTER_MAX:
        raise WireError("not a counter")
    return value


def _positive(value: Any) -> int:
    if _counter(value) == 0:
        raise WireError("zero where counting starts at one")
    return cast(int, value)


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise WireError("not a truth value")
    return value


def _bytes(value: Any, size_max: int) -> bytes:
    if type(value) is not bytes or len(value) > size_max:
        raise WireError(f"not a byte string of at most {size_max} bytes")
    return value


def _digest(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise WireError("not 32 bytes")
    return value


def _signature(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != sodium.SIGNATURE_BYTES:
        raise WireError("not 64 bytes")
    return value


def _text(value: Any, size_max: int) -> str:
    if type(value) is not str or len(value.encode()) > size_max:
        raise WireError(f"not a text of at most {size_max} bytes")
    return value


def _line(value: Any, size_max: int) -> str:
    """A text that a terminal or a log may show: nothing in it but printable characters."""
    text = _text(value, size_max)
    if not text.isprintable():
        raise WireError("a text with characters that cannot be shown")
    return text


def _address(value: Any) -> str:
    text = _line(value, ADDRESS_BYTES_MAX)
    if not text or " " in text:
        raise WireError("an address with spaces, or none")
    return text


S = TypeVar("S", bound=Signed)


def _nested(raw: Any, kind: type[S] | tuple[type[S], ...], open_: Open) -> Verified[S]:
    inner = open_(_bytes(raw, MESSAGE_BYTES_MAX))
    if not isinstance(inner.message, kind):
        raise WireError("a signed message of another kind than belongs here")
    return cast("Verified[S]", inner)


def _votes(value: Any, kind: type[S] | tuple[type[S], ...], open_: Open) -> tuple[Verified[S], ...]:
    """Nested messages of distinct signers; the first repetition ends the checking of signatures."""
    signers: set[bytes] = set()
    votes = []
    for raw in _array(value, MEMBERS_MAX):
        vote = _nested(raw, kind, open_)
        if vote.signer in signers:
            raise WireError("two votes of one signer in one certificate")
        signers.add(vote.signer)
        votes.append(vote)
    return tuple(votes)

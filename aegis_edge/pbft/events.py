"""What goes into a replica and what comes out: the whole surface of the agreement core.

Knows the nouns only.  Refuses to know how an effect is performed, or when.
The order of effects IS the contract: whoever performs them makes a `Persist` durable before any
effect that follows it in the list, or in a later list, is seen by anybody else.
Follows: Castro and Liskov (OSDI '99); the "persist before send" of s8_13
(tests/pbft/test_checklist.py) is data here, not prose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.route import Waypoint
from aegis_edge.wire.messages import Bundle, Message, Verified

# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed.  `now_ticks`: a monotonic clock in milliseconds; `clock_ms`: Unix milliseconds.

    The two never mix: time-outs use ticks, `clock_ms` only goes into commits and statuses.
    """

    now_ticks: int
    clock_ms: int


@dataclass(frozen=True, slots=True)
class Received:
    """`peer` (a member's public key, authenticated by its link) sent `message`."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Submitted:
    """Callers of this node want these operations executed; they become one bundle.

    Only while `replica.bundle_room` is positive.  `of_members`: see `messages.Bundle`.
    """

    operations: tuple[bytes, ...]
    of_members: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """Callers of this node want to read; `number` counts these events, from 1 on.

    One at a time: the next one after the `Confirmed` of the last.
    """

    number: int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link to `peer` is open, and measured `round_trip_ticks` when it was made; 0: nothing."""

    peer: bytes
    round_trip_ticks: int = 0


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link to `peer` is gone."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class RootTaken:
    """The answer to `TakeRoot`: the state root after `sequence`."""

    sequence: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """The link to `peer` takes so long for a round trip by now."""

    peer: bytes
    round_trip_ticks: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to `Settle`: who the members are after `sequence`, and the state root there.

    `configuration` is the present one, or the next: then it starts at `sequence` (or, where a state
    was installed, before), `parameters` go with it, and no record of the one before is left on the
    disk.
    """

    sequence: int
    root: bytes
    configuration: Configuration
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The answer to `Foresee`: the digest of the configuration that begins after this batch.

    `successor` is b"" if none does.  `digest`: of the batch.
    """

    sequence: int
    digest: bytes
    successor: bytes


@dataclass(frozen=True, slots=True)
class BatchesGone:
    """The answer to a `SendCommitted` that found nothing: `peer` asked for what is gone here."""

    peer: bytes
    first: int


@dataclass(frozen=True, slots=True)
class PartSent:
    """The answer to a `SendPart`: `peer` was given so much, of a database of `whole_bytes`."""

    peer: bytes
    size_bytes: int
    whole_bytes: int


@dataclass(frozen=True, slots=True)
class PartJudged:
    """The answer to a `JudgePart`, about the pieces of `peer` in the transfer to `sequence`.

    `fault`: what shows that they are not of that state, or None; `wants`: what is wanted next, as
    (kind, item), unanswered items included.  `done` of `parts`, the partitions that are known to
    differ, are here; `time_ms` and `origins` as in `Restored`, zero until they are proven.
    `listing_bytes`: what the lists of all keys in those partitions measure, once all are known.
    """

    sequence: int
    peer: bytes
    fault: str | None
    wants: tuple[tuple[int, bytes], ...] = ()
    done: int = 0
    parts: int = 0
    time_ms: int = 0
    origins: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    listing_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RowsRotten:
    """On the disk here, the rows of these items are not what was agreed on.

    Others give them as pieces of a state, of this `kind`.
    """

    kind: int
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RowsMended:
    """The answer to a `MendRows`, which mended so many.  `left`: the items of rows still wrong.

    `fault`: what shows that the pieces are no rows that were asked for, or None.
    """

    peer: bytes
    fault: str | None
    left: tuple[bytes, ...]
    mended: int = 0


Event = (
    Tick
    | Received
    | Submitted
    | Asked
    | LinkUp
    | LinkDown
    | Measured
    | RootTaken
    | Settled
    | Foreseen
    | BatchesGone
    | PartSent
    | PartJudged
    | RowsRotten
    | RowsMended
)

#: Certificates sent at a time to a peer that catches up, where links carry as much as there is.
FETCH_BYTES_MAX = 1024 * 1024

# --- effects --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One durable fact of the protocol.

    (`kind`, `view`, `sequence`) is the key: a later record with the same key replaces the earlier.
    Kinds and what `data` holds: see `pbft.journal`.
    """

    kind: int
    view: int
    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Persist:
    """Make `record` durable before performing anything that follows."""

    record: Record


@dataclass(frozen=True, slots=True)
class Send:
    """Give `raw` to the links of `peers`; losing it is allowed, reordering per peer is not."""

    peers: tuple[bytes, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Bundled:
    """The operations of the last `Submitted` are this node's bundle (`incarnation`, `number`)."""

    incarnation: int
    number: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """All that was acknowledged anywhere before `Asked(number)` is in the `Deliver`s before this.

    If not `is_fresh`, that cannot be told: too few members answered in time.
    """

    number: int
    is_fresh: bool


@dataclass(frozen=True, slots=True)
class Deliver:
    """Execute the batch at `sequence`: exactly these bundles, in this order, at this agreed time.

    `bundles` is what remains of the batch after de-duplication; `certificate` is the packed
    `Committed` carrier, kept so that this node can prove the batch to others.  Callers may be
    answered before it is durable here: the records of a quorum hold the batch and its votes.
    """

    sequence: int
    time_ms: int
    bundles: tuple[Verified[Bundle], ...]
    certificate: bytes


@dataclass(frozen=True, slots=True)
class TakeRoot:
    """After the last `Deliver`, compute the state root and answer with `RootTaken`.

    `is_signed`: the root is for a checkpoint; else somebody only wants to see it.
    """

    sequence: int
    is_signed: bool = True


@dataclass(frozen=True, slots=True)
class Settle:
    """The last `Deliver` may have changed who the members are: answer with `Settled`.

    If it did, the records of the configuration before went when it became durable.  `is_signed`:
    if it did not, the root is for a checkpoint.
    """

    sequence: int
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class Foresee:
    """Answer with `Foreseen`: who would the members be after this batch?  Change nothing.

    It is the one after the last `Deliver`; the fields are as there, `digest` names the batch.
    """

    sequence: int
    time_ms: int
    bundles: tuple[Verified[Bundle], ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class KeepHandovers:
    """Keep these handovers (`messages.Handover.raw`), to configuration `first` and those after."""

    first: int
    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Prune:
    """A checkpoint at `sequence` is stable: older records serve no more (see `journal`)."""

    sequence: int


@dataclass(frozen=True, slots=True)
class SendCommitted:
    """Read the certificates of `first` to `last` from disk and send them to `peer`, in order.

    Stop at the first one that is missing, or at `bytes_max`: but send one, however large.
    """

    peer: bytes
    first: int
    last: int
    bytes_max: int = FETCH_BYTES_MAX


@dataclass(frozen=True, slots=True)
class SendPart:
    """Send `peer` a `StatePart` with these pieces of the state after `sequence`.

    Answer with `PartSent`: there is one of these at a time for each peer.
    """

    peer: bytes
    sequence: int
    kind: int
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BeginTransfer:
    """From now on pieces of the state with `root`, after `sequence`, are judged."""

    sequence: int
    root: bytes


@dataclass(frozen=True, slots=True)
class JudgePart:
    """Prove these pieces, keep them durably, and answer with `PartJudged`."""

    peer: bytes
    sequence: int
    kind: int
    items: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class InstallState:
    """Put the state after `sequence`, all of which is here, in the place of the one there is.

    If its members are others, answer with `Settled`.
    """

    sequence: int


@dataclass(frozen=True, slots=True)
class MendRows:
    """Put the rows of these items right with the pieces of `peer`; answer with `RowsMended`."""

    peer: bytes
    items: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an owner must hear of, about the member `about`.

    `evidence` holds envelopes that prove it to anybody.
    """

    reason: str
    about: bytes
    evidence: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the link to `peer`: it signed what no correct member signs."""

    peer: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Introduce:
    """Tell `peer` where these others are, whom it may follow instead of this node."""

    peer: bytes
    others: tuple[bytes, ...]


#: What a database performs, in one transaction; the others are for links and people.
Step = (
    Persist
    | Deliver
    | TakeRoot
    | Settle
    | Foresee
    | KeepHandovers
    | Prune
    | BeginTransfer
    | JudgePart
    | InstallState
    | MendRows
)

Effect = Step | Send | Bundled | Confirmed | SendCommitted | SendPart | Alarm | HangUp | Introduce


@dataclass(frozen=True, slots=True)
class Restored:
    """What a replica starts from: all zero for a new node, else read from the disk.

    `executed`: the last sequence whose execution is durable; `time_ms` the agreed time there;
    `origins`: each origin's last executed (incarnation, number), as the state machine keeps it;
    `incarnation`: higher than any that this node ever used, made durable before it is passed in;
    `rebuilt`: the records began anew after others were lost, so votes may have been forgotten;
    `waypoint`: a configuration that was, as this node knows from elsewhere than its disk.
    """

    incarnation: int
    executed: int = 0
    time_ms: int = 0
    origins: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    rebuilt: bool = False
    waypoint: Waypoint | None = None

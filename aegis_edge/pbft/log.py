"""The window of sequence numbers under agreement: slots, votes, bodies and checkpoints.

Knows what this replica accepted, and which votes it holds for each slot.
Refuses to know views' politics, timers and peers: it counts, `replica` decides.
Follows: Castro and Liskov (OSDI '99) section 4.2: low and high watermark, one vote per member.

Bounds: a slot keeps one prepare and one commit per member, the log keeps `window` slots, and the
bodies are those of the slots, of which those not executed yet have a bound in bytes; checkpoints
are kept for the few sequences that may become stable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from aegis_edge.pbft import certificates
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.wire.messages import (
    BATCH_BYTES_MAX,
    NULL_BATCH,
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Verified,
)

#: What the bodies above the last executed batch may measure together.  A correct primary is never
#: so far ahead; what of a faulty one's does not fit is not voted for until there is room.
UNEXECUTED_BYTES_MAX = 8 * BATCH_BYTES_MAX

_NONE: tuple[int, None] = (0, None)


@dataclass(slots=True)
class Slot:
    """One sequence number.  `prepared` is the certificate of the highest view that has one here.

    `pre_prepare` is the one accepted in the current view.  `journalled` says that this replica's
    disk holds the body and the pre-prepare, i.e. that it may vote.
    """

    sequence: int
    pre_prepare: Verified[PrePrepare] | None = None
    prepares: dict[bytes, Verified[Prepare]] = field(default_factory=dict)
    commits: dict[bytes, Verified[Commit]] = field(default_factory=dict)
    prepared: PreparedCertificate | None = None
    own_commit: Verified[Commit] | None = None
    journalled: bool = False
    since_ticks: int = 0

    def prepared_in(self, view: int) -> bool:
        return self.prepared is not None and self.prepared.pre_prepare.message.view == view

    def preparing(self, configuration: Configuration) -> PreparedCertificate | None:
        """The certificate that the accepted pre-prepare and the prepares make, if they do."""
        if self.pre_prepare is None:
            return None
        named = self.pre_prepare.message.fields()
        matching = [p for _, p in sorted(self.prepares.items()) if p.message.fields() == named]
        if len(matching) < configuration.quorum - 1:
            return None
        return PreparedCertificate(self.pre_prepare, tuple(matching[: configuration.quorum - 1]))

    def committing(self, configuration: Configuration) -> tuple[Verified[Commit], ...] | None:
        """A quorum of equal commits but for their clocks, if there is one."""
        if len(self.commits) < configuration.quorum:
            return None
        groups: dict[tuple[object, ...], list[Verified[Commit]]] = {}
        for _, commit in sorted(self.commits.items()):
            group = groups.setdefault(commit.message.vote, [])
            group.append(commit)
            if len(group) == configuration.quorum:
                return tuple(group)
        return None


class Log:
    """The slots between the watermarks; `low` is the last stable sequence."""

    def __init__(self, configuration: Configuration, parameters: Parameters) -> None:
        self._configuration = configuration
        self._parameters = parameters
        self.low = configuration.start
        self.stable: tuple[Verified[Checkpoint], ...] = ()
        self.slots: dict[int, Slot] = {}
        self._bodies: dict[bytes, tuple[int, Batch]] = {}
        self._checkpoints: dict[int, dict[bytes, Verified[Checkpoint]]] = {}

    # --- watermarks ---

    @property
    def high(self) -> int:
        return self.low + self._parameters.window

    def in_window(self, sequence: int) -> bool:
        return self.low < sequence <= self.high

    def slot(self, sequence: int) -> Slot:
        """The slot of a sequence inside the window, made when first asked for."""
        assert self.in_window(sequence), "a slot outside the watermarks"
        return self.slots.setdefault(sequence, Slot(sequence))

    def forget_accepted(self) -> None:
        """A new view begins: no slot has a pre-prepare in it yet; votes and certificates stay."""
        for slot in self.slots.values():
            slot.pre_prepare, slot.journalled = None, False

    # --- bodies ---

    def add_body(self, sequence: int, batch: Batch) -> None:
        """Keep the batch for as long as `sequence` may be ordered again.

        Whatever was voted for is kept, in the latest view or not: any of it may be what a later
        view starts with, and then somebody must have it.
        """
        known, _ = self._bodies.get(batch.digest, (0, batch))
        self._bodies[batch.digest] = (max(known, sequence), batch)

    def has_room(self, sequence: int, batch: Batch, executed: int) -> bool:
        """Whether a proposal for `sequence` may be kept; the one to execute next always may."""
        if sequence <= executed + 1:
            return True
        return self.unexecuted_bytes(executed) + len(batch.raw) <= UNEXECUTED_BYTES_MAX

    def unexecuted_bytes(self, executed: int) -> int:
        """What the bodies above the last executed batch measure together."""
        return sum(len(body.raw) for at, body in self._bodies.values() if at > executed)

    def unexecuted(self, executed: int) -> Iterator[Verified[Bundle]]:
        """The bundles in these bodies."""
        return (b for at, body in self._bodies.values() if at > executed for b in body.bundles)

    def body(self, digest: bytes) -> Batch | None:
        return NULL_BATCH if digest == NULL_BATCH.digest else self._bodies.get(digest, _NONE)[1]

    # --- votes ---

    def certificate(self, sequence: int) -> Committed | None:
        """The proof and the content of a committed batch, when both are here."""
        slot = self.slots.get(sequence)
        commits = slot.committing(self._configuration) if slot is not None else None
        if commits is None:
            return None
        batch = self.body(commits[0].message.digest)
        return None if batch is None else Committed(commits, batch)

    # --- checkpoints ---

    def add_checkpoint(self, checkpoint: Verified[Checkpoint], executed: int) -> bool:
        """Keep a checkpoint that may still become stable; False if it is of no use.

        Useful are those within a window of `executed`, above the low watermark: a replica that
        catches up runs past its watermarks, and leaves older checkpoints behind.
        """
        sequence, interval = checkpoint.message.sequence, self._parameters.checkpoint_interval
        near = max(self.low, executed - self._parameters.window)
        far = max(self.low, executed) + self._parameters.window + interval
        if (
            checkpoint.message.configuration != self._configuration.number
            or not near < sequence <= far
            or sequence % interval
        ):
            return False
        self._checkpoints = {s: v for s, v in self._checkpoints.items() if s > near}
        votes = self._checkpoints.setdefault(sequence, {})
        return votes.setdefault(checkpoint.signer, checkpoint) is checkpoint

    def checkpoint_of(self, key: bytes, sequence: int) -> Verified[Checkpoint] | None:
        return self._checkpoints.get(sequence, {}).get(key)

    def own_checkpoints(self, key: bytes) -> list[Verified[Checkpoint]]:
        return [votes[key] for _, votes in sorted(self._checkpoints.items()) if key in votes]

    def agreed_root(self, sequence: int) -> tuple[Verified[Checkpoint], ...] | None:
        """A quorum of equal checkpoints at `sequence`, if there is one."""
        groups: dict[bytes, list[Verified[Checkpoint]]] = {}
        for _, vote in sorted(self._checkpoints.get(sequence, {}).items()):
            group = groups.setdefault(vote.message.root, [])
            group.append(vote)
            if len(group) == self._configuration.quorum:
                return tuple(group)
        return None

    def advance(self, sequence: int, stable: tuple[Verified[Checkpoint], ...]) -> None:
        """Move the low watermark to a stable checkpoint and forget what lies at or under it."""
        assert sequence > self.low, "the low watermark only rises"
        assert certificates.is_stable(sequence, stable, self._configuration)
        self.low, self.stable = sequence, stable
        self.slots = {s: slot for s, slot in self.slots.items() if s > sequence}
        self._checkpoints = {s: v for s, v in self._checkpoints.items() if s > sequence}
        self._bodies = {d: b for d, b in self._bodies.items() if b[0] > sequence}

    # --- what a view change reports ---

    def prepared(self) -> tuple[PreparedCertificate, ...]:
        """The prepared certificate of the highest view for each slot that has one (the P set)."""
        return tuple(
            slot.prepared for _, slot in sorted(self.slots.items()) if slot.prepared is not None
        )

    def last_committing(self) -> int:
        """The highest sequence for which this replica signed a commit; `low` if that is above."""
        return max(
            (s for s, slot in self.slots.items() if slot.own_commit is not None),
            default=self.low,
        )

    def last_accepted(self) -> int:
        """The highest sequence with an accepted pre-prepare; `low` if there is none."""
        return max(
            (s for s, slot in self.slots.items() if slot.pre_prepare is not None),
            default=self.low,
        )

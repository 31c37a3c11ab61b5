"""What a simulated node finds after a crash: what was synced, and some of what was being written.

Knows records by their key, certificates, the incarnation and the applied state.
Refuses to know why anything is written.  The state machine is the real one, over a dict.
"""

from __future__ import annotations

from typing import Any

from aegis_edge.pbft.configuration import digest_of
from aegis_edge.pbft.events import (
    BeginTransfer,
    Deliver,
    Foresee,
    Foreseen,
    InstallState,
    JudgePart,
    KeepHandovers,
    PartJudged,
    Persist,
    Prune,
    Record,
    Restored,
    Settle,
    Step,
    TakeRoot,
)
from aegis_edge.wire import codec
from aegis_edge.wire import messages as wire
from aegis_edge.wire.codec import WireError

#: Kinds of records: a stable checkpoint, and one of a configuration that has ended; and that what
#: was forgotten once matters no more.
STABLE, INHERITED, REMEMBERS = (8, 0, 0), (12, 0, 0), (11, 0, 0)
#: What one answer brings of how the members came about: less than there often is.
HANDOVERS_GIVEN = 2
#: Record kinds that go when a checkpoint at their sequence is stable; kind 7 stays at it.
PRUNED_THROUGH = (4, 5, 6)
PRUNED_BELOW = (7,)


class Disk:
    """The durable side of one node.  `machine` is the applied state: see `tests.sim.machine`.

    `rebuilt`: it took the place of another one, which is lost; `kept`: how many batches under the
    stable checkpoint are kept for others.
    """

    def __init__(self, machine: Any, *, rebuilt: bool = False, kept: int = 1 << 30) -> None:
        self.machine = machine
        self.kept = kept
        self.rebuilt = rebuilt
        self.incarnation = 0
        self.records: dict[tuple[int, int, int], Record] = {}
        self.certificates: dict[int, bytes] = {}
        #: How the members came about: to each configuration, from the one before.
        self.handovers: dict[int, bytes] = {}
        self.writes = 0
        #: The highest stable checkpoint: what lies at or under it is certain without a record.
        self.stable = 0

        # The state, the certificates and the records as the disk has them, while it has less than
        # was executed.
        self._synced: (
            tuple[int, Any, dict[int, bytes], dict[tuple[int, int, int], Record]] | None
        ) = None

    @property
    def synced(self) -> int:
        """The last sequence whose execution a power cut leaves."""
        return int(self.machine.executed if self._synced is None else self._synced[0])

    def begin(self, steps: list[Any]) -> None:
        """A write of these steps: batches alone are not synced before anything else is written."""
        if any(type(step) is not Deliver for step in steps):
            self.sync()
        elif self._synced is None:
            machine = self.machine
            self._synced = (
                machine.executed,
                machine.state.copy(),
                dict(self.certificates),
                dict(self.records),
            )

    def sync(self) -> None:
        self._synced = None

    def lose_power(self) -> None:
        """Back to what was synced."""
        if self._synced is not None:
            _, state, self.certificates, self.records = self._synced
            self.machine = self.machine.reborn(state)
            self._synced = None

    def next_incarnation(self) -> int:
        self.incarnation += 1
        return self.incarnation

    def restored(self) -> Restored:
        """What a replica starts from after a power-up: what others fetched before is forgotten."""
        self.machine = self.machine.reborn(self.machine.state)
        return Restored(
            incarnation=self.next_incarnation(),
            executed=self.machine.executed,
            time_ms=self.machine.time_ms,
            origins=dict(self.machine.origins),
            records=tuple(self.records[key] for key in sorted(self.records)),
            rebuilt=self.rebuilt,
        )

    def perform(self, step: Step) -> Any:
        """Make one step durable.

        Gives outcomes per bundle for `Deliver`, the root for `TakeRoot`, the root and the roll for
        `Settle`.
        """
        machine = self.machine
        if type(step) is BeginTransfer:
            machine.begin(step.sequence, step.root)
            return None
        if type(step) is JudgePart:
            return self._judge(step)
        if type(step) is InstallState:
            number = machine.roll.number
            machine.install()
            if machine.roll.number != number:
                self._forget_records()
            self.certificates.clear()
            return dict(machine.origins), machine.root(), machine.roll
        if type(step) is KeepHandovers:
            self.handovers.update(enumerate(step.raws, step.first))
            return None
        if type(step) is Foresee:
            roll = machine.foresee(step.sequence, step.time_ms, step.bundles)
            is_other = roll.number != machine.roll.number
            successor = digest_of(roll.number, roll.start, roll.members, roll.terms)
            return Foreseen(step.sequence, step.digest, successor if is_other else b"")
        if type(step) is Persist:
            record = step.record
            self.records[(record.kind, record.view, record.sequence)] = record
            return None
        if type(step) is Deliver:
            self.certificates[step.sequence] = step.certificate
            number = self.machine.roll.number
            outcomes = self.machine.apply(step.sequence, step.time_ms, step.bundles)
            roll = self.machine.roll
            if roll.number != number:
                _, commits, _ = codec.decode(step.certificate)
                raw = wire.pack_handover(roll.members, commits, roll.terms)
                self.handovers[roll.number] = raw
                self._forget_records()
            return outcomes
        if type(step) is Settle:
            assert self.machine.executed == step.sequence, "settled right after its batch"
            if step.is_signed:
                machine.hold()
            return self.machine.root(), self.machine.roll
        if type(step) is TakeRoot:
            assert self.machine.executed == step.sequence, "a root is taken right after its batch"
            machine.hold()
            return machine.root()
        assert type(step) is Prune
        gone = [s for s in self.certificates if s <= step.sequence - self.kept]
        for sequence in gone[: -1 if machine.executed in gone else None]:
            del self.certificates[sequence]
        machine.release(step.sequence, min(self.certificates, default=0) - 1)
        self.stable = max(self.stable, step.sequence)
        for key in list(self.records):
            kind, _, sequence = key
            if (kind in PRUNED_THROUGH and sequence <= step.sequence) or (
                kind in PRUNED_BELOW and sequence < step.sequence
            ):
                del self.records[key]
        return None

    def _judge(self, part: JudgePart) -> PartJudged:
        rebuild = self.machine.rebuild
        if rebuild is None or rebuild.sequence != part.sequence:
            return PartJudged(part.sequence, part.peer, None)
        try:
            wants = tuple(self.machine.take(part.kind, part.items, part.data))
        except WireError as error:
            return PartJudged(part.sequence, part.peer, str(error))
        said = rebuild.progress
        return PartJudged(
            part.sequence,
            part.peer,
            None,
            wants,
            rebuild.done,
            rebuild.parts,
            said.time_ms,
            dict(said.origins),
            rebuild.listing_bytes,
        )

    def part(self, peer: bytes, sequence: int, kind: int, items: tuple[bytes, ...]) -> bytes | None:
        """Pieces of a state for others; None: not yet."""
        if kind == wire.HANDOVERS:
            number = int.from_bytes(b"".join(items[:1]), "big")
            numbers = range(number + 1, number + 1 + HANDOVERS_GIVEN)
            raws = tuple(self.handovers[n] for n in numbers if n in self.handovers)
            proven = self._proven
            return wire.pack_lineage(proven.data if proven else b"", raws)
        try:
            found: bytes | None = self.machine.answer(peer, sequence, kind, items)
        except WireError:
            return b""
        return found

    @property
    def _proven(self) -> Record | None:
        return self.records.get(STABLE) or self.records.get(INHERITED)

    def _forget_records(self) -> None:
        """All are of the configuration that ended."""
        proven = self._proven
        self.records = {key: r for key, r in self.records.items() if key == REMEMBERS}
        if proven is not None:
            self.records[INHERITED] = Record(*INHERITED, proven.data)

    def certified(self, first: int, last: int, max_bytes: int) -> list[bytes]:
        """The certificates of a range, to the first that is missing or to `max_bytes`.

        At least one, if there is one.
        """
        found: list[bytes] = []
        size = 0
        for sequence in range(first, last + 1):
            raw = self.certificates.get(sequence)
            size += 0 if raw is None else len(raw)
            if raw is None or (found and size > max_bytes):
                break
            found.append(raw)
        return found

"""What a primary proposes, and when; and which batches of others a backup accepts.

Knows the next sequence number, the pipeline, and what a batch may hold.
Refuses to know the votes on it.
Follows: Castro and Liskov (OSDI '99) section 4.2, pre-prepare; they batch in kind (TOCS 2002): what
waits goes together whenever the pipeline has room, so there is no batching timer.
"""

from __future__ import annotations

from collections.abc import Iterator

from aegis_edge.pbft import clocks
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import BATCH_BYTES_MAX, Batch, PrePrepare, Proposal

#: What a batch may hold with its clock readings: well below what its certificate may measure.
WHOLE_BATCH_BYTES_MAX = BATCH_BYTES_MAX + 64 * 1024


def is_acceptable(batch: Batch, configuration: Configuration) -> bool:
    """Members' bundles and readings; a batch of nothing (a null batch sent again) is one."""
    return (
        len(batch.raw) <= WHOLE_BATCH_BYTES_MAX
        and (bool(batch.bundles) or not batch.evidence)
        and clocks.acceptable(batch.evidence, configuration)
        and all(b.signer in configuration for b in batch.bundles)
    )


class Proposals:
    def __init__(
        self, at: Standing, voice: Voice, log: Log, pool: Pool, readings: clocks.Readings
    ) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._pool = pool
        self._readings = readings
        self._next = 1

    def follow(self, sequence: int) -> None:
        """What is ordered by now reaches up to `sequence`: the next proposal follows it."""
        self._next = max(sequence, self._at.executed) + 1

    def due(self) -> Iterator[Proposal]:
        """What there is to propose, for who leads; take in each before the next is asked for."""
        at = self._at
        self._next = max(self._next, at.executed + 1)
        while (
            not at.settling
            and self._log.in_window(self._next)
            and self._next - at.executed <= at.parameters.pipeline
            and self._pool.has_unproposed()
        ):
            bundles = self._pool.take()
            size_bytes = sum(len(bundle.raw) for bundle in bundles)
            is_long = at.pace.travel_ticks(size_bytes) > at.pace.hop_ticks
            step_ms = clocks.STEP_MS if is_long else self._step_ms()
            if is_long:
                status = self._voice.sign(at.status(self._log.low, size_bytes))
                self._readings.note(status)
                self._voice.send(status.raw)
            elif at.clock_ms - self._readings.clock_ms(at.key) >= step_ms:
                self._readings.note(self._voice.sign(at.status(self._log.low)))
            evidence = self._readings.evidence(at.configuration, at.time_ms, step_ms)
            batch = Batch(evidence, bundles)
            named = PrePrepare(at.configuration.number, at.view, self._next, batch.digest)
            self._next += 1
            yield Proposal(self._voice.sign(named), batch)

    def _step_ms(self) -> int:
        """How far readings must move the agreed time to go along.

        Where a link carries little they make a small proposal wait for a second turn: then they go
        along as rarely as members say anyway where they stand.
        """
        at = self._at
        return at.pace.status_ticks if at.parameters.bytes_a_second else clocks.STEP_MS

"""What this replica's commits say of who follows: the members after a batch, before it is executed.

Knows which commits have to wait for that, and what the state machine foresaw.
Refuses to know what an operation means, and who the members are to be: it knows a digest.
Follows: Castro and Liskov (OSDI '99) section 4.2 for the commit, which here also signs what becomes
of the members.  So who executes the last batch of a configuration holds the proof of the next one:
nobody has to be waited for who leaves, or is dismissed, with that batch.
"""

from __future__ import annotations

from aegis_edge.pbft import clocks
from aegis_edge.pbft.events import Foresee, Foreseen
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import Batch

Place = tuple[int, bytes]


class Succession:
    """Only a batch about members can change them, and only the state before it says whether."""

    def __init__(self, at: Standing, voice: Voice, pool: Pool) -> None:
        self._at = at
        self._voice = voice
        self._pool = pool
        self._waiting: set[int] = set()  # for the batches before
        self._asked: Place | None = None
        self._foreseen: tuple[Place, bytes] | None = None

    def after(self, sequence: int, batch: Batch | None) -> bytes | None:
        """What a commit for this batch says; None: not known yet, and asked for in time.

        `batch` is None where it was executed, and so ended no configuration.
        """
        executed = self._at.executed
        if batch is None or sequence <= executed:
            return b""
        if not any(bundle.message.of_members for bundle in batch.bundles):
            return b""
        place = (sequence, batch.digest)
        if self._foreseen is not None and self._foreseen[0] == place:
            return self._foreseen[1]
        if sequence > executed + 1:
            self._waiting.add(sequence)
        elif place != self._asked:
            self._asked = place
            time_ms = clocks.agreed_ms(self._at.time_ms, batch.evidence)
            bundles = self._pool.would_execute(batch.bundles)
            self._voice.add(Foresee(sequence, time_ms, bundles, batch.digest))
        return None

    def foreseen(self, event: Foreseen) -> None:
        self._foreseen = ((event.sequence, event.digest), event.successor)

    def due(self) -> int | None:
        """The next batch to execute, if a commit for it has been waiting to be that."""
        following = self._at.executed + 1
        if following not in self._waiting:
            return None
        self._waiting = {sequence for sequence in self._waiting if sequence > following}
        return following

"""When each step of a batch was, a line of the log for each batch: for who measures.

Knows which effect of the replica begins or ends a step.  Refuses to judge, and keeps nothing of a
batch whose line is written.  It is made only where the log takes lines of level DEBUG.

    steps of batch 7: bundled=12.2501 accepted=12.3004 prepared=12.3528 committed=12.3770 ...

Times are seconds of the host's monotonic clock, so those of several nodes of one host compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Bundled, Deliver, Effect, Persist

#: Kinds of record that a replica writes at a step of a batch.
_STEPS = {journal.PROPOSAL: "accepted", journal.PREPARED: "prepared"}

Name = tuple[int, int]


class Steps:
    """Of the batches under way.

    bundled: this node made the first of its own bundles in the batch; accepted: it wrote down the
    proposal (as primary: its own); prepared, committed: a quorum had; executed: and on the disk
    here, so that its callers are answered.  What did not happen here is left out.
    """

    def __init__(self, key: bytes, now_s: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._now_s = now_s
        self._bundled: dict[Name, float] = {}
        self._batches: dict[int, dict[str, float]] = {}

    def note(self, effects: Sequence[Effect]) -> None:
        """What one step of the replica led to."""
        for effect in effects:
            if isinstance(effect, Bundled):
                self._bundled[effect.incarnation, effect.number] = self._now_s()
            elif isinstance(effect, Persist) and effect.record.kind in _STEPS:
                batch = self._batches.setdefault(effect.record.sequence, {})
                batch[_STEPS[effect.record.kind]] = self._now_s()
            elif isinstance(effect, Deliver):
                self._batches.setdefault(effect.sequence, {})["committed"] = self._now_s()

    def executed(self, effect: Deliver) -> str:
        """The line of a batch whose callers have their answers now."""
        said = [b.message for b in effect.bundles if b.signer == self._key]
        names = [(m.incarnation, m.number) for m in said]  # of an earlier life, perhaps
        mine = [self._bundled.pop(name) for name in names if name in self._bundled]
        times = {"bundled": min(mine)} if mine else {}
        times |= self._batches.pop(effect.sequence)
        times["executed"] = self._now_s()
        for sequence in [s for s in self._batches if s < effect.sequence]:
            del self._batches[sequence]  # voted for again by a later view
        words = " ".join(f"{name}={at:.4f}" for name, at in times.items())
        return f"steps of batch {effect.sequence}: {words}"

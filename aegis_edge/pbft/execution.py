"""What is agreed gets executed: once, in order, and compared with what others prove.

Knows the last executed batch, the agreed time there, and what became of it in `past`.
Refuses to know how agreement came about, and what an operation means.
Follows: Castro and Liskov (OSDI '99) section 4.2: a request executes when all with lower sequence
numbers have; s8_16 and s8_17 (tests/pbft/test_checklist.py) for what others prove.
"""

from __future__ import annotations

from aegis_edge.pbft import certificates, clocks
from aegis_edge.pbft.events import Deliver, Settle, TakeRoot
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.past import Past
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.requests import Requests
from aegis_edge.pbft.route import Route
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import Batch, Committed

FORKED = (
    "a quorum agreed on another batch than was executed here: "
    "more members are faulty than may be; keep their disks, and find out who signed both"
)
IN_USE_ELSEWHERE = (
    "this node's key is in use elsewhere, or it runs from an old backup: "
    "stop the other one, or make a new identity"
)
START_AGAIN = (
    "this node lost its database, and counted its lives anew from a clock that was behind: it "
    "begins once more, for now it knows better; if it says so again, its key is in use elsewhere"
)


class Execution:
    """`requests`: this node's own, whose incarnation is higher than any that it used before."""

    def __init__(
        self,
        at: Standing,
        voice: Voice,
        log: Log,
        pool: Pool,
        past: Past,
        suspicion: Suspicion,
        requests: Requests,
        route: Route,
    ) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._pool = pool
        self._past = past
        self._suspicion = suspicion
        self._requests = requests
        self._route = route
        #: This life began without memory, so it may meet bundles of its own past.
        self._is_forgetful = False

    def restore(self, *, forgetful: bool) -> None:
        self._is_forgetful = forgetful

    @property
    def is_outdated(self) -> bool:
        """Bundles of this node were executed that it has not made in this life or before.

        A copy of its home began from the same life, so its incarnation may be the same.
        """
        return self._pool.last_executed(self._at.key) > self._requests.newest

    def caught_up(self) -> None:
        """All is here that others have, and this life is outdated: its bundles count no more.

        It goes on until then, since the next start counts its life above what it knows by then.
        """
        if self._is_forgetful:
            self._voice.halt(START_AGAIN)

    def run(self) -> None:
        """Execute what is committed here, up to the first batch that is not."""
        while self._voice.halted is None and not self._is_waiting():
            committed = self._log.certificate(self._at.executed + 1)
            if committed is None or not self._route.allows(committed):
                return
            self._deliver(committed)

    def _is_waiting(self) -> bool:
        """Whether what comes next depends on the disk, or on others."""
        return self._at.settling or self._at.fetching

    def settled(self, sequence: int) -> None:
        """It is known who the members are after the batch at `sequence`."""
        assert self._at.settling and sequence == self._at.executed, "one batch is settled at a time"
        self._at.settling = False

    def take(self, committed: Committed) -> bool:
        """Judge a proven batch of another's; True if it was the next one, which is executed now."""
        if not certificates.is_commit(committed.commits, self._at.configuration):
            return False
        if not self._route.allows(committed):  # by those who once were a quorum
            return False
        sequence = committed.commits[0].message.sequence
        if sequence == self._at.executed + 1 and not self._is_waiting():
            self._deliver(committed)
            return True
        if self._past.denies(sequence, committed.batch.digest):
            self._voice.halt(FORKED, *(c.raw for c in committed.commits))
        return False

    def _deliver(self, committed: Committed) -> None:
        at, batch = self._at, committed.batch
        at.executed += 1
        self._past.executed(at.executed, batch.digest)
        at.time_ms = clocks.agreed_ms(at.time_ms, batch.evidence)
        others = tuple(b for b in batch.bundles if b.signer != at.primary)
        oldest = self._pool.since_ticks(others)
        since = self._since_ticks(batch)
        bundles = self._pool.execute(batch.bundles, at.now_ticks)
        self._voice.add(Deliver(at.executed, at.time_ms, bundles, committed.pack()))
        if bundles and not at.changing:  # a batch of nothing is no progress
            # What waits on was on its way as well, and perhaps in front of this batch's votes.
            ordered = self._log.unexecuted(at.executed)
            sizes = {} if oldest is None else self._pool.waiting_bytes(ordered, oldest)
            travel_ticks = at.pace.allowance_ticks(sizes)
            self._suspicion.progressed(at.now_ticks, oldest, travel_ticks)
            if since is not None:
                at.pace.executed(at.now_ticks - since)
        is_signed = at.executed % at.parameters.checkpoint_interval == 0
        if any(bundle.message.of_members for bundle in bundles):
            at.settling = True
            self._voice.add(Settle(at.executed, is_signed))
        elif is_signed:
            self._voice.add(TakeRoot(at.executed))
        self._check_own_life()

    def jump(
        self,
        sequence: int,
        time_ms: int,
        origins: dict[bytes, tuple[int, int]],
        *,
        is_elsewhere: bool,
    ) -> None:
        """Go on after `sequence`, in the state of others; see `transfer`.

        `is_elsewhere`: it is one of another configuration, which has to be settled first.
        """
        at = self._at
        at.executed, at.time_ms, at.settling = sequence, time_ms, is_elsewhere
        self._pool.jump(origins)
        self._check_own_life()

    def resume(self) -> None:
        """Execute again, in whatever state, after a while of waiting for one; see `transfer`."""
        self._suspicion.resumed(self._at.now_ticks)

    def _check_own_life(self) -> None:
        if self.is_outdated and not self._is_forgetful:
            self._voice.halt(IN_USE_ELSEWHERE)

    def _since_ticks(self, batch: Batch) -> int | None:
        """Since when the batch that is executed now, or a bundle in it, has been waiting here."""
        slot = self._log.slots.get(self._at.executed)
        ages = [self._pool.since_ticks(batch.bundles)]
        if slot is not None and slot.pre_prepare is not None:
            ages.append(slot.since_ticks)
        return min((age for age in ages if age is not None), default=None)

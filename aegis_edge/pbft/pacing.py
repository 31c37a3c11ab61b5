"""When what is due: the next status, complaint and view change, and what a peer may have again.

Knows since when things wait, and what this replica said when.  Refuses to know what it says.
Follows: s8_10 and s6_13 (tests/pbft/test_checklist.py): the oldest thing that waits sets the pace;
the longer nothing helps, the rarer it is said again.  `suspicion` says how long to trust a primary.
"""

from __future__ import annotations

from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.suspicion import Suspicion


class Turns:
    """Each peer once in a while."""

    def __init__(self) -> None:
        self._again_at: dict[bytes, int] = {}

    def take(self, peer: bytes, now_ticks: int, pause_ticks: int) -> bool:
        """Whether it is this peer's turn; if it is, a pause of `pause_ticks` begins."""
        if now_ticks < self._again_at.get(peer, now_ticks):
            return False
        self._again_at[peer] = now_ticks + pause_ticks
        return True

    def forget(self, peer: bytes) -> None:
        """It is this peer's turn."""
        self._again_at.pop(peer, None)


class Pacing:
    """The clock-face of one replica; all times are in ticks."""

    def __init__(
        self, at: Standing, log: Log, pool: Pool, suspicion: Suspicion, catchup: Catchup
    ) -> None:
        self._at = at
        self._log = log
        self._pool = pool
        self._suspicion = suspicion
        self._catchup = catchup
        self._status_at = 0
        self._complain_at = 0
        self._following_bytes = 0

    def wake_at(self) -> int | None:
        """The first of all that is due."""
        times = [self.status_due(), self.complaint_due(), self.change_due()]
        if self._catchup.request is not None:
            times.append(self._catchup.request.deadline_ticks)
        return min((t for t in times if t is not None), default=None)

    def has_come(self, due_ticks: int | None) -> bool:
        return due_ticks is not None and due_ticks <= self._at.now_ticks

    # --- what waits ---

    def oldest_ticks(self) -> int | None:
        """Since when the oldest thing that should have been executed waits."""
        since = [
            slot.since_ticks
            for slot in self._log.slots.values()
            if slot.pre_prepare is not None and slot.sequence > self._at.executed
        ]
        oldest = self._pool.oldest_ticks()
        if oldest is not None:
            since.append(oldest)
        return min(since, default=None)

    def follows(self, size_bytes: int) -> None:
        """The primary says what it begins to send; 0: that is here, or will not come."""
        self._following_bytes = size_bytes

    def travel_ticks(self) -> int:
        """How long all was on its way that the oldest thing waits for.

        That is all that waits, came meanwhile or was announced, where links carry so much a second
        and no more.
        """
        if not self._at.parameters.bytes_a_second:
            return 0
        since_ticks = self.oldest_ticks()
        if since_ticks is None:
            return 0
        ordered = self._log.unexecuted(self._at.executed)
        sizes = self._pool.waiting_bytes(ordered, since_ticks)
        if self._following_bytes:
            primary = self._at.primary
            sizes[primary] = sizes.get(primary, 0) + self._following_bytes
        return self._at.pace.allowance_ticks(sizes)

    def is_stalled(self) -> bool:
        """Nothing was executed for a while."""
        resend_ticks = self._at.pace.resend_ticks
        return self._at.now_ticks >= self._suspicion.progress_ticks + resend_ticks

    # --- views ---

    def change_due(self) -> int | None:
        """When to ask for the next view."""
        if not self._at.voting:
            return None
        if self._at.changing:
            return self._suspicion.give_up_at(self._at.primary)
        oldest = self.oldest_ticks()
        if oldest is None or self._at.fetching:
            return None
        return self._suspicion.suspect_at(self._at.primary, oldest, self.travel_ticks())

    # --- statuses ---

    def status_said(self) -> None:
        self._status_at = self._at.now_ticks

    def status_due(self) -> int:
        """Statuses go out every `status_ticks`, and more often while something waits.

        At first every `resend_ticks`, from when it began to wait on; the longer nothing helps, the
        rarer.
        """
        at, last, pace = self._at, self._status_at, self._at.pace
        behind, oldest = (
            self._catchup.is_behind(at.executed, at.configuration.f),
            self.oldest_ticks(),
        )
        if at.changing or behind or oldest is not None:
            progress = max(self._suspicion.progress_ticks, oldest or 0)
            pause = max(pace.resend_ticks, (last - progress) // 4)
            return min(max(last, progress) + pause, last + pace.status_ticks)
        return last + pace.status_ticks

    # --- complaints ---

    def complained(self) -> None:
        self._complain_at = self._at.now_ticks + self._at.pace.complaint_ticks

    def entrusted(self) -> None:
        """The primary was given something new: it has some time for that."""
        self._complain_at = max(
            self._complain_at, self._at.now_ticks + self._at.pace.complaint_ticks
        )

    def is_overdue(self, since_ticks: int) -> bool:
        """Whether what waits since then gives reason to complain."""
        pause = self._at.pace.complaint_ticks + self.travel_ticks()
        return since_ticks + pause <= self._at.now_ticks

    def complaint_due(self) -> int | None:
        """When to say again what waits and the primary has not got executed.

        Also while changing: perhaps nobody follows, and the others go on in the view that we left.
        """
        oldest = self._pool.oldest_ticks()
        if oldest is None or len(self._at.configuration.members) == 1:
            return None
        due = max(self._complain_at, oldest + self._at.pace.complaint_ticks)
        return due + self.travel_ticks()

"""When to stop believing in a primary.

Knows which members are linked, since when, and how long a view has been tried; time is in ticks.
Refuses to know messages: it says when, the replica does.
Follows: Castro and Liskov (OSDI '99) section 4.5.2 for doubling timers; s8_10
(tests/pbft/test_checklist.py): the age of the oldest waiting request decides, not "some progress".

A primary that stays just under the timer does not keep the place either: each request that takes
more than half of it halves the timer for the next, down to a quarter; a quick one takes that back.

Two time-outs: the full one, and a twentieth of it for a primary whose link is lost, since a broken
link is much stronger evidence than silence.  Neither runs while fewer than a quorum are linked: a
view change could not succeed, and a replica that asks for one alone is lost to the current view.
"""

from __future__ import annotations

from aegis_edge.pbft.configuration import Configuration, Parameters

DOUBLINGS_MAX = 6
HALVINGS_MAX = 2


class Suspicion:
    def __init__(self, own: bytes, configuration: Configuration, parameters: Parameters) -> None:
        self._own = own
        self._configuration = configuration
        self._parameters = parameters
        self.connected: set[bytes] = set()
        self._down_since: dict[bytes, int] = dict.fromkeys(configuration.others(own), 0)
        self._reachable_since: int | None = None
        self._view_since = 0
        self._attempts = 0
        self._halvings = 0
        self._quorum_since: int | None = None
        self.progress_ticks = 0

    def start(self, now: int) -> None:
        """The first tick: nothing waited before this process ran."""
        self._down_since = dict.fromkeys(self._down_since, now)
        self._view_since = self.progress_ticks = now
        self._note_reach(now)

    def link(self, peer: bytes, up: bool, now: int) -> None:
        if up:
            self.connected.add(peer)
        else:
            self.connected.discard(peer)
            self._down_since[peer] = now
        self._note_reach(now)

    def _note_reach(self, now: int) -> None:
        if len(self.connected) + 1 < self._configuration.quorum:
            self._reachable_since = None
        elif self._reachable_since is None:
            self._reachable_since = now

    def reachable(self, peer: bytes) -> bool:
        return peer == self._own or peer in self.connected

    def progressed(self, now: int, oldest_ticks: int | None = None) -> None:
        """A batch was executed in an installed view: the next failure starts with short timers.

        `oldest_ticks`: since when the longest-waiting request in it had been waiting.
        """
        self.progress_ticks = now
        self._attempts = 0
        if oldest_ticks is None or self._reachable_since is None:
            return
        waited = now - max(oldest_ticks, self._reachable_since, self._view_since)
        slow = 2 * waited > self._parameters.timeout_ticks >> self._halvings
        self._halvings = (
            min(self._halvings + 1, HALVINGS_MAX) if slow else max(0, self._halvings - 1)
        )

    def entered(self, now: int) -> None:
        """A view was installed; its primary gets the whole time-out."""
        self._view_since = self.progress_ticks = now
        self._halvings = 0
        self._quorum_since = None

    def asked(self) -> None:
        """This replica asked for a view; each one that fails doubles the next time-out."""
        self._attempts += 1
        self._quorum_since = None

    def left_by_quorum(self, now: int) -> None:
        """A quorum asks for this view or a later one: from now on its primary is being timed.

        Those who ask for a later one count too: else members that gave up at different times, some
        after hearing a faulty one that is silent now, would wait for each other for ever.
        """
        if self._quorum_since is None:
            self._quorum_since = now

    def _patience(self, ticks: int) -> int:
        return ticks << min(self._attempts, DOUBLINGS_MAX)

    def suspect_at(self, primary: bytes, oldest_ticks: int | None) -> int | None:
        """The tick at which the installed view's primary is given up; None while nothing waits."""
        if oldest_ticks is None or self._reachable_since is None:
            return None
        since = max(oldest_ticks, self._reachable_since, self._view_since)
        at = since + (self._patience(self._parameters.timeout_ticks) >> self._halvings)
        if not self.reachable(primary):
            lost = max(since, self._down_since[primary])
            at = min(at, lost + self._patience(self._parameters.lost_primary_ticks))
        return at

    def give_up_at(self, primary: bytes) -> int | None:
        """The tick at which a view that was asked for is skipped; None before a quorum asks."""
        if self._quorum_since is None:
            return None
        ticks = (
            self._parameters.timeout_ticks
            if self.reachable(primary)
            else self._parameters.lost_primary_ticks
        )
        return self._quorum_since + self._patience(ticks)

"""When to stop believing in a primary.

Knows which members are linked, since when, and how long a view has been tried; time is in ticks.
Refuses to know messages: it says when, the replica does.
Follows: Castro and Liskov (OSDI '99) section 4.5.2 for doubling timers; s8_10
(tests/pbft/test_checklist.py): the age of the oldest waiting request decides, not "some progress".

A primary that stays just under the timer does not keep the place either: each request that takes
more than half of it halves the timer for the next, down to a quarter.  A halving lapses with each
whole time-out in which none was slow: what made it so may be over.  So one that is slow for one
time-out and quick for the next keeps the place, and is slow half of the time.  What a primary asks
for itself says nothing of how it serves others.  Where more than f primaries were given up in a
row, with nothing quick between, one of them was correct, so it is the cluster that is slow: then
the next has the whole timer to itself.

Two time-outs: the full one, and a much shorter one for a primary whose link is lost, since a broken
link is much stronger evidence than silence, or which by its own word lost its disk.  Neither runs
while fewer than a quorum are linked: a view change could not succeed, and a replica that asks for
one alone is lost to the current view.
"""

from __future__ import annotations

from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.pace import Pace

DOUBLINGS_MAX = 6
HALVINGS_MAX = 2
#: A request that took no more than this part of the timer shows that the cluster can be quick; one
#: of another member's may have been on its way for a quarter of the timer before we heard of it.
QUICK = 8


class Suspicion:
    def __init__(self, own: bytes, configuration: Configuration, pace: Pace) -> None:
        self._own = own
        self._configuration = configuration
        self._pace = pace
        self.connected: set[bytes] = set()
        self._linked_since: dict[bytes, int] = dict.fromkeys(configuration.others(own), 0)
        self._down_since: dict[bytes, int] = dict.fromkeys(configuration.others(own), 0)
        self._empty_since: dict[bytes, int] = {}
        self._reachable_since: int | None = None
        self._view_since = 0
        self._asked_at = 0
        self._attempts = 0
        self._halvings = 0
        self._slow_at = 0
        self._is_left = False  # the view that began last
        self._given_up = 0  # primaries in a row
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
            self._linked_since[peer] = now
        else:
            self.connected.discard(peer)
            self._down_since[peer] = now
        self._note_reach(now)

    def is_empty(self, peer: bytes, now: int) -> None:
        """A peer comes, and executed less than what everybody may have forgotten by now.

        It came back without its disk, or was away for long.  As primary it can propose nothing
        before it has fetched all that; and without its disk not even then, so that counts no more.
        """
        self._empty_since.setdefault(peer, now)

    def proposed(self, primary: bytes) -> None:
        """The primary of the installed view proposed something, so it remembers its votes."""
        self._empty_since.pop(primary, None)

    def _note_reach(self, now: int) -> None:
        if len(self.connected) + 1 < self._configuration.quorum:
            self._reachable_since = None
        elif self._reachable_since is None:
            self._reachable_since = now

    def resumed(self, now: int) -> None:
        """Nothing could be executed here until now, whoever led: what waits, waits since now."""
        if self._reachable_since is not None:
            self._reachable_since = now

    def may_have_missed(
        self, peer: bytes, said_ticks: int, now: int, travel_ticks: int = 0
    ) -> bool:
        """Whether what all were told at `said_ticks` can be other than on its way to `peer`.

        A link loses nothing while it stands, but for what does not fit into a full queue.
        """
        patience = self._pace.resend_ticks + travel_ticks
        return said_ticks <= self._linked_since[peer] or said_ticks + patience <= now

    def view_may_have_been_missed(self, peer: bytes, now: int, travel_ticks: int) -> bool:
        """The same of the NEW-VIEW of the view that was entered last: its primary told all."""
        return self.may_have_missed(peer, self._view_since, now, travel_ticks)

    def change_may_have_been_missed(self, peer: bytes, now: int, travel_ticks: int) -> bool:
        """The same of what this replica said when it left a view."""
        return self.may_have_missed(peer, self._asked_at, now, travel_ticks)

    def reachable(self, peer: bytes) -> bool:
        return peer == self._own or peer in self.connected

    def progressed(self, now: int, oldest_ticks: int | None = None, travel_ticks: int = 0) -> None:
        """A batch was executed in an installed view: the next failure starts with short timers.

        `oldest_ticks`: since when the longest-waiting request of another than the primary in it had
        been waiting, `travel_ticks` of them on its way.
        """
        self.progress_ticks = now
        self._attempts = 0
        if oldest_ticks is None or self._reachable_since is None:
            return
        since = max(oldest_ticks, self._reachable_since, self._view_since)
        halvings = self._halvings_at(since)
        waited = now - since - (travel_ticks >> halvings)
        timeout = self._pace.timeout_ticks
        if 2 * waited > timeout >> halvings:
            self._slow_at, self._halvings = now, halvings
            if self._given_up <= self._configuration.f:
                self._halvings = min(halvings + 1, HALVINGS_MAX)
        elif QUICK * waited <= timeout and now >= self._slow_at + timeout and not halvings:
            self._given_up = 0

    def _halvings_at(self, since: int) -> int:
        """How often the timer is halved for what waits since then."""
        lapsed = max(0, since - self._slow_at) // self._pace.timeout_ticks
        return max(0, self._halvings - lapsed)

    def entered(self, now: int, travel_ticks: int = 0) -> None:
        """A view was installed; its primary gets the whole time-out.

        `travel_ticks`: how long its NEW-VIEW is still on its way to the others.
        """
        self._view_since = self.progress_ticks = now + travel_ticks
        self._pace.changed()
        self._leave()
        self._is_left = False
        self._empty_since.clear()
        self._quorum_since = None

    def asked(self, now: int) -> None:
        """This replica asked for a view; each one that fails doubles the next time-out."""
        self._asked_at = now
        self._attempts += 1
        self._quorum_since = None
        self._leave()

    def _leave(self) -> None:
        if not self._is_left:
            self._is_left, self._halvings = True, 0
            self._given_up += 1

    def left_by_quorum(self, now: int) -> None:
        """A quorum asks for this view or a later one: from now on its primary is being timed.

        Those who ask for a later one count too: else members that gave up at different times, some
        after hearing a faulty one that is silent now, would wait for each other for ever.
        """
        if self._quorum_since is None:
            self._quorum_since = now

    def _patience(self, ticks: int) -> int:
        return ticks << min(self._attempts, DOUBLINGS_MAX)

    def suspect_at(self, primary: bytes, oldest_ticks: int, travel_ticks: int = 0) -> int | None:
        """The tick at which the installed view's primary is given up; None while none can be.

        `oldest_ticks`: since when something waits, `travel_ticks` of them on its way.
        """
        if self._reachable_since is None:
            return None
        since = max(oldest_ticks, self._reachable_since, self._view_since)
        # On the way or not: whoever was slow, or comes after many, is given the same part of both.
        patience = self._patience(self._pace.timeout_ticks + travel_ticks)
        at = since + (patience >> self._halvings_at(since))
        lost = self._empty_since.get(primary)
        if not self.reachable(primary):
            lost = self._down_since[primary]
        if lost is not None:
            at = min(at, max(since, lost) + self._patience(self._pace.lost_primary_ticks))
        return at

    def give_up_at(self, primary: bytes) -> int | None:
        """The tick at which a view that was asked for is skipped; None before a quorum asks."""
        if self._quorum_since is None:
            return None
        ticks = (
            self._pace.timeout_ticks if self.reachable(primary) else self._pace.lost_primary_ticks
        )
        return self._quorum_since + self._patience(ticks)

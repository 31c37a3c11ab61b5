"""How a replica that missed batches gets them: from one peer at a time, each with its certificate.

Knows where the peers say they stand, what was asked of whom, and who has it no longer.
Refuses to know what a certificate is, and believes no claim: only executed batches count.
Follows: s8_09 and s8_17 (tests/pbft/test_checklist.py): a source that claims much and delivers
nothing is left for the next one when its time is up.
"""

from __future__ import annotations

from dataclasses import dataclass

from aegis_edge.pbft.pace import Pace
from aegis_edge.wire.messages import FETCH_BATCHES_MAX, Status

#: While it is not known how large they are: so few that what is better fetched otherwise can be.
FIRST_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Request:
    """What is being fetched: `first` to `last` from `peer`, in vain after `deadline_ticks`."""

    peer: bytes
    first: int
    last: int
    deadline_ticks: int


class Catchup:
    """`pace` says how long a source may take; `lag`: when to fetch without waiting."""

    def __init__(self, pace: Pace, lag: int) -> None:
        self._pace = pace
        self._lag = lag
        self.statuses: dict[bytes, Status] = {}
        self.request: Request | None = None
        self.batch_bytes = 0  # of those that came last; 0: none came yet
        self._vain: set[bytes] = set()  # whose last answer brought nothing
        self._gone: set[bytes] = set()  # whose link went
        self._is_cut_off = False  # the last request was, and none took its place yet
        self._lacking: dict[bytes, int] = {}  # who no longer keeps the batch after this one

    def note(self, peer: bytes, status: Status) -> None:
        self.statuses[peer] = status

    def link(self, peer: bytes, up: bool) -> None:
        """What was asked of `peer` over another link than it has now is not answered any more."""
        if up:
            self._gone.discard(peer)
        else:
            self._gone.add(peer)
        if self.request is not None and self.request.peer == peer:
            self.request, self._is_cut_off = None, True

    def came(self, size_bytes: int) -> None:
        """A batch that was missing came, with what proves it."""
        self.batch_bytes = (3 * (self.batch_bytes or size_bytes) + size_bytes) // 4

    def gone(self, peer: bytes, first: int, executed: int) -> None:
        """A peer says that it no longer keeps the batch `first`."""
        current = self.request
        if first == executed + 1 and current is not None and current.peer == peer:
            self._lacking[peer] = executed
            self.request = None

    def lacks(self, peer: bytes, executed: int) -> None:
        """So it says to one that follows it: see `following`."""
        self._lacking[peer] = executed

    def lacking(self, executed: int) -> frozenset[bytes]:
        """Who no longer keeps the batch after `executed`."""
        return frozenset(p for p, after in self._lacking.items() if after == executed)

    def forget(self, peer: bytes) -> None:
        """What `peer` claims counts no more."""
        self.statuses.pop(peer, None)

    def is_futile(self, executed: int) -> bool:
        """The next batch is gone: one peer says so, and none of the others has brought it."""
        ahead = [p for p in self.at_least(executed + 1) if p not in self._gone]
        lacking = [p for p in ahead if self._lacking.get(p) == executed]
        return bool(lacking) and all(p in lacking or p in self._vain for p in ahead)

    def try_again(self) -> None:
        """What was asked for in vain may be there by now."""
        self.request = None
        self._lacking.clear()
        self._vain.clear()

    def at_least(self, executed: int) -> list[bytes]:
        """The peers who claim to have executed so much."""
        return sorted(p for p, s in self.statuses.items() if s.executed_sequence >= executed)

    def is_behind(self, executed: int, f: int) -> bool:
        """More than `f` peers claim to have executed more: at least one of them is honest."""
        return sum(s.executed_sequence > executed for s in self.statuses.values()) > f

    def is_level(self, executed: int, f: int) -> bool:
        """So many were heard that one of them is honest, and no such number is ahead."""
        return len(self.statuses) > f and not self.is_behind(executed, f)

    def choose(
        self, executed: int, stalled: bool, now_ticks: int, spoke: bytes | None = None
    ) -> Request | None:
        """The next request to send, if one is due.

        `stalled`: nothing was executed for a while; `spoke`: the peer whose status just came (it
        sends one after its answer).  A request that brought something is continued with the same
        peer; one that ran out of time goes to the next peer in turn.
        """
        claims = [p for p in self.at_least(executed + 1) if self._lacking.get(p) != executed]
        ahead = [p for p in claims if p not in self._gone]
        current = self.request
        if not ahead:
            self.request = None
            self._is_cut_off = self._is_cut_off and bool(claims)
            return None
        if current is not None and executed >= current.first:
            self._vain.discard(current.peer)
        deadline = now_ticks + self._pace.fetch_ticks
        if current is None:
            claimed = max(self.statuses[p].executed_sequence for p in ahead)
            if not stalled and not self._is_cut_off and claimed - executed <= self._lag:
                return None
            peer = next((p for p in ahead if p not in self._vain), ahead[0])
        elif current.peer in ahead and executed >= current.last:
            peer = current.peer
        elif now_ticks < current.deadline_ticks:
            if current.peer not in ahead or spoke != current.peer or executed < current.first:
                return None
            peer, deadline = current.peer, current.deadline_ticks  # drop by drop buys no time
        else:
            if executed < current.first:
                self._vain.add(current.peer)
            peer = next((p for p in ahead if p > current.peer), ahead[0])
        count = FETCH_BATCHES_MAX if self.batch_bytes else FIRST_BATCHES
        last = min(self.statuses[peer].executed_sequence, executed + count)
        self.request, self._is_cut_off = Request(peer, executed + 1, last, deadline), False
        return self.request

"""What callers wait for: operations in line, then in bundles, until their outcomes are there.

Knows bounds, order, and who is told what.  Refuses to know when a bundle may go, and why none does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import trio

from aegis_edge.knowledge.operations import Outcome
from aegis_edge.replication.errors import Busy, ReplicationError, TooLarge
from aegis_edge.wire.messages import BUNDLE_BYTES_MAX, BUNDLE_OPERATIONS_MAX, OPERATION_BYTES_MAX

#: What may wait for a bundle, in operations and in bytes; more is refused with `Busy`.
PENDING_OPERATIONS_MAX = 16 * 1024
PENDING_BYTES_MAX = 8 * 1024 * 1024

_LEVEL = " at this SECURITY_LEVEL, whose links carry little on purpose"

#: Called once, from the owner's task, with the outcome of an operation or why there is none.
#: It must be quick and must not raise.
Done = Callable[["Outcome | ReplicationError"], None]


class Ticket:
    """One waiting operation; `withdraw` it while it is in no bundle yet."""

    __slots__ = ("done", "of_members", "operation", "taken")

    def __init__(self, operation: bytes, done: Done, of_members: bool) -> None:
        self.operation = operation
        self.of_members = of_members
        self.done: Done | None = done
        self.taken = False

    def withdraw(self) -> bool:
        """Ask for no answer any more; True if the operation certainly never happens."""
        self.done = None
        return not self.taken


class Callers:
    """All operations of this node's callers that have no outcome yet; the owner's task calls.

    Its length: how many of them may still happen.  `bundle_bytes_max`: what goes at a time.
    """

    def __init__(self, bundle_bytes_max: int = BUNDLE_BYTES_MAX) -> None:
        self.bound(bundle_bytes_max)
        self._pending: deque[Ticket] = deque()
        self._pending_bytes = 0
        self._forming: list[Ticket] = []
        self._bundles: dict[tuple[int, int], list[Ticket]] = {}
        self._room = trio.Event()

    def bound(self, bundle_bytes_max: int) -> None:
        """So much goes at a time from now on; what waits in line, and is larger, goes alone."""
        self._bundle_bytes_max = bundle_bytes_max
        self._operation_bytes_max = min(bundle_bytes_max, OPERATION_BYTES_MAX)

    def __len__(self) -> int:
        waiting = sum(ticket.done is not None for ticket in self._pending)
        return waiting + sum(map(len, self._bundles.values()))

    def enqueue(self, operation: bytes, done: Done, *, of_members: bool = False) -> Ticket:
        """Put an operation in line; `of_members`: see `messages.Bundle`.

        Raises `Busy` (see `room`) or `TooLarge`.
        """
        size = len(operation)
        if size > self._operation_bytes_max:
            why = "" if self._operation_bytes_max == OPERATION_BYTES_MAX else _LEVEL
            raise TooLarge(
                f"an operation of {size} bytes; the bound is {self._operation_bytes_max}{why}"
            )
        if self._is_full(size):
            raise Busy(f"{len(self._pending)} operations wait already")
        ticket = Ticket(operation, done, of_members)
        self._pending.append(ticket)
        self._pending_bytes += size
        return ticket

    async def room(self) -> None:
        """Return when `enqueue` would not answer `Busy`, for any size, or at `refuse`."""
        while self._is_full(OPERATION_BYTES_MAX):
            await self._room.wait()

    def _is_full(self, size_bytes: int) -> bool:
        return (
            len(self._pending) >= PENDING_OPERATIONS_MAX
            or self._pending_bytes + size_bytes > PENDING_BYTES_MAX
        )

    def has_pending(self) -> bool:
        """Whether an operation that somebody waits for is in no bundle yet."""
        pending = self._pending
        while pending and pending[0].done is None:  # whoever waited for these has given up
            self._pending_bytes -= len(pending.popleft().operation)
            self._wake()
        return bool(pending)

    def form(self) -> tuple[bytes, ...]:
        """The next operations in line, as many as a bundle holds; then comes `bundled`."""
        assert not self._forming, "one bundle is formed at a time"
        pending, size = self._pending, 0
        while pending and len(self._forming) < BUNDLE_OPERATIONS_MAX:
            ticket = pending[0]
            if ticket.done is not None:
                size += len(ticket.operation)
                if self._forming and (
                    size > self._bundle_bytes_max or self._is_of_another_kind(ticket)
                ):
                    break
                ticket.taken = True
                self._forming.append(ticket)
            pending.popleft()
            self._pending_bytes -= len(ticket.operation)
        self._wake()
        return tuple(ticket.operation for ticket in self._forming)

    def _is_of_another_kind(self, ticket: Ticket) -> bool:
        return self._forming[0].of_members != ticket.of_members

    @property
    def is_of_members(self) -> bool:
        """Whether what was formed last is about members; nothing else is in one bundle with it."""
        return self._forming[0].of_members

    def bundled(self, incarnation: int, number: int) -> None:
        """What was formed last is on its way under this name."""
        self._bundles[incarnation, number] = self._forming
        self._forming = []

    def executed(self, incarnation: int, number: int, outcomes: Sequence[Outcome]) -> int:
        """Tell those who wait for this bundle what came of it; how many operations it held."""
        tickets = self._bundles.pop((incarnation, number), [])
        for ticket, outcome in zip(tickets, outcomes, strict=False):
            if ticket.done is not None:
                ticket.done(outcome)
        return len(tickets)

    def skipped(self, last: tuple[int, int], error: ReplicationError) -> None:
        """Up to the bundle `last`, what came of them will not be heard of here."""
        for name in [name for name in self._bundles if name <= last]:
            for ticket in self._bundles.pop(name):
                if ticket.done is not None:
                    ticket.done(error)

    def refuse(self, error: ReplicationError) -> None:
        """Tell everybody who waits that there will be no outcome here."""
        waiting = [*self._pending, *(t for tickets in self._bundles.values() for t in tickets)]
        self._pending.clear()
        self._pending_bytes = 0
        self._bundles.clear()
        for ticket in waiting:
            if ticket.done is not None:
                ticket.done(error)
        self._wake()

    def _wake(self) -> None:
        if self._room.statistics().tasks_waiting:
            self._room.set()
            self._room = trio.Event()

"""What the API needs of the node that it speaks for; `replication.Replication` gives most of it.

Knows signatures only.  Refuses to know who stands behind them, so that a test can.
Failures of the node are exceptions with a `code` for programs and an `advice` for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aegis_edge.knowledge.operations import Outcome

T = TypeVar("T")


class Ticket(Protocol):
    """A waiting operation."""

    def withdraw(self) -> bool:
        """Ask for no answer any more; True if it certainly never happens."""
        ...


class Replication(Protocol):
    """Where operations go and where reads come from."""

    async def submit(self, operation: bytes, *, timeout_s: float) -> Outcome:
        """Execute an encoded operation; its outcome once a quorum holds it durably."""
        ...

    def enqueue(self, operation: bytes, done: Callable[[Any], None]) -> Ticket:
        """`done` is called once, with an outcome or an exception; raises if nothing was taken."""
        ...

    async def room(self) -> None:
        """Return when `enqueue` has room."""
        ...

    async def barrier(self, *, timeout_s: float) -> None:
        """Return when everything acknowledged before the call is readable here."""
        ...

    async def read(self, query: Callable[[Any], T]) -> T:
        """Run `query(database)` in the database's thread."""
        ...

    async def revision_after(self, revision: int) -> int:
        """The newest revision, as soon as it is above `revision`."""
        ...


@dataclass(frozen=True)
class Node:
    """The node as the API sees it.

    `status`, `peers`, `config` and `version` give what the routes of the same names answer, as
    plain JSON values; `author` is the text form of a member's public key.
    """

    replication: Replication
    author: Callable[[bytes], str]
    status: Callable[[], Mapping[str, Any]]
    peers: Callable[[], Mapping[str, Any]]
    config: Callable[[], Mapping[str, Any]]
    version: Callable[[], Mapping[str, Any]]

"""What the API needs of the node that it speaks for; `replication.Replication` gives most of it.

Knows signatures only.  Refuses to know who stands behind them, so that a test can.
Failures of the node are exceptions with a `code` for programs and an `advice` for people.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from aegis_edge.knowledge.operations import Outcome
from aegis_edge.wire.messages import NodeRecord, Verified

T = TypeVar("T")

#: Whoever does not say for how long waits for so many time-outs of the agreement: within one a
#: leader that says nothing is given up, and another has led a while at the end of the next.
PATIENCE_TIMEOUTS = 2
#: In seconds: at least so long, however quick the cluster should be, and at most.
PATIENCE_S_MIN = 30.0
PATIENCE_S_MAX = 3600.0


class Ticket(Protocol):
    """A waiting operation."""

    def withdraw(self) -> bool:
        """Ask for no answer any more; True if it certainly never happens."""
        ...


class Replication(Protocol):
    """Where operations go and where reads come from."""

    async def submit(
        self, operation: bytes, *, timeout_s: float, of_members: bool = False
    ) -> Outcome:
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

    async def prove(self, key: str, *, timeout_s: float) -> bytes:
        """A proof of what `key` has, no older than what is readable here; see `aegis_edge.proof`.

        Raises `knowledge.inclusion.Unprovable`.
        """
        ...

    async def read(self, query: Callable[[Any], T]) -> T:
        """Run `query(database)` in the database's thread."""
        ...

    async def revision_after(self, revision: int) -> int:
        """The newest revision, as soon as it is above `revision`."""
        ...


class Invited(NamedTuple):
    """An invitation, and what became of it.

    `name`: what people call it, no secret; `state`: open, used, waiting (for votes), admitted,
    expired or cancelled; `until_ms`: agreed time, Unix milliseconds; `instead_of`: the member in
    whose place the newcomer is to be; `guest`: its key; `number`: of the proposal, or 0.
    `is_observer`: it is for one that is no member, and the states are open, observes, ended,
    expired or cancelled.
    """

    name: str
    state: str
    until_ms: int
    instead_of: bytes | None
    guest: bytes | None
    number: int
    is_observer: bool = False


@dataclass(frozen=True)
class Issued:
    """A new invitation; `code` is for the newcomer's eyes alone."""

    code: str = field(repr=False)
    invited: Invited


class Invitations(Protocol):
    """The desk of this node; what it refuses, it raises as a `Refusal`."""

    async def issue(
        self,
        lifetime_s: int,
        instead_of: bytes | None,
        *,
        timeout_s: float,
        is_observer: bool = False,
    ) -> Issued: ...

    async def listed(self) -> Sequence[Invited]: ...

    async def cancel(self, name: str) -> None: ...

    def observers(self) -> Mapping[bytes, str]:
        """The keys and the names of the observers for whom this node vouches."""
        ...

    async def dismiss(self, key: bytes) -> None:
        """Vouch for an observer no more."""
        ...


class Kept(NamedTuple):
    """A node that is kept out by hand; `left_ticks` is None until somebody lets it in again."""

    key: bytes
    left_ticks: int | None


class Bans(Protocol):
    """Whom the owner keeps out; what it refuses, it raises as a `Refusal`."""

    async def ban(self, key: bytes, for_s: int | None) -> str: ...

    async def lift(self, key: bytes) -> None: ...


@dataclass(frozen=True)
class Node:
    """The node as the API sees it.

    `status`, `peers`, `config` and `version` give what the routes of the same names answer, as
    plain JSON values; `author` is the text form of a member's public key, `name` what people call
    it; `record` reads a node record; `dial` has the member at an address dialled now and gives its
    key, None if nobody is known to be there; `schemes`: the kinds of address that links dial, such
    as "tcp"; `see` calls a board that is no member: empty if it is there with this genesis, else
    why nobody can tell; `quorum`: of so many members; `timeout_ticks`: how long a leader may say
    nothing now, in milliseconds.
    """

    replication: Replication
    author: Callable[[bytes], str]
    status: Callable[[], Mapping[str, Any]]
    peers: Callable[[], Mapping[str, Any]]
    config: Callable[[], Mapping[str, Any]]
    version: Callable[[], Mapping[str, Any]]
    name: Callable[[bytes], str]
    record: Callable[[bytes], Verified[NodeRecord]]
    dial: Callable[[str], bytes | None]
    schemes: frozenset[str]
    see: Callable[[Verified[NodeRecord]], Awaitable[str]]
    quorum: Callable[[int], int]
    invitations: Invitations
    bans: Bans
    timeout_ticks: Callable[[], int]

    @property
    def patience_s(self) -> float:
        """How long a caller waits for the cluster who does not say for how long, in seconds."""
        wanted_s = PATIENCE_TIMEOUTS * self.timeout_ticks() / 1000
        return round(min(max(wanted_s, PATIENCE_S_MIN), PATIENCE_S_MAX))

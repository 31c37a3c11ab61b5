"""A node for tests of the API: its writes are agreed by itself, at once, in a dict."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import trio

from aegis_edge import membership
from aegis_edge.api import Node, open_listener, serve
from aegis_edge.api.http import Server
from aegis_edge.api.messages import Refusal
from aegis_edge.api.port import Invited, Issued
from aegis_edge.disk.reads import Changes, Entry, Listing, Pruned
from aegis_edge.knowledge.operations import Delete, OperationError, Outcome, Put, Status, decode
from aegis_edge.knowledge.roll import Roll, Rules
from aegis_edge.knowledge.state import Version
from aegis_edge.peers.identity import node_id
from aegis_edge.peers.invitation import Invitation
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Verified
from tests import proofs

AUTHOR = bytes(range(32))
TIME_MS = 1_700_000_000_000


class Failure(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(f"the node says {code}")
        self.code = code
        self.advice = "do what the test says"


class Database:
    def __init__(self) -> None:
        self.rows: list[Version] = []
        self.newest: dict[str, Version] = {}
        self.oldest = 0
        self.members = FOUNDERS
        #: The roll as it is read, if that is not the one that counts by now.
        self.shown: Roll | None = None

    def history(self, key: str, limit: int) -> list[Version]:
        return [row for row in reversed(self.rows) if row.key == key][:limit]

    def get(self, key: str, revision: int | None = None) -> Version | None:
        if revision is not None:
            if revision < self.oldest:
                raise Pruned(self.oldest)
            rows = [row for row in self.rows if row.key == key and row.revision <= revision]
            return rows[-1] if rows and not rows[-1].deleted else None
        found = self.newest.get(key)
        return None if found is None or found.deleted else found

    def ls(self, prefix: str, after: str, limit: int) -> Listing:
        keys = sorted(
            k
            for k, row in self.newest.items()
            if k.startswith(prefix) and k > after and not row.deleted
        )
        rows = [self.newest[key] for key in keys[:limit]]
        entries = [
            Entry(r.key, r.revision, r.author, r.time_ms, r.media, len(r.value)) for r in rows
        ]
        return Listing(entries, keys[limit - 1] if len(keys) > limit else None)

    def changes(self, after: int, limit: int, prefix: str) -> Changes:
        rows = self.rows[after : after + limit]
        return Changes([r for r in rows if r.key.startswith(prefix)], after + len(rows))

    def roll(self) -> Roll:
        return self.members if self.shown is None else self.shown

    def root(self) -> tuple[int, int, bytes]:
        return len(self.rows), len(self.rows), bytes(32)


def _record(seed: int, name: str, *addresses: str) -> Verified[NodeRecord]:
    signer = Signer(bytes([seed]) * 32, b"")
    return signer.sign(NodeRecord(1, bytes([seed]) * 32, addresses, 9, name))


_RECORDS = sorted(
    (_record(seed, "", "tcp:192.0.2.1:8080") for seed in (1, 2)), key=lambda r: r.signer
)
FOUNDERS = Roll(tuple((record.signer, record.raw) for record in _RECORDS))
NEWCOMER = _record(3, "new")
NAMES = {FOUNDERS.members[0]: "n0", FOUNDERS.members[1]: "n1", NEWCOMER.signer: "new"}
RULES = Rules(lambda n: n // 2 + 1, lambda n, _: n <= 7, membership.opened)


class Ticket:
    def __init__(self, done: Callable[[Any], None]) -> None:
        self.done = done
        self.withdrawn = False

    def withdraw(self) -> bool:
        self.withdrawn = True
        return True


class Desk:
    """Invitations that are as good as the test says; `wanted` has what was asked for."""

    code = Invitation(
        bytes(32), AUTHOR, ("tcp:192.0.2.1:8080",), bytes(16), TIME_MS // 1000, 0, bytes(16)
    ).to_text()

    def __init__(self) -> None:
        self.rows: list[Invited] = []
        self.wanted: list[tuple[int, bytes | None, float]] = []
        self.settled = trio.lowlevel.checkpoint
        self.vouched: dict[bytes, str] = {}

    async def issue(
        self,
        lifetime_s: int,
        instead_of: bytes | None,
        *,
        timeout_s: float,
        is_observer: bool = False,
    ) -> Issued:
        await trio.lowlevel.checkpoint()
        self.wanted.append((lifetime_s, instead_of, timeout_s))
        await self.settled()
        until_ms, name = TIME_MS + lifetime_s * 1000, f"{len(self.rows):08x}"
        self.rows.append(Invited(name, "open", until_ms, instead_of, None, 0, is_observer))
        return Issued(self.code, self.rows[-1])

    def observers(self) -> dict[bytes, str]:
        return self.vouched

    async def dismiss(self, key: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.vouched.pop(key, None) is None:
            raise Refusal("not_found", "there is no such observer", "see aegis-edge members")

    async def listed(self) -> list[Invited]:
        await trio.lowlevel.checkpoint()
        return self.rows[::-1]

    async def cancel(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        for at, row in enumerate(self.rows):
            if row.name == name:
                self.rows[at] = row._replace(state="cancelled")
                return
        raise Refusal("not_found", "there is no such invitation", "aegis-edge invite list")


class Bans:
    """Whom a test keeps out, and for how long; each time it says `warning`."""

    def __init__(self) -> None:
        self.kept: dict[bytes, int | None] = {}
        self.warning = ""

    async def ban(self, key: bytes, for_s: int | None) -> str:
        await trio.lowlevel.checkpoint()
        self.kept[key] = for_s
        return self.warning

    async def lift(self, key: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.kept.pop(key, None)


class Replication:
    """Fails with `failing` if that is set; keeps operations waiting while `held` is true.

    `timeouts_s`: for how long each caller wanted to wait.
    """

    timeout_ticks = 20_000

    def __init__(self) -> None:
        self.database = Database()
        self.failing: Exception | None = None
        self.held = False
        self.busy = 0
        self.tickets: list[tuple[bytes, Ticket]] = []
        self.barriers = 0
        self.proof: bytes | None = None
        self.proven: list[tuple[str, float]] = []
        self.revision = 0
        self.moved = trio.Event()
        self.released = trio.Event()
        self.token: trio.lowlevel.TrioToken | None = None
        self.more: dict[str, Any] = {}
        self.peers: list[dict[str, Any]] = []
        self.banned: list[dict[str, Any]] = []
        self.timeouts_s: list[float] = []
        self.ballots: list[Any] = []
        #: As `GET /v1/config` gives it.
        self.agreed: list[dict[str, Any]] = []
        self.desk = Desk()
        self.desk.settled = self.time_settled
        self.bans = Bans()
        #: Whom the node was to call, and why it has not seen them.
        self.seen: list[bytes] = []
        self.unseen = ""
        #: Which founder this node speaks for.
        self.who = 0

    def apply(self, raw: bytes) -> Outcome:
        try:
            operation = decode(raw)
        except OperationError:
            return Outcome(Status.INVALID, 0, TIME_MS)
        assert isinstance(operation, (Put, Delete))
        newest = self.database.get(operation.key)
        current = 0 if newest is None else newest.revision
        if operation.expected not in (None, current):
            return Outcome(Status.CONFLICT, current, TIME_MS)
        if isinstance(operation, Delete):
            if not current:
                return Outcome(Status.ABSENT, 0, TIME_MS)
            self.write(operation.key, b"", 0, True)
        else:
            self.write(operation.key, operation.value, operation.media, False)
        return Outcome(Status.DONE, self.revision, TIME_MS)

    def write(self, key: str, value: bytes, media: int, deleted: bool) -> None:
        self.revision += 1
        time_ms = TIME_MS + self.revision
        version = Version(self.revision, key, 0, AUTHOR, time_ms, media, deleted, value)
        self.database.rows.append(version)
        self.database.newest[key] = version
        self.moved.set()
        self.moved = trio.Event()

    async def submit(
        self, operation: bytes, *, timeout_s: float = math.inf, of_members: bool = False
    ) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.timeouts_s.append(timeout_s)
        if self.failing is not None:
            raise self.failing
        if self.held:
            await self.released.wait()
        return self.decide(decode(operation)) if of_members else self.apply(operation)

    def decide(self, ballot: Any) -> Outcome:
        """As the member `who` says; the rules are the real ones."""
        self.ballots.append(ballot)
        roll, author = self.database.members, FOUNDERS.members[self.who]
        self.database.members, status, number = roll.decide(author, TIME_MS, ballot, RULES)
        return Outcome(status, number, TIME_MS)

    def enqueue(self, operation: bytes, done: Callable[[Any], None]) -> Ticket:
        if self.busy:
            self.busy -= 1
            raise Failure("busy")
        if self.failing is not None:
            raise self.failing
        ticket = Ticket(done)
        if self.held:
            self.tickets.append((operation, ticket))
        else:
            done(self.apply(operation))
        return ticket

    def release(self) -> None:
        self.held = False
        self.released.set()
        for operation, ticket in self.tickets:
            ticket.done(self.apply(operation))
        self.tickets.clear()

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    async def barrier(self, *, timeout_s: float = math.inf) -> None:
        await trio.lowlevel.checkpoint()
        self.timeouts_s.append(timeout_s)
        if self.failing is not None:
            raise self.failing
        if self.held:
            await self.released.wait()
        self.barriers += 1

    async def prove(self, key: str, *, timeout_s: float = math.inf) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.failing is not None:
            raise self.failing
        if self.held:
            await self.released.wait()
        self.proven.append((key, timeout_s))
        return proofs.cluster().proof(key) if self.proof is None else self.proof

    async def read(self, query: Callable[[Any], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return query(self.database)

    async def revision_after(self, revision: int) -> int:
        await trio.lowlevel.checkpoint()
        while self.revision <= revision:
            await self.moved.wait()
        return self.revision

    def known(self) -> dict[str, Any]:
        return {"peers": self.peers} | ({"bans": self.banned} if self.banned else {})

    async def time_settled(self) -> None:
        """An invitation takes the agreed time, as a batch does."""
        await trio.lowlevel.checkpoint()
        if self.held:
            await self.released.wait()

    async def see(self, record: Verified[NodeRecord]) -> str:
        await trio.lowlevel.checkpoint()
        self.seen.append(record.signer)
        return self.unseen

    def status(self) -> dict[str, Any]:
        said = {"nodes": 1, "has_quorum": True, "revision": self.revision, "reachable": []}
        said |= {"quorum": 2, "faulty_max": 0, "is_member": True}
        return said | self.more


def node_of(replication: Replication) -> Node:
    return Node(
        dial=lambda address: bytes(32) if address == "tcp:there:1" else None,
        replication=replication,
        author=lambda key: node_id(key) if key in NAMES else key.hex(),
        status=replication.status,
        peers=replication.known,
        config=lambda: {"settings": [], "agreed": replication.agreed, "overruled": []},
        version=lambda: {"version": "0.1.0"},
        name=lambda key: NAMES.get(key, "?"),
        record=membership.opened,
        schemes=frozenset({"tcp"}),
        see=replication.see,
        quorum=RULES.quorum,
        invitations=replication.desk,
        bans=replication.bans,
        timeout_ticks=lambda: replication.timeout_ticks,
    )


#: Servers that look for clients who hang up, in a task of the first connection.
_WATCHED: WeakSet[Server] = WeakSet()


@asynccontextmanager
async def talking(
    replication: Replication, server: Server | None = None
) -> AsyncIterator[trio.SocketStream]:
    """A client's end of a connection to the API of this node."""
    ours, theirs = trio.socket.socketpair()
    server = Server(node_of(replication)) if server is None else server
    async with trio.open_nursery() as nursery:
        if server not in _WATCHED:
            _WATCHED.add(server)
            nursery.start_soon(server.departures.run)
        served = trio.Event()

        async def handle() -> None:
            await server.handle(trio.SocketStream(theirs))
            served.set()

        nursery.start_soon(handle)
        async with trio.SocketStream(ours) as stream:
            yield stream
        nursery.cancel_scope.deadline = trio.current_time() + 5
        await served.wait()
        nursery.cancel_scope.cancel()


@contextmanager
def serving(path: Path) -> Iterator[Replication]:
    """The API of such a node in a thread of its own, for code that blocks."""
    up = threading.Event()
    found: dict[str, Any] = {}

    async def serve_until_told() -> None:
        replication = Replication()
        with open_listener(path) as listener:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, node_of(replication), listener)
                found["stop"] = nursery.cancel_scope.cancel
                found["token"] = replication.token = trio.lowlevel.current_trio_token()
                found["replication"] = replication
                up.set()

    thread = threading.Thread(target=trio.run, args=(serve_until_told,))
    thread.start()
    assert up.wait(10)
    try:
        yield found["replication"]
    finally:
        found["token"].run_sync_soon(found["stop"])
        thread.join()

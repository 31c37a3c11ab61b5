"""The client for Trio: the same calls, awaited; many tasks may share one client.

Knows Trio and a Unix socket.  Refuses to know what is said: that is `protocol`.
Foreign exceptions end in `_Wire`; cancellation closes the connection that it interrupts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import trio

from aegis_edge.client import protocol
from aegis_edge.client.flight import Flight
from aegis_edge.client.plain import GRACE_S, PAGE, RECEIVE_BYTES, not_running
from aegis_edge.client.protocol import (
    Call,
    Change,
    ClientError,
    Disconnected,
    Entry,
    Inbox,
    Parser,
    TimedOut,
    Version,
    Written,
)

T = TypeVar("T")

#: Idle connections that a client keeps.
IDLE_MAX = 8


class _Wire:
    """One connection and what came over it; every foreign exception ends here."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.inbox = Inbox()
        self._stream = stream

    @classmethod
    async def connect(cls, path: str) -> _Wire:
        try:
            return cls(await trio.open_unix_socket(path))
        except OSError as error:
            raise not_running(path, error) from None

    async def send(self, data: bytes) -> None:
        # A node that refuses says why before it closes: the reader finds it.
        with suppress(trio.BrokenResourceError):
            await self._stream.send_all(data)

    async def read(self, parser: Parser[T]) -> T:
        """Run a parser to its end."""
        while True:
            try:
                next(parser)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise Disconnected(
                    "the node closed the connection", "look at its log, and read before you retry"
                )
            self.inbox.feed(data)

    @property
    def stale(self) -> bool:
        """True if the other side closed, or spoke without being asked."""
        return self._stream.socket.is_readable()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


class TrioClient:
    """The knowledge base of one node; made by `aegis_edge.client.connect`.

    The calls are those of `aegis_edge.client.Client`, awaited.
    """

    def __init__(self, path: str, *, timeout_s: float | None) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._patience_s: float | None = None
        self._idle: list[_Wire] = []

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    # --- the knowledge base -----------------------------------------------------------------

    async def put(self, key: str, value: Any, *, expected: int | None = None) -> Written:
        """Write `value`; returns when a quorum holds it durably."""
        patience_s = await self._patience()
        return await self._do(protocol.put(key, value, expected, patience_s), patience_s)

    async def delete(self, key: str, *, expected: int | None = None) -> Written:
        """Delete the key; its history stays."""
        patience_s = await self._patience()
        return await self._do(protocol.delete(key, expected, patience_s), patience_s)

    async def get(
        self, key: str, *, revision: int | None = None, linearizable: bool = False
    ) -> Entry:
        """Read a key: this node's copy, or `linearizable` through the cluster."""
        patience_s = await self._patience() if linearizable else None
        return await self._do(protocol.get(key, revision, patience_s), patience_s)

    async def prove(self, key: str, *, linearizable: bool = False) -> bytes:
        """A proof of what the key has, or that it has none, for `aegis_edge.proof.verify`.

        No older than this node's copy; may wait for the cluster to sign the state.
        """
        patience_s = await self._patience()
        return await self._do(protocol.prove(key, linearizable, patience_s), patience_s)

    async def ls(
        self, prefix: str = "", *, after: str = "", page: int = PAGE
    ) -> AsyncIterator[Version]:
        """The keys under `prefix` in bytewise order, without their values.

        Those behind the key `after`, which need not exist; so many to a `page`, which is a call.
        """
        more: str | None = after
        while more is not None:
            found = await self._do(protocol.ls(prefix, more, page))
            for version in found.entries:
                yield version
            more = found.more

    async def history(self, key: str, *, limit: int = 100) -> list[Version]:
        """The versions of a key that are kept, the newest first."""
        return (await self._do(protocol.history(key, limit))).entries

    async def watch(self, *, after: int | None = None, prefix: str = "") -> AsyncIterator[Change]:
        """Follow the writes under `prefix`, from now on or from revision `after`; never ends."""
        wire = await _Wire.connect(self.path)
        try:
            await wire.send(protocol.watch(after, prefix))
            await wire.read(protocol.watched(wire.inbox))
            lines = Inbox()
            while piece := await wire.read(protocol.chunk(wire.inbox)):
                lines.feed(piece)
                for change in protocol.changes(lines):
                    yield change
        finally:
            await wire.aclose()

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[TrioPipeline]:
        """Thousands of writes a second; many tasks may share it.  Leaving the block flushes."""
        patience_s = await self._patience()
        wire = await _Wire.connect(self.path)
        try:
            with _deadline(patience_s + GRACE_S):
                await wire.send(protocol.upgrade())
                await wire.read(protocol.upgraded(wire.inbox))
            pipeline = TrioPipeline(wire, timeout_s=patience_s)
            yield pipeline
            await pipeline.flush()
        finally:
            await wire.aclose()

    # --- the node ---------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """Where the node stands."""
        return await self._do(protocol.table("status"))

    async def peers(self) -> dict[str, Any]:
        """The members, and the links to them."""
        return await self._do(protocol.table("peers"))

    async def dial(self, address: str) -> dict[str, Any]:
        """Have the member at `address` tried now; `peer` in the answer is its id."""
        return await self._do(protocol.dial(address))

    async def ban(self, node_id: str, for_s: int | None = None) -> dict[str, Any]:
        """Have no link with this node, for so many seconds or until `unban`, over restarts.

        `warning` in the answer says what that may cost, if it may.
        """
        return await self._do(protocol.ban(node_id, for_s))

    async def unban(self, node_id: str) -> dict[str, Any]:
        """Hold nothing against this node any more, whatever it was banned for."""
        return await self._do(protocol.unban(node_id))

    # --- the members ------------------------------------------------------------------------

    async def members(self) -> dict[str, Any]:
        """Who takes part, and since when."""
        return await self._do(protocol.table("members"))

    async def proposals(self) -> dict[str, Any]:
        """The changes that wait for votes: of members, and of what they share."""
        return await self._do(protocol.table("proposals"))

    async def propose_addition(self, record: str, *, unseen: bool = False) -> dict[str, Any]:
        """Propose the node whose record (the text of `aegis-edge record`) this is as a member.

        `number` in the answer names the proposal; it is done unless `open`.  Where the cluster
        would need that board from then on it has to answer first, or else `Conflict`; `unseen`:
        whether or not it does, and if it never comes the cluster stops for good.
        """
        patience_s = await self._patience()
        call = protocol.propose("add", record, patience_s, unseen=unseen)
        return await self._do(call, patience_s)

    async def propose_removal(self, node_id: str) -> dict[str, Any]:
        """Propose that this member goes; the answer is as for `propose_addition`."""
        patience_s = await self._patience()
        return await self._do(protocol.propose("remove", node_id, patience_s), patience_s)

    async def propose_value(self, name: str, value: float) -> dict[str, Any]:
        """Propose a value for a parameter that all members share, as `aegis-edge propose` does.

        `value` is in seconds or batches; the answer is as for `propose_addition`.
        """
        patience_s = await self._patience()
        return await self._do(protocol.propose("set", {name: value}, patience_s), patience_s)

    async def vote(self, number: int, yes: bool) -> dict[str, Any]:
        """Say yes or no to a proposal, for this node; the answer is as for `propose_addition`."""
        patience_s = await self._patience()
        return await self._do(protocol.vote(number, yes, patience_s), patience_s)

    async def leave(self) -> dict[str, Any]:
        """Have this node go; nobody is asked."""
        patience_s = await self._patience()
        return await self._do(protocol.leave(patience_s), patience_s)

    async def invite(
        self, lifetime_s: int, instead_of: str | None = None, *, is_observer: bool = False
    ) -> dict[str, Any]:
        """Invite a board for so many seconds; the `code` in the answer is for `aegis-edge join`.

        `instead_of`: the node id of a member in whose place it is to be admitted; `is_observer`: it
        is to follow, and no member.
        """
        patience_s = await self._patience()
        call = protocol.invite(lifetime_s, instead_of, is_observer, patience_s)
        return await self._do(call, patience_s)

    async def invitations(self) -> dict[str, Any]:
        """What became of the invitations of this node."""
        return await self._do(protocol.table("invitations"))

    async def cancel_invitation(self, name: str) -> dict[str, Any]:
        """End an invitation that nobody has used."""
        return await self._do(protocol.cancel_invitation(name))

    async def dismiss_observer(self, node_id: str) -> dict[str, Any]:
        """Vouch for an observer no more, whom this node has invited."""
        return await self._do(protocol.dismiss_observer(node_id))

    async def config(self) -> dict[str, Any]:
        """The settings that the node runs with, and where each came from."""
        return await self._do(protocol.table("config"))

    async def version(self) -> dict[str, Any]:
        """The version of the node."""
        return await self._do(protocol.table("version"))

    async def metrics(self) -> str:
        """The metrics as Prometheus text."""
        return await self._do(protocol.metrics())

    async def _patience(self) -> float:
        """How long to wait for the cluster, in seconds: what the caller says, else the node."""
        if self.timeout_s is not None:
            return self.timeout_s
        if self._patience_s is None:
            self._patience_s = protocol.patience_s(await self.status())
        return self._patience_s

    @property
    def _answer_s(self) -> float:
        """How long to wait for what the node knows itself, in seconds."""
        return protocol.ANSWER_S if self.timeout_s is None else self.timeout_s

    async def _do(self, call: Call[T], patience_s: float | None = None) -> T:
        answer_s = self._answer_s if patience_s is None else patience_s
        wire = await self._taken()
        try:
            with _deadline(answer_s + GRACE_S):
                await wire.send(call.request)
                answer = await wire.read(protocol.response(wire.inbox))
        except BaseException:
            await wire.aclose()
            raise
        closing = answer.headers.get("connection", "").lower() == "close"
        if closing or len(self._idle) >= IDLE_MAX:
            await wire.aclose()
        else:
            self._idle.append(wire)
        return call.read(answer)

    async def _taken(self) -> _Wire:
        while self._idle:
            wire = self._idle.pop()
            if not wire.stale:
                return wire
            await wire.aclose()
        return await _Wire.connect(self.path)


class TrioPipeline:
    """Many writes on the way at once; `put` and `delete` wait for room only.

    Whoever waits for an answer reads for everybody, so no task runs in the background.
    """

    def __init__(self, wire: _Wire, *, timeout_s: float) -> None:
        self._wire = wire
        self._timeout_s = timeout_s
        self._flight = Flight()
        self._arrived = trio.lowlevel.ParkingLot()
        self._reading = False
        self._sending = trio.Lock()
        self._torn = False

    async def put(self, key: str, value: Any, *, expected: int | None = None) -> int:
        """Send a put on its way; its number, from 0."""
        number = self._flight.put(key, value, expected)
        await self._pump()
        return number

    async def delete(self, key: str, *, expected: int | None = None) -> int:
        """Send a deletion on its way; its number, from 0."""
        number = self._flight.delete(key, expected)
        await self._pump()
        return number

    async def put_and_wait(self, key: str, value: Any, *, expected: int | None = None) -> Written:
        """Put, and wait for the answer; tasks that do so at once share frames both ways."""
        number = self._flight.put(key, value, expected)
        self._flight.claim(number)
        await trio.lowlevel.checkpoint()
        await self._send()
        with _deadline(self._timeout_s):
            while not self._flight.answered(number):
                await self._read()
        return self._flight.result(number)

    async def settle(self) -> list[Written | ClientError]:
        """Wait for all answers since the last flush, in order; an error is an item, not raised."""
        await self._send()
        with _deadline(self._timeout_s):
            while self._flight.open:
                await self._read()
        return self._flight.landed()

    async def flush(self) -> list[Written]:
        """Wait until all writes since the last flush are durable; raises the first error."""
        return self._flight.all_written(await self.settle())

    async def _pump(self) -> None:
        if not (self._flight.frame_due or self._flight.full):
            return
        await self._send()
        with _deadline(self._timeout_s):
            while self._flight.full:
                await self._read()

    async def _send(self) -> None:
        async with self._sending:
            data = self._flight.frame()
            if self._torn:
                raise Disconnected("a frame was cut off by a cancellation", "open a new pipeline")
            if data:
                self._torn = True
                await self._wire.send(data)
                self._torn = False

    async def _read(self) -> None:
        """Read one frame of answers, or wait until another task has."""
        if self._reading:
            await self._arrived.park()
            return
        self._reading = True
        try:
            await self._wire.read(self._flight.answers(self._wire.inbox))
        finally:
            self._reading = False
            self._arrived.unpark_all()


@asynccontextmanager
async def opened(path: str, *, timeout_s: float | None) -> AsyncIterator[TrioClient]:
    """A client that closes its connections at the end of the block."""
    client = TrioClient(path, timeout_s=timeout_s)
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def _deadline(timeout_s: float) -> Iterator[None]:
    with trio.move_on_after(timeout_s) as scope:
        yield
    if scope.cancelled_caught:
        raise TimedOut("the node did not answer in time", "look at: aegis-edge status")

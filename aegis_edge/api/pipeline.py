"""The pipeline: many writes on the way at once over one connection, at the least cost for each.

Knows frames: a 4-byte big-endian length, then a CBOR array.  Refuses to know what operations do.
After ``101 Switching Protocols`` both sides send frames of items, in any order:

    client   (number, operation)             operation: bytes as in `knowledge.operations`
    node     (number, "ok", revision, time_ms)      or (number, error code, revision, message)

A frame has at most `FRAME_ITEMS_MAX` items and `FRAME_BYTES_MAX` bytes.
`number` is the client's, from 0 to 2^63-1, unused while it waits.  (None, code, 0, message) is the
last item before the node closes: the client broke a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import trio

from aegis_edge.api.messages import Refusal, check_encoded
from aegis_edge.api.port import Replication, Ticket
from aegis_edge.api.room import Room
from aegis_edge.api.routes import refusal_words
from aegis_edge.knowledge.operations import Outcome, Status
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

FRAME_BYTES_MAX = 1024 * 1024
FRAME_ITEMS_MAX = 4096
RECEIVE_BYTES = 64 * 1024
#: What one connection may have on its way, in operations; then it is not read any further.
FLIGHT_MAX = 4096
#: What all connections together may.
OPERATIONS_MAX = 8192
#: An item of a frame takes so much memory beside its bytes; the shortest takes so much of a frame.
ITEM_COST_BYTES = 160
ITEM_BYTES_MIN = 3
ANSWERS_PER_FRAME = 4096
FRAME_S = 30.0
SEND_S = 30.0
NUMBER_MAX = 2**63 - 1


class Bounds(NamedTuple):
    """What all pipelines share: bytes of frames that are not in line yet, and operations."""

    incoming: Room
    operations: Room


class _Broken(Exception):
    """The client broke a rule of the pipeline; the text says which."""


async def speak(
    stream: trio.SocketStream, early: bytes, replication: Replication, bounds: Bounds
) -> None:
    """Serve a pipeline until the client closes it; what has no answer then, gets none.

    `early`: what came with the request.
    """
    link = _Link(stream, early, replication, bounds)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.write, nursery.cancel_scope)
            if not await link.read():
                nursery.cancel_scope.cancel()
    finally:
        link.withdraw()


class _Link:
    def __init__(
        self,
        stream: trio.SocketStream,
        early: bytes,
        replication: Replication,
        bounds: Bounds,
    ) -> None:
        self._stream = stream
        self._inbox = bytearray(early)
        self._replication = replication
        self._bounds = bounds
        self._held_bytes = 0
        self._held_operations = 0
        self._tickets: dict[int, Ticket | None] = {}
        self._answers: list[tuple[int | None, str, int, int | str]] = []
        self._answered = trio.Event()
        self._room = trio.Event()
        self._closing = False

    # --- in ---------------------------------------------------------------------------------

    async def read(self) -> bool:
        """Take frames until the client closes its side; False if it is lost."""
        try:
            while (data := await self._frame()) is not None:
                items = self._items(data)
                del data
                await self._take(items)
                del items
                self._let_bytes_go()
        except _Broken as error:
            self._answers.append((None, "invalid", 0, str(error)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._closing = True
        self._answered.set()
        return True

    async def _frame(self) -> bytes | None:
        """The next frame; None when the client has closed its side."""
        inbox = self._inbox
        while len(inbox) < 4:
            if not await self._more():
                return None
        size = int.from_bytes(inbox[:4], "big")
        if size > FRAME_BYTES_MAX:
            raise _Broken(f"a frame of {size} bytes; at most {FRAME_BYTES_MAX} are allowed")
        end = 4 + size
        cost = size + ITEM_COST_BYTES * min(FRAME_ITEMS_MAX, size // ITEM_BYTES_MIN)
        await self._bounds.incoming.take(cost)
        self._held_bytes = cost
        if len(inbox) < end:
            with trio.move_on_after(FRAME_S) as scope:
                await self._fill(end)
            if scope.cancelled_caught:
                raise _Broken(f"a frame that was not whole within {FRAME_S:g} s")
        data = bytes(inbox[4:end])
        del inbox[:end]
        return data

    async def _fill(self, end: int) -> None:
        while len(self._inbox) < end:
            if not await self._more():
                raise _Broken("the end came within a frame")

    async def _more(self) -> bool:
        data = await self._stream.receive_some(RECEIVE_BYTES)
        self._inbox += data
        return bool(data)

    def _items(self, data: bytes) -> tuple[Any, ...]:
        try:
            items = codec.decode(data, items_max=3 * FRAME_ITEMS_MAX)
        except WireError as error:
            raise _Broken(f"a frame that is not CBOR: {error}") from None
        if type(items) is not tuple or len(items) > FRAME_ITEMS_MAX:
            raise _Broken(f"a frame that is no array of at most {FRAME_ITEMS_MAX} items")
        return items

    async def _take(self, items: tuple[Any, ...]) -> None:
        await self._bounds.operations.take(len(items))
        self._held_operations += len(items)
        tickets = self._tickets
        for item in items:
            if type(item) is not tuple or len(item) != 2:
                raise _Broken("an item that is not a number and an operation")
            number, operation = item
            if type(number) is not int or not 0 <= number <= NUMBER_MAX or number in tickets:
                raise _Broken("a number that is in use, or is none")
            if type(operation) is not bytes:
                raise _Broken("an operation that is no byte string")
            while len(tickets) + len(self._answers) >= FLIGHT_MAX:
                self._room = trio.Event()
                await self._room.wait()
            tickets[number] = None
            await self._enqueue(number, operation)

    async def _enqueue(self, number: int, operation: bytes) -> None:
        done: Callable[[Any], None] = partial(self._done, number)
        try:
            check_encoded(operation)
        except Refusal as refusal:
            done(refusal)
            return
        while True:
            try:
                ticket = self._replication.enqueue(operation, done)
            except Exception as error:
                code = getattr(error, "code", None)
                if code is None:
                    raise
                if code == "busy":
                    await self._replication.room()
                    continue
                done(error)
            else:
                if number in self._tickets:
                    self._tickets[number] = ticket
            return

    # --- out --------------------------------------------------------------------------------

    def _done(self, number: int, outcome: Outcome | Exception) -> None:
        if self._tickets.pop(number, self) is self:
            return
        if isinstance(outcome, Outcome):
            if outcome.status is Status.DONE:
                self._answers.append((number, "ok", outcome.revision, outcome.time_ms))
            else:
                code, message = refusal_words(outcome)
                self._answers.append((number, code, outcome.revision, message))
        else:
            code = getattr(outcome, "code", "internal")
            self._answers.append((number, code, 0, str(outcome)))
        self._answered.set()

    async def write(self, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self._answers or not self._closing:
                if not self._answers:
                    self._answered = trio.Event()
                    await self._answered.wait()
                    continue
                answers = tuple(self._answers[:ANSWERS_PER_FRAME])
                del self._answers[:ANSWERS_PER_FRAME]
                data = codec.encode(answers)
                with trio.move_on_after(SEND_S) as patience:
                    await self._stream.send_all(len(data).to_bytes(4, "big") + data)
                if patience.cancelled_caught:
                    break
                self._let_operations_go(len(answers))
                if len(self._tickets) + len(self._answers) < FLIGHT_MAX:
                    self._room.set()
        scope.cancel()

    def _let_bytes_go(self) -> None:
        self._bounds.incoming.give(self._held_bytes)
        self._held_bytes = 0

    def _let_operations_go(self, count: int) -> None:
        count = min(count, self._held_operations)  # the last item of all is none of the client's
        self._held_operations -= count
        self._bounds.operations.give(count)

    def withdraw(self) -> None:
        """Ask for no answer any more to whatever still waits, and hold nothing."""
        self._let_bytes_go()
        self._let_operations_go(self._held_operations)
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            if ticket is not None:
                ticket.withdraw()

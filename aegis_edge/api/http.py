"""HTTP/1.1 on one connection: bounds, deadlines, keep-alive, and where an error ends.

Knows h11 and a stream.  Refuses to know routes (see `routes`) and what frames mean (`pipeline`).
Follows: RFC 9112; the bounds below are what one client, or all together, may hold of our memory.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from http import HTTPStatus
from typing import Any

import h11
import trio

from aegis_edge.api import pipeline, routes
from aegis_edge.api.departures import Departures
from aegis_edge.api.messages import (
    JSON_TYPE,
    Refusal,
    Reply,
    Request,
    parse_query,
    refusal_of,
    refused,
)
from aegis_edge.api.port import Node
from aegis_edge.api.room import Room
from aegis_edge.knowledge.operations import VALUE_BYTES_MAX

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 192
#: Those that may stay for long.  Together they leave places for requests that are answered at once:
#: there, a newcomer takes the place of whoever has waited longest for its own client.
PIPELINES_MAX = 32
WATCHES_MAX = 32
WAITS_MAX = 96
HEAD_BYTES_MAX = 16 * 1024
RECEIVE_BYTES = 16 * 1024
#: Bodies and replies above this size need room for `COPIES` of them.
LARGE_BYTES = 16 * 1024
COPIES = 2
INCOMING_BYTES_MAX = 6 * 1024 * 1024
OUTGOING_BYTES_MAX = 6 * 1024 * 1024
IDLE_S = 300.0
HEAD_S = 10.0
BODY_S = 30.0
SEND_S = 30.0
LINGER_S = 2.0
#: How long the node waits when the system has no descriptors, and how often it says so.
ACCEPT_PAUSE_S = 0.1
ACCEPT_WORD_S = 60.0
_OVERLOAD = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class _Gone(Exception):
    """The client went, or takes nothing any more."""


class Server:
    """All connections of one API."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connections = 0
        self.pipelines = 0
        self.watches = 0
        self.waits = 0
        self.incoming = Room(INCOMING_BYTES_MAX)
        self.outgoing = Room(OUTGOING_BYTES_MAX)
        self.operations = Room(pipeline.OPERATIONS_MAX)
        self.departures = Departures()
        #: The scopes of connections that wait for their own client or for room, longest first.
        self.spare: dict[trio.CancelScope, None] = {}

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; no fault of a client gets out of here."""
        if self.connections >= CONNECTIONS_MAX and not self.make_room():
            await _refuse(stream)
            return
        self.connections += 1
        scope, descriptor = trio.CancelScope(), stream.socket.fileno()
        self.departures.add(descriptor, scope)
        try:
            with scope:
                async with stream:
                    try:
                        with suppress(_Gone, trio.BrokenResourceError, trio.ClosedResourceError):
                            await _Connection(self, stream, scope).run()
                    finally:
                        self.departures.remove(descriptor)
        except Exception:
            log.exception("a connection to the API ended in a fault of this program")
        finally:
            self.connections -= 1

    def make_room(self) -> bool:
        """End the connection that has waited for its client for longest; False if none does."""
        for scope in self.spare:
            scope.cancel()
            del self.spare[scope]
            return True
        return False

    async def accept(self, listener: trio.SocketListener) -> None:
        """Take connections until cancelled; when there are no descriptors, wait for some."""
        silent_until = -math.inf
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _OVERLOAD:
                        raise
                    self.make_room()
                    if trio.current_time() >= silent_until:
                        log.error("the API cannot take a connection: %s", error.strerror)
                        silent_until = trio.current_time() + ACCEPT_WORD_S
                    await trio.sleep(ACCEPT_PAUSE_S)
                else:
                    nursery.start_soon(self.handle, stream)


async def serve(
    node: Node,
    listener: trio.SocketListener,
    *,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on `listener` until cancelled."""
    server = Server(node)
    with closing(server.departures):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(server.departures.run)
            task_status.started()
            await server.accept(listener)


async def _refuse(stream: trio.SocketStream) -> None:
    """Say that there is no place, and keep none: a new socket takes so much without waiting."""
    reply = refused(Refusal("busy", "too many connections to this node's API", "close some"))
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(head.encode() + reply.body)


class _Connection:
    def __init__(self, server: Server, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        self._server = server
        self._stream = stream
        self._scope = scope
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._incoming = 0
        self._outgoing = 0
        self._is_head = False

    async def run(self) -> None:
        while await self._exchange():
            self._http.start_next_cycle()

    async def _exchange(self) -> bool:
        """One request and its reply; True if another may follow."""
        try:
            self._is_head = False
            head = await self._head()
            if head is None:
                return False
            request = await self._whole(head)
            self._let_incoming_go()  # what waits for the cluster has bounds of its own
            if _wants_pipeline(head, request):
                await self._upgrade()
                return False
            reply = await self._answer(request)
            while not self._has_room_for(reply):
                size = len(reply.body)
                del reply  # it is read again when there is room for it
                await self._hold_outgoing(size)
                reply = await self._answer(request)
            if reply.stream is not None and self._server.watches >= WATCHES_MAX:
                raise Refusal("busy", "too many watches on this node", "end one of them first")
        except Refusal as refusal:
            reply = refused(refusal)
        except h11.RemoteProtocolError as error:
            code = "headers_too_large" if error.error_status_hint == 431 else "invalid"
            reply = refused(Refusal(code, f"not HTTP/1.1: {error}"))
        try:
            return await self._reply(reply)
        finally:
            self._let_incoming_go()
            self._let_outgoing_go()

    # --- receiving --------------------------------------------------------------------------

    async def _head(self) -> h11.Request | None:
        """The head of the next request; None at the end of the connection."""
        event = self._next_event()
        with trio.move_on_after(IDLE_S):
            while event is h11.NEED_DATA and not self._http.trailing_data[0]:
                event = await self._more()
        with trio.move_on_after(HEAD_S) as scope:
            while event is h11.NEED_DATA and self._http.trailing_data[0]:
                event = await self._more()
        if scope.cancelled_caught:
            raise Refusal("too_slow", f"no whole request within {HEAD_S:g} s")
        return event if isinstance(event, h11.Request) else None

    def _next_event(self) -> Any:
        try:
            return self._http.next_event()
        except ValueError:  # h11 0.14 reads a Content-Length of any number of digits
            raise Refusal("invalid", "not HTTP/1.1: a length out of all bounds") from None

    async def _more(self) -> Any:
        with self._spare():
            data = await self._stream.receive_some(RECEIVE_BYTES)
        self._http.receive_data(data)
        return self._next_event()

    async def _whole(self, head: h11.Request) -> Request:
        """The request with its body, if anybody there is to answer it."""
        method = head.method.decode("ascii")
        path, _, query = head.target.decode("ascii").partition("?")
        self._is_head = method == "HEAD"
        try:
            routes.handler_of(method, path)
        except Refusal:
            if not _has_body(head):
                await self._body(0)  # its end: the connection may go on
            raise
        size_max = routes.body_bytes_max(method, path)
        is_json = False
        for name, text in head.headers:
            if name == b"content-length":
                _check_size(int(text), size_max)
                await self._hold_incoming(int(text))
            elif name == b"content-type":
                is_json = text.partition(b";")[0].strip().lower() == JSON_TYPE.encode()
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._send(self._http.send(go_on))
        with trio.move_on_after(BODY_S) as scope:
            body = await self._body(size_max)
        if scope.cancelled_caught:
            raise Refusal("too_slow", f"no whole body within {BODY_S:g} s")
        return Request(method, path, parse_query(query), is_json, body)

    async def _body(self, size_max: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                event = await self._more()
            if isinstance(event, h11.Data):
                size += len(event.data)
                _check_size(size, size_max)
                await self._hold_incoming(size)
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(pieces)

    # --- answering --------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Reply:
        waits = routes.waits(request)
        if waits and self._server.waits >= WAITS_MAX:
            advice = "wait for some of them, or write through one pipeline"
            raise Refusal("busy", "too many requests wait for the cluster here", advice)
        self._server.waits += waits
        try:
            return await routes.answer(self._server.node, request)
        except Exception as error:
            try:
                raise refusal_of(error) from None
            except Refusal:
                raise
            except Exception:
                log.exception("a request to the API met a fault of this program")
                raise Refusal("internal", "a fault of the node", "see its log") from None
        finally:
            self._server.waits -= waits

    async def _reply(self, reply: Reply) -> bool:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        whole = self._http.their_state not in (h11.SEND_BODY, h11.ERROR, h11.IDLE)
        headers = [("Content-Type", reply.content_type), *reply.headers]
        if reply.stream is None:
            headers.append(("Content-Length", str(len(reply.body))))
        if not whole:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(reply.status).phrase
        response = h11.Response(status_code=reply.status, headers=headers, reason=reason)
        data = self._http.send(response) or b""
        if reply.stream is not None and not self._is_head:
            await self._send(data)
            await self._stream_out(reply.stream(self._server.outgoing))
            return False
        if not self._is_head:
            data += self._http.send(h11.Data(data=reply.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._send(data)
        if not whole:
            await self._linger()
            return False
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    async def _stream_out(self, pieces: Any) -> None:
        """Send pieces as they come, each only when the client took the one before."""
        self._server.watches += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_gone, nursery.cancel_scope)
                await self._pieces_out(pieces)
                nursery.cancel_scope.cancel()
        finally:
            self._server.watches -= 1

    async def _pieces_out(self, pieces: Any) -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await self._send(self._http.send(h11.Data(data=piece)) or b"")
        except (_Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        except Exception as error:
            with suppress(Refusal):
                raise refusal_of(error) from None

    async def _until_gone(self, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.receive_some(1)
        scope.cancel()

    async def _upgrade(self) -> None:
        server = self._server
        if server.pipelines >= PIPELINES_MAX:
            advice = "end one of them first, or share one"
            raise Refusal("busy", "too many pipelines on this node", advice)
        server.pipelines += 1
        try:
            headers = [("Upgrade", "aegis-pipeline"), ("Connection", "Upgrade")]
            switch = h11.InformationalResponse(status_code=101, headers=headers)
            await self._send(self._http.send(switch) or b"")
            early, _ = self._http.trailing_data
            bounds = pipeline.Bounds(server.incoming, server.operations)
            await pipeline.speak(self._stream, early, server.node.replication, bounds)
        finally:
            server.pipelines -= 1

    # --- sending ----------------------------------------------------------------------------

    async def _send(self, data: bytes | None) -> None:
        with trio.move_on_after(SEND_S) as scope, self._spare():
            await self._stream.send_all(data or b"")
        if scope.cancelled_caught:
            raise _Gone

    async def _linger(self) -> None:
        """Let the client finish what it says, within bounds, so that it reads our reply."""
        self._server.departures.remove(self._stream.socket.fileno())  # we hang up as well
        with (
            trio.move_on_after(LINGER_S),
            self._spare(),
            suppress(trio.BrokenResourceError),
        ):
            await self._stream.send_eof()
            left = 2 * VALUE_BYTES_MAX
            while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    # --- bounds -----------------------------------------------------------------------------

    @contextmanager
    def _spare(self) -> Iterator[None]:
        """A newcomer may have this connection's place while the block lasts."""
        self._server.spare[self._scope] = None
        try:
            yield
        finally:
            self._server.spare.pop(self._scope, None)

    async def _hold_incoming(self, size: int) -> None:
        """Room for a body of `size` bytes; of one that grows, for the largest that there is."""
        if size > LARGE_BYTES and not self._incoming:
            amount = COPIES * VALUE_BYTES_MAX
            await self._room(self._server.incoming, amount)
            self._incoming = amount

    async def _hold_outgoing(self, size: int) -> None:
        self._let_outgoing_go()
        await self._room(self._server.outgoing, COPIES * size)
        self._outgoing = COPIES * size

    def _has_room_for(self, reply: Reply) -> bool:
        """Whether room for a reply is held; takes what is free."""
        more = COPIES * len(reply.body) - self._outgoing
        if len(reply.body) <= LARGE_BYTES or more <= 0:
            return True
        if not self._server.outgoing.take_now(more):
            return False
        self._outgoing += more
        return True

    async def _room(self, room: Room, amount: int) -> None:
        with trio.move_on_after(BODY_S) as scope, self._spare():
            await room.take(amount)
        if scope.cancelled_caught:
            raise Refusal("busy", "too many large values are on their way", "try again later")

    def _let_incoming_go(self) -> None:
        self._server.incoming.give(self._incoming)
        self._incoming = 0

    def _let_outgoing_go(self) -> None:
        self._server.outgoing.give(self._outgoing)
        self._outgoing = 0


def _check_size(size: int, size_max: int) -> None:
    if size > size_max:
        raise Refusal(
            "too_large",
            f"a body of {size} bytes or more; at most {size_max} are allowed here",
            "split the value" if size_max else "this request takes no body",
        )


def _has_body(head: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(text))
        for name, text in head.headers
    )


def _wants_pipeline(head: h11.Request, request: Request) -> bool:
    upgrades = [text.lower() for name, text in head.headers if name == b"upgrade"]
    return (
        b"aegis-pipeline" in upgrades
        and request.method == "POST"
        and request.path == "/v1/pipeline"
    )

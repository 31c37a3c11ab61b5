"""HTTP/1.1 on one connection: bounds, deadlines, keep-alive, and where an error ends.

Knows h11 and a stream.  Refuses to know routes (see `routes`) and what frames mean (`pipeline`).
Follows: RFC 9112; the bounds below are what one client, or all together, may hold of our memory.
"""

from __future__ import annotations

import logging
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Any

import h11
import trio

from aegis_edge.api import pipeline, routes
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
from aegis_edge.knowledge.operations import VALUE_BYTES_MAX

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 256
WATCHES_MAX = 32
HEAD_BYTES_MAX = 16 * 1024
RECEIVE_BYTES = 64 * 1024
#: Bodies and replies above this size take one of the few places for large ones.
LARGE_BYTES = 16 * 1024
LARGE_MAX = 32
IDLE_S = 300.0
HEAD_S = 10.0
BODY_S = 30.0
SEND_S = 30.0
LINGER_S = 2.0


class _Gone(Exception):
    """The client went, or takes nothing any more."""


class Server:
    """All connections of one API."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connections = 0
        self.watches = 0
        self.large = trio.Semaphore(LARGE_MAX)

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; no fault of a client gets out of here."""
        self.connections += 1
        try:
            async with stream:
                with suppress(_Gone, trio.BrokenResourceError, trio.ClosedResourceError):
                    await _Connection(self, stream).run()
        except Exception:
            log.exception("a connection to the API ended in a fault of this program")
        finally:
            self.connections -= 1


async def serve(
    node: Node,
    listener: trio.SocketListener,
    *,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on `listener` until cancelled."""
    await trio.serve_listeners(Server(node).handle, [listener], task_status=task_status)


class _Connection:
    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self._server = server
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._holds_large = False
        self._is_head = False

    async def run(self) -> None:
        while await self._exchange():
            self._http.start_next_cycle()

    async def _exchange(self) -> bool:
        """One request and its reply; True if another may follow."""
        try:
            if self._server.connections > CONNECTIONS_MAX:
                raise Refusal("busy", "too many connections to this node's API", "close some")
            self._is_head = False
            head = await self._head()
            if head is None:
                return False
            request = await self._whole(head)
            self._let_large_go()  # what waits for the cluster has bounds of its own
            if _wants_pipeline(head, request):
                await self._upgrade()
                return False
            reply = await self._answer(request)
            await self._hold_large(len(reply.body))
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
            self._let_large_go()

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
        self._http.receive_data(await self._stream.receive_some(RECEIVE_BYTES))
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
        size_max = VALUE_BYTES_MAX if method == "PUT" else 0
        is_json = False
        for name, text in head.headers:
            if name == b"content-length":
                _check_size(int(text), size_max)
                await self._hold_large(int(text))
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
                await self._hold_large(size)
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(pieces)

    # --- answering --------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Reply:
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
            await self._stream_out(reply.stream)
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
        headers = [("Upgrade", "aegis-pipeline"), ("Connection", "Upgrade")]
        switch = h11.InformationalResponse(status_code=101, headers=headers)
        await self._send(self._http.send(switch) or b"")
        early, _ = self._http.trailing_data
        await pipeline.speak(self._stream, early, self._server.node.replication, self._server.large)

    # --- sending ----------------------------------------------------------------------------

    async def _send(self, data: bytes | None) -> None:
        with trio.move_on_after(SEND_S) as scope:
            await self._stream.send_all(data or b"")
        if scope.cancelled_caught:
            raise _Gone

    async def _linger(self) -> None:
        """Let the client finish what it says, within bounds, so that it reads our reply."""
        with trio.move_on_after(LINGER_S), suppress(trio.BrokenResourceError):
            await self._stream.send_eof()
            left = 2 * VALUE_BYTES_MAX
            while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    async def _hold_large(self, size: int) -> None:
        if size <= LARGE_BYTES or self._holds_large:
            return
        with trio.move_on_after(BODY_S) as scope:
            await self._server.large.acquire()
            self._holds_large = True
        if scope.cancelled_caught and not self._holds_large:
            raise Refusal("busy", "too many large values are on their way", "try again later")

    def _let_large_go(self) -> None:
        if self._holds_large:
            self._server.large.release()
            self._holds_large = False


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

"""Connections that come in, from their first byte until the links have them: who may stay.

Knows the bounds on callers, whatever the way they came: how many, how long they may be silent, and
how long nobody is heard from where a member called too soon.  Refuses to know who may connect.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from aegis_edge.net import websocket
from aegis_edge.net.channel import Goodbye, Handler, LinkError
from aegis_edge.net.strangers import Standing, Strangers

#: One deadline for a connection and its opening handshake together.
OPENING_TIMEOUT_S = 10.0
#: How long nobody is heard from a place from which a member called too soon after it had failed
#: before.  Who it is shows only at the end of a handshake, so this is what bounds how many of those
#: it costs: no more than there are places for strangers, in this time.
HOLD_S = 1.0
#: Connections that came in, at once; and how many of them may be strangers of each standing: see
#: `net.strangers`.
INBOUND_MAX = 256
UNPROVEN_MAX = 32

log = logging.getLogger(__name__)

#: The place from which a connection came: callers of one place count together.  Raises `LinkError`.
Source = Callable[[trio.SocketStream], bytes]
#: Sets what a channel says of its other end.
Describe = Callable[[websocket.WebSocket, trio.SocketStream], None]
#: Who a caller is, by what it said with its first bytes (`websocket.connect`).
Whose = Callable[[bytes], bytes | None]


class Arrivals:
    """All callers of one address; `silence_s`: how long one may take for its first byte.

    `silent_max`: how many may be here without one; by default as many as of each other standing.
    `whose`: the member (its key) whose knock this is, where members knock; None if it is nobody's.
    """

    def __init__(
        self,
        silence_s: float,
        *,
        opening_timeout_s: float = OPENING_TIMEOUT_S,
        inbound_max: int = INBOUND_MAX,
        unproven_max: int = UNPROVEN_MAX,
        silent_max: int | None = None,
        hold_s: float = HOLD_S,
        whose: Whose = lambda _: None,
    ) -> None:
        self._silence_s = silence_s
        self._opening_timeout_s = opening_timeout_s
        self._inbound_max = inbound_max
        self._hold_s = hold_s
        self._held: dict[bytes, float] = {}
        self._inbound = 0
        self._whose = whose
        self._strangers = Strangers(unproven_max, silent=silent_max)

    async def take(
        self, handler: Handler, stream: trio.SocketStream, source: Source, describe: Describe
    ) -> None:
        """One connection from its beginning to its end; run in a task of its own."""
        self._inbound += 1
        try:
            if self._inbound <= self._inbound_max:
                await self._receive(handler, stream, source(stream), describe)
        except LinkError as error:
            log.debug("a connection came to nothing: %s", error)
        finally:
            self._inbound -= 1
            await trio.aclose_forcefully(stream)

    async def _receive(
        self, handler: Handler, stream: trio.SocketStream, source: bytes, describe: Describe
    ) -> None:
        """One caller, for as long as there is a place for it."""
        strangers, scope = self._strangers, trio.CancelScope()

        def dismiss() -> None:
            scope.cancel()
            with suppress(OSError):
                stream.socket.shutdown(socket.SHUT_RDWR)  # ends a goodbye too, which is shielded

        caller = strangers.enter(source, dismiss)
        try:
            with scope:
                with trio.move_on_after(self._silence_s) as silence:
                    await trio.lowlevel.wait_readable(stream.socket)
                if silence.cancelled_caught:
                    raise LinkError("it said nothing")
                await self._while_held(source)
                channel = await websocket.accept(stream, self._opening_timeout_s)
                member = self._whose(channel.knock)
                strangers.rise(caller, Standing.OPENED, member)
                if member is not None:
                    source = member
                    await self._while_held(source)
                channel.on_greeted = partial(strangers.rise, caller, Standing.GREETED)
                channel.on_proven = partial(strangers.leave, caller)
                describe(channel, stream)
                if await handler(channel) in (Goodbye.TOO_SOON, Goodbye.BANNED):
                    self._hold(source)
        finally:
            strangers.leave(caller)

    async def _while_held(self, source: bytes) -> None:
        await trio.sleep_until(self._held.get(source, -math.inf))

    def _hold(self, source: bytes) -> None:
        now = trio.current_time()
        self._held = {held: until for held, until in self._held.items() if until > now}
        self._held[source] = now + self._hold_s

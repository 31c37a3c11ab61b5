"""The transport of links that go through Tor: channels to onion services, and from one's own.

Knows the socket to which tor brings callers, and how a stream becomes a channel.
Refuses to know how tor is kept up (`gateway`), and members.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trio

from aegis_edge.net import websocket
from aegis_edge.net.arrivals import Arrivals
from aegis_edge.net.channel import Channel, Handler, LinkError, ListenError
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.gateway import Gateway
from aegis_edge.net.tor.socks import SocksError
from aegis_edge.peers.address import Address, AddressError, parse

#: A caller through Tor speaks first, but one round trip may take seconds.
SILENCE_S = 15.0
OPENING_TIMEOUT_S = 45.0


class Onions:
    """The transport for ``onion:`` addresses.  `target`: the socket of this node's services."""

    def __init__(self, gateway: Gateway, target: Path, arrivals: Arrivals | None = None) -> None:
        self._gateway = gateway
        self._target = target
        self._arrivals = arrivals or Arrivals(SILENCE_S, opening_timeout_s=OPENING_TIMEOUT_S)

    async def dial(self, address: str) -> Channel:
        """A channel to the onion service at `address`; raises `LinkError`."""
        place = _parsed(address)
        try:
            stream = await self._gateway.stream_to(place)
        except (SocksError, TorError) as error:
            raise LinkError(str(error)) from None
        channel = await websocket.connect(stream, OPENING_TIMEOUT_S)
        channel.remote = str(place)
        return channel

    async def serve(
        self, handler: Handler, address: str, *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run `handler` for every channel that tor brings to the socket of the node's service."""
        place, path = _parsed(address), self._target
        assert place.host == self._gateway.standing.address, "there is one way in: this node's"
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            try:
                path.unlink(missing_ok=True)
                await listener.bind(str(path))
                path.chmod(0o660)
                listener.listen(128)
            except OSError as error:
                raise ListenError(
                    f"tor's way to this node, {path}, cannot be made ({error.strerror}); see that "
                    "its folder may be written",
                    os.EX_CONFIG,
                ) from None
            task_status.started((str(place),))

            async def incoming(stream: trio.SocketStream) -> None:
                await self._arrivals.take(handler, stream, _source, _describe)

            try:
                await trio.serve_listeners(incoming, [trio.SocketListener(listener)])
            finally:
                path.unlink(missing_ok=True)


def _source(stream: trio.SocketStream) -> bytes:
    return b"tor"  # whoever calls, it is tor that connects


def _describe(channel: websocket.WebSocket, stream: trio.SocketStream) -> None:
    channel.remote = "through Tor"  # who it is shows in its handshake, and nowhere else


def _parsed(address: str) -> Address:
    try:
        return parse(address)
    except AddressError as error:
        raise LinkError(str(error)) from None

"""The transport of links that go through Tor: channels to onion services, and from one's own.

Knows the socket to which tor brings callers, and how a stream becomes a channel.
Refuses to know how tor is kept up (`gateway`), and which of the members may be linked to.

To this node all callers are one, tor.  So a member says with its first bytes which one it is, and
from then on no crowd takes its place; until then, for the one round trip that these bytes take, it
is one of all who are silent, and a crowd of r a second leaves it there with probability
(1 - 1 / `SILENT_MAX`) ** r.  Nothing here helps against who keeps tor itself busy: that is for its
proof of work, for client authorisation, and for a new address.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from aegis_edge.net import websocket
from aegis_edge.net.arrivals import Arrivals, Describe, Source
from aegis_edge.net.channel import Channel, Handler, LinkError, ListenError
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.gateway import Gateway
from aegis_edge.net.tor.member import Keyring
from aegis_edge.net.tor.socks import SocksError
from aegis_edge.peers.address import Address, AddressError, parse

#: A caller through Tor speaks first, but one round trip may take seconds.
SILENCE_S = 15.0
#: All callers come from tor, so until one has said something nothing tells it from a crowd: this
#: many, that a crowd has to be large to make a member's call unlikely to live until it knocks.
SILENT_MAX = 256
INBOUND_MAX = 512
OPENING_TIMEOUT_S = 45.0

Take = Callable[[trio.SocketStream, Source, Describe], Awaitable[None]]


class Onions:
    """The transport for ``onion:`` addresses.  `targets`: the sockets of this node's services.

    `keyring`: of members, who are known by their knocks; None where nobody knocks.
    """

    def __init__(self, gateway: Gateway, *targets: Path, keyring: Keyring | None = None) -> None:
        self._gateway = gateway
        self._targets = targets
        self._keyring = keyring

    async def dial(self, address: str) -> Channel:
        """A channel to the onion service at `address`; raises `LinkError`."""
        place = _parsed(address)
        try:
            stream = await self._gateway.stream_to(place)
        except (SocksError, TorError) as error:
            raise LinkError(str(error)) from None
        knock = b"" if self._keyring is None else self._keyring.knock(place.host)
        channel = await websocket.connect(stream, OPENING_TIMEOUT_S, knock)
        channel.remote = str(place)
        return channel

    async def serve(
        self, handler: Handler, address: str, *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run `handler` for every channel that tor brings to the sockets of the node's services.

        Each has callers of its own: where one is flooded, the others do not notice.
        """
        place = _parsed(address)
        assert place.host == self._gateway.standing.address, "there is one way in: this node's"
        async with AsyncExitStack() as stack:
            listeners = [await stack.enter_async_context(_listener(p)) for p in self._targets]
            task_status.started((str(place),))
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    take = partial(self._arrivals().take, handler)
                    nursery.start_soon(_serve, listener, take)

    def _arrivals(self) -> Arrivals:
        return Arrivals(
            SILENCE_S,
            opening_timeout_s=OPENING_TIMEOUT_S,
            inbound_max=INBOUND_MAX,
            silent_max=SILENT_MAX,
            whose=(lambda _: None) if self._keyring is None else self._keyring.whose,
        )


@asynccontextmanager
async def _listener(path: Path) -> AsyncIterator[trio.SocketListener]:
    with trio.socket.socket(trio.socket.AF_UNIX) as socket:
        try:
            path.unlink(missing_ok=True)
            await socket.bind(str(path))
            path.chmod(0o660)
            socket.listen(128)
        except OSError as error:
            raise ListenError(
                f"tor's way to this node, {path}, cannot be made ({error.strerror}); see that "
                "its folder may be written",
                os.EX_CONFIG,
            ) from None
        try:
            yield trio.SocketListener(socket)
        finally:
            path.unlink(missing_ok=True)


async def _serve(listener: trio.SocketListener, take: Take) -> None:
    async def incoming(stream: trio.SocketStream) -> None:
        await take(stream, _source, _describe)

    await trio.serve_listeners(incoming, [listener])


def _source(stream: trio.SocketStream) -> bytes:
    return b"tor"  # whoever calls, it is tor that connects


def _describe(channel: websocket.WebSocket, stream: trio.SocketStream) -> None:
    channel.remote = "through Tor"  # who it is shows in its handshake, and nowhere else


def _parsed(address: str) -> Address:
    try:
        return parse(address)
    except AddressError as error:
        raise LinkError(str(error)) from None

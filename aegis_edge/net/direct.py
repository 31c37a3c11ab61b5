"""The direct transport: WebSockets over TCP, for boards that can reach each other without Tor.

Knows how an address (`peers.address`) becomes a connection, and how long a caller may take.  A
literal is never looked up; a name is resolved by the system, through DNS if it is so configured,
each time that it is dialled.  Refuses to know who may connect.  TCP_NODELAY is set by Trio.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from functools import partial
from typing import Any

import trio

from aegis_edge.net import websocket
from aegis_edge.net.arrivals import OPENING_TIMEOUT_S, Arrivals
from aegis_edge.net.channel import Handler, LinkError, ListenError
from aegis_edge.peers.address import TCP, Address, AddressError, parse, peculiarity

#: How long a caller may take for its first byte.  One of our nodes sends its request together with
#: what completes the connection, so this is room for a packet that was lost and is sent again.
SILENCE_S = 1.0

_TCP_INFO_BYTES = 104
_TCP_INFO_RTT_AT = 68

log = logging.getLogger(__name__)


class Direct:
    """The transport; one object serves and dials any number of addresses.

    `is_on_one_host`: members share this machine, so an address may lead back to it.  Otherwise
    nothing is sent there: whoever owns a name, or says that it is at an address of this host, could
    make this node talk to services that listen for this host alone.
    `arrivals`: who may come in; by default with `SILENCE_S`.
    """

    def __init__(self, *, is_on_one_host: bool = False, arrivals: Arrivals | None = None) -> None:
        self._is_on_one_host = is_on_one_host
        self._arrivals = arrivals or Arrivals(SILENCE_S)

    async def dial(self, address: str) -> websocket.WebSocket:
        """A channel to `address`; raises `LinkError`."""
        place = _parsed(address)
        deadline = trio.current_time() + OPENING_TIMEOUT_S
        try:
            with trio.fail_at(deadline):
                stream = await trio.open_tcp_stream(place.host, place.port)
        except trio.TooSlowError:
            raise LinkError(
                f"no answer within {OPENING_TIMEOUT_S:g} s; is the board on, "
                f"and does its firewall let port {place.port} in?"
            ) from None
        except (OSError, ValueError) as error:
            raise LinkError(_why(error, place)) from None
        if not self._is_on_one_host and _leads_back(stream):
            await trio.aclose_forcefully(stream)
            raise LinkError(
                f"{place.host} leads back to this host; correct `advertise` on that board: its own "
                "IP address, and none that this host has too"
            )
        channel = await websocket.connect(stream, max(0.0, deadline - trio.current_time()))
        _describe(channel, stream)
        return channel

    async def serve(
        self,
        handler: Handler,
        address: str,
        *,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `handler` for every channel that comes in at `address`; port 0 takes a free one."""
        place = _parsed(address, port_min=0)
        try:
            listeners = await trio.open_tcp_listeners(place.port, host=place.host)
        except (OSError, ValueError) as error:
            raise _cannot_listen(place, error) from None
        task_status.started(tuple(_name(listener.socket.getsockname()) for listener in listeners))

        async def incoming(stream: trio.SocketStream) -> None:
            await self._arrivals.take(handler, stream, _source, _describe)

        await trio.serve_listeners(incoming, listeners)


def _parsed(address: str, port_min: int = 1) -> Address:
    try:
        return parse(address, port_min=port_min)
    except AddressError as error:
        raise LinkError(str(error)) from None


def _source(stream: trio.SocketStream) -> bytes:
    """Whose connections count together: an IPv4 address, or the /64 that one IPv6 host may fill."""
    try:
        host = stream.socket.getpeername()[0]
    except OSError:
        raise LinkError("it is gone already") from None
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host)[:8]
    return socket.inet_pton(socket.AF_INET, host)


def _describe(channel: websocket.WebSocket, stream: trio.SocketStream) -> None:
    try:
        channel.remote = _name(stream.socket.getpeername())
    except OSError:
        channel.remote = "gone already"
    channel.measure = partial(_rtt_ms, stream)


def _name(sockname: Any) -> str:
    """A socket's address as one of ours."""
    return str(Address(TCP, *sockname[:2]))


def _rtt_ms(stream: trio.SocketStream) -> float | None:
    """The kernel's own smoothed round trip time, where it tells."""
    try:
        info = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    if len(info) < _TCP_INFO_RTT_AT + 4:
        return None
    rtt_us: int = struct.unpack_from("=I", info, _TCP_INFO_RTT_AT)[0]
    return rtt_us / 1000


def _cannot_listen(place: Address, error: Exception) -> ListenError:
    """Why nothing can come in at `place`, and what may help."""
    number = error.errno if isinstance(error, OSError) else None
    code = os.EX_CONFIG
    if number == errno.EADDRINUSE:
        code = os.EX_TEMPFAIL
        why = (
            f"another program holds port {place.port}, perhaps a second node; see which with "
            f"`ss -ltnp 'sport = :{place.port}'`, and stop it, or set p2p_port to a free one"
        )
    elif number == errno.EADDRNOTAVAIL:
        why = (
            f"{place.host} is no address of this host; set listen to one of `ip address`, or to "
            "0.0.0.0"
        )
    elif number in (errno.EACCES, errno.EPERM):
        why = "this account may not; ports below 1024 are kept for root: set p2p_port to another"
    else:
        why = f"{getattr(error, 'strerror', None) or error}; set listen to another address"
    return ListenError(f"cannot listen on {place}: {why}", code)


def _leads_back(stream: trio.SocketStream) -> bool:
    """Whether the other end is this very host: at loopback, or at an address of its own."""
    try:
        there = stream.socket.getpeername()[0]
        return peculiarity(there) == "loopback" or there == stream.socket.getsockname()[0]
    except OSError:
        return False  # it is gone, and the next step will say so


def _why(error: Exception, place: Address) -> str:
    """Why a connection cannot be made, and what may help."""
    causes = [error, *_causes(error.__cause__)]
    if any(isinstance(cause, (socket.gaierror, UnicodeError)) for cause in causes):
        return f"the name {place.host!r} is not known; correct it, or use an IP address"
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return f"nothing listens on port {place.port} there; is aegis-edge running on that board?"
    if numbers & {errno.ENETUNREACH, errno.EHOSTUNREACH}:
        return "there is no way to that address; is the board on, and is this one in its network?"
    return f"cannot connect: {error}"


def _causes(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [] if error is None else [error]

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from aegis_edge.net import direct
from aegis_edge.net.arrivals import OPENING_TIMEOUT_S
from aegis_edge.net.channel import Channel, Goodbye, Handler, LinkError, ListenError
from aegis_edge.net.direct import Direct
from aegis_edge.net.websocket import WebSocket
from tests.net.network import place

ANY_PORT = "tcp:127.0.0.1:0"


class Place:
    """Where something listens; what is opened through it is closed with it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.opened: list[trio.abc.AsyncResource] = []

    async def dial(self) -> WebSocket:
        channel = await Direct(is_on_one_host=True).dial(self.address)
        self.opened.append(channel._stream)
        return channel

    async def raw(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(*place(self.address))
        self.opened.append(stream)
        return stream


@asynccontextmanager
async def serving(
    transport: Direct, handler: Handler, address: str = ANY_PORT
) -> AsyncIterator[Place]:
    async with trio.open_nursery() as nursery:
        (bound,) = await nursery.start(transport.serve, handler, address)
        place = Place(bound)
        yield place
        for resource in place.opened:
            await resource.aclose()
        nursery.cancel_scope.cancel()


async def echo(channel: Channel) -> None:
    try:
        while True:
            await channel.send([await channel.receive()])
    except LinkError:
        await channel.aclose()


@pytest.mark.parametrize("address", ["", "tcp:host", "udp:host:80", "tcp:a b:1", "tcp:h:65536"])
async def test_what_is_no_address_is_refused_before_anything_is_done(address: str) -> None:
    with pytest.raises(LinkError):
        await Direct().dial(address)
    with pytest.raises(LinkError):
        await Direct().serve(echo, address)


@pytest.mark.parametrize("listen", [ANY_PORT, "tcp:[::1]:0"])
async def test_frames_go_both_ways_without_delay(listen: str) -> None:
    seen: list[Channel] = []

    async def handler(channel: Channel) -> None:
        seen.append(channel)
        await echo(channel)

    async with serving(Direct(), handler, listen) as place:
        channel = await place.dial()
        await channel.send([b"one", b"two"])
        assert [await channel.receive(), await channel.receive()] == [b"one", b"two"]
        assert channel.remote == place.address
        assert seen[0].remote.startswith(listen[:-1])
        assert channel.rtt_ms is None or 0 <= channel.rtt_ms < 10_000
        stream = channel._stream
        assert isinstance(stream, trio.SocketStream)
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await channel.aclose(Goodbye.GOING_AWAY)
        assert channel.rtt_ms is None


async def test_more_than_the_socket_takes_at_once_still_arrives() -> None:
    async def count(channel: Channel) -> None:
        channel.proven()
        total = 0
        while total < 600 * 60_000:
            total += len(await channel.receive())
        await channel.send([total.to_bytes(8, "big")])
        await channel.aclose()

    async with serving(Direct(), count) as place:
        channel = await place.dial()
        await channel.send([bytes(60_000)] * 600)
        assert int.from_bytes(await channel.receive(), "big") == 36_000_000


async def test_a_closed_port_is_named_with_advice() -> None:
    async with serving(Direct(), echo) as place:
        pass
    with pytest.raises(LinkError, match="is aegis-edge running on that board"):
        await place.dial()


async def test_an_unknown_name_is_named_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", nowhere)
    with pytest.raises(LinkError, match="is not known"):
        await Direct().dial("tcp:no-such-host.invalid:80")


class Here(trio.abc.HostnameResolver):
    """As if somebody had put 127.0.0.1 into the DNS under a name of his."""

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise AssertionError("nobody asks for a name")


async def test_a_name_leads_back_to_this_host_only_where_members_share_it() -> None:
    trio.socket.set_custom_hostname_resolver(Here())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    service, port = listeners[0], listeners[0].socket.getsockname()[1]
    async with service:
        with pytest.raises(LinkError, match="leads back to this host"):
            await Direct().dial(f"tcp:board.example:{port}")
        async with await service.accept() as heard:
            assert await heard.receive_some() == b"", "not a byte was sent"
    async with serving(Direct(), echo) as at:
        _, port = place(at.address)
        channel = await Direct(is_on_one_host=True).dial(f"tcp:board.example:{port}")
        await channel.send([b"x"])
        assert await channel.receive() == b"x"
        await channel.aclose()


@pytest.mark.parametrize("sort", ["loopback", ""])
async def test_an_address_of_this_host_is_not_dialled_either(
    sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At loopback, or at any address that both ends of the connection have."""
    monkeypatch.setattr(direct, "peculiarity", lambda _: sort)
    async with serving(Direct(), echo, "tcp:127.0.0.1:0") as at:
        with pytest.raises(LinkError, match=r"127\.0\.0\.1 leads back to this host"):
            await Direct().dial(at.address)
    async with serving(Direct(), echo, "tcp:127.0.0.2:0") as at:
        if not sort:  # another address than our end has, which is 127.0.0.1
            await (await Direct().dial(at.address)).aclose()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(113, "No route to host"), "no way to that address"),
        (OSError(24, "Too many open files"), "cannot connect"),
        (ValueError("embedded null byte"), "cannot connect"),
        (UnicodeError("label too long"), "is not known"),
    ],
)
async def test_other_failures_are_told(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> None:
        if isinstance(error, ValueError):
            raise error
        raise OSError("all attempts to connect failed") from ExceptionGroup("", [error])

    monkeypatch.setattr(trio, "open_tcp_stream", fail)
    with pytest.raises(LinkError, match=words):
        await Direct().dial("tcp:192.0.2.1:80")


async def test_an_address_that_never_answers_ends_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def wait(*args: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", wait)
    with pytest.raises(LinkError, match="is the board on"):
        await Direct().dial("tcp:192.0.2.1:80")
    assert trio.current_time() >= OPENING_TIMEOUT_S


async def test_a_taken_port_is_named_with_advice() -> None:
    async with serving(Direct(), echo) as place:
        with pytest.raises(ListenError, match=r"another program holds port .* p2p_port") as caught:
            await Direct().serve(echo, place.address)
    assert caught.value.exit_code == os.EX_TEMPFAIL


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EADDRNOTAVAIL, "x"), "192.0.2.1 is no address of this host; set listen"),
        (PermissionError(errno.EACCES, "x"), "ports below 1024 are kept for root"),
        (OSError(errno.EAFNOSUPPORT, "no such family"), "no such family; set listen"),
        (UnicodeError("not a name"), "not a name; set listen"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_is_a_wrong_setting(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(trio, "open_tcp_listeners", refused)
    with pytest.raises(ListenError, match=r"^cannot listen on tcp:192\.0\.2\.1:80: ") as caught:
        await Direct().serve(echo, "tcp:192.0.2.1:80")
    assert said in str(caught.value)
    assert caught.value.exit_code == os.EX_CONFIG


async def test_garbage_closes_its_own_connection_and_no_other() -> None:
    async with serving(Direct(), echo) as place:
        good = await place.dial()
        raw = await place.raw()
        await raw.send_all(b"\x16\x03\x01 this is no WebSocket")
        assert await raw.receive_some() == b""
        gone = await place.raw()
        await gone.aclose()
        await good.send([b"still here"])
        assert await good.receive() == b"still here"


async def test_a_goodbye_is_not_lost_on_a_peer_that_is_still_sending() -> None:
    async def refuse(channel: Channel) -> None:
        await channel.receive()
        await channel.aclose(Goodbye.NOT_A_MEMBER)

    async with serving(Direct(), refuse) as place:
        channel = await place.dial()
        for _ in range(3):
            await channel.send([b"x"])
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(LinkError, match="does not count us a member"):
            await channel.receive()


async def gone(stream: trio.SocketStream, timeout_s: float) -> bool:
    """Whether the other end hangs up on this stream in time."""
    with trio.move_on_after(timeout_s):
        try:
            return not await stream.receive_some()
        except trio.BrokenResourceError:
            return True
    return False


def test_a_kernel_that_does_not_tell_the_round_trip_time_is_believed() -> None:
    class Mute:
        class socket:  # noqa: N801
            @staticmethod
            def getsockopt(*args: int) -> bytes:
                return b"short"

    assert direct._rtt_ms(Mute) is None  # type: ignore[arg-type]


async def test_a_connection_that_is_gone_when_it_is_looked_at_has_a_name() -> None:
    async with serving(Direct(), echo) as place:
        channel = await place.dial()
        stream = channel._stream
        assert isinstance(stream, trio.SocketStream)
        await channel.aclose()
        direct._describe(channel, stream)
    assert channel.remote == "gone already"

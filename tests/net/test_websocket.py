from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio_websocket
from trio.testing import memory_stream_pair

from aegis_edge.net import websocket
from aegis_edge.net.channel import Goodbye, LinkError
from aegis_edge.wire.session import FRAME_BYTES_MAX

Opener = Callable[..., Awaitable[websocket.WebSocket]]

BOTH = pytest.mark.parametrize("opener", [websocket.connect, websocket.accept])
GARBAGE = bytes(range(256)) * 40
GOOD_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@asynccontextmanager
async def a_pair() -> AsyncIterator[tuple[websocket.WebSocket, websocket.WebSocket]]:
    """A client and a server, both ours, over a stream in memory."""
    ours, theirs = memory_stream_pair()
    ends: dict[str, websocket.WebSocket] = {}

    async def connect() -> None:
        ends["client"] = await websocket.connect(ours, 5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        ends["server"] = await websocket.accept(theirs, 5)
    yield ends["client"], ends["server"]


async def refusal(opener: Opener, *said: bytes, then_eof: bool = False) -> str:
    """What `opener` raises when the other end says this."""
    ours, theirs = memory_stream_pair()
    for data in said:
        await theirs.send_all(data)
    if then_eof:
        await theirs.send_eof()
    with pytest.raises(LinkError) as caught:
        await opener(ours, 10)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
    return str(caught.value)


async def test_two_of_ours_talk_both_ways(autojump_clock: trio.testing.MockClock) -> None:
    async with a_pair() as (client, server):
        await client.send([b"one", b"", b"3" * 4096])
        assert [await server.receive() for _ in range(3)] == [b"one", b"", b"3" * 4096]
        await server.send([b"back"])
        assert await client.receive() == b"back"
        assert client.rtt_ms is None


@pytest.mark.parametrize("knock", [b"", b"\0", bytes(range(64))])
async def test_a_server_is_told_whom_it_may_know_its_client_by(knock: bytes) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(websocket.connect, ours, 5, knock)
        assert (await websocket.accept(theirs, 5)).knock == knock


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"Authorization: Basic eA==\r\n",
        b"Authorization: abc\r\n",
        b"Authorization: " + b"ab" * 65 + b"\r\n",
        b"Authorization: ab\r\nAuthorization: ab\r\n",
    ],
)
async def test_what_no_client_of_ours_says_is_nobodys(said: bytes) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GOOD_REQUEST + said + b"\r\n")
    assert (await websocket.accept(ours, 5)).knock == b""


async def test_an_offer_sends_what_goes_at_once_and_the_rest_follows() -> None:
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    far = await listener.accept()
    async with listener:
        ours = websocket.WebSocket(near, b"", client=True)
        theirs = websocket.WebSocket(far, b"", client=False)
        theirs.proven()
        assert ours.offer([b"small"])
        assert await theirs.receive() == b"small"
        sent = 0
        while ours.offer([bytes(60_000)]):  # until the socket is full
            sent += 1
        assert sent > 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send, [b"after the rest"])
            for _ in range(sent + 1):
                assert await theirs.receive() == bytes(60_000)
            assert await theirs.receive() == b"after the rest"
        assert ours.offer([b"again"])
        await trio.aclose_forcefully(far)
        with suppress(LinkError):  # the first one may still find room in the socket
            while ours.offer([b"x"]):
                await trio.lowlevel.checkpoint()
        with pytest.raises(LinkError, match="broke while sending"):
            await ours.send([])
        await trio.aclose_forcefully(near)


async def test_a_client_that_is_not_ours_is_served(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            server = await websocket.accept(ours, 5)
            await server.send([b"hello", await server.receive()])
            await server.aclose(Goodbye.SILENT)

        nursery.start_soon(serve)
        client = await trio_websocket.wrap_client_stream(nursery, theirs, "host", "/")
        await client.send_message(b"echo")
        assert [await client.get_message(), await client.get_message()] == [b"hello", b"echo"]
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await client.get_message()
        assert caught.value.reason.code == Goodbye.SILENT
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_not_ours_is_used(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await trio_websocket.wrap_server_stream(nursery, theirs)
            server = await request.accept()
            await server.send_message(await server.get_message() + b"!")

        nursery.start_soon(serve)
        client = await websocket.connect(ours, 5)
        await client.send([b"hello"])
        assert await client.receive() == b"hello!"
        nursery.cancel_scope.cancel()


@BOTH
async def test_garbage_is_refused_at_once(opener: Opener) -> None:
    assert "no node of ours" in await refusal(opener, GARBAGE)


@BOTH
async def test_an_early_end_is_refused_at_once(opener: Opener) -> None:
    assert "hung up before" in await refusal(opener, then_eof=True)


async def test_a_web_server_is_no_node() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert "'HTTP/1.1 200 OK'" in await refusal(websocket.connect, answer)


async def test_a_browser_is_no_node() -> None:
    assert "GET /index.html" in await refusal(
        websocket.accept, b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert "no WebSocket handshake" in await refusal(
        websocket.accept, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Sw\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 \xff\xfe\r\n\0: \0\r\n\r\n",
    ],
)
async def test_a_wrong_answer_is_refused(answer: bytes) -> None:
    assert "no WebSocket handshake" in await refusal(websocket.connect, answer)


async def test_a_wrong_question_is_refused() -> None:
    assert "no WebSocket handshake" in await refusal(
        websocket.accept, b"GET / HTTP/1.1\r\n\0\xff: \r\n\r\n"
    )


@BOTH
async def test_a_head_without_end_is_refused(opener: Opener) -> None:
    beginning = GOOD_REQUEST if opener is websocket.accept else b"HTTP/1.1 101 Yes\r\n"
    assert "too long" in await refusal(opener, beginning + b"a: b\r\n" * 2000)


@BOTH
async def test_a_stall_ends_at_the_deadline(
    opener: Opener, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    assert "in time" in await refusal(opener, b"")
    assert trio.current_time() - start == pytest.approx(10)


async def test_drop_by_drop_ends_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in GOOD_REQUEST:
                await theirs.send_all(bytes([byte]))
                await trio.sleep(1)

        nursery.start_soon(drip)
        with pytest.raises(LinkError, match="in time"):
            await websocket.accept(ours, 10)
        nursery.cancel_scope.cancel()


async def test_a_cancellation_from_outside_is_no_error_of_the_peer() -> None:
    ours, theirs = memory_stream_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await websocket.accept(ours, 10)
    assert scope.cancelled_caught
    assert await theirs.receive_some() == b""


async def test_what_is_no_error_of_the_peer_passes_even_beside_one() -> None:
    ours, _ = memory_stream_pair()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with websocket._Opening(ours):
            raise BaseExceptionGroup("", [LinkError("garbage"), KeyboardInterrupt()])
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]


async def test_frames_behind_the_handshake_are_not_lost() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GOOD_REQUEST + b"\r\n\x82\x81\0\0\0\0x\x82\x81\0\0\0\0y")
    server = await websocket.accept(ours, 10)
    assert [await server.receive(), await server.receive()] == [b"x", b"y"]


async def test_a_stranger_may_not_send_what_a_peer_may() -> None:
    async with a_pair() as (client, server):
        client.proven()
        await client.send([bytes(FRAME_BYTES_MAX)])
        with pytest.raises(LinkError, match="65536 bytes"):
            await server.receive()
        server.proven()
        assert await server.receive() == bytes(FRAME_BYTES_MAX)


async def test_a_goodbye_is_heard_even_behind_unread_frames(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_pair() as (client, server), trio.open_nursery() as nursery:
        await client.send([b"unread"] * 3)
        nursery.start_soon(server.aclose, Goodbye.NOT_A_MEMBER)
        with pytest.raises(LinkError, match="does not count us a member"):
            await client.receive()
        await client.aclose()


async def test_closing_does_not_wait_for_a_peer_that_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_pair() as (_, server):
        start = trio.current_time()
        await server.aclose()
        assert trio.current_time() - start <= websocket.LINGER_S
        await server.aclose()


async def test_closing_does_not_read_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with a_pair() as (client, server):

        async def pour() -> None:
            while True:
                await client.send([bytes(60_000)])
                await trio.sleep(0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            with pytest.raises(LinkError, match="broke"):
                await pour()


async def test_the_end_of_the_other_end_is_told(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GOOD_REQUEST + b"\r\n")
    server = await websocket.accept(ours, 10)
    await theirs.aclose()
    with pytest.raises(LinkError, match="hung up"):
        await server.receive()
    with pytest.raises(LinkError, match="broke while sending"):
        await server.send([b"x"])
    await server.aclose()
    with pytest.raises(LinkError, match="broke"):
        await server.receive()

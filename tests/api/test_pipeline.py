"""The pipeline from the node's side: frames, garbage, back-pressure, lost clients."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.api import http, pipeline
from aegis_edge.api.http import Server
from aegis_edge.api.room import Room
from aegis_edge.knowledge.operations import MEDIA_JSON, Delete, Put
from aegis_edge.wire import codec
from tests.api.node import TIME_MS, Failure, Replication, node_of, talking

UPGRADE = (
    b"POST /v1/pipeline HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: aegis-pipeline\r\n\r\n"
)


def framed(*items: Any) -> bytes:
    data = codec.encode(items)
    return len(data).to_bytes(4, "big") + data


async def frame(stream: trio.SocketStream, inbox: bytearray) -> Any:
    while len(inbox) < 4 or len(inbox) < 4 + int.from_bytes(inbox[:4], "big"):
        data = await stream.receive_some(1 << 16)
        if not data:
            return None
        inbox += data
    end = 4 + int.from_bytes(inbox[:4], "big")
    answers = codec.decode(bytes(inbox[4:end]))
    del inbox[:end]
    return answers


def bounds() -> pipeline.Bounds:
    return pipeline.Bounds(Room(http.INCOMING_BYTES_MAX), Room(pipeline.OPERATIONS_MAX))


async def spoken(replication: Replication, *data: bytes) -> list[Any]:
    """All answers of a pipeline that is given `data`, and then its end."""
    near, far = trio.socket.socketpair()
    found: list[Any] = []
    async with trio.open_nursery() as nursery:

        async def speak() -> None:
            async with trio.SocketStream(far) as stream:
                await pipeline.speak(stream, b"", replication, bounds())

        nursery.start_soon(speak)
        stream = trio.SocketStream(near)
        inbox = bytearray()

        async def listen() -> None:
            while (answers := await frame(stream, inbox)) is not None:
                found.extend(answers)
                if answers[-1][0] is None:
                    break
            await stream.aclose()

        nursery.start_soon(listen)
        try:
            for piece in data:
                await stream.send_all(piece)
            await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    return found


def put(number: int, key: str = "a", **more: Any) -> tuple[int, bytes]:
    return number, Put(key, b"v", **more).encode()


async def test_after_the_upgrade_frames_go_both_ways() -> None:
    async with talking(Replication()) as stream:
        await stream.send_all(UPGRADE + framed(put(7)))
        said = bytearray()
        while b"\r\n\r\n" not in said:
            said += await stream.receive_some(4096)
        head, _, inbox = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert await frame(stream, inbox) == ((7, "ok", 1, TIME_MS),)
        await stream.send_all(framed(put(8, "b"), put(9, "c")))
        assert await frame(stream, inbox) == ((8, "ok", 2, TIME_MS), (9, "ok", 3, TIME_MS))


async def test_each_outcome_has_its_code() -> None:
    answers = await spoken(
        Replication(),
        framed(put(0), put(1, expected=0), (2, Delete("b").encode()), (3, b"garbage")),
    )
    assert answers[0] == (0, "ok", 1, TIME_MS)
    assert answers[1] == (1, "conflict", 1, "the key has revision 1 now")
    assert answers[2] == (2, "not_found", 0, "there is no such key")
    assert answers[3][:3] == (3, "invalid", 0)


async def test_what_calls_itself_json_and_is_none_is_refused_as_over_http() -> None:
    replication = Replication()
    items = [
        (number, Put("a", value, MEDIA_JSON, expected).encode())
        for number, (value, expected) in enumerate(
            [(b"{", None), (b"NaN", 0), (b"", 1 << 40), (b"{}", None), (b"1", 1)]
        )
    ]
    answers = await spoken(replication, framed(*items))
    assert [answer[1] for answer in answers] == ["invalid"] * 3 + ["ok"] * 2
    assert answers[0][3].startswith("the value is not JSON")
    assert replication.revision == 2


async def test_frames_may_come_byte_by_byte() -> None:
    data = framed(put(0)) + framed() + framed(put(1))
    answers = await spoken(Replication(), *[bytes([byte]) for byte in data])
    assert [answer[0] for answer in answers] == [0, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        framed(put(0))[:-1],
        b"\x00\x00\x00\x01\xff",
        b"\x00\x00\x00\x01\x00",
        framed(1),
        framed((1, b"", b"")),
        framed(("x", b"")),
        framed((True, b"")),
        framed((-1, b"")),
        framed((1, "text")),
        framed(*[(1, b"")] * (pipeline.FRAME_ITEMS_MAX + 1)),
        framed(*[{}] * (3 * pipeline.FRAME_ITEMS_MAX + 1)),
    ],
)
async def test_who_breaks_a_rule_is_told_and_closed(data: bytes) -> None:
    answers = await spoken(Replication(), framed(put(0)), data)
    assert answers[0] == (0, "ok", 1, TIME_MS)
    assert answers[-1][:3] == (None, "invalid", 0)


async def test_a_number_in_use_is_refused() -> None:
    replication = Replication()
    replication.held = True
    answers = await spoken(replication, framed(put(5), put(5)))
    assert answers == [(None, "invalid", 0, "a number that is in use, or is none")]
    assert [ticket.withdrawn for _, ticket in replication.tickets] == [True]


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    async def play() -> None:
        await spoken(Replication(), data)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.binary(max_size=9) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4),
    )
)
def test_any_cbor_is_survived(value: Any) -> None:
    async def play() -> None:
        data = codec.encode(value)
        await spoken(Replication(), len(data).to_bytes(4, "big") + data)

    trio.run(play)


async def test_failures_are_answers_and_a_busy_node_is_waited_for() -> None:
    replication = Replication()
    replication.busy = 3
    assert await spoken(replication, framed(put(0))) == [(0, "ok", 1, TIME_MS)]
    replication.failing = Failure("no_quorum")
    answers = await spoken(replication, framed(put(0)))
    assert answers == [(0, "no_quorum", 0, "the node says no_quorum")]


async def test_no_more_is_taken_than_may_be_on_its_way(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(pipeline, "FLIGHT_MAX", 3)
    replication = Replication()
    replication.held = True
    async with talking(replication) as stream:
        await stream.send_all(UPGRADE + framed(*[put(number) for number in range(10)]))
        await trio.sleep(1)
        assert len(replication.tickets) == 3
        replication.release()
        said = b""
        while b"\x09" not in said[-40:] and said.count(b"ok") < 10:
            said += await stream.receive_some(4096)


async def test_who_takes_no_answers_is_not_read_for_ever(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(pipeline, "FLIGHT_MAX", 8)
    replication = Replication()
    async with talking(replication) as stream:
        await stream.send_all(UPGRADE)
        with trio.move_on_after(pipeline.SEND_S - 1):
            for number in range(10**6):
                await stream.send_all(framed(*[put(number * 9 + i) for i in range(9)]))
        taken = replication.revision
        await trio.sleep(2)
        assert replication.revision <= taken + 9
        with suppress(trio.BrokenResourceError):
            for _ in range(1000):
                await stream.send_all(framed())
            raise AssertionError("the connection is still open")


async def test_what_waits_is_withdrawn_when_its_client_is_lost() -> None:
    replication = Replication()
    replication.held = True
    async with talking(replication) as stream:
        await stream.send_all(UPGRADE + framed(put(0), put(1)))
        while len(replication.tickets) < 2:
            await trio.lowlevel.checkpoint()
        await trio.aclose_forcefully(stream)
        await trio.testing.wait_all_tasks_blocked()
    assert [ticket.withdrawn for _, ticket in replication.tickets] == [True, True]


async def test_a_frame_of_too_many_items_is_not_taken_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    decode = codec.decode

    def measured(data: bytes, **limits: int) -> Any:
        tracemalloc.start()
        try:
            return decode(data, **limits)
        finally:
            made.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    data = framed(*[(number, b"") for number in range(20_000)])
    monkeypatch.setattr(codec, "decode", measured)
    near, far = trio.socket.socketpair()
    async with trio.SocketStream(near) as stream, trio.SocketStream(far) as served:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipeline.speak, served, b"", Replication(), bounds())
            await stream.send_all(data)
            await stream.send_eof()
    assert made[0] < pipeline.ITEM_COST_BYTES * pipeline.FRAME_ITEMS_MAX


async def test_frames_that_are_not_in_line_yet_share_a_bound_in_bytes() -> None:
    replication = Replication()
    server = Server(node_of(replication))
    server.operations = Room(1)
    assert server.operations.take_now(1)  # so that no frame comes into line
    data = framed(*[put(number) for number in range(100)])
    cost = len(data) - 4 + pipeline.ITEM_COST_BYTES * ((len(data) - 4) // pipeline.ITEM_BYTES_MIN)
    server.incoming = Room(cost + 1)
    async with talking(replication, server) as first, talking(replication, server) as second:
        for stream in (first, second):
            await stream.send_all(UPGRADE + data)
            await trio.testing.wait_all_tasks_blocked()
            assert server.incoming.free == 1
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (server.connections, server.incoming.free) == (1, 1)
    assert server.incoming.free == cost + 1


async def test_all_pipelines_together_have_so_many_operations_on_their_way() -> None:
    replication = Replication()
    replication.held = True
    server = Server(node_of(replication))
    server.operations = Room(4)
    async with talking(replication, server) as first, talking(replication, server) as second:
        for stream in (first, second):
            await stream.send_all(UPGRADE + framed(*[put(number) for number in range(3)]))
            await trio.testing.wait_all_tasks_blocked()
            assert len(replication.tickets) == 3
        replication.release()
        said = b""
        while said.count(b"ok") < 3:
            said += await second.receive_some(4096)
    assert server.operations.free == 4


@pytest.mark.parametrize("more", [b"", framed(put(20))])
async def test_a_pipeline_that_is_not_read_ends_when_its_client_hangs_up(
    monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    monkeypatch.setattr(pipeline, "FLIGHT_MAX", 3)
    replication = Replication()
    replication.held = True
    server = Server(node_of(replication))
    async with talking(replication, server) as stream:
        await stream.send_all(UPGRADE + framed(*[put(number) for number in range(10)]) + more)
        await trio.testing.wait_all_tasks_blocked()
        assert len(replication.tickets) == 3
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (server.connections, server.pipelines) == (0, 0)
        assert server.incoming.free == http.INCOMING_BYTES_MAX
        assert server.operations.free == pipeline.OPERATIONS_MAX
    assert all(ticket.withdrawn for _, ticket in replication.tickets)


async def test_a_frame_that_is_never_whole_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with talking(Replication()) as stream:
        await stream.send_all(UPGRADE + (500_000).to_bytes(4, "big") + b"\x80")
        said = b""
        while data := await stream.receive_some(4096):
            said += data
        assert b"not whole within" in said
        assert trio.current_time() < pipeline.FRAME_S + 5

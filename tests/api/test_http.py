"""One connection: keep-alive, bounds, deadlines, hostile bytes; mostly bytes on a socket."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.api import http, routes
from aegis_edge.api.http import Server
from aegis_edge.api.messages import STATUS
from aegis_edge.api.room import Room
from aegis_edge.knowledge.operations import VALUE_BYTES_MAX
from tests.api.node import Failure, Replication, node_of, serving, talking


async def ask(stream: trio.SocketStream, data: bytes) -> bytes:
    await stream.send_all(data)
    return await stream.receive_some(1 << 20)


async def rest(stream: trio.SocketStream) -> bytes:
    said = b""
    while data := await stream.receive_some(1 << 16):
        said += data
    return said


def get(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def test_requests_share_a_connection() -> None:
    async with talking(Replication()) as stream:
        put = b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        assert b'"revision": 1' in await ask(stream, put)
        said = await ask(stream, get("/v1/kb/a"))
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.endswith(b"\r\n\r\nhello")
        assert b"no key b" in await ask(stream, get("/v1/kb/b"))
        assert (await ask(stream, get("/v1/kb/a"))).endswith(b"hello")


async def test_requests_may_follow_each_other_closely() -> None:
    async with talking(Replication()) as stream:
        await stream.send_all(get("/v1/status") * 3)
        await stream.send_eof()
        assert (await rest(stream)).count(b"HTTP/1.1 200") == 3


async def test_http_1_0_and_connection_close_end_after_one_reply() -> None:
    for request in (b"GET /v1/status HTTP/1.0\r\n\r\n", get("/v1/status", "Connection: close")):
        async with talking(Replication()) as stream:
            await stream.send_all(request)
            assert (await rest(stream)).startswith(b"HTTP/1.1 200")


async def test_head_has_no_body() -> None:
    async with talking(Replication()) as stream:
        await stream.send_all(b"HEAD /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = await rest(stream)
        assert said.startswith(b"HTTP/1.1 200")
        assert said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x00\x01\x02\r\n\r\n", b"400"),
        (b"GET /v1/st\xc3\xa4tus HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /v1/status HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /v1/status HTTP/1.1\r\nHost: x\r\nHo st: y\r\n\r\n", b"400"),
        (b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (
            b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"400",
        ),
        (b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", b"413"),
        (b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (
            b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"400",
        ),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000, b"431"),
    ],
)
async def test_bad_requests_are_answered_and_closed(
    request_: bytes, status: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with talking(Replication()) as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(request_)
        said = await rest(stream)
        assert said.split(b" ")[1] == status, said
        assert b'"advice"' in said
        assert b"Connection: close" in said


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    async def play() -> None:
        async with talking(Replication()) as stream:
            await stream.send_all(data)
            await stream.send_eof()
            await rest(stream)

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    http.log.addHandler(handler)
    try:
        trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        http.log.removeHandler(handler)
    assert records == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", b"405"),
        (b"POST /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", b"405"),
        (
            b"PATCH /v1/kb/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
            b"405",
        ),
        (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", b"404"),
    ],
)
async def test_what_nobody_answers_is_said_before_its_body_is_read(
    request_: bytes, status: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with talking(Replication()) as stream:
        await stream.send_all(request_)
        said = await rest(stream)
        assert said.split(b" ")[1] == status, said
        assert (b"\r\nAllow: GET, PUT, DELETE, HEAD\r\n" in said) == (status == b"405")


def put(size: int, target: str = "/v1/kb/a") -> bytes:
    return f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()


#: A request for each error code; those of the node come when it fails with them.
PLAYS = {
    "invalid": get("/v1/kb/a//b"),
    "not_found": get("/v1/kb/nothing"),
    "method_not_allowed": b"POST /v1/kb HTTP/1.1\r\nHost: x\r\n\r\n",
    "too_slow": put(5),
    "conflict": put(0, "/v1/kb/a?expected=7"),
    "too_large": put(VALUE_BYTES_MAX + 1),
    "headers_too_large": get("/" + "a" * 200_000),
    "internal": get("/v1/peers"),
    **dict.fromkeys(("busy", "damaged", "halted", "no_member", "no_quorum"), put(0)),
    **dict.fromkeys(("stopping", "timeout", "unprovable"), put(0)),
}


@pytest.mark.parametrize("code", STATUS)
async def test_every_error_code_comes_with_its_status(
    code: str, autojump_clock: trio.testing.MockClock
) -> None:
    replication = Replication()
    if PLAYS[code] == put(0):
        replication.failing = Failure(code)
    node = replace(node_of(replication), peers=lambda: {"peers": object()})  # no JSON: our fault
    async with talking(replication, Server(node)) as stream:
        await stream.send_all(PLAYS[code])
        head, _, body = (await stream.receive_some(1 << 16)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % STATUS[code])
        assert json.loads(body)["error"] == code


async def test_a_connection_outlives_a_wrong_method() -> None:
    async with talking(Replication()) as stream:
        for method in (b"POST", b"DELETE"):
            said = await ask(stream, method + b" /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 405")
        assert (await ask(stream, get("/v1/status"))).startswith(b"HTTP/1.1 200")


async def test_a_value_that_grows_too_large_is_refused_on_the_way() -> None:
    async with talking(Replication()) as stream:
        head = b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head)
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                for _ in range(VALUE_BYTES_MAX // 0x10000 + 1):
                    await stream.send_all(piece)

            nursery.start_soon(pour)
            assert b"413" in await stream.receive_some(4096)


async def test_curl_is_told_to_go_on() -> None:
    async with talking(Replication()) as stream:
        head = (
            b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await ask(stream, head)).startswith(b"HTTP/1.1 100")
        assert b'"revision": 1' in await ask(stream, b"x")


async def test_slow_heads_bodies_and_idlers_are_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for begun, limit in (
        (b"GET /v1/sta", http.HEAD_S),
        (b"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", http.BODY_S),
    ):
        async with talking(Replication()) as stream:
            start = trio.current_time()
            await stream.send_all(begun)
            assert b"408" in await rest(stream)
            assert trio.current_time() - start < limit + http.LINGER_S + 1
    async with talking(Replication()) as stream:
        start = trio.current_time()
        assert await rest(stream) == b""
        assert trio.current_time() - start == pytest.approx(http.IDLE_S)


async def test_a_byte_now_and_then_does_not_extend_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with talking(Replication()) as stream, trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in b"GET /v1/status HTTP/1.1\r\n" + b"A: b\r\n" * 1000:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.send_all(bytes([byte]))
                await trio.sleep(1)

        start = trio.current_time()
        nursery.start_soon(drip)
        assert b"408" in await stream.receive_some(4096)
        assert trio.current_time() - start <= http.HEAD_S + 1
        nursery.cancel_scope.cancel()


async def test_who_does_not_read_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    replication = Replication()
    replication.write("big", b"x" * VALUE_BYTES_MAX, 0, False)
    server = Server(node_of(replication))
    async with talking(replication, server) as stream:
        await stream.send_all(get("/v1/kb/big") * 4)
        await trio.sleep(http.SEND_S + 1)
        assert server.connections == 0
    assert server.outgoing.free == http.OUTGOING_BYTES_MAX


async def test_large_values_wait_for_a_place(autojump_clock: trio.testing.MockClock) -> None:
    server = Server(node_of(Replication()))
    server.incoming = Room(http.COPIES * VALUE_BYTES_MAX)
    size = http.LARGE_BYTES + 1
    head = f"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    async with talking(Replication(), server) as first, talking(Replication(), server) as second:
        await first.send_all(head)
        await trio.testing.wait_all_tasks_blocked()
        assert server.incoming.free == 0
        assert b"503" in await ask(second, head)
        assert b"408" in await first.receive_some(4096)


async def test_what_waits_for_the_cluster_keeps_no_place() -> None:
    replication = Replication()
    replication.held = True
    server = Server(node_of(replication))
    server.incoming = Room(http.COPIES * VALUE_BYTES_MAX)
    body = b"x" * (http.LARGE_BYTES + 1)
    head = f"PUT /v1/kb/a HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with talking(replication, server) as waiting:
        await waiting.send_all(head + body)
        await trio.testing.wait_all_tasks_blocked()
        assert server.waits == 1
        assert server.incoming.free == http.COPIES * VALUE_BYTES_MAX


async def test_too_many_connections_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 1)
    replication = Replication()
    replication.held = True
    server = Server(node_of(replication))
    async with talking(replication, server) as first:
        await first.send_all(put(0))
        await trio.testing.wait_all_tasks_blocked()
        async with talking(replication, server) as second:
            assert b"too many connections" in await rest(second)
            assert server.connections == 1
            replication.release()
        assert b'"revision": 1' in await first.receive_some(4096)


async def test_a_newcomer_takes_the_place_of_who_waits_for_its_client_for_longest(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)
    replication = Replication()
    server = Server(node_of(replication))
    async with (
        talking(replication, server) as slow,
        talking(replication, server) as idle,
        talking(replication, server) as young,
    ):
        await slow.send_all(b"GET /v1/sta")
        await trio.testing.wait_all_tasks_blocked()
        await ask(idle, get("/v1/status"))
        await trio.testing.wait_all_tasks_blocked()
        await ask(young, get("/v1/status"))
        await trio.testing.wait_all_tasks_blocked()
        async with talking(replication, server) as one, talking(replication, server) as other:
            for gone, fresh in ((slow, one), (idle, other)):
                assert (await ask(fresh, get("/v1/status"))).startswith(b"HTTP/1.1 200")
                assert await rest(gone) == b""
            assert (await ask(young, get("/v1/status"))).startswith(b"HTTP/1.1 200")
        assert trio.current_time() < 1


@pytest.mark.parametrize("request_", [put(0, "/v1/kb/a?timeout=3600"), put(0)])
async def test_who_waits_for_the_cluster_and_hangs_up_keeps_no_place(request_: bytes) -> None:
    replication = Replication()
    replication.held = True
    server = Server(node_of(replication))
    async with talking(replication, server) as stream:
        await stream.send_all(request_)
        await trio.testing.wait_all_tasks_blocked()
        assert (server.connections, server.waits) == (1, 1)
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (server.connections, server.waits) == (0, 0)
    replication.release()
    assert replication.revision == 0


async def test_who_only_has_no_more_to_ask_is_answered() -> None:
    replication = Replication()
    replication.held = True
    async with talking(replication) as stream:
        await stream.send_all(put(0))
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        replication.release()
        assert b'"revision": 1' in await rest(stream)


@pytest.mark.parametrize("kind", ["WAITS_MAX", "PIPELINES_MAX"])
async def test_what_stays_long_leaves_places_for_what_does_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, kind, 1)
    replication = Replication()
    replication.held = True
    server = Server(node_of(replication))
    long = {
        "WAITS_MAX": put(0),
        "PIPELINES_MAX": b"POST /v1/pipeline HTTP/1.1\r\nHost: x\r\n"
        b"Connection: Upgrade\r\nUpgrade: aegis-pipeline\r\n\r\n",
    }[kind]
    async with talking(replication, server) as first:
        await first.send_all(long)
        await trio.testing.wait_all_tasks_blocked()
        async with talking(replication, server) as second:
            assert b"503" in await ask(second, long)
        async with talking(replication, server) as third:
            assert b"200 OK" in await ask(third, get("/v1/status"))
    async with talking(replication, server) as fourth:  # places are given back
        await fourth.send_all(long)
        await trio.testing.wait_all_tasks_blocked()
        assert server.waits + server.pipelines == 1


async def test_a_large_reply_is_in_memory_only_where_there_is_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    replication = Replication()
    replication.write("big", b"x" * VALUE_BYTES_MAX, 0, False)
    server = Server(node_of(replication))
    server.outgoing = Room(http.COPIES * VALUE_BYTES_MAX)
    reads = 0
    query = replication.read

    async def counted(asked: object) -> object:
        nonlocal reads
        reads += 1
        return await query(asked)  # type: ignore[arg-type]

    replication.read = counted  # type: ignore[method-assign,assignment]
    async with talking(replication, server) as first, talking(replication, server) as second:
        await first.send_all(get("/v1/kb/big") * 4)
        await trio.testing.wait_all_tasks_blocked()
        assert server.outgoing.free == 0
        before = reads
        await second.send_all(get("/v1/kb/big", "Connection: close"))
        await trio.testing.wait_all_tasks_blocked()
        assert reads == before + 1
        await first.aclose()
        assert len(await rest(second)) > VALUE_BYTES_MAX
        assert reads == before + 2
    assert server.outgoing.free == http.COPIES * VALUE_BYTES_MAX


async def test_pages_of_watches_are_in_memory_only_where_there_is_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    replication = Replication()
    for number in range(4):
        replication.write(f"k{number}", b"x" * 200_000, 0, False)
    server = Server(node_of(replication))
    server.outgoing = Room(routes.WATCH_BYTES)
    async with talking(replication, server) as slow, talking(replication, server) as other:
        await slow.send_all(get("/v1/watch?after=0"))
        await trio.testing.wait_all_tasks_blocked()
        assert server.outgoing.free == 0
        await other.send_all(get("/v1/watch?after=3"))
        await trio.testing.wait_all_tasks_blocked()
        assert b"k3" not in await other.receive_some(4096)
        await trio.sleep(routes.PAGE_S + 1)
        said = b""
        while b'"key": "k1"' not in said:  # the rest of its page is read again, after the other
            said += await slow.receive_some(1 << 16)
        assert b'"key": "k3"' in await other.receive_some(4096)
        lines = b""
        while lines.count(b'"revision"') < 2:
            lines += await slow.receive_some(1 << 16)
    assert server.outgoing.free == routes.WATCH_BYTES


async def test_without_descriptors_the_api_waits_and_says_so_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    replication = Replication()
    server = Server(node_of(replication))

    class Listener:
        tries = 0

        async def accept(self) -> trio.SocketStream:
            await trio.lowlevel.checkpoint()
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

    listener = Listener()
    async with talking(replication, server) as idle:
        with trio.move_on_after(http.ACCEPT_WORD_S - 1):
            await server.accept(listener)  # type: ignore[arg-type]
        assert await rest(idle) == b""
    assert listener.tries > 100
    assert [record.getMessage() for record in caplog.records] == [
        "the API cannot take a connection: Too many open files"
    ]
    assert caplog.records[0].exc_info is None


async def test_a_watch_streams_and_ends_with_its_client() -> None:
    replication = Replication()
    replication.write("garden/a", b"1", 1, False)
    server = Server(node_of(replication))
    async with talking(replication, server) as stream:
        said = await ask(stream, get("/v1/watch?after=0&prefix=garden/"))
        while b'"value": 1' not in said:
            said += await stream.receive_some(4096)
        replication.write("shed/b", b"2", 1, False)
        replication.write("garden/c", b"\xff", 0, False)
        said = await stream.receive_some(4096)
        assert b"garden/c" in said
        assert b'"value_base64": "/w=="' in said
        assert server.watches == 1
        await stream.aclose()
        with trio.fail_after(2):
            while server.watches:
                await trio.lowlevel.checkpoint()


async def test_too_many_watches_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WATCHES_MAX", 0)
    async with talking(Replication()) as stream:
        assert b"503" in await ask(stream, get("/v1/watch?after=0"))


async def test_a_watch_has_no_more_in_memory_than_its_reader_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    replication = Replication()
    for number in range(100):
        replication.write(f"k{number}", b"x" * 100_000, 0, False)
    server = Server(node_of(replication))
    reads = 0
    query = replication.read

    async def counted(asked: object) -> object:
        nonlocal reads
        reads += 1
        return await query(asked)  # type: ignore[arg-type]

    replication.read = counted  # type: ignore[method-assign,assignment]
    async with talking(replication, server) as stream:
        await stream.send_all(get("/v1/watch?after=0"))
        await trio.sleep(http.SEND_S - 1)
        assert reads == 1
        await trio.sleep(2)
        assert server.connections == 0


async def test_faults_of_the_node_have_a_code_and_faults_of_ours_a_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replication = Replication()
    async with talking(replication) as stream:
        replication.read = None  # type: ignore[assignment]
        said = await ask(stream, get("/v1/kb/a"))
        assert b"500" in said
        assert b"Traceback" not in said
    assert "fault of this program" in caplog.text


def through_http_client(socket_path: Path, method: str, url: str, data: bytes, kind: str) -> str:
    connection = HTTPConnection("node")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(socket_path))
    headers = {"Content-Type": kind} if kind else {}
    connection.request(method, url, data if method == "PUT" else None, headers)
    reply = connection.getresponse()
    said = f"{reply.headers}\r\n{reply.read().decode()}"
    connection.close()
    return said


def through_curl(socket_path: Path, method: str, url: str, data: bytes, kind: str) -> str:
    command = ["curl", "-sSi", "--unix-socket", str(socket_path), "-X", method]
    command += ["-H", f"Content-Type: {kind}"] if kind else []
    command += ["-T", "-"] if method == "PUT" else []
    done = subprocess.run([*command, f"http://node{url}"], input=data, capture_output=True)
    return done.stdout.decode()


@pytest.mark.parametrize(
    "through", [through_http_client, *([through_curl] if shutil.which("curl") else [])]
)
def test_other_peoples_clients_speak_to_it(
    through: Callable[[Path, str, str, bytes, str], str], tmp_path: Path
) -> None:
    path = tmp_path / "api.sock"

    def ask(method: str, url: str, data: bytes = b"", kind: str = "") -> str:
        return through(path, method, url, data, kind)

    key = "/v1/kb/garden/k%C3%BCrbis"
    with serving(path):
        assert '"revision": 1' in ask("PUT", key, b'{"big": true}', "application/json")
        assert ask("GET", key).endswith('\n{"big": true}')
        assert "X-Aegis-Revision: 1" in ask("GET", key)
        assert '"conflict"' in ask("PUT", key + "?expected=7", b"x")
        assert "garden/kürbis" in ask("GET", "/v1/kb?prefix=garden/")
        assert '"revision": 2' in ask("PUT", key, b"y" * 200_000)
        assert len(ask("GET", key)) > 200_000
        assert '"revision": 3' in ask("DELETE", key)
        assert '"deleted": true' in ask("GET", "/v1/history/garden/k%C3%BCrbis")
        assert "aegis_edge_revision 3" in ask("GET", "/metrics")


def test_curl_is_told_that_a_value_is_too_large(tmp_path: Path) -> None:
    if shutil.which("curl"):
        with serving(tmp_path / "s"):
            said = through_curl(tmp_path / "s", "PUT", "/v1/kb/a", b"y" * 2_000_000, "")
            assert '"too_large"' in said

"""The SOCKS client against programs in tor's place; what a real tor answers is in tests/tor."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from aegis_edge.net.tor import socks
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.socks import Failure, SocksError
from aegis_edge.peers import onion
from tests.net.tor.scripted import Script, listening

HOST = onion.service_address(bytes(32))
WORDS = (b"peer", b"word")
GREETED, LET_IN = b"\x05\x02", b"\x01\x00"
OVER_TCP = b"\x05\x00\x00\x01" + bytes(6)
OVER_UNIX = b"\x05\x00\x00\x04" + bytes(18)
BY_NAME = b"\x05\x00\x00\x03\x03abc\x00\x50"


async def dial(place: Endpoint, host: str = HOST, timeout_s: float = 5) -> trio.SocketStream:
    return await socks.dial(place, host, 80, isolation=WORDS, timeout_s=timeout_s)


def saying(*answers: bytes, heard: list[bytes] | None = None) -> Script:
    async def script(stream: trio.SocketStream) -> None:
        for answer in answers:
            data = bytes(await stream.receive_some())
            if heard is not None:
                heard.append(data)
            await stream.send_all(answer)
        async for _ in stream:
            pass

    return script


async def failure(*answers: bytes, hang_up: bool = False) -> SocksError:
    async def and_leave(stream: trio.SocketStream) -> None:
        for answer in answers:
            await stream.receive_some()
            await stream.send_all(answer)

    script = and_leave if hang_up else saying(*answers)
    async with listening(script) as place:
        with pytest.raises(SocksError) as caught:
            await dial(place, timeout_s=5)
    return caught.value


@pytest.mark.parametrize("answer", [OVER_TCP, OVER_UNIX, BY_NAME])
async def test_not_one_byte_of_the_service_is_lost_or_eaten(answer: bytes) -> None:
    heard: list[bytes] = []
    async with listening(saying(GREETED, LET_IN, answer + b"early", heard=heard)) as place:
        stream = await dial(place)
        assert await stream.receive_some() == b"early"
        await stream.aclose()
    assert heard == [
        b"\x05\x01\x02",
        b"\x01\x04peer\x04word",
        b"\x05\x01\x00\x03" + bytes((62,)) + HOST.encode() + b"\x00\x50",
    ]


async def test_answers_may_come_byte_by_byte() -> None:
    async def script(stream: trio.SocketStream) -> None:
        for answer in (GREETED, LET_IN, OVER_UNIX):
            await stream.receive_some()
            for byte in answer:
                await stream.send_all(bytes((byte,)))
                await trio.testing.wait_all_tasks_blocked()
        await stream.receive_some()

    async with listening(script) as place:
        await (await dial(place)).aclose()


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "192.0.2.1",
        "localhost",
        "",
        "expyuzz4wqqyqhjn.onion",
        HOST[:-6] + ".exit",
        f"x.{HOST}",
        HOST + "\0.example.com",
        HOST.replace(HOST[0], "z" if HOST[0] != "z" else "y", 1),
    ],
)
async def test_anything_but_an_onion_address_is_refused_before_a_byte_is_sent(host: str) -> None:
    nowhere = Endpoint(path="/nowhere")  # it would say NO_PORT if it tried
    with pytest.raises(SocksError, match="no onion address") as caught:
        await dial(nowhere, host)
    assert caught.value.failure is Failure.NOT_ONION


@pytest.mark.parametrize("reply", range(1, 256))
async def test_each_refusal_has_a_code_and_words(reply: int) -> None:
    error = await failure(GREETED, LET_IN, bytes((5, reply, 0, 1)) + bytes(6))
    code = f"{reply:02X}"
    known = {f.value for f in Failure}
    assert error.failure.value == (code if code in known else "unknown")
    assert f"SOCKS answer {code}" in error.message and error.advice


def test_every_failure_has_words() -> None:
    assert len({f.words for f in Failure}) == len(Failure)


@pytest.mark.parametrize(
    "answers",
    [
        (b"\x05\xff",),
        (b"\x05\x00",),
        (b"HTTP/1.0 501 Tor is not an HTTP Proxy",),
        (b"250 OK\r\n",),
        (GREETED, b"\x01\x01"),
        (GREETED, b"\x05\x00"),
        (GREETED, LET_IN, b"\x04\x00\x00\x01" + bytes(6)),
        (GREETED, LET_IN, b"\x05\x00\x00\x02" + bytes(6)),
    ],
)
async def test_what_is_no_socks_port_is_told_so(answers: tuple[bytes, ...]) -> None:
    assert (await failure(*answers)).failure is Failure.NOT_SOCKS


@pytest.mark.parametrize(
    "answers",
    [(), (b"\x05",), (GREETED,), (GREETED, LET_IN), (GREETED, LET_IN, OVER_UNIX[:21])],
)
async def test_who_hangs_up_or_stalls_is_given_up(answers: tuple[bytes, ...]) -> None:
    assert (await failure(*answers, hang_up=True)).failure is Failure.HUNG_UP
    async with listening(saying(*answers)) as place:
        with pytest.raises(SocksError, match="no connection in time") as caught:
            await dial(place, timeout_s=0.1)
    assert caught.value.failure is Failure.TIMEOUT


async def test_no_tor_is_no_traceback() -> None:
    with pytest.raises(SocksError, match="there is no tor's SOCKS port at unix:/nowhere") as caught:
        await dial(Endpoint(path="/nowhere"))
    assert caught.value.failure is Failure.NO_PORT


async def test_a_reset_is_a_hang_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.aclose()

    async def connect(*_: object) -> object:
        return ours

    monkeypatch.setattr(socks.reach, "connect", connect)
    with pytest.raises(SocksError) as caught:
        await dial(Endpoint(path="/x"))
    assert caught.value.failure is Failure.HUNG_UP


async def test_misuse_is_an_assertion() -> None:
    for words, port in (((b"", b"x"), 80), ((b"x" * 256, b"x"), 80), (WORDS, 0), (WORDS, 65_536)):
        with pytest.raises(AssertionError):
            await socks.dial(Endpoint(path="/x"), HOST, port, isolation=words, timeout_s=1)


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda b: GREETED + LET_IN + b))
def test_any_answers_make_a_stream_or_a_socks_error(data: bytes) -> None:
    async def main() -> None:
        ours, theirs = memory_stream_pair()
        await theirs.send_all(data)
        await theirs.send_eof()

        async def connect(*_: object) -> object:
            return ours

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socks.reach, "connect", connect)
            try:
                await dial(Endpoint(path="/x"))
            except SocksError:
                return
        assert data.startswith(GREETED + LET_IN + b"\x05\x00")

    trio.run(main)

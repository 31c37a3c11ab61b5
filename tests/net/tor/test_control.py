"""The control client against programs in tor's place that stall, lie, hang up and flood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from aegis_edge.net.tor import control
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.errors import (
    Closed,
    Hung,
    NotAuthenticated,
    NotTor,
    Refused,
    Unreachable,
)
from tests.net.tor.scripted import Script, listening

OPEN = b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK\r\n"
ANYBODY = Credentials(allow_none=True)


def saying(*answers: bytes) -> Script:
    """One answer to each thing that is said, then silence until the caller has gone."""

    async def script(stream: trio.SocketStream) -> None:
        for answer in answers:
            if not await stream.receive_some():
                return
            await stream.send_all(answer)
        async for _ in stream:
            pass

    return script


class Tor:
    """The other end of a connection, played by the test."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def hears(self) -> str:
        return bytes(await self.stream.receive_some()).decode()

    async def says(self, data: bytes) -> None:
        await self.stream.send_all(data)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Control, Tor]]:
    ours, theirs = memory_stream_pair()
    one = Control(ours, "a test")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        yield one, Tor(theirs)
        nursery.cancel_scope.cancel()


# --- opening ----------------------------------------------------------------------------------


async def test_anybody_is_let_in_only_if_the_owner_says_so() -> None:
    async with listening(saying(OPEN, b"250 OK\r\n")) as place:
        with pytest.raises(NotAuthenticated, match="lets anybody"):
            await control.connect(place, Credentials())
        one = await control.connect(place, ANYBODY)
        assert one.info.methods == {"NULL"}
        await one.aclose()


@pytest.mark.parametrize(
    "answers",
    [
        (b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\n\r\n",),
        (b"\x05\xff\r\n",),
        (b"SSH-2.0-OpenSSH_9.2\r\n",),
        (b"510 Unrecognized command\r\n",),
        (bytes(range(256)) * 100,),
        (OPEN + b"250 OK\r\n",),
        (b"650 EVENT\r\n",),
        (b"250-" + b"x" * 17_000,),
        (b"250-x\r\n" * 60_000,),
        (OPEN, b"650 EVENT\r\n"),
    ],
    ids=range(10),
)
async def test_what_is_no_tor_is_told_so(answers: tuple[bytes, ...]) -> None:
    async with listening(saying(*answers)) as place:
        with pytest.raises(NotTor, match="is no tor"):
            await control.connect(place, ANYBODY)


async def test_who_hangs_up_is_no_tor() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with listening(script) as place:
        with pytest.raises(NotTor, match="hung up"):
            await control.connect(place, ANYBODY)
    with pytest.raises(Unreachable):
        await control.connect(place, ANYBODY)


@pytest.mark.parametrize("answers", [(), (OPEN,), (b"250-PROTOCOLINFO 1\r\n250",)])
async def test_who_stalls_is_given_up(answers: tuple[bytes, ...]) -> None:
    async with listening(saying(*answers)) as place:
        with pytest.raises(Hung, match=r"does not answer at 127.*restart tor"):
            await control.connect(place, ANYBODY, timeout_s=0.1)


async def test_a_refusal_to_authenticate_is_told() -> None:
    async with listening(saying(OPEN, b"515 Bad authentication\r\n")) as place:
        with pytest.raises(NotAuthenticated, match="515 Bad authentication"):
            await control.connect(place, ANYBODY)


async def test_an_impostor_learns_nothing_of_the_file_that_it_names() -> None:
    heard = []

    async def script(stream: trio.SocketStream) -> None:
        heard.append(await stream.receive_some())
        await stream.send_all(
            b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="'
            + __file__.encode()
            + b'"\r\n250 OK\r\n'
        )
        heard.extend([data async for data in stream])

    async with listening(script) as place:
        with pytest.raises(NotAuthenticated, match="is not tor's cookie"):
            await control.connect(place, Credentials())
    assert heard == [b"PROTOCOLINFO 1\r\n"]


# --- commands ---------------------------------------------------------------------------------


async def test_commands_take_turns_and_events_come_between() -> None:
    async with connected() as (one, tor):
        async with trio.open_nursery() as nursery:
            answers: list[str] = []

            async def ask(key: str) -> None:
                answers.append((await one.command("GETINFO", key)).said)

            nursery.start_soon(ask, "a")
            first = await tor.hears()
            nursery.start_soon(ask, "b")
            await trio.testing.wait_all_tasks_blocked()
            await tor.says(b"650 X 1\r\n250 first\r\n650 X 2\r\n")
            second = await tor.hears()
            await tor.says(b"250 second\r\n")
        assert (first, second) == ("GETINFO a\r\n", "GETINFO b\r\n")
        assert answers == ["first", "second"]
        assert [(await one.events.receive()).said for _ in range(2)] == ["X 1", "X 2"]


async def test_a_refused_command_leaves_the_connection() -> None:
    async with connected() as (one, tor):
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                for said in (b"552 Unknown\r\n", b"250 OK\r\n"):
                    await tor.hears()
                    await tor.says(said)

            nursery.start_soon(answer)
            with pytest.raises(Refused, match=r"tor refuses SETCONF \(552 Unknown\)") as caught:
                await one.command("SETCONF", ("Secret", "hush"))
            assert caught.value.code == 552 and "hush" not in str(caught.value)
            assert (await one.command("GETINFO", "x")).said == "OK"


async def test_a_hostile_argument_sends_nothing() -> None:
    async with connected() as (one, tor):
        with pytest.raises(ValueError, match="word 1"):
            await one.command("GETINFO", "a\r\nSIGNAL HALT")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.command, "GETINFO", "b")
            assert await tor.hears() == "GETINFO b\r\n"
            await tor.says(b"250 OK\r\n")


async def test_a_command_without_an_answer_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (one, tor):
        with pytest.raises(Hung, match="does not answer GETINFO within 30 s"):
            await one.command("GETINFO", "x")
        assert await tor.hears() == "GETINFO x\r\n"
        assert await tor.hears() == ""
        with pytest.raises(Hung):
            await one.command("GETINFO", "y")
        with pytest.raises(trio.EndOfChannel):
            await one.events.receive()


async def test_a_command_that_is_cancelled_ends_the_connection() -> None:
    async with connected() as (one, tor):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.command, "GETINFO", "x")
                await tor.hears()
                scope.cancel()
        with pytest.raises(Closed):
            await one.command("GETINFO", "y")
        assert await tor.hears() == ""


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"garbage\r\n", NotTor),
        (b"250-half\r\n650 EVENT\r\n", NotTor),
        (b"x" * 17_000, NotTor),
        (b"250 one\r\n250 two\r\n", None),
        (b"", Closed),
    ],
)
async def test_a_broken_tor_ends_the_connection(said: bytes, error: type[Exception] | None) -> None:
    ours, theirs = memory_stream_pair()
    one, tor = Control(ours, "a test"), Tor(theirs)
    reasons: list[Exception] = []

    async def run() -> None:
        reasons.append(await one.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)

        async def ask() -> None:
            if error is None:
                assert (await one.command("GETINFO", "x")).said == "one"
            else:
                with pytest.raises(error):
                    await one.command("GETINFO", "x")

        nursery.start_soon(ask)
        await tor.hears()
        if said:
            await tor.says(said)
        else:
            await theirs.aclose()
    assert isinstance(reasons[0], error or NotTor)


async def test_an_answer_without_a_question_ends_the_connection() -> None:
    ours, theirs = memory_stream_pair()
    one = Control(ours, "a test")
    await theirs.send_all(b"250 OK\r\n")
    assert "answer without a question" in str(await one.run())


async def test_the_last_answer_counts_though_the_connection_ends_with_it() -> None:
    async with connected() as (one, tor):
        async with trio.open_nursery() as nursery:

            async def halt() -> None:
                assert (await one.command("SIGNAL", "HALT")).said == "OK"

            nursery.start_soon(halt)
            await tor.hears()
            await tor.says(b"250 OK\r\n")
            await tor.stream.aclose()
        with pytest.raises(Closed, match="has ended; see in tor's log"):
            await one.command("GETINFO", "x")


async def test_events_that_nobody_takes_are_counted() -> None:
    async with connected() as (one, tor):
        await tor.says(b"650 X\r\n" * (control.EVENTS_MAX + 3))
        await trio.testing.wait_all_tasks_blocked()
        assert one.events_dropped == 3
        one.events.close()
        await tor.says(b"650 X\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.command, "GETINFO", "x")
            await tor.hears()
            await tor.says(b"250 OK\r\n")


async def test_a_long_answer_is_taken_from_him_who_is_asked_for_it() -> None:
    async with connected() as (one, tor):
        data = b"250+ns/all=\r\n" + b"r\r\n" * 200_000 + b".\r\n250 OK\r\n"
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                reply = await one.command("GETINFO", "ns/all", reply_bytes_max=1_000_000)
                assert len(reply.values()["ns/all"][0]) == 400_000 - 1

            nursery.start_soon(ask)
            await tor.hears()
            await tor.says(data)


async def test_closing_it_ends_run() -> None:
    ours, _ = memory_stream_pair()
    one = Control(ours, "a test")
    await one.aclose()
    assert isinstance(await one.run(), Closed)

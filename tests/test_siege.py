"""The siege judges others, so it is judged here: what it does to lines, and what it lets pass.

A quick siege is a real one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

import siege
from aegis_edge.client import ClientError, Entry, NotFound, Written
from besiegers.callers import Callers
from besiegers.lines import FAIR, Lines, Weather
from besiegers.town import Fallen, Outcome, Town, within
from cluster import Node, free_ports

ROOT = Path(__file__).resolve().parent.parent

# --- lines -----------------------------------------------------------------------------------


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)


@asynccontextmanager
async def lines(pid: int) -> AsyncIterator[tuple[Lines, int]]:
    """Lines between two nodes, of which the second echoes; `pid` is the first one's process."""
    door, idle = free_ports(2)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        nodes = [
            SimpleNamespace(port=0, process=SimpleNamespace(pid=pid)),
            SimpleNamespace(port=port, process=None),
        ]
        made = Lines(cast(Any, nodes), [idle, door], random.Random(1))
        await nursery.start(made.run)
        yield made, door
        nursery.cancel_scope.cancel()


async def said(stream: trio.SocketStream, data: bytes) -> bytes:
    await stream.send_all(data)
    with trio.fail_after(20):
        return bytes(await stream.receive_some(100))


async def test_a_line_carries_what_the_node_says_that_dialled() -> None:
    async with lines(os.getpid()) as (_, door):
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            assert await said(stream, b"hello") == b"hello"


async def test_a_stranger_comes_through_no_door() -> None:
    async with lines(1) as (_, door):
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            with trio.fail_after(20):
                assert await stream.receive_some(1) == b""


async def test_a_process_may_pass_for_a_node() -> None:
    async with lines(1) as (made, door):
        made.bodies[os.getpid()] = 0
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            assert await said(stream, b"hello") == b"hello"


async def test_what_stalls_arrives_when_it_is_over() -> None:
    async with lines(os.getpid()) as (made, door):
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            assert await said(stream, b"before") == b"before"
            made.set([(1, 0)], Weather(stalled=True))
            await stream.send_all(b"hello")
            with trio.move_on_after(0.1) as scope:
                await stream.receive_some(1)
            assert scope.cancelled_caught
            made.clear()
            with trio.fail_after(20):
                assert await stream.receive_some(100) == b"hello"


async def test_what_is_late_arrives_in_order() -> None:
    async with lines(os.getpid()) as (made, door):
        made.set(made.all(), Weather(delay_s=0.02))
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            began = trio.current_time()
            assert await said(stream, b"hello") == b"hello"
            assert trio.current_time() - began >= 0.04


async def test_one_bit_is_flipped_on_the_way() -> None:
    async with lines(os.getpid()) as (made, door):
        made.set([(0, 1)], Weather(corrupt=1.0))
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            got = await said(stream, bytes(8))
            assert len(got) == 8
            assert sorted(got) == [0] * 7 + [1]


@pytest.mark.parametrize("by_chance", [True, False])
async def test_a_connection_that_is_cut_ends(by_chance: bool) -> None:
    async with lines(os.getpid()) as (made, door):
        async with await trio.open_tcp_stream("127.0.0.1", door) as stream:
            assert await said(stream, b"hello") == b"hello"
            if by_chance:
                made.set([(0, 1)], Weather(cut=1.0))
                await stream.send_all(b"last")
            else:
                assert made.cut([(1, 0)]) == 1
            with trio.fail_after(20):
                assert await stream.receive_some(1) == b""
            assert made.cut([(0, 1)]) == 0


def test_the_lines_between_some_and_the_others_are_those_in_both_directions() -> None:
    four = Lines(cast(Any, [None] * 4), [], random.Random(1))
    assert sorted(four.between([0])) == [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]
    assert len(four.between([0, 1])) == 8
    assert Weather() == FAIR


# --- callers ---------------------------------------------------------------------------------


class Answers:
    """A client that says what it is told to say."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def put(self, key: str, value: bytes) -> Written:
        return cast(Written, self._answer("put"))

    async def get(self, key: str, *, linearizable: bool) -> Entry:
        return cast(Entry, self._answer("get"))

    def _answer(self, kind: str) -> Any:
        answer = self.answers[kind]
        if isinstance(answer, Exception):
            raise answer
        return answer


def callers() -> Callers:
    made = Callers([], 1, 0, 0.0)
    made.begin("test")
    return made


def entry(value: bytes, revision: int) -> Entry:
    return Entry("k", revision, "", 0, False, value)


async def test_only_what_was_acknowledged_is_promised() -> None:
    made = callers()
    client = cast(Any, Answers(put=Written(7, 0)))
    assert await made.put(0, client, "k", b"v", own=True)
    assert made.held == {"k": (7, b"v")}
    client.answers["put"] = ClientError("too late")
    assert not await made.put(0, client, "l", b"w", own=True)
    assert list(made.held) == ["k"]
    assert [call.returned is None for call in made.history] == [False, True]


async def test_a_liar_promises_nothing() -> None:
    made = callers()
    made.distrusted.add(0)
    client = cast(Any, Answers(put=Written(7, 1 << 60), get=entry(b"v", 7)))
    assert await made.put(0, client, "k", b"v", own=True)
    assert await made.read(0, client, "k")
    assert made.held == {}
    assert [call.returned for call in made.history] == [None]
    assert made.ahead_ms == 0


async def test_a_read_of_the_past_is_noticed() -> None:
    made = callers()
    client = cast(Any, Answers(put=Written(1, 0), get=NotFound("no such key")))
    await made.put(0, client, "k", b"old")
    client.answers["put"] = Written(2, 0)
    await made.put(0, client, "k", b"new")
    client.answers["get"] = entry(b"new", 2)
    await made.read(0, client, "k")
    assert made.anomalies() == []
    client.answers["get"] = entry(b"old", 1)
    await made.read(1, client, "k", linearizable=False)
    (found,) = made.anomalies()
    assert found.startswith("the past: ")


async def test_a_time_ahead_of_the_clock_is_noted() -> None:
    made = callers()
    await made.put(0, cast(Any, Answers(put=Written(1, 1 << 60))), "k", b"v")
    assert made.ahead_ms > 1 << 59


# --- what a siege does not forgive -----------------------------------------------------------


class Standin:
    """A node that holds what it is told to hold: key -> (revision, value)."""

    def __init__(self, name: str, held: dict[str, tuple[int, bytes]]) -> None:
        self.name, self.held = name, held

    @contextmanager
    def client(self) -> Iterator[Standin]:
        yield self

    def ls(self, prefix: str) -> list[Any]:
        return [SimpleNamespace(key=key, revision=rev) for key, (rev, _) in self.held.items()]

    def get(self, key: str) -> Any:
        return SimpleNamespace(raw=self.held[key][1])


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        ({"k": (1, b"v")}, []),
        ({}, ["n1: k at None, not 1"]),
        ({"k": (2, b"v")}, ["n1: k at 2, not 1"]),
        ({"k": (1, b"w")}, ["n1: k has another value"]),
    ],
)
def test_what_is_lost_or_changed_is_noticed(
    held: dict[str, tuple[int, bytes]], missing: list[str]
) -> None:
    town = object.__new__(Town)
    town.callers, town.chance = callers(), cast(Any, SimpleNamespace(randrange=lambda _: 0))
    town.callers.held = {"k": (1, b"v")}
    town.nodes = cast(list[Node], [Standin("n1", held)])
    assert town._missing() == missing


async def test_what_takes_too_long_has_fallen() -> None:
    with pytest.raises(Fallen, match="too slow"):
        with within(0.01, "too slow"):
            await trio.sleep_forever()


def test_a_siege_has_held_only_if_nothing_is_wrong_and_the_checker_sees() -> None:
    made, held = siege.Siege(siege.ADVERSARIES[:1], Path(), 1), []
    held.append(made.held)
    made.outcomes = [Outcome("delay", "network")]
    held.append(made.held)
    made.caught = "the past"
    held.append(made.held)
    made.outcomes[0].wrong.append("something")
    held.append(made.held)
    assert held == [False, False, True, False]
    assert "FALLEN" in siege.line(made.outcomes[0])


async def test_a_signal_ends_a_siege_in_order() -> None:
    ended = False

    async def run() -> None:
        nonlocal ended
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
        finally:
            ended = True

    with trio.fail_after(20):
        assert await siege.until_told(run) == signal.SIGTERM
    assert ended

    async def nothing() -> None:
        return

    assert await siege.until_told(nothing) is None


def test_every_adversary_has_a_name_of_its_own_and_says_what_it_does() -> None:
    names = [adversary.name for adversary in siege.ADVERSARIES]
    assert len(set(names)) == len(names)
    assert all(adversary.what for adversary in siege.ADVERSARIES)


def test_four_real_nodes_hold_against_a_quick_siege(tmp_path: Path) -> None:
    report = tmp_path / "report"
    words = [sys.executable, "scripts/siege.py", "--quick", "--json", str(report)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads(report.read_text())["outcomes"]
    assert {outcome["room"] for outcome in outcomes} == {"network", "processes", "members"}
    assert all(outcome["acknowledged"] and not outcome["lost"] for outcome in outcomes)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from aegis_edge.net.poller import Poller


@pytest.fixture
def poller() -> Iterator[Poller[str]]:
    it: Poller[str] = Poller()
    yield it
    it.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


Pair = tuple[socket.socket, socket.socket]


async def test_it_waits_until_a_socket_has_something_and_says_which(
    poller: Poller[str], pair: Pair
) -> None:
    here, there = pair
    poller.add(here.fileno(), "anna")
    assert poller.ready() == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks, "nothing has come"
        there.send(b"x")
    assert poller.ready() == ["anna"]
    assert poller.ready() == ["anna"], "it is ready until somebody has read it"
    here.recv(1)
    assert poller.ready() == []


async def test_the_end_of_a_stream_is_something(poller: Poller[str], pair: Pair) -> None:
    poller.add(pair[0].fileno(), "anna")
    pair[1].close()
    await poller.wait()
    assert poller.ready() == ["anna"]


async def test_what_was_removed_is_heard_of_no_more(poller: Poller[str], pair: Pair) -> None:
    poller.add(pair[0].fileno(), "anna")
    pair[1].send(b"x")
    poller.remove(pair[0].fileno())
    assert poller.ready() == []


async def test_a_word_from_another_thread_ends_one_wait(poller: Poller[str]) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.wait)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=poller.wake)
            thread.start()
        thread.join()
        assert poller.ready() == []
        poller.wake()
        poller.wake()
        await poller.wait()
        assert poller.ready() == []
    with trio.move_on_after(0) as scope:
        await poller.wait()
    assert scope.cancelled_caught, "two words are one"


def test_it_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Poller[str]().close()
    assert len(os.listdir("/proc/self/fd")) == before

"""Waiting for many sockets, and for a word from any thread, at the price of one.

Knows epoll within epoll: Trio waits for one descriptor, and whoever is woken asks which are ready.
A task per socket would cost each frame a task switch, a turn of the loop and an `epoll_ctl`.
Refuses to know what the descriptors are.  Follows: epoll(7), eventfd(2); level-triggered.
"""

from __future__ import annotations

import os
import select
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Poller(Generic[T]):
    """A set of descriptors, each with what it stands for; one task waits and asks."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._known: dict[int, T] = {}

    def add(self, descriptor: int, it: T) -> None:
        """Watch `descriptor` for something to read, or its end; remove it before it is closed."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._known[descriptor] = it

    def remove(self, descriptor: int) -> None:
        """Watch it no more."""
        del self._known[descriptor]
        self._epoll.unregister(descriptor)

    def wake(self) -> None:
        """End the `wait` that is under way, or the next one; from any thread."""
        os.eventfd_write(self._waker, 1)

    async def wait(self) -> None:
        """Return when something is ready, or `wake` was called since the last `ready`."""
        await trio.lowlevel.wait_readable(self._epoll.fileno())

    def ready(self) -> list[T]:
        """What is ready now; never waits."""
        found = []
        for descriptor, _ in self._epoll.poll(0):
            if descriptor == self._waker:
                os.eventfd_read(self._waker)
            else:
                found.append(self._known[descriptor])
        return found

    def close(self) -> None:
        """Let go of all descriptors of its own."""
        self._epoll.close()
        os.close(self._waker)

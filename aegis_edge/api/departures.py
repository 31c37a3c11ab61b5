"""Who has hung up: one descriptor tells of all connections, read or not, which clients are gone.

Knows epoll(7): EPOLLHUP comes unasked, once both directions are closed.  A client that only says
that it has no more to ask is still there.  Refuses to know what its connection was about.
Without it a connection that is not read, because it waits for others, would outlive its client.
"""

from __future__ import annotations

import select

import trio


class Departures:
    """Connections, each with the scope that ends when its client is gone."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._scopes: dict[int, trio.CancelScope] = {}

    def add(self, descriptor: int, scope: trio.CancelScope) -> None:
        """Cancel `scope` once the client is gone; `remove` it before the descriptor is closed."""
        self._epoll.register(descriptor, 0)
        self._scopes[descriptor] = scope

    def remove(self, descriptor: int) -> None:
        """Look at it no more; it may have been removed already."""
        if self._scopes.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, _ in self._epoll.poll(0):
                self._scopes[descriptor].cancel()
                self.remove(descriptor)

    def close(self) -> None:
        """Let go of its own descriptor, once nothing is looked at any more."""
        self._epoll.close()

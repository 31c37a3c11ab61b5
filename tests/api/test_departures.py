"""Who is gone, and who only has no more to say: on sockets that nobody reads."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from aegis_edge.api.departures import Departures


@pytest.mark.parametrize("unread", [b"", b"not read by anybody"])
async def test_who_is_gone_is_noticed_and_nobody_else(unread: bytes) -> None:
    departures = Departures()
    scope = trio.CancelScope()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        departures.add(ours.fileno(), scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(departures.run)
            theirs.send(unread)
            theirs.shutdown(socket.SHUT_WR)
            await trio.testing.wait_all_tasks_blocked()
            assert not scope.cancel_called
            theirs.close()
            await trio.testing.wait_all_tasks_blocked()
            assert scope.cancel_called
            departures.remove(ours.fileno())  # whoever does so later has nothing left to do
            nursery.cancel_scope.cancel()
    departures.close()


async def test_who_is_looked_at_no_more_is_left_alone() -> None:
    departures = Departures()
    scope = trio.CancelScope()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        departures.add(ours.fileno(), scope)
        departures.remove(ours.fileno())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(departures.run)
            theirs.close()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert not scope.cancel_called
    departures.close()

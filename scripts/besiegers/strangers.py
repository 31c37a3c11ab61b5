"""Adversaries without a key: they connect to every node, and never prove who they are.

Knows TCP and how a WebSocket begins (RFC 6455).  They call from the address that the members have:
the worst place, for who calls from one place is counted together.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from besiegers.lines import BROKEN
from besiegers.town import NODES, Room, Town

room = Room("strangers")

SIEGE_S = 4.0
#: Connections at once, to each node.
CALLERS = 60
LINKED_S = 40.0

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Doing = Callable[[trio.SocketStream, random.Random], Awaitable[None]]


async def _crowd(town: Town, doing: Doing) -> str:
    """Callers of each node, who call again and again; a node that restarts must be let in."""
    made = 0

    async def caller(port: int, chance: random.Random) -> None:
        nonlocal made
        while True:
            with suppress(OSError, *BROKEN), trio.move_on_after(10):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                made += 1
                async with stream:
                    await doing(stream, chance)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for index, node in enumerate(town.nodes):
            for number in range(CALLERS):
                chance = random.Random(f"{town.seed} stranger {index}.{number}")
                nursery.start_soon(caller, node.port, chance)
        await trio.sleep(SIEGE_S / 2)
        backup = await town.backup()
        await town.restart(backup)
        began = trio.current_time()

        async def linked() -> bool:
            reachable = (await town.status(backup)).get("reachable", ())
            return len(reachable) == NODES - 1

        await town.until(linked, "a member is let in through a crowd of strangers", LINKED_S)
        linked_s = trio.current_time() - began
        await trio.sleep(SIEGE_S / 2)
        nursery.cancel_scope.cancel()
    return f"{made} calls; a member that restarted was linked after {linked_s:.1f} s"


@room("slow loris")
async def loris(town: Town) -> str:
    """Handshakes that take for ever: a byte now and then, on as many connections as it gets."""

    async def doing(stream: trio.SocketStream, chance: random.Random) -> None:
        for byte in REQUEST:
            await stream.send_all(bytes((byte,)))
            await trio.sleep(0.3)

    return await _crowd(town, doing)


@room("connection flood")
async def flood(town: Town) -> str:
    """Connections that are made, upgraded to a WebSocket, and left."""

    async def doing(stream: trio.SocketStream, chance: random.Random) -> None:
        await stream.send_all(REQUEST)
        await stream.receive_some(1024)

    return await _crowd(town, doing)


@room("garbage")
async def garbage(town: Town) -> str:
    """Random bytes in the place of a request, and in the place of a handshake."""

    async def doing(stream: trio.SocketStream, chance: random.Random) -> None:
        if chance.random() < 0.5:
            await stream.send_all(REQUEST)
            await stream.receive_some(1024)
        await stream.send_all(chance.randbytes(chance.choice((1, 100, 5_000, 70_000))))
        await stream.receive_some(1024)

    return await _crowd(town, doing)


@room("silent handshakes")
async def silent(town: Town) -> str:
    """WebSockets on which nothing is ever said."""

    async def doing(stream: trio.SocketStream, chance: random.Random) -> None:
        await stream.send_all(REQUEST)
        while await stream.receive_some(1024):
            pass

    return await _crowd(town, doing)

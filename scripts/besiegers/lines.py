"""What lies between the nodes: each is dialled at a door, and each pair has a line of two ways.

Knows TCP, and which process dialled: the kernel's tables say whose socket it is.  So a line breaks
for one pair, or in one direction, though all dial one door.  Refuses to know what travels.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import trio

from cluster import Node

#: On its way in one direction at most, where a line is slow.
CHUNKS_MAX, CHUNK_BYTES = 1024, 16384
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True)
class Weather:
    """What one direction does to its bytes; `cut` and `corrupt` are chances, for each chunk.

    `stalled`: nothing arrives, nothing is refused, and what waits arrives once it is over: what
    TCP makes of a network that drops everything.
    """

    delay_s: float = 0.0
    cut: float = 0.0
    corrupt: float = 0.0
    stalled: bool = False


FAIR = Weather()


class Lines:
    """The doors of `nodes`, at `ports` of loopback; `weather` of each ordered pair of indexes."""

    def __init__(self, nodes: Sequence[Node], ports: Sequence[int], chance: random.Random) -> None:
        self._nodes, self._ports, self._chance = nodes, ports, chance
        self._weather: dict[tuple[int, int], Weather] = {}
        self._changed = trio.Event()
        self._standing: dict[trio.CancelScope, tuple[int, int]] = {}
        #: Processes that pass for a node, besides its own: process id to index.
        self.bodies: dict[int, int] = {}

    # --- what the besieger does -----------------------------------------------------------------

    def set(self, ways: Iterable[tuple[int, int]], weather: Weather) -> None:
        """From now on, also for what is connected already."""
        for way in ways:
            self._weather[way] = weather
        self._changed.set()
        self._changed = trio.Event()

    def clear(self) -> None:
        self.set(list(self._weather), FAIR)

    def all(self) -> Iterator[tuple[int, int]]:
        return permutations(range(len(self._nodes)), 2)

    def between(self, some: Iterable[int]) -> list[tuple[int, int]]:
        """Both ways of every line between `some` and the others."""
        inside = set(some)
        return [way for way in self.all() if (way[0] in inside) != (way[1] in inside)]

    def cut(self, ways: Iterable[tuple[int, int]]) -> int:
        """Ends the connections that stand on these lines; how many."""
        wanted = {frozenset(way) for way in ways}
        ended = [scope for scope, way in self._standing.items() if frozenset(way) in wanted]
        for scope in ended:
            scope.cancel()
        return len(ended)

    # --- the doors ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for index, port in enumerate(self._ports):

                async def handle(stream: trio.SocketStream, there: int = index) -> None:
                    await self._carry(stream, there)

                listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
                nursery.start_soon(trio.serve_listeners, handle, listeners)
            task_status.started()

    async def _carry(self, near: trio.SocketStream, there: int) -> None:
        """One connection to a node's door: whichever side ends or breaks ends both."""
        here = self._caller(near, there)
        if here is None:  # a stranger, or gone already: nobody else comes through a door
            await trio.aclose_forcefully(near)
            return
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._nodes[there].port)
        except OSError:
            await trio.aclose_forcefully(near)
            return
        async with near, far:
            with trio.CancelScope() as scope:
                self._standing[scope] = (here, there)
                try:
                    async with trio.open_nursery() as nursery:
                        for source, sink, way in (
                            (near, far, (here, there)),
                            (far, near, (there, here)),
                        ):
                            send, receive = trio.open_memory_channel[tuple[float, bytes]](
                                CHUNKS_MAX
                            )
                            nursery.start_soon(self._take, source, send, way, scope)
                            nursery.start_soon(self._give, receive, sink, way, scope)
                finally:
                    del self._standing[scope]

    async def _take(
        self,
        source: trio.SocketStream,
        send: trio.MemorySendChannel[tuple[float, bytes]],
        way: tuple[int, int],
        connection: trio.CancelScope,
    ) -> None:
        async with send:
            try:
                while chunk := await source.receive_some(CHUNK_BYTES):
                    weather = self._weather.get(way, FAIR)
                    if self._chance.random() < weather.cut:
                        connection.cancel()
                    if self._chance.random() < weather.corrupt:
                        at = self._chance.randrange(len(chunk))
                        chunk = chunk[:at] + bytes((chunk[at] ^ 1,)) + chunk[at + 1 :]
                    await send.send((trio.current_time() + weather.delay_s, chunk))
            except BROKEN:
                pass  # what it sent before still arrives

    async def _give(
        self,
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.SocketStream,
        way: tuple[int, int],
        connection: trio.CancelScope,
    ) -> None:
        try:
            async for due, chunk in receive:
                await trio.sleep_until(due)
                while self._weather.get(way, FAIR).stalled:
                    await self._changed.wait()
                await sink.send_all(chunk)
        except BROKEN:
            pass  # nobody is there to hear the rest
        connection.cancel()

    def _caller(self, stream: trio.SocketStream, there: int) -> int | None:
        """Whose process holds the other end."""
        try:
            inode = _inode(stream.socket.getpeername()[1], self._ports[there])
        except OSError:
            return None
        of = {n.process.pid: i for i, n in enumerate(self._nodes) if n.process is not None}
        for process, index in (of | self.bodies).items():
            if inode and _holds(process, inode):
                return index
        return None


def _inode(local_port: int, remote_port: int) -> str:
    """The socket of loopback with these ports, as proc(5) numbers it; empty if there is none."""
    ends = [f"0100007F:{port:04X}" for port in (local_port, remote_port)]
    with open("/proc/net/tcp", encoding="ascii") as table:
        for row in table:
            fields = row.split()
            if fields[1:3] == ends:
                return fields[9]
    return ""


def _holds(process: int, inode: str) -> bool:
    folder, wanted = f"/proc/{process}/fd", f"socket:[{inode}]"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") == wanted:
                return True
        except OSError:
            continue
    return False

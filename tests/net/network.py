"""Nodes for the tests of links, and a network in memory: the second transport of the house.

It has the interface of `aegis_edge.net.channel.Transport`, and a hand on every wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from aegis_edge.crypto import sodium
from aegis_edge.net.channel import Goodbye, Handler, LinkError, Transport
from aegis_edge.net.links import Links, Timing
from aegis_edge.peers.book import Book
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Verified

CLUSTER = b"c" * 32
RECORD_EXPIRES_S = 2_000_000_000


class Wire:
    """One direction of a channel in memory; `open` goes false when somebody cuts it."""

    def __init__(self) -> None:
        self.into, self.out = trio.open_memory_channel[bytes](1000)
        self.goodbye: Goodbye | None = None
        self.silent = False
        self.frames = 0


class MemoryChannel:
    """One end of two wires."""

    def __init__(self, network: MemoryNetwork, remote: str, out: Wire, into: Wire) -> None:
        self.remote = remote
        self.rtt_ms: float | None = None
        self.is_proven = False
        self.closed_with: Goodbye | None = None
        self._network = network
        self._out = out
        self._into = into
        self._kept: list[bytes] = []

    def offer(self, frames: Sequence[bytes]) -> bool:
        self._kept += frames
        return False

    async def send(self, frames: Sequence[bytes]) -> None:
        if not self._kept and not frames:
            return
        await self._network.delay()
        frames, self._kept = [*self._kept, *frames], []
        for frame in frames:
            self._out.frames += 1
            if not self._out.silent:
                try:
                    await self._out.into.send(frame)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise LinkError("the wire is cut") from None

    async def receive(self) -> bytes:
        try:
            return await self._into.out.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            goodbye = self._into.goodbye
            raise LinkError("the wire is cut" if goodbye is None else goodbye.words) from None

    def proven(self) -> None:
        self.is_proven = True

    async def aclose(self, goodbye: Goodbye = Goodbye.NORMAL) -> None:
        self.closed_with = goodbye
        self._out.goodbye = goodbye
        self._out.into.close()
        self._into.out.close()
        if self in self._network.channels:
            self._network.channels.remove(self)


class MemoryNetwork:
    """Addresses are texts such as ``memory:one``; `delays()` gives seconds, per dial and batch."""

    def __init__(self, delays: Callable[[], float] = lambda: 0.0) -> None:
        self.channels: list[MemoryChannel] = []
        self.dials: list[tuple[float, str]] = []
        self._delays = delays
        self._handlers: dict[str, tuple[trio.Nursery, Handler]] = {}

    async def delay(self) -> None:
        seconds = self._delays()
        if seconds:
            await trio.sleep(seconds)

    async def dial(self, address: str) -> MemoryChannel:
        self.dials.append((trio.current_time(), address))
        await self.delay()
        if address not in self._handlers:
            raise LinkError("nobody listens there")
        nursery, handler = self._handlers[address]
        there, back = Wire(), Wire()
        ours = MemoryChannel(self, address, there, back)
        theirs = MemoryChannel(self, "memory:caller", back, there)
        self.channels += [ours, theirs]
        nursery.start_soon(handler, theirs)
        return ours

    async def serve(
        self, handler: Handler, address: str, *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:
            self._handlers[address] = (nursery, handler)
            task_status.started((address,))
            try:
                await trio.sleep_forever()
            finally:
                self._handlers.pop(address, None)


class Member:
    """The keys and the record of one node."""

    def __init__(self, seed: int, addresses: tuple[str, ...], version: int = 1) -> None:
        self.seed = seed
        self.signer = Signer(bytes([seed]) * 32, b"")
        self.key = self.signer.public
        self.noise_private = bytes([255 - seed]) * 32
        self.record = self.says(addresses, version)

    def says(self, addresses: tuple[str, ...], version: int) -> Verified[NodeRecord]:
        noise_key = sodium.x25519_public(self.noise_private)
        name = f"node{self.seed}"
        return self.signer.sign(NodeRecord(version, noise_key, addresses, RECORD_EXPIRES_S, name))

    def links(
        self,
        known: Sequence[Verified[NodeRecord]],
        transports: dict[str, Transport],
        *,
        timing: Timing | None = None,
        cluster_id: bytes = CLUSTER,
        jitter: Callable[[], float] = lambda: 0.5,
    ) -> Links:
        return Links(
            book=Book(self.key, known, transports),
            record_raw=self.record.raw,
            noise_private=self.noise_private,
            cluster_id=cluster_id,
            transports=transports,
            timing=timing,
            jitter=jitter,
        )


@asynccontextmanager
async def running(*several: tuple[Links, Sequence[str]]) -> AsyncIterator[list[tuple[str, ...]]]:
    """Run these links on these addresses; gives the addresses on which each really listens."""
    async with trio.open_nursery() as nursery:
        yield [await nursery.start(links.run, listen) for links, listen in several]
        nursery.cancel_scope.cancel()


async def until(links: Links, kind: type, *, timeout_s: float = 30) -> Any:
    """The next event of this kind; others are passed over."""
    with trio.fail_after(timeout_s):
        while True:
            event = await links.events.receive()
            if type(event) is kind:
                return event


def cluster(*seeds: int) -> list[Member]:
    """Members with addresses in memory, in the order of their keys."""
    made = [Member(seed, (f"memory:{seed}",)) for seed in seeds]
    return sorted(made, key=lambda member: member.key)

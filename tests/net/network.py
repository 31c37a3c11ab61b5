"""Nodes for the tests of links, and a network in memory: the second transport of the house.

A descriptor of the kernel's tells when a channel has something, so the same poller serves both.
It has the interface of `aegis_edge.net.channel.Transport`, and a hand on every wire.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import trio

from aegis_edge.crypto import sodium
from aegis_edge.net.channel import Goodbye, Handler, LinkError, Transport
from aegis_edge.net.links import Links, Schedule, Timing
from aegis_edge.net.poller import Poller
from aegis_edge.peers.address import parse
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
        self.seen: list[tuple[float, int]] = []
        #: Readable for whoever listens, once something was sent or the wire was cut.
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)

    def ring(self) -> None:
        if self.bell >= 0:
            os.eventfd_write(self.bell, 1)

    def deafen(self) -> None:
        """Nobody listens any more."""
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1

    __del__ = deafen


class MemoryChannel:
    """One end of two wires."""

    def __init__(self, network: MemoryNetwork, remote: str, out: Wire, into: Wire) -> None:
        self.remote = remote
        self.rtt_ms: float | None = None
        self.is_greeted = self.is_proven = False
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
            self._out.seen.append((trio.current_time(), len(frame)))
            if not self._out.silent:
                try:
                    await self._out.into.send(frame)
                    self._out.ring()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise LinkError("the wire is cut") from None

    async def receive(self) -> bytes:
        try:
            return await self._into.out.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise self._cut() from None

    def take(self) -> bytes | None:
        try:
            return self._into.out.receive_nowait()
        except trio.WouldBlock:
            with suppress(BlockingIOError):
                os.eventfd_read(self._into.bell)
            return None
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise self._cut() from None

    @property
    def has_more(self) -> bool:
        return self._into.out.statistics().current_buffer_used > 0

    def fileno(self) -> int:
        return self._into.bell

    def _cut(self) -> LinkError:
        goodbye = self._into.goodbye
        return LinkError("the wire is cut" if goodbye is None else goodbye.words)

    def greeted(self) -> None:
        self.is_greeted = True

    def proven(self) -> None:
        assert self.is_greeted
        self.is_proven = True

    async def aclose(self, goodbye: Goodbye = Goodbye.NORMAL) -> None:
        self.closed_with = goodbye
        self.cut(goodbye)
        self._into.deafen()

    def cut(self, goodbye: Goodbye = Goodbye.NORMAL) -> None:
        """End both wires, while this end is still in use."""
        self._out.goodbye = goodbye
        self._out.into.close()
        self._into.out.close()
        self._out.ring()
        self._into.ring()
        if self in self._network.channels:
            self._network.channels.remove(self)


class MemoryNetwork:
    """Addresses are texts such as ``tcp:board1:1``; `delays()`: seconds, per dial and batch."""

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
        theirs = MemoryChannel(self, "tcp:caller:1", back, there)
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
        schedule: Schedule | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        cluster_id: bytes = CLUSTER,
        jitter: Callable[[], float] = lambda: 0.5,
    ) -> Links:
        return Links(
            poller=Poller(),
            book=Book(self.key, known, transports),
            record_raw=self.record.raw,
            noise_private=self.noise_private,
            cluster_id=cluster_id,
            transports=transports,
            timing=timing,
            schedule=schedule,
            entropy=entropy,
            jitter=jitter,
        )


@asynccontextmanager
async def running(*several: tuple[Links, Sequence[str]]) -> AsyncIterator[list[tuple[str, ...]]]:
    """Run these links on these addresses; gives the addresses on which each really listens."""
    async with trio.open_nursery() as nursery:
        for links, _ in several:
            nursery.start_soon(Taker.of(links).take)
        yield [await nursery.start(links.run, listen) for links, listen in several]
        nursery.cancel_scope.cancel()
    for links, _ in several:
        links._poller.close()


_takers: WeakKeyDictionary[Links, Taker] = WeakKeyDictionary()


class Taker:
    """Plays the owner of the replica: takes what links bring, as soon as they do."""

    def __init__(self, links: Links) -> None:
        self._poller = links._poller
        self._receive = links.receive
        self.resting = False
        self.into, self.events = trio.open_memory_channel[Any](math.inf)

    @classmethod
    def of(cls, links: Links) -> Taker:
        return _takers.setdefault(links, cls(links))

    async def take(self) -> None:
        while True:
            await self._poller.wait()
            if self.resting:
                await trio.sleep(0.1)
                continue
            for event in self._receive():
                self.into.send_nowait(event)


async def next_event(links: Links) -> Any:
    """The next event of any kind."""
    return await Taker.of(links).events.receive()


async def until(links: Links, kind: type, *, timeout_s: float = 30) -> Any:
    """The next event of this kind; others are passed over."""
    with trio.fail_after(timeout_s):
        while type(event := await next_event(links)) is not kind:
            pass
        return event


def send(links: Links, peer: bytes, raw: bytes) -> None:
    """One message, at once."""
    links.post(peer, raw)
    links.flush()


def place(address: str) -> tuple[str, int]:
    """Host and port of an address."""
    _, host, port = parse(address)
    return host, port


def cluster(*seeds: int) -> list[Member]:
    """Members with addresses in a network in memory, in the order of their keys."""
    made = [Member(seed, (f"tcp:board{seed}:1",)) for seed in seeds]
    return sorted(made, key=lambda member: member.key)

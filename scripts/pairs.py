"""Pairs of nodes over real onion services, each idle or under load in turns that only it knows.

    python pairs.py < orders

Knows how nodes are put together that have links and nothing above them: one hub, and boards that
dial it, each through a tor of its own.  Refuses to know who watches.

The first line of standard input says, in JSON, which tors (`Place`) and which level; when all
boards are linked, `ready` comes back.  Each further line is a `Plan`; when every board has been
through its phases, the windows come back, a line each, and then what each link carried.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import trio

from aegis_edge.crypto import sodium
from aegis_edge.net import clock
from aegis_edge.net.links import Arrived, LinkClosed, LinkOpened, Links, Schedule, Timing
from aegis_edge.net.poller import Poller
from aegis_edge.net.tor import child, levels, member
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.gateway import Gateway, Progress, Tor
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.transport import Onions
from aegis_edge.peers import onion
from aegis_edge.peers.address import ONION, Address
from aegis_edge.peers.book import Book
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Verified

CLUSTER, PORT, EXPIRES_S = bytes(32), 80, 1 << 32
TIMING = Timing(handshake_s=90.0, keepalive_ticks=20_000, silence_ticks=120_000)
#: Between what a board begins to do and its first window: by then, what was before is over.
SETTLE_S = (0.5, 2.0)
POLL_S = 0.1
REACHABLE = Progress.REACHABLE


class Place(NamedTuple):
    """The sockets of one tor, and the number of the line on which it is watched."""

    control: str
    socks: str
    line: int = -1


class Plan(NamedTuple):
    """So many phases, half of them under load; in each, so many windows without a pause."""

    phases: int
    windows: int
    window_s: float


class Window(NamedTuple):
    """What a link did from one moment (the system's monotonic clock, in seconds) to another."""

    line: int
    is_busy: bool
    begins_s: float
    ends_s: float


@dataclass(frozen=True)
class Keys:
    """A node's own, and its record with the address of its service."""

    seed: bytes
    noise_private: bytes
    signed: Verified[NodeRecord]

    @classmethod
    def make(cls, name: str) -> Keys:
        seed, noise_private = os.urandom(32), os.urandom(32)
        noise_public = sodium.x25519_public(noise_private)
        signer = Signer(seed, b"")
        proof = onion.proof(onion.service_seed(seed, 0), signer.public)
        record = NodeRecord(1, noise_public, (address_of(seed),), EXPIRES_S, name, (proof,))
        return cls(seed, noise_private, signer.sign(record))


def address_of(seed: bytes) -> str:
    return str(Address(ONION, onion.service_address(onion.service_seed(seed, 0)), PORT))


class Node:
    """A node's links and its way through Tor; `heard` gets whatever they bring."""

    def __init__(
        self,
        keys: Keys,
        others: Sequence[Verified[NodeRecord]],
        tor: Tor,
        level: SecurityLevel,
        schedule: Schedule | None,
        target: str,
        heard: Callable[[Any], None],
    ) -> None:
        own = member.Keys(keys.signed.signer, keys.seed, keys.noise_private)
        records = (keys.signed, *others)
        keyring = member.Keyring(own, CLUSTER, level, records)
        services = member.own_services(own, level, PORT, target, keyring.callers)
        self.gateway = Gateway(tor, level, services, keyring.clients)
        self._poller: Poller[Any] = Poller()
        self._heard = heard
        self._address = address_of(keys.seed)
        self.links = Links(
            poller=self._poller,
            book=Book(own.public, others, (ONION,), clock.now_ticks()),
            record_raw=keys.signed.raw,
            noise_private=keys.noise_private,
            cluster_id=CLUSTER,
            transports={ONION: Onions(self.gateway, Path(target), keyring=keyring)},
            timing=TIMING,
            schedule=schedule,
        )

    async def run(self, others: Sequence[Node]) -> None:
        """Until cancelled; does not dial before these others can be reached: it would fail."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.gateway.run)
            nursery.start_soon(self._take)
            while any(node.gateway.standing.progress is not REACHABLE for node in others):
                await trio.sleep(POLL_S)
            await self.links.run([self._address])

    async def _take(self) -> None:
        while True:
            await self._poller.wait()
            for event in self.links.receive():
                self._heard(event)

    def say(self, peer: bytes, raw: bytes) -> None:
        self.links.post(peer, raw)
        self.links.flush()


# --- what is said: a number, how long the answer is to be, and nothing ---------------------------

#: Each begins like an array, as all messages of members do: `net.echo` has the other beginnings.
_ARRAY = b"\x82"
_HEAD = slice(1, 5)
_SIZE = slice(5, 9)
_HEAD_BYTES = 9


def request(number: int, size: int, answer_size: int) -> bytes:
    head = _ARRAY + number.to_bytes(4, "big") + answer_size.to_bytes(4, "big")
    return head.ljust(max(size, _HEAD_BYTES), b"\1")


def answer(raw: bytes) -> bytes:
    return raw[: _HEAD.stop].ljust(int.from_bytes(raw[_SIZE], "big"), b"\2")


class Hub:
    """Answers; it is where the boards' messages lead, and says nothing of its own accord."""

    def __init__(self) -> None:
        self.keys = Keys.make("hub")
        self.node: Node

    def heard(self, event: Any) -> None:
        if type(event) is Arrived:
            self.node.say(event.peer, answer(event.raw))


class Board:
    """One end of a watched link: asks the hub, or keeps silent."""

    def __init__(self, line: int, hub: bytes) -> None:
        self.keys = Keys.make(f"board{line}")
        self.node: Node
        self.linked = trio.Event()
        self._line, self._hub = line, hub
        self._numbers = itertools.count()
        self._asked: dict[int, trio.Event] = {}
        self._phase = trio.CancelScope()

    def heard(self, event: Any) -> None:
        match event:
            case Arrived(raw=raw):
                asked = self._asked.pop(int.from_bytes(raw[_HEAD], "big"), None)
                if asked is not None:
                    asked.set()
            case LinkOpened():
                self.linked.set()
            case LinkClosed():
                self.linked = trio.Event()
                self._phase.cancel()

    @property
    def frames_sent(self) -> int:
        (hub,) = self.node.links.statistics()
        return hub.traffic.frames_out

    async def go_through(self, plan: Plan) -> list[Window]:
        """As often idle as under load, in an order of chance; a phase that breaks begins anew."""
        deck = [False, True] * (plan.phases // 2)
        random.shuffle(deck)
        windows: list[Window] = []
        await trio.sleep(random.uniform(0, plan.window_s))
        while deck:
            await self.linked.wait()
            self._asked.clear()
            with trio.CancelScope() as self._phase:
                windows += await self._live(deck[-1], plan)
                deck.pop()
        return windows

    async def _live(self, is_busy: bool, plan: Plan) -> list[Window]:
        """One phase.  Load ends with an answer to everything, so that nothing of it is left."""
        end = trio.Event()
        async with trio.open_nursery() as nursery:
            if is_busy:
                nursery.start_soon(random.choice((self._puts, self._bursts, self._bulk)), end)
            await trio.sleep(random.uniform(*SETTLE_S))
            begins = time.monotonic()
            await trio.sleep(plan.windows * plan.window_s)
            end.set()
        steps = [begins + number * plan.window_s for number in range(plan.windows + 1)]
        return [Window(self._line, is_busy, *both) for both in itertools.pairwise(steps)]

    async def _ask(self, size: int, answer_size: int) -> None:
        number = next(self._numbers)
        self._asked[number] = answered = trio.Event()
        self.node.say(self._hub, request(number, size, answer_size))
        await answered.wait()

    async def _puts(self, end: trio.Event) -> None:
        """A few callers, each of whom waits for an answer before it goes on."""

        async def caller() -> None:
            while not end.is_set():
                await self._ask(random.randint(100, 900), random.randint(100, 900))
                await trio.sleep(random.expovariate(1 / 0.1))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(caller)

    async def _bursts(self, end: trio.Event) -> None:
        """Many small messages at once, and when all are answered, again."""
        while not end.is_set():
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(self._ask, random.randint(8, 250), random.randint(8, 250))
            await trio.sleep(random.expovariate(1 / 0.3))

    async def _bulk(self, end: trio.Event) -> None:
        """Messages that take many cells, one way or the other."""
        while not end.is_set():
            sizes = [random.randint(1500, 5000), 60]
            random.shuffle(sizes)
            await self._ask(*sizes)
            await trio.sleep(random.expovariate(1 / 0.1))


async def main() -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        orders = _lines(stream)
        said = json.loads(await anext(orders))
        level = SecurityLevel(said["level"])
        interval_s = levels.TABLE[level].shape.mean_interval_s
        schedule = None if interval_s is None else Schedule(interval_s)
        modules = await child.modules()
        hub = Hub()
        places = [Place(*place) for place in said["boards"]]
        boards = [Board(place.line, hub.keys.signed.signer) for place in places]

        def node(it: Hub | Board, others: Sequence[Keys], place: Place, number: int) -> Node:
            control, socks = map(Endpoint.parse, (place.control, place.socks))
            target = Path(said["folder"], str(number))
            tor = Tor(control, socks, modules=modules, vanguards=target.with_suffix(".vanguards"))
            records = [each.signed for each in others]
            return Node(it.keys, records, tor, level, schedule, str(target), it.heard)

        hub.node = node(hub, [board.keys for board in boards], Place(*said["hub"]), 0)
        for number, (board, place) in enumerate(zip(boards, places, strict=True), 1):
            board.node = node(board, [hub.keys], place, number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.node.run, [])
            for board in boards:
                nursery.start_soon(board.node.run, [hub.node])
            for board in boards:
                await board.linked.wait()
            print("ready", flush=True)
            async for order in orders:
                await _perform(boards, Plan(*json.loads(order)))
            nursery.cancel_scope.cancel()


async def _perform(boards: Sequence[Board], plan: Plan) -> None:
    """All boards go through the plan, each by itself; then it is told what was when."""
    windows: list[Window] = []
    frames: list[tuple[float, int]] = []

    async def one(board: Board) -> None:
        began, sent = time.monotonic(), board.frames_sent
        windows.extend(await board.go_through(plan))
        frames.append((time.monotonic() - began, board.frames_sent - sent))

    async with trio.open_nursery() as nursery:
        for board in boards:
            nursery.start_soon(one, board)
    print(json.dumps({"windows": windows, "frames": frames}), flush=True)


async def _lines(stream: trio.abc.ReceiveStream) -> Any:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


if __name__ == "__main__":
    trio.run(main)

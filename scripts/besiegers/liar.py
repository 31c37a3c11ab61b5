"""A hostile member: a real node with a member's key, whose words are bent on their way out.

    python -m besiegers.liar VICE ... [--seed N] [--peer INDEX]

It takes the place of `aegis-edge run`, is honest until SIGUSR1, and has the simulator's vices
(`tests.sim.byzantine`) and those of `besiegers.vices`.  They bend messages, and know a world: here
it is made of the node's own links, clock and keys.  Refuses to know any other node's keys.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import signal
import sys
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import trio

from aegis_edge import config, home, node
from aegis_edge.disk import keyfile
from aegis_edge.net import clock
from aegis_edge.net.links import Arrived, Event, Links
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.replication import Replication
from aegis_edge.replication.errors import ReplicationError
from aegis_edge.wire import messages
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from besiegers.vices import VICES
from tests.sim import byzantine, plan
from tests.sim.plan import Fault

FOR_EVER = 1 << 60


class BentLinks(Links):
    """Links that show all messages to a liar, once there is one; it says which go on."""

    world: ClassVar[World | None] = None

    def post(self, peer: bytes, raw: bytes) -> None:
        if self.world is None:
            super().post(peer, raw)
        else:
            self.world.links = self
            self.world.body.transmit(self.world.index_of[peer], raw)

    def receive(self, but: Container[bytes] = ()) -> Sequence[Event]:
        events, world = super().receive(but), self.world
        if world is None:
            return events
        heard: list[Event] = []
        for event in events:
            if isinstance(event, Arrived):
                world.coalition.members[world.body.index].hears(
                    world.index_of[event.peer], event.raw
                )
                heard += world.body.taken()
            else:
                heard.append(event)
        return heard

    def say(self, peer: bytes, raw: bytes) -> None:
        """Past the liar: what it says of its own accord."""
        Links.post(self, peer, raw)

    def garble(self, peer: bytes, raw: bytes) -> None:
        """A frame that no session sealed."""
        link = self._open.get(peer)
        if link is not None and not link.busy and link.failure is None:
            link.channel.offer((raw,))


class Body:
    """The node as its vices see it."""

    alive = True

    def __init__(self, world: World, index: int, signer: Signer, replication: Replication) -> None:
        self._world, self._replication = world, replication
        self._arrived: list[Arrived] = []
        self.index, self.key, self.signer = index, signer.public, signer
        self.replica: Any = replication._core
        self.disk = SimpleNamespace(incarnation=1)

    def transmit(self, target: int, raw: bytes) -> None:
        """A liar puts its own in the place of this."""
        self._world.network.send(self.index, target, raw)

    def arrived(self, peer: int, raw: bytes) -> None:
        self._arrived.append(Arrived(self._world.keys[peer], raw))

    def taken(self) -> list[Arrived]:
        taken, self._arrived = self._arrived, []
        return taken

    def clock_ms(self) -> int:
        return self._replication._wall_ms()

    def call(self, operation: bytes, done: Callable[[Any], None]) -> None:
        try:
            self._replication.enqueue(operation, done)
        except ReplicationError:
            pass  # nobody waits for what a liar asks for


class World:
    """What the simulator's vices need to know of theirs, of the real one: see `tests.sim.world`."""

    def __init__(
        self, own: config.Config, replication: Replication, options: argparse.Namespace
    ) -> None:
        genesis, keys = home.read_genesis(own), keyfile.read(own.key_file)
        signer = Signer(keys.seed, genesis.cluster_id)
        self.keys = genesis.members
        self.index_of = {key: index for index, key in enumerate(self.keys)}
        count = len(self.keys)
        self.configuration = Configuration(0, self.keys, quorum.faults(count))
        # Of the plan only what is common to a cluster is meant: no weather, no faults, no callers.
        self.plan = replace(
            plan.make(options.seed, (count,)),
            timeout_ticks=own.pbft_timeout_ticks,
            checkpoint_interval=genesis.parameters.checkpoint_interval,
            window=genesis.parameters.window,
            bytes_a_tick=0,
        )
        opener = Opener(genesis.cluster_id, members=frozenset(self.keys))
        self.reader = SimpleNamespace(read=lambda raw: _read(raw, opener))
        self.coverage: Counter[tuple[str, str]] = Counter()
        self.network = self
        self.healed = False
        self.links: BentLinks | None = None
        self._replication = replication
        self._begun: int | None = None
        self._due: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._serial = itertools.count()
        self._sooner = trio.Event()
        self.body = Body(self, self.index_of[signer.public], signer, replication)
        self.coalition = byzantine.Coalition(self)  # type: ignore[arg-type]
        at = self.body.index
        self.coalition.corrupt(
            self.body,  # type: ignore[arg-type]
            [
                Fault(number, vice, 0, FOR_EVER, at, options.peer, options.seed * 0x5DEECE66D)
                for number, vice in enumerate(options.vices)
            ],
        )

    @property
    def now(self) -> int:
        """Ticks since the first lie; below 0 before it."""
        return -1 if self._begun is None else clock.now_ticks() - self._begun

    def at(self, tick: int, do: Callable[[Any], None], what: Any) -> None:
        heapq.heappush(self._due, (tick, next(self._serial), do, what))
        self._sooner.set()

    def send(self, _: int, target: int, raw: bytes, later: int = 0) -> None:
        """As the simulator's network: to a member, so many ticks later than usual."""
        if later:
            self.at(self.now + later, lambda due: self.send(*due), (0, target, raw))
        elif self.links is not None:
            self.links.say(self.keys[target], raw)

    async def run(self) -> None:
        """Lie when it is time to."""
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                break
        self._begun = clock.now_ticks()
        self.coalition.begin()
        while True:
            self._sooner = trio.Event()
            while self._due and self._due[0][0] <= self.now:
                _, _, do, what = heapq.heappop(self._due)
                do(what)
                self._replication.notify()  # its task flushes what was said
            wait_s = (self._due[0][0] - self.now) / 1000 if self._due else 3600
            with trio.move_on_after(max(0.001, wait_s)):
                await self._sooner.wait()


def _read(raw: bytes, opener: Opener) -> messages.Message | str:
    try:
        return messages.read(raw, opener.open)
    except WireError as error:
        return str(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vices", nargs="+", choices=[*byzantine.VICES, *VICES])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", type=int, default=0, help="whom a vice has for its victim")
    options = parser.parse_args()
    byzantine.VICES.update(VICES)
    own = config.load()

    def ready(replication: Replication) -> None:
        BentLinks.world = World(own, replication, options)
        trio.lowlevel.spawn_system_task(BentLinks.world.run)

    node.Links = BentLinks  # type: ignore[attr-defined]
    return node.main(own, ready=ready)


if __name__ == "__main__":
    sys.exit(main())

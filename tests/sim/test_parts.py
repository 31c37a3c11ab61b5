"""The laws of the simulated world: what links, disks and nodes may and may not do."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aegis_edge.pbft.events import Deliver, Persist, Prune, Record, Send, TakeRoot, Tick
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import Commit, Verified
from tests.sim import network, signing
from tests.sim import plan as plans
from tests.sim.builds import REAL
from tests.sim.disk import Disk
from tests.sim.machine import Applied
from tests.sim.network import Network
from tests.sim.plan import Weather
from tests.sim.world import World

# --- signatures ---


def test_only_the_owner_of_a_key_signs() -> None:
    one, other = signing.signers(2)
    signed = one.sign(Commit(0, 1, 2, bytes(32), 3))
    reader = signing.Reader((one.public, other.public))
    assert isinstance(reader.read(signed.raw), Verified)
    assert isinstance(reader.read(signed.raw.replace(one.public, other.public)), str)
    assert isinstance(reader.read(signed.raw[:-1] + bytes((signed.raw[-1] ^ 1,))), str)
    with pytest.raises(WireError):
        reader.opener.open(b"\x84")


# --- network ---


class Wire:
    """A network of two and what comes out of it."""

    def __init__(self, weather: Weather, bytes_a_tick: int = 0) -> None:
        self.now = 0
        self.heap: list[tuple[int, int, Any, Any]] = []
        self.arrived: list[tuple[int, bytes]] = []
        self.links: list[tuple[str, int, int]] = []
        self.network = Network(
            self,
            2,
            weather,
            random.Random(5),
            alive=lambda index: True,
            opened=lambda node, peer: self.links.append(("up", node, peer)),
            closed=lambda node, peer: self.links.append(("down", node, peer)),
            arrived=lambda node, peer, raw: self.arrived.append((self.now, raw)),
            bytes_a_tick=bytes_a_tick,
        )
        self.network.refresh(0, 1)
        self.run()

    def at(self, tick: int, action: Callable[[Any], None], argument: Any) -> None:
        heapq.heappush(self.heap, (tick, len(self.heap) + self.now * 1000, action, argument))

    def run(self) -> None:
        while self.heap:
            self.now, _, action, argument = heapq.heappop(self.heap)
            action(argument)

    def send(self, count: int) -> list[bytes]:
        sent = [b"%d" % number for number in range(count)]
        for raw in sent:
            self.network.send(0, 1, raw)
        self.run()
        return sent


def test_an_ordered_link_loses_and_reorders_nothing() -> None:
    wire = Wire(Weather(True, 2, 30, straggle=0.3, straggle_ticks=100))
    assert [raw for _, raw in wire.arrived] == []
    sent = wire.send(200)
    assert [raw for _, raw in wire.arrived] == sent


def test_a_bad_network_loses_doubles_and_reorders() -> None:
    wire = Wire(Weather(False, 2, 30, loss=0.2, doubled=0.2))
    sent = wire.send(300)
    got = [raw for _, raw in wire.arrived]
    assert set(got) < set(sent)
    assert len(got) > len(set(got))
    assert got != sorted(got, key=sent.index)


def test_a_link_that_breaks_takes_what_is_under_way() -> None:
    wire = Wire(Weather(True, 50, 0))
    wire.network.send(0, 1, b"lost")
    wire.network.reset(0, 1)
    wire.run()
    assert wire.arrived == []
    assert wire.links[-4:] == [("down", 0, 1), ("down", 1, 0), ("up", 0, 1), ("up", 1, 0)]
    wire.send(1)
    assert len(wire.arrived) == 1


def test_a_cut_is_noticed_later_and_mended() -> None:
    wire = Wire(Weather(True, 1, 0))
    wire.network.cut(0, 1, 1)
    wire.network.send(0, 1, b"lost")
    assert wire.links[-1][0] == "up", "nobody has noticed yet"
    wire.run()
    assert wire.links[-2:] == [("down", 0, 1), ("down", 1, 0)]
    wire.network.cut(0, 1, -1)
    wire.run()
    assert wire.links[-2:] == [("up", 0, 1), ("up", 1, 0)]
    wire.send(1)
    assert len(wire.arrived) == 1


def test_a_deaf_direction_is_never_noticed() -> None:
    wire = Wire(Weather(True, 1, 0))
    wire.network.block(0, 1, 1)
    wire.send(3)
    assert wire.arrived == []
    wire.network.send(1, 0, b"back")
    wire.run()
    assert [raw for _, raw in wire.arrived] == [b"back"]
    wire.network.mend(Weather(True, 1, 0))
    wire.send(1)
    assert len(wire.arrived) == 2


def test_on_a_slow_line_one_message_goes_after_another() -> None:
    wire = Wire(Weather(True, 2, 0), bytes_a_tick=10)
    start, large, small = wire.now, b"x" * 95, b"small"
    for raw in (large, small, large, b"back"):
        wire.network.send(*((1, 0) if raw == b"back" else (0, 1)), raw)
    wire.run()
    expected = [(3, b"back"), (12, large), (13, small)]
    assert [(at - start, raw) for at, raw in wire.arrived] == expected, "and none waits twice"
    wire.network.send(0, 1, large)
    wire.run()
    assert len(wire.arrived) == 4, "but it goes again when it has gone"


def test_what_waits_for_a_slow_line_is_bounded_and_lost_with_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "QUEUE_BYTES_MAX", 100)
    wire = Wire(Weather(True, 2, 0), bytes_a_tick=10)
    for raw in (b"a" * 60, b"b" * 60, b"c" * 40):
        wire.network.send(0, 1, raw)
    wire.run()
    assert [raw[:1] for _, raw in wire.arrived] == [b"a", b"c"]
    wire.network.send(0, 1, b"d" * 90)
    wire.network.reset(0, 1)
    wire.run()
    start = wire.now
    wire.network.send(0, 1, b"e" * 90)
    wire.run()
    assert [(at - start, raw[:1]) for at, raw in wire.arrived[2:]] == [(11, b"e")]


def test_nodes_differ_in_what_may_differ() -> None:
    mixed = next(p for seed in range(99) if (p := plans.make(seed)).mixed and p.n == 7)
    world = World(mixed, REAL)
    assert len({world.parameters(index) for index in range(7)}) > 1
    assert world.parameters(3) == world.parameters(3)
    assert {world.parameters(index).window for index in range(7)} == {mixed.window}
    world = World(replace(mixed, mixed=False), REAL)
    assert len({world.parameters(index) for index in range(7)}) == 1


# --- disk ---


def record(kind: int, sequence: int) -> Record:
    return Record(kind, 0, sequence, b"x")


def test_a_disk_gives_back_what_it_took() -> None:
    disk = Disk(Applied(plans.make(0)))
    assert disk.restored().incarnation == 1
    for kind, sequence in ((8, 0), (4, 1), (5, 1), (7, 2), (7, 4), (4, 5)):
        disk.perform(Persist(record(kind, sequence)))
    assert disk.perform(Deliver(1, 10, (), b"proof")) == []
    assert disk.perform(TakeRoot(1)) == disk.machine.root()
    disk.perform(Prune(4))
    restored = disk.restored()
    assert (restored.incarnation, restored.executed, restored.time_ms) == (2, 1, 10)
    assert restored.records == (record(4, 5), record(7, 4), record(8, 0))
    assert disk.certified(1, 9, 1 << 20) == [b"proof"]
    assert disk.certified(2, 9, 1 << 20) == []


# --- node ---


class Scripted:
    """A replica that does as it is told: each event pops one list of effects."""

    view, executed, stable, changing, wake_at, bundle_room = 0, 0, 0, False, None, 0

    def __init__(self, *_: Any) -> None:
        self.script: list[list[Any]] = []

    def step(self, event: Any) -> list[Any]:
        return self.script.pop(0) if self.script else []


def scripted_world() -> World:
    made = plans.make(5, (2,))
    quiet = replace(made, faults=(), operations=0, sync_ticks=10, n=2, clients=1)
    world = World(quiet, replace(REAL, replica=Scripted, blind=frozenset({"validity"})))
    for node in world.nodes:
        node.start()
    return world


def test_what_follows_a_write_waits_for_it_and_writes_go_in_groups() -> None:
    world = scripted_world()
    node = world.nodes[0]
    sent: list[tuple[int, bytes]] = []
    node.transmit = lambda target, raw: sent.append((world.now, raw))  # type: ignore[method-assign]
    peers = (world.keys[1],)
    node.replica.script = [
        [Send(peers, b"at once"), Persist(record(4, 1)), Send(peers, b"after")],
        [Send(peers, b"behind")],
        [Persist(record(4, 2))],
        [Persist(record(4, 3)), Send(peers, b"last")],
    ]
    for _ in range(4):
        node.step(Tick(0, 0))
    assert [raw for _, raw in sent] == [b"at once"]
    assert not node.disk.records
    while not node.idle:
        world.step()
    assert [raw for _, raw in sent] == [b"at once", b"after", b"behind", b"last"]
    assert node.disk.writes == 2, "what queued during the first write went into the second"
    assert len(node.disk.records) == 3


def test_a_crash_keeps_a_first_part_of_the_write_in_flight_and_shows_nothing_of_the_rest() -> None:
    kept = set()
    for seed in range(30):
        world = scripted_world()
        node = world.nodes[0]
        node._random = random.Random(seed).random
        sent: list[bytes] = []
        node.transmit = lambda target, raw, sent=sent: sent.append(raw)  # type: ignore[misc]
        node.replica.script = [
            [
                Persist(record(4, 1)),
                Send((world.keys[1],), b"one"),
                Persist(record(4, 2)),
                Send((world.keys[1],), b"two"),
            ]
        ]
        node.step(Tick(0, 0))
        node.step(Tick(0, 0))
        node.crash()
        assert not node.alive
        records = len(node.disk.records)
        kept.add((records, len(sent)))
        assert not sent or records == 2, "nothing is seen of a write that did not become durable"
        node.start()
        assert node.disk.incarnation == 2
    assert {records for records, _ in kept} == {0, 1, 2}
    assert (2, 2) in kept

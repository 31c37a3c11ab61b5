"""One simulated node: performs a replica's effects in the order that their contract demands.

Knows group commit (everything that queued while the last write ran goes into the next), that
nothing after a record is seen before it is durable, that executed batches may be lost, and which
caller waits for which bundle.
Refuses to know what the effects mean.  `aegis_edge.replication` is the same thing on Trio.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aegis_edge.knowledge.operations import Barrier
from aegis_edge.knowledge.parts import GROUP, HEAD, PARTITION, ROWS
from aegis_edge.knowledge.roll import Roll
from aegis_edge.pbft.events import (
    Alarm,
    Asked,
    BatchesGone,
    BeginTransfer,
    Bundled,
    Confirmed,
    Deliver,
    Effect,
    Event,
    Foresee,
    HangUp,
    InstallState,
    Introduce,
    JudgePart,
    KeepHandovers,
    LinkDown,
    LinkUp,
    PartSent,
    Persist,
    Prune,
    Received,
    RootTaken,
    Send,
    SendCommitted,
    SendPart,
    Settle,
    Settled,
    Submitted,
    TakeRoot,
    Tick,
)
from aegis_edge.wire.messages import StatePart
from tests.sim.disk import Disk
from tests.sim.machine import configuration_of

if TYPE_CHECKING:
    from tests.sim.world import World

DURABLE = (
    Persist,
    Deliver,
    TakeRoot,
    Settle,
    Foresee,
    KeepHandovers,
    Prune,
    BeginTransfer,
    JudgePart,
    InstallState,
)

#: How often a coarse shell tells the time while there is traffic.
COARSE_TICKS = 100

#: How many times longer than any other a write takes now and then.
SLOW_SYNCS = 20

#: Operations that one bundle takes at most: few, so that bundles are many.
BUNDLE_OPERATIONS = 4

#: Called once: with the outcome of an operation when it is durable here, or None at a crash.
Done = Callable[[Any], None]


class Node:
    """A machine with a disk, a clock and (while it runs) a replica."""

    def __init__(self, world: World, index: int, signer: Any) -> None:
        self.world = world
        self.index = index
        self.signer = signer
        self.key: bytes = signer.public
        self.liar = False
        self.disk = Disk(world.build.machine(world.plan), kept=world.plan.kept)
        self.replica: Any = None
        self.life = 0  # how often it was switched on; callbacks of earlier lives are void
        self.clock_offset = 0
        self.disk_slower = 0
        self.crash_when_writing = False
        #: From the loss of its disk until it may vote again.
        self.forgetful = False
        self._is_stirring = False
        self._boot_tick = 0
        self._random = world.plan.random(f"node {index}").random
        self._queue: list[Effect] = []
        self._writing: list[Effect] = []
        self._calls: deque[tuple[bytes, Done, bool]] = deque()
        #: From when its owner wants to change the members until that is executed, or lost.
        self.is_balloting = False
        self._waiting: dict[tuple[int, int], list[Done]] = {}
        self._submitting: list[Done] = []
        self._readers: list[Done] = []
        self._asking: list[Done] = []  # whom the question under way is for
        self._questions = 0
        self._armed: int | None = None
        self._ticked = 0
        #: What a message waits behind, and how many such effects are not durable yet.
        self._holding = (Persist,) if world.plan.eager else DURABLE
        self._unsafe = 0
        #: Whose answer to a fetch is not out yet: nothing overtakes that.
        self._serving: set[bytes] = set()

    # --- life and death ---

    @property
    def alive(self) -> bool:
        return self.replica is not None

    @property
    def is_member(self) -> bool:
        """It runs, and believes that it may take part."""
        return self.alive and self.key in self.replica.configuration

    def clock_ms(self) -> int:
        return max(0, self.world.EPOCH_MS + self.world.now + self.clock_offset)

    def start(self) -> None:
        assert not self.alive, "a node is switched on once"
        world = self.world
        self.life += 1
        self._boot_tick = world.now - int(self._random() * 1_000)
        self._ticked = 0
        restored = self.disk.restored()
        world.note(self, "starts", restored)
        world.judges.started(self, restored)
        try:
            self.replica = world.build.replica(
                self.signer,
                configuration_of(self.disk.machine.roll),
                world.parameters(self.index, self.disk.machine.roll.agreed),
                restored,
                world.reader.opener.open,
            )
        except Exception:
            world.judges.crashed(self, traceback.format_exc(limit=-4))
            return
        self.tick()
        world.network.started(self.index)

    def crash(self) -> None:
        """The power fails: the write in flight may be durable in part, and a part of what follows
        it may have been seen, if all of it is durable."""
        if not self.alive:
            return
        survived = int(self._random() * (2 * len(self._writing) + 1))
        self._begin(self._writing[:survived])
        for step in self._writing[:survived]:
            if type(step) in DURABLE:
                self._make_durable(step)
                if self.world.judges.violations:
                    return
        for effect in self._writing[: max(0, survived - len(self._writing))]:
            if type(effect) is Send:
                self._send(effect)
        self.disk.lose_power()
        self.replica = None
        self.life += 1
        self._queue, self._writing, self._armed, self._unsafe = [], [], None, 0
        self._serving.clear()
        self._abandon()
        self._questions = 0
        self.crash_when_writing = False
        self.world.note(self, "crashes", survived)
        self.world.network.crashed(self.index)

    def _abandon(self) -> None:
        """Callers never learn what became of what they asked for."""
        orphans = [done for _, done, _ in self._calls]
        orphans += [done for _, waiting in sorted(self._waiting.items()) for done in waiting]
        for done in orphans + self._submitting + self._asking + self._readers:
            self.world.at(self.world.now, done, None)
        self._calls.clear()
        self._asking, self._readers = [], []
        self._waiting.clear()
        self._submitting = []

    def lose_disk(self) -> None:
        """The card is gone; a real node's first incarnation on a new one is the time of day."""
        assert not self.alive
        incarnation = self.disk.incarnation
        plan = self.world.plan
        # Of one alone its owner says that there never were others.
        machine, rebuilt = self.world.build.machine(plan), plan.n > 1
        self.disk = Disk(machine, rebuilt=rebuilt, kept=plan.kept)
        self.disk.incarnation = incarnation
        self.forgetful = True

    # --- events ---

    def step(self, event: Event, *, last: bool = True) -> None:
        """Let the replica decide, and perform what it decides.

        `last`: no other event follows at once, so the alarm clock is set anew.
        """
        world = self.world
        if world.trace is not None:
            world.note(self, "takes", event)
        try:
            effects = self.replica.step(event)
        except Exception:
            world.judges.crashed(self, traceback.format_exc(limit=-4))
            self.crash()
            return
        if effects:
            self._perform(effects)
        if self.forgetful:
            self._stir()
        if last:
            self._set_alarm(event)

    def _set_alarm(self, event: Event) -> None:
        world = self.world
        if type(event) is Tick:
            self._ticked = event.now_ticks
        if world.plan.ticking == "coarse" and type(event) is not Tick:
            wake_at = self._ticked + COARSE_TICKS
        else:
            wake_at = self.replica.wake_at
        if wake_at is not None and (self._armed is None or wake_at < self._armed):
            self._armed = wake_at
            tick = max(world.now, wake_at + self._boot_tick)
            world.at(tick, self._wake, (self.life, wake_at))

    def tick(self, *, last: bool = True) -> None:
        self.step(Tick(self.world.now - self._boot_tick, self.clock_ms()), last=last)

    @property
    def _is_long_ago(self) -> bool:
        """A coarse shell that has slept tells the time before it passes on what woke it."""
        now_ticks = self.world.now - self._boot_tick
        return self.world.plan.ticking == "coarse" and now_ticks >= self._ticked + COARSE_TICKS

    def _wake(self, what: tuple[int, int]) -> None:
        life, wake_at = what
        if life != self.life or self._armed != wake_at:
            return
        self._armed = None
        self.tick()
        self._submit()

    def link_up(self, peer: int) -> None:
        self.step(LinkUp(self.world.keys[peer], self.world.round_trip_ticks(peer)))

    def link_down(self, peer: int) -> None:
        self.step(LinkDown(self.world.keys[peer]))

    def arrived(self, peer: int, raw: bytes) -> None:
        if self.world.plan.skim:
            claim = self.world.reader.claimed(raw)
            if claim is not None and self.replica.is_redundant(claim):
                return
        message = self.world.reader.read(raw)
        if type(message) is str:
            self.world.refused(self, peer, message)
            return
        if self.world.plan.ticking == "always" or self._is_long_ago:
            self.tick(last=False)
            if not self.alive:
                return
        self.step(Received(self.world.keys[peer], message))
        if self._calls and self.alive:
            self._submit()

    def _stir(self) -> None:
        """See to it that checkpoints come, as long as the replica waits for some."""
        if self.replica is None:
            return
        self.forgetful = self.is_member and self.replica.views.is_forgetful
        if self.forgetful and not self._is_stirring:
            self._is_stirring = True
            self.call(Barrier().encode(), self._stirred)

    def _stirred(self, _: Any) -> None:
        self._is_stirring = False

    # --- callers ---

    def call(self, operation: bytes, done: Done, *, of_members: bool = False) -> None:
        """Have an operation executed; `done` is called when its outcome is durable here."""
        self._calls.append((operation, done, of_members))
        self._submit()

    def vote(self, ballot: bytes) -> None:
        """Have an operation about members executed, one at a time."""
        self.is_balloting = True
        self.call(ballot, self._voted, of_members=True)

    def _voted(self, _: Any) -> None:
        self.is_balloting = False

    def _submit(self) -> None:
        if self._calls and self.alive and self._is_long_ago:
            self.tick(last=False)
        while self._calls and self.alive and self.replica.bundle_room > 0:
            of_members = self._calls[0][2]
            taken = []
            while self._calls and self._calls[0][2] == of_members:
                taken.append(self._calls.popleft())
                if len(taken) == BUNDLE_OPERATIONS:
                    break
            self._submitting = [done for _, done, _ in taken]
            operations = tuple(operation for operation, _, _ in taken)
            self.world.judges.submitted(self, operations)
            self.step(Submitted(operations, of_members))

    def read(self, done: Done) -> None:
        """`done` is called with whether all that was acknowledged before is readable here."""
        self._readers.append(done)
        self._ask(self.life)

    def _ask(self, life: int) -> None:
        if life == self.life and self.alive and self._readers and not self._asking:
            self._asking, self._readers = self._readers, []
            self._questions += 1
            self.step(Asked(self._questions))

    def _confirmed(self, effect: Confirmed) -> None:
        for done in self._asking:
            self.world.at(self.world.now, done, effect.is_fresh)
        self._asking = []
        self.world.at(self.world.now, self._ask, self.life)

    @property
    def idle(self) -> bool:
        """Nothing waits here: no caller, no write."""
        readers = self._asking or self._readers
        return not (self._calls or self._waiting or self._queue or self._writing or readers)

    @property
    def waits_for(self) -> str:
        """Why it is not idle, for people."""
        return (
            f"{len(self._calls)} calls, {len(self._waiting)} bundles,"
            f" {len(self._asking) + len(self._readers)} readers,"
            f" {len(self._queue)} and {len(self._writing)} effects"
        )

    # --- effects ---

    def _perform(self, effects: list[Effect]) -> None:
        queue = self._queue
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                if self._unsafe or not self._serving.isdisjoint(effect.peers):
                    queue.append(effect)
                else:
                    self._send(effect)
            elif kind is Bundled:
                self._waiting[(effect.incarnation, effect.number)] = self._submitting
                self._submitting = []
            elif kind is Alarm:
                self.world.judges.alarmed(self, effect)
            elif kind in (HangUp, Introduce):
                pass  # links of the simulator have no memory, and everyone knows everyone's place
            elif kind is Confirmed and not queue and not self._writing:
                self._confirmed(effect)
            else:
                self._unsafe += kind in self._holding
                if kind is SendCommitted:
                    self._serving.add(effect.peer)
                queue.append(effect)
        if queue and not self._writing:
            self._write()

    def _write(self) -> None:
        """Start one write of everything that waits."""
        world = self.world
        self._writing, self._queue = self._queue, []
        sync = world.plan.sync_ticks
        delay = int(self._random() * (sync + 1)) + self.disk_slower
        if self._random() < 0.01:
            delay += SLOW_SYNCS * sync
        self.disk.writes += any(type(effect) in DURABLE for effect in self._writing)
        if self.crash_when_writing:
            world.at(world.now + int(self._random() * (delay + 1)), self._fail, self.life)
        world.at(world.now + delay, self._written, self.life)

    def _fail(self, life: int) -> None:
        if life == self.life:
            self.world.crash(self.index)

    def _written(self, life: int) -> None:
        """The write is durable: what follows from it may be seen now."""
        if life != self.life:
            return
        follow: list[Event] = []
        self._begin(self._writing)
        for effect in self._writing:
            if type(effect) in DURABLE:
                result = self._make_durable(effect)
                if type(effect) is TakeRoot and result is not None:
                    self.world.judges.took_root(self, effect.sequence, result)
                    follow.append(RootTaken(effect.sequence, result))
                elif type(effect) is Settle and result is not None:
                    follow.append(self._settled(effect, *result))
                elif type(effect) in (JudgePart, Foresee) and result is not None:
                    follow.append(result)
                elif type(effect) is InstallState and result is not None:
                    _, root, roll = result
                    if roll.number != self.replica.configuration.number:
                        self.world.judges.crossings += 1
                        follow.append(self._settled(effect, root, roll))
                if self.world.judges.violations:
                    return
        for effect in self._writing:
            if type(effect) not in DURABLE:
                follow += self._show(effect)
        held, self._queue, self._writing, self._unsafe = self._queue, [], [], 0
        self._serving.clear()
        self._perform(held)
        for event in follow:
            self.step(event)
            if not self.alive:
                return
        if follow and not self.is_member:
            self._abandon()
        self._submit()

    def _settled(self, settle: Settle | InstallState, root: bytes, roll: Roll) -> Settled:
        configuration = configuration_of(roll)
        self.world.judges.settled(self, configuration)
        parameters = self.world.parameters(self.index, roll.agreed)
        return Settled(settle.sequence, root, configuration, parameters)

    def _begin(self, effects: list[Effect]) -> None:
        steps = [effect for effect in effects if type(effect) in DURABLE]
        if steps and self.world.plan.eager:
            self.disk.begin(steps)

    def _make_durable(self, step: Any) -> Any:
        if type(step) is Deliver:
            self.world.mark(step.certificate)
            self.world.judges.decided(self, step)
            if self.world.judges.violations:
                return None
        try:
            result = self.disk.perform(step)
        except Exception:
            self.world.judges.crashed(self, traceback.format_exc(limit=-4))
            self.world.at(self.world.now, self._fail, self.life)
            return None
        if type(step) is InstallState:
            self.world.judges.installed(self, step)
            for name in [n for n in self._waiting if n <= result[0].get(self.key, (0, 0))]:
                for done in self._waiting.pop(name):
                    self.world.at(self.world.now, done, None)
        if type(step) is Deliver:
            self.world.judges.executed(self, step, result)
            for bundle, outcomes in zip(step.bundles, result, strict=True):
                if bundle.signer == self.key:
                    name = (bundle.message.incarnation, bundle.message.number)
                    for done, outcome in zip(self._waiting.pop(name, ()), outcomes, strict=False):
                        self.world.at(self.world.now, done, outcome)
        return result

    def _show(self, effect: Effect) -> list[Event]:
        """Send what was written or is read; what the replica has to know of it."""
        if type(effect) is Send:
            self._send(effect)
        elif type(effect) is Confirmed:
            self._confirmed(effect)
        elif type(effect) is SendPart:
            return [self._send_part(effect)]
        else:
            assert type(effect) is SendCommitted
            target = self.world.index_of[effect.peer]
            found = self.disk.certified(effect.first, effect.last, effect.bytes_max)
            for raw in found:
                self.transmit(target, raw)
            if not found:
                return [BatchesGone(effect.peer, effect.first)]
        return []

    def _send_part(self, effect: SendPart) -> PartSent:
        data = None
        while data is None:
            data = self.disk.part(effect.peer, effect.sequence, effect.kind, effect.items)
        part = StatePart(effect.sequence, effect.kind, self.piece(effect.kind, data))
        self.transmit(self.world.index_of[effect.peer], part.pack())
        return PartSent(effect.peer, len(data), 0)

    def piece(self, kind: int, data: bytes) -> bytes:
        """What is given to others of a state of this node's."""
        return data

    def _send(self, effect: Send) -> None:
        self.world.judges.spoke(self, effect.raw)
        for peer in effect.peers:
            self.transmit(self.world.index_of[peer], effect.raw)

    def transmit(self, target: int, raw: bytes) -> None:
        """Where a liar bends the truth; an honest node just sends."""
        self.world.network.send(self.index, target, raw)


class FalseSource(Node):
    """Where it is a liar: honest, but for one bit in each piece that it gives of a state."""

    #: Kinds of pieces; see `knowledge.parts`.
    lies_in: tuple[int, ...] = (HEAD, GROUP, PARTITION, ROWS)

    def piece(self, kind: int, data: bytes) -> bytes:
        if not (self.liar and data and kind in self.lies_in):
            return data
        bent = bytearray(data)
        bent[int(self._random() * len(bent))] ^= 1 << int(self._random() * 8)
        return bytes(bent)


class FalseRows(FalseSource):
    """One whose digests are true."""

    lies_in = (ROWS,)

"""A stage for plays: a few real replicas, a network that the test holds in its hand, and no time.

Nothing moves by itself.  `submit` and `tick` give events, `run` delivers what waits, `cut` loses
what would go between two sets of members, `crash` and `restart` keep only what was persisted, and
`lose_disk` not even that.
Messages pass as bytes through the real envelopes and codec.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from aegis_edge.pbft import certificates, journal, quorum
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import (
    Alarm,
    BatchesGone,
    Deliver,
    Effect,
    Event,
    Foresee,
    Foreseen,
    KeepHandovers,
    LinkDown,
    LinkUp,
    PartSent,
    Persist,
    Prune,
    Received,
    Record,
    Restored,
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
from aegis_edge.pbft.pace import Pace
from aegis_edge.pbft.replica import Replica
from aegis_edge.pbft.route import Waypoint
from aegis_edge.wire import messages
from aegis_edge.wire.envelope import Opener, Signer

CLUSTER = b"c" * 32
PARAMETERS = Parameters(checkpoint_interval=4, window=8, timeout_ticks=3000, status_ticks=1000)
#: What follows from them where no link measured anything.
PACE = Pace(b"", Configuration(0, (b"",), 0), PARAMETERS)
CLOCK_MS = 1_800_000_000_000


class Actor:
    """One replica with its disk (what it persisted) and its state machine (what it executed)."""

    def __init__(self, stage: Stage, name: str, seed: bytes) -> None:
        self.stage = stage
        self.name = name
        self.signer = Signer(seed, CLUSTER)
        self.key = self.signer.public
        self.opener = Opener(CLUSTER)
        self.records: dict[tuple[int, int, int], Record] = {}
        self.delivered: list[Deliver] = []
        self.alarms: list[Alarm] = []
        #: How the members came about: to each configuration, from the one before.
        self.handovers: dict[int, bytes] = {}
        self.clock_ms = CLOCK_MS
        self.incarnation = 0
        self.alive = False
        self.rebuilt = False
        self.spoil_root = False
        #: What it was told of the members, beside what is on its disk.
        self.waypoint: Waypoint | None = None
        #: Whether it has old batches for others.
        self.keeps = True
        self.replica: Replica

    def lose_disk(self) -> None:
        """Its card is gone, with all that was on it; what counts its lives is the time of day."""
        self.records, self.delivered, self.rebuilt = {}, [], True

    def start(self) -> None:
        self.incarnation += 1
        origins: dict[bytes, tuple[int, int]] = {}
        for deliver in self.delivered:
            for bundle in deliver.bundles:
                origins[bundle.signer] = (bundle.message.incarnation, bundle.message.number)
        restored = Restored(
            self.incarnation,
            self.delivered[-1].sequence if self.delivered else 0,
            self.delivered[-1].time_ms if self.delivered else 0,
            origins,
            tuple(self.records.values()),
            self.rebuilt,
            self.waypoint,
        )
        now = self.configuration
        self.replica = Replica(
            self.signer, now, self.stage.parameters_of(now), restored, self.opener.open
        )
        self.alive = True
        self.step(Tick(self.stage.now, self.clock_ms))

    @property
    def configuration(self) -> Configuration:
        """Who the members are after all that was executed here: see `Stage.change_members`."""
        now = self.stage.configuration
        for deliver in self.delivered:
            now = self.after(now, deliver)
        return now

    def after(self, now: Configuration, batch: Deliver | Foresee) -> Configuration:
        members, terms = set(now.members), now.terms
        for bundle in batch.bundles:
            for op in bundle.message.operations if bundle.message.of_members else ():
                if op.startswith(b"="):
                    terms = op[1:]
                    continue
                key = self.stage[op[1:].decode()].key
                members = members | {key} if op.startswith(b"+") else members - {key}
        if (members, terms) == (set(now.members), now.terms):
            return now
        return now.followed_by(batch.sequence, tuple(sorted(members)), terms)

    @property
    def proven(self) -> Record | None:
        """The last checkpoint that was proven here."""
        own = self.records.get((journal.STABLE, 0, 0))
        return own or self.records.get((journal.INHERITED, 0, 0))

    def lineage(self, effect: SendPart) -> messages.StatePart:
        """How the members came about, from the number in the question on: two at a time."""
        number = int.from_bytes(effect.items[0], "big")
        raws = tuple(self.handovers[n] for n in (number + 1, number + 2) if n in self.handovers)
        data = messages.pack_lineage(self.proven.data if self.proven else b"", raws)
        return messages.StatePart(effect.sequence, effect.kind, data)

    def foresee(self, effect: Foresee) -> Foreseen:
        assert effect.sequence == len(self.delivered) + 1
        now = self.configuration
        after = self.after(now, effect)
        successor = after.digest if after != now else b""
        return Foreseen(effect.sequence, effect.digest, successor)

    @property
    def operations(self) -> list[bytes]:
        return [
            op for d in self.delivered for bundle in d.bundles for op in bundle.message.operations
        ]

    def root(self) -> bytes:
        text = repr([(d.sequence, d.time_ms) for d in self.delivered]) + repr(self.operations)
        return hashlib.sha256(text.encode() + bytes([self.spoil_root])).digest()

    def step(self, event: object) -> list[Effect]:
        assert self.alive, f"{self.name} is down"
        effects = self.replica.step(event)  # type: ignore[arg-type]
        for effect in effects:
            self.perform(effect)
        return effects

    def perform(self, effect: Effect) -> None:
        match effect:
            case Persist(record):
                self.records[record.kind, record.view, record.sequence] = record
            case Send(peers, raw):
                for peer in peers:
                    self.stage.post(self.key, peer, raw)
            case Deliver():
                before = self.configuration
                self.delivered.append(effect)
                now = self.configuration
                if now != before:
                    inherited, proven = (journal.INHERITED, 0, 0), self.proven
                    stays = (journal.REMEMBERS, 0, 0)
                    self.records = {k: r for k, r in self.records.items() if k == stays}
                    if proven:
                        self.records[inherited] = Record(*inherited, proven.data)
                    commits = messages.read(effect.certificate, self.opener.open).commits
                    handover = messages.Handover(now.members, commits, now.terms)
                    assert certificates.heir(handover, before) == now
                    self.handovers[now.number] = handover.raw
            case Settle(sequence):
                now = self.configuration
                settled = Settled(sequence, self.root(), now, self.stage.parameters_of(now))
                self.stage.later.append((self, settled))
            case Foresee():
                self.stage.later.append((self, self.foresee(effect)))
            case TakeRoot(sequence):
                self.stage.later.append((self, RootTaken(sequence, self.root())))
            case Prune(sequence):
                for key, record in list(self.records.items()):
                    old = record.kind in (journal.PROPOSAL, journal.PREPARED)
                    if (old and record.sequence <= sequence) or (
                        record.kind == journal.CHECKPOINT and record.sequence < sequence
                    ):
                        del self.records[key]
            case SendCommitted(peer, first) if not self.keeps:
                self.stage.later.append((self, BatchesGone(peer, first)))
            case KeepHandovers(first, raws):
                self.handovers.update(enumerate(raws, first))
            case SendPart():
                if effect.kind == messages.HANDOVERS:
                    self.stage.post(self.key, effect.peer, self.lineage(effect).pack())
                else:
                    self.stage.asked.append((self.key, effect))
                self.stage.later.append((self, PartSent(effect.peer, 0, 0)))
            case SendCommitted(peer, first, last, bytes_max):
                size = 0
                for deliver in self.delivered[first - 1 : last]:
                    size += len(deliver.certificate)
                    if deliver.sequence > first and size > bytes_max:
                        break
                    self.stage.post(self.key, peer, deliver.certificate)
            case Alarm():
                self.alarms.append(effect)


class Stage:
    def __init__(
        self, n: int, parameters: Parameters = PARAMETERS, start: bool = True, outsiders: int = 0
    ) -> None:
        self.parameters = parameters
        self.now = 0
        self.wire: deque[tuple[bytes, bytes, bytes]] = deque()
        self.later: deque[tuple[Actor, Event]] = deque()
        #: Who was asked for which pieces of a state.
        self.asked: list[tuple[bytes, SendPart]] = []
        self.lost: Callable[[bytes, bytes, bytes], bool] = lambda sender, to, raw: False
        actors = [Actor(self, "", bytes([i + 1]) * 32) for i in range(n + outsiders)]
        actors.sort(key=lambda a: a.key)
        for actor, name in zip(actors, "ABCDEFGHIJ", strict=False):
            actor.name = name
        self.actors = actors
        self.by_key = {a.key: a for a in actors}
        self.configuration = Configuration(0, tuple(self.by_key)[:n], quorum.faults(n))
        if start:
            for actor in actors:
                actor.start()
            self.link_all()
            self.run()

    def __getitem__(self, name: str) -> Actor:
        return self.actors["ABCDEFGHIJ".index(name)]

    def link_all(self) -> None:
        for a in self.actors:
            for b in self.actors:
                if a is not b and a.alive and b.alive:
                    a.step(LinkUp(b.key))

    def post(self, sender: bytes, to: bytes, raw: bytes) -> None:
        self.wire.append((sender, to, raw))

    def answer(self) -> None:
        """Give the first answer that waits, and no message."""
        actor, answer = self.later.popleft()
        actor.step(answer)

    def run(self, steps: int = 100_000) -> None:
        """Deliver everything that waits, and what follows from it."""
        for _ in range(steps):
            if not self.run_once():
                return
        raise AssertionError("the network never falls silent")

    def run_once(self) -> bool:
        """Deliver the next thing that waits; False if nothing does."""
        if self.later:
            actor, answer = self.later.popleft()
            if actor.alive:
                actor.step(answer)
        elif self.wire:
            sender, to, raw = self.wire.popleft()
            actor = self.by_key[to]
            if actor.alive and not self.lost(sender, to, raw):
                actor.step(Received(sender, messages.read(raw, actor.opener.open)))
        else:
            return False
        return True

    def tick(self, ticks: int, run: bool = True) -> None:
        self.now += ticks
        for actor in self.actors:
            if actor.alive:
                actor.clock_ms += ticks
                actor.step(Tick(self.now, actor.clock_ms))
        if run:
            self.run()

    def wait(self, ticks: int, step: int = 100) -> None:
        for _ in range(0, ticks, step):
            self.tick(step)

    def parameters_of(self, configuration: Configuration) -> Parameters:
        """What its members go by."""
        if not configuration.terms:
            return self.parameters
        interval = int(configuration.terms)
        return replace(self.parameters, checkpoint_interval=interval, window=2 * interval)

    def submit(self, name: str, *operations: bytes, run: bool = True) -> None:
        self[name].step(Submitted(operations))
        if run:
            self.run()

    def change_members(self, by: str, *changes: str, run: bool = True) -> None:
        """`by` submits changes such as "+E" or "-A", each of which is in effect once executed.

        "=2": so many batches are a checkpoint interval, and two of those a window.
        """
        self[by].step(Submitted(tuple(change.encode() for change in changes), True))
        if run:
            self.run()

    def cut(self, *sides: str) -> None:
        """Lose what goes between members of different sides, and let the links notice."""
        side = {self[name].key: i for i, names in enumerate(sides) for name in names}
        self.lost = lambda sender, to, raw: side.get(sender) != side.get(to)
        for a in self.actors:
            for b in self.actors:
                if a is not b and a.alive and side.get(a.key) != side.get(b.key):
                    a.step(LinkDown(b.key))

    def heal(self) -> None:
        self.lost = lambda sender, to, raw: False
        self.link_all()
        self.run()

    def crash(self, name: str, notice: bool = True) -> None:
        gone = self[name]
        gone.alive = False
        self.wire = deque(m for m in self.wire if gone.key not in m[:2])
        self.later = deque(x for x in self.later if x[0] is not gone)
        for other in self.actors:
            if other.alive and notice:
                other.step(LinkDown(gone.key))

    def restart(self, name: str) -> None:
        back = self[name]
        back.start()
        for other in self.actors:
            if other.alive and other is not back:
                back.step(LinkUp(other.key))
                other.step(LinkUp(back.key))
        self.run()

    def agree(self, *names: str) -> list[bytes]:
        """The operations that these (or all) members executed: equal, or the test fails."""
        actors = [self[n] for n in names] if names else self.actors
        first = actors[0]
        for other in actors[1:]:
            assert other.operations == first.operations, f"{other.name} differs from {first.name}"
            assert [d.time_ms for d in other.delivered] == [d.time_ms for d in first.delivered]
        return first.operations


def kind_of(stage: Stage, raw: bytes) -> type:
    """What a message is that is on its way."""
    message = messages.read(raw, stage["A"].opener.open)
    return type(getattr(message, "message", message))

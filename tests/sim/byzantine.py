"""Liars: real replicas whose words are bent on the way out, and who say things of their own.

Knows every trick in the list below, and all keys and memories of its fellow liars.
Refuses to know the keys of honest nodes: what it signs, it signs as a liar.  A vice sees each
message that its replica sends (`bend`) and hears (`hear`), and gets a turn now and then (`act`).
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from aegis_edge.knowledge.operations import (
    Adjust,
    Admit,
    Approve,
    Delete,
    Dismiss,
    Leave,
    Propose,
    Put,
)
from aegis_edge.pbft.transfer import BATCHES_MAX
from aegis_edge.wire import messages as wire
from tests.sim import signing
from tests.sim.describe import kind as kind_of
from tests.sim.disk import Disk
from tests.sim.plan import Fault

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

#: A raw message and how much later than usual it is sent.
Bent = Iterator[tuple[bytes, int]]

#: How many messages of each kind the liars remember together.
MEMORY = 48


class Coalition:
    """All liars of one world: they share keys, memories and plots."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.members: dict[int, Liar] = {}
        self.memory: dict[str, deque[bytes]] = {}
        #: (view, sequence) to the digest that a plot wants each victim to commit.
        self.plots: dict[tuple[int, int], dict[int, bytes]] = {}

    def corrupt(self, node: Node, vices: list[Fault]) -> None:
        self.members[node.index] = Liar(self, node, vices)

    def begin(self) -> None:
        for liar in self.members.values():
            self.world.at(liar.pause(), liar.act, None)

    def bodies(self, node: Node) -> tuple[Node, ...]:
        liar = self.members.get(node.index)
        return (node,) if liar is None else liar.bodies

    def hears(self, node: Node, peer: int, raw: bytes) -> None:
        self.members[node.index].hears(peer, raw)

    def remember(self, kind: str, raw: bytes) -> None:
        self.memory.setdefault(kind, deque(maxlen=MEMORY)).append(raw)

    def support(self, view: int, sequence: int, digest: bytes, victims: list[int]) -> None:
        """All liars vote for a digest where its victims listen."""
        plot = self.plots.setdefault((view, sequence), {})
        for victim in victims:
            plot[victim] = digest
        for _, liar in sorted(self.members.items()):
            clock = liar.node.clock_ms()
            if self.world.configuration.primary(view) != liar.node.key:
                for victim in victims:
                    liar.say(victim, wire.Prepare(liar.number, view, sequence, digest))
            for victim in victims:
                liar.say(victim, wire.Commit(liar.number, view, sequence, digest, clock))


class Liar:
    """One corrupted node and its vices; a twin has a second body with the same key."""

    def __init__(self, coalition: Coalition, node: Node, faults: list[Fault]) -> None:
        self.coalition, self.node, self.world = coalition, node, coalition.world
        self.chance = self.world.plan.random(f"liar {node.index}")
        self.vices = [VICES[fault.kind](self, fault) for fault in faults]
        self.bodies: tuple[Node, ...] = (node,)
        self._sides = 0
        self._calls = 0
        node.transmit = self._speaks(0)  # type: ignore[method-assign]
        if any(isinstance(vice, Twins) for vice in self.vices):
            twin = self.world.build.node(self.world, node.index, node.signer)
            twin.liar = True
            twin.transmit = self._speaks(1)  # type: ignore[method-assign]
            self.bodies = (node, twin)
            self.turn_sides()

    # --- the replica inside ---

    def turn_sides(self) -> None:
        """Which peers talk to which body of a twin."""
        self._sides = self.chance.randrange(1 << self.world.plan.n)

    def side(self, peer: int) -> int:
        return self._sides >> peer & 1 if len(self.bodies) > 1 else 0

    def _speaks(self, body: int) -> Callable[[int, bytes], None]:
        def transmit(target: int, raw: bytes) -> None:
            if self.side(target) == body:
                self.transmit(target, raw)

        return transmit

    def hears(self, peer: int, raw: bytes) -> None:
        message = self.world.reader.read(raw)
        if not isinstance(message, str):
            kind = kind_of(message)
            self.coalition.remember(kind, raw)
            for vice in self.vices:
                if vice.active and not vice.hear(peer, message):
                    self.did(kind, vice.name)
                    return
        body = self.bodies[self.side(peer)]
        if body.alive:
            body.arrived(peer, raw)

    def transmit(self, target: int, raw: bytes) -> None:
        """What the replica wants to send, after all vices had their way with it."""
        message = self.world.reader.read(raw)
        assert not isinstance(message, str), f"a liar's replica speaks clearly: {message}"
        kind = kind_of(message)
        self.coalition.remember(kind, raw)
        sent: list[tuple[bytes, int]] = [(raw, 0)]
        for vice in self.vices:
            if not vice.active:
                continue
            bent: list[tuple[bytes, int]] = []
            for each, later in sent:
                now = message if each is raw else self.world.reader.read(each)
                if isinstance(now, str):
                    bent.append((each, later))
                else:
                    bent.extend((r, later + more) for r, more in vice.bend(target, each, now))
            if bent != sent:
                self.did(kind, vice.name)
            sent = bent
        for each, later in sent:
            self.world.network.send(self.node.index, target, each, later)

    # --- of its own accord ---

    def pause(self) -> int:
        return self.world.now + 20 + self.chance.randrange(self.world.plan.timeout_ticks // 2)

    def act(self, _: None) -> None:
        self.world.at(self.pause(), self.act, None)
        if not self.node.alive:
            return
        if self._calls < 8 and self.chance.random() < 0.2:
            self._calls += 1
            self.node.call(self.operation(), lambda outcome: None)
        for vice in self.vices:
            if vice.active:
                vice.act()

    def operation(self) -> bytes:
        """Something that a liar asks for like anybody else, or that nobody can execute."""
        key = f"key/{self.chance.randrange(self.world.plan.keys)}"
        value = b"liar %d call %d" % (self.node.index, self.chance.randrange(1 << 30))
        choice = self.chance.random()
        if choice < 0.1:
            return b"\xff nonsense"
        if choice < 0.2:
            return Delete(key).encode()
        return Put(key, value).encode()

    def sign(self, message: wire.Signed) -> bytes:
        raw: bytes = self.node.signer.sign(message).raw
        return raw

    def say(self, target: int, message: wire.Signed, doing: str = "equivocate") -> None:
        self.did(type(message).__name__, doing)
        self.send(target, self.sign(message))

    def send(self, target: int, raw: bytes) -> None:
        if target != self.node.index:
            self.world.network.send(self.node.index, target, raw)

    def did(self, kind: str, vice: str) -> None:
        self.world.coverage[(kind, vice)] += 1

    @property
    def view(self) -> int:
        replica = self.node.replica
        return replica.view if replica is not None else 0

    @property
    def executed(self) -> int:
        replica = self.node.replica
        return replica.executed if replica is not None else 0

    @property
    def number(self) -> int:
        """The configuration that its replica is in."""
        replica = self.node.replica
        return replica.configuration.number if replica is not None else 0

    @property
    def is_primary(self) -> bool:
        return self.world.configuration.primary(self.view) == self.node.key

    @property
    def peers(self) -> list[int]:
        return [index for index in range(self.world.plan.n) if index != self.node.index]

    def recall(self, kind: str) -> Any:
        """Some message of a kind that the liars saw, or None."""
        raws = self.coalition.memory.get(kind)
        if not raws:
            return None
        message = self.world.reader.read(self.chance.choice(raws))
        return None if isinstance(message, str) else message

    def recall_raw(self) -> bytes | None:
        memory = self.coalition.memory
        if not memory:
            return None
        return self.chance.choice(memory[self.chance.choice(sorted(memory))])


#: A bundle that never executes, where lines carry as much as there is.
STUFFING_BYTES = 200_000


class Vice:
    """One way to be bad.  The base does no harm."""

    name: ClassVar[str]

    def __init__(self, liar: Liar, fault: Fault) -> None:
        self.liar, self.fault, self.world = liar, fault, liar.world
        self.chance: random.Random = liar.world.plan.random(f"vice {fault.index}")
        #: The victims, where a vice has some: a fixed half or so of the peers.
        self.victims = [peer for peer in liar.peers if fault.value >> peer & 1]

    @property
    def active(self) -> bool:
        return self.fault.at <= self.world.now < self.fault.at + self.fault.lasts

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        yield raw, 0

    def hear(self, peer: int, message: wire.Message) -> bool:
        """False to keep a message from the replica inside."""
        return True

    def act(self) -> None:
        pass

    # --- for all ---

    def likely(self, probability: float) -> bool:
        return self.chance.random() < probability

    def somebody(self) -> int:
        return self.chance.choice(self.liar.peers)

    def digest(self) -> bytes:
        return self.chance.randbytes(32)

    def own(self, message: wire.Message) -> Any:
        """What the liar itself said in an envelope, or None."""
        if isinstance(message, wire.Verified) and message.signer == self.liar.node.key:
            return message.message
        return None

    def own_proposal(self, message: wire.Message) -> wire.Proposal | None:
        mine = self.liar.node.key
        if isinstance(message, wire.Proposal) and message.pre_prepare.signer == mine:
            return message
        return None

    def another_batch(self, batch: wire.Batch) -> wire.Batch:
        """Much like `batch`, but not the same."""
        bundles = list(batch.bundles)
        choice = self.chance.randrange(5)
        if choice == 0 and bundles:
            del bundles[self.chance.randrange(len(bundles))]
        elif choice == 1:
            bundles += bundles[:1]
        elif choice == 2:
            bundles.reverse()
        known = self.liar.recall("Bundle")
        if known is not None and choice in (2, 3):
            bundles.append(known)
        evidence = batch.evidence if choice < 3 else ()
        return wire.Batch(evidence, tuple(bundles[: wire.BATCH_BUNDLES_MAX]))

    def propose(self, view: int, sequence: int, batch: wire.Batch) -> bytes:
        pre_prepare = wire.PrePrepare(self.liar.number, view, sequence, batch.digest)
        return wire.Proposal(self.liar.node.signer.sign(pre_prepare), batch).pack()


class Equivocate(Vice):
    """Two batches for one number, each supported by all liars where it is shown."""

    name = "equivocate"

    def __init__(self, liar: Liar, fault: Fault) -> None:
        super().__init__(liar, fault)
        self._others: dict[tuple[int, int], tuple[bytes, list[int]]] = {}

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        proposal = self.own_proposal(message)
        if proposal is not None:
            named = proposal.pre_prepare.message
            place = (named.view, named.sequence)
            if place not in self._others:
                batch = self.another_batch(proposal.batch)
                victims = [p for p in self.liar.peers if self.likely(0.5)]
                self._others[place] = self.propose(*place, batch), victims
                honest = [p for p in self.liar.peers if p not in victims]
                self.liar.coalition.support(*place, batch.digest, victims)
                self.liar.coalition.support(*place, named.digest, honest)
            other, victims = self._others[place]
            yield (other if target in victims else raw), 0
            return
        vote = self.own(message)
        if isinstance(vote, (wire.Prepare, wire.Commit)):
            plot = self.liar.coalition.plots.get((vote.view, vote.sequence), {})
            wanted = plot.get(target)
            if wanted is not None and wanted != vote.digest:
                fields = list(vote.fields())
                fields[3] = wanted
                yield self.liar.sign(type(vote)(*fields)), 0
                return
        yield raw, 0


class Withhold(Vice):
    """Says certain things to certain peers only."""

    name = "withhold"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        mask = self.fault.value >> 8
        hidden = mask >> (sum(kind_of(message).encode()) % 16) & 1
        if not (hidden and target in self.victims):
            yield raw, 0


class Replay(Vice):
    """Says again what anybody said before."""

    name = "replay"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        yield raw, 0
        if self.likely(0.15):
            old = self.liar.recall_raw()
            if old is not None:
                yield old, 0

    def act(self) -> None:
        for _ in range(4):
            old = self.liar.recall_raw()
            if old is not None:
                self.liar.did("(any)", self.name)
                self.liar.send(self.somebody(), old)


class OldNews(Vice):
    """Passes the oldest words of others on as if they were new: old clocks, wants and needs."""

    name = "old_news"

    def __init__(self, liar: Liar, fault: Fault) -> None:
        super().__init__(liar, fault)
        self._oldest: dict[tuple[bytes, type], bytes] = {}

    def hear(self, peer: int, message: wire.Message) -> bool:
        if isinstance(message, wire.Verified):
            place = (message.signer, type(message.message))
            self._oldest.setdefault(place, message.raw)
            primary = self.liar.view % self.world.plan.n
            if place[1] in (wire.Commit, wire.Status) and primary != peer:
                self.liar.did(place[1].__name__, self.name)
                self.liar.send(primary, self._oldest[place])
        return True

    def act(self) -> None:
        target = self.somebody()
        for place in sorted(self._oldest, key=lambda p: (p[0], p[1].TAG)):
            self.liar.did(place[1].__name__, self.name)
            self.liar.send(target, self._oldest[place])


class Forge(Vice):
    """Other people's names under one's own signature, and signatures that fit nothing."""

    name = "forge"

    def act(self) -> None:
        raw = self.liar.recall_raw()
        if raw is None or not self.likely(0.3):
            return
        choice = self.chance.randrange(3)
        if choice == 0:
            at = max(0, len(raw) - 1 - self.chance.randrange(64))
            forged = raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
        else:
            said = wire.Commit(
                self.liar.number, self.liar.view, self.liar.executed + 1, self.digest(), 0
            )
            mine = self.liar.sign(said)
            other = self.world.keys[self.somebody()]
            forged = mine.replace(self.liar.node.key, other, 1)
        self.liar.did("(any)", self.name)
        self.liar.send(self.somebody(), forged)


class Flood(Vice):
    """Many well-signed messages of no use: far views, far numbers, endless questions."""

    name = "flood"

    def act(self) -> None:
        target = self.somebody()
        for _ in range(self.chance.choice((3, 10, 25))):
            self.liar.say(target, self._junk(), self.name)

    def _junk(self) -> wire.Signed:
        far = self.chance.choice((1, 2, 5, 100, 10**6, wire.COUNTER_MAX - 10))
        view = self.chance.choice((0, self.liar.view, self.liar.view + 1, self.liar.view + far))
        view = min(view, wire.COUNTER_MAX)
        sequence = min(self.liar.executed + far, wire.COUNTER_MAX - 1)
        digest = self.digest()
        choice = self.chance.randrange(8)
        if choice == 0:
            return wire.Prepare(self.liar.number, view, sequence, digest)
        if choice == 1:
            return wire.Commit(
                self.liar.number, view, sequence, digest, self.chance.randrange(1 << 50)
            )
        if choice == 2:
            return wire.Checkpoint(self.liar.number, sequence, digest)
        if choice == 3:
            return wire.Status(self.liar.number, view, self.likely(0.5), sequence, sequence, far)
        if choice == 4:
            return wire.FetchBatches(self.liar.number, 1 + self.chance.randrange(40), 41)
        if choice == 5:
            return wire.FetchBody(self.liar.number, digest)
        if choice == 6:
            return wire.Bundle(far, 1 + self.chance.randrange(20), (self.liar.operation(),))
        return wire.ViewChange(self.liar.number, max(1, view), 0, (), ())


class LieInViewChange(Vice):
    """Hides what was prepared, invents what was not, and asks for new views for no reason."""

    name = "lie_in_view_change"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        change = self.own(message)
        if isinstance(change, wire.ViewChange) and self.likely(0.8):
            raw = self.liar.sign(self.another(change, self.chance))
        yield raw, 0

    def another(self, change: wire.ViewChange, chance: random.Random) -> wire.ViewChange:
        stable, at, prepared = change.stable, change.stable_sequence, change.prepared
        view = change.view
        choice = chance.randrange(8)
        if choice == 0:
            prepared = ()
        elif choice == 1:
            prepared = prepared[1:]
        elif choice == 2:
            prepared = (*prepared, self._invented(view - 1, chance))
        elif choice == 3:
            prepared = (self._invented(max(0, view - 1), chance),)
        elif choice == 4:
            at, stable = 0, ()
        elif choice == 5:
            at += 2 * self.world.plan.checkpoint_interval
            false = wire.Checkpoint(self.liar.number, at, self.digest())
            stable = (self.liar.node.signer.sign(false),) * self.world.configuration.quorum
        elif choice == 6:
            prepared = prepared[::-1]
        else:
            old = self.liar.recall("ViewChange")
            if old is not None:
                prepared, at, stable = (
                    old.message.prepared,
                    old.message.stable_sequence,
                    old.message.stable,
                )
        return wire.ViewChange(self.liar.number, view, at, stable, prepared)

    def _invented(self, view: int, chance: random.Random) -> wire.PreparedCertificate:
        """A certificate for what nobody prepared, as good as the liars can make it."""
        liars = [m.node for _, m in sorted(self.liar.coalition.members.items())]
        sequence = max(1, self.liar.executed + chance.choice((-2, -1, 0, 1, 1, 2)))
        view = max(0, view - chance.choice((0, 0, 1, 2)))
        primary = self.world.configuration.primary(view)
        signer = next((node for node in liars if node.key == primary), self.liar.node)
        digest = chance.choice((wire.NULL_BATCH.digest, self.digest()))
        pre_prepare = signer.signer.sign(wire.PrePrepare(self.liar.number, view, sequence, digest))
        prepares = [
            node.signer.sign(wire.Prepare(self.liar.number, view, sequence, digest))
            for node in liars
        ]
        real = self.liar.recall("Prepare")
        if real is not None:
            prepares.append(real)
        wanted = self.world.configuration.quorum - 1
        distinct = {prepare.signer: prepare for prepare in prepares}
        prepares = chance.choice(((prepares * wanted)[:wanted], list(distinct.values())))
        return wire.PreparedCertificate(pre_prepare, tuple(prepares))

    def act(self) -> None:
        if self.likely(0.3):
            ahead = self.chance.choice((1, 1, 1, 2, 3, 50, 10**9))
            base = self.liar.recall("ViewChange")
            held = base.message.prepared if base is not None and self.likely(0.5) else ()
            change = wire.ViewChange(self.liar.number, self.liar.view + ahead, 0, (), held)
            for peer in self.liar.peers:
                if self.likely(0.7):
                    self.liar.say(peer, change, self.name)


class LieInNewView(Vice):
    """Opens views that do not follow from the view changes that they show."""

    name = "lie_in_new_view"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        new = self.own(message)
        if isinstance(new, wire.NewView) and self.likely(0.8):
            raw = self.liar.sign(self._another(new))
        yield raw, 0

    def _another(self, new: wire.NewView) -> wire.NewView:
        changes, opens = list(new.view_changes), list(new.pre_prepares)
        sign = self.liar.node.signer.sign
        choice = self.chance.randrange(9)
        if choice == 0:
            opens = opens[:-1]
        elif choice == 1 and opens:
            at = self.chance.randrange(len(opens))
            said = opens[at].message
            digest = self.chance.choice((wire.NULL_BATCH.digest, self.digest()))
            opens[at] = sign(wire.PrePrepare(self.liar.number, said.view, said.sequence, digest))
        elif choice == 2:
            last = opens[-1].message.sequence if opens else self.liar.executed
            opens.append(
                sign(wire.PrePrepare(self.liar.number, new.view, last + 1, wire.NULL_BATCH.digest))
            )
        elif choice == 3:
            changes = changes[:-1]
        elif choice == 4:
            changes = changes[:1] * len(changes)
        elif choice == 5:
            opens = self._lowest(new)
        elif choice == 6:
            mine = wire.ViewChange(self.liar.number, new.view, 0, (), ())
            at = next((i for i, c in enumerate(changes) if c.signer == self.liar.node.key), -1)
            if at >= 0:
                changes[at] = sign(mine)
        elif choice == 7:
            changes = [sign(wire.ViewChange(self.liar.number, new.view, 0, (), ()))] * len(changes)
            opens = []
        else:
            opens = []
        return wire.NewView(self.liar.number, new.view, tuple(changes), tuple(opens))

    def _lowest(self, new: wire.NewView) -> list[wire.Verified[wire.PrePrepare]]:
        """As if the lowest prepared view won."""
        lowest: dict[int, tuple[int, bytes]] = {}
        for change in new.view_changes:
            for certificate in change.message.prepared:
                named = certificate.pre_prepare.message
                found = (named.view, named.digest)
                lowest[named.sequence] = min(lowest.get(named.sequence, found), found)
        return [
            self.liar.node.signer.sign(
                wire.PrePrepare(
                    0,
                    new.view,
                    p.message.sequence,
                    lowest.get(p.message.sequence, (0, p.message.digest))[1],
                )
            )
            for p in new.pre_prepares
        ]


class Hasty(Vice):
    """About to lead a view, proposes in it before it is open, and something else afterwards."""

    name = "hasty"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        said = self.own(message)
        yield raw, 0
        if isinstance(said, wire.ViewChange):
            n = self.world.plan.n
            mine = said.view + (self.liar.node.index - said.view) % n
            known = self.liar.recall("Bundle")
            batch = wire.NULL_BATCH if known is None else wire.Batch((), (known,))
            first = said.stable_sequence + 1
            for sequence in range(first, min(first + 3, self.liar.executed + 3)):
                yield self.propose(mine, sequence, batch), 0


class LieAtCheckpoint(Vice):
    """Signs wrong roots, some of them for numbers that nobody reached."""

    name = "lie_at_checkpoint"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        said = self.own(message)
        if isinstance(said, wire.Checkpoint) and self.likely(0.7):
            raw = self.liar.sign(wire.Checkpoint(self.liar.number, said.sequence, self.digest()))
        elif isinstance(message, wire.StableCheckpoint) and self.likely(0.7):
            raw = wire.StableCheckpoint(self._others(message.checkpoints)).pack()
        yield raw, 0

    def _others(
        self, checkpoints: tuple[wire.Verified[wire.Checkpoint], ...]
    ) -> tuple[wire.Verified[wire.Checkpoint], ...]:
        if not checkpoints or self.likely(0.5):
            false = wire.Checkpoint(self.liar.number, self._ahead(), self.digest())
            return (self.liar.node.signer.sign(false),) * self.world.configuration.quorum
        return checkpoints[:1] * len(checkpoints)

    def _ahead(self) -> int:
        interval = self.world.plan.checkpoint_interval
        return (self.liar.executed // interval + self.chance.choice((0, 1, 2, 1000))) * interval

    def act(self) -> None:
        if self.likely(0.5):
            said = wire.Checkpoint(self.liar.number, self._ahead(), self.digest())
            self.liar.say(self.somebody(), said, self.name)
        if self.likely(0.3):
            self.liar.did("StableCheckpoint", self.name)
            self.liar.send(self.somebody(), wire.StableCheckpoint(self._others(())).pack())


class TwoFaces(Vice):
    """Votes differently with every peer."""

    name = "two_faces"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        said = self.own(message)
        if isinstance(said, (wire.Prepare, wire.Commit)) and self.likely(0.4):
            fields = list(said.fields())
            at = self.chance.choice((1, 2, 3, 3, 3))
            fields[at] = self.digest() if at == 3 else fields[at] + 1
            if self.likely(0.5):
                yield raw, 0
            raw = self.liar.sign(type(said)(*fields))
        yield raw, 0


class Censor(Vice):
    """Never hears what one origin asks for; as primary it never orders it."""

    name = "censor"

    def hear(self, peer: int, message: wire.Message) -> bool:
        if isinstance(message, wire.Verified) and isinstance(message.message, wire.Bundle):
            return message.signer != self.world.keys[self.fault.peer]
        return True


class Disorder(Vice):
    """As primary, orders bundles twice, backwards, too early, or again after they were executed."""

    name = "disorder"

    def __init__(self, liar: Liar, fault: Fault) -> None:
        super().__init__(liar, fault)
        self._others: dict[tuple[int, int], bytes] = {}

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        proposal = self.own_proposal(message)
        if proposal is not None:
            named = proposal.pre_prepare.message
            place = (named.view, named.sequence)
            if place not in self._others:
                batch = proposal.batch
                if self.likely(0.5):
                    batch = self.another_batch(batch)
                    self.liar.coalition.support(*place, batch.digest, self.liar.peers)
                self._others[place] = self.propose(*place, batch)
            raw = self._others[place]
        yield raw, 0


class OddClock(Vice):
    """Signs impossible clock readings, and orders batches with old or one-sided evidence."""

    name = "odd_clock"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        said = self.own(message)
        if isinstance(said, (wire.Commit, wire.Status)) and self.likely(0.7):
            clock = self.chance.choice((0, 1, said.clock_ms + 10**7, wire.COUNTER_MAX))
            raw = self.liar.sign(replace(said, clock_ms=clock))
        proposal = self.own_proposal(message)
        if proposal is not None:
            named = proposal.pre_prepare.message
            batch = wire.Batch(self._evidence(), proposal.batch.bundles)
            self.liar.coalition.support(named.view, named.sequence, batch.digest, self.liar.peers)
            raw = self.propose(named.view, named.sequence, batch)
        yield raw, 0

    def _evidence(self) -> tuple[Any, ...]:
        quorum = self.world.configuration.quorum
        sign = self.liar.node.signer.sign
        view, sequence = self.liar.view, max(1, self.liar.executed)
        odd = [
            member.node.signer.sign(
                wire.Commit(self.liar.number, view, sequence, self.digest(), wire.COUNTER_MAX)
            )
            for _, member in sorted(self.liar.coalition.members.items())
        ]
        old = [self.liar.recall(self.chance.choice(("Commit", "Status"))) for _ in range(9)]
        distinct = {e.signer: e for e in old if e is not None}
        choice = self.chance.randrange(4)
        if choice == 0:
            return (
                sign(wire.Commit(self.liar.number, view, sequence, self.digest(), 10**15)),
            ) * quorum
        if choice == 1:
            return tuple(odd)
        distinct.update((e.signer, e) for e in odd)
        return tuple([distinct[signer] for signer in sorted(distinct)][:quorum])


class Mismatch(Vice):
    """Sends pre-prepares with batches that they do not name."""

    name = "mismatch"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        proposal = self.own_proposal(message)
        if proposal is not None and target in self.victims:
            other = self.another_batch(proposal.batch)
            raw = wire.Proposal(proposal.pre_prepare, other).pack()
        yield raw, 0


class Mute(Vice):
    """Says nothing at all."""

    name = "mute"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        return
        yield


class MutePrimary(Vice):
    """Says nothing while it is the primary."""

    name = "mute_primary"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        if not self.liar.is_primary:
            yield raw, 0


class SlowPrimary(Vice):
    """Stays just inside the time-out while it is the primary."""

    name = "slow_primary"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        later = 0
        if self.liar.is_primary:
            later = int(self.world.plan.timeout_ticks * (0.6 + 0.5 * self.chance.random()))
        yield raw, later


class DoubleBundle(Vice):
    """As an origin: two bundles under one number, gaps, old and far incarnations."""

    name = "double_bundle"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        said = self.own(message)
        if isinstance(said, wire.Bundle) and self.likely(0.6):
            raw = self.liar.sign(
                wire.Bundle(said.incarnation, said.number, (self.liar.operation(),))
            )
        yield raw, 0

    def act(self) -> None:
        incarnation = max(1, self.liar.node.disk.incarnation + self.chance.choice((-1, 0, 0, 1)))
        number = 1 + self.chance.randrange(4)
        for peer in self.liar.peers:
            said = wire.Bundle(incarnation, number, (self.liar.operation(),))
            self.liar.say(peer, said, self.name)


class Coup(Vice):
    """Wants honest members out and its friends in, odd rules, and votes on whatever there is."""

    name = "coup"

    def act(self) -> None:
        node = self.liar.node
        if not node.is_member or node.is_balloting:
            return
        keys = self.world.keys
        records = dict(signing.records(self.world.plan.n))
        choice = self.chance.random()
        ballot: Propose | Approve | Leave
        if choice < 0.3:
            ballot = Propose(Dismiss(keys[self.somebody()]))
        elif choice < 0.5:
            ballot = Propose(Admit(records[keys[self.somebody()]], keys[self.somebody()]))
        elif choice < 0.7:
            ballot = Propose(Admit(records[keys[self.somebody()]]))
        elif choice < 0.8:
            name = self.chance.choice(("pbft_timeout", "checkpoint_interval", "quorum"))
            value = self.chance.choice((0, 1, 4, 100, 128, 129, 1_000, 3_600_001))
            ballot = Propose(Adjust(name, value))
        else:
            ballot = Approve(1 + self.chance.randrange(12), self.likely(0.5))
        self.liar.did("Bundle", self.name)
        node.vote(ballot.encode())


class Stuff(Vice):
    """As an origin: much behind a gap, which never executes; as the primary: no proposals."""

    name = "stuff"

    def __init__(self, liar: Liar, fault: Fault) -> None:
        super().__init__(liar, fault)
        self._stuffed = 0  # the incarnation

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        if self.own_proposal(message) is None:
            yield raw, 0

    def act(self) -> None:
        incarnation = self.liar.node.disk.incarnation
        if self._stuffed == incarnation:
            return
        self._stuffed = incarnation
        plan = self.world.plan
        size = plan.bytes_a_tick * plan.timeout_ticks // 8 or STUFFING_BYTES
        first = wire.Bundle(incarnation, 1, (self.liar.operation(),))
        gap = [wire.Bundle(incarnation, number, (bytes(size),)) for number in range(3, 9)]
        for peer in self.liar.peers:
            for said in (first, *gap):
                self.liar.say(peer, said, self.name)


class LieInStatus(Vice):
    """Claims to be far ahead, far behind, or in another view; differently to everybody.

    Whether it is asked or not.
    """

    name = "lie_in_status"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        said = self.own(message)
        if isinstance(said, wire.Status) and self.likely(0.8):
            far = self.chance.choice((0, 1, 3, 1000, wire.COUNTER_MAX - 200))
            raw = self.liar.sign(
                wire.Status(
                    0,
                    self.chance.choice((0, said.view, said.view + far)) & wire.COUNTER_MAX,
                    self.likely(0.5),
                    self.chance.choice((0, said.stable_sequence, far)),
                    self.chance.choice((0, said.executed_sequence, far)),
                    said.clock_ms,
                )
            )
        elif isinstance(said, wire.ReadIndex):
            index = self.chance.choice((0, 0, 0, said.sequence + 1, wire.COUNTER_MAX))
            raw = self.liar.sign(replace(said, sequence=index))
        yield raw, 0


class FalseAnswers(Vice):
    """Answers questions with the wrong batch, and proves batches with too few commits."""

    name = "false_answers"

    def hear(self, peer: int, message: wire.Message) -> bool:
        asked = message.message if isinstance(message, wire.Verified) else None
        if isinstance(asked, wire.FetchBody):
            known = self.liar.recall("Proposal")
            batch = self.another_batch(known.batch) if known is not None else wire.NULL_BATCH
            self.liar.did("Body", self.name)
            self.liar.send(peer, wire.Body(batch).pack())
            return self.likely(0.3)
        if isinstance(asked, wire.FetchState):
            self.liar.did("StatePart", self.name)
            self.liar.send(peer, self._part(asked))
            return self.likely(0.1)
        if isinstance(message, wire.Follow):
            self.liar.did("Committed", self.name)
            self.liar.send(peer, self._proof(min(message.after + 1, wire.COUNTER_MAX)))
            return self.likely(0.5)
        if isinstance(asked, (wire.FetchBatches, wire.Status)):
            first = (
                asked.first if isinstance(asked, wire.FetchBatches) else asked.executed_sequence + 1
            )
            if self.likely(0.1):  # whoever believes this asks how it came about
                later = asked.configuration % wire.COUNTER_MAX + 1
                far = self.liar.executed + BATCHES_MAX + 100
                boast = wire.Status(later, 0, False, 0, far, self.liar.node.clock_ms())
                self.liar.say(peer, boast, self.name)
            self.liar.did("Committed", self.name)
            self.liar.send(peer, self._proof(min(first, wire.COUNTER_MAX)))
            return self.likely(0.5)
        return True

    def _part(self, asked: wire.FetchState) -> bytes:
        """Pieces of a state, with a flaw in them: of another one, of nothing, or a bit flipped."""
        if asked.kind == wire.HANDOVERS and self.likely(0.7):
            data = self._lineage(int.from_bytes(b"".join(asked.items[:1]), "big"))
            return wire.StatePart(asked.sequence, asked.kind, data).pack()
        body = self.liar.node
        found = body.disk.part(body.key, asked.sequence, asked.kind, asked.items)
        data = bytearray(found or self.digest())
        if self.likely(0.8):
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        return wire.StatePart(asked.sequence, asked.kind, bytes(data)).pack()

    def _lineage(self, number: int) -> bytes:
        """The liars alone follow those of configuration `number`, and have proven a state."""
        before = self.world.configurations[min(number, len(self.world.configurations) - 1)]
        signers = [member.node.signer for _, member in sorted(self.liar.coalition.members.items())]
        after = before.followed_by(before.start + 1, tuple(sorted(s.public for s in signers)))
        vote = wire.Commit(number, 0, after.start, self.digest(), 0, after.digest)
        state = wire.Checkpoint(after.number, self.liar.executed + 1, self.digest())
        proven = wire.StableCheckpoint(tuple(signer.sign(state) for signer in signers))
        handover = wire.Handover(after.members, tuple(signer.sign(vote) for signer in signers))
        return wire.pack_lineage(proven.pack(), (handover.raw,))

    def _proof(self, sequence: int) -> bytes:
        known = self.liar.recall("Proposal")
        batch = self.another_batch(known.batch) if known is not None else wire.NULL_BATCH
        real = self.liar.recall("Committed")
        quorum = self.world.configuration.quorum
        if real is not None and real.commits and self.likely(0.4):
            kept = real.commits[:-1]
            commits = self.chance.choice((kept, (kept + kept)[:quorum], ()))
            return wire.Committed(tuple(commits), real.batch).pack()
        said = wire.Commit(self.liar.number, self.liar.view, sequence, batch.digest, 0)
        own = [m.node.signer.sign(said) for _, m in sorted(self.liar.coalition.members.items())]
        return wire.Committed(tuple((own * quorum)[:quorum]), batch).pack()


class Garble(Vice):
    """Breaks bytes on the way: every link of this node is a bad one."""

    name = "garble"

    def bend(self, target: int, raw: bytes, message: wire.Message) -> Bent:
        if self.likely(0.03):
            at = self.chance.randrange(len(raw))
            choice = self.chance.randrange(3)
            if choice == 0:
                raw = raw[:at]
            elif choice == 1:
                raw = raw[:at] + self.chance.randbytes(1) + raw[at + 1 :]
            else:
                raw = self.chance.randbytes(at)
        yield raw, 0


class Usurp(Vice):
    """Proposes and opens views that are not its own, or that nobody asked for."""

    name = "usurp"

    def act(self) -> None:
        if not self.likely(0.5):
            return
        n, view = self.world.plan.n, self.liar.view
        sequence = self.liar.executed + 1
        mine = view + (self.liar.node.index - view) % n
        for wanted in (view, mine, mine + n, view + 1):
            batch = wire.NULL_BATCH
            known = self.liar.recall("Bundle")
            if known is not None:
                batch = wire.Batch((), (known,))
            peer = self.somebody()
            self.liar.did("Proposal", self.name)
            self.liar.send(peer, self.propose(wanted, sequence, batch))
            sign = self.liar.node.signer.sign
            changes = [
                m.node.signer.sign(wire.ViewChange(self.liar.number, max(1, wanted), 0, (), ()))
                for _, m in sorted(self.liar.coalition.members.items())
            ]
            heard = self.liar.recall("ViewChange")
            if heard is not None:
                changes.append(heard)
            quorum = self.world.configuration.quorum
            distinct = list({change.signer: change for change in changes}.values())
            changes = self.chance.choice(((changes * quorum)[:quorum], distinct))
            opens = (sign(wire.PrePrepare(self.liar.number, wanted, sequence, batch.digest)),)
            self.liar.say(
                peer,
                wire.NewView(self.liar.number, max(1, wanted), tuple(changes), opens),
                self.name,
            )


class Twins(Vice):
    """Runs two replicas with one key, each for some of the peers: only together do they lie."""

    name = "twins"

    def act(self) -> None:
        if self.likely(0.2):
            self.liar.did("(any)", self.name)
            self.liar.turn_sides()


class Amnesia(Vice):
    """Loses its card now and then, and starts again with an empty one and the old key."""

    name = "amnesia"

    def act(self) -> None:
        if self.likely(0.1) and self.liar.node.alive and not self.world.healed:
            self.liar.did("(any)", self.name)
            self.world.crash(self.liar.node.index, 50)
            for body in self.liar.bodies:
                body.disk = self.forgotten(body)

    def forgotten(self, body: Node) -> Disk:
        """What is left: a new node would begin above every incarnation that was agreed on."""
        empty = Disk(self.world.build.machine(self.world.plan))
        empty.incarnation = body.disk.incarnation
        return empty


class OldBackup(Amnesia):
    """Loses its card too, and puts an old copy in its place."""

    name = "old_backup"

    def __init__(self, liar: Liar, fault: Fault) -> None:
        super().__init__(liar, fault)
        self._copies: dict[int, Disk] = {}

    def act(self) -> None:
        for number, body in enumerate(self.liar.bodies):
            if number not in self._copies and body.disk.machine.executed:
                self._copies[number] = copy.deepcopy(body.disk)
        if len(self._copies) == len(self.liar.bodies):
            super().act()

    def forgotten(self, body: Node) -> Disk:
        return copy.deepcopy(self._copies[self.liar.bodies.index(body)])


VICES: dict[str, type[Vice]] = {
    vice.name: vice
    for vice in (
        Equivocate,
        Withhold,
        Replay,
        OldNews,
        Forge,
        Flood,
        LieInViewChange,
        LieInNewView,
        Hasty,
        LieAtCheckpoint,
        TwoFaces,
        Censor,
        Disorder,
        OddClock,
        Mismatch,
        Mute,
        MutePrimary,
        SlowPrimary,
        DoubleBundle,
        Coup,
        Stuff,
        LieInStatus,
        FalseAnswers,
        Garble,
        Usurp,
        Twins,
        Amnesia,
        OldBackup,
    )
}

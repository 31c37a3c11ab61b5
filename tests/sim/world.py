"""One simulated cluster from its first tick to its last: the heap, the faults, the healing.

Time is an integer of milliseconds; what happens in one tick happens in the order in which it was
asked for.  Nothing here reads a clock or draws from a chance that the seed does not determine.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aegis_edge.knowledge.agreed import Agreed, unpack
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration, Parameters
from tests.sim import byzantine, signing
from tests.sim.checkers import Judges, Violation
from tests.sim.clients import Client
from tests.sim.describe import describe
from tests.sim.network import Network
from tests.sim.node import Node
from tests.sim.operator import Operator
from tests.sim.plan import Fault, Plan, Weather

#: After healing: how many time-outs of the cluster may pass until everything that waits is done.
PATIENCE_TIMEOUTS = 40
#: How long the world is watched after everything is done, in status intervals.
REST_STATUSES = 3
#: More events than any healthy run has: a storm.
EVENTS_MAX = 600_000

#: What the network is like once the troubles are over.
FAIR = Weather(ordered=True, delay=2, jitter=3)


@dataclass(frozen=True)
class Build:
    """What the world is built from; a canary swaps one part for a broken one.

    `replica(signer, configuration, parameters, restored, open_)` makes the core under test,
    `machine(plan)` the applied state, `node` and `client` the shell and the callers.
    """

    replica: Callable[..., Any]
    machine: Callable[[Plan], Any]
    node: type[Node] = Node
    client: type[Client] = Client
    #: Promises that nobody judges: a canary's way to let a deeper judge see the mistake.
    blind: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Result:
    """How one seed went; plain data, so that it can cross from one process to another."""

    seed: int
    n: int
    violations: list[Violation]
    trace_hash: str
    ticks: int
    recovery_ticks: int
    events: int
    messages: int
    batches: int
    operations: int
    views: int
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    recovery_timeouts: float = 0.0


class World:
    """A cluster that follows a plan.  `trace` gets one line per thing that happens."""

    EPOCH_MS = 1_700_000_000_000

    def __init__(
        self, plan: Plan, build: Build, trace: Callable[[str], None] | None = None
    ) -> None:
        self.plan, self.build, self.trace = plan, build, trace
        self.now = 0
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._serial = 0
        self._hash = hashlib.blake2b(digest_size=8)
        signers = signing.signers(plan.n)
        self.keys = tuple(s.public for s in signers)
        self.index_of = {key: index for index, key in enumerate(self.keys)}
        #: As far as an honest node has come: the last one is in force.
        founders = tuple(self.keys[i] for i in plan.founders)
        self.configurations = [Configuration(0, founders, quorum.faults(len(founders)))]
        self._distance = plan.random("distance")
        self._parameters = Parameters(
            checkpoint_interval=plan.checkpoint_interval,
            window=plan.window,
            timeout_ticks=plan.timeout_ticks,
            status_ticks=plan.status_ticks,
            pipeline=plan.pipeline,
            way_ticks=self._distance.choice((0, 1 + plan.weather.delay // 4)),
            # Without slow lines some believe in them.
            bytes_a_second=1_000 * plan.bytes_a_tick or self._distance.choice((0, 0, 20_000)),
        )
        self.reader = signing.Reader(self.keys)
        self.coverage: Counter[tuple[str, str]] = Counter()
        self.faults_done: Counter[str] = Counter()
        self.judges = Judges(self)
        self.network = Network(
            self,
            plan.n,
            plan.weather,
            plan.random("network"),
            alive=lambda index: self.nodes[index].alive,
            opened=lambda index, peer: self._bodies(index, lambda body: body.link_up(peer)),
            closed=lambda index, peer: self._bodies(index, lambda body: body.link_down(peer)),
            arrived=self._arrived,
            bytes_a_tick=plan.bytes_a_tick,
        )
        self.nodes = [build.node(self, index, signer) for index, signer in enumerate(signers)]
        self.down_until = [0] * plan.n
        self.healed = self.rested = False
        self.done_at = 0
        self._finished = False
        self.coalition = byzantine.Coalition(self)
        for liar in plan.liars:
            self.nodes[liar].liar = True
            self.coalition.corrupt(self.nodes[liar], [v for v in plan.vices if v.node == liar])
        self.operator = Operator(self)
        self.clients = [build.client(self, number) for number in range(plan.clients)]

    def parameters(self, index: int, agreed: tuple[Agreed, ...] = ()) -> Parameters:
        """What one node counts and waits for, where the members agreed on some of it."""
        own = self._parameters
        if self.plan.mixed:
            choice = self.plan.random(f"parameters {index}").choice
            own = replace(
                own,
                timeout_ticks=self.plan.timeout_ticks * choice((4, 5, 6)) // 5,
                pipeline=choice((1, 2, 4)),
                bundles_in_flight=choice((1, 2, 4)),
            )
        shared = {name: value for name, value, _ in agreed}
        interval = shared.get("checkpoint_interval", own.checkpoint_interval)
        return replace(
            own,
            timeout_ticks=shared.get("pbft_timeout", own.timeout_ticks),
            checkpoint_interval=interval,
            window=own.window // own.checkpoint_interval * interval,
        )

    # --- time ---

    def at(self, tick: int, action: Callable[[Any], None], argument: Any) -> None:
        """Do `action(argument)` at a tick that is not yet over."""
        self._serial += 1
        heapq.heappush(self._heap, (tick, self._serial, action, argument))

    def step(self) -> None:
        """The next thing that happens."""
        self.now, _, action, argument = heapq.heappop(self._heap)
        action(argument)

    def run(self) -> Result:
        """Everything, from the first power-up to the verdict."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._run()
        finally:
            if collecting:
                gc.enable()

    def _run(self) -> Result:
        for node in self.nodes:
            self.at(int(20 * self.plan.random(f"boot {node.index}").random()), self._boot, node)
        for fault in self.plan.faults:
            self.at(fault.at, self._fault, fault)
        for client in self.clients:
            client.begin()
        self.coalition.begin()
        for tick in self.plan.moves:
            self.at(tick, self.operator.wish, None)
        self.at(self.plan.heal_at, self._heal, None)
        events = 0
        while self._heap and not self._finished:
            self.step()
            events += 1
            if events > EVENTS_MAX:
                self.judges.fail("storm", f"more than {EVENTS_MAX} events: this never ends")
                break
            if self.judges.violations:
                break
        if not self.judges.violations:
            self.judges.conclude()
        return Result(
            seed=self.plan.seed,
            n=self.plan.n,
            violations=list(self.judges.violations),
            trace_hash=self._hash.hexdigest(),
            ticks=self.now,
            recovery_ticks=max(0, self.done_at - self.plan.heal_at),
            events=events,
            messages=self.network.sent,
            batches=len(self.judges.ledger),
            operations=sum(client.completed for client in self.clients),
            views=max((node.replica.view for node in self.honest if node.alive), default=0),
            coverage=self.coverage,
            faults=self.faults_done,
            alarms=self.judges.alarms,
            recovery_timeouts=max(0, self.done_at - self.plan.heal_at) / self.plan.timeout_ticks,
        )

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        return self.configurations[-1]

    @property
    def agreed(self) -> tuple[Agreed, ...]:
        """What the members agreed on, beside who they are."""
        return unpack(self.configuration.terms)

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if not node.liar]

    @property
    def members(self) -> list[Node]:
        """The honest ones."""
        return [node for node in self.honest if node.key in self.configuration]

    def configuration_at(self, sequence: int) -> Configuration:
        """The one that orders `sequence`."""
        return next(c for c in reversed(self.configurations) if c.start < sequence)

    # --- what happens ---

    def note(self, node: Node, verb: str, what: Any) -> None:
        """One line of the trace; the hash of all lines names the run."""
        if self.trace is not None:
            self.trace(f"{self.now:7d} ms  node {node.index} {verb:8s} {describe(self, what)}")

    def mark(self, what: bytes) -> None:
        """Let something that happened count in the hash that names the run."""
        self._hash.update(b"%d " % self.now + what)

    def _boot(self, node: Node) -> None:
        if not node.alive and self.now >= self.down_until[node.index]:
            self._bodies(node.index, lambda body: body.start(), dead=True)

    def crash(self, index: int, lasts: int = 0) -> None:
        """The power of one node fails; it comes back after `lasts` ticks, or a moment."""
        lasts = lasts or 50
        self.down_until[index] = max(self.down_until[index], self.now + lasts)
        self._bodies(index, lambda body: body.crash())
        self.at(self.down_until[index], self._boot, self.nodes[index])

    def round_trip_ticks(self, peer: int) -> int:
        """What a new link to a node measures; a liar answers when it likes."""
        if peer in self.plan.liars:
            return self._distance.choice((1, 1_000, 1_000_000))
        return 2 * self.plan.weather.delay + 1 + self._distance.randrange(20)

    def _bodies(self, index: int, action: Callable[[Node], None], *, dead: bool = False) -> None:
        """A liar may run two bodies with one key; everybody else has one."""
        for body in self.coalition.bodies(self.nodes[index]):
            if body.alive != dead:
                action(body)

    def _arrived(self, index: int, peer: int, raw: bytes) -> None:
        self.mark(b"%d %d " % (index, peer) + raw)
        node = self.nodes[index]
        if node.liar:
            self.coalition.hears(node, peer, raw)
        elif node.alive:
            node.arrived(peer, raw)

    def refused(self, node: Node, peer: int, reason: str) -> None:
        """Bytes that mean nothing: the shell closes that link and nothing else."""
        self.coverage[("(refused)", reason)] += 1
        if not self.nodes[peer].liar and not node.liar:
            self.judges.fail("validity", f"node {node.index} cannot read node {peer}: {reason}")
        self.network.reset(node.index, peer)

    # --- faults ---

    def _fault(self, fault: Fault) -> None:
        kind = fault.kind
        self.faults_done[kind] += 1
        if self.trace is not None:
            self.trace(f"{self.now:7d} ms  fault  {fault}")
        node = fault.node
        if kind.endswith("_primary"):
            node, kind = self._primary(), kind.removesuffix("_primary")
        others = [index for index in range(self.plan.n) if index != node]
        if kind == "crash":
            self.crash(node, fault.lasts)
        elif kind == "crash_writing":
            self.down_until[node] = self.now + fault.lasts
            self.nodes[node].crash_when_writing = True
        elif kind == "power_loss":
            for index in range(self.plan.n):
                self.crash(index, fault.lasts)
        elif kind == "power_loss_writing":
            for index in range(self.plan.n):
                self.nodes[index].crash_when_writing = True
        elif kind == "partition":
            side = [index for index in range(self.plan.n) if fault.value >> index & 1]
            self._cut([(a, b) for a in side for b in range(self.plan.n) if b not in side], fault)
        elif kind == "isolate":
            self._cut([(node, other) for other in others], fault)
        elif kind == "flap":
            self._flap((fault, fault.value % 8))
        elif kind in ("deaf", "dumb"):
            pairs = [(other, node) if kind == "deaf" else (node, other) for other in others]
            if fault.value % 3 and node != fault.peer:  # most often one peer only
                pairs = [p for p in pairs if fault.peer in p]
            for pair in pairs:
                self.network.block(*pair, 1)
            self.at(self.now + fault.lasts, self._unblock, pairs)
        elif kind == "slow_link":
            slower = fault.value % 1_000
            self.network.slow(node, fault.peer, slower)
            self.at(self.now + fault.lasts, self._hasten, (node, fault.peer, slower))
        elif kind == "slow_disk":
            self.nodes[node].disk_slower = fault.value % 500
            self.at(self.now + fault.lasts, self._mend_disk, node)
        elif kind == "disk_lost":
            self._lose_disk(fault)
        elif kind == "clock":
            self.nodes[node].clock_offset = self._offset(fault.value)
            self.judges.clock_changed()
        else:
            assert kind == "storm", f"an unknown fault: {kind}"
            before = self.network.weather
            self.network.weather = Weather(
                ordered=fault.value % 2 == 0,
                delay=before.delay,
                jitter=4 * before.jitter + 10,
                loss=(0.1, 0.3, 0.6)[fault.value % 3],
                doubled=(0.0, 0.3)[fault.value % 2],
            )
            self.at(self.now + fault.lasts, self._calm, before)

    def _lose_disk(self, fault: Fault) -> None:
        """A card breaks, and an empty one takes its place; unless that could not be borne."""
        node = self.nodes[fault.node]
        if node.liar or not self._may_forget(node):
            self.faults_done[fault.kind] -= 1
            return
        self.crash(node.index, fault.lasts)
        self.judges.forgot(node)
        node.lose_disk()

    def _may_forget(self, node: Node) -> bool:
        """Whether it can be borne that this one is as good as faulty, for it forgets its votes.

        There may be f such together with the liars or, in clusters that bear no liar, one alone.
        Of two nodes one votes again before it knows all that the other knows, and one alone, who
        may have been one of more, knows all.
        """
        others = [other for other in self.honest if other is not node]
        if self.plan.moves and (
            self.operator.waits
            or len(self.configuration.members) == 1
            or node.key not in self.configuration
            or self.plan.founders == (node.index,)  # its owner would be asked
        ):
            return False
        if self.plan.n == 2:
            return not any(other.disk.rebuilt for other in others)
        forgetful = sum(other.forgetful for other in others) if others else 1
        liars = sum(self.keys[liar] in self.configuration for liar in self.plan.liars)
        return forgetful + liars < max(1, self.configuration.f)

    def _primary(self) -> int:
        """The primary of the highest view that an honest node is in."""
        now = self.configuration
        views = (
            node.replica.view
            for node in self.honest
            if node.alive and node.replica.configuration.number == now.number
        )
        return self.index_of[now.primary(max(views, default=0))]

    def _offset(self, value: int) -> int:
        day = 86_400_000
        return (-self.EPOCH_MS, -day, -3_000, 3_000, day, 9 * 365 * day)[value % 6]

    def _cut(self, pairs: list[tuple[int, int]], fault: Fault) -> None:
        for a, b in pairs:
            self.network.cut(a, b, 1)
        self.at(self.now + fault.lasts, self._mend, pairs)

    def _mend(self, pairs: list[tuple[int, int]]) -> None:
        if not self.healed:
            for a, b in pairs:
                self.network.cut(a, b, -1)

    def _flap(self, what: tuple[Fault, int]) -> None:
        fault, times = what
        if not self.healed and fault.node != fault.peer:
            self.network.reset(fault.node, fault.peer)
            if times:
                self.at(self.now + 30 + fault.lasts // 8, self._flap, (fault, times - 1))

    def _unblock(self, pairs: list[tuple[int, int]]) -> None:
        if not self.healed:
            for source, target in pairs:
                self.network.block(source, target, -1)

    def _hasten(self, what: tuple[int, int, int]) -> None:
        if not self.healed:
            self.network.slow(what[0], what[1], -what[2])

    def _mend_disk(self, node: int) -> None:
        self.nodes[node].disk_slower = 0

    def _calm(self, before: Weather) -> None:
        if not self.healed:
            self.network.weather = before

    # --- healing ---

    def _heal(self, _: None) -> None:
        """All troubles end, save the liars: links come up, nodes start, disks are quick."""
        self.healed = True
        if self.trace is not None:
            self.trace(f"{self.now:7d} ms  healing")
        self.network.mend(FAIR)
        for node in self.nodes:
            node.disk_slower = 0
            node.crash_when_writing = False
            self.down_until[node.index] = 0
            if not node.alive:
                self.at(self.now + 1 + node.index, self._boot, node)
        for client in self.clients:
            client.healed()
        self.at(self.now + 200, self._settled, None)

    def _settled(self, _: None) -> None:
        """Is everything done that waited?  Within a bound it must be."""
        patience = PATIENCE_TIMEOUTS * self.plan.timeout_ticks
        waiting = self.judges.unfinished()
        if waiting and self.now < max(self.done_at, self.plan.heal_at) + patience:
            self.at(self.now + 100, self._settled, None)
        elif waiting:
            self.judges.fail("progress", f"{patience} ms after healing: " + "; ".join(waiting))
        elif self.rested:
            self._finished = True
        else:
            self.done_at = self.now
            self.at(self.now + self.plan.status_ticks, self._rest, None)

    def _rest(self, _: None) -> None:
        """What was on its way has arrived: now nothing happens for a while."""
        self.judges.rest_begins()
        self.at(self.now + REST_STATUSES * self.plan.status_ticks, self._last_call, None)

    def _last_call(self, _: None) -> None:
        """After the rest everything works as before: every caller has one more wish."""
        self.judges.rest_ends()
        self.rested = True
        for client in self.clients:
            client.last_call()
        self.at(self.now + 100, self._settled, None)

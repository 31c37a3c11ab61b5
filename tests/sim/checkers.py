"""The judges: they see everything that honest nodes decide, say, write and answer.

Knows what the product promises (agreement, validity, durability, no execution twice, equal roots,
agreed time, answers that fit one register, progress) and nothing of how it keeps its promises: no
code of `pbft` is used to judge `pbft`.  Every judge has its canaries in `canaries`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aegis_edge.knowledge.state import unpack_retained
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import Alarm, Deliver, InstallState, Restored
from aegis_edge.wire import messages as wire
from tests.sim import linearizability
from tests.sim.model import Model
from tests.sim.node import SLOW_SYNCS
from tests.sim.operator import wish_of

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

#: The agreed time moves in steps of this size, and readings come with statuses; see `pbft.clocks`.
TIME_STEP_MS = 1_000
#: The journal's kind of the record that must be durable before a commit is said.
PREPARED_RECORD = 5
#: Messages that an idle pair of nodes may exchange in each direction per status interval.
IDLE_MESSAGES = 6


@dataclass(frozen=True)
class Violation:
    """A promise broken: which one, when, and how it shows."""

    promise: str
    tick: int
    text: str

    def __str__(self) -> str:
        return f"{self.promise} at {self.tick} ms: {self.text}"


@dataclass(frozen=True)
class Entry:
    """What was decided for one sequence number, as the first honest node delivered it."""

    sequence: int
    configuration: int
    view: int
    digest: bytes
    time_ms: int
    bundles: tuple[bytes, ...]
    outcomes: tuple[tuple[Any, ...], ...]
    by: int
    tick: int


@dataclass
class Term:
    """What one honest node ever said in one configuration."""

    votes: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    commits: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    view_changes: dict[int, wire.ViewChange] = field(default_factory=dict)
    new_views: dict[int, bytes] = field(default_factory=dict)
    left_for: int = 0
    #: Commits, and views left for, that were on a disk which is lost.
    forgotten: set[tuple[int, int]] = field(default_factory=set)
    forgotten_changes: set[int] = field(default_factory=set)


@dataclass
class Promises:
    """Everything that one honest node ever said, over all its lives."""

    last_delivered: int = 0
    heard: set[bytes] = field(default_factory=set)
    #: Of each configuration.
    terms: dict[int, Term] = field(default_factory=dict)
    bundles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    submitted: set[tuple[bytes, ...]] = field(default_factory=set)

    def term(self, number: int) -> Term:
        return self.terms.setdefault(number, Term())


class Judges:
    """All checkers of one world.  The first violation ends the run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[Violation] = []
        self.ledger: list[Entry] = []
        self.alarms: Counter[str] = Counter()
        self._promises = [Promises() for _ in range(world.plan.n)]
        self._model = Model(world.plan)
        self._roots: dict[int, tuple[bytes, int]] = {}
        #: Those that honest nodes took: a member alone says its own to nobody.
        self._taken: dict[int, tuple[bytes, int]] = {}
        self._executed_names: dict[tuple[bytes, int, int], int] = {}
        #: States that were fetched and installed, and those of them with other members.
        self.transfers = self.crossings = 0
        self._moment = 0
        self._bad_clocks: set[int] = set(world.plan.liars)
        self._time_is_good = True
        self._newest_time_ms = 0
        self._rest: tuple[int, int, int, bool] | None = None
        self._certificates: set[bytes] = set()
        self._highest_view: dict[int, int] = {}
        self._rest_view = -1

    def fail(self, promise: str, text: str) -> None:
        """A promise is broken; the run ends here."""
        if promise in self._world.build.blind:
            return
        self.violations.append(Violation(promise, self._world.now, text))
        if self._world.trace is not None:
            self._world.trace(f"{self._world.now:7d} ms  VIOLATED {promise}: {text}")

    def moment(self) -> int:
        """An ever higher number: the real-time order of calls and answers."""
        self._moment += 1
        return self._moment

    # --- what nodes do ---

    def crashed(self, node: Node, trace: str) -> None:
        """A replica raised: whatever came in, it must not."""
        if not node.liar:
            self.fail("no traceback", f"node {node.index}: {trace}")

    def started(self, node: Node, restored: Restored) -> None:
        promises = self._promises[node.index]
        if not node.liar:
            promises.last_delivered = restored.executed

    def forgot(self, node: Node) -> None:
        """A node loses its disk: what it said still binds it, though it cannot know of it.

        It may ask for a view again, and say what is true now instead of what was true then.
        """
        for term in self._promises[node.index].terms.values():
            term.forgotten.update(place[1:] for place in term.votes if place[0] == "Commit")
            term.forgotten_changes.update(term.view_changes)

    def alarmed(self, node: Node, alarm: Alarm) -> None:
        """An alarm is fine when there is a liar to raise it about."""
        if node.liar:
            return
        self.alarms[alarm.reason.split(":")[0]] += 1
        if self._world.trace is not None:
            self._world.note(node, "ALARMS", alarm.reason)
        about = self._world.index_of.get(alarm.about)
        if about is not None and not self._world.nodes[about].liar:
            self.fail("no false alarm", f"node {node.index} about node {about}: {alarm.reason}")

    def submitted(self, node: Node, operations: tuple[bytes, ...]) -> None:
        self._promises[node.index].submitted.add(operations)

    # --- agreement, validity, no execution twice, agreed time ---

    def decided(self, node: Node, deliver: Deliver) -> None:
        """An honest replica's batch becomes durable: from now on it may be answered for."""
        if node.liar:
            return
        promises = self._promises[node.index]
        sequence = deliver.sequence
        if sequence != promises.last_delivered + 1:
            self.fail(
                "order",
                f"node {node.index} delivers {sequence} after {promises.last_delivered}",
            )
            return
        promises.last_delivered = sequence
        carrier = self._certificate(node, deliver)
        if carrier is None:
            return
        raws = tuple(b.raw for b in deliver.bundles)
        if sequence <= len(self.ledger):
            entry = self.ledger[sequence - 1]
            if (entry.digest, entry.time_ms, entry.bundles) != (
                carrier.batch.digest,
                deliver.time_ms,
                raws,
            ):
                what = "another batch" if entry.digest != carrier.batch.digest else "other effects"
                self.fail(
                    "agreement", f"node {node.index} has {what} at {sequence} than node {entry.by}"
                )
            return
        self._check_new(node, deliver, carrier.batch)
        outcomes = self._model.execute(deliver.time_ms, deliver.bundles)
        number, view = carrier.commits[0].message.fields()[:2]
        self.ledger.append(
            Entry(
                sequence,
                number,
                view,
                carrier.batch.digest,
                deliver.time_ms,
                raws,
                outcomes,
                node.index,
                self._world.now,
            )
        )

    def installed(self, node: Node, install: InstallState) -> None:
        """A node takes the state of others: it must be the one that was agreed on there."""
        self.transfers += 1
        if node.liar:
            return
        promises = self._promises[node.index]
        sequence = install.sequence
        if sequence <= promises.last_delivered:
            self.fail("order", f"node {node.index} goes back to {sequence} by a transfer")
        promises.last_delivered = sequence
        root, by = self._roots.get(sequence) or self._taken.get(sequence, (b"", None))
        if node.disk.machine.root() != root:
            self.fail("equal roots", f"node {node.index} installs another {sequence} than {by}")
        elif node.disk.machine.executed != sequence:
            self.fail("order", f"node {node.index} does not go on after {sequence}")
        elif node.disk.machine.reborn(node.disk.machine.state).root() != root:
            self.fail("equal roots", f"node {node.index} has other rows than its tree says")
        for _, row in node.disk.machine.state.rows():
            for entry in unpack_retained(row):
                version = node.disk.machine.state.version(entry.revision)
                if version is None or version.digest() != entry.digest:
                    self.fail("equal roots", f"node {node.index} has another {version} there")

    def _certificate(self, node: Node, deliver: Deliver) -> wire.Committed | None:
        """The proof that comes with a batch, judged from scratch; honest signers must remember."""
        world = self._world
        carrier = world.reader.read(deliver.certificate)
        if not isinstance(carrier, wire.Committed):
            self.fail("proof", f"node {node.index} has no certificate for {deliver.sequence}")
            return None
        signers = {c.signer for c in carrier.commits}
        said = {
            (c.message.configuration, c.message.view, c.message.sequence) for c in carrier.commits
        }
        now = world.configuration_at(deliver.sequence)
        n, f = len(now.members), (len(now.members) - 1) // 3
        enough = 2 * len(signers) > n + f and signers <= set(now.members)
        if not enough or len(said) != 1 or next(iter(said))[::2] != (now.number, deliver.sequence):
            self.fail(
                "proof", f"node {node.index}'s certificate for {deliver.sequence} proves nothing"
            )
            return carrier
        if deliver.certificate in self._certificates:
            return carrier
        self._certificates.add(deliver.certificate)
        for commit in carrier.commits:
            signer = world.nodes[world.index_of[commit.signer]]
            place = (commit.message.view, deliver.sequence)
            remembers = (
                signer.liar
                or place in self._promises[signer.index].term(now.number).forgotten
                or max(signer.disk.synced, signer.disk.stable) >= deliver.sequence
                or (PREPARED_RECORD, commit.message.view, deliver.sequence) in signer.disk.records
            )
            if not remembers:
                self.fail(
                    "durability",
                    f"node {signer.index} said commit for {deliver.sequence}, and its disk does not"
                    " know of it",
                )
        return carrier

    def _check_new(self, node: Node, deliver: Deliver, batch: wire.Batch) -> None:
        world = self._world
        sequence = deliver.sequence
        expected = []
        for bundle in batch.bundles:
            name = (bundle.signer, bundle.message.incarnation, bundle.message.number)
            if self._model.follows(bundle):
                self._model.take(bundle)
                expected.append(bundle)
            if bundle.signer not in world.index_of:
                self.fail("validity", f"a stranger's bundle was executed at {sequence}")
                continue
            if bundle.signer not in world.configuration_at(sequence):
                self.fail("validity", f"a bundle of no member was executed at {sequence}")
            origin = world.nodes[world.index_of[bundle.signer]]
            promises = self._promises[origin.index]
            if not origin.liar and bundle.message.operations not in promises.submitted:
                self.fail("validity", f"nobody asked node {origin.index} for what {sequence} holds")
        for bundle in deliver.bundles:
            name = (bundle.signer, bundle.message.incarnation, bundle.message.number)
            if self._executed_names.setdefault(name, sequence) != sequence:
                self.fail(
                    "no execution twice",
                    f"{name[1:]} at {self._executed_names[name]} and {sequence}",
                )
        if [b.raw for b in expected] != [b.raw for b in deliver.bundles]:
            self.fail(
                "no execution twice", f"node {node.index} executes another part of {sequence}"
            )
        self._check_time(deliver)

    def _check_time(self, deliver: Deliver) -> None:
        world = self._world
        before = self.ledger[-1].time_ms if self.ledger else 0
        if deliver.time_ms < before:
            self.fail(
                "agreed time", f"it goes back at {deliver.sequence}: {before} to {deliver.time_ms}"
            )
        if self._time_is_good and deliver.time_ms > world.EPOCH_MS + world.now:
            ahead = deliver.time_ms - world.EPOCH_MS - world.now
            self.fail("agreed time", f"{ahead} ms ahead of every good clock at {deliver.sequence}")

    def _check_lag(self) -> None:
        """Once things are calm, an honest primary's batches carry the time that it is."""
        world = self._world
        last = self.ledger[-1] if self.ledger else None
        if last is None or not world.rested or not self._time_is_good:
            return
        now = world.configuration_at(last.sequence)
        primary = world.nodes[world.index_of[now.primary(last.view)]]
        lag = world.EPOCH_MS + last.tick - last.time_ms
        bound = TIME_STEP_MS + 2 * world.plan.status_ticks + world.plan.timeout_ticks
        # A new view orders again, clocks and all, what an earlier one had prepared.
        new = last.tick > world.done_at and last.view == self._rest_view
        if new and not primary.liar and lag > bound:
            self.fail("agreed time", f"{lag} ms behind the good clocks at {last.sequence}")

    def _check_steady(self) -> None:
        """Once things are calm and nobody lies, nobody is deposed for what lines are slow to carry.

        A disk that takes its time now and then would be reason enough.
        """
        world, plan = self._world, self._world.plan
        if not world.rested or self._rest is None or self._rest[3]:
            return
        if not plan.bytes_a_tick or 8 * SLOW_SYNCS * plan.sync_ticks > plan.timeout_ticks:
            return
        now = world.configuration
        later = [n.index for n in world.members if n.replica.view > self._rest_view]
        if len(later) > now.f:  # one alone may have had its reasons, and nobody follows it
            self.fail("steady", f"nodes {later} leave view {self._rest_view} without a reason")

    def _check_parameters(self) -> None:
        """What the members agreed on is what they go by, whatever their own settings say."""
        world = self._world
        for node in world.members:
            if node.replica.parameters != world.parameters(node.index, world.agreed):
                self.fail("parameters", f"node {node.index} goes by {node.replica.parameters}")

    def clock_changed(self) -> None:
        for node in self._world.nodes:
            if node.clock_offset:
                self._bad_clocks.add(node.index)
        self._judge_clocks()

    def _judge_clocks(self) -> None:
        """More bad clocks than may be, at any time, and the agreed time may be wrong for good."""
        now = self._world.configuration
        bad = sum(self._world.keys[index] in now for index in self._bad_clocks)
        self._time_is_good = self._time_is_good and bad <= now.f

    # --- who the members are ---

    def took_root(self, node: Node, sequence: int, root: bytes) -> None:
        """A root was taken for a checkpoint."""
        if not node.liar:
            self._taken.setdefault(sequence, (root, node.index))

    def settled(self, node: Node, configuration: Configuration) -> None:
        """What an honest node takes for the members is what all take for them, and was wanted.

        And it can show it to whoever knows those before.
        """
        known = self._world.configurations
        if node.liar:
            return
        if configuration.number == len(known):
            if wish_of(configuration) not in self._world.operator.wished:
                self.fail("members", f"nobody wanted {len(configuration.members)} such members")
            known.append(configuration)
            self._judge_clocks()
        elif configuration != known[configuration.number]:
            self.fail("agreement", f"node {node.index} has other members than the others")
            return
        for before, after in pairwise(known[: configuration.number + 1]):
            if not self._is_shown(node, before, after):
                self.fail("lineage", f"node {node.index} cannot show who follows {before.number}")

    def _is_shown(self, node: Node, before: Configuration, after: Configuration) -> bool:
        """Whether what a node keeps about a change of members proves it, judged from scratch."""
        if after.number not in node.disk.handovers:
            return False
        raw = node.disk.handovers[after.number]
        handover = wire.Handover.open(raw, self._world.reader.opener.open)
        signers = {commit.signer for commit in handover.commits}
        votes = {commit.message.vote for commit in handover.commits}
        place = (before.number, after.start, after.digest)
        n, f = len(before.members), (len(before.members) - 1) // 3
        enough = 2 * len(signers) > n + f and signers <= set(before.members)
        named = {(vote[0], *vote[2::2]) for vote in votes}
        said = (handover.members, handover.terms)
        return enough and said == (after.members, after.terms) and named == {place}

    def executed(self, node: Node, deliver: Deliver, outcomes: Sequence[Sequence[Any]]) -> None:
        """An execution is durable at a node; all answers must be those of the model."""
        if node.liar:
            return
        entry = self.ledger[deliver.sequence - 1]
        said = tuple(tuple((int(o.status), o.revision) for o in part) for part in outcomes)
        if said != entry.outcomes:
            self.fail("determinism", f"node {node.index} answers {said}, not {entry.outcomes}")

    # --- promises: what was said is never contradicted, not even by a later life ---

    def spoke(self, node: Node, raw: bytes) -> None:
        """An honest node shows a message to somebody."""
        if node.liar:
            return
        promises = self._promises[node.index]
        if raw in promises.heard:
            return
        promises.heard.add(raw)
        message = self._world.reader.read(raw)
        if isinstance(message, str):
            self.fail("validity", f"node {node.index} says what nobody can read: {message}")
        elif isinstance(message, wire.Verified):
            if message.signer == node.key:
                self._said(node, promises, message)
        elif isinstance(message, wire.Proposal) and message.pre_prepare.signer == node.key:
            self._said(node, promises, message.pre_prepare)

    def _said(self, node: Node, promises: Promises, signed: wire.Verified[Any]) -> None:
        said = signed.message
        if isinstance(said, (wire.PrePrepare, wire.Prepare, wire.Commit)):
            self._voted(node, promises.term(said.configuration), said)
        elif isinstance(said, wire.Checkpoint):
            root, by = self._roots.setdefault(said.sequence, (said.root, node.index))
            if root != said.root:
                self.fail("equal roots", f"nodes {by} and {node.index} at {said.sequence}")
            if said.sequence > node.disk.synced:
                self.fail("durability", f"node {node.index} signs a root of what it may forget")
        elif isinstance(said, wire.ViewChange):
            highest = self._highest_view.get(said.configuration, 0)
            if said.view > highest + 1:
                self.fail("views", f"node {node.index} asks for view {said.view} on a liar's word")
            self._highest_view[said.configuration] = max(highest, said.view)
            self._left(node, promises.term(said.configuration), said)
        elif isinstance(said, wire.NewView):
            term = promises.term(said.configuration)
            if term.new_views.setdefault(said.view, signed.raw) != signed.raw:
                self.fail("no contradiction", f"node {node.index} opens view {said.view} twice")
            for pre_prepare in said.pre_prepares:
                self._voted(node, term, pre_prepare.message, late=True)
        elif isinstance(said, wire.Bundle):
            name = (said.incarnation, said.number)
            if promises.bundles.setdefault(name, signed.raw) != signed.raw:
                self.fail("no contradiction", f"node {node.index} has two bundles {name}")
        elif isinstance(said, wire.Status):
            durable = self._world.plan.eager or said.executed_sequence <= node.disk.machine.executed
            if not durable:
                self.fail("durability", f"node {node.index} says executed what it may forget")

    def _voted(
        self,
        node: Node,
        promises: Term,
        vote: wire.PrePrepare | wire.Prepare | wire.Commit,
        *,
        late: bool = False,
    ) -> None:
        """`late`: the opening of a view may be shown to others by a primary that has left it."""
        kind = type(vote).__name__
        phase = "Commit" if kind == "Commit" else "Prepare"
        before = promises.votes.setdefault((phase, vote.view, vote.sequence), vote.digest)
        if before != vote.digest or (
            promises.votes.get(("Prepare", vote.view, vote.sequence), vote.digest) != vote.digest
        ):
            self.fail(
                "no contradiction",
                f"node {node.index}: two {kind} in view {vote.view} for {vote.sequence}",
            )
        if vote.sequence <= len(self.ledger):
            entry = self.ledger[vote.sequence - 1]
            if (vote.configuration, entry.digest != vote.digest) == (
                entry.configuration,
                True,
            ) and vote.view > entry.view:
                self.fail(
                    "agreement",
                    f"node {node.index}: {kind} in view {vote.view} for another batch at"
                    f" {vote.sequence} than was decided in view {entry.view}",
                )
        if kind == "Commit":
            for said in promises.view_changes.values():
                self._hidden(node, said, vote.view, vote.sequence, vote.digest)
            view, _ = promises.commits.get(vote.sequence, (-1, b""))
            if vote.view > view:
                promises.commits[vote.sequence] = (vote.view, vote.digest)
        elif vote.view < promises.left_for and not late:
            self.fail(
                "no contradiction",
                f"node {node.index}: {kind} in view {vote.view}, which it left for"
                f" {promises.left_for}",
            )

    def _left(self, node: Node, promises: Term, said: wire.ViewChange) -> None:
        """A view change must not hide anything that its sender helped to commit."""
        if said.view in promises.forgotten_changes:
            promises.view_changes[said.view] = said
        before = promises.view_changes.setdefault(said.view, said)
        if (before.stable_sequence, before.prepared) != (said.stable_sequence, said.prepared):
            self.fail("no contradiction", f"node {node.index}: two view changes to {said.view}")
        promises.left_for = max(promises.left_for, said.view)
        for sequence, (view, digest) in sorted(promises.commits.items()):
            self._hidden(node, said, view, sequence, digest)

    def _hidden(
        self, node: Node, said: wire.ViewChange, view: int, sequence: int, digest: bytes
    ) -> None:
        """A commit of a lower view, whenever it is shown, must be in the view change."""
        if sequence <= said.stable_sequence or view >= said.view:
            return
        term = self._promises[node.index].term(said.configuration)
        forgotten = (view, sequence) in term.forgotten
        if forgotten and self._world.plan.n == 2:
            return  # the other one remembers: two commit nothing without each other
        named = next(
            (
                c.pre_prepare.message
                for c in said.prepared
                if c.pre_prepare.message.sequence == sequence
            ),
            None,
        )
        if named is None or named.view < view or (named.view == view and named.digest != digest):
            self.fail(
                "no contradiction",
                f"node {node.index} hides its commit of view {view} for {sequence}"
                f" from its change to view {said.view}",
            )

    # --- progress, rest, and the verdict ---

    def unfinished(self) -> list[str]:
        """What still waits; each line names who waits for what."""
        world = self._world
        waiting = [f"node {node.index} is down" for node in world.honest if not node.alive]
        if waiting:
            return waiting
        waiting += [
            f"node {node.index} remembers nothing: {node.replica.learning}"
            for node in world.honest
            if node.forgetful
        ]
        calls = [call for client in world.clients for call in client.waiting]
        if calls:
            waiting.append(f"{len(calls)} calls, such as {calls[0]}")
        elif not all(client.finished for client in world.clients):
            waiting.append("calls not yet made")
        if world.operator.waits:
            waiting.append("a change of members")
        members = world.members
        executed = [node.disk.machine.executed for node in members]
        # Nor is it over while members that were let in last have not heard of it.
        if set(executed) != {len(self.ledger)}:
            waiting.append(f"executed {executed} of {len(self.ledger)}")
        waiting += [f"node {node.index} has {node.waits_for}" for node in members if not node.idle]
        interval = world.parameters(0, world.agreed).checkpoint_interval
        due = max(executed) // interval * interval
        stable = [node.replica.stable for node in members]
        if min(stable) < due:
            waiting.append(f"stable {stable} of {due}")
        return waiting

    def rest_begins(self) -> None:
        """Everything is done: from now on there is hardly anything to say, and nothing to write."""
        members = self._world.members
        self._rest_view = max(node.replica.view for node in members)
        if not self._world.plan.liars:
            self._rest = (
                sum(node.disk.writes for node in members),
                self._world.network.sent,
                len(self.ledger),
                any(node.replica.changing for node in members),
            )

    def conclude(self) -> None:
        """The verdict on the whole history."""
        world = self._world
        self._check_lag()
        self._check_steady()
        self._check_parameters()
        roots = {(node.disk.machine.executed, node.disk.machine.root()) for node in world.honest}
        if len(roots) > len({executed for executed, _ in roots}):
            self.fail("equal roots", "the honest nodes end in different states")
        history = [call for client in world.clients for call in client.history]
        for wrong in linearizability.check(history, self._model.foreign(world))[:3]:
            self.fail("linearizability", wrong)
        self._check_answers(history)

    def rest_ends(self) -> None:
        """Nothing was to be done: nothing was to be written, and little to be said."""
        world = self._world
        if self._rest is not None:
            writes, sent, batches, changing = self._rest
            if len(self.ledger) > batches:
                return  # a bundle of some earlier life was still on its way
            if not changing and sum(node.disk.writes for node in world.members) > writes:
                self.fail("rest", "something is written although nothing happens")
            pairs = world.plan.n * (world.plan.n - 1)
            if world.network.sent - sent > pairs * IDLE_MESSAGES * 3:
                self.fail("rest", f"{world.network.sent - sent} messages although nothing happens")

    def _check_answers(self, history: list[linearizability.Call]) -> None:
        """Whatever was acknowledged as written is in the agreed history, with that very value."""
        for call in history:
            if call.returned is not None and call.wrote:
                written = self._model.writes.get(call.revision)
                if written != (call.key, call.value if call.kind == "put" else None):
                    self.fail("durability", f"acknowledged and lost: {call}")
                    return

"""Replicas, shells and callers that are broken on purpose, one per mistake; each must be caught.

A canary names the mistake, the part that makes it, the promises of which it must break one, and a
bound on the seeds that it may take.  Where a mistake shows at once in the certificate of a
batch, the canary blinds that judge (`blind`), so that the deeper one has to see it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from aegis_edge.knowledge import merkle, rebuild
from aegis_edge.knowledge.operations import Outcome, Status
from aegis_edge.pbft import (
    amnesia,
    certificates,
    clocks,
    execution,
    journal,
    lineage,
    log,
    pace,
    pacing,
    past,
    pool,
    reads,
    repair,
    succession,
    view_change,
    views,
)
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import (
    Alarm,
    Confirmed,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Restored,
    Send,
    Settled,
)
from aegis_edge.pbft.replica import Replica
from aegis_edge.wire import messages as wire
from aegis_edge.wire.codec import WireError
from tests.sim import plan as plans
from tests.sim.builds import REAL
from tests.sim.clients import Client
from tests.sim.disk import Disk
from tests.sim.linearizability import Call
from tests.sim.machine import Applied
from tests.sim.node import FalseRows, FalseSource, Node
from tests.sim.plan import Plan
from tests.sim.world import Build, Result, World

Patch = tuple[Any, str, Any]

# What a broken function does beside its mistake.
_SOUND_CONSIDER = views.Views._consider
_SOUND_ASK = views.Views.ask
_SOUND_RESTORE = views.Views.restore
_SOUND_ON_STATUS = repair.Repair.on_status
_SOUND_ASK_INDEX = reads.Reads.ask
_SOUND_ROW = rebuild.Rebuild._row
_SOUND_RUN = execution.Execution.run


@dataclass(frozen=True)
class Canary:
    """One mistake.  `caught_by`: the promises, one of which must be seen broken within `seeds`."""

    name: str
    mistake: str
    caught_by: frozenset[str]
    build: Build = REAL
    patches: tuple[Patch, ...] = ()
    seeds: int = 60
    sizes: tuple[int, ...] = (4,)
    #: The vice that exploits the mistake, where one does: every liar gets it.
    vice: str = ""
    #: The fault that shows it, where one does: every other fault is of this kind.
    fault: str = ""
    blind: frozenset[str] = frozenset()
    #: See `plans.forgetful`.
    forgetful: bool = False
    #: Seeds whose network loses a third and whose nodes are cut off in turn: views follow fast.
    turbulent: bool = False
    #: Seeds with many callers of one key: see `plans.busy`.
    busy: bool = False
    #: Seeds in which members come and go.
    besieged: bool = False
    #: Nobody keeps a batch under a stable checkpoint.
    forgetting: bool = False
    #: What lines carry in a tick; 0: what the seed says.
    bytes_a_tick: int = 0

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """While it flies, the mistake is in the code."""
        before = [(owner, name, owner.__dict__[name]) for owner, name, _ in self.patches]
        try:
            for owner, name, broken in self.patches:
                setattr(owner, name, broken)
            yield
        finally:
            for owner, name, sound in before:
                setattr(owner, name, sound)

    def plan(self, seed: int) -> Plan:
        made = plans.make(seed, self.sizes)
        if self.besieged:
            made = plans.besieged(made)
        if self.vice and made.liars:
            vices = tuple(
                replace(v, kind=self.vice, at=0, lasts=1 << 30) if v.index == 100 else v
                for v in made.vices
            )
            made = replace(made, vices=vices)
        if self.fault:
            faults = tuple(replace(x, kind=self.fault) if x.index % 2 else x for x in made.faults)
            made = replace(made, faults=faults)
        if self.forgetting:
            made = replace(made, kept=0)
        if self.bytes_a_tick:
            made = replace(made, bytes_a_tick=self.bytes_a_tick)
        if self.turbulent:
            made = plans.turbulent(made)
        if self.busy:
            made = plans.busy(made)
        return plans.forgetful(made) if self.forgetful else made

    def fly(self, plan: Plan, trace: Callable[[str], None] | None = None) -> Result:
        """One plan with the mistake in it."""
        build = replace(self.build, blind=self.blind)
        with self.released():
            return World(plan, build, trace).run()

    def caught(self, result: Result) -> bool:
        return any(violation.promise in self.caught_by for violation in result.violations)


def hunt(canary: Canary) -> tuple[int, Result | None]:
    """How many seeds it took to catch a canary, and the run that did; None if it got away."""
    flown, seed = 0, 0
    while flown < canary.seeds:
        plan = canary.plan(seed)
        if plan.liars or not canary.vice:
            flown += 1
            result = canary.fly(plan)
            if canary.caught(result):
                return flown, result
        seed += 1
    return flown, None


# --- shells ---------------------------------------------------------------------------------


class SpeaksFirst(Node):
    """Sends what should wait for the disk."""

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if type(effect) is Send:
                self._send(effect)
        super()._perform([e for e in effects if type(e) is not Send])


class LyingDisk(Node):
    """A disk that says "synced" one write too early, and forgets that write in a crash."""

    _before: Any = None

    def _written(self, life: int) -> None:
        if life == self.life:
            self._before = copy.deepcopy(self.disk)
        super()._written(life)

    def crash(self) -> None:
        was_alive = self.alive
        super().crash()
        if was_alive and self._before is not None:
            self._before.incarnation = self.disk.incarnation
            self.disk, self._before = self._before, None


def _executed_only(self: reads.Reads) -> int:
    return self._at.executed


def _content_with_few(self: reads.Reads) -> None:
    if self._answers is not None:
        lowest = sorted(self._answers.values())[: self._at.configuration.f + 1]
        is_fresh = len(lowest) > self._at.configuration.f and lowest[-1] <= self._at.executed
        if is_fresh or self._at.now_ticks >= self._until_ticks:
            self._answers = None
            self._voice.add(Confirmed(self._number, is_fresh))


def _keeps_answers(self: reads.Reads, number: int) -> None:
    kept = vars(self).get("kept", {})
    _SOUND_ASK_INDEX(self, number)
    assert self._answers is not None
    self._answers = vars(self)["kept"] = kept | self._answers


class StaleReader(Client):
    """Reads its own node at once and calls it linearizable."""

    def issue(self, node: Node, call: Call) -> None:
        if call.kind != "get":
            super().issue(node, call)
            return
        outcome = Outcome(Status.DONE, 0, 0)
        self._world.at(self._world.now, lambda _: self.answered(node, call, outcome), None)


class MoodyMachine(Applied):
    """Answers as it likes: every machine counts from another number."""

    made = 0

    def __init__(self, plan: Plan) -> None:
        MoodyMachine.made += 1
        if MoodyMachine.made % 2:
            self.history_versions = 1 << 20
        super().__init__(plan)


class AnyVoiceCounts(Applied):
    """One yes is enough to change who the members are."""

    rules = replace(Applied.rules, quorum=lambda n: 1)


# --- replicas -------------------------------------------------------------------------------


def _with_quorum(count: Callable[[int, int], int]) -> type[Replica]:
    class WrongQuorum(Replica):
        def __init__(
            self, signer: Any, configuration: Any, parameters: Any, restored: Any, open_: Any
        ) -> None:
            wrong = replace(configuration)
            object.__setattr__(wrong, "quorum", count(len(wrong.members), wrong.f))
            super().__init__(signer, wrong, parameters, restored, open_)

    return WrongQuorum


def _forgetting(*kinds: int) -> type[Replica]:
    class Forgets(Replica):
        def __init__(
            self, signer: Any, configuration: Any, parameters: Any, restored: Restored, open_: Any
        ) -> None:
            kept = tuple(r for r in restored.records if r.kind not in kinds)
            poorer = replace(restored, records=kept)
            super().__init__(signer, configuration, parameters, poorer, open_)

    return Forgets


class DoesNotWait(Replica):
    """Goes on with the next batch before it is known who the members are."""

    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, Settled):
            effects = self._voice.begin()
            if event.configuration.number > self.configuration.number:
                self._succeed(event.configuration, event.parameters)
            return effects
        effects = super().step(event)
        while self._at.settling:
            self._at.settling = False
            self.execution.run()
        return effects


class ForgetsThatItForgot(Replica):
    """Without its memory of votes it votes in the next configuration."""

    def _succeed(self, configuration: Any, parameters: Any) -> None:
        self.views.is_forgetful = False
        super()._succeed(configuration, parameters)


class StaysAsItIs(Replica):
    """Goes by what it began with, whatever the members agree on."""

    def _succeed(self, configuration: Any, parameters: Any) -> None:
        super()._succeed(configuration, self.parameters)


class VotesAtOnce(Replica):
    """Forgot its votes, and votes."""

    def __init__(
        self, signer: Any, configuration: Any, parameters: Any, restored: Restored, open_: Any
    ) -> None:
        bold = replace(restored, rebuilt=False)
        super().__init__(signer, configuration, parameters, bold, open_)


class Gullible(Replica):
    """Takes an old clock reading that is passed on for a new one."""

    def _on_message(self, message: wire.Message, peer: bytes) -> None:
        super()._on_message(message, peer)
        said = message.message if isinstance(message, wire.Verified) else None
        if isinstance(said, (wire.Commit, wire.Status)):
            self.readings.note(message)


class Fragile(Replica):
    """Raises when a link goes."""

    def _on_link(self, event: LinkUp | LinkDown) -> None:
        if isinstance(event, LinkDown):
            raise KeyError(event.peer)
        super()._on_link(event)


class Accuser(Replica):
    """Takes a lost link for a crime."""

    def step(self, event: Any) -> list[Effect]:
        effects = super().step(event)
        if isinstance(event, LinkDown):
            effects.append(Alarm("it hung up", event.peer))
        return effects


# --- broken functions -----------------------------------------------------------------------


def _follows_one(self: Any) -> Any:
    """`Views._consider` that follows a single VIEW-CHANGE."""
    higher = sorted(
        c.message.view for c in self._changes.values() if c.message.view > self._at.view
    )
    return self.ask(higher[0]) if higher else _SOUND_CONSIDER(self)


def _hides_commits(self: Any, view: int) -> Any:
    """`Views.ask` that reports what is prepared in its present view only."""
    for slot in self._log.slots.values():
        if slot.prepared is not None and not slot.prepared_in(self._at.view):
            slot.prepared = None
    return _SOUND_ASK(self, view)


def _signs_again(self: Any, memory: Any, *, rebuilt: bool) -> None:
    """`Views.restore` that asks for a view with what it knows then, not with what it said."""
    _SOUND_RESTORE(self, memory, rebuilt=rebuilt)
    if self._at.changing:
        for slot in self._log.slots.values():
            slot.prepared = None
        change = wire.ViewChange(0, self._at.view, self._log.low, self._log.stable, ())
        self._changes[self._at.key] = self._voice.sign(change)


def _does_nothing(self: Any, *_: Any) -> None:
    """A part that helps nobody."""


def _is_patient(self: Any) -> int | None:
    """`Pacing.change_due` of who is content as long as anything at all gets executed."""
    if self._at.changing:
        return self._suspicion.give_up_at(self._at.primary)
    if self.oldest_ticks() is None:
        return None
    return self._suspicion.suspect_at(self._at.primary, 1 << 60)


def _no_way(self: Any, _: Any) -> int:
    """`Pace.travel_ticks` and `allowance_ticks` of who thinks that all lines are endless."""
    return 0


def _all_waiting_bytes(self: Any, ordered: Any, since_ticks: int) -> dict[bytes, int]:
    """`Pool.waiting_bytes` that counts what waits behind a gap, too."""
    return {
        origin: sum(len(bundle.raw) for bundle, _ in waiting.values())
        for origin, waiting in self._waiting.items()
    }


def _any_allowance(self: Any, sizes_bytes: dict[bytes, int]) -> int:
    """`Pace.allowance_ticks` without bounds."""
    rate = self._parameters.bytes_a_second
    return 2_000 * sum(sizes_bytes.values()) // rate if rate else 0


def _always_due(self: Any) -> int:
    """`Pacing.status_due` that says where it stands all the time."""
    return self._status_at + 3


def _scribbles(self: Any, status: Any, peer: bytes) -> None:
    """`Repair.on_status` that writes the view down whenever somebody says where he stands."""
    self._voice.persist(journal.view(self._at.view, self._at.changing))
    _SOUND_ON_STATUS(self, status, peer)


def _skips(self: Any) -> None:
    """`Execution.run` that takes the next batch at hand, if the one before is not."""
    _SOUND_RUN(self)
    if self._log.certificate(self._at.executed + 2) is not None:
        self._at.executed += 1
        _SOUND_RUN(self)


def _prepares_of_any_digest(self: Any, configuration: Any) -> Any:
    """`Slot.preparing` that compares no digests."""
    if self.pre_prepare is None or len(self.prepares) < configuration.quorum - 1:
        return None
    chosen = [p for _, p in sorted(self.prepares.items())][: configuration.quorum - 1]
    return wire.PreparedCertificate(self.pre_prepare, tuple(chosen))


def _commits_of_any_digest(self: Any, configuration: Any) -> Any:
    """`Slot.committing` that compares no digests."""
    chosen = [c for _, c in sorted(self.commits.items())]
    return tuple(chosen[: configuration.quorum]) if len(chosen) >= configuration.quorum else None


def _commits_of_any_view(self: Any, configuration: Any) -> Any:
    """`Slot.committing` that compares no views."""
    groups: dict[bytes, list[Any]] = {}
    for _, commit in sorted(self.commits.items()):
        group = groups.setdefault(commit.message.digest, [])
        group.append(commit)
        if len(group) == configuration.quorum:
            return tuple(group)
    return None


def _commits_counted_twice(commits: Any, configuration: Any) -> bool:
    """`certificates.is_commit` that counts envelopes instead of members."""
    return len(commits) >= configuration.quorum


def _votes_of_anybody(value: Any, kind: Any, open_: Any) -> tuple[Any, ...]:
    """`wire.messages._votes` that lets one signer vote many times."""
    return tuple([wire._nested(raw, kind, open_) for raw in wire._array(value, wire.MEMBERS_MAX)])


def _lowest_order(changes: Any) -> list[tuple[int, bytes]]:
    """`view_change.order` where the lowest prepared view wins."""
    changes = tuple(changes)
    start, _ = view_change.stable_of(changes)
    best: dict[int, tuple[int, bytes]] = {}
    for change in changes:
        for certificate in change.message.prepared:
            named = certificate.pre_prepare.message
            if named.sequence > start:
                found = (named.view, named.digest)
                best[named.sequence] = min(best.get(named.sequence, found), found)
    null = (0, wire.NULL_BATCH.digest)
    last = max(best, default=start)
    return [(s, best.get(s, null)[1]) for s in range(start + 1, last + 1)]


def _nothing_is_prepared(changes: Any) -> list[tuple[int, bytes]]:
    """`view_change.order` that starts every view with nothing."""
    return []


def _executes_all(self: Any, bundles: Any, now_ticks: int) -> Any:
    """`Pool.execute` that remembers, and does not look."""
    for bundle in bundles:
        name = (bundle.message.incarnation, bundle.message.number)
        self.executed[bundle.signer] = max(name, self.last_executed(bundle.signer))
        self._waiting.get(bundle.signer, {}).pop(name, None)
        self._oldest_known = False
    return bundles


def _highest_clock(evidence: Any) -> int:
    """`clocks.median_ms` that believes whoever is latest."""
    return max(e.message.clock_ms for e in evidence)


def _agreed_by_last_word(time_ms: int, evidence: Any) -> int:
    """`clocks.agreed_ms` that goes back."""
    return clocks.median_ms(evidence) if evidence else time_ms


def _believed(self: Any, sequence: int) -> Any:
    """`Log.agreed_root` that takes f+1 equal roots, i.e. whatever a quorum of two says."""
    votes = [v for _, v in sorted(self._checkpoints.get(sequence, {}).items())]
    return tuple(votes[-1:]) or None


class _AnyRoot:
    def __ne__(self, other: object) -> bool:
        return False


def _believes_any_head(*_: Any) -> Any:
    return _AnyRoot()


def _believes_any_value(self: Any, head: bytes, after: int, found: Any) -> Any:
    try:
        return _SOUND_ROW(self, head, after, found)
    except WireError as error:
        if "versions" not in str(error):
            raise
        for version in found.versions:
            self._state.stage_version(version)
        self._state.stage(head, found.key, found.row)
        entry = head + merkle.row_digest(found.key.encode(), found.row)
        self._due[merkle.partition(head)].remove(entry)
        return None


def _forgets_the_window(self: Any, peer: bytes, said: wire.Status) -> None:
    """`Amnesia.note` that waits for no checkpoint."""
    self._first.setdefault(peer, (said.view, 0))


def _valid(*_: Any) -> None:
    """A judge who finds nothing wrong with anything."""


def _takes_the_digest_from_a_field(cls: Any, fields: Any, open_: Any) -> Any:
    """`Proposal.unpack` that believes what the pre-prepare says of its batch."""
    pre_prepare, raw = fields
    batch = wire.Batch.open(raw, open_)
    named = open_(pre_prepare)
    batch.__dict__["digest"] = named.message.digest
    return wire.Proposal(named, batch)


AGREEMENT = frozenset({"agreement"})
CONTRADICTION = frozenset({"no contradiction"})
_PROOF = frozenset({"proof"})


def _anyones_heir(handover: wire.Handover, before: Configuration) -> Configuration | None:
    """Whoever signs is believed, if it knows how it is done."""
    said = handover.commits[0].message
    following = before.followed_by(said.sequence, handover.members)
    return following if said.successor == following.digest else None


def _replica(broken: Callable[..., Any]) -> Build:
    return replace(REAL, replica=broken)


CANARIES: tuple[Canary, ...] = (
    Canary(
        "says_nothing_of_who_follows",
        "the last batch of a configuration does not prove the next one",
        frozenset({"lineage"}),
        patches=((succession.Succession, "after", lambda self, sequence, batch: b""),),
        besieged=True,
    ),
    Canary(
        "believes_anyone_about_members",
        "who is behind takes one member's word for who the others are by now",
        frozenset({"lineage", "no false alarm", "members", "equal roots", "progress"}),
        patches=((lineage.certificates, "heir", _anyones_heir),),
        vice="false_answers",
        besieged=True,
        forgetting=True,
        seeds=100,
    ),
    Canary(
        "does_not_wait_for_the_members",
        "a batch is executed before it is known whose votes count for it",
        AGREEMENT | _PROOF | frozenset({"order", "no traceback", "members"}),
        _replica(DoesNotWait),
        besieged=True,
    ),
    Canary(
        "keeps_the_records_of_the_last_configuration",
        "what was voted in one configuration is taken for votes in the next",
        CONTRADICTION | AGREEMENT | frozenset({"no traceback", "progress"}),
        patches=((Disk, "_forget_records", lambda self: None),),
        besieged=True,
        seeds=150,
    ),
    Canary(
        "forgets_that_it_forgot",
        "a member that lost its votes votes in the next configuration",
        CONTRADICTION | AGREEMENT | frozenset({"views"}),
        _replica(ForgetsThatItForgot),
        besieged=True,
        fault="disk_lost",
        seeds=400,
    ),
    Canary(
        "goes_by_its_own_parameters",
        "what the members agree on is not what they do",
        frozenset({"parameters", "progress"}),
        _replica(StaysAsItIs),
        besieged=True,
    ),
    Canary(
        "any_voice_counts",
        "one member alone changes who the members are",
        frozenset({"members"}),
        replace(REAL, machine=AnyVoiceCounts),
        besieged=True,
        vice="coup",
        blind=frozenset({"determinism"}),
    ),
    Canary(
        "speaks_before_it_writes",
        "a message leaves before its record is durable",
        CONTRADICTION | {"durability"},
        replace(REAL, node=SpeaksFirst),
    ),
    Canary(
        "speaks_before_it_writes_contradiction",
        "the same, seen only by what a later life says",
        CONTRADICTION,
        replace(REAL, node=SpeaksFirst),
        blind=frozenset({"durability"}),
        seeds=150,
    ),
    Canary(
        "disk_that_lies",
        "what was answered for is not durable yet",
        frozenset({"durability", "agreement"}),
        replace(REAL, node=LyingDisk),
        sizes=(1, 4),
        blind=CONTRADICTION,
    ),
    Canary(
        "quorum_2f",
        "2f votes make a quorum",
        AGREEMENT,
        _replica(_with_quorum(lambda n, f: 2 * f)),
        blind=_PROOF | {"durability"},
        vice="equivocate",
    ),
    Canary(
        "quorum_f_plus_1",
        "f+1 votes make a quorum",
        AGREEMENT,
        _replica(_with_quorum(lambda n, f: f + 1)),
        blind=_PROOF | {"durability"},
        sizes=(7,),
        vice="equivocate",
    ),
    Canary(
        "quorum_too_small_proof",
        "one vote too few, seen in the certificate",
        _PROOF,
        _replica(_with_quorum(lambda n, f: (n + f + 2) // 2 - 1)),
    ),
    Canary(
        "prepares_of_any_digest",
        "a prepare for another digest counts",
        CONTRADICTION | {"agreement", "proof", "no false alarm"},
        patches=((log.Slot, "preparing", _prepares_of_any_digest),),
        vice="equivocate",
    ),
    Canary(
        "commits_of_any_digest",
        "a commit for another digest counts",
        AGREEMENT | _PROOF,
        patches=((log.Slot, "committing", _commits_of_any_digest),),
        vice="two_faces",
    ),
    Canary(
        "digest_from_a_field",
        "the digest of a batch is believed instead of computed",
        AGREEMENT | _PROOF,
        patches=((wire.Proposal, "unpack", classmethod(_takes_the_digest_from_a_field)),),
        vice="mismatch",
    ),
    Canary(
        "forgets_its_view",
        "a restart begins in view 0",
        CONTRADICTION,
        _replica(_forgetting(journal.VIEW, journal.VIEW_CHANGE, journal.NEW_VIEW)),
    ),
    Canary(
        "forgets_its_votes",
        "a restart knows no proposal and no certificate",
        CONTRADICTION | {"durability"},
        _replica(_forgetting(journal.PROPOSAL, journal.PREPARED)),
    ),
    Canary(
        "forgets_its_proposals",
        "a restart knows its certificates only",
        CONTRADICTION,
        _replica(_forgetting(journal.PROPOSAL)),
    ),
    Canary(
        "votes_without_memory",
        "a node whose disk was lost votes at once",
        CONTRADICTION,
        _replica(VotesAtOnce),
        fault="disk_lost",
        seeds=150,
    ),
    Canary(
        "votes_too_soon",
        "a node whose disk was lost votes before its checkpoint covers what it may have said",
        CONTRADICTION | AGREEMENT,
        patches=((amnesia.Amnesia, "note", _forgets_the_window),),
        fault="disk_lost",
        seeds=150,
    ),
    Canary(
        "believes_one_view_change",
        "one VIEW-CHANGE moves a replica",
        frozenset({"views", "progress"}),
        patches=((views.Views, "_consider", _follows_one),),
        vice="lie_in_view_change",
    ),
    Canary(
        "counts_envelopes",
        "commits count per envelope instead of per member",
        AGREEMENT | {"validity", "order", "no execution twice", "determinism"},
        patches=(
            (certificates, "is_commit", _commits_counted_twice),
            (wire, "_votes", _votes_of_anybody),
        ),
        blind=_PROOF | {"durability"},
        vice="false_answers",
    ),
    Canary(
        "counts_other_views",
        "commits of several views add up",
        _PROOF,
        patches=((log.Slot, "committing", _commits_of_any_view),),
        sizes=(4, 7),
        seeds=150,
    ),
    Canary(
        "lowest_prepared_view_wins",
        "NEW-VIEW takes the lowest prepared view",
        # The nodes hold it against what they executed and halt; here they do not, so that it shows.
        AGREEMENT | CONTRADICTION | {"no false alarm"},
        patches=(
            (view_change, "order", _lowest_order),
            (past.Past, "denies", lambda *_: False),
        ),
        turbulent=True,
        seeds=600,
    ),
    Canary(
        "new_view_forgets_prepared",
        "NEW-VIEW begins with nothing",
        AGREEMENT,
        patches=((view_change, "order", _nothing_is_prepared),),
        turbulent=True,
    ),
    Canary(
        "believes_new_view",
        "NEW-VIEW is not checked",
        AGREEMENT | {"progress", "views", "no false alarm"},
        patches=((view_change, "judge_new_view", _valid),),
        vice="lie_in_new_view",
    ),
    Canary(
        "believes_view_change",
        "the certificates in a VIEW-CHANGE are not checked",
        AGREEMENT | {"progress", "no traceback", "no false alarm"},
        patches=((view_change, "judge_view_change", _valid),),
        vice="lie_in_view_change",
        turbulent=True,
        seeds=150,
    ),
    Canary(
        "hides_old_commits",
        "VIEW-CHANGE leaves out what earlier views prepared",
        CONTRADICTION | AGREEMENT,
        patches=((views.Views, "ask", _hides_commits),),
        sizes=(4, 7),
        seeds=150,
    ),
    Canary(
        "signs_again",
        "a restart says another VIEW-CHANGE for the same view",
        CONTRADICTION,
        patches=((views.Views, "restore", _signs_again),),
        seeds=150,
    ),
    Canary(
        "executes_twice",
        "a bundle in two batches executes twice",
        frozenset({"no execution twice"}),
        patches=((pool.Pool, "execute", _executes_all),),
        vice="disorder",
    ),
    Canary(
        "skips_a_batch",
        "executes what is at hand, not what is next",
        frozenset({"order"}),
        patches=((execution.Execution, "run", _skips),),
    ),
    Canary(
        "reads_stale",
        "a local read is called linearizable",
        frozenset({"linearizability"}),
        replace(REAL, client=StaleReader),
    ),
    Canary(
        "knows_what_it_executed",
        "a read index is what was executed, not what a commit was signed for",
        frozenset({"linearizability"}),
        patches=((reads.Reads, "_index", _executed_only),),
        vice="lie_in_status",
        busy=True,
    ),
    Canary(
        "asks_too_few",
        "one more than f answers make a read fresh",
        frozenset({"linearizability"}),
        patches=((reads.Reads, "conclude", _content_with_few),),
        vice="lie_in_status",
        busy=True,
    ),
    Canary(
        "believes_old_answers",
        "an answer to an earlier question counts for this one",
        frozenset({"linearizability"}),
        patches=((reads.Reads, "ask", _keeps_answers),),
        busy=True,
    ),
    Canary(
        "keeps_other_versions",
        "machines differ in what they keep",
        frozenset({"equal roots"}),
        replace(REAL, machine=MoodyMachine),
    ),
    Canary(
        "believes_any_root",
        "one signed root makes a checkpoint stable",
        frozenset({"no traceback", "no contradiction", "progress", "no false alarm"}),
        patches=((log.Log, "agreed_root", _believed),),
        vice="lie_at_checkpoint",
    ),
    Canary(
        "believes_the_latest_clock",
        "one clock moves the agreed time",
        frozenset({"agreed time"}),
        patches=((clocks, "median_ms", _highest_clock),),
        vice="odd_clock",
    ),
    Canary(
        "time_goes_back",
        "the agreed time is whatever the last batch says",
        frozenset({"agreed time"}),
        patches=((clocks, "agreed_ms", _agreed_by_last_word),),
        seeds=150,
    ),
    Canary(
        "believes_old_clocks",
        "an old clock reading that is passed on is news",
        frozenset({"agreed time"}),
        _replica(Gullible),
        vice="old_news",
        sizes=(4, 7),
        seeds=200,
    ),
    Canary(
        "never_resends",
        "what is lost once is lost",
        frozenset({"progress"}),
        patches=(
            (repair.Repair, "_help", _does_nothing),
            (repair.Repair, "on_fetch_batches", _does_nothing),
        ),
    ),
    Canary(
        "content_with_some_progress",
        "a primary may leave one origin out for ever",
        frozenset({"progress"}),
        patches=((pacing.Pacing, "change_due", _is_patient),),
        vice="censor",
        seeds=150,
    ),
    Canary(
        "thinks_lines_are_endless",
        "a timer has no room for what is on its way",
        frozenset({"steady", "progress"}),
        patches=((pace.Pace, "travel_ticks", _no_way), (pace.Pace, "allowance_ticks", _no_way)),
        bytes_a_tick=20,
        seeds=100,
    ),
    Canary(
        "is_patient_with_what_never_arrives",
        "one member stretches the time for which a primary is trusted",
        frozenset({"progress"}),
        patches=(
            (pool.Pool, "waiting_bytes", _all_waiting_bytes),
            (pace.Pace, "allowance_ticks", _any_allowance),
        ),
        vice="stuff",
        seeds=150,
    ),
    Canary(
        "believes_any_partition",
        "the digests of a fetched state are not held against the certified root",
        frozenset({"no traceback", "no false alarm", "equal roots"}),
        replace(REAL, node=FalseSource),
        patches=((rebuild, "state_root", _believes_any_head),),
        forgetful=True,
    ),
    Canary(
        "believes_any_value",
        "the values of a fetched state are not held against their digests",
        frozenset({"no traceback", "equal roots"}),
        replace(REAL, node=FalseRows),
        patches=((rebuild.Rebuild, "_row", _believes_any_value),),
        forgetful=True,
    ),
    Canary(
        "chatters",
        "an idle cluster is never quiet",
        frozenset({"rest", "storm"}),
        patches=((pacing.Pacing, "status_due", _always_due),),
    ),
    Canary(
        "scribbles",
        "an idle cluster writes",
        frozenset({"rest"}),
        patches=((repair.Repair, "on_status", _scribbles),),
    ),
    Canary(
        "raises",
        "an event raises",
        frozenset({"no traceback"}),
        _replica(Fragile),
    ),
    Canary(
        "accuses_the_innocent",
        "an honest node is accused",
        frozenset({"no false alarm"}),
        _replica(Accuser),
    ),
)

assert len({canary.name for canary in CANARIES}) == len(CANARIES)

"""The replica: one member's whole part in the agreement, as `step(event) -> effects`.

Knows the three phases that order a batch, and which part of it any other event is for.
Refuses to know clocks, disks, sockets, dice and what an operation means.
Follows: Castro and Liskov, "Practical Byzantine Fault Tolerance" (OSDI '99), section 4, with
signatures instead of authenticators.

A replica never contradicts what it may have said: every vote is preceded by the record of it, and a
restarted replica starts from those records.  It sends no vote for a batch whose body it lacks.

Its parts, each with the messages that are its own: `requests`, `reads`, `proposals`, `execution`,
`succession`, `checkpoints`, `views`, `repair`, `transfer`, `serving`, `lineage`, `mending`;
`restart` reads the records, `pacing` says when what is due.  They share where the replica stands
(`standing`) and its one `voice`, and none knows the replica.
"""

from __future__ import annotations

from typing import Any, TypeGuard, TypeVar

from aegis_edge.pbft import certificates, clocks, journal, restart, view_change
from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.checkpoints import Checkpoints
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.early import Early
from aegis_edge.pbft.events import (
    Asked,
    BatchesGone,
    Effect,
    Event,
    Foreseen,
    LinkDown,
    LinkUp,
    Measured,
    PartJudged,
    PartSent,
    Received,
    Restored,
    RootTaken,
    RowsMended,
    RowsRotten,
    Settled,
    Submitted,
    Tick,
)
from aegis_edge.pbft.execution import FORKED, Execution
from aegis_edge.pbft.followers import Followers
from aegis_edge.pbft.following import Following
from aegis_edge.pbft.lineage import Lineage
from aegis_edge.pbft.log import Log, Slot
from aegis_edge.pbft.mending import Mending
from aegis_edge.pbft.pacing import Pacing
from aegis_edge.pbft.past import Past
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.proposals import Proposals, is_acceptable
from aegis_edge.pbft.reads import Reads
from aegis_edge.pbft.repair import Repair
from aegis_edge.pbft.requests import Requests
from aegis_edge.pbft.route import Route
from aegis_edge.pbft.serving import Serving
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.succession import Succession
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.pbft.transfer import Transfer
from aegis_edge.pbft.views import Views
from aegis_edge.pbft.voice import Signs, Voice
from aegis_edge.wire.envelope import Claim
from aegis_edge.wire.messages import (
    HANDOVERS,
    AskReadIndex,
    Batch,
    Body,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    FetchBatches,
    FetchBody,
    FetchState,
    Follow,
    Gone,
    Message,
    NewView,
    NodeRecord,
    Open,
    Pass,
    Prepare,
    PrePrepare,
    Proposal,
    Reached,
    ReadIndex,
    Signed,
    StableCheckpoint,
    StatePart,
    Status,
    Verified,
    ViewChange,
)

S = TypeVar("S", bound=Signed)

#: A bundle is an origin's wish in any configuration; the others are none of a replica's business.
_OF_NO_CONFIGURATION = (Bundle, NodeRecord, Pass)


class Replica:
    """One member.  `step` is the only way in; the attributes are for display and tests."""

    def __init__(
        self,
        signer: Signs,
        configuration: Configuration,
        parameters: Parameters,
        restored: Restored,
        open_: Open,
    ) -> None:
        self.key = signer.public
        self.past = Past(parameters.window)
        self.pool = Pool(restored.origins)
        self._voice = Voice(signer)
        self._open = open_
        self.followers = Followers(self._voice)
        self.following = Following(self._voice, self.followers)
        self.serving = Serving(self._voice)
        self._early = Early()
        self._route = Route(restored.waypoint)
        self._links: dict[bytes, int] = {}
        #: Roots that were taken before it is known whether they are of this configuration.
        self._roots: list[RootTaken] = []
        #: Of one that was let go, with what it still wanted.
        self._own_bundles: list[Verified[Bundle]] = []
        self._is_ticking = False
        self._begin_configuration(configuration, parameters, restored)

    def _begin_configuration(
        self,
        configuration: Configuration,
        parameters: Parameters,
        restored: Restored,
        number: int = 0,
    ) -> None:
        """Stand where a configuration starts, or where the records of an earlier life say.

        What was agreed on, what waits and who is linked remains; votes and views begin anew.
        `number`: of this node's last bundle.
        """
        self.configuration = configuration
        self.parameters = parameters
        self._at = at = Standing(
            self.key,
            configuration,
            parameters,
            restored.executed,
            restored.time_ms,
            is_over=self._route.is_behind(configuration.number),
        )
        voice, pool = self._voice, self.pool
        voice.others = configuration.others(self.key)
        self.log = log = Log(configuration, parameters)
        self.readings = clocks.Readings()
        self.suspicion = Suspicion(self.key, configuration, at.pace)
        self.catchup = Catchup(at.pace, parameters.window // 4)
        self.pacing = Pacing(at, log, pool, self.suspicion, self.catchup)
        self.requests = Requests(
            at, voice, pool, self.pacing, self.suspicion, restored.incarnation, number
        )
        self.proposals = Proposals(at, voice, log, pool, self.readings)
        self.execution = Execution(
            at, voice, log, pool, self.past, self.suspicion, self.requests, self._route
        )
        self.succession = Succession(at, voice, pool)
        self.checkpoints = Checkpoints(at, voice, log, self.past)
        self.views = Views(at, voice, log, self.past, self.suspicion, self.checkpoints)
        self.repair = Repair(
            at, voice, log, self.views, self.readings, self.suspicion, self.catchup, self.pacing
        )
        self.reads = Reads(at, voice, log, restored.incarnation)
        self.transfer = Transfer(at, voice, log, self.catchup, self.checkpoints, self.execution)
        self.lineage = Lineage(at, voice, self.transfer, self._open, self._route)
        self.mending = Mending(at, voice, log, self.catchup)
        self.following.begin(at, self.catchup)
        self.followers.begin(at, log)
        self.serving.begin(at)
        self._incarnation = restored.incarnation
        self._handlers = self._handle()
        self._remember(restored)

    def _handle(self) -> dict[type, Any]:
        """Who takes a message of which kind, of this configuration."""
        return {
            Bundle: self.requests.on_bundle,
            Proposal: self._on_proposal,
            Prepare: self._on_prepare,
            Commit: self._on_commit,
            Checkpoint: self._on_checkpoint,
            ViewChange: self._on_view_change,
            NewView: self._on_new_view,
            Status: self.repair.on_status,
            FetchBatches: self.repair.on_fetch_batches,
            FetchBody: self.repair.on_fetch_body,
            Gone: self.repair.on_gone,
            AskReadIndex: self.reads.on_ask,
            ReadIndex: self.reads.on_index,
            FetchState: self.serving.on_fetch,
            StatePart: self._on_part,
            Committed: self._on_committed,
            Body: self._on_body,
            StableCheckpoint: self._on_stable_checkpoint,
        }

    def _remember(self, restored: Restored) -> None:
        """Take up what the records of an earlier life say."""
        log, start = self.log, self.configuration.start
        memory = restart.remember(restored.records, start, self.parameters, self._open)
        restart.refill(log, memory, self.key, self._voice.sign)
        self.checkpoints.restore(memory)
        self.views.restore(memory, rebuilt=restored.rebuilt)
        self.execution.restore(forgetful=self.views.is_forgetful)
        self.proposals.follow(log.last_accepted())
        self._is_opening_owed = memory.opening is not None

    # --- for display ------------------------------------------------------------------------

    @property
    def view(self) -> int:
        return self._at.view

    @property
    def changing(self) -> bool:
        return self._at.changing

    @property
    def primary(self) -> bytes:
        return self._at.primary

    @property
    def executed(self) -> int:
        return self._at.executed

    @property
    def time_ms(self) -> int:
        return self._at.time_ms

    @property
    def stable(self) -> int:
        return self.log.low

    @property
    def stable_checkpoint(self) -> tuple[Verified[Checkpoint], ...]:
        """The quorum that signed the state after `stable`; empty at the genesis."""
        return self.log.stable

    @property
    def halted(self) -> str | None:
        return self._voice.halted

    @property
    def learning(self) -> int | None:
        """None for a member that votes.

        Else it forgot its votes, and this is the sequence after which it votes again; 0: not known.
        """
        return self.views.learning()

    @property
    def bundle_room(self) -> int:
        """How many bundles may be submitted now."""
        return 0 if self.halted is not None else self.requests.room()

    @property
    def wake_at(self) -> int | None:
        """The tick at which this replica wants its next `Tick`; None once halted, or settling."""
        if self.halted is not None or self._at.settling or not self._is_ticking:
            return None
        parts = (
            self.pacing,
            self.reads,
            self.transfer,
            self.lineage,
            self.mending,
            self.followers,
            self.serving,
        )
        times = [part.wake_at() for part in parts]
        if not self.lineage.is_lost:
            times.append(self.following.wake_at())
        return min((t for t in times if t is not None), default=None)

    @property
    def transfer_progress(self) -> tuple[int, int, int] | None:
        """While the state of others is fetched: after which sequence, and how much of it is here.

        That is, in partitions, `done` of all that are known to differ.
        """
        transfer = self.transfer
        sequence = transfer.sequence
        return None if sequence is None else (sequence, transfer.done, transfer.parts)

    @property
    def source(self) -> tuple[bytes, int, int] | None:
        """Whom this node follows, if it is no member: its key, or b"" while it looks for one.

        Then how many hand on from those who vote to this node, and how many batches it lacks of
        those that its sources say they have.
        """
        if not self._at.follows:
            return None
        return self.following.source, self._at.depth, self.following.behind

    @property
    def wants(self) -> frozenset[bytes] | None:
        """Links with whom would help a node that is no member; None for a member."""
        return self.following.wants if self._at.follows else None

    @property
    def reached(self) -> dict[bytes, int]:
        """Who follows this node, and how many batches each of them had when it asked last."""
        return self.followers.reached

    @property
    def rotten(self) -> int:
        """How many rows are wanted from others, because they are not right on the disk here."""
        return len(self.mending.wanted)

    def is_redundant(self, claim: Claim) -> bool:
        """True if a message that claims this could change nothing, whoever signed it.

        Asked before the check of its signatures, to save it: votes that come after the quorum, and
        the many certificates in view changes and new views that are known or over.
        """
        number, view = claim.fields[:2]
        if number != self.configuration.number:
            return bool(number < self.configuration.number)
        if claim.tag in (ViewChange.TAG, NewView.TAG):
            return self.views.is_redundant(claim)
        sequence = claim.fields[2]
        if sequence <= self.log.low:
            return True
        if claim.tag == Commit.TAG:
            return bool(sequence <= self._at.executed)
        slot = self.log.slots.get(sequence)
        return slot is not None and view == self._at.view and slot.prepared_in(view)

    # --- the one way in -----------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Take one event in; what comes out must be performed in order (see `events`)."""
        effects = self._voice.begin()
        match event:
            case Tick():
                self._on_tick(event)
            case LinkUp() | LinkDown():
                self._on_link(event)
            case Measured():
                self._at.pace.measured(event.peer, event.round_trip_ticks)
            case _ if self._voice.halted is not None:
                pass
            case Received():
                self._on_message(event.message, event.peer)
            case Submitted():
                self.requests.submit(event.operations, event.of_members)
            case Asked():
                self.reads.ask(event.number)
            case BatchesGone():
                self.repair.is_gone(event.peer, event.first)
            case PartSent():
                self.serving.sent(event)
            case PartJudged():
                self.transfer.judged(event)
            case RowsRotten():
                self.mending.want(event.kind, event.items)
            case RowsMended():
                self.mending.mended(event)
            case Settled():
                self._on_settled(event)
            case Foreseen():
                self.succession.foreseen(event)
                self._try_slot(event.sequence)
            case _ if self._at.settling:
                self._roots.append(event)
            case _:
                self._on_root(event.sequence, event.root)
        if self._voice.halted is None:
            if not self._at.settling:
                self.lineage.go_on()
                if self.transfer.go_on() and self._voice.halted is None:
                    self._jumped()
                self.mending.go_on()
                if not self.lineage.is_lost:
                    self.following.go_on()
            self.execution.run()
            following = self.succession.due()
            if following is not None:
                self._try_slot(following)
            if self.execution.is_outdated and self._has_caught_up():
                self.execution.caught_up()
        if self._voice.halted is None and not self._at.settling:
            self._propose()
            self._begin(self.views.come_back())
            self.reads.conclude()
            self.followers.go_on()
        return effects

    def _has_caught_up(self) -> bool:
        return self.catchup.is_level(self._at.executed, self.configuration.f)

    def _on_message(self, message: Message, peer: bytes) -> None:
        number = _configuration_of(message)
        if isinstance(message, Follow):
            self.followers.on_follow(message, peer)
        elif isinstance(message, Reached):
            self.following.on_reached(message, peer)
        elif self._at.settling:
            self._early.add(peer, message)
        elif self.lineage.is_lost and not _tells_the_way(message):
            self.lineage.ask_too(peer)
        elif self._at.follows and _is_of(message, Gone):
            self._on_gone_from_source(message, peer)
        elif number is not None and number != self.configuration.number:
            self._on_other_configuration(number, message, peer)
        elif not isinstance(message, Verified):
            self._handlers[type(message)](message, peer)
        elif message.signer in self.configuration:
            handler = self._handlers.get(type(message.message))
            if handler is not None:
                handler(message, peer)
        elif isinstance(message.message, (FetchBatches, FetchState)):  # who is none follows
            self._handlers[type(message.message)](message, peer)

    def _on_gone_from_source(self, gone: Verified[Gone], peer: bytes) -> None:
        """The state is taken then, perhaps of members who are not known here yet."""
        said = self.catchup.statuses.get(peer)
        if said is not None and gone.message.configuration > self.configuration.number:
            self.lineage.note(peer, said)
        self.following.on_gone(gone, peer)

    def _on_other_configuration(self, number: int, message: Message, peer: bytes) -> None:
        """What is said in the next configuration waits; whoever is behind this one is helped."""
        if _is_of(message, Status):
            if number > self.configuration.number and peer == message.signer:
                self.lineage.note(peer, message.message)
            self.repair.on_status_elsewhere(message, peer)
        elif isinstance(message, Verified) and isinstance(
            message.message, (FetchBatches, FetchState, Gone)
        ):
            self._handlers[type(message.message)](message, peer)
        elif number == self.configuration.number + 1:
            self._early.add(peer, message)

    def _on_tick(self, tick: Tick) -> None:
        at = self._at
        at.now_ticks, at.clock_ms = tick.now_ticks, tick.clock_ms
        if not self._is_ticking:
            self._is_ticking = True
            self.suspicion.start(tick.now_ticks)
            self.pacing.status_said()
        if self._voice.halted is not None or self._at.settling:
            return
        self.checkpoints.ask_again()
        self.reads.tick()
        if self._is_opening_owed:
            self._is_opening_owed = False
            self._adopt_missing()
        if self.pacing.has_come(self.pacing.change_due()):
            self._start_view_change(at.view + 1)
        if self.pacing.has_come(self.pacing.complaint_due()):
            self.requests.complain()
        if self.pacing.has_come(self.pacing.status_due()):
            self.pacing.status_said()
            self.repair.tell()
        self.repair.fetch()
        self.serving.go_on()

    def _on_link(self, event: LinkUp | LinkDown) -> None:
        peer, up = event.peer, isinstance(event, LinkUp)
        if isinstance(event, LinkUp):
            self._links[peer] = event.round_trip_ticks
            if self.lineage.is_lost:
                self.lineage.ask_too(peer)
        else:
            self._links.pop(peer, None)
        self.following.link(peer, up)
        self.followers.gone(peer)
        self.serving.gone(peer)
        if peer not in self.configuration or peer == self.key:
            return
        if up:
            self._linked(peer)
        else:
            self.suspicion.link(peer, False, self._at.now_ticks)
        if self._voice.halted is not None or self._at.settling:
            return
        self.repair.link(peer, up)
        if peer == self._at.primary and not self._at.changing:
            self.requests.repeat(*((peer,) if up else ()))

    def _linked(self, peer: bytes) -> None:
        if self._links[peer]:
            self._at.pace.measured(peer, self._links[peer])
        self.suspicion.link(peer, True, self._at.now_ticks)

    # --- who the members are --------------------------------------------------------------------

    def _on_settled(self, settled: Settled) -> None:
        """What waited for the members of the last batch's making goes on, with them or the old."""
        at = self._at
        self.execution.settled(settled.sequence)
        roots, self._roots = self._roots, []
        arrived = self.transfer.arrived
        if arrived and not certificates.is_stable(settled.sequence, arrived, settled.configuration):
            self._voice.halt(FORKED, *(c.raw for c in arrived))
            return
        if settled.configuration.number != self.configuration.number:
            self._succeed(settled.configuration, settled.parameters)
        else:
            if at.executed % self.parameters.checkpoint_interval == 0:
                roots.append(RootTaken(settled.sequence, settled.root))
            for root in roots:
                self._on_root(root.sequence, root.root)
        if arrived:
            self.checkpoints.jumped(arrived)
            self.proposals.follow(self.log.last_accepted())
        self._replay_early()

    def _succeed(self, configuration: Configuration, parameters: Parameters) -> None:
        """Go over into the next configuration: what the last one had under way is void.

        Its bundles wait still.  A member that remembers its votes votes from the first batch on.
        """
        old = self._at
        # Nothing else may ever stand under the names of its own: let in again, it says them again.
        self._own_bundles = [b for b, _ in self.pool.waiting(self.key)] or self._own_bundles
        self.pool.keep_only(configuration.members, old.now_ticks)
        if self.key in configuration:
            for bundle in self._own_bundles:
                self.pool.add(bundle, old.now_ticks)
            self._own_bundles = []
        restored = Restored(
            self._incarnation,
            old.executed,
            old.time_ms,
            rebuilt=self.views.is_forgetful,
        )
        (_, number), mending = self.requests.newest, self.mending
        self.reads.give_up()
        self.past.spans(parameters.window)
        self._begin_configuration(configuration, parameters, restored, number)
        mending.follow(self._at, self.log, self.catchup)
        self.mending = mending
        self._at.now_ticks, self._at.clock_ms = old.now_ticks, old.clock_ms
        self.suspicion.start(old.now_ticks)
        for peer in self._links:
            if peer in configuration:
                self._linked(peer)
        self.pacing.status_said()
        self.repair.tell()
        if self._at.primary != self.key:
            self.requests.repeat(self._at.primary)

    # --- pre-prepare ----------------------------------------------------------------------------

    def _propose(self) -> None:
        if self._at.leads:
            for proposal in self.proposals.due():
                slot = self.log.slot(proposal.pre_prepare.message.sequence)
                self._accept(slot, proposal.pre_prepare, proposal.batch)
                self.execution.run()

    def _timely(self, view: int, sequence: int, signer: bytes, message: Message) -> bool:
        """True if a message belongs to this view and window; one that may yet is kept."""
        at = self._at
        if view < at.view or sequence <= self.log.low:
            return False
        if view > at.view or at.changing or sequence > self.log.high:
            self._early.add(signer, message)
            return False
        return True

    def _replay_early(self) -> None:
        for sender, message in self._early.drain():
            self._on_message(message, sender)

    def _on_proposal(self, proposal: Proposal, peer: bytes) -> None:
        pre_prepare, batch = proposal.pre_prepare, proposal.batch
        named, signer = pre_prepare.message, pre_prepare.signer
        if (
            named.configuration != self.configuration.number
            or signer != self.configuration.primary(named.view)
            or signer == self.key
        ):
            return
        if self.views.left(named.view):
            self._follow(pre_prepare, batch)
            return
        if not self._timely(named.view, named.sequence, signer, proposal):
            return
        slot = self.log.slot(named.sequence)
        if slot.pre_prepare is not None and slot.pre_prepare.message != named:
            evidence = (slot.pre_prepare.raw, pre_prepare.raw)
            self._voice.alarm("the primary gave one number to two batches", signer, *evidence)
            self._start_view_change(self._at.view + 1)
        elif named.sequence <= self._at.executed or slot.journalled:
            return
        elif slot.pre_prepare is None and not is_acceptable(batch, self.configuration):
            reason = "the primary proposed a batch that is not valid"
            self._voice.alarm(reason, signer, pre_prepare.raw)
            self._start_view_change(self._at.view + 1)
        elif self.log.has_room(named.sequence, batch, self._at.executed):  # else it comes again
            self.suspicion.proposed(signer)
            self.pacing.follows(0)
            self._accept(slot, pre_prepare, batch)

    def _follow(self, pre_prepare: Verified[PrePrepare], batch: Batch) -> None:
        """Keep what is proposed in the view that was left: perhaps nobody else left it.

        There is no vote for it.  But if the others commit it, it can be executed here as well.
        """
        sequence = pre_prepare.message.sequence
        if (
            sequence > self._at.executed
            and self.log.in_window(sequence)
            and self.log.slot(sequence).pre_prepare is None
            and is_acceptable(batch, self.configuration)
            and self.log.has_room(sequence, batch, self._at.executed)
        ):
            slot = self.log.slot(sequence)
            slot.pre_prepare, slot.since_ticks = pre_prepare, self._at.now_ticks
            self.log.add_body(sequence, batch)

    def _on_body(self, carrier: Body, peer: bytes) -> None:
        """The batch that was lacking where a new view named it."""
        digest = carrier.batch.digest
        for _, slot in sorted(self.log.slots.items()):
            named = slot.pre_prepare
            if named is not None and not slot.journalled and named.message.digest == digest:
                self.log.add_body(slot.sequence, carrier.batch)
                if self._at.changing:  # kept for the next view; the last one gets no more votes
                    continue
                self.pool.mark_proposed(carrier.batch.bundles)
                self._endorse(slot, carrier.batch)

    def _accept(self, slot: Slot, pre_prepare: Verified[PrePrepare], batch: Batch) -> None:
        """Take a pre-prepare and its body: this replica votes for nothing else in this slot."""
        slot.pre_prepare, slot.since_ticks = pre_prepare, self._at.now_ticks
        self.log.add_body(pre_prepare.message.sequence, batch)
        self._endorse(slot, batch, tell=pre_prepare.signer == self.key)

    def _endorse(self, slot: Slot, batch: Batch, *, tell: bool = False) -> None:
        """Write down what was accepted in a slot, `tell` it to all, and vote for it."""
        if not self._at.voting:
            return
        assert slot.pre_prepare is not None
        self._voice.persist(journal.proposal(slot.pre_prepare, batch))
        if tell:
            self._voice.send(Proposal(slot.pre_prepare, batch).pack())
        self._vote(slot)

    # --- prepare --------------------------------------------------------------------------------

    def _vote(self, slot: Slot) -> None:
        """Prepare (unless primary), for what the journal says was accepted."""
        assert slot.pre_prepare is not None
        slot.journalled = True
        if slot.pre_prepare.signer != self.key:
            prepare = self._voice.sign(Prepare(*slot.pre_prepare.message.fields()))
            slot.prepares[self.key] = prepare
            self._voice.send(prepare.raw)
        self._try_prepared(slot)

    def _on_prepare(self, prepare: Verified[Prepare], peer: bytes) -> None:
        vote, signer = prepare.message, prepare.signer
        if (
            vote.configuration != self.configuration.number
            or signer == self.configuration.primary(vote.view)
            or not self._timely(vote.view, vote.sequence, signer, prepare)
        ):
            return
        slot = self.log.slot(vote.sequence)
        earlier = slot.prepares.get(signer)
        if earlier is not None and earlier.message.view == vote.view:
            if earlier.message.digest != vote.digest:
                evidence = (earlier.raw, prepare.raw)
                self._voice.alarm("two different prepares for one slot", signer, *evidence)
            return
        slot.prepares[signer] = prepare
        self._try_prepared(slot)

    # --- commit ---------------------------------------------------------------------------------

    def _try_slot(self, sequence: int) -> None:
        """Now it may be known what a commit in this slot has to say."""
        slot = self.log.slots.get(sequence)
        if slot is not None and not (self._at.settling or self._at.changing):
            self._try_prepared(slot)

    def _try_prepared(self, slot: Slot) -> None:
        if not slot.journalled or slot.prepared_in(self._at.view):
            return
        certificate = slot.preparing(self.configuration)
        if certificate is None:
            return
        named = certificate.pre_prepare.message
        successor = self.succession.after(slot.sequence, self.log.body(named.digest))
        if successor is None:
            return
        vote = (named.configuration, named.view, named.sequence, named.digest)
        commit = self._voice.sign(Commit(*vote, self._at.clock_ms, successor))
        slot.prepared, slot.own_commit = certificate, commit
        slot.commits[self.key] = commit
        self.readings.note(commit)
        self._voice.persist(journal.prepared(certificate, commit))
        self._voice.send(commit.raw)

    def _on_commit(self, commit: Verified[Commit], peer: bytes) -> None:
        """Commits count in any view: a quorum of them is proof, whatever this replica wants."""
        vote = commit.message
        if peer == commit.signer:  # an old one passed on is a vote, but no news of its clock
            self.readings.note(commit)
        if vote.sequence <= self._at.executed or vote.sequence <= self.log.low:
            return
        if vote.sequence > self.log.high:
            self._early.add(commit.signer, commit)
            return
        slot = self.log.slot(vote.sequence)
        earlier = slot.commits.get(commit.signer)
        if earlier is not None and earlier.message.view >= vote.view:
            if earlier.message.view == vote.view and earlier.message.vote != vote.vote:
                evidence = (earlier.raw, commit.raw)
                self._voice.alarm("two different commits for one slot", commit.signer, *evidence)
            return
        slot.commits[commit.signer] = commit

    def _on_committed(self, committed: Committed, peer: bytes) -> None:
        if self.execution.take(committed):
            self.catchup.came(committed.size_bytes)
            if not self.transfer.is_next:
                self.repair.fetched()
        elif self._at.follows:
            self.following.judge(committed, peer)

    # --- checkpoints ----------------------------------------------------------------------------

    def _on_root(self, sequence: int, root: bytes) -> None:
        if self.checkpoints.took(sequence, root):
            self._replay_early()

    def _on_checkpoint(self, checkpoint: Verified[Checkpoint], peer: bytes) -> None:
        if self.checkpoints.add(checkpoint):
            self._replay_early()

    def _on_stable_checkpoint(self, carrier: StableCheckpoint, peer: bytes) -> None:
        stable = carrier.checkpoints
        if stable and certificates.is_stable(
            stable[0].message.sequence, stable, self.configuration
        ):
            if self.checkpoints.denies(stable):
                return
            self.transfer.heard(stable)
        for checkpoint in stable:
            if checkpoint.signer in self.configuration and self._voice.halted is None:
                self._on_checkpoint(checkpoint, peer)

    def _on_part(self, part: StatePart, peer: bytes) -> None:
        if part.kind == HANDOVERS:
            was_lost = self.lineage.is_lost
            self.lineage.on_part(part, peer)
            if was_lost and not self.lineage.is_lost:
                self.catchup.try_again()  # what came meanwhile was not believed
                self.repair.fetch()
        elif not self.mending.on_part(part, peer):
            self.transfer.on_part(part, peer)

    def _jumped(self) -> None:
        """The state is that of others now: what lies above it goes on."""
        self.proposals.follow(self.log.last_accepted())
        self._replay_early()

    # --- a new view -----------------------------------------------------------------------------

    def _start_view_change(self, view: int) -> None:
        self._begin(self.views.ask(view))

    def _on_view_change(self, change: Verified[ViewChange], peer: bytes) -> None:
        self._begin(self.views.on_view_change(change))

    def _on_new_view(self, new: Verified[NewView], peer: bytes) -> None:
        self._begin(self.views.on_new_view(new))

    def _begin(self, new: Verified[NewView] | None) -> None:
        """Begin the view that was entered, if one was, with what its NEW-VIEW starts it with."""
        if new is None:
            return
        start, stable = view_change.stable_of(new.message.view_changes)
        self.log.forget_accepted()
        self.pacing.follows(0)
        self.pool.forget_proposed(self._at.now_ticks)
        if start > self.log.low:
            self.checkpoints.advance(start, stable)
        self.proposals.follow(start + len(new.message.pre_prepares))
        for pre_prepare in new.message.pre_prepares:
            self._adopt(pre_prepare)
        if self._at.primary != self.key:
            self.requests.repeat(self._at.primary)
        self._replay_early()

    def _adopt_missing(self) -> None:
        """After a restart: take up what the new view began with and the journal does not hold."""
        assert self.views.begun is not None
        for pre_prepare in self.views.begun.message.pre_prepares:
            slot = self.log.slots.get(pre_prepare.message.sequence)
            if slot is not None and slot.pre_prepare == pre_prepare and not slot.journalled:
                self._adopt(pre_prepare)

    def _adopt(self, pre_prepare: Verified[PrePrepare]) -> None:
        """Take a pre-prepare of a new view; its body may have to be fetched first."""
        sequence, digest = pre_prepare.message.sequence, pre_prepare.message.digest
        if not self.log.in_window(sequence):
            return
        slot = self.log.slot(sequence)
        assert not slot.journalled, "one vote in a slot and view"
        slot.pre_prepare, slot.since_ticks = pre_prepare, self._at.now_ticks
        body = self.log.body(digest)
        if body is not None:
            self.pool.mark_proposed(body.bundles)
            self._endorse(slot, body)
        elif sequence <= self._at.executed:  # the body is with its certificate on the disk
            if self._at.voting:
                self._vote(slot)
        else:
            self.repair.fetch_body(digest)


def _is_of(message: Message, kind: type[S]) -> TypeGuard[Verified[S]]:
    """Whether it is signed, and of this kind."""
    return isinstance(message, Verified) and isinstance(message.message, kind)


def _tells_the_way(message: Message) -> bool:
    """Whether it may concern who does not know yet what led to the members of today."""
    return isinstance(message, StatePart) or _is_of(message, Status)


def _configuration_of(message: Message) -> int | None:
    """The configuration that a message belongs to; None where that does not matter.

    Batches are proven, or named by their digest.
    """
    if isinstance(message, Proposal):
        return message.pre_prepare.message.configuration
    if isinstance(message, StableCheckpoint):
        return message.checkpoints[0].message.configuration if message.checkpoints else None
    if isinstance(message, Verified) and not isinstance(message.message, _OF_NO_CONFIGURATION):
        return int(message.message.configuration)
    return None

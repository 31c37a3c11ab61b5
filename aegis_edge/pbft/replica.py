"""The replica: one member's whole part in the agreement, as `step(event) -> effects`.

Knows the protocol: three phases, checkpoints, view changes, repair of what the network lost.
Refuses to know clocks, disks, sockets, dice and what an operation means.
Follows: Castro and Liskov, "Practical Byzantine Fault Tolerance" (OSDI '99), section 4, with
signatures instead of authenticators; what it waits for is `suspicion`, what it counts is `log`.

A replica never contradicts what it may have said: every vote is preceded by the record of it, and a
restarted replica starts from those records.  It sends no vote for a batch whose body it lacks.
"""

from __future__ import annotations

from typing import Any, Protocol

from aegis_edge.pbft import certificates, clocks, journal, view_change
from aegis_edge.pbft.amnesia import Amnesia
from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.early import Early
from aegis_edge.pbft.events import (
    Alarm,
    Bundled,
    Deliver,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Persist,
    Prune,
    Received,
    Record,
    Restored,
    Send,
    SendCommitted,
    Submitted,
    TakeRoot,
    Tick,
)
from aegis_edge.pbft.log import Log, Slot
from aegis_edge.pbft.past import Past
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.wire.envelope import Claim
from aegis_edge.wire.messages import (
    BATCH_BYTES_MAX,
    Batch,
    Body,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    FetchBatches,
    FetchBody,
    Message,
    NewView,
    Open,
    Prepare,
    PrePrepare,
    Proposal,
    Signed,
    StableCheckpoint,
    Status,
    Verified,
    ViewChange,
)

#: What a batch may hold with its clock readings: well below what its certificate may measure.
_WHOLE_BATCH_BYTES_MAX = BATCH_BYTES_MAX + 64 * 1024
_DIVERGED = (
    "this node's state differs from what a quorum agreed on: "
    "start it again, and it fetches everything anew from the others"
)
_FORKED = (
    "a quorum agreed on another batch than was executed here: "
    "more members are faulty than may be; keep their disks, and find out who signed both"
)
#: Slots that one STATUS may make us resend.
RESEND_SLOTS = 8


class Signs(Protocol):
    """What the replica needs of `wire.envelope.Signer`."""

    @property
    def public(self) -> bytes: ...

    def sign(self, message: Any) -> Verified[Any]: ...


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
        self._signer = signer
        self.key = signer.public
        self.configuration = configuration
        self.parameters = parameters
        self._others = configuration.others(self.key)
        self.view = 0
        self.changing = False
        self.halted: str | None = None
        self.executed = restored.executed
        self.time_ms = restored.time_ms
        self.log = Log(configuration, parameters)
        self.past = Past(parameters.window)
        self.pool = Pool(restored.origins)
        self.readings = clocks.Readings()
        self.suspicion = Suspicion(self.key, configuration, parameters)
        self.catchup = Catchup(5 * parameters.resend_ticks, parameters.window // 4)
        self._amnesia: Amnesia | None = None
        self._incarnation = restored.incarnation
        self._number = 0
        self._next_sequence = 1
        self._view_changes: dict[bytes, Verified[ViewChange]] = {}
        self._new_view: Verified[NewView] | None = None
        self._early = Early()
        self._answered: dict[bytes, int] = {}
        self._helped: dict[bytes, int] = {}
        self._served: dict[bytes, tuple[int, int]] = {}
        self._alarmed: set[tuple[str, bytes]] = set()
        self._now: int | None = None
        self._clock_ms = 0
        self._status_at = 0
        self._complain_at = 0
        self._root_owed: int | None = None
        self._rootless = restored.executed
        self._adoption_owed = False
        self._out: list[Effect] = []
        self._handlers: dict[type, Any] = {
            Bundle: self._on_bundle,
            Prepare: self._on_prepare,
            Commit: self._on_commit,
            Checkpoint: self._on_checkpoint,
            ViewChange: self._on_view_change,
            NewView: self._on_new_view,
            Status: self._on_status,
            FetchBatches: self._on_fetch_batches,
            FetchBody: self._on_fetch_body,
            Proposal: self._on_proposal,
            Committed: self._on_committed,
            Body: self._on_body,
            StableCheckpoint: self._on_stable_checkpoint,
        }
        self._restore(restored, open_)

    # --- for display ------------------------------------------------------------------------

    @property
    def primary(self) -> bytes:
        return self.configuration.primary(self.view)

    @property
    def stable(self) -> int:
        return self.log.low

    @property
    def learning(self) -> int | None:
        """None for a member that votes.

        Else it forgot its votes, and this is the sequence after which it votes again; 0: not known.
        """
        return None if self._amnesia is None else self._amnesia.target() or 0

    @property
    def bundle_room(self) -> int:
        """How many bundles may be submitted now."""
        if self.halted is not None:
            return 0
        return max(0, self.parameters.bundles_in_flight - len(self.pool.waiting(self.key)))

    @property
    def wake_at(self) -> int | None:
        """The tick at which this replica wants its next `Tick`; None once halted."""
        if self.halted is not None or self._now is None:
            return None
        times = [self._status_due(), self._complaint_due(), self._change_due()]
        if self.catchup.request is not None:
            times.append(self.catchup.request.deadline_ticks)
        return min((t for t in times if t is not None), default=None)

    def is_redundant(self, claim: Claim) -> bool:
        """True if a message that claims this could change nothing, whoever signed it.

        Asked before the check of its signatures, to save it: votes that come after the quorum, and
        the many certificates in view changes and new views that are known or over.
        """
        if claim.tag in (ViewChange.TAG, NewView.TAG):
            view = claim.fields[1]
            if claim.tag == NewView.TAG:
                return bool(view < self.view or (view == self.view and not self.changing))
            known = self._view_changes.get(claim.signer)
            return bool(view < self.view or (known is not None and view <= known.message.view))
        _, view, sequence = claim.fields[:3]
        if sequence <= self.log.low:
            return True
        if claim.tag == Commit.TAG:
            return bool(sequence <= self.executed)
        slot = self.log.slots.get(sequence)
        return slot is not None and view == self.view and slot.prepared_in(view)

    # --- the one way in -----------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Take one event in; what comes out must be performed in order (see `events`)."""
        self._out = []
        match event:
            case Tick():
                self._on_tick(event)
            case LinkUp() | LinkDown():
                self._on_link(event.peer, isinstance(event, LinkUp))
            case _ if self.halted is not None:
                return []
            case Received():
                self._on_message(event.message, event.peer)
            case Submitted():
                self._on_submitted(event.operations)
            case _:
                self._on_root(event.sequence, event.root)
        if self.halted is None:
            self._execute()
            self._propose()
            self._come_back()
        out, self._out = self._out, []
        return out

    def _on_message(self, message: Message, peer: bytes) -> None:
        if isinstance(message, Verified):
            if message.signer in self.configuration:
                handler = self._handlers.get(type(message.message))
                if handler is not None:
                    handler(message, peer)
        else:
            self._handlers[type(message)](message, peer)

    # --- effects --------------------------------------------------------------------------------

    def _sign(self, message: Signed) -> Verified[Any]:
        return self._signer.sign(message)

    def _persist(self, record: Record) -> None:
        self._out.append(Persist(record))

    def _send(self, raw: bytes, *peers: bytes) -> None:
        """Send to these peers, or to all others where none is named."""
        to = peers or self._others
        if to:
            self._out.append(Send(to, raw))

    def _alarm(self, reason: str, about: bytes, *evidence: bytes) -> None:
        if (reason, about) not in self._alarmed:
            self._alarmed.add((reason, about))
            self._out.append(Alarm(reason, about, evidence))

    def _halt(self, reason: str, *evidence: bytes) -> None:
        self.halted = reason
        self._alarm(reason, self.key, *evidence)

    # --- time -----------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self._now or 0

    def _on_tick(self, tick: Tick) -> None:
        if self._now is None:
            self.suspicion.start(tick.now_ticks)
            self._status_at = tick.now_ticks
        self._now, self._clock_ms = tick.now_ticks, tick.clock_ms
        if self.halted is not None:
            return
        if self._root_owed is not None:  # the answer to a TakeRoot was lost in a crash
            self._out.append(TakeRoot(self._root_owed))
            self._root_owed = None
        if self._adoption_owed:  # so may have been a part of the new view
            self._adoption_owed = False
            self._adopt_missing()
        change = self._change_due()
        if change is not None and change <= self.now:
            self._start_view_change(self.view + 1)
        complaint = self._complaint_due()
        if complaint is not None and complaint <= self.now:
            self._complain()
        if self._status_due() <= self.now:
            self._status_at = self.now
            self._send(self._status().raw)
        self._fetch()

    def _oldest_ticks(self) -> int | None:
        """Since when the oldest thing that should have been executed waits."""
        since = [
            slot.since_ticks
            for slot in self.log.slots.values()
            if slot.pre_prepare is not None and slot.sequence > self.executed
        ]
        oldest = self.pool.oldest_ticks()
        if oldest is not None:
            since.append(oldest)
        return min(since, default=None)

    def _change_due(self) -> int | None:
        if self._amnesia is not None:
            return None
        if self.changing:
            return self.suspicion.give_up_at(self.primary)
        return self.suspicion.suspect_at(self.primary, self._oldest_ticks())

    def _stalled(self) -> bool:
        """Nothing was executed for a while."""
        return self.now >= self.suspicion.progress_ticks + self.parameters.resend_ticks

    def _status_due(self) -> int:
        """Statuses go out every `status_ticks`, and more often while something waits.

        At first every `resend_ticks`; the longer nothing helps, the rarer.
        """
        behind = self.catchup.is_behind(self.executed, self.configuration.f)
        if self.changing or behind or self._oldest_ticks() is not None:
            progress = self.suspicion.progress_ticks
            pause = max(self.parameters.resend_ticks, (self._status_at - progress) // 4)
            return min(
                max(self._status_at, progress) + pause,
                self._status_at + self.parameters.status_ticks,
            )
        return self._status_at + self.parameters.status_ticks

    # --- requests -------------------------------------------------------------------------------

    def _on_submitted(self, operations: tuple[bytes, ...]) -> None:
        assert self.bundle_room > 0, "submitted more bundles than there is room for"
        self._number += 1
        bundle = self._sign(Bundle(self._incarnation, self._number, operations))
        self.pool.add(bundle, self.now)
        self._out.append(Bundled(self._incarnation, self._number))
        is_primary = self.primary == self.key
        if is_primary and not self.changing and self._amnesia is None:
            return
        if not is_primary and not self.changing and self.suspicion.reachable(self.primary):
            self._send(bundle.raw, self.primary)
            self._complain_at = max(self._complain_at, self.now + self._complaint_ticks())
        else:
            self._send(bundle.raw)

    def _complaint_ticks(self) -> int:
        return max(1, self.parameters.timeout_ticks // 4)

    def _complaint_due(self) -> int | None:
        """When to say again what waits and the primary has not got executed.

        Also while changing: perhaps nobody follows, and the others go on in the view that we left.
        """
        oldest = self.pool.oldest_ticks()
        if oldest is None or not self._others:
            return None
        return max(self._complain_at, oldest + self._complaint_ticks())

    def _complain(self) -> None:
        """Tell everybody of our own bundles, and the primary of those that only we may hold."""
        self._complain_at = self.now + self._complaint_ticks()
        for bundle, _ in self.pool.waiting(self.key):
            self._send(bundle.raw)
        if self.changing or self.primary == self.key:
            return
        for origin in self.pool.origins():
            for bundle, since in self.pool.waiting(origin):
                if origin != self.key and since + self._complaint_ticks() <= self.now:
                    self._send(bundle.raw, self.primary)

    def _on_bundle(self, bundle: Verified[Bundle], peer: bytes) -> None:
        outcome = self.pool.add(bundle, self.now)
        if outcome == "conflict":
            self._alarm("two bundles under one number", bundle.signer, bundle.raw)
        elif (
            outcome in ("new", "known")
            and peer == bundle.signer
            and not self.changing
            and self.primary not in (self.key, peer)
            and self.pool.may_relay(bundle, self.now, self.parameters.resend_ticks)
        ):  # the origin complained: the primary shall not say that it never heard
            self._send(bundle.raw, self.primary)

    # --- ordering -------------------------------------------------------------------------------

    def _propose(self) -> None:
        if self.primary != self.key or self.changing or self._amnesia is not None:
            return
        self._next_sequence = max(self._next_sequence, self.executed + 1)
        while (
            self.log.in_window(self._next_sequence)
            and self._next_sequence - self.executed <= self.parameters.pipeline
            and self.pool.has_unproposed()
        ):
            if self._clock_ms - self.readings.clock_ms(self.key) >= clocks.STEP_MS:
                self.readings.note(self._status())
            evidence = self.readings.evidence(self.configuration, self.time_ms)
            batch = Batch(evidence, self.pool.take())
            named = PrePrepare(
                self.configuration.number, self.view, self._next_sequence, batch.digest
            )
            pre_prepare = self._sign(named)
            slot = self.log.slot(self._next_sequence)
            self._next_sequence += 1
            self._accept(slot, pre_prepare, batch)
            self._execute()

    def _replay_early(self) -> None:
        for signer, message in self._early.drain():
            self._on_message(message, signer)

    def _timely(self, view: int, sequence: int, signer: bytes, message: Message) -> bool:
        """True if a message belongs to this view and window; one that may yet is kept."""
        if view < self.view or sequence <= self.log.low:
            return False
        if view > self.view or self.changing or sequence > self.log.high:
            self._early.add(signer, message)
            return False
        return True

    def _on_proposal(self, proposal: Proposal, peer: bytes) -> None:
        pre_prepare, batch = proposal.pre_prepare, proposal.batch
        named, signer = pre_prepare.message, pre_prepare.signer
        if (
            named.configuration != self.configuration.number
            or signer != self.configuration.primary(named.view)
            or signer == self.key
            or not self._timely(named.view, named.sequence, signer, proposal)
        ):
            return
        slot = self.log.slot(named.sequence)
        if slot.pre_prepare is not None and slot.pre_prepare.message != named:
            evidence = (slot.pre_prepare.raw, pre_prepare.raw)
            self._alarm("the primary gave one number to two batches", signer, *evidence)
            self._start_view_change(self.view + 1)
        elif named.sequence <= self.executed or slot.journalled:
            return
        elif slot.pre_prepare is None and not self._is_acceptable(batch):
            self._alarm("the primary proposed a batch that is not valid", signer, pre_prepare.raw)
            self._start_view_change(self.view + 1)
        elif self.log.has_room(named.sequence, batch, self.executed):  # else it comes again
            self._accept(slot, pre_prepare, batch)

    def _is_acceptable(self, batch: Batch) -> bool:
        """Members' bundles and readings; a batch of nothing (a null batch sent again) is one."""
        return (
            len(batch.raw) <= _WHOLE_BATCH_BYTES_MAX
            and (bool(batch.bundles) or not batch.evidence)
            and clocks.acceptable(batch.evidence, self.configuration)
            and all(b.signer in self.configuration for b in batch.bundles)
        )

    def _accept(self, slot: Slot, pre_prepare: Verified[PrePrepare], batch: Batch) -> None:
        """Take a pre-prepare and its body: this replica votes for nothing else in this slot."""
        slot.pre_prepare, slot.since_ticks = pre_prepare, self.now
        self.log.add_body(pre_prepare.message.sequence, batch)
        self._endorse(slot, batch, tell=pre_prepare.signer == self.key)

    def _endorse(self, slot: Slot, batch: Batch, *, tell: bool = False) -> None:
        """Write down what was accepted in a slot, `tell` it to all, and vote for it."""
        if self._amnesia is not None:
            return
        assert slot.pre_prepare is not None
        self._persist(journal.proposal(slot.pre_prepare, batch))
        if tell:
            self._send(Proposal(slot.pre_prepare, batch).pack())
        self._vote(slot)

    def _vote(self, slot: Slot) -> None:
        """Prepare (unless primary), for what the journal says was accepted."""
        assert slot.pre_prepare is not None
        slot.journalled = True
        if slot.pre_prepare.signer != self.key:
            prepare = self._sign(Prepare(*slot.pre_prepare.message.fields()))
            slot.prepares[self.key] = prepare
            self._send(prepare.raw)
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
                self._alarm("two different prepares for one slot", signer, *evidence)
            return
        slot.prepares[signer] = prepare
        self._try_prepared(slot)

    def _try_prepared(self, slot: Slot) -> None:
        if not slot.journalled or slot.prepared_in(self.view):
            return
        certificate = slot.preparing(self.configuration)
        if certificate is None:
            return
        named = certificate.pre_prepare.message
        commit = self._sign(
            Commit(named.configuration, named.view, named.sequence, named.digest, self._clock_ms)
        )
        slot.prepared, slot.own_commit = certificate, commit
        slot.commits[self.key] = commit
        self.readings.note(commit)
        self._persist(journal.prepared(certificate, commit))
        self._send(commit.raw)

    def _on_commit(self, commit: Verified[Commit], peer: bytes) -> None:
        """Commits count in any view: a quorum of them is proof, whatever this replica wants."""
        vote = commit.message
        if vote.configuration != self.configuration.number:
            return
        if peer == commit.signer:  # an old one passed on is a vote, but no news of its clock
            self.readings.note(commit)
        if vote.sequence <= self.executed or vote.sequence <= self.log.low:
            return
        if vote.sequence > self.log.high:
            self._early.add(commit.signer, commit)
            return
        slot = self.log.slot(vote.sequence)
        earlier = slot.commits.get(commit.signer)
        if earlier is not None and earlier.message.view >= vote.view:
            if earlier.message.fields()[1:3] == vote.fields()[1:3] and (
                earlier.message.digest != vote.digest
            ):
                evidence = (earlier.raw, commit.raw)
                self._alarm("two different commits for one slot", commit.signer, *evidence)
            return
        slot.commits[commit.signer] = commit

    # --- execution ------------------------------------------------------------------------------

    def _execute(self) -> None:
        while self.halted is None:
            committed = self.log.certificate(self.executed + 1)
            if committed is None:
                return
            self._deliver(committed)

    def _deliver(self, committed: Committed) -> None:
        batch = committed.batch
        self.executed += 1
        self.past.executed(self.executed, batch.digest)
        self.time_ms = clocks.agreed_ms(self.time_ms, batch.evidence)
        oldest = self.pool.since_ticks(batch.bundles)
        bundles = self.pool.execute(batch.bundles)
        self._out.append(Deliver(self.executed, self.time_ms, bundles, committed.pack()))
        if bundles and not self.changing:  # a batch of nothing is no progress
            self.suspicion.progressed(self.now, oldest)
        if self.executed % self.parameters.checkpoint_interval == 0:
            self._out.append(TakeRoot(self.executed))
        if self.pool.last_executed(self.key)[0] > self._incarnation:
            self._halt(
                "this node's key is in use elsewhere, or it runs from an old backup: "
                "stop the other one, or make a new identity"
            )

    # --- checkpoints ----------------------------------------------------------------------------

    def _on_root(self, sequence: int, root: bytes) -> None:
        self.past.took(sequence, root)
        if self._is_denied(self.log.stable):  # a checkpoint may become known before it is executed
            return
        if self._amnesia is None:
            checkpoint = self._sign(Checkpoint(self.configuration.number, sequence, root))
            if self.log.add_checkpoint(checkpoint, self.executed):
                self._persist(journal.checkpoint(checkpoint))
                self._send(checkpoint.raw)
        self._stabilise(sequence)

    def _on_checkpoint(self, checkpoint: Verified[Checkpoint], peer: bytes) -> None:
        if self.log.add_checkpoint(checkpoint, self.executed):
            self._stabilise(checkpoint.message.sequence)

    def _on_stable_checkpoint(self, carrier: StableCheckpoint, peer: bytes) -> None:
        stable = carrier.checkpoints
        if (
            stable
            and certificates.is_stable(stable[0].message.sequence, stable, self.configuration)
            and self._is_denied(stable)
        ):
            return
        for checkpoint in stable:
            if checkpoint.signer in self.configuration and self.halted is None:
                self._on_checkpoint(checkpoint, peer)

    def _is_denied(self, stable: tuple[Verified[Checkpoint], ...]) -> bool:
        """Halt if a quorum signed another root than was taken here."""
        if self.past.denies_root(stable):
            self._persist(journal.diverged(stable))
            self._halt(_DIVERGED, *(c.raw for c in stable))
        return self.halted is not None

    def _stabilise(self, sequence: int) -> None:
        """Advance the low watermark once a quorum and this replica agree on the root there.

        What was executed before a restart, and whose root was lost in the crash, can be compared no
        more: there the quorum is believed, and the next checkpoint tells.
        """
        agreed = self.log.agreed_root(sequence)
        own = self.past.root(sequence)
        if agreed is None or (own is None and sequence > self._rootless):
            return
        if not self._is_denied(agreed):
            self._advance(sequence, agreed)
            self._replay_early()

    def _advance(self, sequence: int, stable: tuple[Verified[Checkpoint], ...]) -> None:
        self.log.advance(sequence, stable)
        self._persist(journal.stable(stable))
        self._out.append(Prune(sequence))

    # --- view changes ---------------------------------------------------------------------------

    def _start_view_change(self, view: int) -> None:
        """Leave for `view`: from now on no vote in any lower one."""
        if self._amnesia is not None:
            return
        self.view, self.changing = view, True
        self.suspicion.asked()
        own = self._sign(
            ViewChange(
                self.configuration.number,
                view,
                self.log.low,
                self.log.stable,
                self.log.prepared(),
            )
        )
        self._view_changes[self.key] = own
        self._persist(journal.view_change(own))
        self._persist(journal.view(view, True))
        self._send(own.raw)
        self._consider_views()

    def _on_view_change(self, change: Verified[ViewChange], peer: bytes) -> None:
        said = change.message
        known = self._view_changes.get(change.signer)
        if known is not None and known.message.view >= said.view:
            return
        reason = view_change.judge_view_change(change, self.configuration, self.parameters)
        if reason is not None:
            self._alarm(f"a view change was refused: {reason}", change.signer, change.raw)
            return
        if self._is_denied(said.stable):
            return
        self._view_changes[change.signer] = change
        if self._new_view is not None and said.view <= self._new_view.message.view:
            self._send(self._new_view.raw, change.signer)
        else:
            self._consider_views()

    def _consider_views(self) -> None:
        """Join a view that f+1 others ask for; count a quorum; make the new view if it is ours."""
        higher = sorted(
            c.message.view for c in self._view_changes.values() if c.message.view > self.view
        )
        if len(higher) > self.configuration.f:
            self._start_view_change(higher[0])
            return
        if not self.changing:
            return
        left = [c for _, c in sorted(self._view_changes.items()) if c.message.view >= self.view]
        if len(left) < self.configuration.quorum:
            return
        self.suspicion.left_by_quorum(self.now)
        joined = [c for c in left if c.message.view == self.view]
        if self.primary == self.key and len(joined) >= self.configuration.quorum:
            self._make_new_view(tuple(joined[: self.configuration.quorum]))

    def _make_new_view(self, changes: tuple[Verified[ViewChange], ...]) -> None:
        number = self.configuration.number
        pre_prepares = tuple(
            self._sign(PrePrepare(number, self.view, sequence, digest))
            for sequence, digest in view_change.order(changes)
        )
        self._install(self._sign(NewView(number, self.view, changes, pre_prepares)))

    def _on_new_view(self, new: Verified[NewView], peer: bytes) -> None:
        view = new.message.view
        if view < self.view or (view == self.view and not self.changing):
            return
        reason = view_change.judge_new_view(new, self.configuration, self.parameters)
        if reason is not None:
            self._alarm(f"a new view was refused: {reason}", new.signer, new.raw)
            return
        self._install(new)

    def _install(self, new: Verified[NewView]) -> None:
        said = new.message
        if any(self._is_denied(change.message.stable) for change in said.view_changes):
            return
        self.view, self.changing, self._new_view = said.view, False, new
        self.suspicion.entered(self.now)
        self._persist(journal.new_view(new))
        self._persist(journal.view(said.view, False))
        if self.primary == self.key:
            self._send(new.raw)
        start, stable = view_change.stable_of(said.view_changes)
        for slot in self.log.slots.values():
            slot.pre_prepare, slot.journalled = None, False
        self.pool.forget_proposed(self.now)
        if start > self.log.low:
            self._advance(start, stable)
        self._next_sequence = max(start + len(said.pre_prepares), self.executed) + 1
        for pre_prepare in said.pre_prepares:
            self._adopt(pre_prepare)
        if self.primary != self.key:
            for bundle, _ in self.pool.waiting(self.key):
                self._send(bundle.raw, self.primary)
        self._replay_early()

    def _adopt_missing(self) -> None:
        """After a restart: take up what the new view began with and the journal does not hold."""
        assert self._new_view is not None
        for pre_prepare in self._new_view.message.pre_prepares:
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
        slot.pre_prepare, slot.since_ticks = pre_prepare, self.now
        body = self.log.body(digest)
        if body is not None:
            self.pool.mark_proposed(body.bundles)
            self._endorse(slot, body)
        elif sequence <= self.executed:  # the body is with its certificate on the disk
            if self._amnesia is None:
                self._vote(slot)
        else:
            self._send(self._sign(FetchBody(self.configuration.number, digest)).raw)

    # --- repair ---------------------------------------------------------------------------------

    def _status(self) -> Verified[Status]:
        status = self._sign(
            Status(
                self.configuration.number,
                self.view,
                self.changing,
                self.log.low,
                self.executed,
                self._clock_ms,
            )
        )
        self.readings.note(status)
        return status

    def _on_link(self, peer: bytes, up: bool) -> None:
        if peer not in self.configuration or peer == self.key:
            return
        self.suspicion.link(peer, up, self.now)
        if self.halted is not None:
            return
        if up:
            self._send(self._status().raw, peer)
        if peer == self.primary and not self.changing:
            for bundle, _ in self.pool.waiting(self.key):
                self._send(bundle.raw, *((peer,) if up else ()))

    def _on_status(self, status: Verified[Status], peer: bytes) -> None:
        said, signer = status.message, status.signer
        if said.configuration != self.configuration.number or peer != signer:
            return  # an old one that another passes on is no news, and asks for nothing
        self.readings.note(status)
        self.catchup.note(signer, said)
        if self._amnesia is not None:
            self._amnesia.note(signer, said)
        if self.now >= self._helped.get(signer, self.now):
            self._helped[signer] = self.now + self.parameters.resend_ticks // 4
            self._help(signer, said)
        if (
            (said.view, said.stable_sequence) > (self.view, self.log.low)
            or said.executed_sequence != self.executed
            or said.stable_sequence > self.log.low
        ):
            self._answer(signer)
        self._fetch(signer)

    def _answer(self, peer: bytes) -> None:
        """Tell `peer` where we stand, so that it can help us or itself; not too often."""
        if self.now >= self._answered.get(peer, -self.parameters.resend_ticks) + (
            self.parameters.resend_ticks // 2
        ):
            self._answered[peer] = self.now
            self._send(self._status().raw, peer)

    def _help(self, peer: bytes, said: Status) -> None:
        """Resend what a peer's status says that it lacks."""
        lacks_view = said.view < self.view or (said.view == self.view and said.changing)
        if self._new_view is not None and not self.changing and lacks_view:
            self._send(self._new_view.raw, peer)
        if self.changing and said.view <= self.view:
            self._send(self._view_changes[self.key].raw, peer)
        if said.stable_sequence < self.log.low:
            self._send(StableCheckpoint(self.log.stable).pack(), peer)
        else:
            for checkpoint in self.log.own_checkpoints(self.key):
                self._send(checkpoint.raw, peer)
        agreed = not self.changing and not said.changing and said.view == self.view
        if agreed and self._amnesia is None:
            first = max(said.executed_sequence, self.log.low) + 1
            for sequence in range(first, first + RESEND_SLOTS):
                if sequence in self.log.slots:
                    self._resend(self.log.slots[sequence], peer)

    def _resend(self, slot: Slot, peer: bytes) -> None:
        if slot.pre_prepare is None:
            return
        body = self.log.body(slot.pre_prepare.message.digest)
        if not slot.journalled:
            wanted = FetchBody(self.configuration.number, slot.pre_prepare.message.digest)
            self._send(self._sign(wanted).raw, peer)
        elif slot.pre_prepare.signer != self.key:
            self._send(slot.prepares[self.key].raw, peer)
        elif body is not None:
            self._send(Proposal(slot.pre_prepare, body).pack(), peer)
        if slot.own_commit is not None:
            self._send(slot.own_commit.raw, peer)

    def _fetch(self, spoke: bytes | None = None) -> None:
        due = self.catchup.choose(self.executed, self._stalled(), self.now, spoke)
        if due is not None:
            fetch = FetchBatches(self.configuration.number, due.first, due.last)
            self._send(self._sign(fetch).raw, due.peer)

    def _on_fetch_batches(self, fetch: Verified[FetchBatches], peer: bytes) -> None:
        """Serve a peer that goes on; one that asks for the same again has to wait a while."""
        said = fetch.message
        first, again_at = self._served.get(peer, (0, self.now))
        if peer != fetch.signer or (said.first <= first and self.now < again_at):
            return
        self._served[peer] = (said.first, self.now + self.parameters.resend_ticks)
        last = min(said.last, self.executed)
        if said.first <= last:
            self._out.append(SendCommitted(peer, said.first, last))
        self._send(self._status().raw, peer)

    def _on_committed(self, committed: Committed, peer: bytes) -> None:
        if not certificates.is_commit(committed.commits, self.configuration):
            return
        sequence = committed.commits[0].message.sequence
        if sequence == self.executed + 1:
            self._deliver(committed)
            request = self.catchup.request
            if request is not None and self.executed >= request.last and self.halted is None:
                self._fetch()
        elif self.past.denies(sequence, committed.batch.digest):
            evidence = (c.raw for c in committed.commits)
            self._halt(_FORKED, *evidence)

    def _on_fetch_body(self, fetch: Verified[FetchBody], peer: bytes) -> None:
        body = self.log.body(fetch.message.digest)
        if body is not None and peer == fetch.signer:
            self._send(Body(body).pack(), peer)

    def _on_body(self, carrier: Body, peer: bytes) -> None:
        digest = carrier.batch.digest
        for _, slot in sorted(self.log.slots.items()):
            named = slot.pre_prepare
            if named is not None and not slot.journalled and named.message.digest == digest:
                self.log.add_body(slot.sequence, carrier.batch)
                if self.changing:  # kept for the next view; the last one gets no more votes
                    continue
                self.pool.mark_proposed(carrier.batch.bundles)
                self._endorse(slot, carrier.batch)

    def _come_back(self) -> None:
        """Vote again, if this replica forgot its votes and has caught up with all they can be."""
        view = None if self._amnesia is None else self._amnesia.next_view(self.view, self.log.low)
        if view is not None:
            self._amnesia = None
            self._start_view_change(view)  # whose record says that from now on nothing is forgotten

    # --- restart --------------------------------------------------------------------------------

    def _restore(self, restored: Restored, open_: Open) -> None:
        """Become the replica that wrote these records; raises `WireError` if they are damaged."""
        kinds: dict[int, list[Record]] = {}
        for record in sorted(restored.records, key=lambda r: (r.kind, r.view, r.sequence)):
            kinds.setdefault(record.kind, []).append(record)
        for record in kinds.get(journal.STABLE, ()):
            stable = journal.read_stable(record, open_)
            self.log.advance(stable[0].message.sequence, stable)
        if journal.DIVERGED in kinds:
            self.halted = _DIVERGED
        for record in kinds.get(journal.VIEW, ()):
            self.view, self.changing = journal.read_view(record)
        self._restore_view(kinds, open_)
        for record in kinds.get(journal.CHECKPOINT, ()):
            own = open_(record.data)
            self.log.add_checkpoint(own, self.executed)
            self.past.took(own.message.sequence, own.message.root)
        for record in kinds.get(journal.PROPOSAL, ()):
            if self.log.in_window(record.sequence):
                pre_prepare, batch = journal.read_proposal(record, open_)
                self.log.add_body(record.sequence, batch)
                self._restore_vote(pre_prepare)
        for record in kinds.get(journal.PREPARED, ()):
            if self.log.in_window(record.sequence):
                slot = self.log.slot(record.sequence)
                slot.prepared, slot.own_commit = journal.read_prepared(record, open_)
                slot.commits[self.key] = slot.own_commit
                self._restore_vote(slot.prepared.pre_prepare)
        self._next_sequence = max(self.log.last_accepted(), self.executed) + 1
        if restored.rebuilt and self._others and journal.VIEW_CHANGE not in kinds:
            self._amnesia = Amnesia(self.configuration, self.parameters)
        interval = self.parameters.checkpoint_interval
        if (
            self.executed % interval == 0
            and self.executed > self.log.low
            and self.log.checkpoint_of(self.key, self.executed) is None
        ):
            self._root_owed = self.executed
            self._rootless = self.executed - 1

    def _restore_view(self, kinds: dict[int, list[Record]], open_: Open) -> None:
        """The power may have failed between two records: the later view is the one that counts."""
        for record in kinds.get(journal.VIEW_CHANGE, ()):
            own = open_(record.data)
            self._view_changes[self.key] = own
            if own.message.view > self.view:
                self.view, self.changing = own.message.view, True
        for record in kinds.get(journal.NEW_VIEW, ()):
            self._new_view = open_(record.data)
            said = self._new_view.message
            if said.view > self.view or (said.view == self.view and self.changing):
                self.view, self.changing = said.view, False
            if said.view == self.view:
                self._adoption_owed = True
                for pre_prepare in said.pre_prepares:
                    if self.log.in_window(pre_prepare.message.sequence):
                        self.log.slot(pre_prepare.message.sequence).pre_prepare = pre_prepare

    def _restore_vote(self, pre_prepare: Verified[PrePrepare]) -> None:
        if pre_prepare.message.view == self.view and not self.changing:
            slot = self.log.slot(pre_prepare.message.sequence)
            slot.pre_prepare, slot.journalled = pre_prepare, True
            if pre_prepare.signer != self.key:
                prepare = self._sign(Prepare(*pre_prepare.message.fields()))
                slot.prepares[self.key] = prepare

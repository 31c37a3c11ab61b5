"""What goes to a peer that lacks something, and what is asked of those who have more.

Knows from a STATUS what its sender lacks, and how often each peer may be helped.
Refuses to know what is done with what comes back; whom to ask for batches is in `catchup`.
Follows: s6_06, s8_09, s8_11 and s8_18 (tests/pbft/test_checklist.py): nothing relies on a message
arriving the first time; in kind the STATUS messages of Castro's thesis (2001).
"""

from __future__ import annotations

from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.clocks import Readings
from aegis_edge.pbft.events import SendCommitted
from aegis_edge.pbft.log import Log, Slot
from aegis_edge.pbft.pacing import Pacing, Turns
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.pbft.views import Views
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import (
    Body,
    FetchBatches,
    FetchBody,
    Gone,
    Proposal,
    StableCheckpoint,
    Status,
    Verified,
)

#: Slots that one STATUS may make us resend.
RESEND_SLOTS = 8


class Repair:
    def __init__(
        self,
        at: Standing,
        voice: Voice,
        log: Log,
        views: Views,
        readings: Readings,
        suspicion: Suspicion,
        catchup: Catchup,
        pacing: Pacing,
    ) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._views = views
        self._readings = readings
        self._suspicion = suspicion
        self._catchup = catchup
        self._pacing = pacing
        self._helped = Turns()
        self._answered = Turns()
        self._served: dict[bytes, tuple[int, int]] = {}
        self._given: dict[bytes, dict[bytes, int]] = {}
        self._introduced: set[bytes] = set()  # who said over its present link where it stands

    # --- where everybody stands ---

    def link(self, peer: bytes, up: bool) -> None:
        """A link came or went: what went over the last one may be lost, so no pause holds on."""
        self._helped.forget(peer)
        self._answered.forget(peer)
        self._served.pop(peer, None)
        self._given.pop(peer, None)
        self._introduced.discard(peer)
        self._catchup.link(peer, up)
        if up:
            self.tell(peer)
        self.fetch()

    def tell(self, *peers: bytes) -> None:
        """Tell these peers, or all, where we stand, so that they can help us or themselves."""
        if self._at.follows and not peers:  # what it has concerns only who is behind it, and asks
            return
        status = self._voice.sign(self._at.status(self._log.low))
        self._readings.note(status)
        self._voice.send(status.raw, *peers)

    def on_status(self, status: Verified[Status], peer: bytes) -> None:
        at, said = self._at, status.message
        if said.configuration != at.configuration.number or peer != status.signer:
            return  # an old one that another passes on is no news, and asks for nothing
        self._readings.note(status)
        self._catchup.note(peer, said)
        self._views.hear(peer, said)
        if peer == at.primary and said.view == at.view:
            self._pacing.follows(said.following_bytes)
        # Where links carry little, the others may go on with all in the pipeline while this is on
        # its way; and once a link is full, with far more.
        on_its_way = at.parameters.pipeline if at.parameters.turn_ticks else 0
        is_empty = said.executed_sequence + on_its_way < self._log.low
        if is_empty and peer not in self._introduced:
            self._suspicion.is_empty(peer, at.now_ticks)
        self._introduced.add(peer)
        resend_ticks = at.pace.resend_ticks
        if self._helped.take(peer, at.now_ticks, resend_ticks // 4):
            self._help(peer, said)
        if (
            (said.view, said.stable_sequence) > (at.view, self._log.low)
            or said.executed_sequence != at.executed
            or said.stable_sequence > self._log.low
        ) and self._answered.take(peer, at.now_ticks, resend_ticks // 2):
            self.tell(peer)
        self.fetch(peer)

    def on_status_elsewhere(self, status: Verified[Status], peer: bytes) -> None:
        """Who is in a later configuration has batches for us; who is in an earlier one, lacks some.

        Nothing else in it concerns this configuration.
        """
        at, said = self._at, status.message
        if peer != status.signer:
            return
        if said.configuration < at.configuration.number:
            if self._answered.take(peer, at.now_ticks, at.pace.resend_ticks // 2):
                self.tell(peer)
        else:
            self._catchup.note(peer, said)
            self.fetch(peer)

    def _help(self, peer: bytes, said: Status) -> None:
        """Resend what a peer's status says that it lacks."""
        at, begun = self._at, self._views.begun
        lacks_view = said.view < at.view or (said.view == at.view and said.changing)
        if begun is not None and not at.changing and lacks_view:
            travel_ticks = at.pace.travel_ticks(len(begun.raw))
            if self._suspicion.view_may_have_been_missed(peer, at.now_ticks, travel_ticks):
                self._voice.send(begun.raw, peer)
        if at.changing and said.view <= at.view:
            own = self._views.own.raw
            travel_ticks = at.pace.travel_ticks(len(own))
            if self._suspicion.change_may_have_been_missed(peer, at.now_ticks, travel_ticks):
                self._voice.send(own, peer)
        if said.stable_sequence < self._log.low:
            self._voice.send(StableCheckpoint(self._log.stable).pack(), peer)
        else:
            for checkpoint in self._log.own_checkpoints(at.key):
                self._voice.send(checkpoint.raw, peer)
        agreed = not at.changing and not said.changing and said.view == at.view
        if agreed and at.voting:
            first = max(said.executed_sequence, self._log.low) + 1
            for sequence in range(first, first + RESEND_SLOTS):
                slot = self._log.slots.get(sequence)
                if slot is not None and self._may_be_lost(slot, peer):
                    self._resend(slot, peer)

    def _may_be_lost(self, slot: Slot, peer: bytes) -> bool:
        """Whether what this replica said in a slot can be other than on its way to a peer."""
        at = self._at
        travel_ticks = self._pacing.travel_ticks()
        since_ticks = slot.since_ticks
        return self._suspicion.may_have_missed(peer, since_ticks, at.now_ticks, travel_ticks)

    def _resend(self, slot: Slot, peer: bytes) -> None:
        """What this replica said in a slot; or the request for the body that it lacks there."""
        if slot.pre_prepare is None:
            return
        body = self._log.body(slot.pre_prepare.message.digest)
        if not slot.journalled:
            self.fetch_body(slot.pre_prepare.message.digest, peer)
        elif slot.pre_prepare.signer != self._at.key:
            self._voice.send(slot.prepares[self._at.key].raw, peer)
        elif body is not None:
            self._voice.send(Proposal(slot.pre_prepare, body).pack(), peer)
        if slot.own_commit is not None:
            self._voice.send(slot.own_commit.raw, peer)

    # --- batches ---

    def fetch(self, spoke: bytes | None = None) -> None:
        """Ask for the batches that others executed, if it is time to; `spoke`: see `catchup`."""
        at = self._at
        if at.fetching or at.follows:
            return
        due = self._catchup.choose(at.executed, self._pacing.is_stalled(), at.now_ticks, spoke)
        if due is not None:
            fetch = FetchBatches(at.configuration.number, due.first, due.last)
            self._voice.send(self._voice.sign(fetch).raw, due.peer)

    def fetched(self) -> None:
        """A batch came: if it was the last of those that were asked for, ask for more."""
        request = self._catchup.request
        if request is not None and self._at.executed >= request.last and self._voice.halted is None:
            self.fetch()

    def on_fetch_batches(self, fetch: Verified[FetchBatches], peer: bytes) -> None:
        """Serve a peer that goes on; one that asks for the same again has to wait a while."""
        now, said = self._at.now_ticks, fetch.message
        first, again_at = self._served.get(peer, (0, now))
        if peer != fetch.signer or (said.first <= first and now < again_at):
            return
        self._served[peer] = (said.first, now + self._at.pace.resend_ticks)
        last = min(said.last, self._at.executed)
        if said.first <= last:
            self._voice.add(SendCommitted(peer, said.first, last, self._at.pace.portion_bytes))
        self.tell(peer)

    def is_gone(self, peer: bytes, first: int) -> None:
        """What `peer` asked for is no longer kept here: it needs the state at a checkpoint."""
        self._voice.send(self._voice.sign(Gone(self._at.configuration.number, first)).raw, peer)
        self._voice.send(StableCheckpoint(self._log.stable).pack(), peer)

    def on_gone(self, gone: Verified[Gone], peer: bytes) -> None:
        """A peer cannot help with the next batch: perhaps another one can."""
        if peer == gone.signer:
            self._catchup.gone(peer, gone.message.first, self._at.executed)
            self.fetch(peer)

    # --- bodies ---

    def fetch_body(self, digest: bytes, *peers: bytes) -> None:
        """Ask these peers, or all, for the batch with `digest`."""
        wanted = FetchBody(self._at.configuration.number, digest)
        self._voice.send(self._voice.sign(wanted).raw, *peers)

    def on_fetch_body(self, fetch: Verified[FetchBody], peer: bytes) -> None:
        """Give a peer a body; one that asks for the same again has to wait a while."""
        now, digest = self._at.now_ticks, fetch.message.digest
        body = self._log.body(digest)
        if body is None or peer != fetch.signer:
            return
        given = {d: again_at for d, again_at in self._given.get(peer, {}).items() if now < again_at}
        self._given[peer] = given
        if digest not in given:
            given[digest] = now + self._at.pace.resend_ticks
            self._voice.send(Body(body).pack(), peer)

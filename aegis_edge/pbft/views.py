"""The view that a replica is in, and how it comes to the next one.

Knows who asked for which view, the last one that began, and whether this replica may vote at all.
Refuses to know when a primary is given up (`suspicion`) and how a new view is worked off
(`replica`); what makes a view change valid, and what follows from a quorum, is in `view_change`.
Follows: Castro and Liskov (OSDI '99) sections 4.4 and 4.5.2; s8_06, s8_12 and s8_14
(tests/pbft/test_checklist.py).

Whoever calls `ask`, `on_view_change`, `on_new_view` or `come_back` and gets a NEW-VIEW back has to
begin it: this replica entered that view just now.
"""

from __future__ import annotations

from aegis_edge.pbft import journal, view_change
from aegis_edge.pbft.amnesia import Amnesia
from aegis_edge.pbft.checkpoints import Checkpoints
from aegis_edge.pbft.execution import FORKED
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.past import Past
from aegis_edge.pbft.restart import Memory
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.envelope import Claim
from aegis_edge.wire.messages import NewView, PrePrepare, Status, Verified, ViewChange


class Views:
    """`begun`: the NEW-VIEW of the last view that began here; None before there was one.

    `is_forgetful`: this replica may have said what it does not remember, here or in a configuration
    that came after.
    """

    def __init__(
        self,
        at: Standing,
        voice: Voice,
        log: Log,
        past: Past,
        suspicion: Suspicion,
        checkpoints: Checkpoints,
    ) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._past = past
        self._suspicion = suspicion
        self._checkpoints = checkpoints
        self._changes: dict[bytes, Verified[ViewChange]] = {}
        self._amnesia: Amnesia | None = None
        self.is_forgetful = False
        self.begun: Verified[NewView] | None = None

    def restore(self, memory: Memory, *, rebuilt: bool) -> None:
        """Be where an earlier life was.

        If the records began anew (`rebuilt`) and do not say that this is over, votes were
        forgotten; if they hold no view change since, none is cast yet.  Not even by one who is the
        only member: there may have been more since, and that nobody came is for its owner to say.
        """
        at = self._at
        at.view, at.changing, self.begun = memory.view, memory.changing, memory.begun
        if memory.asked is not None:
            self._changes[at.key] = memory.asked
        self.is_forgetful = rebuilt and not memory.remembers
        if self.is_forgetful and at.voting:
            at.voting = memory.asked is not None
            self._amnesia = Amnesia(at.configuration, at.parameters)

    @property
    def own(self) -> Verified[ViewChange]:
        """What this replica said last when it left a view; there is such a thing while changing."""
        return self._changes[self._at.key]

    def left(self, view: int) -> bool:
        """Whether `view` is the last that began here, and was left for one that has not begun."""
        begun = 0 if self.begun is None else self.begun.message.view
        return self._at.changing and view == begun

    # --- leaving a view ---

    def ask(self, view: int) -> Verified[NewView] | None:
        """Leave for `view`: from now on no vote in any lower one."""
        at = self._at
        if not at.voting:
            return None
        at.view, at.changing = view, True
        self._suspicion.asked(at.now_ticks)
        own = self._voice.sign(
            ViewChange(
                at.configuration.number,
                view,
                self._log.low,
                self._log.stable,
                self._log.prepared(),
            )
        )
        self._changes[at.key] = own
        self._voice.persist(journal.view_change(own))
        self._voice.persist(journal.view(view, True))
        self._voice.send(own.raw)
        return self._consider()

    def on_view_change(self, change: Verified[ViewChange]) -> Verified[NewView] | None:
        at, said = self._at, change.message
        known = self._changes.get(change.signer)
        if known is not None and known.message.view >= said.view:
            return None
        reason = view_change.judge_view_change(change, at.configuration, at.parameters)
        if reason is not None:
            self._voice.refuse(f"a view change was refused: {reason}", change)
            return None
        if self._checkpoints.denies(said.stable):
            return None
        self._changes[change.signer] = change
        if self.begun is not None and said.view <= self.begun.message.view:
            travel_ticks = at.pace.travel_ticks(len(self.begun.raw))
            if self._suspicion.view_may_have_been_missed(change.signer, at.now_ticks, travel_ticks):
                self._voice.send(self.begun.raw, change.signer)
            return None
        return self._consider()

    def _consider(self) -> Verified[NewView] | None:
        """Join a view that f+1 others ask for; count a quorum; make the new view if it is ours."""
        at = self._at
        higher = sorted(c.message.view for c in self._changes.values() if c.message.view > at.view)
        if len(higher) > at.configuration.f:
            return self.ask(higher[0])
        if not at.changing:
            return None
        left = [c for _, c in sorted(self._changes.items()) if c.message.view >= at.view]
        if len(left) < at.configuration.quorum:
            return None
        self._suspicion.left_by_quorum(at.now_ticks)
        joined = [c for c in left if c.message.view == at.view]
        if at.primary == at.key and len(joined) >= at.configuration.quorum:
            return self._enter(self._make(tuple(joined[: at.configuration.quorum])))
        return None

    # --- entering a view ---

    def _make(self, changes: tuple[Verified[ViewChange], ...]) -> Verified[NewView]:
        number, view = self._at.configuration.number, self._at.view
        pre_prepares = tuple(
            self._voice.sign(PrePrepare(number, view, sequence, digest))
            for sequence, digest in view_change.order(changes)
        )
        return self._voice.sign(NewView(number, view, changes, pre_prepares))

    def on_new_view(self, new: Verified[NewView]) -> Verified[NewView] | None:
        if self._is_over(new.message.view):
            return None
        at = self._at
        reason = view_change.judge_new_view(new, at.configuration, at.parameters)
        if reason is not None:
            self._voice.refuse(f"a new view was refused: {reason}", new)
            return None
        return self._enter(new)

    def _enter(self, new: Verified[NewView]) -> Verified[NewView] | None:
        at, said = self._at, new.message
        if any(self._checkpoints.denies(change.message.stable) for change in said.view_changes):
            return None
        if any(self._past.denies(p.message.sequence, p.message.digest) for p in said.pre_prepares):
            self._voice.halt(FORKED, new.raw)  # whoever votes in it votes against what it executed
            return None
        at.view, at.changing, self.begun = said.view, False, new
        # One that is large takes its time to the others, who answer it: that is not their delay.
        travel_ticks = at.pace.travel_ticks(len(new.raw)) if at.primary == at.key else 0
        self._suspicion.entered(at.now_ticks, travel_ticks)
        self._voice.persist(journal.new_view(new))
        self._voice.persist(journal.view(said.view, False))
        if at.primary == at.key:
            self._voice.send(new.raw)
        return new

    # --- without memory ---

    def learning(self) -> int | None:
        """After which sequence it may vote again, 0 if that is not known; None if it votes."""
        if self._amnesia is None or self._at.voting:
            return None
        return self._amnesia.target() or 0

    def hear(self, peer: bytes, said: Status) -> None:
        """Where another stands tells one without memory what it may have voted for."""
        if self._amnesia is not None:
            self._amnesia.note(peer, said)

    def come_back(self) -> Verified[NewView] | None:
        """Vote again, if this replica forgot its votes and has caught up with all they can be."""
        at, new = self._at, None
        if self._amnesia is None:
            return None
        if not at.voting:
            view = self._amnesia.next_view(at.view, self._log.low)
            if view is None:
                return None
            at.voting = True
            new = self.ask(view)  # whose record says that nothing is forgotten from that view on
        if not self._amnesia.is_pair or self._has_what_the_other_knows():
            self._amnesia, self.is_forgetful = None, False
            self._voice.persist(journal.remembers(at.configuration.number))
        return new

    def _has_what_the_other_knows(self) -> bool:
        """Whether all is executed that two committed before one of them forgot, and both remain.

        Else its forgotten votes may have been cast in the configuration that follows, too, of which
        the other one knows nothing yet.  In the view that it asked for, the other says all.
        """
        begun = self.begun
        if begun is None or begun.message.view < self.own.message.view:
            return False
        start, _ = view_change.stable_of(begun.message.view_changes)
        return self._at.executed >= start + len(begun.message.pre_prepares)

    # --- what need not be read ---

    def _is_over(self, view: int) -> bool:
        """Whether a NEW-VIEW for `view` comes too late."""
        return view < self._at.view or (view == self._at.view and not self._at.changing)

    def is_redundant(self, claim: Claim) -> bool:
        """True if a VIEW-CHANGE or NEW-VIEW that claims this could change nothing."""
        view: int = claim.fields[1]
        if claim.tag == NewView.TAG:
            return self._is_over(view) or claim.signer != self._at.configuration.primary(view)
        known = self._changes.get(claim.signer)
        return view < self._at.view or (known is not None and view <= known.message.view)

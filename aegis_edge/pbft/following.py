"""Whom a node without a vote follows: one source at a time, a member or another that follows.

Knows who may be one, what each of them claims, who had no room, and who failed.
Refuses to believe any of them: only what a quorum of the members signed is executed (`execution`),
so a source can be late, or dead, and no more than that.
Follows: s8_17 (tests/pbft/test_checklist.py) for sources that lie or stall; `followers` is the
other side.

A full node names some that it feeds; those are asked next, and so a tree grows downwards.  Each
introduces a bounded number.  What a second one, the spare, says where it stands shows that the
source is slow: what others had a while ago should have come.  Claims that do not come true
cost who makes them its turn.
Nobody is nearer to the voters than its source: where some follow each other in a ring, their
distance rises until they see it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aegis_edge.pbft import certificates
from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.events import FETCH_BYTES_MAX, HangUp
from aegis_edge.pbft.followers import Followers
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import (
    HOPS_MAX,
    Committed,
    Follow,
    Gone,
    Reached,
    Status,
    Verified,
)

#: So many are remembered, of whom each introduced at most so many.
KNOWN_MAX, INTRODUCED_MAX = 64, 8
#: Who had no room is asked again after a while, in statuses; who failed later, and ever later.
REST_STATUSES, DOUBLINGS_MAX = 2, 4
#: How often the spare is asked where it stands, in statuses; after so many times it is another
#: one's turn, for the first may starve with the source.
AUDIT_STATUSES, SPARE_AUDITS = 3, 4
#: How much worse a lie is than silence.
LIE_FAILURES = 4
LIED = "it handed on a batch that no quorum of the members agreed on"


@dataclass(slots=True)
class Known:
    """One that may be followed; `by`: who introduced it, if anybody did; `hint`: the later the
    better.  `failures` in a row; until `rests_until` nothing is asked of it.  `lied`: not even when
    a new link shows that its silence was the network's."""

    by: bytes = b""
    hint: int = 0
    failures: int = 0
    rests_until: int = 0
    lied: bool = False


class Following:
    """`source`: who is followed, or tried; b"" if nobody is."""

    def __init__(self, voice: Voice, followers: Followers) -> None:
        self._voice = voice
        self._followers = followers
        self._at: Standing
        self._catchup: Catchup
        self._known: dict[bytes, Known] = {}
        self._linked: set[bytes] = set()
        self._hints = 0
        self.source = b""
        self.spare = b""
        #: What was executed when the question under way was put; None: there is none.
        self._asked: int | None = None
        self._asked_ticks = 0
        self._is_new = True  # the source has answered nothing yet
        #: When the source is given up, or if there is no question, when it is put.
        self._due_ticks = 0
        self._audit_ticks = self._audits = 0
        self._is_auditing = False  # the spare was asked
        self._claim = 0  # what it had at the last audit
        self._is_lost = False  # there was nobody to ask

    def begin(self, at: Standing, catchup: Catchup) -> None:
        """A configuration begins: who is a member of it follows nobody, and all others go on."""
        depth = self._at.depth if self._known else 0
        self._at, self._catchup = at, catchup
        if self._at.follows:
            at.depth = depth or HOPS_MAX
        else:
            self.source, self.spare, self._asked, self._due_ticks = b"", b"", None, 0
        for member in at.configuration.members:
            self._known.setdefault(member, Known())
        for key in [k for k, known in self._known.items() if self._is_needless(k, known)]:
            del self._known[key]

    def _is_needless(self, key: bytes, known: Known) -> bool:
        """A former member, say, that nobody names."""
        is_named = known.by or key in self._at.configuration or key in self.wants
        return not is_named and key not in self._linked

    @property
    def wants(self) -> frozenset[bytes]:
        """Links to whom would help: for whoever makes them, and may end others."""
        return frozenset((self.source, self.spare)) - {b""}

    @property
    def behind(self) -> int:
        """How many batches others claim to have more."""
        claims = (s.executed_sequence for s in self._catchup.statuses.values())
        return max(0, max(claims, default=0) - self._at.executed)

    # --- links ---

    def link(self, peer: bytes, up: bool) -> None:
        """A link came, or it went or never was: then the source is another one from now on."""
        known = self._known.setdefault(peer, Known(hint=-1))
        if up:
            self._linked.add(peer)
            if (
                not known.lied
            ):  # it may have hung up on this node before, as members do on strangers
                known.rests_until = 0
        else:
            self._linked.discard(peer)
        if self._at.follows:
            self._catchup.link(peer, up)
            if not up:
                self._catchup.forget(peer)
            if peer == self.source and not up:
                self._fail()
            elif peer == self.source or not self.source:
                self._asked, self._due_ticks = None, self._at.now_ticks
        if self._is_needless(peer, known):
            del self._known[peer]

    # --- what is due ---

    def wake_at(self) -> int | None:
        """When the source is given up, or asked, or the spare, or anybody at all."""
        if not self._at.follows or self._at.fetching:
            return None
        return min(self._due_ticks, self._audit_ticks) if self.source else self._due_ticks

    def go_on(self) -> None:
        """Find a source, ask it, or give it up, whichever is due; look after the spare."""
        at = self._at
        if not self._at.follows:
            return
        if at.fetching:
            self._asked, self._due_ticks = None, at.now_ticks
            return
        if self.source and self._due_ticks <= at.now_ticks:
            if self._asked is None and self.source in self._linked:
                self._ask()
            else:
                self._fail()
        if not self.source and self._due_ticks <= at.now_ticks:
            self._choose()
        if self.source and self._audit_ticks <= at.now_ticks:
            self._audit()

    def _choose(self) -> None:
        at, found = self._at, self._able()
        if not found:
            if self._is_lost:  # there was time to take the state
                self._catchup.try_again()
            at.depth, self._is_lost = HOPS_MAX, True
            self._due_ticks = at.now_ticks + at.pace.fetch_ticks
            return
        self.source, self._is_new, self._is_lost = found[0], True, False
        if self.source in self._linked:
            self._ask()
        else:
            self._due_ticks = at.now_ticks + at.pace.fetch_ticks
        self._find_spare()

    def _able(self) -> list[bytes]:
        """Who may be asked, the best first: whom others named last, then whom there is a link to.

        Beyond that it differs from node to node, for not all shall ask the same.
        """
        own, now = int.from_bytes(self._at.key, "big"), self._at.now_ticks
        lacking = self._catchup.lacking(self._at.executed)

        def rank(key: bytes) -> tuple[int, bool, int]:
            distance = own ^ int.from_bytes(key, "big")
            return -self._known[key].hint, key not in self._linked, distance

        return sorted(
            (
                key
                for key, known in self._known.items()
                if known.rests_until <= now and key not in self._followers and key not in lacking
            ),
            key=rank,
        )

    def _find_spare(self) -> None:
        """Another one to compare with: a member for who follows a member, and for nobody else.

        Whom the source named, it feeds as well, so that one would starve with this node.
        """
        configuration = self._at.configuration
        others = [
            key
            for key in self._able()
            if key != self.source and (key not in configuration or self.source in configuration)
        ]
        others.sort(key=lambda key: (key not in configuration, self._known[key].by == self.source))
        turn = self._audits // SPARE_AUDITS
        self.spare = others[turn % len(others)] if others else b""
        self._claim, self._is_auditing = 0, False
        self._audit_ticks = self._at.now_ticks + AUDIT_STATUSES * self._at.pace.status_ticks

    # --- questions ---

    def _ask(self) -> None:
        at = self._at
        self._voice.send(Follow(at.executed, FETCH_BYTES_MAX).pack(), self.source)
        self._asked, self._asked_ticks = at.executed, at.now_ticks
        patience_ticks = at.pace.fetch_ticks + at.pace.travel_ticks(FETCH_BYTES_MAX)
        self._due_ticks = at.now_ticks + 2 * at.pace.status_ticks + patience_ticks

    def _audit(self) -> None:
        """Whether all came that the spare had a while ago; and what it has by now."""
        at = self._at
        self._audits += 1
        self._audit_ticks = at.now_ticks + AUDIT_STATUSES * at.pace.status_ticks
        better = self._known.get(self.spare)
        if better is not None and self._claim > at.executed:
            self._hints += 1
            better.hint = self._hints
            self._fail()
            self._choose()
        elif self.spare not in self._linked or not self._audits % SPARE_AUDITS:
            if better is not None:
                self._rest(better)
            self._find_spare()
        if self.spare in self._linked:
            self._is_auditing = True
            self._voice.send(Follow(at.executed, 0).pack(), self.spare)

    def _leave(self) -> None:
        self.source, self._asked, self._due_ticks = b"", None, self._at.now_ticks

    def _rest(self, known: Known) -> None:
        pause = REST_STATUSES << min(known.failures, DOUBLINGS_MAX)
        known.rests_until = self._at.now_ticks + pause * self._at.pace.status_ticks

    def _fail(self, failures: int = 1) -> None:
        """Nothing came of the source: it rests, the longer the more often that happens."""
        known = self._known[self.source]
        known.failures += failures
        self._refused(known)
        above = self._known.get(known.by)
        if above is not None:  # it has room for one by now
            self._hints += 1
            above.hint = self._hints

    def _refused(self, known: Known) -> None:
        self._rest(known)
        self._catchup.forget(self.source)
        self._leave()

    # --- answers ---

    def on_reached(self, reached: Reached, peer: bytes) -> None:
        of_source = peer == self.source and self._asked is not None
        of_spare = peer == self.spare and self._is_auditing
        if not self._at.follows or not (of_source or of_spare):
            return
        self._introduce(reached.others, peer)
        self._catchup.note(peer, _claim(self._at.configuration.number, reached.executed))
        if of_spare:
            self._claim, self._is_auditing = reached.executed, False
            if self._claim > self._at.executed:
                self._audit_ticks = self._at.now_ticks + self._at.pace.fetch_ticks
        elif not reached.takes:
            self._refused(self._known[peer])
        else:
            self._go_on_asking(reached)

    def _go_on_asking(self, reached: Reached) -> None:
        """Ask for more at once if something came, but not all the time if nothing is to come.

        Else it is on its way no more, or it is gone there, as the source will say.
        """
        at, asked = self._at, self._asked
        assert asked is not None, "this answers a question"
        is_new, self._is_new = self._is_new, False
        at.depth = min(reached.depth + 1, HOPS_MAX)
        if at.executed > asked:
            known = self._known[self.source]
            known.failures, known.lied = 0, False
            self._asked, self._due_ticks = None, at.now_ticks
        elif reached.executed > asked:
            self._due_ticks = min(self._due_ticks, at.now_ticks + at.pace.fetch_ticks)
        elif reached.depth == HOPS_MAX:
            self._fail()
        else:
            self._asked = None
            pause_ticks = 0 if is_new else at.pace.resend_ticks
            self._due_ticks = max(at.now_ticks, self._asked_ticks + pause_ticks)

    def on_gone(self, gone: Verified[Gone], peer: bytes) -> None:
        """The source keeps what comes next no longer: another may, or else it takes the state."""
        if peer == gone.signer and peer == self.source and gone.message.first - 1 == self._asked:
            self._catchup.lacks(peer, self._at.executed)
            self._leave()

    def judge(self, committed: Committed, peer: bytes) -> None:
        """Of a batch that was not executed: whether the source lied."""
        at = self._at
        if peer != self.source or at.settling or at.fetching:
            return
        sequence = committed.commits[0].message.sequence if committed.commits else at.executed + 1
        if sequence == at.executed + 1 and not certificates.is_commit(
            committed.commits, at.configuration
        ):
            self._voice.alarm(LIED, peer)
            self._voice.add(HangUp(peer, LIED))
            self._known[peer].lied = True
            self._fail(LIE_FAILURES)

    def _introduce(self, others: tuple[bytes, ...], by: bytes) -> None:
        """Remember those whom `by` names, and of its earlier ones as many as it may have."""
        self._hints += 1
        for key in others:
            if key == self._at.key:
                continue
            known = self._known.get(key)
            if known is None:
                self._make_room(by)
                known = self._known[key] = Known(by)
            known.hint = self._hints

    def _make_room(self, by: bytes) -> None:
        """Forget the oldest that `by` introduced, or that anybody did, if there are too many."""
        introduced = sorted(
            (known.hint, key)
            for key, known in self._known.items()
            if known.by and key not in self.wants
        )
        of_this = [key for _, key in introduced if self._known[key].by == by]
        if len(of_this) >= INTRODUCED_MAX:
            del self._known[of_this[0]]
        elif len(introduced) >= KNOWN_MAX:
            del self._known[introduced[0][1]]


def _claim(number: int, executed: int) -> Status:
    """What a source says where it stands, as a status has it."""
    return Status(number, 0, False, 0, executed, 0)

"""How a replica that missed more batches than are kept, or are worth it, gets the state instead.

Knows which pieces are wanted, who was asked for which, who lied, and who has nothing to give.
Refuses to know what a piece is and what proves it (`knowledge.rebuild` does, in the database's
thread), and believes no checkpoint without a certificate.
Follows: Castro's thesis, chapter 5; s8_17 and s8_18 (tests/pbft/test_checklist.py).

Each peer has one question at a time, of a bounded answer: so what is asked for follows what its
link carries, and several links are used at once.  Others' checkpoints move on meanwhile.  Whoever
is asked for one goes on holding it; only where nobody does is the next one aimed at, for which all
that is proven, and still the same there, counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.checkpoints import Checkpoints
from aegis_edge.pbft.events import BeginTransfer, InstallState, JudgePart, PartJudged
from aegis_edge.pbft.execution import Execution
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import (
    FETCH_STATE_ITEMS_MAX,
    Checkpoint,
    FetchState,
    StatePart,
    Verified,
)

#: What an answer measures at most, nearly always: for how long to wait for it.
ANSWER_BYTES = 400 * 1024

#: Who missed more batches than this has the state sooner, for a batch costs a quorum of signatures
#: and a write.  Where lines carry little it is only the bytes that count.
BATCHES_MAX = 4096

#: Batches that measure more are worth a look at what of the state differs (some 130 KB at most).
LOOK_BYTES = 512 * 1024

#: How often patience doubles: who is asked first has to look through all of its keys, however many.
DOUBLINGS_MAX = 6

Stable = tuple[Verified[Checkpoint], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What a peer was asked for, in vain after `deadline_ticks`; None: it is being judged."""

    kind: int
    items: tuple[bytes, ...]
    deadline_ticks: int | None


class Transfer:
    """`target`: the checkpoint whose state is fetched, if any is; `done` of `parts` are here."""

    def __init__(
        self,
        at: Standing,
        voice: Voice,
        log: Log,
        catchup: Catchup,
        checkpoints: Checkpoints,
        execution: Execution,
    ) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._catchup = catchup
        self._checkpoints = checkpoints
        self._execution = execution
        self._newest: Stable = ()
        self._failed = 0  # nobody had the state after this sequence, or it was not worth it
        self._listing_bytes = 0  # what it would have taken then
        self._is_a_look = False  # whether to fetch it is open still
        self.target: Stable = ()
        self.done = self.parts = 0
        self._wants: dict[int, dict[bytes, None]] = {}
        self._asked: dict[bytes, Question] = {}
        self._empty: set[bytes] = set()  # who does not hold the target
        self._late: set[bytes] = set()  # who has not answered in time
        self._doublings = 0
        self._liars: set[bytes] = set()
        self._last = b""  # who was asked last
        #: What was installed, where its members are others than were known here.
        self.arrived: Stable = ()
        self._time_ms = 0
        self._origins: dict[bytes, tuple[int, int]] = {}

    @property
    def sequence(self) -> int | None:
        """The sequence after which the state is fetched; None if none is."""
        return _sequence(self.target) or None

    def heard(self, stable: Stable) -> None:
        """A checkpoint, not the genesis, that is proven to be stable, of any configuration."""
        if _sequence(stable) > _sequence(self._newest):
            self._newest = stable

    # --- what is due ---

    def wake_at(self) -> int | None:
        """When the first question is in vain."""
        deadlines = [q.deadline_ticks for q in self._asked.values()]
        return min((ticks for ticks in deadlines if ticks is not None), default=None)

    def go_on(self) -> bool:
        """Begin, ask, or finish, whichever is due; True if the state is another one now."""
        if not self.target:
            if not self.is_next:
                return False
            self._begin(self._goal)
        for peer, question in list(self._asked.items()):
            deadline = question.deadline_ticks
            if deadline is not None and deadline <= self._at.now_ticks:
                self._in_vain(peer, self._late)
        if not self._wants and not self._asked:
            self._install()
            return True
        self._ask()
        if not self._asked and self._late and self._doublings < DOUBLINGS_MAX:
            self._doublings += 1
            self._late.clear()
            self._ask()
        if not self._asked:  # nobody is left: perhaps there is a later checkpoint, or a batch
            self._give_up()
        return False

    @property
    def _goal(self) -> Stable:
        return max(self._newest, self._log.stable, key=_sequence)

    @property
    def is_next(self) -> bool:
        """Whether the state at the newest checkpoint that was proven is to be fetched."""
        return self.is_due(_sequence(self._goal))

    def is_due(self, newest: int) -> bool:
        """Whether the state after `newest` is to be fetched, and not the batches up to there.

        Where the same keys were written often there is less to fetch in the state, where many were
        there is not: that shows when it is known what differs.
        """
        executed = self._at.executed
        is_heavy = self._log_bytes(newest) > max(LOOK_BYTES, self._listing_bytes)
        return newest > executed and (
            ((is_heavy or self._is_far(newest)) and newest > self._failed)
            or self._catchup.is_futile(executed)
        )

    def _is_far(self, newest: int) -> bool:
        is_many = newest - self._at.executed > BATCHES_MAX
        return is_many and not self._at.parameters.bytes_a_second

    def _log_bytes(self, newest: int) -> int:
        """What the batches up to `newest` measure, if they are as those that came last."""
        return (newest - self._at.executed) * self._catchup.batch_bytes

    def _begin(self, target: Stable) -> None:
        newest = _sequence(target)
        self._is_a_look = not (self._is_far(newest) or self._catchup.is_futile(self._at.executed))
        self.target, self.done, self.parts = target, 0, 0
        self._at.fetching = True
        self._catchup.request = None
        self._wants = {0: {b"": None}}
        self._voice.add(BeginTransfer(_sequence(target), target[0].message.root))

    def _give_up(self) -> None:
        self._failed = _sequence(self.target)
        self._end()

    def _end(self) -> None:
        self.target = ()
        self._at.fetching = False
        self._execution.resume()
        self._wants.clear()
        self._asked.clear()
        self._empty.clear()
        self._late.clear()
        self._doublings = 0
        self._catchup.try_again()

    # --- questions ---

    def _ask(self) -> None:
        """Give everybody who may answer, and has nothing to do, a question, each in turn."""
        last, peers = self._last, self._catchup.at_least(_sequence(self.target))
        for peer in sorted(peers, key=lambda peer: (peer <= last, peer)):
            if peer in self._asked or peer in self._late | self._empty | self._liars:
                continue
            if not self._wants:
                return
            self._last = peer
            kind, items = self._take()
            pace = self._at.pace
            patience_ticks = pace.fetch_ticks << self._doublings
            patience_ticks += pace.travel_ticks(ANSWER_BYTES)
            self._asked[peer] = Question(kind, items, self._at.now_ticks + patience_ticks)
            number, sequence = self._at.configuration.number, _sequence(self.target)
            fetch = FetchState(number, sequence, kind, items)
            self._voice.send(self._voice.sign(fetch).raw, peer)

    def _take(self) -> tuple[int, tuple[bytes, ...]]:
        """The next question: what is deepest first, so that the least is known and not here yet."""
        kind = max(self._wants)
        wanted = self._wants[kind]
        items = tuple(islice(wanted, FETCH_STATE_ITEMS_MAX))
        for item in items:
            del wanted[item]
        if not wanted:
            del self._wants[kind]
        return kind, items

    def _want(self, kind: int, items: Iterable[bytes]) -> None:
        self._wants.setdefault(kind, {}).update(dict.fromkeys(items))

    def _in_vain(self, peer: bytes, where: set[bytes]) -> None:
        """Nothing came of the question to `peer`: others are asked."""
        question = self._asked.pop(peer)
        self._want(question.kind, question.items)
        where.add(peer)

    # --- answers ---

    def on_part(self, part: StatePart, peer: bytes) -> None:
        question = self._asked.get(peer)
        if (
            question is None
            or question.deadline_ticks is None
            or (part.sequence, part.kind) != (_sequence(self.target), question.kind)
        ):
            return
        if not part.data:
            self._in_vain(peer, self._empty)
            return
        self._asked[peer] = Question(question.kind, question.items, None)
        self._voice.add(JudgePart(peer, part.sequence, part.kind, question.items, part.data))

    def judged(self, event: PartJudged) -> None:
        question = self._asked.get(event.peer)
        if event.sequence != self.sequence or question is None:
            return
        if event.fault is not None:
            self._in_vain(event.peer, self._empty)
            self._liars.add(event.peer)
            reason = "it sent a state that is not the agreed one: its disk may be failing"
            self._voice.alarm(f"{reason} ({event.fault})", event.peer)
            return
        del self._asked[event.peer]
        for kind, item in event.wants:
            self._want(kind, (item,))
        self.done, self.parts = event.done, event.parts
        self._time_ms, self._origins = event.time_ms, event.origins
        if self._is_a_look and event.listing_bytes is not None:
            self._is_a_look = False
            self._listing_bytes = event.listing_bytes
            if event.listing_bytes > self._log_bytes(_sequence(self.target)):
                self._give_up()

    def _install(self) -> None:
        target = self.target
        self._voice.add(InstallState(_sequence(target)))
        is_elsewhere = target[0].message.configuration != self._at.configuration.number
        if is_elsewhere:
            self.arrived = target
        else:
            self._checkpoints.jumped(target)
        sequence, time_ms = _sequence(target), self._time_ms
        self._execution.jump(sequence, time_ms, self._origins, is_elsewhere=is_elsewhere)
        self._end()


def _sequence(stable: Stable) -> int:
    return stable[0].message.sequence if stable else 0

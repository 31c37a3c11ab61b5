"""How a replica gets back rows that its disk lost, while it goes on: from one peer after the other.

Knows which rows are wanted, who was asked for them, and who had nothing to give.
Refuses to know what shows that a row is the agreed one: the database holds it against the tree
whose root the checkpoints sign.
Follows: Castro's thesis, chapter 5, as `transfer` does; but the state is the right one here, so
nothing has to wait for it, and of a row that changed since the last checkpoint the next one tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.events import MendRows, RowsMended
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.transfer import ANSWER_BYTES, Question
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import FETCH_STATE_ITEMS_MAX, FetchState, StatePart

#: How many times the patience with one peer passes until all are asked again.
REST_FACTOR = 8


class Mending:
    """`wanted`: all items of rows that are not mended yet, of pieces of one `kind`."""

    def __init__(self, at: Standing, voice: Voice, log: Log, catchup: Catchup) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._catchup = catchup
        self.wanted: dict[bytes, None] = {}
        self._kind = 0
        self._before = 0  # the last checkpoint of earlier members
        self._sequence = 0  # the checkpoint whose rows are asked for
        self._peer = b""
        self._question: Question | None = None
        self._tried: set[bytes] = set()
        self._again_ticks = 0

    def follow(self, at: Standing, log: Log, catchup: Catchup) -> None:
        """Other members from now on: what is wanted is wanted of them."""
        self._before = self._checkpoint()
        self._at, self._log, self._catchup = at, log, catchup
        self._tried.clear()

    def _checkpoint(self) -> int:
        """The last one that is known to be stable; 0: none is."""
        return self._log.low if self._log.stable else self._before

    def want(self, kind: int, items: Iterable[bytes]) -> None:
        """These rows are not what they should be."""
        self._kind = kind
        self.wanted.update(dict.fromkeys(items))

    def wake_at(self) -> int | None:
        """When the question is in vain, or when all peers are asked again."""
        if self._question is not None:
            return self._question.deadline_ticks
        rests = self.wanted and self._tried and not self._at.fetching
        return self._again_ticks if rests else None

    def go_on(self) -> None:
        """Ask somebody, if it is time to."""
        at, question = self._at, self._question
        if question is not None:
            deadline = question.deadline_ticks
            if deadline is None or at.now_ticks < deadline:
                return
            self._in_vain()
        checkpoint = self._checkpoint()
        if not self.wanted or not checkpoint or at.fetching:
            return
        if checkpoint != self._sequence or at.now_ticks >= self._again_ticks:
            self._sequence = checkpoint
            self._tried.clear()
        able = [p for p in self._catchup.at_least(self._sequence) if p not in self._tried]
        if able:
            self._ask(able[0])

    def _ask(self, peer: bytes) -> None:
        pace, now_ticks = self._at.pace, self._at.now_ticks
        patience_ticks = pace.fetch_ticks + pace.travel_ticks(ANSWER_BYTES)
        items = tuple(islice(self.wanted, FETCH_STATE_ITEMS_MAX))
        self._peer, self._question = peer, Question(self._kind, items, now_ticks + patience_ticks)
        self._again_ticks = now_ticks + REST_FACTOR * patience_ticks
        number = self._at.configuration.number
        fetch = FetchState(number, self._sequence, self._kind, items)
        self._voice.send(self._voice.sign(fetch).raw, peer)

    def _in_vain(self) -> None:
        self._tried.add(self._peer)
        self._question = None

    def on_part(self, part: StatePart, peer: bytes) -> bool:
        """Whether this is the answer to a question from here."""
        question = self._question
        if (
            question is None
            or question.deadline_ticks is None
            or (peer, part.sequence, part.kind) != (self._peer, self._sequence, question.kind)
        ):
            return False
        if not part.data:
            self._in_vain()
            return True
        self._question = Question(question.kind, question.items, None)
        self._voice.add(MendRows(peer, question.items, part.data))
        return True

    def mended(self, event: RowsMended) -> None:
        """What came of the pieces of a peer."""
        assert self._question is not None, "one was asked"
        for item in set(self._question.items).difference(event.left):
            del self.wanted[item]
        if event.left:
            self._in_vain()  # it has no more, or none that is right
        self._question = None
        if event.fault is not None:
            reason = "it sent rows that nobody asked for: its disk may be failing"
            self._voice.alarm(f"{reason} ({event.fault})", event.peer)

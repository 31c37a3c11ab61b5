"""Reads that see every acknowledged write, and make no batch.

Knows the last question of this replica, and how far those who answered have committed themselves.
Refuses to know what is read, and by whom.
Follows: Castro and Liskov (OSDI '99) section 4.4, read-only requests, in aim; the read index of
Ongaro's thesis (2014, section 6.4) in kind: all reads that wait share one question, whatever they
read.  What those of PBFT cost the liveness of writes (Berger, Reiser and Bessani, SRDS 2021) does
not arise: a write is acknowledged by its commits alone.

An acknowledged write was committed: a quorum had signed a commit for its batch.  Of any quorum that
is asked later, one correct member did so, and answers with the highest sequence for which it ever
signed one.  When all up to the highest answer of some quorum is executed here, that write is.
Members that name too much, or nothing, hinder that only where too few others answer; then it is not
known, and the reader needs a batch.

A question and its answers are of one configuration.  Who could answer in one that has ended may
have signed commits for the batch that ended it, and names that: so no quorum of it confirms a read
that misses what the next members acknowledged.  When a question's configuration ends, so does it.
"""

from __future__ import annotations

from aegis_edge.pbft.events import Confirmed
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import AskReadIndex, ReadIndex, Verified

#: What is asked more often between two ticks is answered at the next one, and only the last of it:
#: an answer is signed, and a member may ask without end.
ANSWERS_A_TICK = 32


class Reads:
    """`incarnation`: names this life of the node, so that no answer to an earlier one counts."""

    def __init__(self, at: Standing, voice: Voice, log: Log, incarnation: int) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._incarnation = incarnation
        self._number = 0
        self._answers: dict[bytes, int] | None = None  # while there is a question
        self._until_ticks = 0
        self._answered: dict[bytes, int] = {}  # how many questions of whom since the last tick
        self._owed: dict[bytes, AskReadIndex] = {}

    def wake_at(self) -> int | None:
        """When the question that is open has had its time; at once if an answer is owed."""
        if self._owed:
            return self._at.now_ticks
        return None if self._answers is None else self._until_ticks

    def tick(self) -> None:
        """Answer what waits for that."""
        self._answered.clear()
        owed, self._owed = self._owed, {}
        for peer, said in owed.items():
            self._answer(said, peer)

    def ask(self, number: int) -> None:
        """Ask all how far they are; `number` is above that of any question of this life."""
        at = self._at
        self._number, self._answers = number, {}
        if at.voting:
            self._answers[at.key] = self._index()
        self._until_ticks = at.now_ticks + at.pace.resend_ticks
        asked = AskReadIndex(at.configuration.number, self._incarnation, number)
        self._voice.send(self._voice.sign(asked).raw)

    def on_ask(self, asked: Verified[AskReadIndex], peer: bytes) -> None:
        at, said = self._at, asked.message
        # Who forgot its votes does not know what it committed itself to.
        if said.configuration != at.configuration.number or peer != asked.signer or not at.voting:
            return
        if self._answered.get(peer, 0) < ANSWERS_A_TICK:
            self._answer(said, peer)
        else:
            self._owed[peer] = said

    def _answer(self, said: AskReadIndex, peer: bytes) -> None:
        self._answered[peer] = self._answered.get(peer, 0) + 1
        index = ReadIndex(said.configuration, said.incarnation, said.number, self._index())
        self._voice.send(self._voice.sign(index).raw, peer)

    def on_index(self, index: Verified[ReadIndex], peer: bytes) -> None:
        at, said = self._at, index.message
        if (
            self._answers is not None
            and peer == index.signer
            and said.configuration == at.configuration.number
            and (said.incarnation, said.number) == (self._incarnation, self._number)
        ):
            self._answers[peer] = said.sequence

    def conclude(self) -> None:
        """Say what came of the question, once that is clear."""
        if self._answers is None:
            return
        at, quorum = self._at, self._at.configuration.quorum
        lowest = sorted(self._answers.values())[:quorum]
        is_fresh = len(lowest) == quorum and lowest[-1] <= at.executed
        if is_fresh or at.now_ticks >= self._until_ticks:
            self._end(is_fresh)

    def give_up(self) -> None:
        """The configuration ends: its members do not know what others commit from now on."""
        if self._answers is not None:
            self._end(is_fresh=False)

    def _end(self, is_fresh: bool) -> None:
        self._answers = None
        self._voice.add(Confirmed(self._number, is_fresh))

    def _index(self) -> int:
        return max(self._at.executed, self._log.last_committing())

"""How long the way of a link is now: a question that goes along with a frame, and its answer.

Knows the two words that links say to each other, and the shortest of the last round trips.
Refuses to know frames, schedules and clocks: who sends says when it does.

    question: 00 and 8 random bytes            answer: 01 and the same 8 bytes

No message of the members begins so: all of them are arrays.  A peer may answer late, or never, but
not before it was asked.  On a schedule each answer has waited for its turn, too: so the shortest of
the last ones counts, and a way that got longer is known when they all have come over it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

QUESTION, ANSWER = b"\x00", b"\x01"
NONCE_BYTES = 8
#: How many round trips are remembered.
TRIPS = 8


class Echo:
    """One end of a link's; times are in ticks.

    `round_trip_ticks`: what its handshake measured, at `now_ticks`; from there on it asks every
    `pause_ticks`, if there is a frame to go along with.
    """

    def __init__(self, round_trip_ticks: int, now_ticks: int, pause_ticks: float) -> None:
        self._trips = deque((round_trip_ticks,), TRIPS)
        self._asked_at = now_ticks
        self._pause_ticks = pause_ticks
        self._asked = b""  # what is not answered yet
        self._owed = b""

    @property
    def round_trip_ticks(self) -> int:
        return min(self._trips)

    def say(self, now_ticks: int, entropy: Callable[[int], bytes]) -> list[bytes]:
        """What goes along with the frame that is sent now; at most two words."""
        words = [ANSWER + self._owed] if self._owed else []
        self._owed = b""
        if not self._asked and now_ticks >= self._asked_at + self._pause_ticks:
            self._asked, self._asked_at = entropy(NONCE_BYTES), now_ticks
            words.append(QUESTION + self._asked)
        return words

    def hear(self, message: bytes, now_ticks: int) -> bool:
        """Whether `message` was a word of the peer's; of many questions the last is answered."""
        kind, nonce = message[:1], message[1:]
        if len(nonce) != NONCE_BYTES or kind not in (QUESTION, ANSWER):
            return False
        if kind == QUESTION:
            self._owed = nonce
        elif nonce == self._asked:
            self._trips.append(max(1, now_ticks - self._asked_at))
            self._asked = b""
        return True

    @property
    def is_owing(self) -> bool:
        """Whether the peer waits for an answer."""
        return bool(self._owed)

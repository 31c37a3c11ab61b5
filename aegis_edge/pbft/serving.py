"""Who is given pieces of a state, and how much of it: one answer at a time, and so much in a while.

Knows whose question is being answered, whose waits, and how much each peer was given lately.
Refuses to know what a piece is, whether it is here (the disk says), and who is a member: whoever
follows may have the state, and whoever has it may ask again, be it a member.
Follows: the generic cell rate algorithm (ITU-T I.371), a leaky bucket written as the time at which
it is empty.

A node that comes needs all of a state once, as fast as its link carries it, and a little more where
answers were lost or the checkpoint moved on.  So each peer may have the whole twice at once, and
from then on once in each `WHOLE_TICKS`: who asks for all of it again and again is given so little
that neither the disk nor a member that comes back notices.  Its questions wait; of several the last
one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from aegis_edge.pbft.events import PartSent, SendPart
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import FetchState, Verified

#: In this time a peer may be given as much as there is, for good.
WHOLE_TICKS = 600_000
#: How much more it may have had at once, in such times.
WHOLES_AT_ONCE = 2
#: What a whole state and an answer are taken for at least: a small one is given more often.
WHOLE_BYTES_MIN = 8 * 1024 * 1024
ANSWER_BYTES_MIN = 4 * 1024
#: So many peers are remembered of whom something was asked; above that, who had the least is not.
PEERS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Question:
    """What a peer asks for."""

    sequence: int
    kind: int
    items: tuple[bytes, ...]


class Serving:
    """Of one node, whatever the configuration."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._at: Standing
        self._waiting: dict[bytes, Question] = {}
        self._busy: set[bytes] = set()  # whose answer is looked for
        self._paid_at: dict[bytes, int] = {}  # when each has paid for what it was given

    def begin(self, at: Standing) -> None:
        """A configuration begins: nobody is owed more for that."""
        self._at = at

    def on_fetch(self, fetch: Verified[FetchState], peer: bytes) -> None:
        """A question of a peer, for itself; it takes the place of one that waits."""
        said = fetch.message
        if peer == fetch.signer and said.items:
            self._waiting[peer] = Question(said.sequence, said.kind, said.items)
            self._answer(peer)

    def sent(self, event: PartSent) -> None:
        """An answer is on its way, or there is none: it is charged, and the next one may go."""
        now_ticks, paid_at = self._at.now_ticks, self._paid_at
        size_bytes = max(event.size_bytes, ANSWER_BYTES_MIN)
        took_ticks = ceil(WHOLE_TICKS * size_bytes / max(event.whole_bytes, WHOLE_BYTES_MIN))
        self._paid_at = {peer: ticks for peer, ticks in paid_at.items() if ticks > now_ticks}
        self._paid_at[event.peer] = max(paid_at.get(event.peer, 0), now_ticks) + took_ticks
        if len(self._paid_at) > PEERS_MAX:
            del self._paid_at[min(self._paid_at, key=self._paid_at.__getitem__)]
        self._busy.discard(event.peer)
        self._answer(event.peer)

    def gone(self, peer: bytes) -> None:
        """The link to a peer came or went: it asks anew, and has paid for nothing by that."""
        self._waiting.pop(peer, None)

    def wake_at(self) -> int | None:
        """When somebody who waits has paid enough."""
        times = (self._free_at(peer) for peer in self._waiting if peer not in self._busy)
        return min(times, default=None)

    def go_on(self) -> None:
        """Answer who has waited long enough."""
        for peer in list(self._waiting):
            self._answer(peer)

    def _free_at(self, peer: bytes) -> int:
        return self._paid_at.get(peer, 0) - WHOLES_AT_ONCE * WHOLE_TICKS

    def _answer(self, peer: bytes) -> None:
        """Have what a peer asks for looked for, if it is its turn."""
        is_due = peer not in self._busy and self._free_at(peer) <= self._at.now_ticks
        if is_due and peer in self._waiting:
            self._busy.add(peer)
            asked = self._waiting.pop(peer)
            self._voice.add(SendPart(peer, asked.sequence, asked.kind, asked.items))

"""Who follows the agreed log from here: a few nodes, each with one question at a time.

Knows what each of them has, and who else may have room where there is none here.
Refuses to know why they follow: a certificate proves itself, so members and others may hand it on.
Follows: the learners of Lamport, "The Part-Time Parliament" (TOCS 1998), who have no vote; in kind
the distribution trees of Jannotti et al., "Overcast" (OSDI 2000): a full node names its children.

A follower says what it has and takes what comes after that, when there is such: so what it costs
is a few numbers, however far behind it is, and a node costs as much with ten behind it as with a
thousand.  One that asks for the same again has to wait a while.
"""

from __future__ import annotations

from dataclasses import dataclass

from aegis_edge.pbft.events import Introduce, SendCommitted
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import (
    FETCH_BATCHES_MAX,
    HOPS_MAX,
    OTHERS_MAX,
    Follow,
    Reached,
    StableCheckpoint,
)

#: So many are fed at a time: a tree of this degree has room for a thousand in its fourth row.
FOLLOWERS_MAX = 8


@dataclass(slots=True)
class Follower:
    """What one asked for last: after which batch, and how much.

    `until_ticks`: while it waits, it has an answer by then; else its place is free from then on.
    `served`: what it had when it was last given something, for which it asks again in vain before
    `again_ticks`.  `depth` and `stable`: what it was told last.
    """

    after: int = 0
    bytes_max: int = 0
    is_waiting: bool = False
    until_ticks: int = 0
    served: int = -1
    again_ticks: int = 0
    depth: int = -1
    stable: int = 0

    def may_have(self, executed: int, now_ticks: int) -> bool:
        """Whether there is something for it, and it is its turn."""
        goes_on = self.after > self.served or now_ticks >= self.again_ticks
        return executed > self.after and goes_on


class Followers:
    """Of one node, whatever the configuration."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._at: Standing
        self._log: Log
        self._fed: dict[bytes, Follower] = {}
        #: Who was told where this node stands, and no more, and until when that has to do.
        self._told: dict[tuple[bytes, bool], int] = {}
        self._turn = 0

    def begin(self, at: Standing, log: Log) -> None:
        """A configuration begins: it is as before for whoever follows."""
        self._at, self._log = at, log

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._fed

    def __len__(self) -> int:
        return len(self._fed)

    @property
    def reached(self) -> dict[bytes, int]:
        """What each of them had when it asked last."""
        return {peer: fed.after for peer, fed in self._fed.items()}

    def gone(self, peer: bytes) -> None:
        """The link to a peer came or went: it asks anew."""
        self._fed.pop(peer, None)
        for is_refused in (False, True):
            self._told.pop((peer, is_refused), None)

    def on_follow(self, asked: Follow, peer: bytes) -> None:
        """Note what a peer asks for, or say that there is no room for it."""
        at, fed = self._at, self._fed.get(peer)
        takes = fed is not None or self._has_room(peer, asked.after)
        if not asked.bytes_max or not takes:
            self._tell(peer, takes, bool(asked.bytes_max))
            return
        if fed is None:
            fed = self._fed[peer] = Follower()
        fed.after, fed.bytes_max, fed.is_waiting = asked.after, asked.bytes_max, True
        fed.until_ticks = at.now_ticks + at.pace.status_ticks

    def _tell(self, peer: bytes, takes: bool, is_refused: bool) -> None:
        """Where this node stands; a peer that asks again and again is not heard for a while."""
        at = self._at
        if self._told.get((peer, is_refused), at.now_ticks) <= at.now_ticks:
            self._told[peer, is_refused] = at.now_ticks + at.pace.resend_ticks
            self._say(peer, takes, self._some(peer))

    def _has_room(self, peer: bytes, after: int) -> bool:
        """Who has no source itself has something for those who are behind it, and no more.

        A member follows only until it knows that it is one: it needs no seat, and takes none.
        """
        members = self._at.configuration
        seats = sum(each not in members for each in self._fed)
        has_more = self._at.depth < HOPS_MAX or self._at.executed > after
        return (peer in members or seats < FOLLOWERS_MAX) and has_more

    def wake_at(self) -> int | None:
        """When somebody waits no longer."""
        fed = self._fed.values()
        held = [f.again_ticks for f in fed if f.is_waiting and self._at.executed > f.after]
        return min([*held, *(f.until_ticks for f in fed)], default=None)

    def go_on(self) -> None:
        """Answer whom there is something to tell; forget who asks no more."""
        at = self._at
        for peer, fed in list(self._fed.items()):
            is_due = fed.until_ticks <= at.now_ticks
            if not fed.is_waiting:
                if is_due:
                    del self._fed[peer]
            elif is_due or fed.depth != at.depth or fed.may_have(at.executed, at.now_ticks):
                self._answer(peer, fed)

    def _answer(self, peer: bytes, fed: Follower) -> None:
        at, low = self._at, self._log.low
        if fed.may_have(at.executed, at.now_ticks):
            last = min(at.executed, fed.after + FETCH_BATCHES_MAX)
            size = min(fed.bytes_max, at.pace.portion_bytes)
            self._voice.add(SendCommitted(peer, fed.after + 1, last, size))
            fed.served, fed.again_ticks = fed.after, at.now_ticks + at.pace.resend_ticks
        if self._log.stable and low > fed.stable:
            self._voice.send(StableCheckpoint(self._log.stable).pack(), peer)
            fed.stable = low
        self._say(peer, True, () if fed.depth == at.depth else self._some(peer))
        fed.is_waiting, fed.depth = False, at.depth
        fed.until_ticks = at.now_ticks + at.pace.status_ticks + at.pace.fetch_ticks

    def _some(self, peer: bytes) -> tuple[bytes, ...]:
        """A few that are fed from here, others each time: whom `peer` may follow as well."""
        others = [key for key in self._fed if key != peer]
        first = self._turn % max(1, len(others))
        self._turn += OTHERS_MAX
        return tuple((others[first:] + others[:first])[:OTHERS_MAX])

    def _say(self, peer: bytes, takes: bool, others: tuple[bytes, ...]) -> None:
        if others:
            self._voice.add(Introduce(peer, others))
        reached = Reached(self._at.executed, self._at.depth, takes, others)
        self._voice.send(reached.pack(), peer)

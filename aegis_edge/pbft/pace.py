"""How long messages take here, and what follows from that for every timer of the agreement.

Knows the round trip that each link measured last, and how far that is to be believed.
Refuses to know clocks, and what the timers are for.  Times are in ticks.
Follows: s8_10 (tests/pbft/test_checklist.py) in kind: what is measured on one member's word may
not decide for how long a primary is trusted.

A member can let its answers wait, so the `f` longest round trips count for nothing: what is left
is at most what a correct member takes.  It cannot answer before it is asked.  Whatever is measured
counts between a quarter and four times of what is assumed where nothing was.

A large batch takes longer than a small one, and a way that changed is measured after a while: so
when to say things again follows the batches that were executed, too.  A faulty primary can slow
those down, so that decides nothing else, and no more than makes it as rare as complaints.

Where links carry little, what is on its way buys time: all of it together at most as much as the
timer itself has, and what one other member says at most half of that, be it the primary.  So one
faulty member stretches the time until a primary is suspected to at most 3/2, and all to twice it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import FETCH_BYTES_MAX
from aegis_edge.wire.messages import BUNDLE_BYTES_MAX

#: A put takes four messages one after another; and three times as long is no reason for suspicion.
TIMEOUT_HOPS = 12
#: A message that is said again sooner would only make others wait.
RESEND_HOPS = 3
STATUS_HOPS = 6
#: The parts of the time-out after which a lost primary is given up, things are said again, and
#: what waits is complained of.
LOST_PRIMARY, RESEND, COMPLAINT = 20, 30, 4
#: How long a source of batches may take, in the time after which things are said again.
FETCH_RESENDS = 5
#: So many batches in a row have to wait before that counts: one may have lost a message.
WAITS = 4
#: The part of the time-out that what one member says may buy, where that takes long to travel.
MEMBER = 2
#: How far a measure may be from `Parameters.way_ticks`, as a factor.
SPREAD = 4


def bundle_bytes_max(parameters: Parameters) -> int:
    """What one bundle of a correct member measures at most.

    Where links carry little, no line is busy with it for more than half of the shortest time-out:
    else its primary would look as if it were dead to all whose requests come behind it.
    """
    if not parameters.bytes_a_second:
        return BUNDLE_BYTES_MAX
    least_ticks = max(parameters.timeout_ticks, TIMEOUT_HOPS * parameters.turn_ticks)
    return min(parameters.bytes_a_second * least_ticks // 2_000, BUNDLE_BYTES_MAX)


class Pace:
    """One replica's."""

    def __init__(self, own: bytes, configuration: Configuration, parameters: Parameters) -> None:
        self._own = own
        self._others = configuration.others(own)
        self._f = configuration.f
        self._parameters = parameters
        self._measured: dict[bytes, int] = {}
        self._waits: deque[int] = deque((0,) * WAITS, maxlen=WAITS)
        self._way = parameters.way_ticks

    def measured(self, peer: bytes, round_trip_ticks: int) -> None:
        """The link to `peer` takes so long for a question and its answer, by what it saw last."""
        way = self._parameters.way_ticks
        self._measured[peer] = round_trip_ticks
        found = sorted((self._measured.get(p, way) for p in self._others), reverse=True)
        self._way = min(max(found[self._f], way // SPREAD), way * SPREAD)

    def executed(self, waited_ticks: int) -> None:
        """A batch was executed here, of which something had waited so long."""
        self._waits.append(waited_ticks)

    def changed(self) -> None:
        """Another view: how slow its predecessor was says nothing of it."""
        self._waits.extend((0,) * WAITS)

    @property
    def hop_ticks(self) -> int:
        """What nearly all messages take from one member to another, with room to spare.

        That is the wait for their turn, and a whole round trip.
        """
        return self._parameters.turn_ticks + self._way

    def travel_ticks(self, size_bytes: int) -> int:
        """How long so much takes to the primary and from there to all, beside the time of a hop.

        At most a time-out.
        """
        rate = self._parameters.bytes_a_second
        return min(2_000 * size_bytes // rate, self.timeout_ticks) if rate else 0

    def allowance_ticks(self, sizes_bytes: Mapping[bytes, int]) -> int:
        """The same of what members said, each so much; of another one at most its part.

        A faulty member may well have much to say.
        """
        part_ticks = self.timeout_ticks // MEMBER
        ticks = 0
        for member, size_bytes in sizes_bytes.items():
            travel_ticks = self.travel_ticks(size_bytes)
            ticks += travel_ticks if member == self._own else min(travel_ticks, part_ticks)
        return min(ticks, self.timeout_ticks)

    @property
    def portion_bytes(self) -> int:
        """How much may go to a member that catches up, before anything else has to wait longer.

        As much as a link carries in the time of a hop.
        """
        rate = self._parameters.bytes_a_second
        return min(rate * self.hop_ticks // 1_000, FETCH_BYTES_MAX) if rate else FETCH_BYTES_MAX

    @property
    def timeout_ticks(self) -> int:
        """How long the oldest request may wait before its primary is suspected."""
        return max(self._parameters.timeout_ticks, TIMEOUT_HOPS * self.hop_ticks)

    @property
    def lost_primary_ticks(self) -> int:
        """The same for a primary whose link is lost: the others should have seen that too."""
        one_way_ticks = self._parameters.turn_ticks + self._way // 2
        return max(1, self._parameters.timeout_ticks // LOST_PRIMARY, one_way_ticks)

    @property
    def complaint_ticks(self) -> int:
        """When to say to all what waits, and again between two times of saying so."""
        return max(1, self.timeout_ticks // COMPLAINT)

    @property
    def resend_ticks(self) -> int:
        """When what was said and has led to nothing is said again."""
        return max(self._resend_ticks_least, min(2 * min(self._waits), self.complaint_ticks))

    @property
    def _resend_ticks_least(self) -> int:
        return max(1, self._parameters.timeout_ticks // RESEND, RESEND_HOPS * self.hop_ticks)

    @property
    def status_ticks(self) -> int:
        """Between two statuses of a member that waits for nothing."""
        return max(self._parameters.status_ticks, STATUS_HOPS * self.hop_ticks)

    @property
    def fetch_ticks(self) -> int:
        """How long one source of batches may take; a primary that is slow has no say in that."""
        return FETCH_RESENDS * self._resend_ticks_least

"""How much of this node's time each peer may take for nothing, and who has to rest for it.

Knows that of two peers who say what cannot matter, neither may keep the node from all the others.
Refuses to know messages and clocks: seconds are arguments.  It is a leaky bucket per peer, written
as the time at which it is empty (the generic cell rate algorithm of ITU-T I.371).

What came to nothing costs its sender `PRICE` times `members` times as long as it took, so that no
peer takes more than half of its even share.  Nobody rests for little: honest votes that come after
their quorum cost far less, and they may come in bursts.  Nor does anybody rest but for a while:
else a flood of small things would make this node wake for each of them.  What had an effect costs
nothing: how much of that a peer may cause is bounded where the effect is decided on.
"""

from __future__ import annotations

import math

#: What a peer may take at once before it has to rest; and how much of it is left after the rest.
ALLOWANCE_S = 0.05
RESTED_S = ALLOWANCE_S / 2
#: How many are remembered before those are forgotten who owe nothing any more.
REMEMBERED_MAX = 256
#: What is left to a peer of its even share: half, for the processor may be shared with others too.
PRICE = 2


class Shares:
    """`resting` are those from whom nothing is to be taken now, and until when."""

    def __init__(self, members: int) -> None:
        self.resting: dict[bytes, float] = {}
        self._paid_at: dict[bytes, float] = {}
        self.among(members)

    def among(self, members: int) -> None:
        """There are so many members from now on."""
        self._price = PRICE * members

    @property
    def wake_at(self) -> float:
        """When the next rest is over; infinite if nobody rests."""
        return min(self.resting.values(), default=math.inf)

    def charge(self, peer: bytes, took_s: float, now_s: float, sharing: int = 1) -> bool:
        """`peer` took so long for nothing; True if it has to rest from now on.

        `sharing`: so many have one member's share together.
        """
        price = self._price * sharing
        paid_at = max(self._paid_at.get(peer, 0), now_s) + price * took_s
        self._paid_at[peer] = paid_at
        if len(self._paid_at) > REMEMBERED_MAX:  # of those who come and go
            self._paid_at = {p: until for p, until in self._paid_at.items() if until > now_s}
        if paid_at - price * ALLOWANCE_S <= now_s:
            return False
        self.resting[peer] = paid_at - price * RESTED_S
        return True

    def rested(self, now_s: float) -> list[bytes]:
        """Those whose rest is over; they are taken from again."""
        over = [peer for peer, until in self.resting.items() if until <= now_s]
        for peer in over:
            del self.resting[peer]
        return over

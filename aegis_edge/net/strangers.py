"""The places of callers who have not proven who they are: how many there are, and who must go.

Knows sources, standings and chance.  Refuses to know sockets, time, and what a caller says.

A caller rises: CONNECTED, then OPENED (it speaks WebSocket), then GREETED (its hello shows that it
knows the cluster).  Each standing has places of its own, so that no crowd pushes out anybody who
has said more than the crowd did.  Where one caller is too many, the source that has the most
callers there loses one, and chance says which.  Chance, because of the sources that many share (a
router, Tor, this very host).  If the oldest had to go, a steady flood of r callers a second would
leave nobody more than places / r seconds, and whoever needs longer for its handshake would never
get in.  So it gets in at every try with probability (1 - 1 / places) ** (callers who come
meanwhile): rarely when they are very many, but never never.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum


class Standing(IntEnum):
    """How much a caller has shown of itself."""

    CONNECTED = 0
    OPENED = 1
    GREETED = 2


class Caller:
    """One connection that came in; `dismiss` ends it at once, and does not raise."""

    __slots__ = ("dismiss", "source", "standing")

    def __init__(self, source: bytes, dismiss: Callable[[], None]) -> None:
        self.source = source
        self.dismiss = dismiss
        self.standing: Standing | None = None


class Strangers:
    """Who is here; `places` callers of each standing, and `choose` takes one of several."""

    def __init__(
        self, places: int, choose: Callable[[Sequence[Caller]], Caller] = random.choice
    ) -> None:
        self._places = places
        self._choose = choose
        self._rooms: dict[Standing, list[Caller]] = {standing: [] for standing in Standing}

    def enter(self, source: bytes, dismiss: Callable[[], None]) -> Caller:
        """A caller who has just connected from `source`; somebody may have to go, even this one."""
        caller = Caller(source, dismiss)
        self._seat(caller, Standing.CONNECTED)
        return caller

    def rise(self, caller: Caller, standing: Standing) -> None:
        """`caller` has shown more of itself; not if it had to go, or is above that already."""
        if caller.standing is not None and caller.standing < standing:
            self.leave(caller)
            self._seat(caller, standing)

    def leave(self, caller: Caller) -> None:
        """`caller` has gone, or is no stranger any more."""
        if caller.standing is not None:
            self._rooms[caller.standing].remove(caller)
            caller.standing = None

    def _seat(self, caller: Caller, standing: Standing) -> None:
        caller.standing = standing
        room = self._rooms[standing]
        room.append(caller)
        if len(room) > self._places:
            shares = Counter(each.source for each in room)
            most = max(shares.values())
            loser = self._choose([each for each in room if shares[each.source] == most])
            self.leave(loser)
            loser.dismiss()

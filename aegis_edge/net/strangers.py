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

A caller that has shown which member it is counts by that, wherever it came from, and of two sources
with as many callers the one that is no member loses: so no crowd of others takes its place.
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

    __slots__ = ("dismiss", "is_member", "source", "standing")

    def __init__(self, source: bytes, dismiss: Callable[[], None]) -> None:
        self.source = source
        self.dismiss = dismiss
        self.is_member = False
        self.standing: Standing | None = None


class Strangers:
    """Who is here; `places` callers of each standing, `silent` of those who have only connected.

    `choose` takes one of several.
    """

    def __init__(
        self,
        places: int,
        choose: Callable[[Sequence[Caller]], Caller] = random.choice,
        *,
        silent: int | None = None,
    ) -> None:
        self._places = dict.fromkeys(Standing, places)
        if silent is not None:
            self._places[Standing.CONNECTED] = silent
        self._choose = choose
        self._rooms: dict[Standing, list[Caller]] = {standing: [] for standing in Standing}

    def enter(self, source: bytes, dismiss: Callable[[], None]) -> Caller:
        """A caller who has just connected from `source`; somebody may have to go, even this one."""
        caller = Caller(source, dismiss)
        self._seat(caller, Standing.CONNECTED)
        return caller

    def rise(self, caller: Caller, standing: Standing, member: bytes | None = None) -> None:
        """`caller` has shown more of itself; not if it had to go, or is above that already.

        `member`: which one it is, if that is what it showed.
        """
        if caller.standing is not None and caller.standing < standing:
            self.leave(caller)
            if member is not None:
                caller.source, caller.is_member = member, True
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
        if len(room) > self._places[standing]:
            shares = Counter(each.source for each in room)
            claims = [(shares[each.source], not each.is_member) for each in room]
            most = max(claims)
            loser = self._choose(
                [c for c, claim in zip(room, claims, strict=True) if claim == most]
            )
            self.leave(loser)
            loser.dismiss()

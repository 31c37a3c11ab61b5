"""What the links of a member have been like: a score, and the reasons for it.

Knows kinds of trouble, what each weighs, and that all of it is forgotten by halves.
Refuses to know links and clocks: what happened comes in with its tick (milliseconds), in words for
people.  The score orders the dial plan and tells people where to look.  Nobody is kept out for it,
for most trouble is nobody's fault, or that of whoever owns the network: see `bans`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

#: Of somebody of whom nothing is known; the best and the worst are as far from it.
UNKNOWN = 50
#: After so long half of what was for or against somebody is left of it.
HALF_LIFE_TICKS = 3_600_000
#: Members whose scores differ by less are as good: between them counts who was linked last.
RANK_POINTS = 25


class What(StrEnum):
    """What a link may have been like, in a word."""

    #: It lasted.
    STEADY = "steady"
    #: Nobody answered where it says that it is.
    UNREACHABLE = "unreachable"
    #: The connection ended, for whatever reason there may be.
    CUT = "cut off"
    #: One of the two did not want the link, and said why.
    REFUSED = "refused"
    #: Nothing came in time: in a handshake, or on a link.
    SILENT = "silent"
    #: Bytes that nobody had sealed for this link: from the member, or from anybody on the way.
    GARBAGE = "garbage"
    #: What only the member itself can have said, against the rules.
    WRONG = "wrong"


_POINTS = {
    What.STEADY: 25,
    What.UNREACHABLE: -5,
    What.CUT: -5,
    What.REFUSED: -10,
    What.SILENT: -10,
    What.GARBAGE: -20,
    What.WRONG: -50,
}
#: What one kind may amount to: so what was bad for long is good again after a few good links.
_POINTS_MAX = 50.0


@dataclass(frozen=True, slots=True)
class Reason:
    """`count` times since the start, the last one at `at_ticks`, when it amounted to `points`."""

    what: What
    count: int
    points: float
    at_ticks: int

    def left(self, now_ticks: int) -> float:
        """The points that time has left of it."""
        return self.points * math.exp2((self.at_ticks - now_ticks) / HALF_LIFE_TICKS)


@dataclass(frozen=True, slots=True)
class Conduct:
    """`last` is what happened last, and `last_ticks` when; empty and None if nothing did."""

    last: str = ""
    last_ticks: int | None = None
    _reasons: Mapping[What, Reason] = field(default_factory=dict)

    def happened(self, words: str, now_ticks: int) -> Conduct:
        """With this as the last that happened, which weighs nothing."""
        return replace(self, last=words, last_ticks=now_ticks)

    def noted(self, what: What, now_ticks: int) -> Conduct:
        """With one more of this kind."""
        reason = self._reasons.get(what) or Reason(what, 0, 0.0, now_ticks)
        points = reason.left(now_ticks) + _POINTS[what]
        points = max(-_POINTS_MAX, min(_POINTS_MAX, points))
        reason = Reason(what, reason.count + 1, points, now_ticks)
        return replace(self, _reasons={**self._reasons, what: reason})

    def score(self, now_ticks: int) -> int:
        """From 0, which is bad, to 100."""
        left = sum(reason.left(now_ticks) for reason in self._reasons.values())
        return max(0, min(2 * UNKNOWN, round(UNKNOWN + left)))

    def rank(self, now_ticks: int) -> int:
        """The higher the better; alike for those who are about as good."""
        return self.score(now_ticks) // RANK_POINTS

    def reasons(self, now_ticks: int) -> tuple[Reason, ...]:
        """What the score is made of as of now, what weighs most first."""
        found = sorted(
            (-abs(reason.left(now_ticks)), what) for what, reason in self._reasons.items()
        )
        return tuple(self._reasons[what] for _, what in found)

"""What the owner of a node has to know of: the last few alarms, for `status`.

Knows that one alarm is shown once, however often it is raised.  Refuses to judge, and to log:
whoever raises one knows what more there is to say.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

KEPT_MAX = 16


class Alarm(NamedTuple):
    """`about`: the name of a member, or empty if it is about none."""

    about: str
    reason: str


class Alarms:
    """The last `KEPT_MAX` of them, the oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Alarm] = deque(maxlen=KEPT_MAX)

    def add(self, reason: str, *, about: str = "") -> bool:
        """Keep it; False if it is among them already."""
        alarm = Alarm(about, reason)
        if alarm in self._kept:
            return False
        self._kept.append(alarm)
        return True

    def kept(self) -> list[dict[str, str]]:
        """All of them, in plain values."""
        return [alarm._asdict() for alarm in self._kept]

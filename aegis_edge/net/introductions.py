"""What a member tells another of a third one: its newest record, so that who moved is found again.

Knows the word for it, and how many of them are told and heard on one link, with those of `door`.
Refuses to judge records.

    a record: 02 and the envelope that its own member signed

No message of the members begins so: all of them are arrays.  A record proves itself, so whoever
hands it on can neither change nor invent one, but only hold it back.  It is for its member to say
how often there is a newer one, so who hands them on keeps to a measure, and ends no link for it.
"""

from __future__ import annotations

import math

RECORD = b"\x02"
#: See `door`.
PASS = b"\x03"
OBSERVER = b"\x04"
#: What a link may tell beside each member's record once, and one more in each span.
SPARE = 8
SPAN_TICKS = 60_000


def word(envelope: bytes) -> bytes:
    """What is said to introduce the member whose record this is."""
    return RECORD + envelope


class Surplus(Exception):
    """A word that is passed over: its sender may just count in another way."""


class Introductions:
    """What one link has told and heard; it began at `now_ticks`.

    Whoever tells stays one below what is heard, for the spans of the two ends begin at other times.
    """

    def __init__(self, now_ticks: int) -> None:
        self._began_at = now_ticks
        self._heard = 0
        self._told = 0
        self._told_at: dict[bytes, int] = {}
        self._waiting: dict[bytes, bytes] = {}

    def tell(self, third: bytes, envelope: bytes) -> None:
        """Have the record of the member `third` told, in the place of an older one that waits."""
        self._waiting[third] = word(envelope)

    def due(self, members: int, now_ticks: int) -> list[bytes]:
        """The words to say now in a cluster of so many: once a span of each member."""
        words = []
        for third in list(self._waiting):
            if self._turn_at(third) <= now_ticks and self._room_at(members) <= now_ticks:
                words.append(self._waiting.pop(third))
                self._told_at[third] = now_ticks
                self._told += 1
        return words

    def wake_at(self, members: int) -> float:
        """When a word that waits is due; infinite if there is none."""
        if not self._waiting:
            return math.inf
        return max(self._room_at(members), min(map(self._turn_at, self._waiting)))

    def _turn_at(self, third: bytes) -> float:
        return self._told_at.get(third, -math.inf) + SPAN_TICKS

    def _room_at(self, members: int) -> int:
        surplus = self._told + 1 - (members + SPARE - 1)
        return self._began_at + max(0, surplus) * SPAN_TICKS

    def hear(self, message: bytes, others: int, now_ticks: int) -> bytes | None:
        """What `message` hands on beside its first byte, None if it is none of these words.

        Raises `Surplus` if it is one too many where there are so many others to speak of.
        """
        if message[:1] not in (RECORD, PASS, OBSERVER):
            return None
        if self._heard >= others + SPARE + (now_ticks - self._began_at) // SPAN_TICKS:
            raise Surplus
        self._heard += 1
        return message[1:]

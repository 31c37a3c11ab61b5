"""What a member tells another of a third one: its newest record, so that who moved is found again.

Knows the word for it, and how many of them are heard from one link, with those of `door`.  Refuses
to judge records.

    a record: 02 and the envelope that its own member signed

No message of the members begins so: all of them are arrays.  A record proves itself, so whoever
hands it on can neither change nor invent one, but only hold it back.
"""

from __future__ import annotations

from aegis_edge.net.channel import Goodbye, Misconduct

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


class Introductions:
    """What one link has told; it began at `now_ticks`."""

    def __init__(self, now_ticks: int) -> None:
        self._began_at = now_ticks
        self._heard = 0

    def hear(self, message: bytes, others: int, now_ticks: int) -> bytes | None:
        """What `message` hands on beside its first byte, None if it is none of these words.

        Raises `Misconduct` if it is one too many where there are so many others to speak of.
        """
        if message[:1] not in (RECORD, PASS, OBSERVER):
            return None
        self._heard += 1
        if self._heard > others + SPARE + (now_ticks - self._began_at) // SPAN_TICKS:
            raise Misconduct("it introduces others again and again", Goodbye.PROTOCOL)
        return message[1:]

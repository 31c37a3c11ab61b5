"""Who gets no link for a while, by its key: for what it did, or because the owner wants it.

Knows what is held against whom, and until when.  Refuses to know links, quorums and clocks.

What is *earned* takes proof that is as good as the key.  There are two kinds of it: what came
sealed for a link on which the member had proven itself, and is against the rules whoever reads it;
and two envelopes with its signature that contradict each other.  All else is for the score alone
(`conduct`), or somebody could have a correct member kept out:

- frames that fail authentication, are too big, or end in the middle: whoever owns the network, or a
  bad cable, can flip a bit of a correct member's;
- silence, broken links, refused handshakes: nobody's fault, or nobody's to prove;
- a state or rows that are not the agreed ones: a correct board's disk may rot;
- what a third member says of somebody.

So no liars can have a correct member kept out.  Nor is agreement lost by it: whoever is needed for
a quorum of links is let in whatever it did (`book` says when), for the protocol bears f liars, but
not one member less than a quorum.  Of four with one crashed, the liar that is the third of three
gets its link, and keeps it until its next offence even if the fourth comes back.  Of two, or of
three with one off, nobody is kept out at all.

The first offence that is no contradiction only costs the link: of a bug, or of another version,
there is mostly one.  From the second on the time doubles, up to an hour; what happens while it runs
adds nothing, and one is forgotten for each half minute that the member behaves.

What the owner wants *by hand* holds as it was said, also where it costs the quorum.
"""

from __future__ import annotations

from dataclasses import dataclass

BAN_TICKS = 5_000
BAN_TICKS_MAX = 3_600_000
FORGET_TICKS = 30_000
#: Offences from which on somebody is kept out; a contradiction counts as so many.
OFFENCES = 2
#: No more doublings than that are counted.
_OFFENCES_MAX = 32


@dataclass(frozen=True, slots=True)
class Ban:
    """Before `until_ticks` there is no link; infinite until somebody lifts it."""

    until_ticks: float
    reason: str = ""
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class _Record:
    offences: int
    ban: Ban


class Bans:
    """What is held against whom; of who is linked, and by hand of anybody."""

    def __init__(self) -> None:
        self._earned: dict[bytes, _Record] = {}
        self._by_hand: dict[bytes, Ban] = {}

    def offence(
        self, peer: bytes, reason: str, now_ticks: int, *, contradicts: bool = False
    ) -> None:
        """`peer` did what only it can have done, against the rules; or even contradicts itself."""
        record = self._earned.get(peer)
        offences = 0
        if record is not None:
            if now_ticks < record.ban.until_ticks:
                return
            forgotten = int(now_ticks - record.ban.until_ticks) // FORGET_TICKS
            offences = max(0, record.offences - forgotten)
        offences = min(offences + (OFFENCES if contradicts else 1), _OFFENCES_MAX)
        length_ticks = 0
        if offences >= OFFENCES:
            length_ticks = min(BAN_TICKS << (offences - OFFENCES), BAN_TICKS_MAX)
        self._earned[peer] = _Record(offences, Ban(now_ticks + length_ticks, reason))

    def ban(self, peer: bytes, until_ticks: float) -> None:
        """By hand; another time than before takes its place."""
        self._by_hand[peer] = Ban(until_ticks, by_hand=True)

    def lift(self, peer: bytes) -> None:
        """Nothing is held against `peer` any more, whoever began it."""
        self._by_hand.pop(peer, None)
        self._earned.pop(peer, None)

    def forget(self, peer: bytes) -> None:
        """It is nobody here any more: what it earned is not remembered, unlike what was said by
        hand.
        """
        self._earned.pop(peer, None)

    def of(self, peer: bytes, *, is_needed: bool) -> Ban | None:
        """What keeps `peer` out for longest, even if it is over; None if nothing ever did.

        `is_needed`: for a quorum of links.
        """
        found = [self._by_hand[peer]] if peer in self._by_hand else []
        if not is_needed and peer in self._earned:
            found.append(self._earned[peer].ban)
        return max(found, key=lambda ban: ban.until_ticks, default=None)

    def is_spotless(self, peer: bytes) -> bool:
        """Whether nothing was ever held against `peer`."""
        return peer not in self._earned and peer not in self._by_hand

    def by_hand(self, now_ticks: int) -> dict[bytes, float]:
        """Until when each is kept out by hand who still is; infinite until somebody lifts it."""
        return {
            peer: ban.until_ticks
            for peer, ban in sorted(self._by_hand.items())
            if now_ticks < ban.until_ticks
        }

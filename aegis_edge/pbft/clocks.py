"""Agreed time: what a cluster of unreliable clocks calls "now".

Knows the latest signed clock reading of each member.  Refuses to know any clock of its own.
The agreed time of a batch is the median of a quorum of members' readings, each signed in a commit
or a status, and never goes back: f bad clocks cannot move it beyond what a correct clock showed.
The primary encloses readings when they move the time by a step, so most batches carry none.
Follows: Cristian-style median of n readings; CometBFT's "BFT time" for taking them from commits.
"""

from __future__ import annotations

from aegis_edge.pbft.configuration import Configuration
from aegis_edge.wire.messages import Commit, Status, Verified

Reading = Verified[Commit] | Verified[Status]

#: The resolution of agreed time where links carry enough, in milliseconds.
STEP_MS = 1000


def median_ms(evidence: tuple[Reading, ...]) -> int:
    """The median of the readings, in Unix milliseconds; the lower one of an even count."""
    clocks = sorted(e.message.clock_ms for e in evidence)
    return clocks[(len(clocks) - 1) // 2]


def acceptable(evidence: tuple[Reading, ...], configuration: Configuration) -> bool:
    """True for no evidence, or for readings of exactly a quorum of distinct members."""
    if not evidence:
        return True
    signers = {e.signer for e in evidence}
    return (
        len(evidence) == len(signers) == configuration.quorum
        and all(signer in configuration for signer in signers)
        and all(e.message.configuration == configuration.number for e in evidence)
    )


def agreed_ms(time_ms: int, evidence: tuple[Reading, ...]) -> int:
    """The agreed time of a batch that follows one at `time_ms`."""
    return max(time_ms, median_ms(evidence)) if evidence else time_ms


class Readings:
    """The newest reading of each member, as they came in."""

    def __init__(self) -> None:
        self._latest: dict[bytes, Reading] = {}

    def note(self, reading: Reading) -> None:
        self._latest.pop(reading.signer, None)  # newest last
        self._latest[reading.signer] = reading

    def clock_ms(self, member: bytes) -> int:
        """What `member` said last; 0 if it said nothing yet."""
        reading = self._latest.get(member)
        return reading.message.clock_ms if reading is not None else 0

    def evidence(
        self, configuration: Configuration, time_ms: int, step_ms: int = STEP_MS
    ) -> tuple[Reading, ...]:
        """The newest readings of a quorum, if they move the time by a step; else nothing."""
        newest = [r for r in reversed(self._latest.values()) if r.signer in configuration]
        chosen = tuple(newest[: configuration.quorum])
        if len(chosen) < configuration.quorum or median_ms(chosen) < time_ms + step_ms:
            return ()
        return chosen

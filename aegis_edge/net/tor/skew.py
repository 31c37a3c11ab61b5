"""Whether this board's clock is right, judged by what its tor knows of the network.

Knows how far off is too far, and the words for it.  Refuses to read a clock, and to set one.
Follows: control-spec on GETINFO consensus/valid-after and consensus/valid-until, and on the event
CLOCK_SKEW.

Tor itself goes on with a clock that is up to a day off either way: it says so in its log, reaches
100 %, and says no more.  Who may tell it the time can have it take an old view of the network, so
with such a clock nothing is announced and nobody is dialled.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from aegis_edge.net.tor import lines
from aegis_edge.net.tor.lines import Garbled, Reply

#: What tor calls skewed, too.  Its view of the network is valid for three hours, and is replaced
#: while one of them is left.
TOLERANCE_S = 3600.0
#: The event in which `told` finds what others say of this board's clock.
EVENT = "STATUS_GENERAL"
FROM, UNTIL = "consensus/valid-after", "consensus/valid-until"

_FORM = "%Y-%m-%d %H:%M:%S"
_SET = "set it (sudo timedatectl set-ntp true, or sudo date -s), and it goes on by itself"


def told(event: Reply) -> float | None:
    """By how many seconds the clock is ahead (behind: less than 0), if a relay has said so now."""
    try:
        words, pairs = lines.fields(event.lines[0].text)
        if words[:1] != (EVENT,) or words[2:3] != ("CLOCK_SKEW",):
            return None
        return float(int(pairs["SKEW"]))
    except (Garbled, KeyError, ValueError, OverflowError):
        return None


def problem(now_s: float, reply: Reply, said_s: float | None) -> str:
    """What is wrong with a clock that says `now_s`; "" if nothing is.

    `reply`: to GETINFO of `FROM` and `UNTIL`, empty as long as tor knows no network.  `said_s`: the
    last that was `told`: it counts unless tor's view of the network is of this very moment, for the
    clock may have been set since.
    """
    since_s, until_s = (_time_s(reply, key) for key in (FROM, UNTIL))
    if since_s is None or until_s is None:
        if said_s is None or abs(said_s) < TOLERANCE_S:
            return ""
        return _words(now_s, said_s, is_exact=True)
    off_s = min(0.0, now_s - since_s) + max(0.0, now_s - until_s)
    if abs(off_s) < TOLERANCE_S:
        return ""
    is_exact = said_s is not None and math.copysign(1, said_s) == math.copysign(1, off_s)
    return _words(now_s, said_s if is_exact and said_s is not None else off_s, is_exact=is_exact)


def hint(now_s: float) -> str:
    """For whoever looks for a reason, and may find that the clock is it."""
    return f"that its clock is right: {_says(now_s)}"


def _says(now_s: float) -> str:
    return f"it says {datetime.fromtimestamp(now_s, UTC):%Y-%m-%d, %H h} UTC"


def _words(now_s: float, off_s: float, *, is_exact: bool) -> str:
    says = _says(now_s)
    span = f"{'' if is_exact else 'at least '}{_span(abs(off_s))}"
    if off_s < 0:
        return f"this board's clock is {span} behind: {says}; {_SET}"
    if is_exact:
        return f"this board's clock is {span} ahead: {says}; {_SET}"
    return (
        f"this board's clock is {span} ahead, or tor has had no news of its network for so long: "
        f"{says}; if that is wrong, {_SET}; if it is right, see that this board is connected"
    )


def _span(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds / 3_600:.0f} h" if seconds >= 7_200 else f"{seconds / 60:.0f} min"


def _time_s(reply: Reply, key: str) -> float | None:
    try:
        found = datetime.strptime("".join(reply.values().get(key, ())), _FORM)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC).timestamp()

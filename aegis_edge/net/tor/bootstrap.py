"""How far tor is on its way to the network, in percent and in its own words.

Knows the answer to GETINFO status/bootstrap-phase.  Refuses to wait for anything.
Follows: control-spec on that key, and on the event BOOTSTRAP, whose words it repeats.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aegis_edge.net.tor.lines import Reply, printable

KEY = "status/bootstrap-phase"
#: Tor has circuits, or believes that it could have some.
DONE_PERCENT = 100

_PROGRESS = re.compile(r"PROGRESS=(\d{1,3})\b")
_SUMMARY = re.compile(r'SUMMARY="([^"]{0,120})"')
_WARNING = re.compile(r'WARNING="([^"]{0,120})"')


class Phase(NamedTuple):
    """`words`: what tor is about to do, and what it complains of."""

    percent: int
    words: str

    @property
    def is_done(self) -> bool:
        """Whether onion services can be announced and dialled."""
        return self.percent == DONE_PERCENT


def phase(reply: Reply) -> Phase:
    """The phase in an answer to GETINFO of `KEY`; 0 % of nothing if there is none."""
    said = " ".join(reply.values().get(KEY, ()))
    progress, summary, warning = (
        pattern.search(said) for pattern in (_PROGRESS, _SUMMARY, _WARNING)
    )
    percent = min(DONE_PERCENT, int(progress[1])) if progress else 0
    words = f"tor is at {percent} %"
    words += f": {printable(summary[1])}" if summary else ""
    words += f" ({printable(warning[1])})" if warning else ""
    return Phase(percent, words)

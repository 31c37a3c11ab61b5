"""When a node has told its service manager that it serves, and when that it lives.

Knows what it lives on: an event loop that turns (else nobody asks here), a disk and, where links
go through Tor, a tor that answer.  Refuses to ask them, and to send anything.
Follows: sd_notify(3), sd_watchdog_enabled(3).

A tor that is gone is waited for: it may be an upgrade.  It is only where that takes too long that
the node shall begin anew, and then it does not serve until tor answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aegis_edge.supervisor import words

#: So long may a disk not answer: a worn card that tidies up takes its time.
DISK_SILENCE_S = 60.0
#: So long may tor not answer; one of the node's own has been started anew several times by then.
TOR_SILENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """`disk_s`, `tor_s`: when each answered last, on a clock of seconds that never jumps.

    `is_ready`: the manager was told that the node serves; `said`: the line that it has.
    """

    disk_s: float
    tor_s: float
    is_ready: bool = False
    said: str = ""

    def after(
        self, now_s: float, disk_s: float, status: Mapping[str, Any]
    ) -> tuple[Pulse, tuple[str, ...]]:
        """The pulse after a look at the node, and the lines to send because of it.

        `disk_s`: when the disk answered last; `status`: what the API says of the node.
        """
        tor_s = now_s if words.answers(status) else self.tor_s
        is_ready = self.is_ready or words.answers(status)
        pulse = replace(self, disk_s=disk_s, tor_s=tor_s, is_ready=is_ready)
        lines: list[str] = []
        if not is_ready:
            line = words.waiting(status)
        elif missed := pulse.missed(now_s):
            line = missed
        else:
            line = words.standing(status)
            lines.append("WATCHDOG=1")
        if is_ready and not self.is_ready:
            lines.insert(0, "READY=1")
        if line != self.said:
            lines.append(f"STATUS={line}")
        return replace(pulse, said=line), tuple(lines)

    def missed(self, now_s: float) -> str:
        """What the node lives on and has not heard of for too long; "" if there is nothing."""
        if now_s - self.disk_s > DISK_SILENCE_S:
            return f"the disk has not answered for {now_s - self.disk_s:.0f} s"
        if now_s - self.tor_s > TOR_SILENCE_S:
            return f"tor has not answered for {now_s - self.tor_s:.0f} s"
        return ""

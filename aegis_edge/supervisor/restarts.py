"""How long a node that keeps ending waits before it begins again: soon at first, then less often.

Knows a count of starts that did not last, in a folder that lasts from one to the next and is gone
with a stop or a reboot.  Refuses to know why they ended.
systemd has this (RestartSteps) only since 254; Debian bookworm has 252.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

#: A node that ran for so long, or was told to stop, begins its next life at once.
STEADY_S = 60.0
WAIT_S = 3.0
WAIT_S_MAX = 120.0
#: Bad luck has no part in it when it ends more often than this.
FREE = 2

_NAME = "starts"
_COUNT_MAX = 1_000


def wait_s(short_lives: int) -> float:
    """How long to wait after so many starts in a row that did not last."""
    if short_lives < FREE:
        return 0.0
    return min(WAIT_S_MAX, WAIT_S * 2.0 ** min(short_lives - FREE, 32))


class Restarts:
    """The count, in `folder`; what cannot be read or written counts for nothing."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _NAME

    def begun(self) -> int:
        """Count this start; how many before it did not last."""
        count = 0
        with suppress(OSError, ValueError):
            count = min(max(int(self._file.read_text(encoding="ascii")), 0), _COUNT_MAX)
        with suppress(OSError):
            self._file.write_text(str(count + 1), encoding="ascii")
        return count

    def lasted(self) -> None:
        """This one did, and those before it count no more."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

"""The clock of everything that waits: ticks, as the pure cores count them.

Knows that a tick is a millisecond of Trio's monotonic clock.  Refuses to know the time of day.
"""

from __future__ import annotations

import trio


def now_ticks() -> int:
    """Milliseconds since some moment in the past; a test's clock may stand still or be turned."""
    return int(trio.current_time() * 1000)

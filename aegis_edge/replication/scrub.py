"""The slow walk over the node's own database, so that a rotting card is found out in time.

Knows how often, and how much of the processor it may use.  Refuses to know what is looked at
(`disk.scrub`) and how it is mended (`pbft.mending`): whatever it meets is as if a caller met it.
Follows: the idle figures of the node, which a walk must not spoil: it writes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import trio

from aegis_edge.replication.errors import Damaged
from aegis_edge.replication.performer import Replication

log = logging.getLogger(__name__)

#: The first walk begins so long after the start, which reads the file too.
FIRST_S = 15 * 60.0
#: From the end of one walk to the begin of the next: a day.
REST_S = 24 * 3600.0
#: Keys of one slice: what the database's thread is kept from other work for, milliseconds.
SLICE_KEYS = 32
#: Between two slices, at least; and longer, so that a walk takes this share of one core.
PAUSE_S = 1.0
SHARE = 0.003


async def scrub(
    replication: Replication, *, first_s: float = FIRST_S, rest_s: float = REST_S
) -> None:
    """Walk over the database again and again, until cancelled."""
    await trio.sleep(first_s)
    while True:
        is_last = False
        while not is_last:
            busy_s, is_last = await _slice(replication)
            await trio.sleep(max(PAUSE_S, busy_s / SHARE))
        replication.counters.scrubs += 1
        log.info("all that this node keeps was looked at")
        await trio.sleep(rest_s)


async def _slice(replication: Replication) -> tuple[float, bool]:
    """How long one slice kept the processor busy, in seconds, and whether it was the last one."""
    try:
        return await replication.read(_timed(lambda database: database.scrub(SLICE_KEYS).is_last))
    except Damaged:
        return 0.0, False  # it is being mended, and the walk goes on behind it


def _timed(query: Callable[[Any], bool]) -> Callable[[Any], tuple[float, bool]]:
    def timed(database: Any) -> tuple[float, bool]:
        before_s = time.thread_time()
        found = query(database)
        return time.thread_time() - before_s, found

    return timed

"""Keeps the tor that the node owns running: starts it again whenever it ends, or is given up.

Knows when to start the next one.  Refuses to know how a tor is run, and whether it does its work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from aegis_edge.net.tor import child
from aegis_edge.net.tor.errors import TorError, first
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places

#: Between two starts: soon, then less often; one that ran for long begins anew.
RETRY_S = 1.0
RETRY_S_MAX = 30.0
STEADY_S = 300.0

log = logging.getLogger(__name__)


class Keeper:
    """One tor at `places`, kept up by `run`; `extra`: the owner's options for it."""

    def __init__(
        self, places: Places, level: SecurityLevel, extra: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._places = places
        self._level = level
        self._extra = extra
        self._running = trio.CancelScope()

    async def run(self) -> None:
        """Keep it running until cancelled."""
        pause_s = RETRY_S
        while True:
            began = trio.current_time()
            try:
                with trio.CancelScope() as self._running:
                    await child.run(self._places, self._level, extra=self._extra)
            except* TorError as group:
                log.error("%s", first(group))
            if trio.current_time() - began > STEADY_S:
                pause_s = RETRY_S
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    def restart(self) -> None:
        """End the one that runs, as it hangs: politely, then not; another one is started."""
        log.error("the node's own tor hangs, and is started again")
        self._running.cancel()

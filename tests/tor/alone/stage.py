"""A child tor that knows no network, and connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from aegis_edge.net.tor import child, control
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places

NO_NETWORK = ("DisableNetwork", "1")


@asynccontextmanager
async def running(
    places: Places,
    *extra: tuple[str, str],
    level: SecurityLevel = SecurityLevel.STANDARD,
    binary: Path = child.BINARY,
    may_end: bool = False,
    network: bool = False,
) -> AsyncIterator[int]:
    """A child tor at `places`, with its process id; `may_end`: before the test does."""
    extra = extra if network else (NO_NETWORK, *extra)

    async def run(*, task_status: trio.TaskStatus[int]) -> None:
        try:
            await child.run(
                places,
                level,
                extra=extra,
                binary=binary,
                task_status=task_status,
            )
        except TorError:
            if not may_end:
                raise

    async with trio.open_nursery() as nursery:
        yield await nursery.start(run)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    places: Places, credentials: Credentials | None = None
) -> AsyncIterator[Control]:
    """A control connection to the tor at `places`."""
    async with trio.open_nursery() as nursery:
        one = await control.connect(places.control, credentials or Credentials())
        nursery.start_soon(one.run)
        yield one
        nursery.cancel_scope.cancel()

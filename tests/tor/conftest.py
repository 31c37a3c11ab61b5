"""A real tor, without a network: enough for its control port, and for all that needs no circuit.

These tests are collected only where tor is installed; the head of the report says whether it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from aegis_edge.net.tor import child, control
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places

NO_NETWORK = ("DisableNetwork", "1")

collect_ignore_glob = [] if child.BINARY.exists() else ["test_*.py"]


def pytest_report_header() -> str:
    found = "is used" if child.BINARY.exists() else "is missing (apt install tor): no tests of it"
    return f"tor: {child.BINARY} {found}"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "tor")


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

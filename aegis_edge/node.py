"""Puts one node together: reads its home, opens what it needs, and keeps it running until told.

Knows which parts there are, and in which order they start and stop.
Refuses to decide or to remember anything: no protocol, no state.
Follows: the structured concurrency of Trio; signals end the nursery, errors name what to do next.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from aegis_edge.config import Config


class NodeError(Exception):
    """The node cannot start or go on; the message says what to do."""


def main(config: Config) -> int:
    """Run the node until SIGTERM or SIGINT; the process's exit code."""
    raise NodeError("not yet")


async def run(
    config: Config,
    *,
    ready: Callable[[], None] = lambda: None,
    stop: trio.Event | None = None,
) -> None:
    """Run the node described by `config` until `stop` is set or the task is cancelled.

    `ready` is called once the API answers and links are being made.  Raises `NodeError`.
    """
    raise NodeError("not yet")

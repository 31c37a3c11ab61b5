"""Whom the owner of this node keeps out by hand, over restarts, and what that may cost.

Knows the file of it, and what a quorum is left with.  Refuses to decide for others: a ban is this
node's alone; `aegis-edge remove` is for who is to be a member no more.

It is the owner's, so it holds even where it costs the quorum: it is said then, and it is not kept
from anybody.  Its time is that of this board's clock, which may be wrong after a restart: it never
lasts longer than it was meant to from then on (`disk.banlist`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from aegis_edge.api.messages import Refusal
from aegis_edge.api.port import Kept
from aegis_edge.disk import banlist
from aegis_edge.disk.banlist import ROWS_MAX, Row
from aegis_edge.disk.errors import DiskError
from aegis_edge.net import clock
from aegis_edge.net.links import Links
from aegis_edge.pbft.configuration import Configuration


class Bans:
    """The bans by hand of one node; those in the file at `path` hold from the beginning.

    `own`: this node's key; `configuration`: gives who takes part now.
    """

    def __init__(
        self,
        path: Path,
        own: bytes,
        links: Links,
        configuration: Callable[[], Configuration],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path = path
        self._own = own
        self._links = links
        self._configuration = configuration
        self._wall_ms = wall_ms
        self._lock = trio.Lock()
        self._rows = {row.key: row for row in banlist.read(path)}
        for row in self._rows.values():
            self._impose(row)

    async def ban(self, key: bytes, for_s: int | None) -> str:
        """Keep `key` out for so long, or until it is lifted; what that may cost, or "".

        Durable when it returns; raises `Refusal`.
        """
        if key == self._own:
            raise Refusal("invalid", "a board cannot keep itself out", "see aegis-edge leave")
        now_ms = self._wall_ms()
        async with self._lock:
            rows = {k: row for k, row in self._rows.items() if row.left_ms(now_ms) != 0}
            rows[key] = Row(key, now_ms, 1000 * (for_s or 0))
            if len(rows) > ROWS_MAX:
                raise Refusal(
                    "conflict",
                    f"{ROWS_MAX} nodes are kept out already",
                    "end one first: aegis-edge peers unban",
                )
            await self._keep(rows)
            self._impose(rows[key])
        return self._cost()

    async def lift(self, key: bytes) -> None:
        """Hold nothing against `key` any more, whether by hand or earned; raises `Refusal`."""
        async with self._lock:
            if key in self._rows:
                await self._keep({k: row for k, row in self._rows.items() if k != key})
            self._links.lift(key)

    def listed(self) -> list[Kept]:
        """All that hold now."""
        now_ticks = clock.now_ticks()
        return [
            Kept(key, None if until == math.inf else int(until - now_ticks))
            for key, until in self._links.banned().items()
        ]

    def _impose(self, row: Row) -> None:
        left_ms = row.left_ms(self._wall_ms())
        until_ticks = math.inf if left_ms is None else clock.now_ticks() + left_ms
        self._links.ban(row.key, until_ticks)

    def _cost(self) -> str:
        """What the bans of now may cost the agreement; "" while others may be off all the same."""
        now = self._configuration()
        if self._own not in now:
            return ""
        banned = sum(kept.key in now for kept in self.listed())
        left = len(now.members) - banned
        if left < now.quorum:
            return (
                f"it takes {now.quorum} of {len(now.members)} members to decide, and this board has"
                f" links with no more than {left - 1} others now: it cannot write, and does not"
                " count where it may be needed"
            )
        if left == now.quorum and banned:
            return "from now on this board needs every member that is not banned, to decide"
        return ""

    async def _keep(self, rows: dict[bytes, Row]) -> None:
        try:
            job = partial(banlist.write, self._path, list(rows.values()))
            await trio.to_thread.run_sync(job)
        except DiskError as error:
            raise Refusal("internal", error.message, error.advice) from None
        self._rows = rows

"""The node as a service: what is told to its manager, from before it begins until it ends.

Knows when to look.  Refuses to judge what it sees (`pulse`), and how lines travel (`manager`).
Follows: sd_notify(3).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from aegis_edge.supervisor import manager
from aegis_edge.supervisor.pulse import Pulse
from aegis_edge.supervisor.restarts import STEADY_S, Restarts, wait_s
from aegis_edge.supervisor.words import one_line

#: Between two looks, at most; a quarter of what the watchdog allows where that is less.
LOOK_S = 5.0
#: Between two questions to the disk, which cost it a read each.
ASK_S = 15.0
#: A start is given so much more time, again and again, for as long as something goes on.
EXTEND_S = 60.0
#: A database is checked before it is used; after this long it is the card that hangs.
OPEN_S_MAX = 1800.0

log = logging.getLogger(__name__)

Status = Callable[[], Mapping[str, Any]]
Ask = Callable[[], Awaitable[None]]


class Service:
    """`tell` sends lines to the manager; `watchdog_s`: how often it wants to hear, 0 for never.

    `restarts`: the starts before this one; None where nobody counts them.
    """

    def __init__(
        self, tell: manager.Tell, watchdog_s: float = 0.0, restarts: Restarts | None = None
    ) -> None:
        self._tell = tell
        self._look_s = min(LOOK_S, watchdog_s / 4) if watchdog_s else LOOK_S
        self._restarts = restarts
        self._is_ready = False
        self._is_told = trio.Event()

    def say(self, text: str) -> None:
        """Show where the node stands, in one line."""
        self._tell([f"STATUS={one_line(text)}"])

    async def pause(self, stop: trio.Event) -> None:
        """Wait before a start that follows on others which did not last, or until `stop`."""
        lives = 0 if self._restarts is None else self._restarts.begun()
        wait = wait_s(lives)
        if not wait:
            return
        log.warning("it ended soon after each of %d starts: waits for %g s", lives, wait)
        self._tell([f"EXTEND_TIMEOUT_USEC={(wait + EXTEND_S) * 1e6:.0f}"])
        self.say(
            f"ended soon after each of {lives} starts, begins again in {wait:g} s; see its log"
        )
        with trio.move_on_after(wait):
            await stop.wait()

    async def open(self) -> None:
        """Ask for more time while the node opens what it has, until `attend` takes over."""
        self._is_told = trio.Event()
        self.say("opens its database")
        with trio.move_on_after(OPEN_S_MAX):
            while not self._is_told.is_set():
                self._extend()
                with trio.move_on_after(EXTEND_S / 4):
                    await self._is_told.wait()

    async def attend(self, status: Status, ask: Ask) -> None:
        """Tell how the node stands, until cancelled; that it serves, once it does.

        `ask` returns when the disk has answered.
        """
        self._is_told.set()
        began_s = now_s = trio.current_time()
        pulse, disk = Pulse(now_s, now_s), _Disk(ask, now_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.keep_asking)
            while True:
                now_s = trio.current_time()
                pulse, lines = pulse.after(now_s, disk.answered_s, status())
                self._is_ready = pulse.is_ready
                if not pulse.is_ready:
                    self._extend()
                if lines:
                    self._tell(lines)
                if now_s - began_s > STEADY_S and self._restarts is not None:
                    self._restarts.lasted()
                    self._restarts = None
                await trio.sleep(self._look_s)

    def reloading(self) -> None:
        """The settings are read anew: until `reloaded`."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._tell(["RELOADING=1", f"MONOTONIC_USEC={usec}"])

    def reloaded(self) -> None:
        """They have been; a node that did not serve before does not by that."""
        if self._is_ready:
            self._tell(["READY=1"])

    def stopping(self) -> None:
        """The node was told to stop, and that is no failure."""
        self._tell(["STOPPING=1", "STATUS=stops"])
        if self._restarts is not None:
            self._restarts.lasted()

    def _extend(self) -> None:
        self._tell([f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}"])


class _Disk:
    """Asks the disk now and then; one that hangs leaves the last answer where it is."""

    def __init__(self, ask: Ask, now_s: float) -> None:
        self._ask = ask
        self.answered_s = now_s

    async def keep_asking(self) -> None:
        while True:
            try:
                await self._ask()
            except OSError as error:
                log.error("the disk answers with an error: %s", error.strerror)
            else:
                self.answered_s = trio.current_time()
            await trio.sleep(ASK_S)


def of(environment: Mapping[str, str]) -> Service | None:
    """The manager that started this process and wants to be told; None if there is none."""
    tell = manager.connect(environment)
    if tell is None:
        return None
    folder = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    restarts = Restarts(Path(folder)) if folder else None
    return Service(tell, manager.watchdog_s(environment, os.getpid()), restarts)

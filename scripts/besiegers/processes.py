"""Adversaries who own the processes: they kill, stop and start again.

Knows signals.  A node that was killed is started by the one who killed it, as systemd would.
"""

from __future__ import annotations

import signal

import trio

from besiegers.town import NODES, TIMEOUT_S, Room, Town

room = Room("processes")


@room("kill primary")
async def kill_primary(town: Town) -> None:
    """kill -9 of the primary; it comes back when the others have replaced it."""
    primary = await town.primary()
    await town.kill(primary)
    await trio.sleep(3 * TIMEOUT_S)
    town.start(primary)


@room("kill backup")
async def kill_backup(town: Town) -> None:
    """kill -9 of a backup; it comes back a moment later."""
    backup = await town.backup()
    await town.kill(backup)
    await trio.sleep(2)
    town.start(backup)


@room("kill in turn")
async def kill_in_turn(town: Town) -> None:
    """kill -9 of every node, one after another: never more than f are down."""
    for index in range(NODES):
        await town.kill(index)
        await trio.sleep(0.7)
        town.start(index)

        async def linked(of: int = index) -> bool:
            return len((await town.status(of)).get("reachable", ())) == NODES - 1

        await town.until(linked, "a node that was started is linked to all others", 30)


@room("stop primary")
async def stop_primary(town: Town) -> None:
    """SIGSTOP of the primary for longer than the time-out: it still believes to lead."""
    await _stop(town, await town.primary())


@room("stop backup")
async def stop_backup(town: Town) -> None:
    """SIGSTOP of a backup for longer than the time-out, then SIGCONT."""
    await _stop(town, await town.backup())


@room("stop two")
async def stop_two(town: Town) -> None:
    """SIGSTOP of two nodes at once: no quorum, until SIGCONT."""
    for index in (1, 2):
        town.signal(index, signal.SIGSTOP)
    await trio.sleep(3 * TIMEOUT_S)
    for index in (1, 2):
        town.signal(index, signal.SIGCONT)


@room("power loss", quick=True)
async def power_loss(town: Town) -> None:
    """kill -9 of all nodes at once; all are started again."""
    await town.kill(*range(NODES))
    for index in range(NODES):
        town.start(index)


@room("restarts")
async def restarts(town: Town) -> str:
    """kill -9 and start of one backup twenty times in a row, each time as soon as it runs."""
    backup, times = await town.backup(), 20
    for _ in range(times):
        await town.restart(backup)

        async def runs() -> bool:
            return bool(await town.status(backup))

        await town.until(runs, "a node that was started answers", 30)
    return f"{times} starts"


async def _stop(town: Town, index: int) -> None:
    town.signal(index, signal.SIGSTOP)
    await trio.sleep(4 * TIMEOUT_S)
    town.signal(index, signal.SIGCONT)

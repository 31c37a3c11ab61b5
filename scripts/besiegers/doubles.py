"""Adversaries by accident: owners who copy a home, and run it twice or put an old one back.

Knows that a copy of a node has its key and its memory, and that both are one of the f faulty then:
its word is worth nothing until only one is left, whose memory is whole.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import Any

import trio

from aegis_edge.client import ClientError
from besiegers.town import Fallen, Room, Town
from cluster import Node, free_ports

room = Room("doubles")

SIEGE_S = 4.0
#: Both have to have started and asked for something; on a busy machine that takes its time.
NOTICE_S = 20.0
#: How often a node may have to be started again until it is beyond its other life.
STARTS_MAX = 5


@room("twins")
async def twins(town: Town) -> str:
    """One node's home is copied, and both run: one key, two memories."""
    index = await town.backup()
    node = town.nodes[index]
    await town.kill(index)
    home = town.directory / f"{node.name}.twin"
    shutil.copytree(node.home, home, ignore=shutil.ignore_patterns("*.sock"))
    twin = Node(f"{node.name}.twin", home, free_ports(1)[0], node.settings, tied=True)
    town.faulty.add(index)
    town.start(index)
    twin.start(P2P_PORT=str(twin.port))
    assert twin.process is not None
    town.lines.bodies[twin.process.pid] = index
    halted: list[str] = []

    async def noticed() -> bool:
        nonlocal halted
        statuses = await _both(town, index, twin)
        halted = [place for place, status in statuses if status.get("halted")]
        return bool(halted)

    try:
        await trio.sleep(SIEGE_S)
        await town.until(noticed, "one of two nodes with one key notices the other", NOTICE_S)
    finally:
        twin.kill()
        shutil.rmtree(home)
    return f"{' and '.join(halted)} stopped and said why; {await _rejoins(town, index)}"


@room("old backup")
async def old_backup(town: Town) -> str:
    """A node's home is put back as it was some seconds ago: it has forgotten its last votes."""
    index = await town.backup()
    node = town.nodes[index]
    copy = town.directory / f"{node.name}.backup"
    await town.kill(index)
    shutil.copytree(node.home, copy, ignore=shutil.ignore_patterns("*.sock"))
    town.start(index)
    await trio.sleep(SIEGE_S)
    town.faulty.add(index)
    await town.kill(index)
    shutil.rmtree(node.home)
    copy.rename(node.home)
    town.begin()
    town.start(index)
    return await _rejoins(town, index)


async def _both(town: Town, index: int, twin: Node) -> list[tuple[str, dict[str, Any]]]:
    second: dict[str, Any] = {}
    with suppress(ClientError):  # it does not answer yet
        second = await trio.to_thread.run_sync(twin.status)
    return [("the first", await town.status(index)), ("the second", second)]


async def _rejoins(town: Town, index: int) -> str:
    """Starts a node again whenever it stops because of its other life: how often that took."""
    for starts in range(STARTS_MAX):
        status: dict[str, Any] = {}

        async def settled() -> bool:
            nonlocal status
            status = await town.status(index)
            return bool(status) and (status["halted"] is not None or status["own_operations"] > 0)

        await town.until(settled, "a node that was double commits, or stops and says why", 30)
        if status["halted"] is None:
            return f"it commits after {starts} more starts"
        if "in use elsewhere" not in status["halted"]:
            raise Fallen(f"it stopped, and said: {status['halted']}")
        await town.restart(index)
    raise Fallen(f"a node that was double stops at each of {STARTS_MAX} starts")

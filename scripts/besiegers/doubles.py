"""Adversaries by accident: owners who copy a home, and run it twice or put an old one back.

Knows that a copy of a node has its key and its memory, and that both are one of the f faulty then:
its word is worth nothing until only one is left, whose memory is whole.
"""

from __future__ import annotations

import shutil

import trio

from besiegers.town import Room, Town
from cluster import Node, free_ports

room = Room("doubles")

SIEGE_S = 5.0


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
    try:
        await trio.sleep(SIEGE_S)
        code = twin.process.poll()
    finally:
        twin.kill()
        shutil.rmtree(home)
    return "the twin ended by itself" if code is not None else "both ran"


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
    town.start(index)
    await trio.sleep(SIEGE_S)
    process = node.process
    if process is not None and process.poll() is None:
        status = await town.status(index)
        return str(status.get("halted") or status.get("learning") or "it rejoined")
    return f"it ended: {town.said(index).splitlines()[-1][-80:]}"

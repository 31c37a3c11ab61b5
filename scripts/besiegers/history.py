"""A long history of concurrent puts and linearizable reads, under kills and partitions.

Knows when which trouble comes.  Refuses to judge: `tests.sim.linearizability` does, and is tried
itself: a stale read of a node's own copy, written down as a linearizable one, must be noticed.
"""

from __future__ import annotations

import trio

from aegis_edge.client import connect
from besiegers.callers import PATIENCE_S
from besiegers.network import STALLED
from besiegers.town import NODES, Fallen, Outcome, Town, within
from show import Show

#: Callers of each node: as many as keep four nodes on two cores busy.
CALLERS = 16
#: From one trouble to the next, and how long each lasts.
PEACE_S, TROUBLE_S = 4.0, 1.5


async def record(town: Town, operations: int, show: Show) -> Outcome:
    """At least so many answered operations, with a trouble every few seconds; what they show."""
    outcome = Outcome("history", "history")
    callers = town.callers
    callers.begin("history")
    callers.resume()
    town.begin()
    began = trio.current_time()
    troubles = (_kill, _divide, _isolate)
    number = 0
    while callers.answered < operations:
        with trio.move_on_after(PEACE_S):
            while callers.answered < operations:
                show.now(f"{callers.answered} operations, {number} troubles")
                await trio.sleep(0.2)
        if callers.answered < operations:
            await troubles[number % len(troubles)](town)
            await town.relieve()
            number += 1
            show.step(f"{callers.answered} operations after {number} troubles")
    took_s = trio.current_time() - began
    await town.account(outcome)
    outcome.during = callers.answered / took_s
    outcome.remark = f"{callers.answered} operations under {number} troubles: no anomaly"
    return outcome


async def canary(town: Town) -> str:
    """What the checker says of one stale read; Fallen if it says nothing."""
    callers, stale = town.callers, town.chance.randrange(NODES)
    asked = (stale + 1) % NODES
    callers.begin("canary")
    key = f"{callers.prefix}/shared/0"
    async with (
        connect(str(town.nodes[asked].socket), timeout_s=PATIENCE_S) as writer,
        connect(str(town.nodes[stale].socket), timeout_s=PATIENCE_S) as reader,
    ):
        if not await callers.put(asked, writer, key, b"old"):
            raise Fallen("a put without an attack was not acknowledged")
        await callers.read(stale, reader, key)
        town.lines.set(town.lines.between([stale]), STALLED)
        with within(30, "a quorum does not write without one node"):
            while not await callers.put(asked, writer, key, b"new"):
                pass
        await callers.read(stale, reader, key, linearizable=False)
    town.lines.clear()
    found = callers.anomalies()
    if not found:
        raise Fallen("the checker did not see that a read was stale")
    return found[0]


async def _kill(town: Town) -> None:
    """kill -9 of whoever leads."""
    primary = await town.primary()
    await town.kill(primary)
    await trio.sleep(TROUBLE_S)


async def _divide(town: Town) -> None:
    """Two and two."""
    town.lines.set(town.lines.between([0, town.chance.randrange(1, NODES)]), STALLED)
    await trio.sleep(TROUBLE_S)


async def _isolate(town: Town) -> None:
    """Whoever leads, cut off from all."""
    town.lines.set(town.lines.between([await town.primary()]), STALLED)
    await trio.sleep(2 * TROUBLE_S)

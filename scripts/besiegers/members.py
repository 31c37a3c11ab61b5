"""Adversaries who are members: with a key of the cluster, real links, and f lies at a time.

Knows which vices (`besiegers.liar`) make which attack, and what must come of it: a primary that
does harm is replaced.  Refuses to know the vices.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

from besiegers.town import NODES, TIMEOUT_S, Fallen, Room, Town

room = Room("members")

#: Where a liar finds the vices: this folder's, and the simulator's.
SOURCES = os.pathsep.join(map(str, Path(__file__).parents[1:3]))

#: How long a liar lies.
LIES_S = 4.0
#: Within how many time-outs a primary that does harm must have been replaced.
PATIENCE_TIMEOUTS = 15


def hostile(
    name: str,
    what: str,
    *vices: str,
    leads: bool = False,
    loses: bool = False,
    absent: bool = False,
    quick: bool = False,
) -> None:
    """One more attack: `vices` of one member, which `leads` and then `loses` the primacy.

    `absent`: a correct node is killed meanwhile and has to catch up among the lies.
    """

    async def act(town: Town) -> str:
        liar = town.chance.randrange(NODES)
        victim = town.chance.choice([i for i in range(NODES) if i != liar])
        await _infiltrate(town, liar, victim, vices)
        if leads:
            await town.lead(liar)
        town.faulty.add(liar)
        town.begin()
        town.signal(liar, signal.SIGUSR1)
        remark = ""
        if loses:
            remark = await _loses(town, liar)
        if absent:
            await town.kill(victim)
            await trio.sleep(LIES_S / 2)
            town.start(victim)
        await trio.sleep(LIES_S)
        process = town.nodes[liar].process
        if process is None or process.poll() is not None:
            raise Fallen(f"the liar ended: {town.said(liar)[-300:]}")
        return remark

    act.__doc__ = what
    room(name, quick=quick)(act)


async def _infiltrate(town: Town, liar: int, victim: int, vices: tuple[str, ...]) -> None:
    """A member's process is replaced by a liar that is honest still."""
    await town.kill(liar)
    words = [*vices, "--seed", str(town.seed), "--peer", str(town.rank(victim))]
    town.start(liar, sys.executable, "-m", "besiegers.liar", *words, PYTHONPATH=SOURCES)

    async def linked() -> bool:
        return len((await town.status(liar)).get("reachable", ())) == NODES - 1

    await town.until(linked, "the liar is linked to all others", 30)


async def _loses(town: Town, liar: int) -> str:
    began = trio.current_time()

    async def replaced() -> bool:
        return await town.primary() != liar

    await town.until(replaced, "a harmful primary loses the primacy", PATIENCE_TIMEOUTS * TIMEOUT_S)
    return f"lost the primacy after {trio.current_time() - began:.1f} s"


hostile(
    "equivocation",
    "The primary gives one number to two batches and votes for both.",
    "equivocate",
    leads=True,
    quick=True,
)
hostile(
    "two faces",
    "A member votes differently with every peer, and numbers its bundles twice.",
    "two_faces",
    "double_bundle",
    "withhold",
)
hostile(
    "forged certificates",
    "Signatures and certificates that nobody made, for batches, checkpoints and views.",
    "forge",
    "false_answers",
    "lie_at_checkpoint",
)
hostile(
    "stale certificates",
    "Everything that was ever said is said again, to whoever may fall for it.",
    "replay",
    "old_news",
)
hostile(
    "view-change storm",
    "New views are asked for, claimed and proposed in without a reason.",
    "lie_in_view_change",
    "hasty",
    "usurp",
)
hostile(
    "false new views",
    "A primary that is given up again and again, by a member that opens views falsely.",
    "lie_in_new_view",
    "mute_primary",
    leads=True,
    loses=True,
)
hostile(
    "slow primary",
    "The primary says everything just before the time-out: it must lose the primacy.",
    "slow_primary",
    leads=True,
    loses=True,
)
hostile(
    "censoring primary",
    "The primary never orders what one node asks for: it must lose the primacy.",
    "censor",
    leads=True,
    loses=True,
)
hostile(
    "disorderly primary",
    "The primary proposes bundles twice, backwards, too early, and bodies that it did not name.",
    "disorder",
    "mismatch",
    leads=True,
)
hostile(
    "odd clocks",
    "A member, the primary at first, signs impossible times.",
    "odd_clock",
    leads=True,
)
hostile(
    "bundle flood",
    "A member says as much as it can sign that is of no use.",
    "deluge",
)
hostile(
    "memory bomb",
    "A member sends the largest messages there are, many of them for views that never come.",
    "bomb",
    "stuff",
)
hostile(
    "poisoned catch-up",
    "A node comes back while a member answers with false batches, states and checkpoints.",
    "false_answers",
    "lie_in_status",
    "lie_at_checkpoint",
    absent=True,
)
hostile(
    "garbage frames",
    "A member sends bytes that are no message, and frames that no session sealed.",
    "garbage",
    "garble",
)

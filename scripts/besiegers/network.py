"""Adversaries who own the network: they delay, cut, corrupt, stall and divide.

Knows the lines of the town.  What they carry is encrypted: who owns them changes bytes, not words.
"""

from __future__ import annotations

import trio

from besiegers.lines import Weather
from besiegers.town import TIMEOUT_S, Fallen, Room, Town

room = Room("network")

#: How long most attacks last.
SIEGE_S = 4.0
STALLED = Weather(stalled=True)


@room("delay")
async def delay(town: Town) -> None:
    """Every line takes 150 ms longer each way."""
    town.lines.set(town.lines.all(), Weather(delay_s=0.15))
    await trio.sleep(SIEGE_S)


@room("cuts")
async def cuts(town: Town) -> str:
    """Every chunk of bytes may be the last of its connection: one in fifty is."""
    town.lines.set(town.lines.all(), Weather(cut=0.02))
    await trio.sleep(SIEGE_S)
    return ""


@room("corruption")
async def corruption(town: Town) -> str:
    """One chunk in fifty has a flipped bit: no link may live on after it."""
    town.lines.set(town.lines.all(), Weather(corrupt=0.02))
    await trio.sleep(SIEGE_S)
    ended = sum(town.said(i).count("link to") for i in town.correct)
    if not ended:
        raise Fallen("no node noticed a flipped bit")
    return ""


@room("half-open")
async def half_open(town: Town) -> None:
    """All connections of a backup stall both ways and stay open, for longer than the time-out."""
    backup = await town.backup()
    town.lines.set(town.lines.between([backup]), STALLED)
    await trio.sleep(SIEGE_S)


@room("deaf primary")
async def deaf(town: Town) -> None:
    """One-way: the primary speaks, and nothing reaches it."""
    primary = await town.primary()
    town.lines.set([way for way in town.lines.all() if way[1] == primary], STALLED)
    await trio.sleep(SIEGE_S)


@room("dumb primary")
async def dumb(town: Town) -> str:
    """One-way: the primary hears everything, and nothing that it says arrives."""
    primary = await town.primary()
    town.lines.set([way for way in town.lines.all() if way[0] == primary], STALLED)
    return await _replaced(town, primary)


@room("partition", quick=True)
async def partition(town: Town) -> str:
    """Two and two: nobody has a quorum, and nothing may be acknowledged until it heals."""
    side = [0, town.chance.randrange(1, 4)]
    town.lines.set(town.lines.between(side), STALLED)
    divided = town.callers.moment()
    await trio.sleep(SIEGE_S)
    if town.callers.answered_since(divided):
        raise Fallen("an answer without a quorum")
    return "nothing acknowledged while divided"


@room("isolated primary")
async def isolated(town: Town) -> str:
    """The primary is cut off from all: the others must go on without it."""
    primary = await town.primary()
    town.lines.set(town.lines.between([primary]), STALLED)
    return await _replaced(town, primary)


@room("flapping")
async def flapping(town: Town) -> str:
    """All connections of two lines are ended, again and again."""
    lines = [(0, 1), (2, 3)]
    count = 0
    for _ in range(int(SIEGE_S / 0.25)):
        count += town.lines.cut(lines)
        await trio.sleep(0.25)
    return f"{count} connections ended"


async def _replaced(town: Town, primary: int) -> str:
    """Waits for the others to have another primary and to commit with it."""
    began = trio.current_time()
    others = [i for i in town.correct if i != primary]

    async def done() -> bool:
        return await town.primary(others) != primary

    await town.until(done, "the others replace their primary", 20 * TIMEOUT_S)
    took_s = trio.current_time() - began
    await trio.sleep(1.0)
    return f"another primary after {took_s:.1f} s"

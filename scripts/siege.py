"""The siege: adversaries attack a real cluster, one after another, while callers put and read.

Says what each did to the throughput, what was lost (nothing may be), and which alarms were raised.
Exits with 1 if the cluster did not hold: something lost or changed, a read of the past, nodes that
differ, one that grew too large, or no commit without help after an attack.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import trio

from besiegers import disks, doubles, history, members, network, processes, strangers
from besiegers.town import Adversary, Fallen, Outcome, town
from cluster import ClusterError
from show import Show

ROOMS = (network, processes, members, strangers, doubles, disks)
ADVERSARIES = [adversary for module in ROOMS for adversary in module.room.adversaries]


class Siege:
    """`chosen` adversaries, in order; a town that has fallen is replaced by a new one."""

    def __init__(self, chosen: Sequence[Adversary], directory: Path, seed: int) -> None:
        self.show = Show()
        self.outcomes: list[Outcome] = []
        self.caught = ""
        self._chosen, self._directory, self._seed = list(chosen), directory, seed

    @property
    def held(self) -> bool:
        all_came = len(self.outcomes) == len(self._chosen)
        return all_came and bool(self.caught) and not any(o.wrong for o in self.outcomes)

    async def run(self) -> None:
        self.show.step(HEAD)
        towns = 0
        while len(self.outcomes) < len(self._chosen):
            towns += 1
            folder = self._directory / f"town{towns}"
            folder.mkdir()
            self.show.step(f"four nodes in {folder}")
            async with town(folder, self._seed) as besieged:
                while len(self.outcomes) < len(self._chosen):
                    adversary = self._chosen[len(self.outcomes)]
                    self.show.now(f"{adversary.name}: {adversary.what}")
                    outcome = await besieged.besiege(adversary)
                    self.outcomes.append(outcome)
                    self.show.step(line(outcome))
                    for words in outcome.alarms:
                        self.show.step(f"    alarm about {words}")
                    for words in outcome.wrong:
                        self.show.event(f"    {words}")
                    if outcome.wrong:
                        break
                else:
                    self.caught = await history.canary(besieged)
                    self.show.step(f"a stale read would be noticed: {self.caught}")


class History:
    """One town, one long history, and the checker's canary."""

    def __init__(self, operations: int, directory: Path, seed: int) -> None:
        self.show = Show()
        self.outcomes: list[Outcome] = []
        self.caught = ""
        self._operations, self._directory, self._seed = operations, directory, seed

    @property
    def held(self) -> bool:
        return bool(self.caught) and not any(o.wrong for o in self.outcomes)

    async def run(self) -> None:
        async with town(self._directory, self._seed, history.CALLERS, 0.0) as besieged:
            try:
                outcome = await history.record(besieged, self._operations, self.show)
                self.outcomes.append(outcome)
                self.show.step(f"{outcome.remark}; {outcome.during:.0f} a second")
                for words in outcome.wrong:
                    self.show.event(words)
                self.caught = await history.canary(besieged)
                self.show.step(f"a stale read is noticed: {self.caught}")
            except Fallen as fallen:
                self.show.event(str(fallen))


HEAD = (
    f"{'adversary':<22}{'before':>7}{'during':>7}{'after':>7}{'pause':>8}{'again':>8}"
    f"{'acked':>7}{'lost':>5}{'views':>6}{'MB':>5}  outcome"
)


def line(outcome: Outcome) -> str:
    o = outcome
    said = "FALLEN" if o.wrong else o.remark or "held"
    return (
        f"{o.name:<22}{o.before:>5.0f}/s{o.during:>5.0f}/s{o.after:>5.0f}/s{o.pause_s:>6.1f} s"
        f"{o.recovery_s:>6.1f} s{o.acknowledged:>7}{o.lost:>5}{o.views:>6}{o.rss_mb_max:>5.0f}"
        f"  {said}"
    )


async def until_told(run: Callable[[], Awaitable[None]]) -> int | None:
    """Runs to the end, or until a signal ends it in order: then its number."""
    told: list[int] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for number in signals:
                    told.append(number)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(heed)
            await run()
            nursery.cancel_scope.cancel()
    return told[0] if told else None


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/siege", description=__doc__)
    parser.add_argument("--list", action="store_true", help="say which adversaries there are")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="these adversaries")
    parser.add_argument("--quick", action="store_true", help="one of each kind or so")
    parser.add_argument("--history", action="store_true", help="no table: one long history")
    parser.add_argument(
        "--operations", metavar="N", type=int, default=100_000, help="in that history"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of all that is chosen")
    parser.add_argument("--keep", action="store_true", help="keep the homes and logs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the outcomes there")
    options = parser.parse_args()
    unknown = set(options.only) - {adversary.name for adversary in ADVERSARIES}
    if unknown:
        parser.error(f"there is no adversary {', '.join(sorted(unknown))}; see --list")
    return options


def main() -> int:
    options = parse()
    if options.list:
        for adversary in ADVERSARIES:
            print(f"{adversary.room:<16}{adversary.name:<22}{adversary.what}")
        return 0
    chosen = [
        a
        for a in ADVERSARIES
        if (not options.only or a.name in options.only) and (not options.quick or a.quick)
    ]
    directory = Path(tempfile.mkdtemp(prefix="aegis-siege-"))
    siege: Siege | History
    if options.history:
        siege = History(options.operations, directory, options.seed)
        title = f"A history of {options.operations} operations, seed {options.seed}"
        good = "linearizable, nothing lost, and the canary is caught"
    else:
        siege = Siege(chosen, directory, options.seed)
        title = f"The siege: {len(chosen)} adversaries, seed {options.seed}"
        good = f"held against all {len(chosen)}: nothing lost, all nodes equal"
    siege.show.title(title)
    ended_by: int | None = None
    try:
        ended_by = trio.run(until_told, siege.run, strict_exception_groups=True)
    except* (ClusterError, Fallen) as group:
        siege.show.bad(str(_innermost(group)))
    finally:
        if options.json:
            report = {"seed": options.seed, "outcomes": [asdict(o) for o in siege.outcomes]}
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        if options.keep:
            siege.show.step(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
    if ended_by is not None:
        return 128 + ended_by
    if siege.held:
        siege.show.good(good)
        return 0
    siege.show.bad("not held")
    return 1


if __name__ == "__main__":
    sys.exit(main())

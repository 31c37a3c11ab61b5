"""Whether an observer of the line tells an idle link from one under load, at each security level.

    observation = Observation()
    observation.start()
    for found in observation.findings(["HIGH", "STANDARD"]):
        print(found.verdict)
    observation.stop()

Everything is real: tors, onion services, the nodes' links, sessions and schedules, and a tap on
the TCP side of each board's tor (`tap`).  Each watched link has a tor to itself, so its line has
that link and what tor adds; what the boards do there, `pairs` decides by chance and tells
afterwards, and `guess` guesses.  STANDARD, which sends when there is something to say, is the
control: if the observer failed there too, that he fails elsewhere would mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import guess
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from cluster import ending_in_order, free_ports
from guess import Verdict
from pairs import Place, Plan, Window
from show import Show
from tornet import TorNetwork
from tors import PATIENCE_S, Client, TorNetworkError, Torrc, hush

HERE = Path(__file__).parent
#: So many boards dial one hub, as long as it lets so many in that have yet to prove who they are.
BOARDS_MAX = 26
#: Windows between two changes of what a board does.
IN_A_PHASE = 3
SECONDS_A_DAY = 86_400
CONTROL = "STANDARD"
NAMES = tuple(level.value for level in SecurityLevel)
#: PARANOID pins twelve, and needs others for the ends of circuits.
RELAYS = 16


@dataclass(frozen=True)
class Arm:
    """Links of one level; `share`: how many windows of it there are for each one asked for."""

    name: str
    links: int
    share: float = 1.0

    @property
    def level(self) -> SecurityLevel:
        return SecurityLevel(self.name)


@dataclass(frozen=True)
class Finding:
    """What was found of one arm.

    `idle_bytes`, `busy_bytes`: on the TCP side of one link's tor in a day, both directions;
    `budget_bytes`: the level's own figure, of cells.  `frames`: for each board, how long it was
    watched in seconds, and how many frames it sent meanwhile.
    """

    name: str
    verdict: Verdict
    idle_bytes: float
    busy_bytes: float
    budget_bytes: int
    frames: Sequence[tuple[float, int]]

    @property
    def holds(self) -> bool:
        """Whether the observer sees what he may: at most chance, or nearly all of the control."""
        return self.verdict.right > 0.95 if self.name == CONTROL else self.verdict.is_chance

    def rows(self) -> list[tuple[str, str]]:
        budget, idle, busy = (
            f"{size / 1e6:.1f} MB" for size in (self.budget_bytes, self.idle_bytes, self.busy_bytes)
        )
        return [
            (self.name, str(self.verdict)),
            ("", f"a link and day: {idle} idle, {busy} under load; budget: {budget} of cells"),
        ]


class Observation:
    """Watched links on a Tor network of their own; `look` again for fresh windows.

    windows: at least so many of each level in one look, and an eighth of that of the control.
    names: the levels.  links: so many of each, and an eighth of that of the control.
    directory: None for one of its own; else what was seen stays there.  stress: so many processes
    run beside it that do nothing but that.
    """

    def __init__(
        self,
        windows: int = 2_401,
        *,
        names: Container[str] = NAMES,
        links: int = 140,
        window_s: float = 4.0,
        directory: Path | None = None,
        stress: int = 0,
        say: Callable[[str], None] = hush,
    ) -> None:
        # Whoever is through first is judged while the others go on.
        arms = (
            Arm(CONTROL, max(10, links // 8), 1 / 8),
            Arm("PARANOID", links),
            Arm("HIGH", links),
        )
        self.arms = tuple(arm for arm in arms if arm.name in names)
        self._windows, self._window_s, self._stress, self._say = windows, window_s, stress, say
        bridge = any(levels.TABLE[arm.level].bridges for arm in self.arms)
        self._network = TorNetwork(directory, relays=RELAYS, bridge=bridge, say=say)
        self._seen = Path()
        self._pairs: dict[str, list[subprocess.Popen[bytes]]] = {}

    def start(self) -> None:
        """Returns when every link is up; leaves nothing running when it fails."""
        self._network.start()
        try:
            self._seen = self._network.directory / "seen"
            places = self._clients(self._tap())
            for arm in self.arms:
                self._pairs[arm.name] = [self._pair(arm, *each) for each in places[arm.name]]
            for arm in self.arms:
                for process in self._pairs[arm.name]:
                    self._heard(process, PATIENCE_S)
                self._say(f"{arm.links} links of {arm.name} are up")
            for number in range(self._stress):
                self._network.beside(f"stress{number}", "sh", "-c", "while :; do :; done")
        except BaseException:
            self.stop()
            raise

    def findings(self, names: Iterable[str]) -> list[Finding]:
        """Look at these levels; at one that does not hold, once more: the last look counts.

        Of one hundred honest intervals of 95 % five miss the truth, so one that misses shows
        nothing yet.  A level that hides all is missed twice in a row in one of 400 runs; one that
        lets 55 % be guessed, in nearly all.  This rule stands before any figure is known.
        """
        wanted = list(names)
        found = {each.name: each for each in self.look(wanted)}
        missed = [name for name in wanted if not found[name].holds]
        if missed:
            self._say(f"once more, on fresh windows: {', '.join(missed)}")
            found |= {each.name: each for each in self.look(missed)}
        return [found[name] for name in wanted]

    def look(self, names: Collection[str]) -> list[Finding]:
        """Fresh windows of these levels, all at once, and what an observer makes of them."""
        wanted = [arm for arm in self.arms if arm.name in names]
        patience_s = 0.0
        for arm in wanted:
            plan = self._plan(arm)
            # Under load a phase ends with the last answer, which may take as long as its windows.
            patience_s = max(patience_s, 4 * plan.phases * plan.windows * plan.window_s)
            for process in self._pairs[arm.name]:
                _tell(process, plan)
        found = []
        for arm in wanted:
            told = [json.loads(self._heard(each, patience_s)) for each in self._pairs[arm.name]]
            found.append(self._finding(arm, told))
            self._say(f"{arm.name}: {found[-1].verdict}")
        return found

    def stop(self) -> None:
        """Ends everything at once; safe to call at any time, any number of times."""
        self._network.stop()

    def _plan(self, arm: Arm) -> Plan:
        windows = math.ceil(self._windows * arm.share)
        phases = 2 * math.ceil(windows / (2 * IN_A_PHASE * arm.links))
        return Plan(phases, IN_A_PHASE, self._window_s)

    def _finding(self, arm: Arm, told: Sequence[Any]) -> Finding:
        windows = [Window(*window) for each in told for window in each["windows"]]
        with (self._network.directory / f"{arm.name}.windows").open("a") as file:
            file.writelines(json.dumps(window) + "\n" for window in windows)
        seen = guess.read(self._seen)
        # A tor that has just begun has much to do of its own.
        begins = sorted(window.begins_s for window in windows)
        later = [window for window in windows if window.begins_s >= begins[len(begins) // 2]]
        idle, busy = (
            guess.bytes_a_second([w for w in later if w.is_busy == is_busy], seen) * SECONDS_A_DAY
            for is_busy in (False, True)
        )
        return Finding(
            arm.name,
            guess.judge(windows, seen),
            idle,
            busy,
            levels.TABLE[arm.level].shape.link_bytes_a_day,
            [(seconds, count) for each in told for seconds, count in each["frames"]],
        )

    # --- its processes ------------------------------------------------------------------------

    def _tap(self) -> str:
        (port,) = free_ports(1)
        words = [sys.executable, str(HERE / "tap.py"), str(port), str(self._seen)]
        tap = self._network.beside("tap", *words)
        self._heard(tap, PATIENCE_S)
        return f"127.0.0.1:{port}"

    def _clients(self, proxy: str) -> dict[str, list[tuple[Place, list[Place]]]]:
        """For each arm its hubs, each with its boards; the tors of boards are watched."""
        places: dict[str, list[tuple[Place, list[Place]]]] = {}
        for arm in self.arms:
            options: Torrc = dict(levels.torrc_options(arm.level))
            if levels.TABLE[arm.level].bridges:
                options = {**options, **self._network.torrc_bridged}
            places[arm.name] = []
            for first in range(0, arm.links, BOARDS_MAX):
                boards = []
                for _ in range(first, min(first + BOARDS_MAX, arm.links)):
                    line = len(self._network.clients)
                    watched = {"HTTPSProxy": proxy, "HTTPSProxyAuthenticator": f"{line}:tap"}
                    torrc = {**options, **watched}
                    tor = self._network.client(f"t{line}", torrc=torrc, wait=False)
                    boards.append(_place(tor, line))
                name = f"t{len(self._network.clients)}"
                hub = _place(self._network.client(name, torrc=options, wait=False))
                places[arm.name].append((hub, boards))
        for client in self._network.clients:
            client.wait()
        self._say(f"{len(self._network.clients)} tors have circuits")
        return places

    def _pair(self, arm: Arm, hub: Place, boards: list[Place]) -> subprocess.Popen[bytes]:
        folder = Path(tempfile.mkdtemp(dir=self._network.directory))
        orders = {
            "level": arm.name,
            "folder": str(folder),
            "hub": hub,
            "boards": boards,
        }
        process = self._network.beside(folder.name, sys.executable, str(HERE / "pairs.py"))
        _tell(process, orders)
        return process

    def _heard(self, process: subprocess.Popen[bytes], patience_s: float) -> bytes:
        """The next line that it says."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], patience_s)
        line = process.stdout.readline() if ready else b""
        if not line:
            self._network.check()
            why = "ended" if ready else f"says nothing for {patience_s:.0f} s"
            logs = sorted(self._network.directory.glob("*.log"))
            said = "\n".join(path.read_text()[-600:] for path in logs)
            raise TorNetworkError(f"{process.args!r} {why}:\n{said}")
        return line


def _place(tor: Client, line: int = -1) -> Place:
    return Place(f"unix:{tor.control_path}", f"unix:{tor.socks_path}", line)


def _tell(process: subprocess.Popen[bytes], order: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/observe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--level",
        choices=NAMES,
        nargs="+",
        action="extend",
        metavar="LEVEL",
        help=f"the SECURITY_LEVEL, or several: {' '.join(NAMES)}",
    )
    parser.add_argument("--windows", type=int, default=2_401, metavar="N", help="of each level")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of one window")
    parser.add_argument("--links", type=int, default=140, metavar="N", help="of each level")
    parser.add_argument("--stress", type=int, default=0, metavar="N", help="busy loops beside it")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="leave what was seen there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    show = Show()
    names = options.level or NAMES
    observation = Observation(
        options.windows,
        names=names,
        links=options.links,
        window_s=options.seconds,
        directory=options.directory and options.directory.resolve(),
        stress=options.stress,
        say=show.step,
    )
    with ending_in_order():
        try:
            observation.start()
            findings = observation.findings(names)
        except TorNetworkError as error:
            show.bad(f"FAILED: {error}")
            return 1
        finally:
            observation.stop()
    show.title("  idle, or under load?  What an observer of the line guesses right")
    show.rows([row for found in findings for row in found.rows()])
    if options.json:
        figures = {found.name: asdict(found) for found in findings}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if not all(found.holds for found in findings):
        show.bad("FAILED: an observer sees more, or of the control less, than he should")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

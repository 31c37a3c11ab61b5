"""Where the time of a put goes over Tor: four real nodes, each with a real tor, near and far.

One caller puts through a backup and through the primary; each node's log says when each step of a
batch was (see `aegis_edge.replication.steps`), by the one clock that all of them share here.  Then
64 callers, and in the end the primary is killed.  Nothing here is computed from a model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aegis_edge.client import ClientError
from cluster import Cluster, ClusterError, Node, ending_in_order
from show import Show
from tornet import TorNetwork
from tors import TorNetworkError

LEVELS = ("STANDARD", "HIGH")
CALLERS = 64
PATIENCE_S = 300.0
#: Messages of one batch among four nodes: the proposal to three, three prepares and four commits.
PROTOCOL_MESSAGES = 3 + 9 + 12
#: The steps of a put, in order: from one moment to the next, as seen at the node that was asked.
STEPS = ("call", "bundle", "proposal", "prepare", "commit", "execute", "answer")
_LINE = re.compile(r"steps of batch (\d+): (.*)$", re.MULTILINE)

#: When a node reached which step of which batch.
Batches = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Put:
    """One that was answered: when it was asked for and when it was done."""

    asked: float
    answered: float

    @property
    def took_ms(self) -> float:
        return (self.answered - self.asked) * 1000


def batches(log: str) -> Batches:
    """What a node's log says of its batches."""
    return {
        int(number): {name: float(at) for name, at in (w.split("=") for w in words.split())}
        for number, words in _LINE.findall(log)
    }


def split(put: Put, asked: Batches, primary: Batches) -> list[float]:
    """The milliseconds of each of `STEPS`; `asked`: what the node says that was asked for it."""
    number, mine = next(
        (number, batch)
        for number, batch in asked.items()
        if put.asked <= batch.get("bundled", 0) <= put.answered
    )
    moments = [
        put.asked,
        mine["bundled"],
        primary[number]["accepted"],
        *(mine[name] for name in ("accepted", "prepared", "committed", "executed")),
        put.answered,
    ]
    return [(after - before) * 1000 for before, after in pairwise(moments)]


def ways_ms(primary: Batches, backups: Sequence[Batches]) -> list[float]:
    """What each proposal took from the primary to each of the others."""
    return [
        (theirs[number]["accepted"] - batch["accepted"]) * 1000
        for theirs in backups
        for number, batch in primary.items()
        if "accepted" in batch and "accepted" in theirs.get(number, {})
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Latency:
    """One level at one distance: a cluster of its own."""

    def __init__(
        self, directory: Path, network: TorNetwork, level: str, delay_ms: float, say: Show
    ) -> None:
        self.level, self.delay_ms, self.show = level, delay_ms, say
        self.figures: dict[str, Any] = {"level": level, "delay_ms": delay_ms}
        torrc = [
            f"{name} {value}\n"
            for name, values in network.torrc.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        self.cluster = Cluster(
            directory,
            torrc="".join(torrc),
            patience_s=PATIENCE_S,
            AEGIS_EDGE_TRANSPORT="tor",
            AEGIS_EDGE_LOG_LEVEL="debug",
            SECURITY_LEVEL=level,
        )

    def play(self, options: argparse.Namespace) -> None:
        self.start()
        self.one_caller(options.puts)
        if options.seconds:
            self.many_callers(options.seconds)
        if options.idle:
            self.idle(options.idle)
        self.lose_primary()

    def start(self) -> None:
        self.cluster.make()
        began = time.monotonic()
        self.cluster.start()
        self.show.now("waiting until every node is linked to every other")
        self.cluster.wait_ready()
        self.figures["linked_s"] = round(time.monotonic() - began, 1)
        self.step(f"four nodes linked after {self.figures['linked_s']:.0f} s")

    def primary(self) -> Node:
        name = self.cluster.nodes[0].status()["primary_name"]
        return next(node for node in self.cluster.nodes if node.name == name)

    def backups(self) -> list[Node]:
        primary = self.primary()
        return [node for node in self.cluster.nodes if node is not primary]

    def one_caller(self, puts: int) -> None:
        """A caller of a backup, then one of the primary: what each step took."""
        for name, node in (("backup", self.backups()[0]), ("primary", self.primary())):
            said, view = self._messages(), node.status()["view"]
            done = [self._put(node, f"{name}/{number}") for number in range(puts)]
            self._settle()
            said = self._messages() - said
            leader, others = self.primary(), self.backups()
            at_primary = batches(leader.log.read_text())
            asked = batches(node.log.read_text())
            steps = [split(put, asked, at_primary) for put in done]
            took = [put.took_ms for put in done]
            way = statistics.median(
                ways_ms(at_primary, [batches(each.log.read_text()) for each in others])
            )
            least = PROTOCOL_MESSAGES + (node is not leader)
            self.figures[name] = {
                "puts": puts,
                "p50_ms": quantile(took, 0.5),
                "p99_ms": quantile(took, 0.99),
                "one_way_ms": way,
                "delays": quantile(took, 0.5) / way,
                "steps_ms": dict(
                    zip(STEPS, map(statistics.mean, zip(*steps, strict=True)), strict=True)
                ),
                "messages_a_put": said / puts,
                "messages_least": least,
                "views_changed": node.status()["view"] - view,
            }
            self.step(
                f"{puts} puts through {'a' if node is not leader else 'the'} {name}: p50"
                f" {quantile(took, 0.5):.0f} ms, p99 {quantile(took, 0.99):.0f} ms,"
                f" {said / puts:.1f} messages each ({least} at least)"
            )

    def many_callers(self, seconds: float) -> None:
        """Closed loops through the primary, and through a backup."""
        for name, node in (("primary", self.primary()), ("backup", self.backups()[0])):
            before, said = node.status(), self._messages()
            command = [sys.executable, str(Path(__file__).with_name("load.py")), "pipeline"]
            command += [str(node.socket), f"many/{name}", "--callers", str(CALLERS)]
            command += ["--seconds", str(seconds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ClusterError(f"the callers failed:\n{done.stderr[-2000:]}")
            figures = json.loads(done.stdout)
            after = node.status()
            rounds = after["batches"] - before["batches"]
            figures["batches"] = rounds
            figures["batches_a_s"] = rounds / figures["seconds"]
            figures["puts_a_batch"] = figures["puts"] / max(1, rounds)
            figures["messages_a_batch"] = (self._messages() - said) / max(1, rounds)
            figures["views_changed"] = after["view"] - before["view"]
            self.figures[f"{name}_{CALLERS}"] = figures
            self.step(
                f"{CALLERS} callers of the {name}: {figures['ops_per_s']:.1f} puts/s in"
                f" {figures['batches_a_s']:.2f} batches/s of {figures['puts_a_batch']:.0f},"
                f" p50 {figures['p50_ms']:.0f} ms"
            )

    def idle(self, seconds: float) -> None:
        """The first put after a silence."""
        time.sleep(seconds)
        took = self._put(self.backups()[0], "idle").took_ms
        self.figures["after_idle_ms"] = took
        self.step(f"the first put after {seconds:g} s of silence: {took:.0f} ms")

    def lose_primary(self) -> None:
        """It is killed; what the next put takes, and the one after that."""
        self._settle()  # what callers before left to fetch would travel first
        victim, view = self.primary(), self.primary().status()["view"]
        node = self.backups()[0]
        victim.kill()
        took = self._put(node, "killed").took_ms
        again = self._put(node, "after").took_ms
        views = node.status()["view"] - view
        self.figures |= {"killed_ms": took, "after_killed_ms": again, "killed_views": views}
        self.step(
            f"the primary killed: the next put {took:.0f} ms (view + {views}), then {again:.0f} ms"
        )

    def _put(self, node: Node, key: str) -> Put:
        with node.client(PATIENCE_S) as client:
            asked = time.monotonic()
            client.put(f"latency/{key}", b"v" * 100)
            return Put(asked, time.monotonic())

    def _settle(self) -> None:
        """Returns when every node has executed, and written into its log, what any of them has."""
        top = max(node.status()["executed"] for node in self.cluster.nodes)
        for node in self.cluster.nodes:
            self.cluster.wait(node, lambda s: s["batches"] >= top, f"execute batch {top}")

    def _messages(self) -> int:
        return sum(
            node.status()["messages_out"] for node in self.cluster.nodes if node.process is not None
        )

    def step(self, text: str) -> None:
        self.show.step(f"{self.level}, {self.delay_ms:g} ms a hop: {text}")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """What was found, a line for each level, distance and node that was asked."""
    width = 9
    head = f"{'level':9}{'ms a hop':>9} {'asked':8}{'p50 ms':>{width}}{'p99 ms':>{width}}"
    head += f"{'one way':>{width}}{'delays':>{width}}" + "".join(f"{s:>{width}}" for s in STEPS)
    lines = [head + f"{'puts/s':>{width}}"]
    for run in runs:
        for name in ("backup", "primary"):
            one, many = run[name], run.get(f"{name}_{CALLERS}", {})
            total = sum(one["steps_ms"].values())
            shares = [f"{one['steps_ms'][step] / total:.1%}" for step in STEPS]
            line = f"{run['level']:9}{run['delay_ms']:>9g} {name:8}"
            line += f"{one['p50_ms']:>{width}.0f}{one['p99_ms']:>{width}.0f}"
            line += f"{one['one_way_ms']:>{width}.0f}{one['delays']:>{width}.1f}"
            line += "".join(f"{share:>{width}}" for share in shares)
            lines.append(line + f"{many.get('ops_per_s', float('nan')):>{width}.1f}")
    return "\n".join(lines)


def measure(
    network: TorNetwork, options: argparse.Namespace, directory: Path, show: Show
) -> list[dict[str, Any]]:
    runs = []
    for level in options.level or LEVELS:
        for delay_ms in options.delay:
            network.delay(delay_ms)
            place = directory / f"{level.lower()}-{delay_ms:g}"
            place.mkdir()
            run = Latency(place, network, level, delay_ms, show)
            try:
                run.play(options)
            except ClientError as error:
                raise ClusterError(f"{level} at {delay_ms:g} ms a hop: {error}") from error
            finally:
                run.cluster.stop()
            runs.append(run.figures)
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/latency", description=__doc__)
    parser.add_argument(
        "--level",
        choices=LEVELS,
        nargs="+",
        action="extend",
        metavar="LEVEL",
        help=f"the SECURITY_LEVEL, or several: {' '.join(LEVELS)}",
    )
    parser.add_argument("--delay", type=float, nargs="+", default=[0, 200], metavar="MS")
    parser.add_argument("--puts", type=int, default=20, metavar="N", help="of one caller")
    parser.add_argument(
        "--seconds", type=float, default=30.0, metavar="S", help="of 64 callers; 0: none"
    )
    parser.add_argument("--idle", type=float, default=0.0, metavar="S", help="and a put after that")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="leave homes and logs there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    show = Show()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="aegis-edge-latency."))
    directory.mkdir(parents=True, exist_ok=True)
    network = TorNetwork(delay_ms=0, say=show.now)
    with ending_in_order():
        try:
            network.start()
            runs = measure(network, options, directory, show)
        except (ClusterError, TorNetworkError) as error:
            show.bad(f"FAILED: {error}")
            return 1
        finally:
            network.stop()
            if options.directory is None:
                shutil.rmtree(directory, ignore_errors=True)
    print("\n" + table(runs))
    if options.json:
        machine = {"cores": os.cpu_count(), "load": os.getloadavg()}
        options.json.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

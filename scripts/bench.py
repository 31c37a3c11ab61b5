"""Measures aegis-edge and, in the same run, etcd: alternating rounds, the same disk, one machine.

Each side's nodes are processes; its callers are another one (see `load`).  A put counts when its
caller has the answer: durable on a quorum.  etcd's callers talk to its leader, ours to the primary.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import etcd
from cluster import Cluster, ClusterError, ending_in_order
from sizes import Sizes

CALLERS = (1, 8, 64)
KEYS = 100_000
HERE = Path(__file__).parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MB = 1e6


@dataclass(frozen=True)
class Sample:
    """Processes at one moment: CPU seconds and bytes written since their start, memory now."""

    at: float
    cpu_s: float
    written_bytes: int
    rss_bytes: list[int]

    @classmethod
    def of(cls, pids: list[int]) -> Sample:
        cpu_ticks = written = 0
        rss = []
        for pid in pids:
            proc = Path(f"/proc/{pid}")
            fields = (proc / "stat").read_text().rpartition(")")[2].split()
            cpu_ticks += int(fields[11]) + int(fields[12])
            written += _number(proc / "io", "write_bytes:")
            rss.append(_number(proc / "status", "VmRSS:") * 1024)
        return cls(time.monotonic(), cpu_ticks / TICKS_PER_S, written, rss)


def busy_s() -> float:
    """CPU seconds that the whole machine has spent on anything."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split(None, 9)[1:9]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields) - idle - waiting) / TICKS_PER_S


def _number(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


@dataclass
class Side:
    """One of the two: its processes, where callers connect, and what was measured."""

    name: str
    pids: list[int]
    target: str
    kinds: tuple[str, ...]
    directory: Path
    runs: dict[tuple[str, int], list[dict[str, float]]] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    full: dict[str, float] = field(default_factory=dict)
    puts: int = 0
    prefixes: int = 0

    def load(self, kind: str, callers: int, *more: str) -> dict[str, float]:
        """Runs one loop of callers; its figures, and what the nodes spent on it."""
        self.prefixes += 1
        command = [sys.executable, str(HERE / "load.py"), kind, self.target]
        command += [f"bench/{self.prefixes:04d}", "--callers", str(callers), *more]
        before, busy = Sample.of(self.pids), busy_s()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after, busy = Sample.of(self.pids), busy_s() - busy
        if done.returncode:
            raise ClusterError(f"{self.name}: the callers failed:\n{done.stderr[-2000:]}")
        figures: dict[str, float] = json.loads(done.stdout)
        puts = figures["puts"]
        self.puts += int(puts)
        ours = after.cpu_s - before.cpu_s + figures["client_cpu_s"]
        span = (after.at - before.at) * (os.cpu_count() or 1)
        return figures | {
            # What others (the idle side among them) took of this machine meanwhile.
            "foreign_percent": max(0.0, busy - ours) / span * 100,
            "cpu_s_per_1000": (after.cpu_s - before.cpu_s) / puts * 1000,
            "written_bytes_per_put": (after.written_bytes - before.written_bytes)
            / puts
            / len(self.pids),
            "rss_mb": statistics.mean(after.rss_bytes) / MB,
        }

    def row(self, kind: str, callers: int) -> dict[str, float]:
        """The medians of all rounds."""
        runs = self.runs[kind, callers]
        return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure_idle(sides: list[Side], seconds: float) -> None:
    before = [Sample.of(side.pids) for side in sides]
    time.sleep(seconds)
    for side, was in zip(sides, before, strict=True):
        now = Sample.of(side.pids)
        span, nodes = now.at - was.at, len(side.pids)
        side.idle = {
            "cpu_percent_per_node": (now.cpu_s - was.cpu_s) / span / nodes * 100,
            "written_bytes_per_s_per_node": (now.written_bytes - was.written_bytes) / span / nodes,
            "rss_mb_mean": statistics.mean(now.rss_bytes) / MB,
            "rss_mb_max": max(now.rss_bytes) / MB,
        }


def measure_load(sides: list[Side], rounds: int, seconds: float) -> None:
    plan = [(side, kind) for side in sides for kind in side.kinds]
    for number in range(rounds):
        for callers in CALLERS:
            # Every other round goes the other way, so that a drift of the machine favours nobody.
            for side, kind in plan if number % 2 == 0 else reversed(plan):
                figures = side.load(kind, callers, "--seconds", str(seconds))
                side.runs.setdefault((kind, callers), []).append(figures)
                progress(
                    f"round {number + 1} of {rounds}: {kind}, {callers} callers:"
                    f" {figures['ops_per_s']:.0f} puts/s, p50 {figures['p50_ms']:.2f} ms"
                )


def measure_full(sides: list[Side], keys: int) -> None:
    """Memory and disk when there are `keys` keys."""
    for side in sides:
        while side.puts < keys:
            more = str(keys - side.puts)
            side.load(side.kinds[0], 64, "--count", more, "--seconds", "600")
            progress(f"{side.name}: {side.puts} keys")
        now = Sample.of(side.pids)
        size = sum(path.stat().st_size for path in side.directory.rglob("*") if path.is_file())
        side.full = {
            "keys": side.puts,
            "rss_mb_mean": statistics.mean(now.rss_bytes) / MB,
            "rss_mb_max": max(now.rss_bytes) / MB,
            "disk_mb_per_node": size / len(side.pids) / MB,
        }


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


# --- what is shown --------------------------------------------------------------------------

LABELS = {
    "pipeline": "aegis-edge, pipeline",
    "tasks": "aegis-edge, Trio tasks",
    "http": "aegis-edge, HTTP",
    "etcd": "etcd, gRPC",
}
COLUMNS = (
    ("puts/s", "ops_per_s", "{:,.0f}"),
    ("p50 ms", "p50_ms", "{:.2f}"),
    ("p99 ms", "p99_ms", "{:.2f}"),
    ("CPU s/1000", "cpu_s_per_1000", "{:.2f}"),
    ("B/put/node", "written_bytes_per_put", "{:,.0f}"),
    ("MB/node", "rss_mb", "{:.0f}"),
    ("foreign %", "foreign_percent", "{:.0f}"),
)


def table(sides: list[Side]) -> str:
    lines = [f"{'callers':>7}  {'':24}" + "".join(f"{title:>12}" for title, _, _ in COLUMNS)]
    for callers in CALLERS:
        for side in sides:
            for kind in side.kinds:
                row = side.row(kind, callers)
                cells = "".join(f"{form.format(row[name]):>12}" for _, name, form in COLUMNS)
                lines.append(f"{callers:>7}  {LABELS[kind]:24}{cells}")
        if len(sides) == 2:
            ours, theirs = sides[0].row(sides[0].kinds[0], callers), sides[1].row("etcd", callers)
            cells = "".join(f"{ratio(ours[name], theirs[name]):>12}" for _, name, _ in COLUMNS[:-1])
            lines.append(f"{'':7}  {'ratio of pipeline':24}{cells}")
        lines.append("")
    for side in sides:
        idle, full = side.idle, side.full
        lines += [
            f"{side.name}, {len(side.pids)} nodes, idle: {idle['cpu_percent_per_node']:.2f} % CPU,"
            f" {idle['written_bytes_per_s_per_node']:,.0f} B/s written,"
            f" {idle['rss_mb_mean']:.1f} MB a node",
            f"{side.name}, with {full['keys']:,} keys: {full['rss_mb_mean']:.1f} MB of memory and"
            f" {full['disk_mb_per_node']:.1f} MB of disk a node",
        ]
    return "\n".join(lines)


def ratio(ours: float, theirs: float) -> str:
    return f"x {ours / theirs:.2f}" if theirs else "-"


def goals(sides: list[Side]) -> list[tuple[bool, str]]:
    """What the project set out to reach, and whether this run did."""
    ours = sides[0]
    one, many = ours.row("pipeline", 1), ours.row("pipeline", 64)
    found = [
        (one["p50_ms"] <= 5, f"p50 of one caller {one['p50_ms']:.2f} ms, at most 5"),
        _at_most("idle MB a node", ours.idle["rss_mb_max"], 40),
        _at_most(f"MB a node with {ours.full['keys']:,} keys", ours.full["rss_mb_max"], 70),
        _at_most("idle % of one core", ours.idle["cpu_percent_per_node"], 0.5),
        _at_most("idle B/s written", ours.idle["written_bytes_per_s_per_node"], 0),
    ]
    if len(sides) == 2:
        rate = sides[1].row("etcd", 64)["ops_per_s"]
        text = f"puts/s of 64 callers {many['ops_per_s']:,.0f}, at least etcd's {rate:,.0f}"
        found.insert(0, (many["ops_per_s"] >= rate, text))
    return found


def _at_most(name: str, value: float, bound: float) -> tuple[bool, str]:
    return value <= bound, f"{name} {value:.2f}, at most {bound:g}"


def report(sides: list[Side], options: argparse.Namespace) -> dict[str, Any]:
    """Everything, for a program to read."""
    return {
        "machine": {"cores": os.cpu_count(), "kernel": os.uname().release},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "etcd_version": etcd.Cluster.version(),
        "goals": [{"reached": reached, "goal": text} for reached, text in goals(sides)],
        "sides": {
            side.name: {
                "nodes": len(side.pids),
                "idle": side.idle,
                "full": side.full,
                "rows": {f"{k}@{n}": side.row(k, n) for k, n in side.runs},
                "runs": {f"{k}@{n}": runs for (k, n), runs in side.runs.items()},
            }
            for side in sides
        },
    }


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: one short round, 10k keys")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of a measurement")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="where the nodes keep their data"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="N", help="another table: clusters of so many nodes"
    )
    parser.add_argument("--no-etcd", action="store_true", help="measure aegis-edge alone")
    options = parser.parse_args(words)
    options.keys, options.idle_s = KEYS, 20.0
    if options.quick:
        options.rounds, options.seconds, options.keys, options.idle_s = 1, 2.0, 10_000, 5.0
    return options


def measure_sizes(options: argparse.Namespace) -> int:
    """The other table: see `sizes`."""
    directory = Path(tempfile.mkdtemp(prefix="aegis-edge-bench.", dir=options.directory))
    (directory / "etcd").mkdir()
    other = etcd.Cluster(directory / "etcd")
    beside = other if other.version() and not options.no_etcd else None
    measured = Sizes(
        directory,
        options.seconds,
        lambda name, pids, target, folder: Side(name, pids, target, (), folder),
        progress,
    )
    with ending_in_order():
        try:
            if beside is not None:
                beside.start()
            for nodes in options.sizes:
                measured.measure(nodes, beside)
        except (ClusterError, etcd.EtcdError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
        finally:
            other.stop()
            shutil.rmtree(directory, ignore_errors=True)
    print(measured.table() + "\n")
    for reached, text in measured.goals():
        print(f"{'reached' if reached else 'MISSED '}  {text}")
    if options.json:
        options.json.write_text(json.dumps(measured.report(), indent=2) + "\n")
    return 0


def main() -> int:
    options = options_of()
    if options.sizes:
        return measure_sizes(options)
    directory = Path(tempfile.mkdtemp(prefix="aegis-edge-bench.", dir=options.directory))
    for name in ("aegis", "etcd"):
        (directory / name).mkdir()
    cluster = Cluster(directory / "aegis")
    other = etcd.Cluster(directory / "etcd")
    with ending_in_order():
        try:
            sides = [start(cluster)]
            if other.version() and not options.no_etcd:
                other.start()
                target = str(other.ports[other.leader()])
                sides.append(Side("etcd", other.pids(), target, ("etcd",), other.directory))
            time.sleep(2)  # let both come to rest before idleness is measured
            measure_idle(sides, options.idle_s)
            measure_load(sides, options.rounds, options.seconds)
            measure_full(sides, options.keys)
            check_counts(sides, cluster, other)
        except (ClusterError, etcd.EtcdError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()
            other.stop()
            shutil.rmtree(directory, ignore_errors=True)
    print(table(sides) + "\n")
    for reached, text in goals(sides):
        print(f"{'reached' if reached else 'MISSED '}  {text}")
    if options.json:
        options.json.write_text(json.dumps(report(sides, options), indent=2) + "\n")
    return 0


def start(cluster: Cluster) -> Side:
    cluster.make()
    cluster.start()
    cluster.wait_ready()
    primary = cluster.nodes[0].status()["primary_name"]
    socket = next(node.socket for node in cluster.nodes if node.name == primary)
    kinds = ("pipeline", "tasks", "http")
    pids = [node.process.pid for node in cluster.nodes if node.process is not None]
    return Side("aegis-edge", pids, str(socket), kinds, cluster.directory)


def check_counts(sides: list[Side], cluster: Cluster, other: etcd.Cluster) -> None:
    """What was counted is really there."""
    there = [cluster.nodes[0].status()["revision"], *([other.count_keys()] if sides[1:] else [])]
    for side, count in zip(sides, there, strict=True):
        if count != side.puts:
            raise ClusterError(f"{side.name} holds {count} puts, but acknowledged {side.puts}")


if __name__ == "__main__":
    sys.exit(main())

"""How fast a cluster is as it and its load grow, with the faulty dead, and without its primary.

Knows which sizes, loads and deaths are measured, and how they are shown.  Refuses to know how one
load is measured: `bench` does.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import etcd
from aegis_edge.client import ClientError
from cluster import Cluster, ClusterError

#: Callers of each load; `BULK` is one program that waits for no single put.
CALLERS = (1, 64, 512)
BULK = 2048


@dataclass(frozen=True)
class Row:
    """One load on one cluster.  `dead` of its nodes do not run; CPU is of all that do."""

    side: str
    nodes: int
    dead: int
    callers: int
    ops_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float


@dataclass(frozen=True)
class Change:
    """A primary that was killed: how long the next put through another node took."""

    nodes: int
    next_put_s: float
    timeout_s: float


class Sizes:
    """The figures so far; `side_of` makes what measures the loads of processes."""

    def __init__(self, directory: Path, seconds: float, side_of: Any, progress: Any) -> None:
        self.rows: list[Row] = []
        self.changes: list[Change] = []
        self._directory, self._seconds = directory, seconds
        self._side_of, self._progress = side_of, progress

    def measure(self, nodes: int, other: etcd.Cluster | None) -> None:
        """A cluster of so many, whole, then with as many dead as it bears; and etcd beside it."""
        directory = self._directory / f"n{nodes}"
        directory.mkdir()
        cluster = Cluster(directory, nodes, patience_s=120)
        try:
            cluster.make()
            cluster.start()
            cluster.wait_ready()
            self._loads("aegis-edge", cluster, 0)
            if other is not None:
                self._load_etcd(other)
            faulty = (nodes - 1) // 3
            if faulty:
                self._change(cluster)
                self._kill(cluster, faulty)
                self._loads("aegis-edge", cluster, faulty)
        finally:
            cluster.stop()
            shutil.rmtree(directory, ignore_errors=True)

    # --- loads ----------------------------------------------------------------------------------

    def _loads(self, name: str, cluster: Cluster, dead: int) -> None:
        running = [node for node in cluster.nodes if node.process is not None]
        primary = _settled(cluster)
        target = next(node.socket for node in running if node.name == primary)
        pids = [node.process.pid for node in running if node.process is not None]
        side = self._side_of(name, pids, str(target), cluster.directory)
        for callers in (*CALLERS, BULK):
            self._take(side, "bulk" if callers == BULK else "pipeline", len(pids), dead, callers)

    def _load_etcd(self, other: etcd.Cluster) -> None:
        pids = other.pids()
        side = self._side_of("etcd", pids, str(other.ports[other.leader()]), other.directory)
        for callers in (*CALLERS, BULK):
            self._take(side, "etcd", len(pids), 0, callers)

    def _take(self, side: Any, kind: str, alive: int, dead: int, callers: int) -> None:
        # A prefix of its own, for etcd lives through all sizes.
        side.prefixes = len(self.rows)
        got = side.load(kind, callers, "--seconds", str(self._seconds))
        row = Row(
            side.name,
            alive + dead,
            dead,
            callers,
            got["ops_per_s"],
            0.0 if kind == "bulk" else got["p50_ms"],
            0.0 if kind == "bulk" else got["p99_ms"],
            got["cpu_s_per_1000"],
        )
        self.rows.append(row)
        self._progress(line(row))

    # --- deaths ---------------------------------------------------------------------------------

    def _change(self, cluster: Cluster) -> None:
        """`kill -9` of the primary; it is back when this returns."""
        name = _settled(cluster)
        primary = next(node for node in cluster.nodes if node.name == name)
        other = next(node for node in cluster.nodes if node is not primary)
        with other.client(timeout_s=120.0) as client:
            settings = {each["key"]: each["value"] for each in client.config()["settings"]}
            client.put("sizes/before", b"x")
            primary.kill()
            began = time.monotonic()
            client.put("sizes/after", b"x")
            took_s = time.monotonic() - began
        change = Change(len(cluster.nodes), took_s, float(settings["pbft_timeout"]))
        self.changes.append(change)
        self._progress(
            f"{change.nodes} nodes, the primary killed: next put {change.next_put_s:.2f} s"
        )
        primary.start()
        cluster.wait_ready()

    @staticmethod
    def _kill(cluster: Cluster, count: int) -> None:
        name = _settled(cluster)
        for node in [node for node in cluster.nodes if node.name != name][:count]:
            node.kill()

    # --- what is shown --------------------------------------------------------------------------

    def table(self) -> str:
        head = f"{'nodes':>5}{'dead':>5}{'callers':>9}  {'':12}{'puts/s':>9}{'p50 ms':>9}"
        lines = [head + f"{'p99 ms':>9}{'CPU s/1000':>12}", *map(line, self.rows)]
        lines += [
            f"{change.nodes} nodes, the primary killed: the next put after"
            f" {change.next_put_s:.2f} s, of a time-out of {change.timeout_s:g} s"
            for change in self.changes
        ]
        return "\n".join(lines)

    def goals(self) -> list[tuple[bool, str]]:
        """What four nodes shall reach, and whether these did."""
        ours = {
            r.callers: r for r in self.rows if (r.side, r.nodes, r.dead) == ("aegis-edge", 4, 0)
        }
        if not ours:
            return []
        one, many, bulk = ours[1], ours[64], ours[BULK]
        cpu = [ours[callers].cpu_s_per_1000 for callers in (*CALLERS, BULK)]
        shown = ", ".join(f"{each:.2f}" for each in cpu)
        found = [
            (one.p50_ms <= 3, f"p50 of one caller {one.p50_ms:.2f} ms, at most 3"),
            (bulk.ops_per_s >= 20_000, f"entries/s in bulk {bulk.ops_per_s:,.0f}, at least 20,000"),
            (
                cpu == sorted(cpu, reverse=True),
                f"CPU s for 1,000 puts falls with the load: {shown}",
            ),
        ]
        found += [
            (
                change.next_put_s <= 2 * change.timeout_s,
                f"{change.nodes} nodes: a put {change.next_put_s:.2f} s after the primary's death,"
                f" at most {2 * change.timeout_s:g}",
            )
            for change in self.changes
        ]
        theirs = [r.ops_per_s for r in self.rows if (r.side, r.callers) == ("etcd", 64)]
        if theirs:
            least = 1.5 * sum(theirs) / len(theirs)
            text = (
                f"puts/s of 64 callers {many.ops_per_s:,.0f}, at least 1.5 x etcd's: {least:,.0f}"
            )
            found.insert(0, (many.ops_per_s >= least, text))
        return found

    def report(self) -> dict[str, Any]:
        """Everything, for a program to read."""
        return {
            "seconds": self._seconds,
            "rows": [asdict(row) for row in self.rows],
            "changes": [asdict(change) for change in self.changes],
            "goals": [{"reached": reached, "goal": text} for reached, text in self.goals()],
        }


def line(row: Row) -> str:
    callers = "bulk" if row.callers == BULK else str(row.callers)
    waits = f"{row.p50_ms:>9.2f}{row.p99_ms:>9.2f}" if row.p50_ms else f"{'-':>9}{'-':>9}"
    return (
        f"{row.nodes:>5}{row.dead:>5}{callers:>9}  {row.side:12}{row.ops_per_s:>9,.0f}{waits}"
        f"{row.cpu_s_per_1000:>12.2f}"
    )


def _settled(cluster: Cluster) -> str:
    """The name of the primary in whose view all that run are."""
    deadline = time.monotonic() + 60
    said: Sequence[object] = ()
    while time.monotonic() < deadline:
        try:
            statuses = [node.status() for node in cluster.nodes if node.process is not None]
        except ClientError:
            continue
        said = [(status["view"], status["view_changing"]) for status in statuses]
        if len(set(said)) == 1 and not statuses[0]["view_changing"]:
            return str(statuses[0]["primary_name"])
        time.sleep(0.1)
    raise ClusterError(f"the nodes came to no common view: {said}")

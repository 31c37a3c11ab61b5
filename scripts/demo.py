"""The demonstration: four real processes agree while the one that leads them is killed.

Uses only the command line and the client library, as anybody would.  Exits with 1 if a write that
was acknowledged is missing anywhere, or if two nodes disagree about anything.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aegis_edge.client import Client, ClientError
from cluster import Cluster, ClusterError, Node, ending_in_order
from show import Show
from tornet import TorNetwork
from tors import TorNetworkError

#: Over six hops everything takes longer, and a tor that was killed has to begin anew.
TOR_PATIENCE_S = 240.0
DOCUMENT_BYTES_MAX = 256 * 1024
DOCUMENTS_MAX = 400


@dataclass(frozen=True)
class Tempo:
    """How much is played.  `think_s`: of a caller between two writes, so that two cores carry four
    nodes and this program; `documents_bytes`: of all of them; `patience_s`: of a caller.
    """

    calm_s: float = 4.0
    storm_s: float = 6.0
    back_s: float = 3.0
    think_s: float = 0.01
    callers: str = "abcde"
    documents_bytes: int = 1 << 30
    patience_s: float = 30.0


#: Where a link carries one frame of 480 bytes a second, and a write waits for its turn four times.
SCHEDULED = Tempo(20.0, 30.0, 20.0, 1.0, "a", 3_000, 120.0)


class Disagreement(Exception):
    """The promise is broken: something was lost, or two nodes differ."""


@dataclass
class Acknowledged:
    """What the cluster has promised to keep: key -> (revision, digest of the value)."""

    held: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    retries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: str, value: bytes, revision: int, asked: float) -> None:
        now = time.monotonic()
        with self.lock:
            self.held[key] = (revision, hashlib.sha256(value).digest())
            self.at.append(now)
            self.gaps.append((now - asked, asked))

    def longest_wait(self, since: float) -> float:
        """The longest that any caller waited for one write asked for after, or about, `since`."""
        return max((wait for wait, asked in self.gaps if asked + wait >= since), default=0.0)


class Writer(threading.Thread):
    """A caller of one node: writes, waits for the acknowledgement, writes the next."""

    def __init__(
        self,
        node: Node,
        make: Callable[[int], tuple[str, Any]],
        done: Acknowledged,
        think_s: float,
        patience_s: float,
    ) -> None:
        super().__init__(daemon=True)
        self.node, self.stopping, self.failure = node, threading.Event(), ""
        self._make, self._done, self._think_s = make, done, think_s
        self._patience_s = patience_s

    def run(self) -> None:
        with self.node.client(self._patience_s) as client:
            for number in itertools.count():
                if self.stopping.wait(self._think_s):
                    return
                self._write(client, *self._make(number))

    def _write(self, client: Client, key: str, value: Any) -> None:
        """One write, tried again until it is acknowledged: the same key and value do no harm."""
        raw = value if isinstance(value, bytes) else json_bytes(value)
        asked = time.monotonic()
        while True:
            try:
                written = client.put(key, value)
            except ClientError as error:
                self._done.retries += 1
                if self.stopping.wait(0.1):
                    self.failure = f"{self.node.name} did not acknowledge {key}: {error}"
                    return
            else:
                self._done.add(key, raw, written.revision, asked)
                return


def json_bytes(value: Any) -> bytes:
    """JSON as the client library sends it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def reading(number: int) -> tuple[str, Any]:
    """This host, now: load, free memory, and the temperatures that it can feel."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    zones = sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp"))
    temperatures = {}
    for zone in zones:
        try:
            temperatures[zone.parent.name] = int(zone.read_text()) / 1000
        except (OSError, ValueError):
            continue  # a sensor that sleeps or lies
    return f"host/{socket.gethostname()}/{number:06d}", {
        "load": os.getloadavg(),
        "memory_available_kb": int(meminfo["MemAvailable"].split()[0]),
        "temperatures_c": temperatures,
        "time": time.time(),
    }


def work(name: str) -> Callable[[int], tuple[str, Any]]:
    """A made-up sensor: short binary values under keys of its own."""
    return lambda number: (f"work/{name}/{number:06d}", b"%s %d " % (name.encode(), number) * 8)


def documents(given: Path | None, staged: Path, size_bytes_max: int) -> dict[str, bytes]:
    """Copies real documents to one folder; each one's path in it and its content.

    Those that do not fit into `size_bytes_max` any more are left out.
    """
    here = Path(__file__).resolve().parent.parent
    if given is not None:
        sources = [(given, path) for path in sorted(given.rglob("*"))]
    else:
        wanted = [*here.glob("*.md"), *here.glob("LICENSE"), *here.glob("aegis_edge/**/*.py")]
        debian = Path("/usr/share/doc")
        sources = [(here, path) for path in sorted(wanted)]
        sources += [(debian, path) for path in sorted(debian.glob("*/copyright"))]
    found: dict[str, bytes] = {}
    left = size_bytes_max
    for root, path in sources:
        if path.is_file() and path.stat().st_size <= min(DOCUMENT_BYTES_MAX, left):
            left -= path.stat().st_size
            name = str(path.relative_to(root))
            target = staged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            found[name] = target.read_bytes()
        if len(found) == DOCUMENTS_MAX:
            break
    return found


class Demo:
    """The play, act by act; `figures` is what came out.

    `tor`: a network of its own on this machine, through which the nodes know each other.
    """

    def __init__(
        self, directory: Path, show: Show, *, tied: bool, tor: TorNetwork | None = None
    ) -> None:
        self.show, self.directory, self.tor = show, directory, tor
        self.tempo = Tempo()
        self.cluster = Cluster(directory, tied=tied)
        self.done = Acknowledged()
        self.writers: list[Writer] = []
        self.figures: dict[str, Any] = {}
        self.began = 0.0

    def raise_tor(self, tor: TorNetwork, level: str) -> None:
        """A Tor network first; then each node has a tor of its own in it."""
        if level != "STANDARD":
            self.tempo = SCHEDULED
        began = time.monotonic()
        tor.start()
        took = time.monotonic() - began
        self.figures["tor_network_s"] = round(took, 1)
        self.show.step(f"a Tor network of {len(tor.relays)} relays in {took:.0f} s")
        torrc = [
            f"{name} {value}\n"
            for name, values in {**tor.torrc, **tor.torrc_bridged}.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        self.cluster = Cluster(
            self.directory,
            torrc="".join(torrc),
            patience_s=TOR_PATIENCE_S,
            AEGIS_EDGE_TRANSPORT="tor",
            SECURITY_LEVEL=level,
        )

    def raise_cluster(self) -> None:
        self.show.now("making four identities and a genesis")
        self.cluster.make()
        self.show.step("four boards made: init, records exchanged, one genesis")
        self.cluster.start()
        self.show.now("waiting until every node is linked to every other")
        began = time.monotonic()
        self.cluster.wait_ready()
        self.figures["linked_s"] = round(time.monotonic() - began, 1)
        status = self.cluster.nodes[0].status()
        self.show.step(
            f"four processes linked and agreeing: n = {status['nodes']},"
            f" any {status['faulty_max']} may fail, quorum {status['quorum']}"
        )

    def import_documents(self, given: Path | None) -> None:
        staged = self.directory / "documents"
        texts = documents(given, staged, self.tempo.documents_bytes)
        if not texts:
            raise ClusterError(f"no documents of at most {DOCUMENT_BYTES_MAX} bytes in {given}")
        self.show.now(f"importing {len(texts)} documents")
        began = time.monotonic()
        self.cluster.nodes[1].run("kb", "import", staged, "documents")
        took = time.monotonic() - began
        with self.cluster.nodes[1].client() as client:
            for version in client.ls("documents/"):
                raw = texts[version.key.removeprefix("documents/")]
                digest = hashlib.sha256(raw).digest()
                if version.is_json:  # stored as JSON, with spaces of its own
                    digest = hashlib.sha256(client.get(version.key).raw).digest()
                self.done.held[version.key] = (version.revision, digest)
        if len(self.done.held) != len(texts):
            raise Disagreement(f"{len(texts)} documents went in, {len(self.done.held)} are there")
        size = sum(map(len, texts.values()))
        self.figures |= {"documents": len(texts), "documents_bytes": size}
        self.show.step(f"{len(texts)} documents imported, {size / 1e6:.1f} MB in {took:.1f} s")

    def storm(self) -> None:
        """Load, the kill, the view change, the return."""
        first = self.cluster.nodes[0].status()
        victim = next(n for n in self.cluster.nodes if n.name == first["primary_name"])
        others = [node for node in self.cluster.nodes if node is not victim]
        think_s, patience_s = self.tempo.think_s, self.tempo.patience_s
        self.writers = [Writer(others[0], reading, self.done, 5 * think_s, patience_s)]
        self.writers += [
            Writer(n, work(f"{n.name}-{i}"), self.done, think_s, patience_s)
            for n in others
            for i in self.tempo.callers
        ]
        self.began = time.monotonic()
        for writer in self.writers:
            writer.start()
        self.show.step(
            f"{len(self.writers)} callers write; {victim.name} leads (view {first['view']})"
        )
        self._watch(self.tempo.calm_s, others)

        killed = time.monotonic()
        victim.kill()
        self.show.event(f"kill -9 {victim.name}, the primary, under load")
        status = self.cluster.wait(
            others[0],
            lambda s: s["view"] > first["view"] and not s["view_changing"],
            "reach a new view",
        )
        self.show.step(f"view {status['view']}: {status['primary_name']} leads now")
        self._watch(self.tempo.storm_s - (time.monotonic() - killed), others)

        victim.start()
        self.show.event(f"{victim.name} starts again")
        self.cluster.wait(
            victim, lambda s: len(s["reachable"]) == len(others), "come back to its peers"
        )
        back = time.monotonic()
        self.cluster.wait(
            victim,
            lambda s: s["executed"] >= status["executed"],
            "catch up with the others",
        )
        self.show.step(f"{victim.name} is back and has caught up")
        self._watch(self.tempo.back_s - (time.monotonic() - back), others)
        self._end_load()
        pause = self.done.longest_wait(killed)
        self.show.step(f"the longest that any caller waited: {pause:.2f} s")
        self.figures |= {
            "pause_s": round(pause, 3),
            "killed": victim.name,
            "view_before": first["view"],
            "view_after": status["view"],
            "killed_after_s": round(killed - self.began, 2),
        }

    def lose_tor(self) -> None:
        """One board's tor is killed; the node starts another, and is found again."""
        node = self.cluster.nodes[-1]
        everyone = len(self.cluster.nodes) - 1
        began = time.monotonic()
        done = subprocess.run(
            ["pkill", "-KILL", "-f", f"{node.home}/tor/own/torrc"], capture_output=True, check=False
        )
        if done.returncode:
            raise ClusterError(f"{node.name} has no tor to kill")
        self.show.event(f"kill -9 of {node.name}'s tor")
        self.cluster.wait(node, lambda s: not s["reachable"], "notice it")
        self.cluster.wait(node, lambda s: len(s["reachable"]) == everyone, "find its peers again")
        took = time.monotonic() - began
        self.figures["tor_back_s"] = round(took, 1)
        self.show.step(f"{node.name} has a new tor and all its links again after {took:.0f} s")

    def _watch(self, seconds: float, alive: list[Node]) -> None:
        """Lets the load run on, and shows it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(0.25, left))
            recent = sum(at > time.monotonic() - 1 for at in self.done.at[-20_000:])
            self.show.now(f"{len(self.done.held)} acknowledged, {recent}/s")
            for writer in self.writers:
                if writer.failure:
                    raise Disagreement(writer.failure)

    def _end_load(self) -> None:
        for writer in self.writers:
            writer.stopping.set()
        for writer in self.writers:
            writer.join(self.tempo.patience_s)
            if writer.is_alive() or writer.failure:
                raise ClusterError(writer.failure or f"a caller of {writer.node.name} hangs")
        span = time.monotonic() - self.began
        self.figures |= {
            "acknowledged": len(self.done.at),
            "load_s": round(span, 1),
            "retries": self.done.retries,
        }
        self.show.step(f"load ends: {len(self.done.at)} writes acknowledged in {span:.0f} s")

    def compare(self) -> None:
        """Four equal roots, and every acknowledged write on every node."""
        self.show.now("waiting for equal state roots")
        top = max(node.status()["executed"] for node in self.cluster.nodes)
        for node in self.cluster.nodes:
            self.cluster.wait(node, lambda s: s["executed"] >= top, f"reach sequence {top}")
        deadline = time.monotonic() + 30
        while True:
            taken = [node.status() for node in self.cluster.nodes]
            roots = {status["state_root"] for status in taken}
            at = {status[name] for status in taken for name in ("executed", "state_root_executed")}
            if len(at) == len(roots) == 1:
                break
            if time.monotonic() > deadline:
                raise Disagreement(f"the state roots differ: {sorted(roots)} at {sorted(at)}")
            time.sleep(0.05)
        self.show.step(f"four equal state roots at sequence {at.pop()}")
        lost = [problem for node in self.cluster.nodes for problem in self._missing(node)]
        if lost:
            shown = "; ".join(lost[:5])
            raise Disagreement(f"{len(lost)} acknowledged writes are lost or changed: {shown}")
        self.figures |= {"lost": 0, "state_root": roots.pop(), "revision": taken[0]["revision"]}
        self.show.step(
            f"{len(self.done.held)} acknowledged writes found on each of the four nodes, 0 lost"
        )

    def _missing(self, node: Node) -> list[str]:
        """Acknowledged writes that this node lacks, or holds with another revision or content.

        Every key's revision is compared on every node; the content, key by key, is read back from
        the node where a quarter of the keys falls to it (equal roots carry that to the others).
        """
        self.show.now(f"reading everything back from {node.name}")
        mine, every = self.cluster.nodes.index(node), len(self.cluster.nodes)
        problems = []
        with node.client() as client:
            there = {version.key: version.revision for version in client.ls()}
            for index, (key, (revision, digest)) in enumerate(sorted(self.done.held.items())):
                if there.get(key) != revision:
                    problems.append(f"{node.name}: {key} at {there.get(key)}, not {revision}")
                elif index % every == mine:
                    raw = client.get(key).raw
                    if hashlib.sha256(raw).digest() != digest:
                        problems.append(f"{node.name}: {key} has another content")
        return problems

    def summary(self) -> None:
        f = self.figures
        slots = [0] * int(f["load_s"] * 4 + 1)
        for at in self.done.at:
            slots[min(len(slots) - 1, int((at - self.began) * 4))] += 1
        kill_slot = int(f["killed_after_s"] * 4)
        self.show.title("  four nodes, one killed, nothing lost")
        self.show.rows(
            [
                ("writes a second", self.show.bars(slots)),
                ("", " " * kill_slot + "^ kill -9 of the primary"),
                ("acknowledged", f"{f['acknowledged']} writes and {f['documents']} documents"),
                ("lost", f"{f['lost']}"),
                ("pause", f"{f['pause_s']:.2f} s, view {f['view_before']} to {f['view_after']}"),
                ("state root", f"{f['state_root'][:16]}... on all four, revision {f['revision']}"),
            ]
        )


def kept(cluster: Cluster) -> list[str]:
    """What to type to talk to a cluster that goes on running."""
    node = cluster.nodes[0]
    command = Path(sys.executable).parent / "aegis-edge"
    pids = " ".join(str(n.process.pid) for n in cluster.nodes if n.process is not None)
    return [
        f"export AEGIS_EDGE_HOME={node.home} PATH={command.parent}:$PATH",
        "aegis-edge status",
        "aegis-edge kb ls documents/",
        f"curl --unix-socket {node.socket} http://aegis-edge/v1/status",
        f"kill {pids}    # stops it; then: rm -r {cluster.directory}",
    ]


def tor_for(level: str) -> dict[str, Any]:
    """What the level needs of a network: PARANOID pins twelve relays, and hides behind a bridge."""
    return {"relays": 16, "bridge": True} if level == "PARANOID" else {}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    parser.add_argument(
        "--tor",
        action="store_true",
        help="over onion services, in a Tor network of its own on this machine",
    )
    parser.add_argument(
        "--level",
        choices=("STANDARD", "HIGH", "PARANOID"),
        metavar="LEVEL",
        help="with --tor: the SECURITY_LEVEL; STANDARD if not given",
    )
    parser.add_argument("--documents", type=Path, metavar="DIR", help="import these files instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if options.level and not options.tor:
        parser.error("--level is what Tor shall hide: give it with --tor")
    level = options.level or "STANDARD"
    if options.tor and options.keep:
        parser.error("--keep: the Tor network of --tor ends with the demo; see scripts/tornet")
    if options.documents is not None and not options.documents.is_dir():
        parser.error(f"--documents: {options.documents} is no directory")
    if options.json is not None:
        try:
            options.json.touch()
        except OSError as error:
            parser.error(f"--json: {options.json}: {error.strerror}")
    show = Show()
    directory = Path(tempfile.mkdtemp(prefix="aegis-edge-demo."))
    tor = TorNetwork(say=show.now, **tor_for(level)) if options.tor else None
    demo = Demo(directory, show, tied=not options.keep, tor=tor)
    keep = stopped = False
    with ending_in_order():
        try:
            show.title("aegis-edge: four nodes on this machine")
            if tor is not None:
                demo.raise_tor(tor, level)
            demo.raise_cluster()
            demo.import_documents(options.documents)
            demo.storm()
            if tor is not None:
                demo.lose_tor()
            demo.compare()
            demo.summary()
            keep = options.keep
        except (Disagreement, ClusterError, ClientError, TorNetworkError) as error:
            show.bad(f"FAILED: {error}")
            for node in demo.cluster.nodes:
                print(f"--- the end of {node.name}'s log\n{demo.cluster.tail(node, 5)}")
            return 1
        except SystemExit:
            stopped = True
            raise
        finally:
            if not keep:
                demo.cluster.stop()
                if tor is not None:
                    tor.stop()
                shutil.rmtree(directory, ignore_errors=True)
            if stopped:
                show.bad(f"stopped: the four nodes are ended, and {directory} is gone")
    if options.json:
        options.json.write_text(json.dumps(demo.figures, indent=2) + "\n")
    show.good("everything that was acknowledged is on every node")
    if keep:
        print("The cluster goes on running.  Talk to it, and stop it in the end:\n")
        print("".join(f"    {line}\n" for line in kept(demo.cluster)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

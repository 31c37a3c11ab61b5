"""A board comes back to a cluster that went on without it, and fetches only what is other now.

Four nodes hold `--keys` entries of 100 bytes; one is killed; the others execute `--operations` puts
of 64 callers that touch `--changed` keys; it is started again.  Says how many bytes its links
brought until it had executed as much, beside those of the partitions that differ.  With --liar one
of its three sources answers with false batches, states and checkpoints.  Exits with 1 if it does
not come back equal, or if it fetched more than three times the partitions that differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from aegis_edge.client import ClientError, connect
from aegis_edge.knowledge.merkle import label, partition
from cluster import Cluster, ClusterError, Node, ending_in_order
from show import Show

VALUE = b"v" * 100
PATIENCE_S = 180.0
CALLERS = 64
#: At most so many times the partitions that differ.
RATIO_MAX = 3.0
#: Where a liar is found, and the simulator's vices that it has.
SOURCES = os.pathsep.join(map(str, Path(__file__).resolve().parents[:2]))
VICES = ("false_answers", "lie_in_status", "lie_at_checkpoint")


@dataclass(frozen=True)
class Return:
    """What one return cost.

    `differing_bytes`: keys and values, nothing else, in the partitions of which a key changed;
    `fetched_bytes`: all that the links of the node brought, whatever it was for; `seconds` from its
    start until it has the root of the others.
    """

    batches_missed: int
    partitions: int
    differing_bytes: int
    fetched_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        return self.fetched_bytes / self.differing_bytes


def measured(cluster: Cluster, options: argparse.Namespace, show: Show) -> Return:
    """Raises `ClusterError` when a node does not do what it should."""
    *others, away = cluster.nodes
    keys = [f"away/{number:06d}" for number in range(options.keys)]
    changed = keys[:: options.keys // options.changed][: options.changed]
    cluster.make()
    cluster.start()
    cluster.wait_ready()
    _run(_fill, others[0], keys)
    executed = others[0].status()["executed"]
    before = cluster.wait(away, lambda status: status["executed"] >= executed, "execute all")
    show.step(f"{len(keys):,} keys on four nodes, in {before['executed']:,} batches")
    away.kill()
    operations = (changed[i % len(changed)] for i in range(options.operations))
    _run(_put, others[0], operations)
    if options.liar:
        _infiltrate(cluster, others[-1], len(cluster.nodes) - 1)
        _run(_put, others[0], changed[:1])
    now = others[0].status()
    missed = now["executed"] - before["executed"]
    show.step(
        f"{away.name} was off for {options.operations:,} puts at {len(changed):,} keys,"
        f" in {missed:,} batches"
    )

    began = time.monotonic()
    away.start()
    cluster.wait(away, lambda status: status["executed"] >= now["executed"], "come back")
    seconds = time.monotonic() - began
    fetched = sum(_brought(away))
    numbers = {partition(label(key.encode())) for key in changed}
    differing = sum(
        len(key) + len(VALUE) for key in keys if partition(label(key.encode())) in numbers
    )
    _refuse_others(cluster, [others[0], away])
    return Return(missed, len(numbers), differing, fetched, seconds)


async def _fill(node: Node, keys: Iterable[str]) -> None:
    """As fast as a pipeline takes them."""
    async with connect(str(node.socket), timeout_s=60.0) as client, client.pipeline() as puts:
        for key in keys:
            await puts.put(key, VALUE)


async def _put(node: Node, keys: Iterable[str]) -> None:
    """By callers of whom each waits for its answer."""
    remaining = iter(keys)

    async def caller() -> None:
        for key in remaining:
            await client.put(key, VALUE)

    async with (
        connect(str(node.socket), timeout_s=60.0) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(CALLERS):
            nursery.start_soon(caller)


def _run(puts: Callable[[Node, Iterable[str]], Awaitable[None]], node: Node, keys: Any) -> None:
    try:
        trio.run(puts, node, keys)
    except* ClientError as group:
        raise ClusterError(f"a put failed: {group.exceptions[0]}") from None


def _brought(node: Node) -> Iterable[int]:
    with node.client() as client:
        return [peer["traffic"]["bytes_in"] for peer in client.peers()["peers"]]


def _infiltrate(cluster: Cluster, node: Node, victim: int) -> None:
    """A source becomes a liar."""
    node.kill()
    words = [sys.executable, "-m", "besiegers.liar", *VICES, "--peer", str(victim)]
    node.start(words, PYTHONPATH=SOURCES)
    cluster.wait(node, lambda status: len(status["reachable"]) == 2, "find the others")
    assert node.process is not None
    node.process.send_signal(signal.SIGUSR1)


def _refuse_others(cluster: Cluster, nodes: Iterable[Node]) -> None:
    """Who came back has the state of the others, and commits with them."""
    first, back = nodes
    with back.client(60.0) as client:
        client.put("away/after", VALUE)
    deadline = time.monotonic() + cluster.patience_s
    while time.monotonic() < deadline:
        states = [
            (status["executed"], status["state_root_executed"], status["state_root"])
            for status in (first.status(), back.status())
        ]
        if states[0] == states[1] and states[0][0] == states[0][1]:
            return
        time.sleep(0.05)
    raise ClusterError(f"{back.name} is not as the others are: {states}")


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/away", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000, metavar="N", help="(100,000)")
    parser.add_argument("--changed", type=int, default=1_000, metavar="N", help="of them (1,000)")
    parser.add_argument("--operations", type=int, default=50_000, metavar="N", help="(50,000)")
    parser.add_argument("--liar", action="store_true", help="one of the sources lies")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(words)
    if not 1 <= options.changed <= min(options.keys, options.operations):
        parser.error("--changed is at least 1, and at most --keys and --operations")
    return options


def main() -> int:
    options = options_of()
    directory = Path(tempfile.mkdtemp(prefix="aegis-edge-away."))
    show = Show()
    show.title("A board comes back" + (", and one of its sources lies" if options.liar else ""))
    with ending_in_order():
        cluster = Cluster(directory, patience_s=PATIENCE_S)
        try:
            found = measured(cluster, options, show)
        except (ClusterError, ClientError) as error:
            show.bad(str(error))
            return 1
        finally:
            cluster.stop()
            shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(asdict(found) | {"ratio": found.ratio}, indent=1) + "\n")
    words = (
        f"equal after {found.seconds:.1f} s; {found.fetched_bytes:,} bytes came over its links, "
        f"{found.ratio:.2f} times the {found.differing_bytes:,} of the {found.partitions:,} "
        "partitions that differ"
    )
    if found.ratio > RATIO_MAX:
        show.bad(f"{words}: more than {RATIO_MAX:g} times")
        return 1
    show.good(words)
    return 0


if __name__ == "__main__":
    sys.exit(main())

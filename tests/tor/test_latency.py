"""Far away everything takes longer, and is not said more often for that.

With figures, step by step: scripts/latency.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from aegis_edge.pbft.pace import WAITS
from aegis_edge.replication import Replication
from tests.test_node import Running, put
from tests.tor.test_way import cluster, everybody, until
from tornet import TorNetwork

#: What each of four nodes' own put costs where no message is said twice: a proposal and two rounds
#: of votes for each batch, and the bundles of the three that do not lead.
LEAST = 4 * 24 + 3


async def everybody_puts(nodes: list[Replication], name: str) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number, node in enumerate(nodes):
                nursery.start_soon(partial(node.submit, put(f"{name}/{number}")))


def said(nodes: list[Replication]) -> int:
    return sum(node.counters.messages_out for node in nodes)


async def test_a_cluster_that_is_moved_apart_goes_on_and_repeats_little(
    far_network: TorNetwork, tmp_path: Path
) -> None:
    boards = cluster(tmp_path, far_network, "STANDARD")
    try:
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in boards]
            with trio.fail_after(60):
                await until(lambda: everybody(nodes))
            far_network.delay(200)  # which no link has measured
            began = trio.current_time()
            await everybody_puts(nodes, "first")
            assert trio.current_time() - began > 3, "three messages one after another, or four"
            while nodes[0].counters.batches < WAITS:
                await everybody_puts(nodes, f"more/{nodes[0].counters.batches}")
            before = said(nodes)
            await everybody_puts(nodes, "last")
            assert said(nodes) - before < 2 * LEAST
            assert [node.status()["view"] for node in nodes] == [0] * 4
            nursery.cancel_scope.cancel()
    finally:
        far_network.delay(0)

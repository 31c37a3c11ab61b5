"""Whole nodes that know each other as onion addresses alone, each with a tor of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from tests.test_node import Running, agree, put
from tests.tor.homes import PATIENCE_S, cluster, everybody, tor_of, until
from tornet import TorNetwork


@pytest.mark.parametrize("level", ["STANDARD", "HIGH"])
async def test_four_boards_agree_and_one_whose_tor_was_killed_comes_back(
    level: str, tor_network: TorNetwork, tmp_path: Path
) -> None:
    boards = cluster(tmp_path, tor_network, level)
    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in boards]
            await until(lambda: everybody(nodes))
            outcome = await nodes[1].submit(put("through"), timeout_s=PATIENCE_S)
            assert outcome.revision == 1
            for each in nodes:
                await each.revision_after(0)
            await agree(*nodes)
            os.kill(tor_of(boards[3]), signal.SIGKILL)
            await until(lambda: not nodes[3].status()["reachable"])
            assert (await nodes[0].submit(put("without"), timeout_s=PATIENCE_S)).revision == 2
            await nodes[3].revision_after(1)
            await until(lambda: everybody(nodes))
            nursery.cancel_scope.cancel()

"""Whole nodes that know each other as onion addresses alone, each with a tor of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from aegis_edge import config, home
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.replication import Replication
from tests.test_node import Running, agree, put
from tornet import TorNetwork

PATIENCE_S = 180.0


def board(path: Path, network: TorNetwork, level: str) -> Config:
    path.mkdir()
    lines = [f"name = '{path.name}'", "transport = 'tor'", f"security_level = '{level}'"]
    (path / "config.toml").write_text("\n".join(lines))
    made = config.load({"home": path}, {})
    keyfile.create(made.key_file)
    extra = [
        f"{name} {value}"
        for name, values in network.torrc.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    made.tor_extra_file.write_text("\n".join(extra))
    return made


def cluster(path: Path, network: TorNetwork, level: str) -> list[Config]:
    """Homes of four boards, in the order of the members' keys."""
    boards = [board(path / name, network, level) for name in "abcd"]
    records = {home.own_record(each, keyfile.read(each.key_file)).signer: each for each in boards}
    genesis = Genesis.of(
        [home.own_record(each, keyfile.read(each.key_file)) for each in boards],
        Parameters(0, bytes(16)),
    )
    for each in boards:
        each.genesis_file.write_text(genesis.to_text())
    return [records[key] for key in genesis.members]


async def until(done: Callable[[], bool]) -> None:
    while not done():
        await trio.sleep(0.2)


def everybody(nodes: list[Replication]) -> bool:
    return all(len(each.status()["reachable"]) == 3 for each in nodes)


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


def tor_of(settings: Config) -> int:
    """The process of a board's own tor."""
    wanted = str(settings.tor_directory / "own" / "torrc").encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("it has no tor")

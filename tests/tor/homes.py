"""Homes whose nodes have a tor of their own, and know each other as onion addresses alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from stem.control import Controller

from aegis_edge import config, home
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.replication import Replication
from tests.tor.onion import controller_at
from tornet import TorNetwork
from tors import Torrc

PATIENCE_S = 180.0


def board(path: Path, torrc: Torrc, level: str) -> Config:
    """A home of its own, whose tor takes part in a network by `torrc`."""
    path.mkdir()
    lines = [f"name = '{path.name}'", "transport = 'tor'", f"security_level = '{level}'"]
    (path / "config.toml").write_text("\n".join(lines))
    made = config.load({"home": path}, {})
    keyfile.create(made.key_file)
    extra = [
        f"{name} {value}"
        for name, values in torrc.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    made.tor_extra_file.write_text("\n".join(extra))
    return made


def cluster(path: Path, network: TorNetwork, level: str) -> list[Config]:
    """Homes of four boards, in the order of the members' keys."""
    torrc = {**network.torrc, **network.torrc_bridged}
    boards = [board(path / name, torrc, level) for name in "abcd"]
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


def linked(node: Replication, others: int = 3) -> bool:
    return len(node.status()["reachable"]) == others


def everybody(nodes: list[Replication]) -> bool:
    return all(map(linked, nodes))


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


@contextmanager
def control_of(settings: Config) -> Iterator[Controller]:
    """A second control connection to a board's own tor."""
    with controller_at(settings.tor_directory / "own" / "control") as controller:
        yield controller

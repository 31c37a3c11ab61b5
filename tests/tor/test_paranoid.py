"""PARANOID whole: four boards that reach Tor through a bridge, their next hops pinned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from aegis_edge import home, node
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.net.tor import vanguards
from aegis_edge.peers.genesis import Genesis, Parameters
from tests.test_node import Running, agree, put
from tests.tor.conftest import running as running_network
from tests.tor.homes import PATIENCE_S, board, cluster, control_of, everybody, until
from tornet import TorNetwork
from tors import Torrc

#: Twelve are pinned; the others are left for the ends of circuits.
RELAYS = 16


@pytest.fixture(scope="module")
def guarded_network() -> Iterator[TorNetwork]:
    with running_network(relays=RELAYS, bridge=True) as network:
        yield network


def pinned(settings: Config) -> tuple[set[str], ...]:
    text = (settings.tor_directory / "vanguards").read_text()
    return tuple({g.fingerprint for g in layer} for layer in vanguards.from_text(text))


def onion_paths(settings: Config) -> list[list[str]]:
    """The relays of each circuit of a board's tor that serves or calls an onion service."""
    with control_of(settings) as tor:
        return [
            [fingerprint for fingerprint, _ in circuit.path]
            for circuit in tor.get_circuits()
            if circuit.status == "BUILT"
            and circuit.purpose.startswith("HS_")
            and circuit.purpose != "HS_VANGUARDS"
        ]


def check(settings: Config, bridge: str) -> None:
    second, third = pinned(settings)
    assert (len(second), len(third)) == (4, 8)
    paths = onion_paths(settings)
    assert paths
    for first, *hops in paths:
        assert first == bridge
        assert hops[0] in second
        assert hops[1] in third


async def test_four_boards_behind_a_bridge_agree_over_pinned_hops(
    guarded_network: TorNetwork, tmp_path: Path
) -> None:
    boards = cluster(tmp_path, guarded_network, "PARANOID")
    bridge = guarded_network.torrc_bridged["Bridge"].split()[2]
    with trio.fail_after(3 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in boards]
            await until(lambda: everybody(nodes))
            assert (await nodes[1].submit(put("hidden"), timeout_s=PATIENCE_S)).revision == 1
            for each in nodes:
                await each.revision_after(0)
            await agree(*nodes)
            for each in boards:
                check(each, bridge)
            before = pinned(boards[3])
            assert before != pinned(boards[2]), "each board has its own"
            await running.stop(boards[3])
            nodes[3] = await running.start(boards[3])
            await until(lambda: everybody(nodes))
            assert pinned(boards[3]) == before, "a restart draws no new ones"
            check(boards[3], bridge)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("torrc", "said"),
    [
        ({}, "tor has no bridges"),
        ({"UseBridges": "1", "Bridge": "127.0.0.1:9"}, "a bridge is without a transport"),
    ],
)
def test_without_a_good_bridge_it_does_not_start(
    torrc: Torrc, said: str, guarded_network: TorNetwork, tmp_path: Path
) -> None:
    made = board(tmp_path / "a", {**guarded_network.torrc, **torrc}, "PARANOID")
    record = home.own_record(made, keyfile.read(made.key_file))
    made.genesis_file.write_text(Genesis.of([record], Parameters(0, bytes(16))).to_text())
    told: list[Exception] = []
    assert node.main(made, tell=told.append) == os.EX_CONFIG
    (error,) = told
    assert said in str(error)
    assert "bridges.torproject.org" in str(error)
    assert not (made.tor_directory / "vanguards").exists()

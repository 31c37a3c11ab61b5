"""LAN discovery between whole nodes: who moved is found by a beacon, with nobody in between."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from aegis_edge import config
from aegis_edge.config import Config
from aegis_edge.node import main
from aegis_edge.replication import Replication
from cluster import free_ports
from tests.net.test_lan import free_port
from tests.test_node import Running, cluster, put

TIMEOUT_S = 60.0


def moved(home: Config, **settings: object) -> Config:
    """The same node with another port, and what else is set."""
    (port,) = free_ports(1)
    return config.load({"home": home.directory, "p2p_port": port, **settings}, {})


async def linked(*nodes: Replication) -> None:
    while not all(each.has_quorum for each in nodes):
        await trio.sleep(0.05)


async def test_two_boards_that_moved_while_they_were_off_find_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aegis_edge.net.lan.PORT", free_port())
    homes = cluster(tmp_path, 2)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            there = [moved(each, lan_discovery="true") for each in homes]
            nodes = [await running.start(each) for each in there]
            await linked(*nodes)
            await nodes[0].submit(put("found"))
            for each in there:
                await running.stop(each)
            # What was heard is remembered: nobody has to say it again.
            quiet = [
                config.load({"home": each.directory, "p2p_port": each.p2p_port}, {})
                for each in there
            ]
            again = [await running.start(each) for each in quiet]
            await linked(*again)
            nursery.cancel_scope.cancel()


def test_a_record_that_fits_no_beacon_ends_the_node_with_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home,) = cluster(tmp_path, 1)
    many = tuple(f"tcp:{'x' * 60}{n}.example:8080" for n in range(8))
    large = config.load({"home": home.directory, "advertise": many, "lan_discovery": "true"}, {})
    assert main(large) == 78
    said = capsys.readouterr().err
    assert "flag --lan-discovery: lan_discovery: this node's record has" in said
    assert "fewer addresses" in said

"""P2PNetworkManager: the peers of real nodes, as their owner's programs see them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from aegis_edge import P2PNetworkManager, config
from aegis_edge.client import NotFound, NotRunning, TimedOut
from aegis_edge.config import Config, ConfigError
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record
from aegis_edge.peers import identity
from aegis_edge.peers.genesis import Genesis, Parameters
from tests.test_growth import key_of
from tests.test_node import Running, cluster

TIMEOUT_S = 60.0


@asynccontextmanager
async def alive(*homes: Config) -> AsyncIterator[Running]:
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            for each in homes:
                await running.start(each)
            yield running
            nursery.cancel_scope.cancel()


def address_of(settings: Config) -> str:
    return f"tcp:127.0.0.1:{settings['p2p_port']}"


async def test_peers_are_the_other_members_and_are_dialled_when_somebody_wishes(
    tmp_path: Path,
) -> None:
    one, two, three = cluster(tmp_path, 3)
    async with alive(one, two) as running, P2PNetworkManager(one.directory) as network:
        peer = await network.connect_to_peer(address_of(two))
        assert (peer.node_id, peer.is_linked) == (identity.node_id(key_of(two)), True)
        assert peer.addresses == (address_of(two),)
        seen = await network.discover_peers()
        assert {each.node_id for each in seen} == {
            identity.node_id(key_of(two)),
            identity.node_id(key_of(three)),
        }
        with pytest.raises(TimedOut, match="no link to tcp:127"):
            await network.connect_to_peer(address_of(three), timeout_s=0.3)
        tried = {each.node_id: each.score for each in await network.discover_peers()}
        assert tried[identity.node_id(key_of(three))] < 50, "nobody answers there"
        with pytest.raises(NotFound, match="no other member says that it is at tcp:nowhere:1"):
            await network.connect_to_peer("tcp:nowhere:1")
        await running.start(three)
        assert (await network.connect_to_peer(address_of(three))).is_linked


async def test_peers_of_one_name_are_told_apart(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 3)
    records = [
        own_record(config.load({"home": each.directory, "name": "pi"}, {}), keys)
        for each in homes
        for keys in [keyfile.read(each.key_file)]
    ]
    text = Genesis.of(records, Parameters(0, bytes(16))).to_text()
    for each in homes:
        each.genesis_file.write_text(text)
    async with alive(homes[0]), P2PNetworkManager(homes[0].directory) as network:
        names = {peer.node_id: peer.name for peer in await network.discover_peers()}
    assert names == {
        identity.node_id(key_of(each)): f"pi {identity.short(key_of(each))}" for each in homes[1:]
    }


async def test_without_a_node_or_a_home_they_say_so(tmp_path: Path) -> None:
    (home,) = cluster(tmp_path, 1)
    async with P2PNetworkManager(home.directory) as network:
        with pytest.raises(NotRunning):
            await network.discover_peers()
    (home.directory / "config.toml").write_text("nonsense = 1\n")
    with pytest.raises(ConfigError):
        P2PNetworkManager(os.fspath(home.directory))

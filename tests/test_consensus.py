"""HybridConsensus: how a real cluster stands and changes, as its owners' programs see it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aegis_edge import HybridConsensus
from aegis_edge.client import Conflict, Invalid, NotFound, NotRunning
from aegis_edge.config import ConfigError
from aegis_edge.consensus import Addition, Adjustment, Removal
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record
from aegis_edge.peers import identity
from tests.test_growth import boards, key_of
from tests.test_network import alive
from tests.test_node import cluster


async def test_a_board_that_is_needed_and_not_there_stops_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    homes = boards(tmp_path / "ours", 2)
    (stranger,) = cluster(tmp_path, 1)
    texts = [
        identity.record_to_text(own_record(each, keyfile.read(each.key_file)))
        for each in (homes[1], stranger)
    ]
    async with alive(homes[0], stranger), HybridConsensus(homes[0].directory) as consensus:
        for text in texts:
            with pytest.raises(Conflict, match="it was not seen"):
                await consensus.propose_change(Addition(text))
        assert (await consensus.get_network_stats())["nodes"] == 1
        assert not (await consensus.propose_change(Addition(texts[0], unseen=True))).is_open
        assert not (await consensus.get_network_stats())["reachable"]


async def test_changes_are_proposed_and_voted_on(tmp_path: Path) -> None:
    homes = boards(tmp_path, 2)
    record = own_record(homes[1], keyfile.read(homes[1].key_file))
    async with alive(*homes), HybridConsensus(homes[0].directory) as consensus:
        with pytest.raises(Invalid):
            await consensus.propose_change(Addition("nonsense"))
        with pytest.raises(NotFound):
            await consensus.propose_change(Removal(identity.node_id(bytes(32))))
        added = await consensus.propose_change(Addition(identity.record_to_text(record)))
        assert not added.is_open, "the only member is a quorum"
        with pytest.raises(Conflict):
            await consensus.propose_change(Addition(identity.record_to_text(record)))
        adjusted = await consensus.propose_change(Adjustment("pbft_timeout", 2.5))
        assert adjusted.is_open, "both are needed by now"
        async with HybridConsensus(homes[1].directory) as other:
            assert not (await other.propose_change(Adjustment("pbft_timeout", 2.5))).is_open
        with pytest.raises(Conflict):
            await consensus.propose_change(Adjustment("pbft_timeout", 2.5))
        with pytest.raises(Invalid):
            await consensus.propose_change(Adjustment("quorum", 1))
        stats = await consensus.get_network_stats()
        assert (stats["nodes"], stats["quorum"], stats["is_member"]) == (2, 2, True)
        removal = await consensus.propose_change(Removal(identity.node_id(key_of(homes[0]))))
        assert removal.is_open
        async with HybridConsensus(homes[1].directory) as other:
            assert not (await other.vote(removal.number, approve=False)).is_open
        assert (await consensus.get_network_stats())["nodes"] == 2


async def test_without_a_node_or_a_home_it_says_so(tmp_path: Path) -> None:
    (home,) = cluster(tmp_path, 1)
    async with HybridConsensus(home.directory) as consensus:
        with pytest.raises(NotRunning):
            await consensus.get_network_stats()
    (home.directory / "config.toml").write_text("nonsense = 1\n")
    with pytest.raises(ConfigError):
        HybridConsensus(os.fspath(home.directory))

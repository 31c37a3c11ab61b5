"""Whether a board is there: it shows itself to who knows its cluster, and learns of nobody."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.channel import Channel, Goodbye, LinkError
from aegis_edge.net.guest import Caller
from aegis_edge.net.sighting import see
from aegis_edge.wire.messages import NodeRecord, Verified
from tests.net.network import CLUSTER, Member, MemoryNetwork, cluster, running

HOST, NEWCOMER, OTHER = cluster(1, 2, 3)
PLACE, NOWHERE = "tcp:newcomer:1", "tcp:nowhere:1"


def placed(*addresses: str, who: Member = NEWCOMER) -> Verified[NodeRecord]:
    return who.says(addresses, 2)


async def look(
    network: MemoryNetwork, record: Verified[NodeRecord], cluster_id: bytes = CLUSTER
) -> None:
    await see(Caller(HOST.record.raw, HOST.noise_private, cluster_id), {"tcp": network}, record)


async def test_who_has_the_genesis_and_runs_is_seen_whoever_its_members_are(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    links = NEWCOMER.links([OTHER.record], {"tcp": network})
    async with running((links, [PLACE])):
        await look(network, placed(PLACE))
        await look(network, placed("onion:x:1", NOWHERE, PLACE))
        await trio.sleep(1)
        assert network.channels == []
        assert links.refused == 2, "it has heard somebody, and of nobody"


async def test_a_board_of_another_cluster_is_not_seen(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with running((NEWCOMER.links([], {"tcp": network}), [PLACE])):
        with pytest.raises(LinkError, match=PLACE):
            await look(network, placed(PLACE), b"d" * 32)


async def test_another_board_at_its_address_is_not_it(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with running((OTHER.links([], {"tcp": network}), [PLACE])):
        with pytest.raises(LinkError, match="another node answers there"):
            await look(network, placed(PLACE))


@pytest.mark.parametrize(
    ("addresses", "words"),
    [((), "no address"), (("onion:x:1",), "no address"), ((NOWHERE,), "nobody listens there")],
)
async def test_who_cannot_be_called_is_not_seen(addresses: tuple[str, ...], words: str) -> None:
    with pytest.raises(LinkError, match=words):
        await look(MemoryNetwork(), placed(*addresses))


@pytest.mark.parametrize(("noise", "words"), [(b"\xff" * 256, "as no node"), (b"", "in time")])
async def test_what_is_no_node_is_not_seen(
    noise: bytes, words: str, autojump_clock: MockClock
) -> None:
    async def babble(channel: Channel) -> Goodbye:
        await channel.receive()
        if noise:
            await channel.send([noise])
        with suppress(LinkError):
            await channel.receive()
        return Goodbye.NORMAL

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(network.serve, babble, PLACE)
        with pytest.raises(LinkError, match=words):
            await look(network, placed(PLACE))
        nursery.cancel_scope.cancel()

"""A board that moves to another onion address, with the cluster at work."""

from __future__ import annotations

from pathlib import Path

import trio

from aegis_edge import home
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.replication import Replication
from tests.test_node import Running, agree, put
from tests.tor.homes import PATIENCE_S, cluster, control_of, everybody, linked, until
from tornet import TorNetwork


def is_served(settings: Config, address: str) -> bool:
    """Whether a board's own tor has this service, for whichever control connection."""
    with control_of(settings) as tor:
        return bool(tor.msg(f"GETINFO hs/service/desc/id/{host(address)}").is_ok())


def host(address: str) -> str:
    return address.split(":")[1].removesuffix(".onion")


def shows(node: Replication, of: Replication) -> tuple[str, ...]:
    """The addresses of one board as another knows them."""
    found: dict[bytes, tuple[str, ...]] = {
        peer.peer: peer.addresses for peer in node._wires.statistics()
    }
    return found[of.key]


async def test_a_board_moves_while_another_is_off_and_nobody_is_lost(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    a, b, c, d = cluster(tmp_path, tor_network, "HIGH")
    with trio.fail_after(3 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in (a, b, c, d)]
            await until(lambda: everybody(nodes))
            await running.stop(d)
            await running.stop(a)
            (old,) = home.own_addresses(a, keyfile.read(a.key_file))
            keyfile.rotate_onion(a.key_file)
            new, _ = home.own_addresses(a, keyfile.read(a.key_file))
            nodes[0] = await running.start(a)
            await until(lambda: linked(nodes[0], 2))
            assert (await nodes[0].submit(put("moved"), timeout_s=PATIENCE_S)).revision == 1
            for other in nodes[1:3]:
                assert shows(other, nodes[0]) == (new, old)
            assert keyfile.read(a.key_file).onion_generations == (1, 0), "d does not know it"
            await until(lambda: is_served(a, new) and is_served(a, old))
            # d moves as well before it hears of a: each finds the other at the old address.
            keyfile.rotate_onion(d.key_file)
            nodes[3] = await running.start(d)
            await until(lambda: everybody(nodes))
            await nodes[3].revision_after(0)
            await agree(*nodes)
            assert shows(nodes[3], nodes[0]) == (new, old)
            await until(lambda: keyfile.read(a.key_file).onion_generations == (1,))
            await until(lambda: keyfile.read(d.key_file).onion_generations == (1,))
            await until(lambda: is_served(a, new) and not is_served(a, old))
            # From now on the new one alone is told, and found by those who begin anew.
            for settings, index in ((a, 0), (b, 1)):
                await running.stop(settings)
                nodes[index] = await running.start(settings)
            await until(lambda: everybody(nodes))
            await until(lambda: shows(nodes[1], nodes[0]) == (new,))
            nursery.cancel_scope.cancel()

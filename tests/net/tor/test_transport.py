"""Channels through a gateway without a tor; with a real one: tests/tor."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from aegis_edge.net.channel import LinkError, ListenError
from aegis_edge.net.tor.gateway import Gateway, Progress
from tests.net.tor.test_gateway import OTHER, gateway, transport


def own_address(ours: Gateway) -> str:
    return f"onion:{ours.standing.address}:80"


async def test_only_onion_addresses_are_dialled(tmp_path: Path) -> None:
    ours = gateway(tmp_path)
    ours.standing.progress = Progress.REACHABLE
    for address in ("tcp:192.0.2.1:80", "onion:board.local:80"):
        with pytest.raises(LinkError, match="no onion"):
            await transport(ours).dial(address)
    with pytest.raises(LinkError, match="SOCKS port cannot be opened"):
        await transport(ours).dial(OTHER)


async def test_tors_socket_is_made_private_and_goes_with_the_node(tmp_path: Path) -> None:
    ours = gateway(tmp_path)
    path = tmp_path / "onion.sock"
    path.write_text("left behind")
    arrived = []

    async def handler(channel: object) -> None:
        arrived.append(channel)

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(transport(ours, tmp_path).serve, handler, own_address(ours))
        assert bound == (own_address(ours),)
        assert path.is_socket()
        assert path.stat().st_mode & 0o007 == 0
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ours = gateway(tmp_path / "nowhere")
    with pytest.raises(ListenError, match="see that its folder may be written"):
        await transport(ours, tmp_path / "nowhere").serve(
            lambda _: trio.lowlevel.checkpoint(), own_address(ours)
        )  # type: ignore[arg-type]

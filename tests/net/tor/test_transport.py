"""Channels through a gateway without a tor; with a real one: tests/tor."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from aegis_edge.net import websocket
from aegis_edge.net.arrivals import UNPROVEN_MAX
from aegis_edge.net.channel import Goodbye, LinkError, ListenError
from aegis_edge.net.tor.gateway import Gateway, Progress
from aegis_edge.net.tor.member import Keyring
from aegis_edge.net.tor.transport import Onions
from aegis_edge.net.websocket import WebSocket
from aegis_edge.peers.address import Address
from tests.net.test_direct import echo
from tests.net.tor.test_gateway import OTHER, gateway, transport
from tests.net.tor.test_member import BOARDS, CLUSTER, RECORDS, STANDARD


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


async def test_a_flood_of_strangers_costs_no_member_its_place_and_no_other_address_one(
    tmp_path: Path,
) -> None:
    ours = gateway(tmp_path)
    one, two = (Keyring(board.keys, CLUSTER, STANDARD, RECORDS) for board in BOARDS[:2])
    new, old = tmp_path / "onion.sock", tmp_path / "onion.sock.old"
    through = Onions(ours, new, old, keyring=one)

    async def call(path: Path, knock: bytes = b"") -> WebSocket:
        return await websocket.connect(await trio.open_unix_socket(path), 5, knock)

    async with trio.open_nursery() as nursery:
        await nursery.start(through.serve, echo, own_address(ours))
        member = await call(old, two.knock(BOARDS[0].host))
        elsewhere = await call(new)
        crowd = []
        for _ in range(8 * UNPROVEN_MAX):
            with suppress(LinkError):
                crowd.append(await call(old))
        for channel in (member, elsewhere):
            await channel.send([b"x"])
            assert await channel.receive() == b"x"
        for channel in (member, elsewhere, *crowd):
            await trio.aclose_forcefully(channel._stream)
        nursery.cancel_scope.cancel()


async def test_a_call_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (Keyring(board.keys, CLUSTER, STANDARD, RECORDS) for board in BOARDS[:2])
    path, known = tmp_path / "onion.sock", []
    ours = gateway(tmp_path)

    async def stream_to(place: Address) -> trio.SocketStream:
        return await trio.open_unix_socket(path)

    async def handler(channel: WebSocket) -> Goodbye:
        known.append(one.whose(channel.knock))
        return Goodbye.NORMAL

    monkeypatch.setattr(ours, "stream_to", stream_to)
    async with trio.open_nursery() as nursery:
        await nursery.start(Onions(ours, path).serve, handler, own_address(ours))
        place = f"onion:{BOARDS[0].host}:8080"
        for keyring in (two, None):
            channel = await Onions(ours, keyring=keyring).dial(place)
            with pytest.raises(LinkError):
                await channel.receive()
            await channel.aclose()
        nursery.cancel_scope.cancel()
    assert known == [BOARDS[1].keys.public, None]


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ours = gateway(tmp_path / "nowhere")
    with pytest.raises(ListenError, match="see that its folder may be written"):
        await transport(ours, tmp_path / "nowhere").serve(
            lambda _: trio.lowlevel.checkpoint(), own_address(ours)
        )  # type: ignore[arg-type]

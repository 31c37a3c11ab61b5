"""Services, credentials, isolation and vanguards on a real Tor network, through tors of our own."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import (
    child,
    control,
    facts,
    levels,
    lines,
    service,
    socks,
    vanguards,
)
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Publication, Service, Stage
from aegis_edge.net.tor.socks import Failure, SocksError
from aegis_edge.net.tor.torrc import Places
from aegis_edge.peers import onion
from tornet import TorNetwork

PATIENCE_S = 90
MEMBER = bytes(range(32))
HIGH = levels.TABLE[SecurityLevel.HIGH]


class Board:
    """A tor of a node's own, ready for circuits, and the control connection to it."""

    def __init__(self, places: Places, tor: Control) -> None:
        self.places, self.tor = places, tor

    async def dial(self, address: str, words: bytes = b"x") -> trio.SocketStream:
        isolation = (b"peer", words)
        return await socks.dial(self.places.socks, address, 80, isolation=isolation, timeout_s=60)

    async def failure(self, address: str) -> Failure:
        with pytest.raises(SocksError) as caught:
            await self.dial(address)
        return caught.value.failure

    async def publish(self, ours: Service) -> Publication:
        """Add the service and follow its descriptor until a directory has it."""
        await self.tor.command("SETEVENTS", service.EVENT)
        service.check_added(ours, await self.tor.command(*service.add(ours)))
        seen = Publication(ours.address)
        with trio.fail_after(PATIENCE_S):
            while seen.stage is not Stage.PUBLISHED:
                event = service.descriptor_event(await self.tor.events.receive())
                assert event is not None
                seen = seen.after(event)
        return seen

    async def circuits(self) -> dict[str, tuple[str, ...]]:
        """The fingerprints of the hops of each circuit that is built."""
        said = (await self.tor.command("GETINFO", "circuit-status")).values()["circuit-status"]
        found = {}
        for line in "\n".join(said).splitlines():
            number, state, path = lines.fields(line)[0][:3]
            if state == "BUILT":
                found[number] = tuple(hop[1:41] for hop in path.split(","))
        return found


@asynccontextmanager
async def board(network: TorNetwork, folder: Path) -> AsyncIterator[Board]:
    places = Places(folder)
    run = partial(child.run, places, SecurityLevel.HIGH, extra=tuple(network.torrc.items()))
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        tor = await control.connect(places.control, Credentials())
        nursery.start_soon(tor.run)
        await tor.command("SETEVENTS", "STATUS_CLIENT")
        with trio.fail_after(PATIENCE_S):
            await bootstrapped(tor)
        yield Board(places, tor)
        nursery.cancel_scope.cancel()


async def bootstrapped(tor: Control) -> None:
    established = await tor.command("GETINFO", "status/circuit-established")
    if established.values()["status/circuit-established"] == ("1",):
        return
    async for event in tor.events:
        if "CIRCUIT_ESTABLISHED" in event.lines[0].text:
            return


@asynccontextmanager
async def mirror(places: Places) -> AsyncIterator[str]:
    """Greets, and then says back what it hears; the path of its socket."""
    path = f"{places.folder}/onion"
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(path)
    listener.listen()

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"hello ")
            async for data in stream:
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_listeners, serve, [trio.SocketListener(listener)])
        nursery.start_soon(serving)
        yield path
        nursery.cancel_scope.cancel()


async def heard(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := await stream.receive_some(count - len(data))):
        data += more
    return data


async def test_a_member_gets_through_and_nobody_else(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    async with board(tor_network, tmp_path / "a") as a, board(tor_network, tmp_path / "b") as b:
        found = await facts.gather(
            a.tor, SecurityLevel.HIGH, await child.modules(), a.places.control, a.places.socks
        )
        assert levels.missing(SecurityLevel.HIGH, found) == ()
        async with mirror(a.places) as path:
            ours = Service(
                os.urandom(32),
                80,
                path,
                (sodium.x25519_public(MEMBER),),
                HIGH.max_streams,
                HIGH.proof_of_work,
            )
            assert await b.failure(ours.address) is Failure.NO_DESCRIPTOR
            assert "published in" in (await a.publish(ours)).words
            assert await b.failure(ours.address) is Failure.CREDENTIAL_MISSING
            await b.tor.command(*service.authorise(ours.address, b"w" * 32))
            assert await b.failure(ours.address) is Failure.CREDENTIAL_WRONG
            await b.tor.command(*service.authorise(ours.address, MEMBER))
            stream = await b.dial(ours.address)
            await stream.send_all(b"there")
            assert await heard(stream, 11) == b"hello there"
            await stream.aclose()


async def test_other_words_get_other_circuits(tor_network: TorNetwork, tmp_path: Path) -> None:
    async with board(tor_network, tmp_path / "a") as a, mirror(a.places) as path:
        ours = Service(os.urandom(32), 80, path)
        await a.publish(ours)
        streams = [await a.dial(ours.address, word) for word in (b"one", b"two", b"one")]
        said = (await a.tor.command("GETINFO", "stream-status")).values()["stream-status"]
        mine = [lines.fields(line)[0] for line in "\n".join(said).splitlines()]
        used = [
            circuit
            for _, state, circuit, target in (words[:4] for words in mine)
            if state == "SUCCEEDED" and target == f"{ours.address}:80"
        ]
        assert len(used) == 3 and len(set(used)) == 2
        for stream in streams:
            await stream.aclose()


async def test_a_node_that_is_not_listening_is_told_from_a_board_that_is_off(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    async with board(tor_network, tmp_path / "a") as a:
        ours = Service(os.urandom(32), 80, f"{a.places.folder}/nobody")
        await a.publish(ours)
        # One directory has the descriptor; tor may ask another, which hears of it a moment later.
        with trio.fail_after(PATIENCE_S):
            while (failure := await a.failure(ours.address)) is Failure.NO_DESCRIPTOR:
                pass
        assert failure is Failure.GENERAL
        assert "its node does not" in Failure.GENERAL.words[0]
        assert await a.failure(onion.service_address(os.urandom(32))) is Failure.NO_DESCRIPTOR


async def test_pinned_relays_are_the_second_and_third_hops(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    second, third = (
        vanguards.Layer(layer.option, 2, layer.lifetime_min_s, layer.lifetime_max_s, False)
        for layer in vanguards.FULL
    )
    async with board(tor_network, tmp_path / "a") as a, mirror(a.places) as path:
        reply = await a.tor.command("GETINFO", "ns/all", reply_bytes_max=vanguards.LIST_BYTES_MAX)
        relays = vanguards.relays(reply.values()["ns/all"][0])
        assert len(relays) == 4
        guards = vanguards.chosen((), relays, 0, random.Random(1).random, (second, third))
        await a.tor.command("SETCONF", *vanguards.options(guards, (second, third)))
        found = await facts.options(a.tor, levels.asked(SecurityLevel.PARANOID))
        lacking = levels.unguarded(SecurityLevel.PARANOID, found)
        assert [p.words for p in lacking] == [
            f"fewer than {layer.guards} relays are pinned by {layer.option}"
            for layer in vanguards.FULL
        ]
        before = set(await a.circuits())
        ours = Service(os.urandom(32), 80, path)
        await a.publish(ours)
        # Four relays are too few for the way to a meeting point, so nothing is dialled here.
        new = [hops for number, hops in (await a.circuits()).items() if number not in before]
        seconds, thirds = ({guard.fingerprint for guard in layer} for layer in guards)
        assert new and all(len(hops) >= 4 for hops in new)
        assert all(hops[1] in seconds and hops[2] in thirds for hops in new)

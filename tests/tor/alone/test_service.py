"""Onion services and credentials, as a real tor takes them; no network is needed for that."""

from __future__ import annotations

import pytest

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import levels, service
from aegis_edge.net.tor.errors import Refused
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.net.tor.torrc import Places
from aegis_edge.peers import onion
from tests.tor.alone.stage import connected, running

PRIVATE = bytes(range(32))
MEMBER = sodium.x25519_public(PRIVATE)


@pytest.mark.parametrize("level", SecurityLevel)
async def test_tor_computes_the_address_that_we_computed(
    places: Places, level: SecurityLevel
) -> None:
    wanted = levels.TABLE[level]
    clients = (MEMBER,) if wanted.client_authorisation else ()
    async with running(places), connected(places) as one:
        for number in range(5):
            ours = Service(
                sodium.plain_hash("sha256", bytes((number,))),
                80,
                f"{places.folder}/onion",
                clients,
                wanted.max_streams,
                wanted.proof_of_work,
            )
            assert ours.address not in service.present(await one.command(*service.ASK_PRESENT))
            service.check_added(ours, await one.command(*service.add(ours)))
            assert ours.address in service.present(await one.command(*service.ASK_PRESENT))


async def test_a_collision_is_seen_before_and_told_after(places: Places) -> None:
    ours = Service(bytes(32), 80, f"{places.folder}/onion")
    async with running(places), connected(places) as one:
        await one.command(*service.add(ours))
        assert service.present(await one.command(*service.ASK_PRESENT)) == {ours.address}
        async with connected(places) as other:  # it does not see what is not its own
            assert service.present(await other.command(*service.ASK_PRESENT)) == set()
            with pytest.raises(Refused) as caught:
                await other.command(*service.add(ours))
            assert "stop the other aegis-edge" in service.explained(caught.value).advice
        await one.command(*service.remove(ours.address))
        await one.command(*service.add(ours))


async def test_a_service_ends_with_its_connection(places: Places) -> None:
    ours = Service(bytes(32), 80, f"{places.folder}/onion")
    async with running(places), connected(places) as one:
        async with connected(places) as other:
            await other.command(*service.add(ours))
        await one.command("GETINFO", "version")
        service.check_added(ours, await one.command(*service.add(ours)))


async def test_as_many_clients_as_tor_takes(places: Places) -> None:
    clients = tuple(
        sodium.x25519_public(number.to_bytes(32, "big"))
        for number in range(1, service.CLIENTS_MAX + 1)
    )
    ours = Service(bytes(32), 80, f"{places.folder}/onion", clients)
    async with running(places), connected(places) as one:
        service.check_added(ours, await one.command(*service.add(ours)))


async def test_tor_keeps_a_credential_for_each_address(places: Places) -> None:
    address = onion.service_address(bytes(32))
    async with running(places), connected(places) as one:
        for _ in range(2):  # the second replaces the first
            await one.command(*service.authorise(address, PRIVATE))
        seen = await one.command("ONION_CLIENT_AUTH_VIEW")
        assert any(onion.client_credential(PRIVATE) in line.text for line in seen.lines)
        await one.command(*service.deauthorise(address))
        seen = await one.command("ONION_CLIENT_AUTH_VIEW")
        assert not any("x25519" in line.text for line in seen.lines)

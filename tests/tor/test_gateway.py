"""The names for programs of one's own: services, and streams to them, over a real Tor network."""

from __future__ import annotations

import pytest
import trio

from aegis_edge import SecurityLevel, create_secure_tor_gateway
from aegis_edge.gateway import SecureTorGateway
from aegis_edge.net.tor.socks import Failure, SocksError
from tests.tor.homes import PATIENCE_S
from tornet import TorNetwork


def options(network: TorNetwork) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, values in network.torrc.items()
        for value in ([values] if isinstance(values, str) else values)
    ]


async def failure(gateway: SecureTorGateway, *place: object) -> Failure:
    with pytest.raises(SocksError) as caught:
        await (await gateway.connect(*place)).aclose()  # type: ignore[arg-type]
    return caught.value.failure


async def test_only_who_has_the_credential_reaches_a_service(tor_network: TorNetwork) -> None:
    torrc = options(tor_network)
    with trio.fail_after(2 * PATIENCE_S):
        async with (
            create_secure_tor_gateway(SecurityLevel.HIGH, torrc=torrc) as here,
            create_secure_tor_gateway("HIGH", torrc=torrc) as there,
        ):
            seed = bytes(range(32))
            async with here.create_onion_service(8080, seed=seed) as service:
                assert service.credential is not None
                assert service.credential.hex() not in repr(service)
                assert await failure(there, service.address, 8080) is Failure.CREDENTIAL_MISSING
                stream = await there.connect(service.address, 8080, service.credential)
                await stream.send_all(b"from there")
                caller = await service.accept()
                assert await caller.receive_some() == b"from there"
                await caller.send_all(b"and back")
                assert await stream.receive_some() == b"and back"
                await caller.aclose()
                await stream.aclose()
            # Its end is the end of its block; the same seed has the same address again.
            async with here.create_onion_service(8080, seed=seed) as again:
                assert again.address == service.address
                assert again.credential != service.credential


async def test_without_client_authorisation_there_is_no_credential(
    tor_network: TorNetwork,
) -> None:
    async with create_secure_tor_gateway("STANDARD", torrc=options(tor_network)) as gateway:
        with pytest.raises(ValueError, match="no client authorisation"):
            async with gateway.create_onion_service(80, credential=bytes(32)):
                pass
        for port in (0, 65_536):
            with pytest.raises(ValueError, match="no port"):
                async with gateway.create_onion_service(port):
                    pass
        with pytest.raises(ValueError, match="does not end with"):
            await gateway.connect("example.org", 80)

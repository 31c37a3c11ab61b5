from __future__ import annotations

import trio

from aegis_edge.net.tor import facts
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.levels import SecurityLevel, asked
from tests.net.tor.test_control import Tor, connected

PLACE, SOCKS = Endpoint(path="/control"), Endpoint(path="/socks")


async def old_tor(tor: Tor) -> None:
    """A tor that knows no vanguards."""
    while line := await tor.hears():
        if line == "GETINFO version\r\n":
            await tor.says(b"250-version=0.4.6.12\r\n250 OK\r\n")
        elif "VanguardsLiteEnabled" in line:
            await tor.says(b'552 Unrecognized configuration key "VanguardsLiteEnabled"\r\n')
        else:
            await tor.says(f"250 {line.split()[1]}=1\r\n".encode())


async def test_what_an_old_tor_does_not_know_is_missing_and_nothing_else() -> None:
    level = SecurityLevel.HIGH
    async with connected() as (control, tor), trio.open_nursery() as nursery:
        nursery.start_soon(old_tor, tor)
        found = await facts.gather(control, level, frozenset({"pow"}), PLACE, SOCKS)
        nursery.cancel_scope.cancel()
    assert found.version == "0.4.6.12" and found.modules == {"pow"}
    assert (found.control, found.socks) == (PLACE, SOCKS)
    assert found.conf == {name: ("1",) for name in asked(level) if name != "VanguardsLiteEnabled"}

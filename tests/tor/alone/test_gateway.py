"""The gateway before a real tor that will not do, or not yet: never in a weaker mode."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from aegis_edge import create_secure_tor_gateway
from aegis_edge.net.channel import LinkError
from aegis_edge.net.tor import child
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.gateway import Gateway, LevelError, Progress, Tor
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.net.tor.torrc import Places
from aegis_edge.net.tor.transport import Onions
from aegis_edge.peers import onion
from tests.tor.alone.stage import NO_NETWORK, running

POW = frozenset({"pow"})
OTHER = f"onion:{onion.service_address(bytes([1]) * 32)}:80"


def gateway(places: Places, tor: Tor, level: SecurityLevel = SecurityLevel.HIGH) -> Gateway:
    own = Service(bytes(32), 80, f"{places.folder}/onion.sock")
    return Gateway(tor, level, [own], {})


async def refusal(ours: Gateway) -> LevelError:
    """What the gateway ends of."""
    with trio.fail_after(30), pytest.raises(LevelError) as caught:
        await ours.run()
    with pytest.raises(LinkError, match="tor is not ready"):
        await Onions(ours, Path()).dial(OTHER)
    return caught.value


async def test_a_program_gets_what_is_wrong_by_itself_and_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nonsense = create_secure_tor_gateway(torrc=[NO_NETWORK, ("Nonsense", "1")])
    with trio.fail_after(30), pytest.raises(TorError, match=r"refuses its settings.*Nonsense"):
        async with nonsense:
            pytest.fail("it began")

    async def modules() -> frozenset[str]:
        return frozenset({"relay"})

    monkeypatch.setattr(child, "modules", modules)
    with trio.fail_after(30), pytest.raises(LevelError, match="built without proof of work"):
        async with create_secure_tor_gateway(torrc=[NO_NETWORK]):
            pytest.fail("it began")


async def test_a_tor_of_a_lower_level_is_refused_with_each_fix(places: Places) -> None:
    async with running(places, level=SecurityLevel.STANDARD):
        error = await refusal(gateway(places, Tor(places.control, places.socks, modules=POW)))
    assert "SECURITY_LEVEL HIGH" in str(error)
    assert "ConnectionPadding is auto, not 1: put the line ConnectionPadding 1" in str(error)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (frozenset({"relay"}), "built without proof of work"),
        (None, "not known whether this tor was built with proof of work"),
    ],
)
async def test_a_tor_without_proof_of_work_is_refused(
    places: Places, modules: frozenset[str] | None, said: str
) -> None:
    async with running(places, level=SecurityLevel.HIGH):
        tor = Tor(places.control, places.socks, modules=modules)
        assert said in str(await refusal(gateway(places, tor)))


async def test_a_tor_that_is_reached_over_a_network_is_refused(places: Places) -> None:
    async with running(places, level=SecurityLevel.HIGH):
        socks = Endpoint(host="127.0.0.1", port=9050)
        error = await refusal(gateway(places, Tor(places.control, socks, modules=POW)))
    assert "so this node needs a network" in str(error)


async def test_a_wrong_cookie_is_said_and_nothing_is_begun(places: Places, tmp_path: Path) -> None:
    cookie = tmp_path / "cookie"
    cookie.write_bytes(bytes(32))
    tor = Tor(places.control, places.socks, Credentials(cookie_file=cookie), POW)
    ours = gateway(places, tor)
    async with running(places, level=SecurityLevel.HIGH):
        with trio.move_on_after(2):
            await ours.run()
    assert ours.standing.progress is Progress.NO_TOR
    assert "cookie" in ours.standing.words


async def test_a_tor_that_is_stuck_is_waited_for_with_its_own_words(places: Places) -> None:
    """Without a network it never gets past its first percent."""
    ours = gateway(places, Tor(places.control, places.socks, modules=POW))
    async with running(places, level=SecurityLevel.HIGH):
        with trio.move_on_after(3):
            await ours.run()
    assert ours.standing.progress is Progress.BOOTSTRAPPING
    assert ours.standing.words.startswith("tor is at 0 %")
    with pytest.raises(LinkError, match="tor is not ready: tor is at 0 %"):
        await Onions(ours, Path()).dial(OTHER)

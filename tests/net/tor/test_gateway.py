"""The gateway where no tor is, or none that will do; with a real one: tests/tor/test_way.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from aegis_edge.net.channel import LinkError, ListenError
from aegis_edge.net.tor import control
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.gateway import Gateway, LevelError, Progress, Tor
from aegis_edge.net.tor.levels import Problem, SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.peers import onion

SEED = bytes(32)
OTHER = f"onion:{onion.service_address(bytes([1]) * 32)}:80"


def gateway(folder: Path) -> Gateway:
    tor = Tor(
        Endpoint(path=f"{folder}/control"), Endpoint(path=f"{folder}/socks"), folder / "vanguards"
    )
    own = Service(SEED, 80, f"{folder}/onion.sock")
    return Gateway(tor, SecurityLevel.STANDARD, [own], {})


def own_address(ours: Gateway) -> str:
    return f"onion:{ours.standing.address}:80"


async def test_without_a_tor_it_waits_and_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ours = gateway(tmp_path)
    with trio.move_on_after(100):
        await ours.run()
    assert ours.standing.progress is Progress.NO_TOR
    assert "start tor" in ours.standing.words
    with pytest.raises(LinkError, match="tor is not ready: there is no tor's control port"):
        await ours.dial(OTHER)


async def test_a_tor_that_never_answers_is_given_up_after_its_second_opening(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The first one it may spend on reading what it knows from a slow card."""
    ours = gateway(tmp_path)
    given_up = []
    ours.hung = lambda: given_up.append(trio.current_time())
    with trio.socket.socket(trio.socket.AF_UNIX) as silent:
        await silent.bind(f"{tmp_path}/control")
        silent.listen(8)
        began = trio.current_time()
        with trio.move_on_after(2.5 * control.OPENING_TIMEOUT_S):
            await ours.run()
    assert "tor does not answer at" in ours.standing.words
    assert [at - began >= 2 * control.OPENING_TIMEOUT_S for at in given_up] == [True]


async def test_only_onion_addresses_are_dialled(tmp_path: Path) -> None:
    ours = gateway(tmp_path)
    ours.standing.progress = Progress.REACHABLE
    for address in ("tcp:192.0.2.1:80", "onion:board.local:80"):
        with pytest.raises(LinkError, match="no onion"):
            await ours.dial(address)
    with pytest.raises(LinkError, match="SOCKS port cannot be opened"):
        await ours.dial(OTHER)


async def test_tors_socket_is_made_private_and_goes_with_the_node(tmp_path: Path) -> None:
    ours = gateway(tmp_path)
    path = tmp_path / "onion.sock"
    path.write_text("left behind")
    arrived = []

    async def handler(channel: object) -> None:
        arrived.append(channel)

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(ours.serve, handler, own_address(ours))
        assert bound == (own_address(ours),)
        assert path.is_socket()
        assert path.stat().st_mode & 0o007 == 0
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ours = gateway(tmp_path / "nowhere")
    with pytest.raises(ListenError, match="see that its folder may be written"):
        await ours.serve(lambda _: trio.lowlevel.checkpoint(), own_address(ours))  # type: ignore[arg-type]


def test_a_missing_promise_names_the_level_and_each_fix() -> None:
    error = LevelError(SecurityLevel.HIGH, [Problem("it has no bridges", "add some")])
    assert "SECURITY_LEVEL HIGH" in str(error)
    assert "it has no bridges: add some" in str(error)
    assert error.exit_code == 78

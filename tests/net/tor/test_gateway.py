"""The gateway where no tor is, or none that will do; with a real one: tests/tor/test_way.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from aegis_edge.net.channel import LinkError
from aegis_edge.net.tor import control
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.gateway import Gateway, LevelError, Progress, Tor
from aegis_edge.net.tor.levels import Problem, SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.net.tor.transport import Onions
from aegis_edge.peers import onion

SEED = bytes(32)
OTHER = f"onion:{onion.service_address(bytes([1]) * 32)}:80"


def gateway(folder: Path) -> Gateway:
    tor = Tor(Endpoint(path=f"{folder}/control"), Endpoint(path=f"{folder}/socks"))
    own = Service(SEED, 80, f"{folder}/onion.sock")
    return Gateway(tor, SecurityLevel.STANDARD, [own], {})


def transport(ours: Gateway, folder: Path = Path()) -> Onions:
    return Onions(ours, folder / "onion.sock")


async def test_without_a_tor_it_waits_and_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ours = gateway(tmp_path)
    with trio.move_on_after(100):
        await ours.run()
    assert ours.standing.progress is Progress.NO_TOR
    assert "start tor" in ours.standing.words
    with pytest.raises(LinkError, match="tor is not ready: there is no tor's control port"):
        await transport(ours).dial(OTHER)


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


def test_a_missing_promise_names_the_level_and_each_fix() -> None:
    error = LevelError(SecurityLevel.HIGH, [Problem("it has no bridges", "add some")])
    assert "SECURITY_LEVEL HIGH" in str(error)
    assert "it has no bridges: add some" in str(error)
    assert error.exit_code == 78

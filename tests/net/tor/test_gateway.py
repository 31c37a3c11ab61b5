"""The gateway where no tor is, or none that will do; with a real one: tests/tor/test_way.py."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from aegis_edge.net.channel import LinkError
from aegis_edge.net.tor import control, service
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.gateway import Gateway, LevelError, Progress, Tor
from aegis_edge.net.tor.levels import Problem, SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.net.tor.transport import Onions
from aegis_edge.peers import onion

SEED = bytes(32)
OTHER = f"onion:{onion.service_address(bytes([1]) * 32)}:80"


def gateway(folder: Path, *, is_own: bool = False) -> Gateway:
    control, socks = Endpoint(path=f"{folder}/control"), Endpoint(path=f"{folder}/socks")
    tor = Tor(control, socks, is_own=is_own)
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


async def test_a_tor_that_the_node_starts_is_not_for_its_owner_to_start(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ours = gateway(tmp_path, is_own=True)
    with trio.move_on_after(100):
        await ours.run()
    assert ours.standing.words.endswith("; the node is starting its own")
    assert "start tor" not in caplog.text


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


class Following:
    """What a gateway tells its tor about changes, where that tor takes everything."""

    def __init__(self, folder: Path, *own: Service) -> None:
        tor = Tor(Endpoint(path=f"{folder}/control"), Endpoint(path=f"{folder}/socks"))
        self.gateway = Gateway(tor, SecurityLevel.HIGH, own, {})
        self._own = own
        self._said: list[object] = []

    async def run(self) -> None:
        await self.gateway._follow(self, {}, self._own, self._announce)  # type: ignore[arg-type]

    async def command(self, *words: str) -> None:
        await trio.lowlevel.checkpoint()
        self._said.append(words)

    async def _announce(self, own: Service) -> None:
        await trio.lowlevel.checkpoint()
        self._said.append(own)

    async def said(self) -> list[object]:
        """Since it was asked last."""
        await wait_all_tasks_blocked()
        said, self._said = self._said, []
        return said


def for_callers(*callers: bytes, seed: bytes = SEED) -> Service:
    return Service(seed, 80, "/onion.sock", callers)


ONE, TWO, THREE = (bytes([n]) * 32 for n in (1, 2, 3))


async def test_a_service_is_announced_anew_for_other_callers_and_for_nothing_else(
    tmp_path: Path,
) -> None:
    following = Following(tmp_path, for_callers(ONE))
    ours, found = following.gateway, onion.service_address(TWO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(following.run)
        assert await following.said() == []
        ours.standing.progress = Progress.REACHABLE
        ours.meet({found: THREE}, [ONE])
        assert await following.said() == [service.authorise(found, THREE)]
        assert ours.standing.progress is Progress.REACHABLE
        ours.meet({found: THREE}, [ONE, TWO])
        ours.meet({}, [ONE, THREE])
        assert await following.said() == [service.deauthorise(found), for_callers(ONE, THREE)]
        assert ours.standing.progress is Progress.ANNOUNCING, "nobody finds it for a moment"
        ours.meet({}, [ONE, THREE])
        assert await following.said() == []
        nursery.cancel_scope.cancel()


async def test_an_address_that_was_given_up_does_not_come_back_with_other_members(
    tmp_path: Path,
) -> None:
    old = for_callers(ONE, seed=TWO)
    following = Following(tmp_path, for_callers(ONE), old)
    ours = following.gateway
    async with trio.open_nursery() as nursery:
        nursery.start_soon(following.run)
        ours.meet({}, [TWO])
        assert await following.said() == [for_callers(TWO), for_callers(TWO, seed=TWO)]
        ours.retire()
        assert await following.said() == [service.remove(old.address)]
        ours.meet({}, [THREE])
        assert await following.said() == [for_callers(THREE)]
        nursery.cancel_scope.cancel()


def test_a_service_for_some_never_becomes_one_for_all(tmp_path: Path) -> None:
    following = Following(tmp_path, for_callers(ONE))
    with pytest.raises(AssertionError, match="not for everybody"):
        following.gateway.meet({}, [])


def test_a_missing_promise_names_the_level_and_each_fix() -> None:
    error = LevelError(SecurityLevel.HIGH, [Problem("it has no bridges", "add some")])
    assert "SECURITY_LEVEL HIGH" in str(error)
    assert "it has no bridges: add some" in str(error)
    assert error.exit_code == 78

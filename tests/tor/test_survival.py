"""A tor that hangs, forgets, is restarted or cut off: links and services come back by themselves.

Tors are real; so are the nodes, or the gateways of nodes where a test has to be less patient than
a board: only for how long it waits for an answer.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from aegis_edge.crypto import sodium
from aegis_edge.net.channel import Channel, Goodbye, LinkError
from aegis_edge.net.tor import gateway
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.gateway import Gateway, LevelError, Progress, Tor
from aegis_edge.net.tor.keeper import Keeper
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.net.tor.torrc import Places
from aegis_edge.net.tor.transport import Onions
from tests.tor.boards import PATIENCE_S, board, clustered, linked, running, system_tor
from tests.tor.onion import control
from tornet import TorNetwork
from tors import Client

HIGH, STANDARD = SecurityLevel.HIGH, SecurityLevel.STANDARD
POW = frozenset({"pow"})
KEY = bytes(range(32))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that gives a tor up after seconds instead of half a minute."""
    monkeypatch.setattr(gateway, "WATCH_S", 0.5)
    monkeypatch.setattr(gateway, "ANSWER_S", 2.0)
    monkeypatch.setattr(gateway, "SELF_DIAL_RETRY_S", 1.0)
    monkeypatch.setattr(gateway, "DIAL_TIMEOUT_S", 8.0)


def of_system(tor: Client) -> Tor:
    places = (Endpoint(path=str(path)) for path in (tor.control_path, tor.socks_path))
    return Tor(*places, modules=POW)


async def until(done: Callable[[], bool], ours: Gateway) -> None:
    with trio.move_on_after(PATIENCE_S) as waiting:
        while not done():
            await trio.sleep(0.05)
    assert not waiting.cancelled_caught, ours.standing


@asynccontextmanager
async def kept_up(ours: Gateway) -> AsyncIterator[trio.Nursery]:
    """A gateway that is reachable, and hangs up on whoever calls."""

    async def refuse(_: Channel) -> Goodbye:
        return Goodbye.NORMAL

    async with trio.open_nursery() as nursery:
        links = Onions(ours, Path(ours._own[0].target))
        await nursery.start(links.serve, refuse, f"onion:{ours.standing.address}:80")
        nursery.start_soon(ours.run)
        yield nursery
        nursery.cancel_scope.cancel()


async def dial(ours: Gateway, place: str) -> Channel:
    return await Onions(ours, Path()).dial(place)


async def reachable(ours: Gateway) -> None:
    await until(lambda: ours.standing.progress is Progress.REACHABLE, ours)


def service(folder: Path, seed: int, clients: Sequence[bytes] = ()) -> Service:
    public = tuple(map(sodium.x25519_public, clients))
    return Service(bytes([seed]) * 32, 80, f"{folder}/onion{seed}.sock", public)


# --- links, and tors that are restarted ---------------------------------------------------------


def test_links_outlive_a_newnym_and_come_back_after_a_restart_and_an_upgrade(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    tors = [system_tor(tor_network, name, STANDARD) for name in ("steady", "restarted")]
    boards = [board(tmp_path / tor.name, tor, STANDARD) for tor in tors]
    clustered(*boards)
    with running(boards[0]) as steady, running(boards[1]) as other:
        linked(steady, other)
        for each in tors:
            with control(each) as controller:
                controller.signal("NEWNYM")
        linked(steady, other)
        assert [p["traffic"]["links"] for node in (steady, other) for p in node.peers()] == [1, 1]
        for is_upgrade in (False, True):
            tors[1].kill(signal.SIGTERM)
            assert other.until_words("start tor")["stage"] == "no tor"
            if is_upgrade:
                forget_everything(tors[1])
            tors[1].start(wait=False)
            other.until_reachable()
            linked(steady, other)


def forget_everything(tor: Client) -> None:
    """Another version may find nothing that it can use."""
    for path in tor.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("log", "defaults"):
            path.unlink()


async def test_members_are_still_found_after_what_has_tor_forget_their_keys(
    tor_network: TorNetwork, tmp_path: Path, hasty: None
) -> None:
    """A NEWNYM, a torrc that is read again, and any SETCONF, even of what is so already."""
    tors = [system_tor(tor_network, name, HIGH) for name in ("found", "finder")]
    theirs = service(tmp_path, 1, [KEY])
    keys_for = {theirs.address: KEY}
    found = Gateway(of_system(tors[0]), HIGH, [theirs], keys_for)
    finder = Gateway(of_system(tors[1]), HIGH, [service(tmp_path, 2)], keys_for)
    place = f"onion:{found.standing.address}:80"
    async with kept_up(found), kept_up(finder):
        await reachable(finder)
        await reachable(found)  # published is when one directory has it, and tor asks any of them
        await (await dial(finder, place)).aclose()
        with control(tors[1]) as controller:

            def keys() -> list[str]:
                said = controller.msg("ONION_CLIENT_AUTH_VIEW")
                return [line for _, _, line in said.content() if "x25519" in line]

            heard: list[object] = []
            controller.add_event_listener(heard.append, "SIGNAL")
            assert len(keys()) == 1
            for name in ("NEWNYM", "RELOAD"):
                controller.signal(name)
                await until(lambda: bool(heard) and len(keys()) == 1, finder)
                await (await dial(finder, place)).aclose()
                heard.clear()
            controller.set_conf("ConnectionPadding", "1")
            await until(lambda: len(keys()) == 1, finder)
        await (await dial(finder, place)).aclose()


async def test_a_tor_that_is_told_to_do_less_ends_the_node(
    tor_network: TorNetwork, tmp_path: Path, hasty: None
) -> None:
    """Whoever may use its control port can; nothing goes on in a weaker mode."""
    tor = system_tor(tor_network, "lowered", HIGH)
    ours = Gateway(of_system(tor), HIGH, [service(tmp_path, 1, [KEY])], {})

    async def told_to_do_less() -> None:
        async with kept_up(ours):
            await until(lambda: ours.standing.progress is Progress.PUBLISHED, ours)
            with control(tor) as controller:
                controller.set_conf("ConnectionPadding", "auto")
            with trio.fail_after(PATIENCE_S):
                await trio.sleep_forever()

    with pytest.raises((LevelError, ExceptionGroup)) as caught:
        await told_to_do_less()
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert "ConnectionPadding is auto, not 1" in str(error)


# --- tors that hang -----------------------------------------------------------------------------


async def test_a_system_tor_that_hangs_or_hangs_up_is_said_and_taken_up_again(
    tor_network: TorNetwork, tmp_path: Path, hasty: None
) -> None:
    tor = system_tor(tor_network, "hangs", STANDARD)
    ours = Gateway(of_system(tor), STANDARD, [service(tmp_path, 1)], {})
    async with kept_up(ours):
        await reachable(ours)
        assert tor.process is not None
        tor.process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: ours.standing.progress is Progress.NO_TOR, ours)
            assert "tor does not answer GETINFO within 2 s; restart tor" in ours.standing.words
            with pytest.raises(LinkError, match="tor is not ready: tor does not answer"):
                await dial(ours, f"onion:{ours.standing.address}:80")
        finally:
            tor.process.send_signal(signal.SIGCONT)
        await reachable(ours)
        assert ours._control is not None
        await ours._control.aclose()
        await until(lambda: ours.standing.progress is Progress.NO_TOR, ours)
        assert "see in tor's log whether it was stopped or crashed" in ours.standing.words
        await reachable(ours)


async def test_a_tor_of_the_nodes_own_that_hangs_is_started_again(
    tor_network: TorNetwork, tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path / "own")
    extra = tuple((name, str(value)) for name, value in tor_network.torrc.items())
    kept = Keeper(places, STANDARD, extra)
    own = Tor(places.control, places.socks, modules=POW, is_own=True)
    ours = Gateway(own, STANDARD, [service(tmp_path, 1)], {})
    ours.hung = kept.restart
    async with kept_up(ours) as nursery:
        nursery.start_soon(kept.run)
        await reachable(ours)
        first = process_of(places)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: ours.standing.progress is Progress.NO_TOR, ours)
        await reachable(ours)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert process_of(places) != first


def process_of(places: Places) -> int:
    wanted = bytes(places.torrc)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "cmdline").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("there is no such tor")


# --- what is left of others ---------------------------------------------------------------------


async def test_a_board_that_lost_its_power_is_found_again_by_the_second_dial(
    tor_network: TorNetwork, tmp_path: Path, hasty: None
) -> None:
    """Its relays believe in its circuits for long: its first tor is stopped, as if it were dark.

    Without a dial that takes nothing of the one before, this takes two and a half minutes.
    """
    names = ("before", "after", "caller")
    before, after, caller = (system_tor(tor_network, name, STANDARD) for name in names)
    own = service(tmp_path, 1)
    ours = Gateway(of_system(caller), STANDARD, [service(tmp_path, 2)], {})
    place = f"onion:{own.address}:80"
    async with kept_up(ours):
        await reachable(ours)
        async with kept_up(first := Gateway(of_system(before), STANDARD, [own], {})):
            await reachable(first)
            await (await dial(ours, place)).aclose()
            assert before.process is not None
            before.process.send_signal(signal.SIGSTOP)
        async with kept_up(second := Gateway(of_system(after), STANDARD, [own], {})):
            await reachable(second)
            with pytest.raises(LinkError, match="no connection in time"):
                await dial(ours, place)
            began = time.monotonic()
            await (await dial(ours, place)).aclose()
            assert time.monotonic() - began < gateway.DIAL_TIMEOUT_S
    before.kill()

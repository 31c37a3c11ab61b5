"""The service beside a clock that is turned by hand: no test waits for a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from aegis_edge import supervisor
from aegis_edge.supervisor import service
from aegis_edge.supervisor.pulse import DISK_SILENCE_S
from aegis_edge.supervisor.restarts import STEADY_S, WAIT_S, Restarts
from aegis_edge.supervisor.service import Service
from tests.supervisor.boards import status, tor


class Manager:
    """Keeps the lines that it is told, with the time."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []

    def tell(self, lines: Iterable[str]) -> None:
        now_s = trio.current_time()
        self.lines += [(now_s, line) for line in lines]

    def times(self, line: str) -> list[float]:
        return [now_s for now_s, said in self.lines if said.startswith(line)]


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


async def answering() -> None:
    await trio.lowlevel.checkpoint()


async def attended(watched: Service, seconds: float, ask: Any = answering) -> None:
    with trio.move_on_after(seconds):
        await watched.attend(status, ask)


async def test_a_watchdog_is_fed_four_times_as_often_as_it_asks(
    manager: Manager, clock: trio.testing.MockClock
) -> None:
    await attended(Service(manager.tell, watchdog_s=8), 9)
    began = manager.times("READY=1")
    assert [now_s - began[0] for now_s in manager.times("WATCHDOG=1")] == [0, 2, 4, 6, 8]
    assert len(manager.times("STATUS=")) == 1


async def test_a_disk_that_hangs_is_not_hidden_by_a_loop_that_turns(
    manager: Manager, clock: trio.testing.MockClock
) -> None:
    began_s = trio.current_time()
    await attended(Service(manager.tell), 4 * DISK_SILENCE_S, ask=trio.sleep_forever)
    assert manager.times("WATCHDOG=1")[-1] == began_s + DISK_SILENCE_S
    assert len(manager.times("STATUS=the disk has not answered")) > 1


async def test_a_disk_that_says_no_has_not_answered(
    manager: Manager, clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing() -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(5, "Input/output error")

    began_s = trio.current_time()
    await attended(Service(manager.tell), 4 * DISK_SILENCE_S, ask=failing)
    assert manager.times("WATCHDOG=1")[-1] == began_s + DISK_SILENCE_S
    assert "the disk answers with an error: Input/output error" in caplog.text


async def test_who_waits_for_tor_is_given_more_time_and_is_not_ready(
    manager: Manager, clock: trio.testing.MockClock
) -> None:
    watched = Service(manager.tell)
    with trio.move_on_after(1_000):
        await watched.attend(lambda: status(**tor("no tor", "refused")), answering)
    more = manager.times("EXTEND_TIMEOUT_USEC=")
    assert max(b - a for a, b in pairwise(more)) < service.EXTEND_S
    assert manager.times("READY=1") == manager.times("WATCHDOG=1") == []
    watched.reloaded()
    assert manager.times("READY=1") == []


async def test_a_long_opening_is_given_time_until_the_node_serves(
    manager: Manager, clock: trio.testing.MockClock
) -> None:
    watched = Service(manager.tell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.open)
        await trio.sleep(200)
        more = manager.times("EXTEND_TIMEOUT_USEC=")
        assert max(b - a for a, b in pairwise(more)) < service.EXTEND_S
        assert manager.times("STATUS=opens its database")
        nursery.start_soon(partial(attended, watched, 100))
        await trio.testing.wait_all_tasks_blocked()
        given = len(manager.times("EXTEND_TIMEOUT_USEC="))
    assert len(manager.times("EXTEND_TIMEOUT_USEC=")) == given


async def test_an_opening_that_never_ends_is_given_up(
    manager: Manager, clock: trio.testing.MockClock
) -> None:
    began_s = trio.current_time()
    await Service(manager.tell).open()
    assert trio.current_time() - began_s == service.OPEN_S_MAX


async def test_a_node_that_keeps_ending_waits_before_it_begins(
    manager: Manager, clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    waited = []
    for _ in range(4):
        began_s = trio.current_time()
        await Service(manager.tell, restarts=Restarts(tmp_path)).pause(trio.Event())
        waited.append(trio.current_time() - began_s)
    assert waited == [0, 0, WAIT_S, 2 * WAIT_S]
    assert manager.times("STATUS=ended soon after each of 2 starts, begins again in 3 s")


async def test_who_is_told_to_stop_does_not_wait(
    manager: Manager, clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    (tmp_path / "starts").write_text("9")
    stop = trio.Event()
    stop.set()
    began_s = trio.current_time()
    await Service(manager.tell, restarts=Restarts(tmp_path)).pause(stop)
    assert trio.current_time() == began_s


@pytest.mark.parametrize(("seconds", "before"), [(STEADY_S / 2, 1), (STEADY_S * 2, 0)])
async def test_who_lasts_begins_at_once_the_next_time(
    manager: Manager, clock: trio.testing.MockClock, tmp_path: Path, seconds: float, before: int
) -> None:
    watched = Service(manager.tell, restarts=Restarts(tmp_path))
    await watched.pause(trio.Event())
    await attended(watched, seconds)
    assert Restarts(tmp_path).begun() == before


async def test_who_is_told_to_stop_has_not_failed(
    manager: Manager, clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    watched = Service(manager.tell, restarts=Restarts(tmp_path))
    await watched.pause(trio.Event())
    watched.stopping()
    assert [line for _, line in manager.lines] == ["STOPPING=1", "STATUS=stops"]
    assert Restarts(tmp_path).begun() == 0


async def test_settings_are_read_anew_between_two_lines(
    manager: Manager, clock: trio.testing.MockClock
) -> None:
    watched = Service(manager.tell)
    await attended(watched, 1)
    del manager.lines[:]
    watched.reloading()
    watched.reloaded()
    first, usec, last = (line for _, line in manager.lines)
    assert (first, last) == ("RELOADING=1", "READY=1")
    assert int(usec.removeprefix("MONOTONIC_USEC=")) > 0


async def test_what_is_said_is_one_line(manager: Manager, clock: trio.testing.MockClock) -> None:
    Service(manager.tell).say("no\nREADY=1")
    assert [line for _, line in manager.lines] == ["STATUS=no READY=1"]


async def test_the_environment_says_which_manager(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    assert supervisor.of({}) is None
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
        watched = supervisor.of(
            {
                "NOTIFY_SOCKET": path,
                "WATCHDOG_USEC": "4000000",
                "WATCHDOG_PID": str(os.getpid()),
                "RUNTIME_DIRECTORY": f"{tmp_path}:/elsewhere",
            }
        )
        assert watched is not None
        await watched.pause(trio.Event())
        await attended(watched, 1.5)
        lines = end.recv(1000).decode().splitlines()
        assert lines[:2] == ["READY=1", "WATCHDOG=1"]
        assert end.recv(1000) == b"WATCHDOG=1"
    assert Restarts(tmp_path).begun() == 1

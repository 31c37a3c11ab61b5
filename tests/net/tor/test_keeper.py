"""When the node's own tor is started again; a real one is in tests/tor/test_survival.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.tor import child, keeper
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.keeper import Keeper
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places


def kept(tmp_path: Path) -> Keeper:
    return Keeper(Places(tmp_path), SecurityLevel.HIGH)


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[float]]:
    """Sets how long a tor lives; gives the moments at which one was started."""
    started: list[float] = []

    def set_to(seconds: float) -> list[float]:
        async def run(*_: Any, **__: Any) -> None:
            started.append(trio.current_time())
            await trio.sleep(seconds)
            raise TorError("tor ended by itself", "see why")

        monkeypatch.setattr(child, "run", run)
        return started

    return set_to


async def test_one_that_ends_is_started_again_and_later_each_time(
    tmp_path: Path,
    lives: Callable[[float], list[float]],
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    started = lives(0)
    with trio.move_on_after(200), caplog.at_level(logging.ERROR):
        await kept(tmp_path).run()
    pauses = [round(b - a) for a, b in pairwise(started)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert "tor ended by itself; see why" in caplog.text


async def test_one_that_ran_for_long_is_started_again_soon(
    tmp_path: Path, lives: Callable[[float], list[float]], autojump_clock: MockClock
) -> None:
    life_s = keeper.STEADY_S + 1
    started = lives(life_s)
    with trio.move_on_after(5 * life_s):
        await kept(tmp_path).run()
    assert {round(b - a - life_s) for a, b in pairwise(started)} == {1}


async def test_one_that_hangs_is_ended_and_another_started(
    tmp_path: Path, lives: Callable[[float], list[float]], autojump_clock: MockClock
) -> None:
    started = lives(1_000_000)
    ours = kept(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        await trio.sleep(10)
        ours.restart()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(started) == 2

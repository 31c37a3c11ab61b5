"""What the names for programs refuse before any tor runs; the rest: tests/tor/test_gateway.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

import aegis_edge
from aegis_edge import SecurityLevel, create_secure_tor_gateway
from aegis_edge.gateway import LevelError, TorError, _beside


@pytest.mark.parametrize("torrc", [[], [("Bridge", "192.0.2.1:443")]])
async def test_a_level_that_cannot_be_kept_begins_with_nothing(
    torrc: Sequence[tuple[str, str]], tmp_path: Path
) -> None:
    with pytest.raises(LevelError, match="PARANOID promises"):
        async with create_secure_tor_gateway(SecurityLevel.PARANOID, folder=tmp_path, torrc=torrc):
            pytest.fail("it began")


async def test_guards_that_stay_need_a_place() -> None:
    with pytest.raises(ValueError, match="name a folder"):
        async with create_secure_tor_gateway(SecurityLevel.PARANOID):
            pytest.fail("it began")


async def test_options_that_weaken_the_level_are_refused_at_once() -> None:
    with trio.fail_after(10), pytest.raises(TorError, match="VanguardsLiteEnabled cannot be"):
        async with create_secure_tor_gateway(torrc=[("VanguardsLiteEnabled", "0")]):
            pytest.fail("it began")


async def test_what_ends_a_block_comes_as_it_was_raised() -> None:
    async def ends() -> None:
        raise LevelError(SecurityLevel.HIGH, ())

    async def goes_wrong() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("x")

    with pytest.raises(LevelError):
        async with _beside(ends, trio.sleep_forever):
            await trio.sleep_forever()
    with pytest.raises(LevelError):  # though what it cancels goes wrong as well
        async with _beside(ends):
            await goes_wrong()
    with pytest.raises(KeyError):
        async with _beside(trio.sleep_forever):
            raise KeyError("x")
    with pytest.raises(ExceptionGroup, match="the block's own"):
        async with _beside(trio.sleep_forever):
            raise ExceptionGroup("the block's own", [KeyError("x")])
    with trio.move_on_after(0) as scope:
        async with _beside(trio.sleep_forever):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_there_is_no_other_level() -> None:
    with pytest.raises(ValueError, match="LOW"):
        async with create_secure_tor_gateway("LOW"):
            pytest.fail("it began")


def test_the_names_are_the_packages() -> None:
    assert {"SecurityLevel", "create_secure_tor_gateway"} <= set(dir(aegis_edge))
    assert [level.value for level in SecurityLevel] == ["STANDARD", "HIGH", "PARANOID"]

"""What the names for programs refuse before any tor runs; the rest: tests/tor/test_gateway.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import aegis_edge
from aegis_edge import SecurityLevel, create_secure_tor_gateway
from aegis_edge.gateway import LevelError


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


async def test_there_is_no_other_level() -> None:
    with pytest.raises(ValueError, match="LOW"):
        async with create_secure_tor_gateway("LOW"):
            pytest.fail("it began")


def test_the_names_are_the_packages() -> None:
    assert {"SecurityLevel", "create_secure_tor_gateway"} <= set(dir(aegis_edge))
    assert [level.value for level in SecurityLevel] == ["STANDARD", "HIGH", "PARANOID"]

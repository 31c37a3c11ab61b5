"""The client of the node whose home this is, for as long as a block lasts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aegis_edge.beside import Beside
from aegis_edge.client import NotRunning
from aegis_edge.config import ConfigError
from tests.test_network import alive
from tests.test_node import cluster


async def test_the_home_leads_to_the_node_that_is_given_or_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home,) = cluster(tmp_path, 1)
    monkeypatch.setenv("AEGIS_EDGE_HOME", os.fspath(home.directory))
    async with alive(home):
        for given in (home.directory, os.fspath(home.directory), None):
            async with Beside(given) as beside:
                assert (await beside._client.status())["name"] == home.name


async def test_a_node_that_is_not_there_is_missed_at_the_first_call(tmp_path: Path) -> None:
    (home,) = cluster(tmp_path, 1)
    async with Beside(home.directory) as beside:
        with pytest.raises(NotRunning):
            await beside._client.status()
    home.file.write_text("nonsense = 1\n")
    with pytest.raises(ConfigError):
        Beside(home.directory)

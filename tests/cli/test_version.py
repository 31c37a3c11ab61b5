"""version: what runs here."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import aegis_edge
from aegis_edge.cli.version import LIBRARIES
from tests.cli.conftest import Cli


def test_versions_are_shown(cli: Cli) -> None:
    assert aegis_edge.__version__ in cli("version").out
    assert cli("version", "--json").json["aegis-edge"] == aegis_edge.__version__
    assert "trio" in cli("version", "--json").json


def test_all_that_is_installed_with_it_is_named() -> None:
    setup = ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    wanted = re.findall(r"^[\w-]+", setup["options"]["install_requires"], re.MULTILINE)
    assert list(LIBRARIES) == wanted

"""version: what runs here."""

from __future__ import annotations

import aegis_edge
from tests.cli.conftest import Cli


def test_versions_are_shown(cli: Cli) -> None:
    assert aegis_edge.__version__ in cli("version").out
    assert cli("version", "--json").json["aegis-edge"] == aegis_edge.__version__
    assert "trio" in cli("version", "--json").json

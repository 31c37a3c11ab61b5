"""config show: values and where they came from."""

from __future__ import annotations

import pytest

from tests.api.node import Replication
from tests.cli.conftest import Cli


def test_every_setting_is_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2P_PORT", "9999")
    rows = {row["key"]: row for row in cli("config", "show", "--json").json["settings"]}
    assert rows["p2p_port"]["value"] == 9999
    assert rows["p2p_port"]["source"] == "environment P2P_PORT"
    said = cli("config", "show").out
    for key in rows:
        assert key in said
    (line,) = (line for line in said.splitlines() if line.startswith("lan_discovery"))
    assert line.split()[1] == "false", "as the file would have it"


def test_a_bad_setting_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2P_PORT", "many")
    said = cli("config", "show")
    assert said.code == 78
    assert "P2P_PORT" in said.err


def test_the_running_node_has_its_own(cli: Cli, node: Replication) -> None:
    assert cli("config", "show", "--running", "--json").json == {"settings": []}

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
    said = cli("config", "show", "--running", "--json").json
    assert said == {"settings": [], "agreed": [], "overruled": []}


def test_what_the_members_agreed_on_is_shown_in_its_place(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBFT_TIMEOUT", "9")
    node.agreed = [
        {"key": "checkpoint_interval", "value": 16, "since": 2},
        {"key": "pbft_timeout", "value": 2.5, "since": 3},
    ]
    said = cli("config", "show")
    (timeout,) = [line for line in said.out.splitlines() if line.startswith("pbft_timeout")]
    assert "2.5" in timeout and "agreed since configuration 3" in timeout
    assert "environment PBFT_TIMEOUT: pbft_timeout is 9, which does not count" in said.err
    shown = cli("config", "show", "--json").json
    rows = {row["key"]: (row["value"], row["source"]) for row in shown["settings"]}
    assert rows["checkpoint_interval"] == (16, "agreed since configuration 2")
    assert shown["agreed"] == node.agreed and len(shown["overruled"]) == 1


def test_without_the_node_it_says_what_it_does_not_know(cli: Cli) -> None:
    said = cli("config", "show")
    assert said.code == 0 and "what the members agreed on is not shown" in said.err

"""`aegis-edge onion` on a home without a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.disk import keyfile
from tests.cli.conftest import Cli


@pytest.fixture
def tor_home(cli: Cli, home: Path) -> Path:
    assert cli("init", "--name", "attic", "--tor").code == 0
    return home


def said(cli: Cli, *words: str) -> dict[str, object]:
    done = cli("onion", *words, "--json")
    assert done.code == 0, done.output
    found: dict[str, object] = done.json
    return found


def test_a_rotation_keeps_the_old_address_until_all_know(cli: Cli, tor_home: Path) -> None:
    first = said(cli, "show")
    assert (first["old_addresses"], first["rotations"]) == ([], 0)
    second = said(cli, "rotate")
    assert second["address"] != first["address"]
    assert (second["old_addresses"], second["rotations"]) == ([first["address"]], 1)
    assert said(cli, "show") == second
    record = cli("record", "show", "--json").json
    assert record["addresses"] == [second["address"], first["address"]]
    again = cli("onion", "rotate")
    assert again.code == 1
    assert "--now" in again.err
    assert said(cli, "show") == second
    third = said(cli, "rotate", "--now")
    assert (third["old_addresses"], third["rotations"]) == ([], 2)
    keyfile.end_rotation(tor_home / "identity.key", 2)
    record = cli("record", "show", "--json").json
    assert record["addresses"] == [third["address"]]


def test_people_are_told_when_it_counts(cli: Cli, tor_home: Path) -> None:
    done = cli("onion", "rotate")
    assert done.code == 0
    assert "until all know the new one" in done.out
    assert "next start" in done.out


def test_a_node_with_direct_links_has_none(cli: Cli, home: Path) -> None:
    assert cli("init", "--name", "attic").code == 0
    for words in (["show"], ["rotate"]):
        done = cli("onion", *words)
        assert done.code == 1
        assert "transport" in done.err
    assert keyfile.read(home / "identity.key").onion_generation == 0

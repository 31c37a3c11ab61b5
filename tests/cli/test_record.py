"""record: for people, for files, for programs."""

from __future__ import annotations

from pathlib import Path

from aegis_edge.peers import identity
from tests.cli.conftest import Cli


def test_the_record_is_shown_and_exported(cli: Cli, tmp_path: Path) -> None:
    node_id = cli("init", "--name", "attic", "--json").json["node_id"]
    assert node_id in cli("record", "show").out
    assert cli("record", "show", "--json").json["name"] == "attic"
    text = cli("record").out
    (record,) = identity.records_from_text(text)
    assert identity.node_id(record.signer) == node_id
    assert cli("record", "export").out == text
    assert cli("record", "export", "--json").json["record"] == text
    assert cli("record", "export", "-o", tmp_path / "r").code == 0
    assert (tmp_path / "r").read_text() == text


def test_without_a_node_it_says_what_to_do(cli: Cli) -> None:
    said = cli("record")
    assert said.code == 78
    assert "aegis-edge init" in said.err

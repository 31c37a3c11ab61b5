"""A command that there is not: the nearest one is named, and none is run."""

from __future__ import annotations

import pytest

from aegis_edge.cli import meant
from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["statsu"], "aegis-edge status"),
        (["kb", "statsu"], "aegis-edge status"),
        (["kb", "gte"], "aegis-edge kb get"),
        (["put", "a", "b"], "aegis-edge kb put"),
        (["start"], "aegis-edge run"),
        (["kb", "delete", "a"], "aegis-edge kb rm"),
        (["kb", "list"], "aegis-edge kb ls"),
        (["genesis", "instal"], "aegis-edge genesis install"),
        (["record", "shwo"], "aegis-edge record show"),
        (["config", "shwo"], "aegis-edge config show"),
        (["show"], "aegis-edge record show"),
    ],
)
def test_the_nearest_command_is_named(words: list[str], whole: str, cli: Cli) -> None:
    said = cli(*words)
    assert said.code == 2
    assert f"Did you mean: {whole}\n" in said.err
    assert f"Did you mean: {whole}" in cli(*words, "--json").err


def test_what_resembles_nothing_gets_no_guess(cli: Cli) -> None:
    said = cli("qqqqqq")
    assert said.code == 2
    assert "No such command 'qqqqqq'." in said.err
    assert "Did you mean" not in said.err


def test_every_synonym_leads_somewhere(cli: Cli) -> None:
    for word in meant.SYNONYMS:
        assert "Did you mean: aegis-edge " in cli("kb", word).err

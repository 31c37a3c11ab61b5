"""The tree of commands as a whole: help, examples, --json, and where errors end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aegis_edge.cli import init
from aegis_edge.cli.root import COMMANDS, root
from tests.cli.conftest import Cli


def commands(
    group: click.Group = root, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


TREE = list(commands())


@pytest.mark.parametrize(("path", "command"), TREE, ids=[" ".join(path) for path, _ in TREE])
def test_every_command_has_help_an_example_and_json(
    path: tuple[str, ...], command: click.Command, cli: Cli
) -> None:
    said = cli(*path, "--help")
    assert said.code == 0
    assert "Example" in said.out
    assert f"aegis-edge {' '.join(path)}" in said.out
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--home", "--socket"} <= options
    if isinstance(command, click.Group):
        assert "..." not in said.out.partition("Commands:")[2], "a summary is cut off"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts} has no help"


def test_the_tree_is_whole() -> None:
    names = {" ".join(path) for path, _ in TREE}
    wanted = ("put", "get", "rm", "ls", "history", "watch", "import", "export")
    assert {f"kb {name}" for name in wanted} <= names
    assert {"record show", "record export", "config show"} <= names
    assert {"genesis create", "genesis install", "genesis show"} <= names
    assert [command.name for path, command in TREE if len(path) == 1] == list(COMMANDS)


def test_the_root_shows_commands_and_exit_codes(cli: Cli) -> None:
    said = cli("--help")
    assert "the node is not running" in said.out
    for name, (_, text) in COMMANDS.items():
        assert name in said.out
        assert text in said.out


@pytest.mark.parametrize(
    "words", [["nonsense"], ["kb", "nonsense"], ["kb", "get"], ["status", "--nonsense"]]
)
def test_wrong_usage_is_2(words: list[str], cli: Cli) -> None:
    assert cli(*words).code == 2
    said = cli(*words, "--json")
    assert said.code == 2
    assert '"error": "usage"' in said.err


def test_options_may_stand_before_the_command(cli: Cli, tmp_path: Path) -> None:
    said = cli("--home", tmp_path / "there", "--json", "init", "--name", "x")
    assert said.json["home"] == str(tmp_path / "there")


def test_a_fault_of_ours_is_words_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_settings", None)
    said = cli("init")
    assert said.code == 1
    assert "a fault of this program: TypeError" in said.err
    assert "Traceback" not in said.err


def test_an_interruption_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(init, "_settings", interrupted)
    assert cli("init").code == 130


def test_who_stops_reading_gets_no_traceback(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "aegis_edge", "version"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode in (1, -signal.SIGPIPE)

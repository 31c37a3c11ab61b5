"""completion: a script for each shell, and the words that it asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from aegis_edge.cli import kb
from aegis_edge.disk.reads import Listing
from tests.api.node import Replication
from tests.cli.conftest import Cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, cli: Cli) -> None:
    said = cli("completion", shell)
    assert said.code == 0
    assert "_AEGIS_EDGE_COMPLETE" in said.out
    assert cli("completion", shell, "--json").json["script"] in said.out
    if shutil.which(shell) and shell != "zsh":
        subprocess.run([shell, "-n"], input=said.raw, check=True)


def completed(words: str) -> list[str]:
    """What bash is offered for the last word."""
    environment = {
        **os.environ,
        "_AEGIS_EDGE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "import sys; sys.argv[0] = 'aegis-edge'; from aegis_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stderr == b""
    return [line.removeprefix("plain,") for line in done.stdout.decode().split()]


def test_commands_are_completed() -> None:
    assert completed("aegis-edge kb p") == ["put"]


def test_keys_are_completed(node: Replication, home: Path) -> None:
    for key in ("greenhouse/door", "greenhouse/lamp", "barn/hens"):
        node.write(key, b"x", 0, False)
    assert completed("aegis-edge kb get greenhouse/") == ["greenhouse/door", "greenhouse/lamp"]
    assert completed("aegis-edge kb get gre") == ["greenhouse/door", "greenhouse/lamp"]
    assert completed(f"aegis-edge --home {home} kb history barn") == ["barn/hens"]
    assert completed(f"aegis-edge kb rm --home {home}/none gre") == []


def test_folders_are_completed_a_level_at_a_time(
    node: Replication, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kb, "COMPLETED_MAX", 4)
    keys = [f"many/{number:03}" for number in range(300)]
    for key in (
        *keys,
        "many0",
        "odd/\U0010ffff/a",
        "odd/\U0010ffffz",
        "one/way/down",
        "one/way/on",
    ):
        node.write(key, b"x", 0, False)
    asked: list[str] = []
    listed = node.database.ls

    def counted(prefix: str, after: str, limit: int) -> Listing:
        asked.append(after)
        return listed(prefix, after, limit)

    monkeypatch.setattr(node.database, "ls", counted)
    assert offered("") == ["many/", "many0", "odd/", "one/"]
    assert len(asked) <= 5, "a folder of 300 keys is jumped over"
    assert offered("many/") == keys[:4]
    assert offered("on") == ["one/way/down", "one/way/on"]
    assert offered("odd") == ["odd/\U0010ffff/", "odd/\U0010ffffz"]
    assert offered("none") == []


def offered(incomplete: str) -> list[str]:
    command = click.Command("get")
    return kb._keys(click.Context(command), click.Argument(["key"]), incomplete)


def test_the_scripts_are_taken_by_the_shells_as_the_help_says(cli: Cli) -> None:
    script = cli("completion", "bash").out
    done = subprocess.run(
        ["bash", "-c", 'eval "$0"; complete -p aegis-edge', script], capture_output=True, check=True
    )
    assert b"_aegis_edge_completion" in done.stdout

"""completion: a script for each shell, and the words that it asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert completed(f"aegis-edge --home {home} kb history barn") == ["barn/hens"]
    assert completed(f"aegis-edge kb rm --home {home}/none gre") == []


def test_the_scripts_are_taken_by_the_shells_as_the_help_says(cli: Cli) -> None:
    script = cli("completion", "bash").out
    done = subprocess.run(
        ["bash", "-c", 'eval "$0"; complete -p aegis-edge', script], capture_output=True, check=True
    )
    assert b"_aegis_edge_completion" in done.stdout

"""completion: a script for each shell, and the words that it asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import Cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, cli: Cli) -> None:
    said = cli("completion", shell)
    assert said.code == 0
    assert "_AEGIS_EDGE_COMPLETE" in said.out
    assert cli("completion", shell, "--json").json["script"] in said.out
    if shutil.which(shell) and shell != "zsh":
        subprocess.run([shell, "-n"], input=said.raw, check=True)


def test_commands_are_completed() -> None:
    environment = {
        **os.environ,
        "_AEGIS_EDGE_COMPLETE": "bash_complete",
        "COMP_WORDS": "aegis-edge kb p",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv[0] = 'aegis-edge'; from aegis_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout == b"plain,put\n"

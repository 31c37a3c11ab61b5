"""run, and the whole way of an owner: real processes, from init to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

COMMAND = [sys.executable, "-m", "aegis_edge"]


def owner(home: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "AEGIS_EDGE_HOME": str(home)}
    return subprocess.run(
        [*COMMAND, *words], env=environment, input=stdin, capture_output=True, timeout=60
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    home = tmp_path / "home"
    assert owner(home, "init", "--single", "--p2p-port", port).returncode == 0
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), "run", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert json.loads(line) == {"ready": True, "api_socket": str(home / "api.sock")}
            yield home, process
        finally:
            process.kill()


def test_from_init_to_control_c(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    home, process = running
    assert b"1 of 1 nodes reachable" in owner(home, "status").stdout
    assert owner(home, "kb", "put", "a", "-", stdin=b"\x00\xff").returncode == 0
    assert owner(home, "kb", "get", "a", "--raw", "--linearizable").stdout == b"\x00\xff"
    assert owner(home, "kb", "put", "a", "x", "--expect", "7").returncode == 4
    assert owner(home, "kb", "get", "b").returncode == 3
    assert owner(home, "kb", "import", str(Path(__file__).parent), "tests").returncode == 0
    assert b"tests/test_run.py" in owner(home, "kb", "ls", "tests/").stdout
    assert b"cluster of one" in owner(home, "peers").stdout
    second = owner(home, "run")
    assert second.returncode == os.EX_TEMPFAIL
    assert b"already running, pid %d:" % process.pid in second.stderr
    said = json.loads(owner(home, "run", "--json").stderr)
    assert said["message"].startswith("already running")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in said
    assert owner(home, "kb", "get", "a").returncode == 6


def test_a_watch_follows_until_control_c(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    home, _ = running
    watching = subprocess.Popen(
        [*COMMAND, "--home", str(home), "kb", "watch", "--after", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with watching:
        assert watching.stdout is not None
        for key in ("a", "b"):
            owner(home, "kb", "put", key, "1")
            assert json.loads(watching.stdout.readline())["key"] == key
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert b"Traceback" not in said


def test_a_home_without_a_node_is_explained(cli: Cli, tmp_path: Path) -> None:
    done = owner(tmp_path / "none", "run")
    assert done.returncode == 78
    assert b"genesis" in done.stderr
    assert b"Traceback" not in done.stderr
    assert cli("run", "--p2p-port", "many").code == 2
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("p2p_port = 'many'")
    for words in ("run", "status", "record"):
        assert cli(words).code == 78

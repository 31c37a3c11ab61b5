"""Nodes in a network namespace without any interface: nothing can leave them but through tor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aegis_edge import config, home
from aegis_edge.client import Client, ClientError
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.peers.genesis import Genesis, Parameters
from tornet import TorNetwork
from tors import Client as TorClient
from tors import hush, until

PATIENCE_S = 120.0
LEVEL = SecurityLevel.STANDARD
WITHOUT = ["unshare", "--net", "--"]


def can_unshare() -> bool:
    return not subprocess.run([*WITHOUT, "true"], capture_output=True, check=False).returncode


def client_of(network: TorNetwork, name: str) -> TorClient:
    """A tor of the system's, which does what the level demands."""
    torrc = dict(levels.torrc_options(LEVEL))
    return network.client(name, torrc=torrc)


def board(path: Path, tor: TorClient) -> Config:
    path.mkdir()
    lines = [
        f"name = '{path.name}'",
        "transport = 'tor'",
        f"security_level = '{LEVEL.value}'",
        "tor = 'system'",
        f"tor_control_port = 'unix:{tor.control_path}'",
        f"tor_socks_port = 'unix:{tor.socks_path}'",
    ]
    (path / "config.toml").write_text("\n".join(lines))
    made = config.load({"home": path}, {})
    keyfile.create(made.key_file)
    return made


@contextmanager
def running(boards: list[Config]) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = []
    try:
        for each in boards:
            with (each.directory / "log").open("ab") as log:
                command = [sys.executable, "-m", "aegis_edge", "run"]
                environment = {**os.environ, "AEGIS_EDGE_HOME": str(each.directory)}
                processes.append(
                    subprocess.Popen([*WITHOUT, *command], env=environment, stdout=log, stderr=log)
                )
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def put(each: Config, key: str) -> None:
    """Put `key` through this board, as soon as that goes."""

    def done() -> bool:
        try:
            with Client(each.api_socket, timeout_s=20) as client:
                return client.put(key, b"value").revision > 0
        except ClientError:
            return False

    until(f"{each.name} can write", done, [], time.monotonic() + PATIENCE_S, hush)


def traffic(pid: int) -> dict[str, set[str]]:
    """Each interface that a process has, with the counters of what went over it."""
    rows = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {
        name.strip(): set(counts.split()) for name, _, counts in (r.partition(":") for r in rows)
    }


def test_nodes_without_any_network_agree_and_recover(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    if not can_unshare():
        pytest.skip("this user may not make a network namespace")
    tors = [client_of(tor_network, name) for name in ("na", "nb", "nc", "nd")]
    boards = [board(tmp_path / name, tor) for name, tor in zip("abcd", tors, strict=True)]
    records = [home.own_record(each, keyfile.read(each.key_file)) for each in boards]
    genesis = Genesis.of(records, Parameters(0, bytes(16)))
    for each in boards:
        each.genesis_file.write_text(genesis.to_text())
    with running(boards) as processes:
        put(boards[0], "first")
        processes[3].kill()
        processes[3].wait()
        put(boards[1], "second")
        for process in processes[:3]:
            assert traffic(process.pid) == {"lo": {"0"}}, "not a byte went anywhere else"

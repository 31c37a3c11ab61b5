"""Nodes without a network: nothing can leave them but through tor, and nothing tries to."""

from __future__ import annotations

import os
import re
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
from tests.tor.sensor import Sensed, sensed, unshare
from tornet import TorNetwork
from tors import Client as TorClient
from tors import hush, until

PATIENCE_S = 120.0
LEVEL = SecurityLevel.STANDARD


@pytest.fixture
def without() -> list[str]:
    """The words before a command that run it without a network."""
    way = unshare()
    if way is None:
        pytest.skip("this user may not make a network namespace")
    return [*way, "--"]


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


def started(each: Config, words: list[str]) -> subprocess.Popen[bytes]:
    """A board's node as a process of its own, behind these words."""
    with (each.directory / "log").open("ab") as log:
        command = [*words, sys.executable, "-m", "aegis_edge", "run"]
        environment = {**os.environ, "AEGIS_EDGE_HOME": str(each.directory)}
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@contextmanager
def running(boards: list[Config], words: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += [started(each, words) for each in boards]
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
    tor_network: TorNetwork, tmp_path: Path, without: list[str]
) -> None:
    tors = [client_of(tor_network, name) for name in ("na", "nb", "nc", "nd")]
    boards = [board(tmp_path / name, tor) for name, tor in zip("abcd", tors, strict=True)]
    records = [home.own_record(each, keyfile.read(each.key_file)) for each in boards]
    genesis = Genesis.of(records, Parameters(0, bytes(16)))
    for each in boards:
        each.genesis_file.write_text(genesis.to_text())
    with running(boards, without) as processes:
        put(boards[0], "first")
        processes[3].kill()
        processes[3].wait()
        put(boards[1], "second")
        for process in processes[:3]:
            assert traffic(process.pid) == {"lo": {"0"}}, "not a byte went anywhere else"


# --- where all that leaves a process is seen ------------------------------------------------------

ATTEMPTS = """
import socket
def to(family, kind, place):
    with socket.socket(family, kind) as one:
        one.setblocking(False)
        try:
            one.connect(place)
            one.send(b"x")
        except BlockingIOError:
            pass
to(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53))
to(socket.AF_INET, socket.SOCK_DGRAM, ("224.0.0.251", 5353))
to(socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 443))
to(socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 53))
"""
#: IPv4 and IPv6 to these ports: a query of a name, one on the local network, a connection.
FOUND_OUT = {"c0000201.*0035", "e00000fb.*14e9", "c0000201.*01bb", "20010db8.*0035"}


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Sensed]:
    way = unshare()
    if way is None:
        pytest.skip("this user may not make a network namespace")
    with sensed(tmp_path, way) as found:
        yield found


def typed(each: Path, inside: list[str], *words: object) -> str:
    """What a command says that is typed on a board."""
    command = [*inside, sys.executable, "-m", "aegis_edge", *map(str, words)]
    environment = {**os.environ, "AEGIS_EDGE_HOME": str(each)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sensor_hears_whatever_leaves_a_process(heard: Sensed) -> None:
    subprocess.run([*heard.inside, sys.executable, "-c", ATTEMPTS], check=True)
    seen = [packet["data"] for packet in heard.packets()]
    for pattern in FOUND_OUT:
        assert any(re.search(pattern, data) for data in seen), pattern


def test_a_whole_life_sends_not_one_packet(
    tor_network: TorNetwork, tmp_path: Path, heard: Sensed
) -> None:
    tors = [client_of(tor_network, name) for name in ("wa", "wb", "wc", "wd")]
    homes = [tmp_path / name for name in "abcd"]
    for each, tor in zip(homes, tors, strict=True):
        typed(each, heard.inside, "init", "--tor", "--security-level", LEVEL.value)
        with (each / "config.toml").open("a") as file:
            file.write(
                "tor = 'system'\n"
                f"tor_control_port = 'unix:{tor.control_path}'\n"
                f"tor_socks_port = 'unix:{tor.socks_path}'\n"
            )
        (tmp_path / f"{each.name}.record").write_text(typed(each, heard.inside, "record"))
    genesis, records = tmp_path / "genesis", sorted(tmp_path.glob("*.record"))
    typed(homes[0], heard.inside, "genesis", "create", *records, "-o", genesis)
    for each in homes:
        typed(each, heard.inside, "genesis", "install", genesis)
    boards = [config.load({"home": each}, {}) for each in homes]
    with running(boards, heard.inside) as processes:
        put(boards[0], "first")
        typed(homes[1], heard.inside, "kb", "put", "second", "value")
        processes[3].kill()
        processes[3].wait()
        processes[3] = started(boards[3], heard.inside)
        tors[2].kill()
        put(boards[1], "third")
        tors[2].start()
        put(boards[2], "fourth")
        put(boards[3], "fifth")
        assert "reachable" in typed(homes[2], heard.inside, "status")
    assert heard.packets() == []

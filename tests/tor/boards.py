"""A board as its owner has it: a home, a tor of the system's, a node that is a process of its own.

And what shows whether that node has asked anything of its tor.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from aegis_edge import config, home
from aegis_edge.client import Client, ClientError
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.peers.genesis import Genesis, Parameters
from tornet import TorNetwork
from tors import Client as TorClient
from tors import Torrc, hush, until

PATIENCE_S = 90.0


def system_tor(
    network: TorNetwork,
    name: str,
    level: SecurityLevel,
    torrc: Torrc | None = None,
    program: Sequence[str] = ("tor",),
) -> TorClient:
    """A tor of the system's that does what `level` demands, but for what `torrc` changes."""
    options = {**dict(levels.torrc_options(level)), **(torrc or {})}
    return network.client(name, torrc=options, wait=False, program=program)


def board(
    path: Path,
    tor: TorClient,
    level: SecurityLevel,
    *,
    control_at: str = "",
    socks_at: str = "",
) -> Config:
    """A home whose node uses `tor`, at its Unix sockets unless told otherwise."""
    path.mkdir()
    lines = [
        f"name = '{path.name}'",
        "transport = 'tor'",
        "tor = 'system'",
        f"security_level = '{level.value}'",
        f"tor_control_port = '{control_at or f'unix:{tor.control_path}'}'",
        f"tor_socks_port = '{socks_at or f'unix:{tor.socks_path}'}'",
    ]
    (path / "config.toml").write_text("\n".join(lines))
    made = config.load({"home": path}, {})
    keyfile.create(made.key_file)
    return made


def clustered(*boards: Config) -> Config:
    """Makes them one cluster; gives the first."""
    records = [home.own_record(each, keyfile.read(each.key_file)) for each in boards]
    genesis = Genesis.of(records, Parameters(0, bytes(16)))
    for each in boards:
        each.genesis_file.write_text(genesis.to_text())
    return boards[0]


class Node:
    """``aegis-edge run`` with the home of `settings`; `before`: what leads to it, such as env."""

    def __init__(self, settings: Config, before: Sequence[str] = ()) -> None:
        self.settings = settings
        self._log = settings.directory / "log"
        command = [*before, sys.executable, "-m", "aegis_edge", "run"]
        environment = {**os.environ, "AEGIS_EDGE_HOME": str(settings.directory)}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ended(self, patience_s: float = PATIENCE_S) -> tuple[int, str]:
        """Its exit code and its last words, once it has ended by itself."""
        code = self.process.wait(patience_s)
        return code, self.log.strip().splitlines()[-1]

    def tor(self) -> dict[str, Any]:
        """What `status` says of tor; empty while nobody answers."""
        try:
            with Client(self.settings.api_socket, timeout_s=5) as client:
                return dict(client.status()["tor"])
        except ClientError:
            return {}

    def peers(self) -> list[dict[str, Any]]:
        """What `peers` says of the other members."""
        try:
            with Client(self.settings.api_socket, timeout_s=5) as client:
                return list(client.peers()["peers"])
        except ClientError:
            return []

    def until(self, what: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What `status` says of tor as soon as `done` likes it; the log, if that takes too long."""
        seen: list[dict[str, Any]] = [{}]

        def is_done() -> bool:
            assert self.process.poll() is None, f"it has ended:\n{self.log}"
            seen.append(self.tor())
            return bool(seen[-1]) and done(seen[-1])

        try:
            until(what, is_done, [], time.monotonic() + PATIENCE_S, hush)
        except Exception as error:
            raise AssertionError(f"{error}; tor: {seen[-1]}; its log:\n{self.log}") from None
        return seen[-1]

    def until_words(self, words: str) -> dict[str, Any]:
        """The same, for a part of why tor is no further."""
        return self.until(f"status says {words!r}", lambda said: words in said["words"])

    def until_reachable(self) -> dict[str, Any]:
        """The same, for the end of it all."""
        return self.until("it is reachable", lambda said: said["stage"] == "reachable")


@contextmanager
def running(settings: Config, before: Sequence[str] = ()) -> Iterator[Node]:
    node = Node(settings, before)
    try:
        yield node
    finally:
        node.process.kill()
        node.process.wait()


def linked(*nodes: Node) -> None:
    """Returns as soon as each of them has a link to every other member."""

    def are_linked() -> bool:
        states = [[peer["state"] for peer in node.peers()] for node in nodes]
        return all(each and set(each) == {"linked"} for each in states)

    until("all are linked", are_linked, [], time.monotonic() + PATIENCE_S, hush)


class Overheard:
    """Events of a tor from now on: by default what it does for onion services, near and far."""

    def __init__(self, tor: TorClient, kinds: str = "HS_DESC STREAM") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(tor.control_path))
        self._lines = self._socket.makefile("rb")
        self._command(f"AUTHENTICATE {tor.cookie_path.read_bytes().hex()}")
        self._command(f"SETEVENTS {kinds}")
        self._heard: list[str] = []

    def so_far(self) -> list[str]:
        """All until now: what a tor is asked it tells before it answers a later question.

        Streams to directories, which tor needs for itself, are left out.
        """
        self._heard += self._command("GETINFO version")
        return [e for e in self._heard if not e.startswith("STREAM") or ".onion:" in e]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def _command(self, line: str) -> list[str]:
        """The events that came before tor's answer."""
        self._socket.sendall(f"{line}\r\n".encode())
        events = []
        for said in self._lines:
            if said.startswith(b"650 "):
                events.append(said[4:].decode().strip())
            elif said[3:4] == b" ":
                assert said.startswith(b"250 "), said
                break
        return events


@contextmanager
def overheard(tor: TorClient, kinds: str = "HS_DESC STREAM") -> Iterator[Overheard]:
    """From before the first moment at which a node could find this tor."""

    def listens() -> bool:
        return tor.control_path.exists() and tor.cookie_path.exists()

    until(f"{tor.name} listens", listens, [tor], time.monotonic() + PATIENCE_S, hush)
    with closing(Overheard(tor, kinds)) as heard:
        yield heard

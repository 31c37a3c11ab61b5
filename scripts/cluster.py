"""A real cluster on this machine: one process per node, made and started as its owner would.

Knows the command line of aegis-edge and the client library.  Refuses to reach inside a node.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from aegis_edge.client import Client, ClientError

COMMAND = str(Path(sys.executable).parent / "aegis-edge")
RUN = (COMMAND, "run")
READY_S = 30.0


class ClusterError(Exception):
    """A command failed or a node did not do what it should; the text says which, and its log."""


class Node:
    """One member: its home directory, its process, its API.

    `tied`: the process dies with this program, however that ends.
    """

    def __init__(
        self, name: str, home: Path, port: int, settings: dict[str, str], tied: bool
    ) -> None:
        self.name, self.home, self.port, self._tied = name, home, port, tied
        self.socket = home / "api.sock"
        self.log = home.parent / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = settings

    def run(self, *words: str | Path) -> str:
        """Runs one command of this node to its end; what it printed.  Raises `ClusterError`."""
        command = [COMMAND, *map(str, words)]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise ClusterError(f"{self.name}: aegis-edge {' '.join(command[1:])}: {said}")
        return done.stdout

    def start(self, program: Sequence[str] = RUN, **settings: str) -> None:
        """Starts its process; for this life only, another program or more of an environment."""
        assert self.process is None
        # The kernel's own leash, where there is one; `Cluster.stop` does not rely on it.
        leashed = self._tied and shutil.which("setpriv")
        leash = ["setpriv", "--pdeathsig", "KILL"] if leashed else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*leash, *program],
                env=self._environment() | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends the process at once, as a power cut would end it."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()
        self.process = None

    def client(self, timeout_s: float = 10.0) -> Client:
        return Client(self.socket, timeout_s=timeout_s)

    def status(self) -> dict[str, Any]:
        """What the node says of itself; raises `ClientError` while nobody answers."""
        with self.client(5.0) as client:
            return client.status()

    def _environment(self) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith("AEGIS_EDGE_")}
        return {**mine, **self.settings, "AEGIS_EDGE_HOME": str(self.home)}


class Cluster:
    """`count` nodes below `directory`, on free loopback ports.

    `torrc`: lines that each node's own tor needs to take part, where links go through Tor.
    `doors`: the ports at which the others dial each node, where those are not its own.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 4,
        *,
        tied: bool = True,
        torrc: str = "",
        patience_s: float = READY_S,
        doors: Sequence[int] = (),
        **settings: str,
    ) -> None:
        self.directory = directory
        self.patience_s = patience_s
        self._torrc = torrc
        ports = free_ports(count)
        said = [{"AEGIS_EDGE_ADVERTISE": f"tcp:127.0.0.1:{door}"} for door in doors] or [{}] * count
        self.nodes = [
            Node(f"n{i + 1}", directory / f"n{i + 1}", ports[i], settings | said[i], tied)
            for i in range(count)
        ]

    def make(self) -> None:
        """`init` on each board, records exchanged, one genesis made and installed everywhere."""
        records, genesis = [], self.directory / "genesis"
        for node in self.nodes:
            node.run("init", "--name", node.name, "--p2p-port", str(node.port))
            if self._torrc:
                (node.home / "torrc.extra").write_text(self._torrc)
            record = self.directory / f"{node.name}.record"
            record.write_text(node.run("record"))
            records.append(record)
        self.nodes[0].run("genesis", "create", *records, "--output", genesis)
        for node in self.nodes:
            node.run("genesis", "install", genesis)

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def wait_ready(self) -> None:
        """Returns when every node is linked to every other."""
        everyone = len(self.nodes) - 1
        for node in self.nodes:
            self.wait(node, lambda status: len(status["reachable"]) == everyone, "find its peers")

    def wait(
        self,
        node: Node,
        done: Callable[[dict[str, Any]], bool],
        what: str,
    ) -> dict[str, Any]:
        """Polls a node's status until `done`; raises `ClusterError` after `patience_s`."""
        deadline = time.monotonic() + self.patience_s
        last: object = "it never answered"
        while time.monotonic() < deadline:
            if node.process is not None and node.process.poll() is not None:
                raise ClusterError(f"{node.name} ended by itself:\n{self.tail(node)}")
            try:
                last = status = node.status()
                if done(status):
                    return status
            except ClientError as error:
                last = error
            time.sleep(0.05)
        raise ClusterError(f"{node.name} did not {what} in {self.patience_s:g} s ({last})")

    @staticmethod
    def tail(node: Node, lines: int = 12) -> str:
        """The end of a node's log."""
        text = node.log.read_text(errors="replace") if node.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """Ends every node that still runs; safe to call at any time, any number of times."""
        running = [node for node in self.nodes if node.process is not None]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        deadline = time.monotonic() + 5
        for node in running:
            assert node.process is not None
            try:
                node.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
            node.process = None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now, and that the system gives to no connection later.

    The ones that it would name for port 0 are those that it gives to whoever dials (ip(7),
    ip_local_port_range: from 32768 on): one of them may be gone before it is listened on.
    """
    ports: list[int] = []
    for port in random.sample(range(10_000, 32_768), 1_000):
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"there are no {count} free ports")


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Turns the first signal that ends a program into an exit, so that `finally` blocks run.

    They run undisturbed: an impatient second one is ignored.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def leave(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""A real Tor network on this machine: an authority, relays and clients, all on 127.0.0.1.

    network = TorNetwork()
    network.start()
    client = network.client("attic")    # its socks_path and control_path are unix sockets
    network.stop()

Knows in which order tors become a network, and when it can be used; `tors` knows the tors.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import ending_in_order, free_ports
from show import Show
from tors import (
    FLAGS,
    PATIENCE_S,
    TAKING_PART,
    VOTE_S,
    Authority,
    Bridge,
    Client,
    Leash,
    Relay,
    Tor,
    TorNetworkError,
    Torrc,
    check,
    hush,
    until,
)


class TorNetwork:
    """One authority, some relays and any number of clients below `directory`.

    directory: None for one of its own, which goes when it goes.
    delay_ms: None, or what every byte between two tors waits in each direction: see `delay`.
    bridge: whether there is one more relay, in no list, through which tors may come.
    say: hears of progress, a line at a time.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        relays: int = 3,
        delay_ms: float | None = None,
        bridge: bool = False,
        say: Callable[[str], None] = hush,
    ) -> None:
        self._given, self._count, self._delay_ms, self._say = directory, relays, delay_ms, say
        self._bridge = bridge
        self.directory = directory or Path(tempfile.gettempdir())
        #: What any tor needs to take part, whoever starts it; known after `start`.
        self.torrc: Torrc = {}
        #: What a tor needs beside that to come through the bridge; empty if there is none.
        self.torrc_bridged: Torrc = {}
        self.relays: list[Relay] = []
        self.clients: list[Client] = []
        self._authority: Authority
        self._leash: Leash | None = None
        self._distance: subprocess.Popen[bytes] | None = None

    def start(self, patience_s: float = PATIENCE_S) -> None:
        """Returns when every relay can be used; leaves nothing running when it fails."""
        deadline = time.monotonic() + patience_s
        self.begin(deadline)
        self.agree(deadline)

    def begin(self, deadline: float) -> None:
        """The first half of a start: relays that know each other, and no consensus of it yet."""
        with self._or_stopped():
            self._make()
            # A relay tells of itself once, and then not for minutes: somebody must listen.
            self._authority.start()
            keys = "/tor/keys/all"
            self._reach("the authority listens", lambda: bool(self._authority.get(keys)), deadline)
            for relay in self.relays[1:]:
                relay.start()
            self._reach("the authority knows every relay", self._described, deadline)

    def agree(self, deadline: float) -> None:
        """The second half: from now on there are circuits."""
        with self._or_stopped():
            # A busy authority can miss the moment of its vote; then it is given another.
            vote = {"nudge": self._authority.vote, "nudge_s": 3 * VOTE_S}
            self._reach("the consensus lists every relay", self._agreed, deadline, **vote)
            wake = {"nudge": self._wake, "nudge_s": 1.0}
            has_it = "every relay has the consensus"
            self._reach(has_it, lambda: not self._late(), deadline, **wake)
            if self._bridge:
                self._build_bridge(deadline)
            if self._delay_ms:
                self.delay(self._delay_ms)

    def client(
        self,
        name: str,
        *,
        torrc: Torrc | None = None,
        wait: bool = True,
        program: Sequence[str] = ("tor",),
    ) -> Client:
        """Starts a tor for one node.  torrc: more options, or others than ours."""
        assert self._leash is not None, "the network has not been started"
        options = {**self.torrc, **(torrc or {})}
        client = Client(self._leash, self.directory, name, options, program)
        self.clients.append(client)
        client.start(wait=wait)
        return client

    def beside(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the network, and is spoken to by its pipes.

        Its standard error goes to NAME.log in `directory`.
        """
        assert self._leash is not None, "the network has not been started"
        with (self.directory / f"{name}.log").open("wb") as log:
            return self._leash.spawn(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def consensus(self) -> dict[str, set[str]]:
        """Who is in the consensus that the authority serves, with which flags."""
        served = self._authority.get("/tor/status-vote/current/consensus")
        found = re.findall(r"^r (\S+) .*\n(?:[^rs].*\n)*s (.*)$", served, re.MULTILINE)
        return {name: set(flags.split()) for name, flags in found}

    def delay(self, delay_ms: float) -> None:
        """From now on a round trip over a circuit of n relays takes 2 * n * `delay_ms` more.

        Only in a network made with a `delay_ms`, if only of 0: there each relay is reached
        through a process that lets bytes wait.
        """
        assert self._distance and self._distance.stdin, "the network was made without a delay_ms"
        self._distance.stdin.write(f"{delay_ms}\n".encode())
        self._distance.stdin.flush()

    def check(self) -> None:
        """Raises `TorNetworkError` if one of its tors has ended by itself."""
        check([*self.relays, *self.clients])

    def stop(self) -> None:
        """Ends everything at once; safe to call at any time, any number of times."""
        if self._leash is not None:
            self._leash.pull()
            self._leash = self._distance = None
            if self._given is None:
                shutil.rmtree(self.directory)

    def _reach(self, what: str, done: Callable[[], bool], deadline: float, **nudge: Any) -> None:
        until(what, done, self.relays, deadline, self._say, **nudge)

    @contextmanager
    def _or_stopped(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _make(self) -> None:
        """All that must be there before the first tor runs: directory, distance, keys, torrcs."""
        if shutil.which("tor-gencert") is None:
            raise TorNetworkError("tor is not installed; run: sudo apt-get install tor")
        if self._given is None:
            self.directory = Path(tempfile.mkdtemp(prefix="tornet."))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._leash = leash = Leash(removes=self.directory if self._given is None else None)
        everyone = 1 + self._count
        serves, *ports = free_ports(1 + 2 * everyone)
        seen = real = ports[:everyone]
        if self._delay_ms is not None:
            seen = ports[everyone:]
            self._separate([f"{far}:{near}" for far, near in zip(seen, real, strict=True)])
        self._authority = Authority(leash, self.directory, seen[0], real[0], serves)
        self.relays = [self._authority]
        for number in range(1, everyone):
            relay = Relay(leash, self.directory, f"relay{number}", seen[number], real[number])
            self.relays.append(relay)
        self.torrc = {**TAKING_PART, "DirAuthority": self._authority.make_keys()}
        for relay in self.relays:
            relay.torrc |= self.torrc

    def _build_bridge(self, deadline: float) -> None:
        if shutil.which("obfs4proxy") is None:
            raise TorNetworkError("no obfs4proxy; run: sudo apt-get install obfs4proxy")
        assert self._leash is not None
        bridge = Bridge(self._leash, self.directory, *free_ports(2))
        bridge.torrc |= self.torrc
        self.relays.append(bridge)
        bridge.start()
        self._reach("the bridge stands", lambda: bool(bridge.torrc_of_clients()), deadline)
        self._reach("the bridge has it all", lambda: bridge.bootstrap()[0] >= 75, deadline)
        self.torrc_bridged = bridge.torrc_of_clients()

    def _separate(self, pairs: list[str]) -> None:
        """Lets the first port of each pair lead to the second, over a distance."""
        assert self._leash is not None
        program = str(Path(__file__).with_name("delay.py"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._distance = self._leash.spawn(sys.executable, program, *pairs, **pipes)
        assert self._distance.stdout is not None
        if self._distance.stdout.readline() != b"ready\n":
            raise TorNetworkError(f"{program} did not start")

    def _described(self) -> bool:
        known = re.findall(r"^router (\S+)", self._authority.get("/tor/server/all"), re.MULTILINE)
        return set(known) == {relay.name for relay in self.relays}

    def _agreed(self) -> bool:
        consensus = self.consensus()
        return all(consensus.get(relay.name, set()) >= FLAGS for relay in self.relays)

    def _late(self) -> list[Relay]:
        """Relays that do not know enough to extend a circuit."""
        return [relay for relay in self.relays if relay.bootstrap()[0] < 75]

    def _wake(self) -> None:
        """They asked for a consensus when there was none, and wait longer after each refusal."""
        for relay in self._late():
            relay.hang_up()


def serve(network: TorNetwork, count: int, show: Show) -> None:
    """Keeps a network with `count` clients until somebody ends this program."""
    network.start()
    for client in _clients(network, count):
        client.wait(say=show.step)
    show.title("  a Tor network of its own, until Ctrl-C")
    for client in network.clients:
        show.rows(
            [
                (f"{client.name}  SOCKS", str(client.socks_path)),
                ("control", f"{client.control_path}, cookie in {client.cookie_path}"),
                ("log", str(client.log)),
            ]
        )
    for client in network.clients[:1]:
        show.title("  through one of them")
        print(f"    curl --proxy socks5h://localhost{client.socks_path} http://ADDRESS.onion/")
    show.title("  one more tor takes part with these lines in its torrc")
    print(_lines(network.torrc), flush=True)
    if network.torrc_bridged:
        show.title("  and comes through the bridge with these as well")
        print(_lines(network.torrc_bridged), flush=True)
    while True:
        network.check()
        time.sleep(1)


def _lines(torrc: Torrc) -> str:
    return "".join(f"    {option} {value}\n" for option, value in torrc.items())


def _clients(network: TorNetwork, count: int) -> list[Client]:
    return [network.client(f"client{i + 1}", wait=False) for i in range(count)]


def measure(starts: int, count: int, show: Show, **options: Any) -> dict[str, list[float]]:
    """Cold starts of a network with `count` clients: for each the seconds, and the memory in MB."""
    seen: dict[str, list[float]] = {"relays_s": [], "ready_s": [], "stop_s": [], "memory_mb": []}
    for _ in range(starts):
        network, began = TorNetwork(**options), time.monotonic()
        try:
            network.start()
            seen["relays_s"].append(time.monotonic() - began)
            for client in _clients(network, count):
                client.wait()
            seen["ready_s"].append(time.monotonic() - began)
            seen["memory_mb"].append(sum(map(_memory_mb, [*network.relays, *network.clients])))
        finally:
            began = time.monotonic()
            network.stop()
        seen["stop_s"].append(time.monotonic() - began)
        show.step(", ".join(f"{name} {values[-1]:.2f}" for name, values in seen.items()))
    for name, values in seen.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        show.rows([(name.ljust(9), f"{low:7.2f}  {middle:7.2f}  {high:7.2f}   min median max")])
    return seen


def _memory_mb(tor: Tor) -> float:
    """What it holds in memory, its part of what is shared with others."""
    assert tor.process is not None
    rollup = Path(f"/proc/{tor.process.pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/tornet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=2, metavar="N")
    parser.add_argument("--relays", type=int, default=3, metavar="N", help="beside the authority")
    parser.add_argument("--bridge", action="store_true", help="add one, of transport obfs4")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="leave data and logs there")
    parser.add_argument("--delay", type=float, metavar="MS", help="of every byte between two tors")
    parser.add_argument("--starts", type=int, metavar="N", help="only measure N cold starts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --starts: figures go there")
    options = parser.parse_args()
    show = Show()
    own = {"relays": options.relays, "delay_ms": options.delay, "bridge": options.bridge}
    with ending_in_order():
        try:
            if options.starts:
                seen = measure(options.starts, options.clients, show, **own)
                if options.json:
                    options.json.write_text(json.dumps(seen, indent=2) + "\n")
                return 0
            network = TorNetwork(
                options.directory and options.directory.resolve(), say=show.step, **own
            )
            try:
                serve(network, options.clients, show)
            finally:
                network.stop()
        except TorNetworkError as error:
            show.bad(f"FAILED: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

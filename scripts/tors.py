"""The tors of a private network: what each is told, and how far it is.

Knows tor's options, its log and what an authority serves (dir-spec, section 6).  Refuses to speak
the control protocol: that is for a client's user.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Options of a torrc; one that has several lines has a sequence.
Torrc = Mapping[str, str | Sequence[str]]

#: For a start of anything; a quiet machine needs a tenth of it.
PATIENCE_S = 180.0
#: How soon there is a consensus when one is asked for, and how often without.
VOTE_S, INTERVAL_S = 3, 1800
#: A relay that lacks one of them cannot be used for everything.
FLAGS = {"Fast", "Guard", "HSDir", "Running", "Stable", "V2Dir", "Valid"}
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un, without its last zero

#: What a tor needs to take part in such a network, beside its authority's line.
TAKING_PART: Torrc = {
    "TestingTorNetwork": "1",
    "AddressDisableIPv6": "1",
    "UseDefaultFallbackDirs": "0",
    "PathsNeededToBuildCircuits": "0.67",
}
PROCESS: Torrc = {
    "Log": "notice stdout",
    "RunAsDaemon": "0",
    "ShutdownWaitLength": "0",
    "AvoidDiskWrites": "1",
    "NumCPUs": "1",
    "MaxMemInQueues": "256 MB",
}
RELAY: Torrc = {
    "SocksPort": "0",
    "Address": "127.0.0.1",
    "AssumeReachable": "1",
    "ExitRelay": "0",
    # What a relay sees of its own traffic is what it is chosen by.  Where others have seen nothing
    # yet, one that has would be chosen for both ends of every circuit, and none could be built.
    "CountPrivateBandwidth": "0",
    "ServerDNSDetectHijacking": "0",
    "ServerDNSResolvConfFile": "/dev/null",
    "ServerDNSTestAddresses": "",
    "ContactInfo": "nobody, a network for tests",
}
AUTHORITY: Torrc = {
    "AuthoritativeDirectory": "1",
    "V3AuthoritativeDirectory": "1",
    "V3AuthVotingInterval": f"{INTERVAL_S} seconds",
    "V3AuthVoteDelay": "2",
    "V3AuthDistDelay": "2",
    "V3AuthNIntervalsValid": "3",
    "TestingV3AuthInitialVotingInterval": f"{INTERVAL_S} seconds",
    "TestingV3AuthInitialVoteDelay": "2",
    "TestingV3AuthInitialDistDelay": "2",
    "TestingDirAuthVoteGuard": "*",
    "TestingDirAuthVoteHSDir": "*",
    "AuthDirVoteStableGuaranteeMinUptime": "0",
    "AuthDirVoteStableGuaranteeMTBF": "0",
}
CLIENT: Torrc = {"ClientOnly": "1", "CookieAuthentication": "1"}
#: A relay that is in no list, and is reached by traffic that does not look like Tor's.
BRIDGE: Torrc = {"BridgeRelay": "1", "BridgeDistribution": "none", "ExtORPort": "auto"}
OBFS4 = "obfs4 exec /usr/bin/obfs4proxy"


def hush(_line: str) -> None:
    """Nobody wants to hear of progress."""


class TorNetworkError(Exception):
    """tor is missing, ended by itself or is not ready in time; the text shows what it said."""


class Leash:
    """Processes that end together: by `pull`, or at once when their owner ends, however it does.

    removes: a directory that goes with them if the owner ends without a `pull`.
    """

    _SCRIPT = 'trap "" TERM; read -r _; kill 0; [ -z "$1" ] || rm -rf "$1"; kill -KILL 0'

    def __init__(self, removes: Path | None = None) -> None:
        # It leads their process group, and its standard input ends with the owner.
        command = ["sh", "-c", self._SCRIPT, "sh", str(removes or "")]
        self._leader = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
        self._held = [self._leader]
        self.pid = self._leader.pid

    def spawn(self, *command: str, **pipes: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, **pipes}
        process = subprocess.Popen(command, process_group=self.pid, **pipes)
        self._held.append(process)
        return process

    def pull(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        for process in self._held:
            process.communicate()  # waits, and closes its pipes


class Tor:
    """One tor: its folder (data, log, torrc) below `directory`, and its process.

    torrc: its options; a change counts from the next `start` or `hang_up`.
    program: another tor than this machine's, or what leads to it, such as ``env A=B tor``.
    """

    def __init__(
        self,
        leash: Leash,
        directory: Path,
        name: str,
        torrc: Torrc,
        program: Sequence[str] = ("tor",),
    ) -> None:
        self.name, self.folder, self._leash = name, directory / name, leash
        # Should the leash break, tor sees within 15 seconds that it has no owner.  Were that owner
        # this process, stem would take the tor over, and end it when its controller is closed.
        own = {"DataDirectory": str(self.folder), "__OwningControllerProcess": str(leash.pid)}
        self.torrc = {**PROCESS, **own, **torrc}
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._log_began = 0
        try:
            self.folder.mkdir(mode=0o700)  # or tor would not trust its keys and sockets to it
        except FileExistsError:
            said = f"{self.folder} is there already; take another name, or another directory"
            raise TorNetworkError(said) from None
        # Without defaults of ours, those of Debian count.
        defaults, torrc_file = self.folder / "defaults", self.folder / "torrc"
        defaults.touch()
        self.program = program
        self._options = ["--defaults-torrc", str(defaults), "-f", str(torrc_file)]

    def start(self) -> None:
        assert self.process is None
        self._write(self.torrc)
        self._log_began = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = self._leash.spawn(*self.program, *self._options, stdout=log, stderr=log)

    def hang_up(self) -> None:
        """Has it read its torrc again, and try at once what it had put off."""
        assert self.process is not None
        self._write(self.torrc)
        self.process.send_signal(signal.SIGHUP)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends the process at once, as a power cut would end it."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Ends the process in order."""
        self.kill(signal.SIGTERM)

    def bootstrap(self) -> tuple[int, str]:
        """How far this start has come, in percent and in tor's own words."""
        said = self.log.read_bytes()[self._log_began :].decode(errors="replace")
        found = re.findall(r"(Bootstrapped (\d+)%.*)", said)
        return (int(found[-1][1]), found[-1][0]) if found else (0, "has not begun to bootstrap")

    def tail(self, lines: int = 8) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _write(self, torrc: Torrc) -> None:
        lines = [
            f"{option} {value}\n"
            for option, values in torrc.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        (self.folder / "torrc").write_text("".join(lines))


class Relay(Tor):
    """A relay.  seen, real: the port that others dial, and the one where it listens."""

    def __init__(self, leash: Leash, directory: Path, name: str, seen: int, real: int) -> None:
        listens = f"127.0.0.1:{real}"
        ports = [listens] if seen == real else [f"{seen} NoListen", f"{listens} NoAdvertise"]
        super().__init__(leash, directory, name, {**RELAY, "Nickname": name, "ORPort": ports})
        self.seen = seen


class Bridge(Relay):
    """A bridge of transport obfs4, which listens on the port `disguised`."""

    def __init__(self, leash: Leash, directory: Path, port: int, disguised: int) -> None:
        super().__init__(leash, directory, "bridge", port, port)
        self._place = f"127.0.0.1:{disguised}"
        place = f"obfs4 {self._place}"
        self.torrc |= {**BRIDGE, "ServerTransportPlugin": OBFS4, "ServerTransportListenAddr": place}

    def torrc_of_clients(self) -> Torrc:
        """What a tor is told that shall come through it; empty until it is known."""
        try:
            made = (self.folder / "pt_state" / "obfs4_bridgeline.txt").read_text()
            fingerprint = (self.folder / "fingerprint").read_text().split()[1]
        except (FileNotFoundError, IndexError):
            return {}
        cert = re.search(r"^Bridge obfs4 .* (cert=\S+ iat-mode=0)$", made, re.MULTILINE)
        if cert is None:
            return {}
        line = f"obfs4 {self._place} {fingerprint} {cert[1]}"
        return {"UseBridges": "1", "ClientTransportPlugin": OBFS4, "Bridge": line}


class Authority(Relay):
    """The relay that says who the others are."""

    def __init__(self, leash: Leash, directory: Path, seen: int, real: int, serves: int) -> None:
        super().__init__(leash, directory, "authority", seen, real)
        self.address = f"127.0.0.1:{serves}"
        self.torrc |= {**AUTHORITY, "DirPort": self.address}
        self._vote_at(time.time() - 1)  # by then it has not begun: the next is far away

    def make_keys(self) -> str:
        """Returns the line by which all tors know it."""
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        words = ["--create-identity-key", "--passphrase-fd", "0", "-m", "24", "-a", self.address]
        for option, name in ("-i", "identity_key"), ("-s", "signing_key"), ("-c", "certificate"):
            words += [option, str(keys / f"authority_{name}")]
        _run("tor-gencert", *words, stdin="no secret\n")
        certificate = (keys / "authority_certificate").read_text()
        v3ident = certificate.partition("\nfingerprint ")[2].split()[0]
        self._write({"DataDirectory": str(self.folder), "ORPort": "1", "Nickname": self.name})
        said = _run(*self.program, *self._options, "--quiet", "--list-fingerprint")
        fingerprint = said.removeprefix(self.name).strip()
        return (
            f"{self.name} orport={self.seen} no-v2 v3ident={v3ident} {self.address} {fingerprint}"
        )

    def vote(self) -> None:
        """Has it vote now.  It votes at whole intervals after an offset, so the offset is moved."""
        self._vote_at(time.time() + VOTE_S)
        self.hang_up()

    def _vote_at(self, moment: float) -> None:
        self.torrc["TestingV3AuthVotingStartOffset"] = f"{int(moment) % INTERVAL_S} seconds"

    def get(self, path: str) -> str:
        """What it serves under `path` (dir-spec, section 6); "" while there is nothing."""
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else ""
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()


def check(tors: Sequence[Tor]) -> None:
    """Raises `TorNetworkError` with its last words if a tor has ended by itself."""
    for tor in tors:
        if tor.process is not None and tor.process.poll() is not None:
            raise TorNetworkError(f"{tor.name} ended by itself:\n{tor.tail()}")


def until(
    what: str,
    done: Callable[[], bool],
    tors: Sequence[Tor],
    deadline: float,
    say: Callable[[str], None],
    nudge: Callable[[], None] = lambda: None,
    nudge_s: float = PATIENCE_S,
) -> None:
    """Returns when `done`; calls `nudge` now and every `nudge_s`; every 5 s says how all stand.

    Raises `TorNetworkError` at the `deadline` (monotonic), or when a tor ends by itself.
    """
    began = time.monotonic()
    nudges, tells = 0, 1
    while not done():
        check(tors)
        now = time.monotonic()
        where = [f"{tor.name}: {tor.bootstrap()[1]}" for tor in tors if tor.process]
        if now > deadline:
            raise TorNetworkError("\n  ".join([f"not in {now - began:.0f} s: {what}", *where]))
        if now >= began + 5 * tells:
            tells += 1
            say("\n  ".join([f"{now - began:.0f} s, and not yet: {what}", *where]))
        if now >= began + nudge_s * nudges:
            nudges += 1
            nudge()
        time.sleep(0.05)
    say(what)


class Client(Tor):
    """The tor of one node, which is spoken to by two unix sockets."""

    def __init__(
        self,
        leash: Leash,
        directory: Path,
        name: str,
        torrc: Torrc,
        program: Sequence[str] = ("tor",),
    ) -> None:
        folder = directory / name
        self.socks_path, self.control_path = folder / "socks", folder / "control"
        self.cookie_path = folder / "control_auth_cookie"
        if len(os.fsencode(self.control_path)) > SOCKET_PATH_BYTES_MAX:
            raise TorNetworkError(
                f"{self.control_path} is too long for a socket: shorten --directory"
            )
        sockets = {
            "SocksPort": f'unix:"{self.socks_path}" ExtendedErrors',
            "ControlSocket": str(self.control_path),
        }
        super().__init__(leash, directory, name, {**CLIENT, **sockets, **torrc}, program)

    def start(self, *, wait: bool = True) -> None:
        super().start()
        if wait:
            self.wait()

    def wait(self, patience_s: float = PATIENCE_S, say: Callable[[str], None] = hush) -> None:
        """Returns when a circuit stands: from then on onion services can be reached."""
        deadline = time.monotonic() + patience_s
        until(f"{self.name} has a circuit", self.ready, [self], deadline, say)

    def ready(self) -> bool:
        return self.bootstrap()[0] == 100


def _run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TorNetworkError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout

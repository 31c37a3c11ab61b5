"""A machine in a container: a real systemd as its process 1, without a network.

Follows: systemd-nspawn(1).  Where the host's process 1 is not systemd, nothing registers it, so
commands go in through its namespaces.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tors import hush, until

PATIENCE_S = 300.0
#: Beside what the package depends on: what a board has, and what the tests look with.
INCLUDED = ("dbus", "iproute2", "man-db", "procps", "systemd", "systemd-sysv", "tor")
NODE, TOR_NODE, TOR = "aegis-edge", "aegis-edge-tor", "tor-for-aegis-edge"
UNITS = (NODE, TOR_NODE, TOR)
NSPAWN = ("--register=no", "--keep-unit", "--console=pipe", "--private-network")
#: For the filters of addresses, which are programs in the kernel; modules are the host's own.
NSPAWN += ("--capability=all", "--system-call-filter=bpf", "--drop-capability=CAP_SYS_MODULE")


class Machine:
    """`pid`: of its process 1, as the host sees it; `root`: its file system."""

    def __init__(self, suite: str, root: Path, pid: int, packages: list[Path]) -> None:
        self.suite, self.root = suite, root
        self.old, self.new = (f"/root/{package.name}" for package in packages)
        for package in packages:
            shutil.copy(package, root / "root")
        self._enter = ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i"]
        self._enter += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]

    def tried(self, line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """What comes of a line that root types in a shell."""
        return subprocess.run(
            [*self._enter, "bash", "-c", line],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def type(self, line: str, stdin: str = "") -> str:
        """What it prints, when it works."""
        done = self.tried(line, stdin)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def log(self) -> str:
        return self.tried("journalctl -n 40 --no-pager").stdout

    def install(self, package: str) -> None:
        """As an owner does who keeps what they wrote into settings."""
        options = "-o Dpkg::Options::=--force-confold"
        self.type(f"DEBIAN_FRONTEND=noninteractive apt-get install -yq {options} {package}")

    def purge(self) -> None:
        units = " ".join(UNITS)
        self.type(f"systemctl stop {units}; rm -rf /etc/systemd/system/*.d /etc/credstore*/aegis*")
        self.type("dpkg --purge aegis-edge; systemctl daemon-reload; systemctl reset-failed")

    def shown(self, name: str, unit: str = NODE) -> str:
        """A property of a unit."""
        return self.type(f"systemctl show --value -p {name} {unit}").strip()

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Return when it is done; fail with the log if it takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        until(what, done, [], deadline, hush)

    def drop_in(self, text: str, unit: str = NODE) -> None:
        """What `systemctl edit` does."""
        folder = f"/etc/systemd/system/{unit}.service.d"
        self.type(f"mkdir -p {folder} && cat >{folder}/test.conf", text)
        self.type("systemctl daemon-reload")


@contextmanager
def booted(suite: str, folder: Path, packages: list[Path]) -> Iterator[Machine]:
    """Make the root of a machine in `folder`, boot it, and take both away at the end."""
    root = folder / "root"
    depends = subprocess.run(
        ["dpkg-deb", "-f", packages[-1], "Depends"], capture_output=True, text=True, check=True
    ).stdout
    names = [re.split(r"[ :|(]", each.strip())[0] for each in depends.split(",")]
    include = ",".join(sorted({*INCLUDED, *names}))
    words = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={include}", suite, root]
    subprocess.run(words, check=True)
    with (folder / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", root, "--boot", *NSPAWN],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
    try:
        machine = Machine(suite, root, _first(nspawn.pid), packages)
        machine.until("the machine is up", lambda: _is_up(machine))
        yield machine
        machine.tried("systemctl poweroff")
        nspawn.wait(PATIENCE_S)
    finally:
        nspawn.kill()
        nspawn.wait()
        shutil.rmtree(root)


def _first(pid: int) -> int:
    """The process below `pid` that is the container's first."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + PATIENCE_S
    until("a container", lambda: bool(children.read_text()), [], deadline, hush)
    return int(children.read_text().split()[0])


def _is_up(machine: Machine) -> bool:
    said = machine.tried("systemctl is-system-running").stdout.strip()
    assert said != "degraded", machine.tried("systemctl --failed").stdout
    return said == "running"

"""A real tor as a child: it listens, it complains, and it never outlives its node."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_edge.net.tor import child
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places
from tests.tor.alone.stage import NO_NETWORK, connected, running

PATIENCE_MS = 20_000
NODE = """
import sys, trio
from functools import partial
from pathlib import Path
from aegis_edge.net.tor import child, control
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places

async def main():
    places = Places(Path(sys.argv[1]))
    async with trio.open_nursery() as nursery:
        run = partial(child.run, places, SecurityLevel.HIGH, extra=[("DisableNetwork", "1")])
        pid = await nursery.start(run)
        tor = await control.connect(places.control, Credentials())
        nursery.start_soon(tor.run)
        await tor.command("TAKEOWNERSHIP")
        print(pid, flush=True)

trio.run(main)
"""


async def test_it_listens_on_private_sockets_alone(places: Places) -> None:
    async with running(places) as pid, connected(places) as one:
        reply = await one.command("GETINFO", "process/pid", "net/listeners/control")
        assert reply.values()["process/pid"] == (str(pid),)
        assert reply.values()["net/listeners/control"] == (f'"{places.control}"',)
        assert stat.S_IMODE(places.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(places.cookie.stat().st_mode) == 0o600
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        assert [word.decode() for word in argv] == [
            str(child.BINARY),
            "--defaults-torrc",
            str(places.defaults),
            "-f",
            str(places.torrc),
        ]
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert environment.startswith(b"PATH=") and environment.count(b"\0") == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_it_cannot_read_is_told_in_its_own_words(places: Places) -> None:
    with pytest.raises(
        TorError, match=r"tor ended by itself \(with status 1\), saying: .*Nonsense"
    ):
        await child.run(places, SecurityLevel.HIGH, extra=[NO_NETWORK, ("Nonsense", "1")])


async def test_its_death_is_told(places: Places) -> None:
    with pytest.raises(TorError, match="by signal 9"):
        await _killed(places)


async def _killed(places: Places) -> None:
    """Runs a child that is killed as soon as it listens."""

    class Killing:
        def started(self, pid: int) -> None:
            os.kill(pid, signal.SIGKILL)

    await child.run(places, SecurityLevel.HIGH, extra=[NO_NETWORK], task_status=Killing())


async def test_it_is_started_again_where_it_was_killed(places: Places) -> None:
    with pytest.raises(TorError):
        await _killed(places)
    assert Path(places.control.path).exists(), "a socket is left"
    async with running(places), connected(places) as one:
        assert (await one.command("GETINFO", "version")).is_good


def test_it_dies_with_a_node_that_was_killed(places: Places) -> None:
    argv = [sys.executable, "-c", NODE, str(places.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as node:
        assert node.stdout is not None
        tor = os.pidfd_open(int(node.stdout.readline()))
        try:
            node.kill()
            waiting = select.poll()
            waiting.register(tor, select.POLLIN)
            assert waiting.poll(PATIENCE_MS), "tor outlives its node"
        finally:
            os.close(tor)


async def test_the_modules_of_this_tor_are_known() -> None:
    assert "relay" in await child.modules()

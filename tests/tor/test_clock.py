"""A board whose clock is a day off, with a tor that goes on with it; both see the same clock.

The clock is that of the processes, by Debian's libfaketime; tor and the node are as they come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from aegis_edge.net.channel import Goodbye, LinkError
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.gateway import Gateway, Progress, Tor
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from tests.tor.boards import board, clustered, overheard, running, system_tor
from tornet import TorNetwork

HIGH, STANDARD = SecurityLevel.HIGH, SecurityLevel.STANDARD
DAY_S = 86_400
PATIENCE_S = 90


def with_a_clock(off: str) -> Sequence[str]:
    """What leads to a program that sees a clock so far `off`."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    assert library, "libfaketime is not installed; run: sudo apt-get install faketime"
    return ("env", f"LD_PRELOAD={library}", f"FAKETIME={off}")


def test_a_clock_that_is_a_day_off_is_said_and_nothing_is_announced(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    # Tor says by how much when it hears it, and else what its view of the network allows.
    words = {
        "-1d": r"clock is (at least )?2[34] h behind: ",
        "+1d": r"clock is (at least )?2[2-4] h ahead",
    }
    with ExitStack() as stack:
        nodes = {}
        for name, off in (("behind", "-1d"), ("ahead", "+1d")):
            before = with_a_clock(off)
            tor = system_tor(tor_network, name, HIGH, program=(*before, "tor"))
            heard = stack.enter_context(overheard(tor))
            settings = clustered(board(tmp_path / name, tor, HIGH))
            nodes[off] = tor, heard, stack.enter_context(running(settings, before))
        for off, (tor, heard, node) in nodes.items():
            tor.wait()
            said = node.until_words("this board's clock is")
            assert re.search(words[off], said["words"])
            assert said["stage"] == "bootstrapping"
            day = datetime.now(UTC) + timedelta(days=int(off[:2]))
            assert f"it says {day:%Y-%m-%d}" in said["words"]
            assert "set it (sudo timedatectl set-ntp true" in said["words"]
            # And although its tor has circuits, and would do what it is told:
            assert tor.ready()
            assert heard.so_far() == []


@pytest.mark.parametrize("off_s", [-DAY_S, DAY_S])
async def test_as_soon_as_the_clock_is_set_it_goes_on(
    off_s: int, tor_network: TorNetwork, tmp_path: Path
) -> None:
    """The same gateway, with a clock that a test can set: one that jumps stops all else, too."""
    tor = system_tor(tor_network, f"set{off_s}", STANDARD)
    await trio.to_thread.run_sync(tor.wait)
    control, socks = (Endpoint(path=str(path)) for path in (tor.control_path, tor.socks_path))
    places = Tor(control, socks, tmp_path / "vanguards")
    own = Service(bytes(32), 80, f"{tmp_path}/onion.sock")
    off = [off_s]
    ours = Gateway(places, STANDARD, [own], {}, now_s=lambda: time.time() + off[0])

    async def refuse(_: object) -> Goodbye:
        return Goodbye.NORMAL

    async def until(progress: Progress, words: str) -> None:
        with trio.fail_after(PATIENCE_S):
            while ours.standing.progress is not progress or words not in ours.standing.words:
                await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        await nursery.start(ours.serve, refuse, f"onion:{own.address}:80")
        nursery.start_soon(ours.run)
        await until(Progress.BOOTSTRAPPING, "this board's clock is")
        with pytest.raises(LinkError, match="this board's clock is"):
            await ours.dial(f"onion:{own.address}:80")
        off[0] = 0
        await until(Progress.REACHABLE, "")
        nursery.cancel_scope.cancel()

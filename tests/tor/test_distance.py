"""What a distance between tors costs is what geometry says."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.tor.onion import ask, control, mirror, reach
from tornet import TorNetwork
from tors import Client


def hops(tor: Client, state: str) -> int:
    """Relays on the one circuit of `tor` that is in this state of meeting."""
    with control(tor) as controller:
        found = [c for c in controller.get_circuits() if c.hs_state == state]
    assert len(found) == 1
    return len(found[0].path)


def round_trip_ms(stream: socket.socket) -> float:
    """The shortest of a few: the others met something on their way.

    Nor does the first count, which began when the distance may still have been another.
    """
    ask(stream, b"ping")
    seen = []
    for _ in range(8):
        began = time.monotonic()
        assert ask(stream, b"ping") == b"gnip"
        seen.append(time.monotonic() - began)
    return min(seen) * 1000


def test_each_hop_costs_the_delay_twice(far_network: TorNetwork, tmp_path: Path) -> None:
    service, caller = (far_network.client(name, wait=False) for name in ("service", "caller"))
    service.wait()
    caller.wait()
    with mirror(service, tmp_path) as (address, _), reach(caller, address) as stream:
        # Both circuits end at the same relay, where they are joined.
        relays = hops(caller, "HSCR_JOINED") + hops(service, "HSSR_JOINED")
        assert round_trip_ms(stream) < 150
        try:
            for delay_ms in (20, 100):
                far_network.delay(delay_ms)
                expected_ms = 2 * relays * delay_ms
                assert expected_ms < round_trip_ms(stream) < expected_ms * 1.1 + 150
        finally:
            far_network.delay(0)
        assert round_trip_ms(stream) < 150


def test_a_network_without_distance_cannot_be_moved(tor_network: TorNetwork) -> None:
    with pytest.raises(AssertionError, match="delay_ms"):
        tor_network.delay(100)

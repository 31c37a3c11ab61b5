"""peers: the links as a table."""

from __future__ import annotations

import pytest

from aegis_edge.cli import peers
from tests.api.node import Replication
from tests.cli.conftest import Cli


def test_a_cluster_of_one_has_none(cli: Cli, node: Replication) -> None:
    assert "cluster of one" in cli("peers").out
    assert cli("peers", "--json").json == {"peers": []}


PEER = {
    "peer": "abcdefghijkl",
    "name": "barn",
    "state": "linked",
    "linked_ticks": 5000,
    "rtt_ms": 1.25,
    "remote": "10.0.0.2:8080",
    "addresses": ["tcp:10.0.0.2:8080"],
    "last_error": "",
}


def test_each_member_is_a_row() -> None:
    row = peers.row(PEER)
    assert row[0] == "abcdefgh"
    assert row[3:5] == ["5 s", "1.2 ms"]
    incoming = peers.row(PEER | {"remote": "tcp:10.0.0.2:48628"})
    assert incoming[5] == "tcp:10.0.0.2:8080", (
        "where it listens, not where it happened to call from"
    )
    waiting = peers.row(
        PEER | {"state": "waiting", "linked_ticks": None, "rtt_ms": None, "remote": ""}
    )
    assert waiting[3:6] == ["", "", "tcp:10.0.0.2:8080"]


def test_onion_addresses_fit_a_terminal_and_are_whole_in_the_json(
    cli: Cli, node: Replication
) -> None:
    host = "b5yl5wetvloy233d3uzdssbs3axfvihywf6e27rvgo3ia54aimc4s7yd.onion"
    peer = PEER | {
        "name": "greenhouse",
        "state": "dialling",
        "rtt_ms": 12345.6,
        "addresses": [f"onion:{host}:8080"],
    }
    node.peers = [peer]
    header, line = cli("peers").out.splitlines()
    assert "onion:b5yl5wet\N{HORIZONTAL ELLIPSIS}:8080" in line
    assert len(line) <= 80
    assert "LAST ERROR" not in header, "there is none"
    assert cli("peers", "--json").json["peers"] == [peer]
    node.peers = [peer, peer | {"last_error": "no such service"}]
    header, _, line = cli("peers").out.splitlines()
    assert header.endswith("LAST ERROR")
    assert line.endswith("no such service")


@pytest.mark.parametrize("address", ["tcp:192.168.1.20:8080", "tcp:[2001:db8::1]:8080", "onion:x"])
def test_other_addresses_are_shown_as_they_are(address: str) -> None:
    assert peers.row(PEER | {"addresses": [address]})[5] == address

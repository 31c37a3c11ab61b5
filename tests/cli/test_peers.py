"""peers: the links as a table."""

from __future__ import annotations

from aegis_edge.cli import peers
from tests.api.node import Replication
from tests.cli.conftest import Cli


def test_a_cluster_of_one_has_none(cli: Cli, node: Replication) -> None:
    assert "cluster of one" in cli("peers").out
    assert cli("peers", "--json").json == {"peers": []}


def test_each_member_is_a_row() -> None:
    peer = {
        "peer": "abcdefghijkl",
        "name": "barn",
        "state": "linked",
        "linked_ticks": 5000,
        "rtt_ms": 1.25,
        "remote": "10.0.0.2:8080",
        "addresses": ["tcp:10.0.0.2:8080"],
        "last_error": "",
    }
    row = peers.row(peer)
    assert row[0] == "abcdefgh"
    assert row[3:5] == ["5 s", "1.2 ms"]
    incoming = peers.row(peer | {"remote": "tcp:10.0.0.2:48628"})
    assert incoming[5] == "tcp:10.0.0.2:8080", (
        "where it listens, not where it happened to call from"
    )
    waiting = peers.row(
        peer | {"state": "waiting", "linked_ticks": None, "rtt_ms": None, "remote": ""}
    )
    assert waiting[3:6] == ["", "", "tcp:10.0.0.2:8080"]

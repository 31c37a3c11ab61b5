"""peers: the links as a table, why there is none, and who is kept out."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_edge.cli import peers
from aegis_edge.peers.identity import node_id
from tests.api.node import FOUNDERS, NEWCOMER, Replication
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
    "last_event": "it was linked",
    "last_event_ticks": 5000,
    "score": 75,
    "reasons": [{"what": "steady", "count": 1, "points": 25, "ago_ticks": 0}],
    "ban": None,
}


def test_where_somebody_follows_each_has_a_role(cli: Cli, node: Replication) -> None:
    node.peers = [PEER, PEER | {"name": "shed", "role": "observer"}]
    lines = [line.split()[1:4] for line in cli("peers").out.splitlines()]
    assert lines[0] == ["NAME", "ROLE", "STATE"]
    assert lines[1:] == [["barn", "member", "linked"], ["shed", "observer", "linked"]]
    node.peers = [PEER]
    assert "ROLE" not in cli("peers").out


def test_each_member_is_a_row() -> None:
    row = peers.row(PEER)
    assert row[0] == "abcdefgh"
    assert row[3:5] == ["5 s", "1.2 ms"]
    assert row[5] == "75"
    incoming = peers.row(PEER | {"remote": "tcp:10.0.0.2:48628"})
    assert incoming[6] == "tcp:10.0.0.2:8080", (
        "where it listens, not where it happened to call from"
    )
    waiting = peers.row(
        PEER | {"state": "waiting", "linked_ticks": None, "rtt_ms": None, "remote": ""}
    )
    assert waiting[3:7] == ["", "", "75", "tcp:10.0.0.2:8080"]


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
    header, line, *_ = cli("peers").out.splitlines()
    assert "onion:b5yl5wet\N{HORIZONTAL ELLIPSIS}:8080" in line
    assert len(line) <= 80
    assert "LAST ERROR" not in header, "there is none"
    assert cli("peers", "--json").json["peers"] == [peer]
    node.peers = [peer, peer | {"last_error": "no such service"}]
    header, _, line, *_ = cli("peers").out.splitlines()
    assert header.endswith("LAST ERROR")
    assert line.endswith("no such service")


@pytest.mark.parametrize("address", ["tcp:192.168.1.20:8080", "tcp:[2001:db8::1]:8080", "onion:x"])
def test_other_addresses_are_shown_as_they_are(address: str) -> None:
    assert peers.row(PEER | {"addresses": [address]})[6] == address


DOWN = PEER | {
    "state": "waiting",
    "linked_ticks": None,
    "rtt_ms": None,
    "last_error": "silent for 60 s",
    "last_event": "its link ended",
    "last_event_ticks": 120_000,
    "score": 30,
    "reasons": [
        {"what": "silent", "count": 2, "points": -18, "ago_ticks": 120_000},
        {"what": "cut off", "count": 1, "points": -2, "ago_ticks": 9_000_000},
        {"what": "refused", "count": 7, "points": 0, "ago_ticks": 90_000_000},
    ],
}


def test_of_a_member_without_a_link_it_is_said_what_happened_and_why_its_score_is_low() -> None:
    assert peers.remarks(DOWN) == [
        "its link ended 2 min ago",
        "score 30: silent 2 times (-18), cut off 1 time (-2)",
    ]
    assert peers.remarks(PEER) == [], "all is well"
    shaky = PEER | {"score": 30, "reasons": DOWN["reasons"]}
    assert peers.remarks(shaky) == ["score 30: silent 2 times (-18), cut off 1 time (-2)"]
    old = {key: DOWN[key] for key in ("peer", "name", "state", "linked_ticks", "rtt_ms", "remote")}
    old |= {"addresses": [], "last_error": ""}
    assert peers.remarks(old) == [], "a node of another version"
    assert peers.row(old)[5] == ""


@pytest.mark.parametrize(
    ("ban", "line"),
    [
        (
            {"reason": "it is banned by hand", "by_hand": True, "left_ticks": None},
            "banned until peers unban: it is banned by hand",
        ),
        (
            {"reason": "it lies", "by_hand": False, "left_ticks": 20_000},
            "banned for 20 s: it lies",
        ),
    ],
)
def test_of_a_member_that_is_kept_out_it_is_said_why(ban: dict[str, Any], line: str) -> None:
    first, *_ = peers.remarks(DOWN | {"state": "banned", "ban": ban})
    assert first == line


FIRST, SECOND, OTHER = map(node_id, (*FOUNDERS.members, NEWCOMER.signer))


@pytest.fixture
def two(node: Replication) -> Replication:
    node.peers = [PEER | {"peer": SECOND}, DOWN | {"peer": OTHER, "name": "dock"}]
    return node


def test_the_lines_below_the_table_name_whom_they_are_about(cli: Cli, two: Replication) -> None:
    said = cli("peers").out.splitlines()
    assert said[3:] == [
        "dock: its link ended 2 min ago",
        "dock: score 30: silent 2 times (-18), cut off 1 time (-2)",
    ]


@pytest.mark.parametrize("name", ["dock", OTHER, OTHER.upper(), OTHER[:9]])
def test_a_member_is_banned_and_let_in_by_name_or_id(name: str, cli: Cli, two: Replication) -> None:
    said = cli("peers", "ban", name, "--for", "30min")
    assert (said.code, said.out) == (0, "banned for 30 min\n")
    assert two.bans.kept == {NEWCOMER.signer: 1800}
    two.bans.warning = "it is needed"
    said = cli("peers", "ban", name)
    assert "until aegis-edge peers unban" in said.out
    assert "it is needed" in said.err
    assert two.bans.kept == {NEWCOMER.signer: None}
    assert cli("peers", "unban", name).code == 0
    assert two.bans.kept == {}


def test_programs_get_the_answers(cli: Cli, two: Replication) -> None:
    assert cli("peers", "ban", FIRST, "--json").json == {
        "id": FIRST,
        "for_s": None,
        "warning": "",
    }
    assert cli("peers", "unban", FIRST, "--json").json == {"id": FIRST}


def test_whoever_is_banned_and_no_member_is_shown_and_let_in_by_the_beginning_of_its_id(
    cli: Cli, two: Replication
) -> None:
    two.banned = [{"peer": FIRST, "left_ticks": 60_000}, {"peer": OTHER, "left_ticks": None}]
    said = cli("peers").out.splitlines()
    assert said[-1] == f"{FIRST[:8]}: no member; banned for 1 min"
    two.bans.kept[FOUNDERS.members[0]] = 60
    assert cli("peers", "unban", FIRST[:8]).code == 0
    assert two.bans.kept == {}


def test_nobody_is_banned_by_half_a_name(cli: Cli, two: Replication) -> None:
    for name in ("", "nobody", "d"):
        said = cli("peers", "ban", "--", name)
        assert said.code == 1
        assert "aegis-edge members shows their ids" in said.err
    assert cli("peers", "ban", "dock", "--for", "soon").code == 2
    assert two.bans.kept == {}

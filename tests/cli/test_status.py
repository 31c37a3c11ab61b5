"""status: one screen, of whatever the node says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from aegis_edge.cli import status
from aegis_edge.net.tor.gateway import Progress
from aegis_edge.pbft import quorum
from tests.api.node import Replication
from tests.cli.conftest import Cli


def test_the_screen_and_the_json(cli: Cli, node: Replication) -> None:
    assert cli("status").code == 0
    assert cli("status", "--json").json["nodes"] == 1


def test_a_lost_quorum_and_an_alarm_are_seen(cli: Cli, node: Replication) -> None:
    said = node.status()
    node_status = {
        **said,
        "quorum": 3,
        "faulty_max": 1,
        "nodes": 4,
        "has_quorum": False,
        "view": 2,
        "primary_name": "barn",
        "view_changing": True,
        "halted": True,
    }
    lines = dict(status.rows(node_status))
    assert "no quorum" in lines["members"]
    assert "1 of 4 nodes reachable, 3 needed" in lines["members"]
    assert "waits for the next view" in lines["primary"]
    assert "halted" in lines


@pytest.mark.parametrize(
    ("reachable", "line"),
    [
        (4, "quorum: 4 of 4 nodes reachable, 3 needed"),
        (3, "quorum: 3 of 4 nodes reachable, 3 needed"),
        (2, "no quorum: 2 of 4 nodes reachable, 3 needed"),
    ],
)
def test_whether_others_are_a_quorum_is_seen_without_being_one_of_them(
    reachable: int, line: str, cli: Cli, node: Replication
) -> None:
    node.more = {
        "nodes": 4,
        "quorum": 3,
        "faulty_max": 1,
        "reachable": ["somebody"] * reachable,
        "is_member": False,
        "has_quorum": False,
    }
    lines = dict(status.rows(node.status()))
    assert click.unstyle(lines["members"]).startswith(line)
    assert "this node" in lines


def test_who_follows_says_whom_and_how_far_it_is(node: Replication) -> None:
    said = {**node.status(), "is_member": False}
    lines = dict(status.rows({**said, "follows": {"source": "barn", "hops": 1, "behind": 0}}))
    assert "takes part once" in lines["this node"]
    assert lines["follows"] == "barn: nothing is missing"
    observer = {**said, "is_observer": True, "follows": {"source": "b", "hops": 3, "behind": 2}}
    lines = dict(status.rows(observer))
    assert "an observer: it reads" in lines["this node"]
    assert lines["follows"] == "b: 2 batches behind, 3 hops from who votes"
    lines = dict(status.rows({**said, "follows": {"source": None, "hops": 16, "behind": 0}}))
    assert "nobody yet" in lines["follows"]


def test_who_is_followed_says_by_whom(node: Replication) -> None:
    both = [{"name": "shed", "behind": None}, {"name": "van", "behind": 1}]
    lines = dict(status.rows({**node.status(), "observers": both}))
    assert lines["observers"] == "shed, van (1 batch behind)"
    assert "observers" not in dict(status.rows({**node.status(), "observers": []}))


def test_the_way_through_tor_says_how_far_it_is_and_why(cli: Cli, node: Replication) -> None:
    tor = {
        "level": "HIGH",
        "stage": "bootstrapping",
        "words": "tor is at 30 %",
        "address": "x.onion",
    }
    lines = dict(status.rows({**node.status(), "tor": {**tor, "link_bytes_a_day": 88_819_200}}))
    assert "bootstrapping" in lines["tor"]
    assert lines["tor"].startswith("HIGH: ")
    assert lines["tor"].endswith("; tor is at 30 %")
    assert lines["onion"] == "x.onion"
    assert lines["budget"].startswith("89 MB a day")
    assert "used" not in lines
    used = {"used_bytes": 11_100_000, "used_s": 3600.0, "used_link_bytes_a_day": 88_800_000}
    lines = dict(status.rows({**node.status(), "tor": {**tor, **used}}))
    assert lines["used"] == "11.1 MB in 1 h: 89 MB a day for each link"
    assert "tor" not in dict(status.rows({**node.status(), "tor": None}))


@pytest.mark.parametrize(
    ("tor", "line"),
    [
        ({"is_own": True, "used_s": 5}, "starting"),
        ({"is_own": True, "used_s": 5, "words": "start tor"}, "starting"),
        (
            {"is_own": True, "used_s": 61, "words": "start tor"},
            "no tor; the one that the node starts does not come up: see the node's log",
        ),
        (
            {"is_own": True, "used_s": 61, "tor_version": "0.4.9.3"},
            "starting again; the node's log says why its tor ended",
        ),
        ({"is_own": False, "used_s": 5, "words": "start tor"}, "no tor; start tor"),
        (
            {"stage": "published", "words": "published; not dialled from outside yet"},
            "published; not dialled from outside yet",
        ),
        ({"stage": "reachable", "words": ""}, "reachable"),
        (
            {"stage": "connected", "words": "a clo\x1bck"},
            "connected; a clo\N{REPLACEMENT CHARACTER}ck",
        ),
    ],
)
def test_what_an_owner_can_do_about_tor_is_said_once(tor: dict[str, Any], line: str) -> None:
    lines = dict(status.tor_rows({"level": "HIGH", "stage": Progress.NO_TOR.value, **tor}))
    assert click.unstyle(lines["tor"]) == f"HIGH: {line}"


def test_a_node_that_fetches_the_state_of_others_says_how_far_it_is(
    cli: Cli, node: Replication
) -> None:
    node.more = {"transfer": {"to": 640, "done": 0, "parts": 0}}
    assert "fetches   the state after batch 640" in cli("status").out.splitlines()
    node.more = {"transfer": {"to": 640, "done": 1, "parts": 800}}
    assert "fetches   the state after batch 640: 1 of 800 parts that differ" in cli("status").out


@pytest.mark.parametrize(
    ("rotten", "mended", "words"),
    [
        (1, 0, "it spoilt 1 row, all but 1 mended from what the others have"),
        (1, 2, "it spoilt 3 rows, all but 1 mended from what the others have"),
        (0, 3, "it spoilt 3 rows, mended from what the others have"),
    ],
)
def test_a_disk_that_spoils_what_it_holds_is_seen(
    cli: Cli, node: Replication, rotten: int, mended: int, words: str
) -> None:
    node.more = {"rotten": rotten, "mended": mended}
    assert f"disk      {words}" in cli("status").out.splitlines()
    node.more = {"rotten": 0, "mended": 0}
    assert "disk" not in cli("status").out


def test_an_alarm_says_whom_it_is_about(cli: Cli, node: Replication) -> None:
    node.more = {
        "alarms": [
            {"about": "bar\x1bn", "reason": "two proposals"},
            {"about": "", "reason": "a key was copied"},
        ],
        "pending": 1,
    }
    lines = cli("status").out.splitlines()
    assert "alarm  bar\N{REPLACEMENT CHARACTER}n: two proposals" in lines
    assert "alarm  a key was copied" in lines
    assert "revision  0; 1 write waiting" in lines
    node.more = {"pending": 2}
    assert "revision  0; 2 writes waiting" in cli("status").out


@pytest.mark.parametrize(
    ("nodes", "ratio_percent", "words"),
    [
        (1, 33, "alone: what this board loses is lost"),
        (2, 33, "all 2 needed; none may be off, none hostile"),
        (3, 33, "2 needed; 1 may be off, none hostile"),
        (4, 33, "3 needed; 1 may be off or hostile"),
        (4, 0, "3 needed; 1 may be off, none hostile"),
        (5, 33, "4 needed; 1 may be off or hostile"),
        (6, 33, "4 needed; 2 may be off, 1 hostile"),
        (7, 33, "5 needed; 2 may be off or hostile"),
    ],
)
def test_what_the_members_bear_is_in_words(nodes: int, ratio_percent: int, words: str) -> None:
    faulty = quorum.faults(nodes, ratio_percent)
    assert status.tolerance(nodes, quorum.quorum(nodes, faulty), faulty) == words


def test_nobody_there_is_6(cli: Cli, home: Path) -> None:
    cli("init")
    said = cli("status")
    assert said.code == 6
    assert "the node is not running" in said.err
    assert "aegis-edge run" in said.err
    assert str(home / "api.sock") in said.err
    assert '"error": "not_running"' in cli("status", "--json").err
    assert cli("status", "--socket", home / "other.sock").code == 6

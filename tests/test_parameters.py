"""What all members share is changed while they work: boards in processes of their own."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from aegis_edge.client import Client
from aegis_edge.config import Config
from cluster import free_ports
from tests.test_growth import TIMEOUT_S, Board, Caller, eventually
from tests.test_node import cluster, home

#: With it nobody would give up a silent primary while a test waits.
TOO_LONG = "pbft_timeout = 3600"


def patient_boards(path: Path, size: int) -> list[Config]:
    """A cluster of so many, and a board more, all of whose owners set too long a time."""
    homes = cluster(path, size)
    late = home(path / "late", *free_ports(1))
    late.genesis_file.write_text(homes[0].genesis_file.read_text())
    for each in (*homes, late):
        each.file.write_text(each.file.read_text().replace("pbft_timeout = 4", TOO_LONG))
    return [*homes, late]


def settings_of(board: Board) -> dict[str, Any]:
    return dict(json.loads(board.types("config", "show", "--running", "--json")))


def is_agreed(board: Board) -> bool:
    (row,) = [r for r in settings_of(board)["settings"] if r["key"] == "pbft_timeout"]
    return (row["value"], row["source"]) == (1.0, "agreed since configuration 1")


def who_leads(homes: list[Config]) -> str:
    """In the view in which they agree: one may have asked for another, and waits for them there."""
    for each in homes:
        with Client(each.api_socket) as kb:
            status = kb.status()
            if not status["view_changing"]:
                return str(status["primary_name"])
    raise AssertionError("all are about to change the view")


def test_another_time_out_counts_on_who_runs_who_restarts_and_who_comes(tmp_path: Path) -> None:
    homes = patient_boards(tmp_path, 4)
    running = {each.name: Board(each) for each in homes[:4]}
    first, second, third, fourth = running.values()
    caller = Caller(homes[1])
    try:
        caller.start()
        assert "waits for others" in first.types("propose", "pbft_timeout", "1")
        assert "set pbft_timeout to 1 seconds" in second.types("proposals")
        second.types("approve", "1")
        assert "is decided" in third.types("approve", "1")
        for board in (first, second, third, fourth):
            eventually(lambda board=board: is_agreed(board))
            (remark,) = settings_of(board)["overruled"]
            assert "config.toml: pbft_timeout is 3600, which does not count" in remark
        before = len(caller.acknowledged)
        eventually(lambda: len(caller.acknowledged) > before + 20)

        fourth.stop()
        running[homes[3].name] = fourth = Board(homes[3])
        assert is_agreed(fourth), "it is in its database"

        running["late"] = late = Board(homes[4])
        record = tmp_path / "late.record"
        record.write_text(late.types("record"))
        first.types("members", "add", str(record))
        second.types("approve", "2")
        third.types("approve", "2")
        eventually(lambda: is_agreed(late))
        for each in homes:
            with Client(each.api_socket) as kb:
                eventually(lambda kb=kb: kb.status()["configuration"] == 2)
                eventually(lambda kb=kb: len(kb.status()["reachable"]) == 4)
        caller.end()

        leader = who_leads(homes)
        running[leader].process.send_signal(signal.SIGSTOP)
        left = next(each for each in homes if each.name != leader)
        with Client(left.api_socket, timeout_s=TIMEOUT_S) as kb:
            kb.put("after", b"whoever led")
            assert kb.status()["view"] > 0
        running[leader].process.send_signal(signal.SIGCONT)
    finally:
        caller.end()
        for board in running.values():
            board.stop()

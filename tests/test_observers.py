"""Boards that follow and are no members: as owners type it, in processes of their own.

`tests/net/test_door.py` has who is kept out; `tests/test_invitations.py` how owners invite.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from aegis_edge.client import Client
from aegis_edge.config import Config
from aegis_edge.disk import hostfile, keyfile
from aegis_edge.peers.identity import node_id
from cluster import free_ports
from tests.test_growth import TIMEOUT_S, Board, Caller, eventually
from tests.test_invitations import NewBoard, code_of, new_boards, status_of
from tests.test_node import Running, cluster, home


@pytest.fixture
def running() -> Iterator[list[Board]]:
    boards: list[Board] = []
    yield boards
    for board in boards:
        board.stop()


def start(running: list[Board], settings: Config) -> Board:
    board = Board(settings)
    running.append(board)
    return board


def observer(running: list[Board], host: Board, new: NewBoard) -> Board:
    """A board that `host` invites, from its code to its running node."""
    code, said, complaint = new.comes(code_of(host.types("invite", "--observer")), "--json")
    assert (code, json.loads(said)["state"]) == (0, "observer"), complaint
    board = new.starts()
    running.append(board)
    return board


def has(board: Board, key: str) -> bool:
    """Whether the board can be read this key from."""
    with Client(board.settings.api_socket) as kb:
        return any(entry.key == key for entry in kb.ls(key))


def id_of(board: Board) -> str:
    return node_id(keyfile.read(board.settings.key_file).public)


def of(board: Board, table: str) -> list[dict[str, Any]]:
    said = json.loads(board.types("members" if table == "observers" else table, "--json"))
    return list(said[table])


def test_observers_read_all_that_the_members_agree_on_and_write_nothing(
    tmp_path: Path, running: list[Board]
) -> None:
    (founder,) = cluster(tmp_path, 1)
    host = start(running, founder)
    with Client(founder.api_socket) as kb:
        kb.put("before", "all")
    barn, cellar = [observer(running, host, new) for new in new_boards(tmp_path, 2)]
    caller = Caller(founder)
    caller.start()
    try:
        eventually(lambda: len(caller.acknowledged) > 50)
    finally:
        caller.end()
    last = caller.acknowledged[-1]
    for board in (barn, cellar):
        eventually(lambda board=board: has(board, last))
        with Client(board.settings.api_socket) as kb:
            assert kb.get("before").value == "all"
            assert {entry.key for entry in kb.ls("load/")} >= set(caller.acknowledged)
            assert [row.revision for row in kb.history("before")] == [1]
        refused = subprocess.run(
            [*board.command, "kb", "put", "no", "thing"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert refused.returncode != 0
        assert "is an observer" in refused.stderr and "aegis-edge invite" in refused.stderr
        status = status_of(board.settings)
        assert (status["is_member"], status["is_observer"], status["nodes"]) == (False, True, 1)
        assert status["alarms"] == []
        assert "an observer" in board.types("status")
    assert status_of(founder)["nodes"] == 1
    names = {each["name"]: each for each in of(host, "observers")}
    assert names.keys() == {"barn", "cellar"}
    assert {each["state"] for each in names.values()} == {"linked"}
    eventually(lambda: [each["behind"] for each in of(host, "observers")] == [0, 0])
    assert "barn" in host.types("members") and "observer" in host.types("peers")
    listed = json.loads(host.types("invite", "list", "--json"))["invitations"]
    assert [(each["state"], each["observer"]) for each in listed] == [("observes", True)] * 2
    host.types("remove", "barn")
    eventually(lambda: "barn" not in {each["name"] for each in of(host, "observers")})
    eventually(lambda: "does not count us a member" in str(of(barn, "peers")))
    assert [each["name"] for each in of(host, "observers")] == ["cellar"]
    with Client(founder.api_socket) as kb:
        kb.put("after", "barn")
    eventually(lambda: has(cellar, "after"))


def test_an_observer_whose_source_is_killed_follows_another(
    tmp_path: Path, running: list[Board]
) -> None:
    members = {settings.name: start(running, settings) for settings in cluster(tmp_path, 4)}
    host = members["n0"]
    first, second = [observer(running, host, new) for new in new_boards(tmp_path, 2)]
    for board in (first, second):
        eventually(lambda board=board: status_of(board.settings)["follows"]["source"] in members)
    victim = status_of(first.settings)["follows"]["source"]
    writer = next(board for name, board in members.items() if name not in (victim, "n0"))
    caller = Caller(writer.settings)
    caller.start()
    try:
        eventually(lambda: len(caller.acknowledged) > 20)
        members[victim].process.kill()
        before = len(caller.acknowledged)
        eventually(lambda: len(caller.acknowledged) > before + 20)
        for board in (first, second):
            eventually(lambda board=board: has(board, caller.acknowledged[before + 20]))
            source = status_of(board.settings)["follows"]["source"]
            assert source != victim
    finally:
        caller.end()
    for board in (first, second):
        eventually(lambda board=board: has(board, caller.acknowledged[-1]))
        assert status_of(board.settings)["alarms"] == []


def test_a_newcomer_follows_while_it_waits_and_is_level_with_the_members_when_it_votes(
    tmp_path: Path, running: list[Board]
) -> None:
    members = [start(running, settings) for settings in cluster(tmp_path, 4)]
    (new,) = new_boards(tmp_path, 1)
    with Client(members[0].settings.api_socket) as kb:
        for number in range(30):
            kb.put(f"before/{number}", "value")
    code, said, complaint = new.comes(code_of(members[0].types("invite")), "--no-wait", "--json")
    assert (code, json.loads(said)["state"]) == (0, "waiting"), complaint
    newcomer = new.starts()
    running.append(newcomer)
    caller = Caller(members[1].settings)
    caller.start()
    try:
        eventually(lambda: len(caller.acknowledged) > 20)
        eventually(lambda: has(newcomer, caller.acknowledged[20]))
        assert has(newcomer, "before/29")
        status = status_of(newcomer.settings)
        assert (status["is_member"], status["is_observer"]) == (False, False)
        assert "no member" in newcomer.types("status")
        number = str(json.loads(said)["proposal"])
        for voter in members[1:3]:
            voter.types("approve", number)
        eventually(lambda: status_of(newcomer.settings)["is_member"])
        level = status_of(newcomer.settings)["executed"]
        assert level >= status["executed"], "it did not begin anew"
        assert status_of(newcomer.settings)["transfer"] is None
    finally:
        caller.end()
    with Client(newcomer.settings.api_socket) as kb:
        kb.put("its own", "word")
    eventually(lambda: len(status_of(newcomer.settings)["reachable"]) == 4)
    assert of(members[0], "observers") == []
    assert status_of(newcomer.settings)["alarms"] == []


def test_without_its_host_an_observer_goes_by_the_pass_that_it_has_after_a_restart_as_well(
    tmp_path: Path, running: list[Board]
) -> None:
    members = {settings.name: start(running, settings) for settings in cluster(tmp_path, 4)}
    (new,) = new_boards(tmp_path, 1)
    board = observer(running, members["n0"], new)
    eventually(lambda: has_a_pass(board.settings))
    members["n0"].process.kill()
    running.remove(board)
    board.stop()
    again = start(running, board.settings)
    with Client(members["n1"].settings.api_socket) as kb:
        kb.put("after", "both")
    eventually(lambda: has(again, "after"))
    assert status_of(again.settings)["is_observer"]


def has_a_pass(settings: Config) -> bool:
    host = hostfile.read(settings.host_file)
    return host is not None and host.word != b""


def test_a_node_that_runs_when_its_owner_has_it_join_is_not_started_again(
    tmp_path: Path, running: list[Board]
) -> None:
    members = [start(running, settings) for settings in cluster(tmp_path, 2)]
    (port,) = free_ports(1)
    settings = home(tmp_path / "shed", port)
    settings.genesis_file.write_text(members[0].settings.genesis_file.read_text())
    shed = start(running, settings)
    with Client(members[1].settings.api_socket) as kb:
        kb.put("before", "it came")
    shed.types("join", code_of(members[0].types("invite")), "--no-wait")
    eventually(lambda: has(shed, "before"))
    assert not status_of(settings)["is_member"]
    members[1].types("approve", "1")
    eventually(lambda: status_of(settings)["is_member"])
    with Client(settings.api_socket) as kb:
        kb.put("its own", "word")


async def test_a_host_file_of_no_use_stops_no_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (settings,) = cluster(tmp_path, 1)
    hostfile.write(settings.host_file, hostfile.Host(b"noise", True))
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            alone = await Running(nursery).start(settings)
            assert "join again" in caplog.text
            assert not alone.status()["is_observer"], "it is a member"
            nursery.cancel_scope.cancel()

"""A cluster that grows and shrinks while it works: whole nodes, with real files and sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio

import grow
from aegis_edge.client import Client
from aegis_edge.config import Config
from aegis_edge.disk import keyfile, waypointfile
from aegis_edge.home import own_record
from aegis_edge.knowledge.operations import (
    Admit,
    Approve,
    Dismiss,
    Leave,
    Outcome,
    Propose,
    Status,
)
from aegis_edge.pbft.route import Waypoint
from aegis_edge.replication import NoMember, Replication, ReplicationError
from cluster import free_ports
from tests.test_node import PROGRAM, Running, agree, cluster, home, put, root

TIMEOUT_S = 60.0
ROOT = Path(__file__).resolve().parent.parent


def boards(path: Path, size: int) -> list[Config]:
    """A cluster of one, and boards that have its genesis."""
    (founder,) = cluster(path, 1)
    more = [home(path / f"b{i}", port) for i, port in enumerate(free_ports(size - 1))]
    for each in more:
        each.genesis_file.write_text(founder.genesis_file.read_text())
    return [founder, *more]


def key_of(settings: Config) -> bytes:
    return keyfile.read(settings.key_file).public


def admission(settings: Config) -> bytes:
    return Propose(Admit(own_record(settings, keyfile.read(settings.key_file)).raw)).encode()


async def decide(operation: bytes, *nodes: Replication) -> None:
    """The first of them proposes; the others say yes."""
    first = await nodes[0].submit(operation, of_members=True)
    assert first.status is Status.DONE
    for each in nodes[1:]:
        vote = await each.submit(Approve(first.revision, True).encode(), of_members=True)
        assert vote.status in (Status.DONE, Status.ABSENT), "perhaps it is decided by then"


async def settled(number: int, *nodes: Replication) -> None:
    """Wait until these are in configuration `number`."""
    while any(each.members.configuration.number != number for each in nodes):
        await trio.sleep(0.01)


class Load:
    """A caller that writes to a node all the time, and knows what was acknowledged."""

    def __init__(self, replication: Replication, name: str) -> None:
        self._replication, self._name = replication, name
        self.acknowledged: list[str] = []
        self.longest_s = 0.0
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            while True:
                key = f"{self._name}/{len(self.acknowledged)}"
                began = trio.current_time()
                outcome = await self._replication.submit(put(key))
                assert outcome.status is Status.DONE
                self.longest_s = max(self.longest_s, trio.current_time() - began)
                self.acknowledged.append(key)

    def stop(self) -> None:
        self._scope.cancel()


async def test_one_board_becomes_four_and_three_again_under_load(tmp_path: Path) -> None:
    homes = boards(tmp_path, 4)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(homes[0])]
            loads = [Load(nodes[0], "0")]
            nursery.start_soon(loads[0].run)
            for number, settings in enumerate(homes[1:], 1):
                newcomer = await running.start(settings)
                assert not newcomer.is_member
                await decide(admission(settings), *nodes)
                nodes.append(newcomer)
                await settled(number, *nodes)
                loads.append(Load(newcomer, str(number)))
                nursery.start_soon(loads[-1].run)
            assert [each.status()["nodes"] for each in nodes] == [4] * 4
            while min(len(load.acknowledged) for load in loads) < 20:
                await trio.sleep(0.01)
            loads[-1].stop()
            gone = nodes.pop()
            await decide(Propose(Dismiss(key_of(homes[3]))).encode(), *nodes)
            await settled(4, *nodes, gone)
            enough = [len(load.acknowledged) + 20 for load in loads[:3]]
            while any(len(load.acknowledged) < n for load, n in zip(loads, enough, strict=False)):
                await trio.sleep(0.01)
            for load in loads:
                load.stop()
            await agree(*nodes)
            for each in nodes:
                status = each.status()
                assert (status["nodes"], status["quorum"], status["is_member"]) == (3, 2, True)
                assert status["alarms"] == []
                keys = [key for load in loads for key in load.acknowledged]
                found = await each.read(lambda db, keys=keys: [db.get(key) for key in keys])
                assert all(version is not None for version in found)
            assert not gone.is_member
            with pytest.raises(NoMember, match="no member of the cluster"):
                await gone.submit(put("late"))
            nursery.cancel_scope.cancel()


async def test_a_node_restarts_in_the_configuration_that_it_was_in(tmp_path: Path) -> None:
    homes = boards(tmp_path, 2)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            await decide(admission(homes[1]), nodes[0])
            await settled(1, *nodes)
            assert (await nodes[1].submit(put("both"))).status is Status.DONE
            for each in homes:
                await running.stop(each)
            nodes = [await running.start(each) for each in homes]
            assert [each.members.configuration.number for each in nodes] == [1, 1]
            assert (await nodes[0].submit(put("again"))).status is Status.DONE
            left = await nodes[1].submit(Leave().encode(), of_members=True)
            assert left.status is Status.DONE
            await settled(2, *nodes)
            assert (await nodes[0].submit(put("alone"))).status is Status.DONE
            assert nodes[0].status()["nodes"] == 1
            nursery.cancel_scope.cancel()


async def test_a_way_that_does_not_lead_where_the_cluster_was_is_refused(
    tmp_path: Path,
) -> None:
    """The founder alone could sign another history: its word is not enough for who knows better."""
    homes = boards(tmp_path, 3)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            waypointfile.advance(homes[2].waypoint_file, Waypoint(1, b"another history "))
            nodes = [await running.start(each) for each in homes]
            await decide(admission(homes[1]), nodes[0])
            await settled(1, *nodes[:2])
            known = Waypoint.at(nodes[0].members.configuration)
            for each in homes[:2]:
                while waypointfile.read(each.waypoint_file) != known:
                    await trio.sleep(0.01)
            assert (await nodes[1].submit(put("true"))).status is Status.DONE
            await decide(admission(homes[2]), *nodes[:2])
            await settled(2, *nodes[:2])
            while not nodes[2].status()["alarms"]:
                await trio.sleep(0.01)
            status = nodes[2].status()
            assert "history of members" in status["alarms"][0]["reason"]
            assert status["executed"] == 0
            await running.stop(homes[2])
            waypointfile.remove(homes[2].waypoint_file)
            waypointfile.advance(homes[2].waypoint_file, known)
            nodes[2] = await running.start(homes[2])
            await settled(2, *nodes)
            await agree(*nodes)
            nursery.cancel_scope.cancel()


async def test_nobody_but_a_quorum_admits(tmp_path: Path) -> None:
    homes = boards(tmp_path, 3)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            await decide(admission(homes[1]), nodes[0])
            await settled(1, *nodes[:2])
            await nodes[0].submit(admission(homes[2]), of_members=True)
            revision = (await nodes[1].submit(put("after"))).revision
            assert revision == 1, "numbers of proposals are none of revisions"
            await nodes[0].revision_after(0)
            assert [each.revision for each in nodes[:2]] == [1, 1]
            assert nodes[0].status()["nodes"] == 2

            async def never() -> None:
                await nodes[2].submit(put("never"))

            with pytest.raises(NoMember):
                await never()
            vote: Outcome = await nodes[1].submit(Approve(2, True).encode(), of_members=True)
            assert vote.status is Status.DONE
            await settled(2, *nodes)
            await agree(*nodes)
            assert await root(nodes[2])
            nursery.cancel_scope.cancel()


async def test_a_lone_board_that_lost_its_database_waits_for_its_owners_word(
    tmp_path: Path,
) -> None:
    """Perhaps it let others in since, and they have decided without it."""
    (settings,) = cluster(tmp_path, 1)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            alone = await running.start(settings)
            await alone.submit(put("lost"))
            await running.stop(settings)
            database = settings.database_file
            for file in database.parent.glob(f"{database.name}*"):
                file.unlink()
            alone = await running.start(settings)
            (alarm,) = alone.status()["alarms"]
            assert "aegis-edge run --alone" in alarm["reason"]
            with pytest.raises(ReplicationError):
                await alone.submit(put("never"), timeout_s=0.2)
            await running.stop(settings)
            for word in (True, False):  # it is said once
                alone = await running.start(settings, alone=word)
                assert alone.status()["alarms"] == []
                assert (await alone.submit(put(f"again/{word}"))).status is Status.DONE
                await running.stop(settings)
            nursery.cancel_scope.cancel()


# --- in processes of their own ----------------------------------------------------------------


class Board:
    """A node in a process, and the commands that its owner types."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, settings.directory], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "aegis_edge", "--home", str(self.settings.directory)]

    def types(self, *words: str) -> str:
        done = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Caller(threading.Thread):
    """Writes through one board's API without a pause, and keeps what was acknowledged."""

    def __init__(self, settings: Config) -> None:
        super().__init__()
        self._path = settings.api_socket
        self._over = threading.Event()
        self.acknowledged: list[str] = []
        self.longest_s = 0.0

    def run(self) -> None:
        with Client(self._path) as kb:
            while not self._over.is_set():
                began = time.monotonic()
                key = f"load/{len(self.acknowledged)}"
                kb.put(key, key)
                self.acknowledged.append(key)
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def end(self) -> None:
        self._over.set()
        self.join()


def eventually(is_so: Callable[[], bool]) -> None:
    """Boards say where they stand, and nobody is told when that changes: they are asked again."""
    until = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < until, "it never came about"


def test_owners_make_one_board_four_and_throw_one_out(tmp_path: Path) -> None:
    homes = boards(tmp_path, 4)
    running = [Board(homes[0])]
    caller = Caller(homes[0])
    try:
        caller.start()
        for number, settings in enumerate(homes[1:], 1):
            newcomer = Board(settings)
            running.append(newcomer)
            record = tmp_path / f"{settings.name}.record"
            record.write_text(newcomer.types("record"))
            said = running[0].types("members", "add", str(record))
            for voter in running[1 : number - (number == 3)]:
                assert "waits for others" in said
                said = voter.types("approve", str(number))
            assert "waits" not in said
            with Client(settings.api_socket) as kb:
                eventually(lambda kb=kb, n=number: kb.status()["configuration"] == n)
            before = len(caller.acknowledged)
            eventually(lambda n=before: len(caller.acknowledged) > n + 20)
        assert len(running[3].types("members").splitlines()) == 1 + 4 + 1
        last = homes[3].name
        running[0].types("remove", last)
        running[1].types("approve", "4")
        assert "4 " in running[2].types("proposals")
        running[2].types("approve", "4")
        with Client(homes[3].api_socket) as kb:
            eventually(lambda: not kb.status()["is_member"])
        assert "no member" in running[3].types("status")
        before = len(caller.acknowledged)
        eventually(lambda: len(caller.acknowledged) > before + 20)
        caller.end()
        states = set()
        for settings in homes[:3]:
            with Client(settings.api_socket) as kb:
                kb.get(caller.acknowledged[-1], linearizable=True)
                held = {entry.key for entry in kb.ls("load/")}
                assert held >= set(caller.acknowledged)
                eventually(lambda kb=kb: bool(kb.status()["state_root"]))
                states.add(kb.status()["nodes"])
        assert states == {3}
    finally:
        caller.end()
        for board in running:
            board.stop()


# --- the script that shows it ----------------------------------------------------------------


def grown(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the figures of `scripts/grow.py`."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "scripts" / "grow.py"), *words, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, json.loads(figures.read_text())


def test_a_cluster_of_processes_grows_and_shrinks_under_load(tmp_path: Path) -> None:
    small = ["--boards", "2", "--left", "1", "--keys", "100", "--seconds", "0.5"]
    code, figures = grown(tmp_path, *small)
    assert (code, figures["wrong"]) == (0, [])
    assert [step["members"] for step in figures["steps"]] == [2, 1]
    assert all(step["puts_per_s"] > 0 for step in figures["steps"])


async def test_a_write_that_a_member_lacks_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = grow.options_of(["--boards", "2", "--left", "1", "--keys", "0", "--seconds", "0.5"])
    growth = grow.Growth(tmp_path, options)
    revisions = grow._revisions

    def without_one(node: Any) -> dict[str, int]:
        return {key: n for key, n in revisions(node).items() if key != "grow/n1/0"}

    monkeypatch.setattr(grow, "_revisions", without_one)
    with trio.fail_after(TIMEOUT_S):
        await growth.run()
    assert growth.wrong == ["n1 does not have grow/n1/0"]


async def test_a_call_that_waits_counts_before_it_is_answered() -> None:
    caller = grow.Caller(cast(Any, None))
    caller.waits = [(trio.current_time() - 5, 9.0), (trio.current_time(), 1.0)]
    assert caller.longest_s(trio.current_time() - 1) == 1.0
    caller._called = trio.current_time() - 3
    assert caller.longest_s(trio.current_time() - 1) >= 3.0

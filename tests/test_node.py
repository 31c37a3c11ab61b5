"""Whole nodes: four of them on loopback, in one process or in four, with real files and sockets."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from aegis_edge import config, node, proof
from aegis_edge.client import Client, connect
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseLost, DiskFull
from aegis_edge.home import own_record, read_genesis
from aegis_edge.knowledge.operations import Delete, Outcome, Put, Status
from aegis_edge.net.channel import Goodbye
from aegis_edge.net.direct import Direct
from aegis_edge.net.links import LinkOpened, Links
from aegis_edge.net.poller import Poller
from aegis_edge.peers.address import TCP
from aegis_edge.peers.book import Book
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.replication import NoQuorum, Outlived, Replication
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord
from cluster import Cluster, free_ports
from tests.net.network import running, until
from tests.replication.many import submit_many

PROGRAM = """
import sys
from aegis_edge import config, node
settings = lambda: config.load({"home": sys.argv[1]}, {})
ready = lambda _: print("ready", flush=True)
sys.exit(node.main(settings(), ready=ready, reread=settings))
"""
TIMEOUT_S = 60.0


def home(path: Path, port: int, *more: str) -> Config:
    """A home with an identity in it."""
    path.mkdir()
    lines = [f"name = '{path.name}'", f"p2p_port = {port}", "pbft_timeout = 4", *more]
    (path / "config.toml").write_text("\n".join(lines))
    made = config.load({"home": path}, {})
    keyfile.create(made.key_file)
    return made


def cluster(path: Path, size: int) -> list[Config]:
    """Homes of a cluster, in the order of the members' keys: the first leads view 0."""
    homes = [home(path / f"n{i}", port) for i, port in enumerate(free_ports(size))]
    records = [own_record(each, keyfile.read(each.key_file)) for each in homes]
    owners = {record.signer: each for record, each in zip(records, homes, strict=True)}
    genesis = Genesis.of(records, Parameters(0, bytes(16)))
    for each in homes:
        each.genesis_file.write_text(genesis.to_text())
    return [owners[key] for key in genesis.members]


def put(key: str, value: bytes = b"value") -> bytes:
    return Put(key, value).encode()


class Running:
    """Nodes in this process; each can be stopped as if its power failed."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: dict[Path, tuple[trio.CancelScope, trio.Event]] = {}

    async def start(self, settings: Config, *, alone: bool = False) -> Replication:
        replication: Replication = await self._nursery.start(self._run, settings, alone)
        return replication

    async def stop(self, settings: Config) -> None:
        scope, ended = self._scopes.pop(settings.directory)
        scope.cancel()
        await ended.wait()

    async def _run(self, settings: Config, alone: bool, *, task_status: Any) -> None:
        ended = trio.Event()
        with trio.CancelScope() as scope:
            self._scopes[settings.directory] = (scope, ended)
            await node.run(settings, alone=alone, ready=task_status.started)
        ended.set()


async def root(replication: Replication) -> bytes:
    return await replication.read(lambda database: database._machine.root())


async def agree(*nodes: Replication) -> None:
    """Wait until all have one state root: what a node that came back orders may be under way."""
    while len({await root(each) for each in nodes}) > 1:
        await trio.testing.wait_all_tasks_blocked(0.01)


# --- agreement, in one process --------------------------------------------------------------


async def test_four_nodes_agree_on_what_any_of_them_was_told(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 4)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            async with trio.open_nursery() as callers:
                for number, each in enumerate(nodes):
                    callers.start_soon(submit_many, each, [put(f"{number}/{i}") for i in range(50)])
            for each in nodes:
                assert await each.revision_after(199) == 200
                assert each.status()["alarms"] == []
            await agree(*nodes)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("level", "patience_s"), [("", 30), ("STANDARD", 48), ("HIGH", 159), ("PARANOID", 103)]
)
async def test_callers_wait_for_as_long_as_the_way_may_take(
    tmp_path: Path, level: str, patience_s: float
) -> None:
    """With a time-out of 4 s; there is no tor at that place, and the node waits for one."""
    tor = [f"{name} = 'unix:{tmp_path}/none'" for name in ("tor_control_port", "tor_socks_port")]
    through = ["transport = 'tor'", f"security_level = '{level}'", "tor = 'system'", *tor]
    (port,) = free_ports(1)
    alone = home(tmp_path / "alone", port, *(through if level else []))
    record = own_record(alone, keyfile.read(alone.key_file))
    alone.genesis_file.write_text(Genesis.of([record], Parameters(0, bytes(16))).to_text())
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            await Running(nursery).start(alone)
            async with connect(str(alone.api_socket)) as kb:
                said = await kb.status()
                assert said["patience_s"] == patience_s
                assert said["tor"] is None if not level else said["tor"]["is_own"] is False
            nursery.cancel_scope.cancel()


async def test_the_primary_goes_and_comes_back(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 4)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            await nodes[0].submit(put("before"))
            await running.stop(homes[0])
            await submit_many(nodes[1], [put(f"while/{i}") for i in range(200)])
            assert nodes[1].status()["view"] > 0
            back = await running.start(homes[0])
            assert await back.revision_after(200) == 201
            outcome = await back.submit(put("after"))
            assert outcome == Outcome(Status.DONE, 202, outcome.time_ms)
            for each in (back, *nodes[1:]):
                await each.revision_after(201)
            await agree(back, *nodes[1:])
            nursery.cancel_scope.cancel()


async def test_two_of_four_say_who_is_missing_and_carry_on_when_a_third_comes(
    tmp_path: Path,
) -> None:
    homes = cluster(tmp_path, 4)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes[:2]]
            waiting = ", ".join(sorted(each.name for each in homes[2:]))
            with pytest.raises(NoQuorum, match=f"waiting for .*{waiting}$"):
                await nodes[0].submit(put("too early"), timeout_s=0.2)
            async with trio.open_nursery() as callers:
                callers.start_soon(nodes[0].submit, put("patient"))
                nodes.append(await running.start(homes[2]))
            assert await nodes[2].revision_after(0) == 1, "what was withdrawn never happened"
            nursery.cancel_scope.cancel()


async def test_a_cluster_of_one_needs_nobody(tmp_path: Path) -> None:
    (alone,) = cluster(tmp_path, 1)
    with trio.fail_after(TIMEOUT_S):
        for revision in (1, 2):
            async with trio.open_nursery() as nursery:
                replication = await Running(nursery).start(alone)
                assert (await replication.submit(put("key"))).revision == revision
                await replication.barrier()
                nursery.cancel_scope.cancel()


async def test_what_the_links_raise_is_in_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Links] = []
    begin = Links.__init__

    def kept(links: Links, **more: Any) -> None:
        made.append(links)
        begin(links, **more)

    monkeypatch.setattr(Links, "__init__", kept)
    (alone,) = cluster(tmp_path, 1)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            replication = await Running(nursery).start(alone)
            made[0].alarms.add("a key was copied")
            alarms = replication.status()["alarms"]
            assert alarms == [{"about": "", "reason": "a key was copied"}]
            nursery.cancel_scope.cancel()


async def test_a_damaged_database_is_set_aside_and_rebuilt_from_the_others(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 4)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            await submit_many(nodes[1], [put(f"{i}") for i in range(20)])
            await running.stop(homes[3])
            data = bytearray(homes[3].database_file.read_bytes())
            data[4096:12288] = bytes(8192)
            homes[3].database_file.write_bytes(data)
            back = await running.start(homes[3])
            assert back.status()["learning"] is not None, "it does not know what it voted for"
            assert await back.revision_after(19) == 20
            await agree(back, nodes[1])
            assert (await back.submit(put("more"))).revision == 21
            while back.status()["learning"] is not None:
                await back.barrier()
            assert back.status()["stable"] >= Parameters(0, bytes(16)).window
            assert back.status()["view_changing"], "it waits for a view that it never voted in"
            await running.stop(homes[0])
            assert (await nodes[1].submit(put("with its vote"))).revision == 22
            nursery.cancel_scope.cancel()


async def test_s8_14_a_database_that_is_gone_without_a_trace_was_lost(tmp_path: Path) -> None:
    """A new card with `identity.key` from its backup: it votes for nothing that it forgot."""
    homes = cluster(tmp_path, 3)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            assert [each.status()["learning"] for each in nodes] == [None] * 3, "they never ran"
            await nodes[1].submit(put("acknowledged"))
            await running.stop(homes[2])
            for file in homes[2].directory.glob("*.db*"):
                file.unlink()
            back = await running.start(homes[2])
            assert back.status()["learning"] is not None
            nursery.cancel_scope.cancel()


def test_s8_14_a_board_that_lost_its_database_and_the_time_of_day_comes_back_by_itself(
    tmp_path: Path,
) -> None:
    """Its lives were counted from a clock that was ahead of the one that it has now."""
    # If it leads, nothing but silence for a whole time-out tells the others that it cannot.
    boards = Cluster(tmp_path, patience_s=120)
    last = boards.nodes[-1]
    try:
        boards.make()
        boards.start()
        boards.wait_ready()
        last.kill(signal.SIGTERM)
        with closing(sqlite3.connect(last.home / "aegis-edge.db")) as database:
            database.execute("UPDATE meta SET incarnation = ?", (1 << 33,))
            database.commit()
        last.start()
        boards.wait_ready()
        with last.client(60.0) as client:
            client.put("before", b"1")
        last.kill(signal.SIGTERM)
        for file in last.home.glob("aegis-edge.db*"):
            file.unlink()
        last.start()
        boards.wait(last, lambda status: status["learning"] is None, "vote again")
        with last.client(60.0) as client:
            client.put("after", b"2")
        assert last.status()["halted"] is None
        assert b"begins once more" in last.log.read_bytes()
    finally:
        boards.stop()


async def test_a_record_that_was_learnt_cannot_be_rolled_back_by_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A member shows version 5 of its record; after our restart it shows version 4 again."""
    ours, theirs = cluster(tmp_path, 2)
    with trio.fail_after(TIMEOUT_S):
        for version, welcome in ((5, True), (4, False), (5, True)):
            async with trio.open_nursery() as nursery:
                await Running(nursery).start(ours)
                links = caller(theirs, version)
                async with running((links, [])):
                    if welcome:
                        await until(links, LinkOpened)
                    else:
                        while not links.statistics()[0].last_error:
                            await trio.testing.wait_all_tasks_blocked(0.01)
                        assert links.statistics()[0].last_error == Goodbye.RECORD.words
                nursery.cancel_scope.cancel()
    database = sqlite3.connect(ours.database_file)
    database.execute("UPDATE node_records SET record = x'00'")
    database.commit()
    database.close()
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            await Running(nursery).start(ours)
            nursery.cancel_scope.cancel()
    assert "a kept node record is of no use" in caplog.text


def caller(settings: Config, version: int) -> Links:
    """The links of a member as its owner could run them, with any version of its record."""
    keys = keyfile.read(settings.key_file)
    record = NodeRecord(version, keys.noise_public, (), 2**31, settings.name)
    genesis = read_genesis(settings)
    transports = {TCP: Direct(is_on_one_host=True)}
    return Links(
        poller=Poller(),
        book=Book(keys.public, genesis.records, transports),
        record_raw=Signer(keys.seed, b"").sign(record).raw,
        noise_private=keys.noise_private,
        cluster_id=genesis.cluster_id,
        transports=transports,
    )


# --- real processes -------------------------------------------------------------------------


@contextmanager
def process(settings: Config, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A node as a process of its own, serving."""
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(settings.directory)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if environment else None,
        text=True,
    )
    with started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


def test_four_processes_survive_kill_9_of_their_primary(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 4)
    with ExitStack() as stack:
        primary, *others = [stack.enter_context(process(each)) for each in homes]
        with Client(str(homes[1].api_socket), timeout_s=TIMEOUT_S) as kb:
            for number in range(20):
                kb.put(f"before/{number}", b"x")
            primary.send_signal(signal.SIGKILL)
            for number in range(20):
                last = kb.put(f"after/{number}", b"x")
            assert kb.status()["view"] > 0
        stack.enter_context(process(homes[0]))
        with Client(str(homes[0].api_socket), timeout_s=TIMEOUT_S) as kb:
            seen = next(c for c in kb.watch(after=0) if c.version.revision == last.revision)
            assert seen.version.key == "after/19"
            assert kb.put("again", {"json": True}).revision == last.revision + 1
        for each in others:
            each.send_signal(signal.SIGTERM)
            assert each.wait(TIMEOUT_S) == 0


def test_power_loss_of_all_nodes_loses_nothing_acknowledged(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 4)
    with ExitStack() as stack:
        processes = [stack.enter_context(process(each)) for each in homes]
        with Client(str(homes[2].api_socket), timeout_s=TIMEOUT_S) as kb:
            for number in range(30):
                last = kb.put(f"key/{number}", b"%d" % number)
            for each in processes:
                each.kill()
    with ExitStack() as stack:
        for each in homes[1:]:
            stack.enter_context(process(each))
        with Client(str(homes[3].api_socket), timeout_s=TIMEOUT_S) as kb:
            assert kb.put("on", b"").revision == last.revision + 1
            assert [kb.get(f"key/{n}").value for n in range(30)] == [b"%d" % n for n in range(30)]


# --- what is wrong, and the exit code -------------------------------------------------------


def test_without_a_key_there_is_no_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (settings,) = cluster(tmp_path, 1)
    settings.key_file.unlink()
    assert node.main(settings) == os.EX_CONFIG
    assert "run aegis-edge init" in capsys.readouterr().err


def test_without_a_genesis_there_is_no_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = home(tmp_path / "a", 1)
    assert node.main(settings) == os.EX_CONFIG
    assert "there is no genesis yet" in capsys.readouterr().err
    settings.genesis_file.write_text("something else")
    assert node.main(settings) == os.EX_CONFIG
    assert str(settings.genesis_file) in capsys.readouterr().err
    settings.genesis_file.unlink()
    settings.genesis_file.mkdir()
    assert node.main(settings) == os.EX_CONFIG
    assert "cannot be read" in capsys.readouterr().err


def test_an_odd_genesis_is_remarked_on_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (settings,) = cluster(tmp_path, 1)
    record = own_record(settings, keyfile.read(settings.key_file))
    odd = Genesis.of([record], Parameters(0, bytes(16), 8, 16))
    settings.genesis_file.write_text(odd.to_text())
    settings.key_file.unlink()
    assert node.main(settings) == os.EX_CONFIG
    assert "the genesis of this cluster: window is 16" in caplog.text


def test_a_port_in_use_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (settings,) = cluster(tmp_path, 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.p2p_port))
        taken.listen()
        assert node.main(settings) == os.EX_TEMPFAIL
    said = capsys.readouterr().err
    assert f"cannot listen on tcp:127.0.0.1:{settings.p2p_port}: another program holds" in said
    assert "set p2p_port to a free one" in said
    assert "Errno" not in said


def test_an_address_of_another_host_is_a_wrong_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings,) = cluster(tmp_path, 1)
    moved = config.load({"home": settings.directory, "listen": "192.0.2.1"}, {})
    assert node.main(moved) == os.EX_CONFIG
    assert "192.0.2.1 is no address of this host; set listen" in capsys.readouterr().err


def test_a_home_whose_node_runs_says_who_runs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings,) = cluster(tmp_path, 1)
    with process(settings) as first:
        record = settings.record_file.read_text()
        again = config.load({"home": settings.directory, "name": "other"}, {})
        assert node.main(again) == os.EX_TEMPFAIL
        said = capsys.readouterr().err
        assert f"already running, pid {first.pid}: a node answers at" in said
        assert "see `aegis-edge status`" in said
        assert settings.record_file.read_text() == record, "it began to change the other's home"
        elsewhere = {"home": settings.directory, "api_socket": tmp_path / "other.sock"}
        assert node.main(config.load(elsewhere, {})) == os.EX_TEMPFAIL
        assert f"in use by another process, pid {first.pid}," in capsys.readouterr().err


def test_a_database_of_another_cluster_is_a_wrong_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings,) = cluster(tmp_path, 1)
    with process(settings):
        pass
    record = own_record(settings, keyfile.read(settings.key_file))
    other = Genesis.of([record], Parameters(1, bytes(16)))
    settings.genesis_file.write_text(other.to_text())
    assert node.main(settings) == os.EX_CONFIG
    assert "belongs to another cluster" in capsys.readouterr().err


def test_a_full_disk_stops_the_node_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise DiskFull("the disk is full", "make room")

    monkeypatch.setattr(Database, "perform", full)
    (settings,) = cluster(tmp_path, 1)
    answers: list[Any] = []
    code = node.main(settings, ready=lambda r: r.enqueue(put("key"), answers.append) and None)
    assert code == os.EX_IOERR
    assert "the disk is full; make room" in capsys.readouterr().err
    assert [answer.code for answer in answers] == ["stopping"]


# --- proofs ---------------------------------------------------------------------------------


async def test_what_any_node_says_is_proven_to_whoever_has_the_genesis(tmp_path: Path) -> None:
    """At once where it is signed already; else a checkpoint comes about, if nobody writes too."""
    homes = cluster(tmp_path, 4)
    genesis = read_genesis(homes[0])
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            await nodes[0].submit(put("door", b"open"))
            await nodes[1].submit(put("door", b"shut"))
            await nodes[1].submit(put("gone"))
            await nodes[1].submit(Delete("gone").encode())
            for each in nodes:
                await each.barrier()
                door = proof.verify(await each.prove("door"), genesis)
                assert door.version is not None
                assert (door.version.value, door.version.author) == (b"shut", nodes[1].key)
                gone = proof.verify(await each.prove("gone"), genesis)
                assert gone.version is not None
                assert gone.version.deleted
                assert proof.verify(await each.prove("never"), genesis).version is None
                assert door.sequence % genesis.parameters.checkpoint_interval == 0
                assert len(door.signers) >= 3
            await nodes[2].barrier()
            own = nodes[2].status()["own_operations"]
            await nodes[2].prove("door")
            assert nodes[2].status()["own_operations"] == own, "what is signed takes no batch"
            await running.stop(homes[2])
            again = await running.start(homes[2])
            found = proof.verify(await again.prove("door"), genesis)
            assert found.version == door.version
            assert found.sequence >= door.sequence
            nursery.cancel_scope.cancel()


async def test_a_key_that_never_rests_is_proven_all_the_same(tmp_path: Path) -> None:
    homes = cluster(tmp_path, 4)
    genesis = read_genesis(homes[0])
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]

            async def write() -> None:
                for number in itertools.count():
                    await nodes[0].submit(put("hot", b"%d" % number))

            await nodes[0].submit(put("hot", b"first"))
            async with trio.open_nursery() as writer:  # which ends before the node that it uses
                writer.start_soon(write)
                for each in (nodes[0], nodes[3]):
                    readable = await each.read(lambda database: database.newest("hot"))
                    found = proof.verify(await each.prove("hot"), genesis)
                    assert found.version is not None
                    assert found.version.revision >= readable
                writer.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def test_a_board_alone_proves_what_it_has(tmp_path: Path) -> None:
    (settings,) = cluster(tmp_path, 1)
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            alone = await Running(nursery).start(settings)
            await alone.submit(put("door", b"open"))
            data = await alone.prove("door")
            found = proof.verify(data, read_genesis(settings))
            assert found.version is not None
            assert (found.version.value, found.signers) == (b"open", (alone.key,))
            nursery.cancel_scope.cancel()


def test_a_database_that_is_lost_in_use_is_begun_anew_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    async def run(*_: object, lost: str, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        runs.append(lost)
        raise DatabaseLost(f"{len(runs)} is gone", "keep it")

    monkeypatch.setattr(node, "run", run)
    told: list[Exception] = []
    assert node.main(home(tmp_path / "n", 1), tell=told.append) == os.EX_IOERR
    assert runs == ["", "1 is gone; keep it", "2 is gone; keep it"]
    assert len(told) == node.BEGINNINGS_MAX


def test_a_life_that_an_earlier_one_outdid_is_followed_by_a_higher_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[str] = []

    async def run(*_: object, lost: str, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        lives.append(lost)
        if len(lives) == 1:
            raise DatabaseLost("it is gone", "keep it")
        if len(lives) == 2:
            raise Outlived("counted from a clock that was behind")

    monkeypatch.setattr(node, "run", run)
    told: list[Exception] = []
    assert node.main(home(tmp_path / "n", 1), tell=told.append) == os.EX_OK
    assert lives == ["", "it is gone; keep it", "it is gone; keep it"], "the owner hears it still"
    assert [type(error) for error in told] == [DatabaseLost, Outlived]


def test_a_node_that_was_told_to_stop_does_not_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    async def run(*_: object, stop: trio.Event, lost: str, **__: object) -> None:
        runs.append(lost)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        raise DatabaseLost("it is gone", "keep it")

    monkeypatch.setattr(node, "run", run)
    told: list[Exception] = []
    assert node.main(home(tmp_path / "n", 1), tell=told.append) == os.EX_IOERR
    assert runs == [""]


# --- as a service ---------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Callable[[str], list[str]]]:
    """A service manager at `notify`: all lines that it is told up to this one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(TIMEOUT_S)

        def until(wanted: str) -> list[str]:
            lines: list[str] = []
            while wanted not in lines:
                lines += end.recv(4_096).decode().splitlines()
            return lines

        yield until


def test_a_service_says_how_it_stands_and_reads_its_settings_again(
    tmp_path: Path, told: Callable[[str], list[str]]
) -> None:
    (settings,) = cluster(tmp_path, 1)
    with process(
        settings, NOTIFY_SOCKET=str(tmp_path / "notify"), RUNTIME_DIRECTORY=str(tmp_path)
    ) as run:
        before = told("READY=1")
        assert "STATUS=opens its database" in before
        assert before[-1] == "STATUS=1 of 1 nodes reachable; n0 leads, view 0"
        assert (tmp_path / "starts").read_text() == "1"
        for text in ("log_level = 'debug'\nname = 'other'\np2p_port = 1\n", "nonsense"):
            settings.file.write_text(text)
            run.send_signal(signal.SIGHUP)
            assert "RELOADING=1" in told("READY=1")
        run.terminate()
        assert told("STATUS=stops")[-2:] == ["STOPPING=1", "STATUS=stops"]
        assert run.wait(TIMEOUT_S) == 0
        assert run.stderr is not None
        said = run.stderr.read()
        assert "WARNING name, p2p_port, pbft_timeout: what the settings say now counts" in said
        assert "ERROR the settings stay as they are: " in said
        assert not (tmp_path / "starts").exists()


def test_a_service_that_cannot_begin_says_why_to_its_manager(
    tmp_path: Path, told: Callable[[str], list[str]]
) -> None:
    settings = home(tmp_path / "n", 1)
    words = [sys.executable, "-c", PROGRAM, str(settings.directory)]
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    done = subprocess.run(words, env=environment, capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == os.EX_CONFIG
    assert "STATUS=stops" not in told(f"STATUS={done.stderr.decode()[12:-1]}"[:519])


def test_what_goes_to_the_journal_has_priorities_and_no_times(tmp_path: Path) -> None:
    (settings,) = cluster(tmp_path, 1)
    with (tmp_path / "journal").open("w") as journal:
        found = os.fstat(journal.fileno())
        words = [sys.executable, "-c", PROGRAM, str(settings.directory)]
        run = subprocess.Popen(
            words,
            env=os.environ | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
            stdout=subprocess.PIPE,
            stderr=journal,
            text=True,
        )
        with run:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            run.terminate()
            assert run.wait(TIMEOUT_S) == 0
    lines = (tmp_path / "journal").read_text().splitlines()
    assert any(line.startswith("<6>n0 runs: ") for line in lines)
    assert all(line[0] + line[2] == "<>" for line in lines)

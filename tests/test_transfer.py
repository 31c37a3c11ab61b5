"""Whole nodes, one of which was away for so long that nobody keeps what it missed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from aegis_edge import node
from aegis_edge.client import Client
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.disk.database import Database
from aegis_edge.home import own_record, read_genesis
from aegis_edge.knowledge.merkle import PARTITIONS
from aegis_edge.knowledge.parts import PARTITION
from aegis_edge.net.links import Arrived, LinkOpened
from aegis_edge.pbft import serving
from aegis_edge.pbft.replica import Replica
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.proof import verify
from aegis_edge.wire import codec
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import FetchState, StatePart
from tests.net.network import running, send, until
from tests.replication.many import submit_many
from tests.test_node import Running, agree, caller, cluster, put

#: Batches that a node keeps for others, in bytes: hardly any.
KEPT_BYTES = 4096
INTERVAL = 4
TIMEOUT_S = 60.0
ROOT = Path(__file__).resolve().parent.parent


def small(homes: list[Config]) -> list[Config]:
    """The same homes, in a cluster whose checkpoints come often."""
    before = read_genesis(homes[0])
    records = [own_record(each, keyfile.read(each.key_file)) for each in homes]
    genesis = Genesis.of(
        records, Parameters(0, bytes(16), checkpoint_interval=INTERVAL, window=2 * INTERVAL)
    )
    assert genesis.members == before.members
    for each in homes:
        each.genesis_file.write_text(genesis.to_text())
    return homes


@pytest.fixture
def _keeping_little(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = partial(Database.open, certificate_bytes_max=KEPT_BYTES)
    monkeypatch.setattr(node.Database, "open", opening)


@pytest.mark.usefixtures("_keeping_little")
async def test_a_node_that_missed_more_than_is_kept_fetches_the_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="aegis_edge.replication")
    homes = small(cluster(tmp_path, 4))
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            alive = Running(nursery)
            nodes = [await alive.start(each) for each in homes]
            await submit_many(nodes[0], [put(f"key/{i}") for i in range(200)])
            await nodes[3].revision_after(199)
            await alive.stop(homes[3])
            for number in range(30):
                await submit_many(nodes[0], [put(f"key/{number}", b"%d" % i) for i in range(40)])
            back = await alive.start(homes[3])
            assert await back.revision_after(1399) >= 1400
            await agree(back, *nodes[:3])
            assert any("the state after batch" in line for line in caplog.messages)
            assert back.status()["transfer"] is None
            proven = verify(await back.prove("key/3"), read_genesis(homes[3]))
            assert proven.version is not None
            assert proven.version.value == b"39"
            assert (await back.submit(put("more"))).revision == 1401
            assert all(each.status()["alarms"] == [] for each in (back, *nodes[:3]))
            nursery.cancel_scope.cancel()


#: A node that keeps hardly any batches for others: what a real one would after years.
PROGRAM = f"""
import sys
from functools import partial
from aegis_edge import config, node
node.Database.open = partial(node.Database.open, certificate_bytes_max={KEPT_BYTES})
settings = config.load({{"home": sys.argv[1]}}, {{}})
sys.exit(node.main(settings, ready=lambda _: print("ready", flush=True)))
"""


@contextmanager
def process(settings: Config) -> Iterator[subprocess.Popen[str]]:
    """A node as a process of its own; what it logs is in `log` beside its files."""
    with (settings.directory / "log").open("a") as log:
        command = [sys.executable, "-c", PROGRAM, str(settings.directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as started:
            try:
                assert started.stdout is not None
                assert started.stdout.readline() == "ready\n"
                yield started
            finally:
                started.kill()


def test_four_processes_one_of_which_was_killed_and_away(tmp_path: Path) -> None:
    homes = small(cluster(tmp_path, 4))
    with ExitStack() as stack:
        for each in homes[:3]:
            stack.enter_context(process(each))
        with process(homes[3]):
            with Client(str(homes[3].api_socket), timeout_s=TIMEOUT_S) as kb:
                kb.put("before", b"1")
        with Client(str(homes[0].api_socket), timeout_s=TIMEOUT_S) as kb:
            for number in range(60):
                kb.put(f"key/{number % 7}", b"%d" % number)
        stack.enter_context(process(homes[3]))
        with Client(str(homes[3].api_socket), timeout_s=TIMEOUT_S) as kb:
            kb.put("after", b"1")
            for number in range(53, 60):
                found = kb.get(f"key/{number % 7}")
                assert found is not None
                assert found.value == b"%d" % number
            assert kb.status()["alarms"] == []
    log = (homes[3].directory / "log").read_text()
    assert "the state after batch" in log


# --- who asks for all of it again and again -----------------------------------------------------


async def test_a_member_that_asks_for_all_of_it_for_ever_is_given_so_much_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "WHOLE_BYTES_MIN", 1)
    homes = small(cluster(tmp_path, 4))
    hostile = homes[3]
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            nodes = [await Running(nursery).start(each) for each in homes[:3]]
            victim = nodes[0]
            while not victim.status()["stable"]:
                await submit_many(victim, [put(f"key/{i}", bytes(2048)) for i in range(100)])
            links = caller(hostile, 5)
            signer = Signer(keyfile.read(hostile.key_file).seed, read_genesis(hostile).cluster_id)
            taken: list[int] = []

            async def flood() -> None:
                async with running((links, [])):
                    while (await until(links, LinkOpened)).peer != victim.key:
                        pass
                    while True:
                        for first in range(0, PARTITIONS, 64):
                            items = tuple(n.to_bytes(2, "big") for n in range(first, first + 64))
                            asks = FetchState(0, victim.status()["stable"], PARTITION, items)
                            for _ in range(3):
                                send(links, victim.key, signer.sign(asks).raw)
                            arrived = await until(links, Arrived)
                            while arrived.peer != victim.key or not is_part(arrived.raw):
                                arrived = await until(links, Arrived)
                            taken.append(max(len(arrived.raw), serving.ANSWER_BYTES_MIN))

            nursery.start_soon(flood)
            core = cast(Replica, victim._core)
            while core.serving.wake_at() is None:  # it has had all that it may have at once
                await trio.testing.wait_all_tasks_blocked(0.01)
            before = len(taken)
            await submit_many(victim, [put(f"more/{i}") for i in range(100)])
            whole = await victim.read(lambda database: database.size_bytes())
            assert sum(taken[:before]) <= (serving.WHOLES_AT_ONCE + 1) * whole
            assert len(taken) - before <= TIMEOUT_S * 1000 * whole / serving.WHOLE_TICKS / 4096 + 1
            assert core.serving._waiting.keys() == {signer.public}
            assert all(each.status()["alarms"] == [] for each in nodes)
            nursery.cancel_scope.cancel()


def is_part(raw: bytes) -> bool:
    return codec.decode(raw)[0] == StatePart.TAG


# --- the script that measures it ------------------------------------------------------------


def test_what_a_return_costs_is_measured_and_judged(tmp_path: Path) -> None:
    """So little is in the partitions of so few keys that what links say anyway is more."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "scripts" / "away.py"), "--json", str(figures)]
    small = ["--keys", "200", "--changed", "2", "--operations", "300", "--liar"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, timeout=300)
    found = json.loads(figures.read_text())
    assert (done.returncode, "more than 3 times" in done.stdout) == (1, True), done.stdout
    assert found["partitions"] == 2
    assert found["fetched_bytes"] / found["differing_bytes"] == found["ratio"] > 3
    assert found["batches_missed"] > 0 < found["seconds"]

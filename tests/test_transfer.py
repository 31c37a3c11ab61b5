"""Whole nodes, one of which was away for so long that nobody keeps what it missed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from aegis_edge import node
from aegis_edge.client import Client
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.disk.database import Database
from aegis_edge.home import own_record, read_genesis
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.proof import verify
from tests.replication.many import submit_many
from tests.test_node import Running, agree, cluster, put

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
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            await submit_many(nodes[0], [put(f"key/{i}") for i in range(200)])
            await nodes[3].revision_after(199)
            await running.stop(homes[3])
            for number in range(30):
                await submit_many(nodes[0], [put(f"key/{number}", b"%d" % i) for i in range(40)])
            back = await running.start(homes[3])
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
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as running:
            try:
                assert running.stdout is not None
                assert running.stdout.readline() == "ready\n"
                yield running
            finally:
                running.kill()


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

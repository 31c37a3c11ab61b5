"""Four whole nodes as processes, under one of which the card flips a byte while it runs."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis_edge.client import Client, ClientError
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record
from tests.test_node import cluster
from tests.test_transfer import small

PATIENCE_S = 60.0

KEYS = 60
#: A node that looks at all that it keeps again and again, without a rest.
PROGRAM = """
import sys
from functools import partial
from aegis_edge import config, node
from aegis_edge.replication import scrub
scrub.PAUSE_S, scrub.SHARE = 0.01, 1.0
node.scrub = partial(node.scrub, first_s=%s, rest_s=0.1)
settings = config.load({"home": sys.argv[1]}, {})
sys.exit(node.main(settings, ready=lambda _: print("ready", flush=True)))
"""
#: And one that looks at nothing that nobody asks for.
NEVER = "1e9"


@contextmanager
def process(settings: Config, first_s: str = NEVER) -> Iterator[subprocess.Popen[str]]:
    with (settings.directory / "log").open("a") as log:
        command = [sys.executable, "-c", PROGRAM % first_s, str(settings.directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as running:
            try:
                assert running.stdout is not None
                assert running.stdout.readline() == "ready\n"
                yield running
            finally:
                running.kill()


def until(done: Callable[[], bool]) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not done():
        assert time.monotonic() < deadline, "it takes too long"
        pause.wait(0.02)


def value(number: int) -> bytes:
    return b"needle %04d " % number * 100


def asked(settings: Config) -> Client:
    return Client(str(settings.api_socket), timeout_s=30)


def status(settings: Config) -> dict[str, Any]:
    """What a node says of itself; nothing while it begins anew."""
    try:
        with asked(settings) as kb:
            return kb.status()
    except ClientError:
        return {}


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[list[Config]]:
    """Four nodes, the last of which has just been told to stop: all is in the file itself."""
    made = small(cluster(tmp_path, 4))
    with ExitStack() as stack:
        for each in made[:3]:
            stack.enter_context(process(each))
        with process(made[3]) as last:
            with asked(made[3]) as kb:
                for number in range(KEYS):
                    kb.put(f"key/{number}", value(number))
            last.send_signal(signal.SIGTERM)
            assert last.wait(30) == 0
        yield made


def flip(settings: Config, *offsets: int) -> None:
    with settings.database_file.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 0x20]))


def in_value(settings: Config, number: int) -> list[int]:
    """The offset of a byte of a value where it lies in its table: with its author before it.

    Where SQLite moved it, what it left behind is still there, and serves nobody.
    """
    author = own_record(settings, keyfile.read(settings.key_file)).signer
    row = re.escape(b"key/%d" % number + author) + b".{1,12}?(needle)"
    found = re.finditer(row, settings.database_file.read_bytes(), re.DOTALL)
    offsets = [each.start(1) for each in found]
    assert offsets, "it is in the file itself"
    return offsets


def root_page(settings: Config, table: str) -> int:
    """The offset of the page on which the tree of a table begins, which is no leaf."""
    copy = settings.directory / "copy"
    shutil.copy(settings.database_file, copy)
    with closing(sqlite3.connect(copy)) as other:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = other.execute(query, (table,)).fetchone()
        (size_bytes,) = other.execute("PRAGMA page_size").fetchone()
    offset = (page - 1) * size_bytes
    assert copy.read_bytes()[offset] == 5, "an inner page of a table"
    return int(offset)


def reading(settings: Config, number: int) -> Callable[[], bool]:
    """Whether a value is given; a wrong one never is."""

    def read() -> bool:
        try:
            with asked(settings) as kb:
                found = kb.get(f"key/{number}")
        except ClientError:
            return False
        # An empty database, of a node that begins anew, has no value, and no wrong one.
        assert found is None or found.value == value(number)
        return found is not None

    return read


def is_agreed(homes: list[Config]) -> bool:
    """Whether all have the same state; a write brings the checkpoint that a new one waits for."""
    with asked(homes[0]) as kb:
        kb.put("more", b"")
    said = [status(each) for each in homes]
    return len({each.get("state_root") for each in said}) == 1 and said[0]["state_root"] != ""


def test_a_value_that_rots_is_not_served_but_found_by_who_reads_it_and_mended(
    homes: list[Config],
) -> None:
    """While the node is off: what a running one has in memory is right, and it serves that."""
    rotten = homes[3]
    flip(rotten, *in_value(rotten, 7))
    with process(rotten):
        with (
            asked(rotten) as kb,
            pytest.raises(ClientError, match="damaged on this disk") as caught,
        ):
            kb.get("key/7")
        assert caught.value.code == "damaged"
        until(reading(rotten, 7))
        until(lambda: status(rotten)["rotten"] == 0)
        said = status(rotten)
        assert said["mended"] == 1
        assert "its disk spoils" in json.dumps(said["alarms"])
        until(lambda: is_agreed(homes))
    log = (rotten.directory / "log").read_text()
    assert "are to be fetched from others" in log
    assert "rows that the disk had spoilt are mended: 1" in log


def test_a_value_that_rots_is_found_by_the_scrub_and_mended(homes: list[Config]) -> None:
    rotten = homes[3]
    with process(rotten, "0.1"):
        until(lambda: status(rotten).get("scrubs", 0) > 1)
        assert status(rotten)["mended"] == 0
        flip(rotten, *in_value(rotten, KEYS - 1))
        until(lambda: status(rotten)["mended"] == 1)
        assert reading(rotten, KEYS - 1)()
        scrubs = status(rotten)["scrubs"]
        until(lambda: status(rotten)["scrubs"] > scrubs + 1)
        until(lambda: status(rotten)["rotten"] == 0)
        assert status(rotten)["mended"] == 1
        until(lambda: is_agreed(homes))


def test_a_tree_of_pages_that_rots_is_a_database_that_is_lost(homes: list[Config]) -> None:
    rotten = homes[3]
    with process(rotten, "0.1"):
        until(lambda: status(rotten).get("scrubs", 0) > 1)
        flip(rotten, root_page(rotten, "versions"))
        until(lambda: "is damaged" in json.dumps(status(rotten).get("alarms", "")))
        for number in range(KEYS):
            reading(rotten, number)()
        until(lambda: is_agreed(homes))
        until(reading(rotten, 7))
        until(lambda: is_agreed(homes) and status(rotten)["learning"] is None)
    aside = rotten.database_file.with_name(rotten.database_file.name + ".damaged-1")
    assert aside.exists()
    assert "the database is damaged" in (rotten.directory / "log").read_text()

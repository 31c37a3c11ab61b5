"""Members change, and whoever was away, came later or has nothing but the genesis can follow it.

Whole nodes in processes of their own, of which each keeps hardly any batches.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from aegis_edge.client import Client
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record, read_genesis
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.peers.identity import node_id, record_to_text
from aegis_edge.proof import verify
from tests.test_growth import boards, eventually
from tests.test_transfer import INTERVAL, process

TIMEOUT_S = 60.0


def small_boards(path: Path, size: int) -> list[Config]:
    """A cluster of one whose checkpoints come often, and boards that have its genesis."""
    homes = boards(path, size)
    founder = own_record(homes[0], keyfile.read(homes[0].key_file))
    parameters = Parameters(0, bytes(16), checkpoint_interval=INTERVAL, window=2 * INTERVAL)
    text = Genesis.of([founder], parameters).to_text()
    for each in homes:
        each.genesis_file.write_text(text)
    return homes


def client(settings: Config) -> Client:
    return Client(str(settings.api_socket), timeout_s=TIMEOUT_S)


def types(settings: Config, *words: str) -> str:
    command = [sys.executable, "-m", "aegis_edge", "--home", str(settings.directory), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def decide(change: dict[str, object], *voters: Config) -> None:
    """The others say yes to what one of them proposed."""
    for each in voters:
        if change["open"]:
            with client(each) as kb:
                change = kb.vote(int(str(change["number"])), True)


def admit(newcomer: Config, *members: Config) -> None:
    record = own_record(newcomer, keyfile.read(newcomer.key_file))
    with client(members[0]) as kb:
        decide(kb.propose_addition(record_to_text(record)), *members[1:])


def in_configuration(number: int, *boards: Config) -> None:
    for each in boards:
        with client(each) as kb:
            eventually(lambda kb=kb: kb.status()["configuration"] == number)


def write(settings: Config, count: int) -> None:
    with client(settings) as kb:
        for number in range(count):
            kb.put(f"key/{number % 7}", b"%d" % number)


def changes_proven(settings: Config, key: str) -> int:
    """How often the members had changed, as a proof of `key` says to who has the genesis alone."""
    with client(settings) as kb:
        data = kb.prove(key, linearizable=True)
        known = {member["id"] for member in kb.members()["members"]}
    proven = verify(data, read_genesis(settings))
    assert proven.version is not None
    assert {node_id(key) for key in proven.members} == known
    return proven.changes


def test_a_cluster_that_grows_shrinks_and_loses_its_founder_proves_what_it_holds(
    tmp_path: Path,
) -> None:
    homes = small_boards(tmp_path, 3)
    founder, second, third = homes
    with ExitStack() as stack:
        for each in homes:
            stack.enter_context(process(each))
        with client(founder) as kb:
            kb.put("door", b"shut")
        assert changes_proven(founder, "door") == 0
        admit(second, founder)
        in_configuration(1, *homes[:2])
        assert changes_proven(second, "door") == 1
        admit(third, founder, second)
        in_configuration(2, *homes)
        with client(third) as kb:
            kb.put("door", b"open")
        assert [changes_proven(each, "door") for each in homes] == [2, 2, 2]
        with client(founder) as kb:
            kb.leave()
        in_configuration(3, *homes)
        with client(second) as kb:
            kb.put("door", b"ajar")
        types(third, "kb", "get", "door", "--linearizable", "--proof", str(tmp_path / "proof"))
    genesis = str(founder.genesis_file)
    said = types(third, "verify", str(tmp_path / "proof"), "--genesis", genesis)
    assert "ajar" in said
    assert "2 of 2 members" in said
    assert "changed 3 times since the genesis, each time signed by those before" in said


def test_who_was_away_over_two_changes_comes_back_by_the_state(tmp_path: Path) -> None:
    homes = small_boards(tmp_path, 5)
    founder, second, away, guest, late = homes
    with ExitStack() as stack:
        for each in (founder, second, guest):
            stack.enter_context(process(each))
        with process(away):
            admit(second, founder)
            in_configuration(1, founder, second)
            admit(away, founder, second)
            in_configuration(2, founder, second, away)
            with client(away) as kb:
                kb.put("before", b"1")
        write(founder, 60)
        admit(guest, founder, second)
        in_configuration(3, founder, second, guest)
        with client(guest) as kb:
            kb.leave()
        in_configuration(4, founder, second)
        write(founder, 60)
        stack.enter_context(process(away))
        in_configuration(4, away)
        with client(away) as kb:
            kb.put("after", b"2")
            assert kb.get("key/3", linearizable=True).value == b"59"
            assert kb.status()["alarms"] == []
        assert changes_proven(away, "after") == 4
        # So does one that comes anew: it knows the genesis, and nobody has the batches since.
        stack.enter_context(process(late))
        admit(late, founder, second, away)
        in_configuration(5, founder, second, away, late)
        with client(late) as kb:
            kb.put("late", b"3")
            assert kb.status()["alarms"] == []
        assert changes_proven(late, "after") == 5
    for each in (away, late):
        assert "the state after batch" in (each.directory / "log").read_text()

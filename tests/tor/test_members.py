"""Members who come and go through Tor, with the cluster at work: whole nodes and their tors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from aegis_edge import home
from aegis_edge.client import connect
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.knowledge.operations import Approve, Dismiss, Propose, Status
from aegis_edge.net.tor.socks import Failure
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.replication import Replication
from tests.test_growth import admission, key_of
from tests.test_node import Running, agree, put
from tests.tor.homes import PATIENCE_S, board, linked, until
from tornet import TorNetwork


def boards(path: Path, network: TorNetwork, level: str, founders: int) -> list[Config]:
    """Homes of three boards, of which the first few have found a cluster."""
    torrc = {**network.torrc, **network.torrc_bridged}
    found = [board(path / name, torrc, level) for name in "abc"]
    records = [home.own_record(each, keyfile.read(each.key_file)) for each in found]
    genesis = Genesis.of(records[:founders], Parameters(0, bytes(16)))
    for each in found[:founders]:
        each.genesis_file.write_text(genesis.to_text())
    return found


async def decide(operation: bytes, first: Replication, second: Replication) -> None:
    asked = await first.submit(operation, timeout_s=PATIENCE_S, of_members=True)
    assert asked.status is Status.DONE
    vote = Approve(asked.revision, True).encode()
    said = await second.submit(vote, timeout_s=PATIENCE_S, of_members=True)
    assert said.status is Status.DONE


async def settled(number: int, *nodes: Replication) -> None:
    await until(lambda: all(n.members.configuration.number == number for n in nodes))


class Load:
    """A caller that writes to a node all the time; every write has to succeed."""

    def __init__(self, node: Replication, name: str) -> None:
        self._node, self._name = node, name
        self._scope = trio.CancelScope()
        self.acknowledged = 0

    async def run(self) -> None:
        with self._scope:
            while True:
                key = put(f"{self._name}/{self.acknowledged}")
                outcome = await self._node.submit(key, timeout_s=PATIENCE_S)
                assert outcome.status is Status.DONE
                self.acknowledged += 1

    async def further(self, count: int) -> None:
        enough = self.acknowledged + count
        await until(lambda: self.acknowledged >= enough)

    def stop(self) -> None:
        self._scope.cancel()


def links_made(node: Replication, to: Replication) -> int:
    (count,) = (s.traffic.links for s in node._wires.statistics() if s.peer == to.key)
    return count


def is_refused(node: Replication, failure: Failure) -> bool:
    """Whether both others' services, at their directories, have nothing for it."""
    errors = [each.last_error for each in node._wires.statistics()]
    return len(errors) == 2 and all(f"SOCKS answer {failure.value}" in e for e in errors)


async def test_two_boards_become_three_and_one_that_is_removed_finds_nobody(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    homes = boards(tmp_path, tor_network, "HIGH", 2)
    homes[2].genesis_file.write_text(homes[0].genesis_file.read_text())
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            a, b = [await running.start(each) for each in homes[:2]]
            await until(lambda: linked(a, 1) and linked(b, 1))
            loads = [Load(a, "a"), Load(b, "b")]
            for load in loads:
                nursery.start_soon(load.run)
            c = await running.start(homes[2])
            # Its tor knows both by their addresses in the genesis, and may not have them found.
            await until(lambda: is_refused(c, Failure.CREDENTIAL_WRONG))
            assert not c.is_member
            made = links_made(a, b)
            await decide(admission(homes[2]), a, b)
            await settled(1, a, b, c)
            await until(lambda: all(linked(each, 2) for each in (a, b, c)))
            assert links_made(a, b) == made, "what is open stays, while services are added anew"
            loads.append(Load(c, "c"))
            nursery.start_soon(loads[2].run)
            for load in loads:
                await load.further(2)
            # Who comes back has all of today's members from its database.
            loads[1].stop()
            await running.stop(homes[1])
            b = await running.start(homes[1])
            await until(lambda: all(linked(each, 2) for each in (a, b, c)))
            await loads[2].further(1)
            loads[2].stop()
            await decide(Propose(Dismiss(key_of(homes[2]))).encode(), a, b)
            await settled(2, a, b)
            await running.stop(homes[2])
            c = await running.start(homes[2])
            await until(lambda: is_refused(c, Failure.CREDENTIAL_WRONG))
            assert links_made(c, a) == links_made(c, b) == 0
            assert linked(a, 1) and linked(b, 1)
            await loads[0].further(2)
            loads[0].stop()
            assert (await b.submit(put("last"), timeout_s=PATIENCE_S)).status is Status.DONE
            await agree(a, b)
            nursery.cancel_scope.cancel()


class Joining:
    """``aegis-edge join``, as the owner of a new board types it."""

    def __init__(self, settings: Config, code: str) -> None:
        self._log = settings.directory / "join.log"
        words = ["--home", str(settings.directory), "join", *code.split("-")]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aegis_edge", *words], stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    async def ended(self, words: str = "This board is a member now") -> None:
        await until(lambda: self.process.poll() is not None)
        assert self.process.returncode == 0, self.said
        assert words in self.said


@contextmanager
def joining(settings: Config, code: str) -> Iterator[Joining]:
    board = Joining(settings, code)
    try:
        yield board
    finally:
        board.process.terminate()
        board.process.wait()


async def invited(by: Config, *, is_observer: bool = False) -> str:
    async with connect(by.api_socket) as client:
        return str((await client.invite(3600, is_observer=is_observer))["code"])


@pytest.mark.parametrize("level", ["STANDARD", "HIGH"])
async def test_boards_come_by_invitation(
    level: str, tor_network: TorNetwork, tmp_path: Path
) -> None:
    homes = boards(tmp_path, tor_network, level, 1)
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            a = await running.start(homes[0])
            # A board alone lets it in by that.
            with joining(homes[1], await invited(homes[0])) as joins:
                await joins.ended()
            assert a.members.configuration.number == 1
            b = await running.start(homes[1])
            await until(lambda: linked(a, 1) and linked(b, 1))
            await settled(1, a, b)
            # The next one waits for the vote of the other, whose services are announced anew.
            with joining(homes[2], await invited(homes[0])) as joins:
                await until(lambda: "proposal 2 waits for others" in joins.said)
                vote = Approve(2, True).encode()
                said = await b.submit(vote, timeout_s=PATIENCE_S, of_members=True)
                assert said.status is Status.DONE
                await joins.ended()
            c = await running.start(homes[2])
            await until(lambda: all(linked(each, 2) for each in (a, b, c)))
            await settled(2, a, b, c)
            assert (await c.submit(put("here"), timeout_s=PATIENCE_S)).status is Status.DONE
            nursery.cancel_scope.cancel()


async def test_an_observer_finds_its_host_and_follows_that_one(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    homes = boards(tmp_path, tor_network, "HIGH", 2)
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            a, b = [await running.start(each) for each in homes[:2]]
            await until(lambda: linked(a, 1) and linked(b, 1))
            with joining(homes[2], await invited(homes[0], is_observer=True)) as joins:
                await joins.ended("This board is an observer")
            c = await running.start(homes[2])
            # Its host's service is announced anew, for one more who may find it.
            await until(lambda: c.key in {peer for peer, _ in at(a, "linked")})
            assert (await b.submit(put("read"), timeout_s=PATIENCE_S)).status is Status.DONE
            await until(lambda: c.revision == b.revision)
            assert await c.read(lambda database: database.get("read")) is not None
            status = c.status()
            assert (status["is_member"], status["is_observer"]) == (False, True)
            assert status["follows"]["source"] == a.members.own_name
            assert (b.key, "") in at(c, "expected"), "it was not even tried"
            assert a.nodes == 2
            nursery.cancel_scope.cancel()


def at(node: Replication, state: str) -> set[tuple[bytes, str]]:
    """Who is in this state there, and what happened last."""
    return {(s.peer, s.last_error) for s in node._wires.statistics() if s.state == state}

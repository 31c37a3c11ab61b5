"""A newcomer follows before it is admitted: real cores and databases, and a line between the two.

Who may link is for `net` to say; here whoever has a line does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from aegis_edge import membership, node, way
from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record, read_genesis
from aegis_edge.knowledge.operations import Admit, Propose, Status
from aegis_edge.net.alarms import Alarms
from aegis_edge.net.links import Arrived, Event, LinkOpened
from aegis_edge.net.poller import Poller
from aegis_edge.pbft.configuration import Parameters
from aegis_edge.replication import NoMember, Replication
from cluster import free_ports
from tests.test_node import cluster, home, put

TIMEOUT_S = 30.0


class Line:
    """One end of it; what is posted here arrives at the `other`."""

    def __init__(self, own: bytes) -> None:
        self.own = own
        self.other: Line
        self.poller: Poller[Any] = Poller()
        self.alarms = Alarms()
        self.events: list[Event] = []
        self.wanted: frozenset[bytes] | None = None

    def happens(self, event: Event) -> None:
        self.events.append(event)
        self.poller.wake()

    def receive(self, but: Container[bytes] = ()) -> Sequence[Event]:
        self.poller.ready()
        events, self.events = self.events, []
        return events

    def post(self, peer: bytes, raw: bytes) -> None:
        assert peer == self.other.own
        self.other.happens(Arrived(self.own, raw))

    def flush(self) -> None:
        pass

    def meet(self, records: Any, quorum: int) -> None:
        pass

    def records(self) -> Sequence[Any]:
        return ()

    def friends(self) -> tuple[Any, ...]:
        return ()

    def want(self, peers: frozenset[bytes] | None) -> None:
        self.wanted = peers

    def introduce(self, peer: bytes, others: Sequence[bytes]) -> None:
        raise AssertionError("there is nobody to be introduced")


@asynccontextmanager
async def running(settings: Config, line: Line) -> AsyncIterator[Replication]:
    genesis, keys = read_genesis(settings), keyfile.read(settings.key_file)
    async with node._database(settings, genesis, keys.public) as (thread, database):
        made = await node._replication(
            settings,
            genesis,
            membership.founders(genesis),
            keys,
            cast(Any, line),
            await way.find(settings, genesis, keys, own_record(settings, keys)),
            line.poller,
            thread,
            database,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield made
            nursery.cancel_scope.cancel()
    line.poller.close()


async def test_a_newcomer_follows_reads_and_takes_part_from_the_batch_that_admits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_parameters", lambda *_: Parameters(status_ticks=200))
    (first,) = cluster(tmp_path, 1)
    (port,) = free_ports(1)
    second = home(tmp_path / "b1", port)
    second.genesis_file.write_text(first.genesis_file.read_text())
    ends = [Line(keyfile.read(each.key_file).public) for each in (first, second)]
    ends[0].other, ends[1].other = ends[1], ends[0]
    with trio.fail_after(TIMEOUT_S):
        async with AsyncExitStack() as stack:
            founder = await stack.enter_async_context(running(first, ends[0]))
            newcomer = await stack.enter_async_context(running(second, ends[1]))
            await founder.submit(put("before"))
            for end in ends:
                end.happens(LinkOpened(end.other.own, cast(Any, None), 1))
            await newcomer.revision_after(0)
            assert (await founder.submit(put("after"))).status is Status.DONE
            await newcomer.revision_after(1)
            assert await newcomer.read(lambda database: database.get("after")) is not None
            status = newcomer.status()
            name = founder.members.own_name
            assert status["follows"] == {"source": name, "hops": 1, "behind": 0}
            assert ends[1].wanted == {founder.key}
            assert founder.behind(newcomer.key) in (0, 1)
            assert newcomer.behind(founder.key) is None
            with pytest.raises(NoMember):
                await newcomer.submit(put("no"))
            record = own_record(second, keyfile.read(second.key_file)).raw
            admitted = await founder.submit(Propose(Admit(record)).encode(), of_members=True)
            assert admitted.status is Status.DONE
            assert (await founder.submit(put("of two"))).revision == 3
            await newcomer.revision_after(2)
            assert newcomer.status()["follows"] is None
            assert ends[1].wanted is None
            assert founder.agreed_ms == newcomer.agreed_ms > 0
            assert (await newcomer.submit(put("its own"))).revision == 4
            assert newcomer.status()["alarms"] == []

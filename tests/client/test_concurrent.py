"""The client for Trio, against the API over a real socket, and against a whole node of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

import aegis_edge.client
from aegis_edge import config, node
from aegis_edge.api import open_listener, serve
from aegis_edge.client import Conflict, Disconnected, NotFound, NotRunning, TimedOut
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.peers.identity import node_id
from tests.api.node import FOUNDERS, Replication, node_of
from tests.proofs import cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


async def test_calls_are_those_of_the_plain_client(path: Path, nursery: trio.Nursery) -> None:
    with open_listener(path) as listener:
        await nursery.start(serve, node_of(Replication()), listener)
        async with aegis_edge.client.connect(str(path)) as kb:
            written = await kb.put("a/1", {"x": 1})
            assert (await kb.get("a/1")).revision == written.revision
            assert (await kb.get("a/1", linearizable=True)).value == {"x": 1}
            assert await kb.prove("a/1", linearizable=True) == cluster().proof("a/1")
            assert [entry.key async for entry in kb.ls("a/")] == ["a/1"]
            await kb.delete("a/1")
            assert len(await kb.history("a/1")) == 2
            with pytest.raises(NotFound):
                await kb.get("a/1")
            name = (await kb.invite(60))["invitation"]
            assert (await kb.cancel_invitation(name)) == {"invitation": name}
            assert [e["state"] for e in (await kb.invitations())["invitations"]] == ["cancelled"]
            assert (await kb.status())["nodes"] == 1
            assert await kb.peers() == {"peers": []}
            assert await kb.dial("tcp:there:1") == {"peer": bytes(32).hex()}
            member = node_id(FOUNDERS.members[1])
            said = await kb.ban(member, 60)
            assert said == {"id": member, "for_s": 60, "warning": ""}
            assert await kb.unban(member) == {"id": member}
            assert await kb.config() == {"settings": [], "agreed": [], "overruled": []}
            assert await kb.version() == {"version": "0.1.0"}
            assert "aegis_edge_nodes" in await kb.metrics()
        nursery.cancel_scope.cancel()


async def test_many_tasks_share_one_client(path: Path, nursery: trio.Nursery) -> None:
    with open_listener(path) as listener:
        await nursery.start(serve, node_of(Replication()), listener)
        async with aegis_edge.client.connect(str(path)) as kb:
            async with trio.open_nursery() as callers:
                for number in range(32):
                    callers.start_soon(kb.put, f"k{number:02}", number)
            assert [entry.key async for entry in kb.ls()] == [f"k{n:02}" for n in range(32)]
            rest = [entry.key async for entry in kb.ls("k", after="k29x", page=1)]
            assert rest == ["k30", "k31"]
        nursery.cancel_scope.cancel()


async def test_the_pipeline_for_one_and_for_many(path: Path, nursery: trio.Nursery) -> None:
    with open_listener(path) as listener:
        await nursery.start(serve, node_of(Replication()), listener)
        async with aegis_edge.client.connect(str(path)) as kb:
            async with kb.pipeline() as pipeline:
                for number in range(3000):
                    await pipeline.put(f"k/{number}", b"x")
                assert len(await pipeline.flush()) == 3000
                async with trio.open_nursery() as callers:
                    for number in range(64):
                        callers.start_soon(pipeline.put_and_wait, f"t/{number}", number)
                with pytest.raises(Conflict):
                    await pipeline.put_and_wait("k/1", 1, expected=0)
                await pipeline.delete("k/1")
            assert len([entry async for entry in kb.ls("t/")]) == 64
            with pytest.raises(NotFound):
                await kb.get("k/1")
        nursery.cancel_scope.cancel()


async def test_a_watch_follows(path: Path, nursery: trio.Nursery) -> None:
    replication = Replication()
    with open_listener(path) as listener:
        await nursery.start(serve, node_of(replication), listener)
        async with aegis_edge.client.connect(str(path)) as kb:
            await kb.put("a", 1)
            seen = []
            watch = kb.watch(after=0)
            async for change in watch:
                seen.append(change.value)
                if len(seen) == 2:
                    break
                await kb.put("a", 2)
            await watch.aclose()  # type: ignore[attr-defined]
            assert seen == [1, 2]
        nursery.cancel_scope.cancel()


async def test_a_pipeline_that_was_cut_off_says_so(
    path: Path,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stuck(_: object, data: bytes) -> None:
        await trio.sleep_forever()

    with open_listener(path) as listener:
        await nursery.start(serve, node_of(Replication()), listener)
        async with aegis_edge.client.connect(str(path)) as kb:

            async def use() -> None:
                async with kb.pipeline() as pipeline:
                    await pipeline.put("a", 1)
                    with monkeypatch.context() as patch, trio.move_on_after(1):
                        patch.setattr("aegis_edge.client.concurrent._Wire.send", stuck)
                        await pipeline.flush()
                    await pipeline.flush()

            with pytest.raises(Disconnected):
                await use()
        nursery.cancel_scope.cancel()


async def test_a_node_without_an_answer_is_not_waited_for(
    path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    replication = Replication()
    replication.held = True
    with open_listener(path) as listener:
        await nursery.start(serve, node_of(replication), listener)
        async with aegis_edge.client.connect(str(path), timeout_s=3) as kb:
            with pytest.raises(TimedOut):
                async with kb.pipeline() as pipeline:
                    await pipeline.put("a", 1)
        nursery.cancel_scope.cancel()


async def test_the_node_says_how_long_to_wait_for_its_cluster(
    path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    replication = Replication()
    monkeypatch.setattr(Replication, "timeout_ticks", 79_260)
    with open_listener(path) as listener:
        await nursery.start(serve, node_of(replication), listener)
        for given_s, waits_s in ((None, 159), (7.0, 7)):
            async with aegis_edge.client.connect(str(path), timeout_s=given_s) as kb:
                await kb.put("a", 1)
                await kb.get("a", linearizable=True)
                await kb.delete("a")
                async with kb.pipeline() as pipeline:
                    assert pipeline._timeout_s == waits_s
            assert replication.timeouts_s == [waits_s] * 3
            replication.timeouts_s.clear()
        nursery.cancel_scope.cancel()


async def test_nobody_there(path: Path) -> None:
    async with aegis_edge.client.connect(str(path)) as kb:
        with pytest.raises(NotRunning):
            await kb.status()


async def test_a_whole_node_of_one(tmp_path: Path, path: Path) -> None:
    flags = {"home": tmp_path, "api_socket": path, "name": "solo", "p2p_port": free_port()}
    settings = config.load(flags, {})
    record = own_record(settings, keyfile.create(settings.key_file))
    genesis = Genesis.of([record], Parameters(0, bytes(16)))
    settings.genesis_file.write_text(genesis.to_text())
    ready, stop = trio.Event(), trio.Event()

    async def use() -> None:
        await ready.wait()
        async with aegis_edge.client.connect(str(path)) as kb:
            async with kb.pipeline() as pipeline:
                for number in range(500):
                    await pipeline.put(f"k/{number:03}", {"number": number})
            assert (await kb.get("k/007", linearizable=True)).value == {"number": 7}
            with pytest.raises(Conflict):
                await kb.put("k/007", 1, expected=0)
            assert len([entry async for entry in kb.ls("k/")]) == 500
            watch = kb.watch(after=499)
            async for change in watch:
                assert change.version.key == "k/499"
                break
            await watch.aclose()  # type: ignore[attr-defined]
            await kb.delete("k/007")
            assert [v.deleted for v in await kb.history("k/007")] == [True, False]
            assert (await kb.get("k/007", revision=499)).value == {"number": 7}
            status = await kb.status()
            assert status["revision"] == 501
            assert "aegis_edge_revision 501" in await kb.metrics()
            assert {row["key"] for row in (await kb.config())["settings"]} >= {"name", "listen"}
        stop.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as tasks:
            tasks.start_soon(use)
            await node.run(settings, ready=lambda _: ready.set(), stop=stop)


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

"""A guest's call: one question and one answer, between a node and somebody who is no member."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.channel import Channel, Goodbye, LinkError
from aegis_edge.net.guest import Caller, Unknown, ask
from aegis_edge.net.links import Links
from aegis_edge.wire.messages import NodeRecord, Verified
from aegis_edge.wire.session import Session, Transmit
from tests.net.network import CLUSTER, Member, MemoryNetwork, cluster, next_event, running

HOST, MEMBER, GUEST = cluster(1, 2, 3)
PLACE = f"tcp:board{HOST.seed}:1"


def caller(member: Member = GUEST, cluster_id: bytes = CLUSTER) -> Caller:
    return Caller(member.record.raw, member.noise_private, cluster_id)


def hosting(network: MemoryNetwork, answer: Callable[[], Awaitable[bytes]] | None) -> Links:
    """Links that take every caller who says something for a guest; `heard` is who that was."""
    links = HOST.links([MEMBER.record], {"tcp": network})

    def guest(
        record: Verified[NodeRecord], transcript: bytes, messages: Sequence[bytes]
    ) -> Callable[[], Awaitable[bytes]] | None:
        assert list(messages) == [b"of " + transcript]
        heard.append(record.signer)
        return answer

    links.guest = guest
    heard.clear()
    return links


heard: list[bytes] = []


def question(transcript: bytes) -> bytes:
    return b"of " + transcript


async def asked(network: MemoryNetwork, who: Member = GUEST) -> bytes:
    return await ask(caller(who), network, PLACE, HOST.key, question)


@pytest.mark.parametrize("size", [1, 300, 200_000])
async def test_a_guest_gets_its_answer_and_goes(size: int, autojump_clock: MockClock) -> None:
    async def answer() -> bytes:
        await trio.sleep(20)
        return bytes(size)

    network = MemoryNetwork()
    links = hosting(network, answer)
    async with running((links, [PLACE])):
        assert await asked(network) == bytes(size)
        assert heard == [GUEST.key]
        await trio.sleep(1)
        assert network.channels == []
        assert links.statistics()[0].state != "linked"
        assert links.records() == (MEMBER.record,)


async def test_a_member_that_asks_is_answered_and_is_no_link(autojump_clock: MockClock) -> None:
    async def answer() -> bytes:
        return b"you are one already"

    network = MemoryNetwork()
    async with running((hosting(network, answer), [PLACE])):
        assert await asked(network, MEMBER) == b"you are one already"
        assert heard == [MEMBER.key]


async def test_a_stranger_is_told_what_every_stranger_is_told(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    links = hosting(network, None)
    async with running((links, [PLACE])):
        with pytest.raises(Unknown):
            await asked(network)
        assert heard == [GUEST.key]
        assert links.refused == 1


async def test_links_without_a_desk_know_no_guests(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    links = HOST.links([MEMBER.record], {"tcp": network})
    async with running((links, [PLACE])):
        with pytest.raises(Unknown):
            await asked(network)


async def test_what_a_member_says_early_still_arrives(autojump_clock: MockClock) -> None:
    """Such a message is no question, so the caller is looked at as any other."""
    network = MemoryNetwork()
    links = HOST.links([MEMBER.record], {"tcp": network})
    async with running((links, [PLACE])):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quietly, lambda: asked(network, MEMBER))
            opened, arrived = await next_event(links), await next_event(links)
            nursery.cancel_scope.cancel()
    assert opened.peer == arrived.peer == MEMBER.key
    assert arrived.raw.startswith(b"of ")


async def quietly(call: Callable[[], Awaitable[bytes]]) -> None:
    with pytest.raises(LinkError):
        await call()


async def test_a_host_that_fails_costs_one_call_and_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer() -> bytes:
        raise ValueError("a bug")

    caplog.set_level(logging.INFO)
    network = MemoryNetwork()
    async with running((hosting(network, answer), [PLACE])):
        for _ in range(2):
            with pytest.raises(LinkError) as failed:
                await asked(network)
            assert not isinstance(failed.value, Unknown)
        assert "went without an answer" in caplog.text


async def test_another_node_than_the_host_never_sees_who_called(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    other = MEMBER.links([HOST.says((), 1)], {"tcp": network})
    other.guest = lambda *_: pytest.fail("the question has come")
    async with running((other, [PLACE])):
        with pytest.raises(LinkError, match="another node answers there"):
            await asked(network)
        await trio.sleep(1)
        assert other.refused == 1


async def test_a_host_of_another_cluster_gives_no_answer(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with running((HOST.links([], {"tcp": network}), [PLACE])):
        with pytest.raises(LinkError, match="same genesis"):
            await ask(caller(cluster_id=b"d" * 32), network, PLACE, HOST.key, question)


@pytest.mark.parametrize("is_proven", [False, True])
async def test_a_host_that_says_nothing_is_left(is_proven: bool, autojump_clock: MockClock) -> None:
    async def never() -> bytes:
        await trio.sleep_forever()

    async def silent(channel: Channel) -> Goodbye:
        await trio.sleep_forever()

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        if is_proven:
            await nursery.start(network_of(hosting(network, never)))
        else:
            await nursery.start(network.serve, silent, PLACE)
        with pytest.raises(LinkError, match="in time"):
            await asked(network)
        nursery.cancel_scope.cancel()


def network_of(links: Links) -> Callable[..., Awaitable[None]]:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        async with running((links, [PLACE])):
            task_status.started()
            await trio.sleep_forever()

    return run


async def test_a_host_that_is_not_there_is_an_error_with_a_reason() -> None:
    with pytest.raises(LinkError, match="nobody listens there"):
        await asked(MemoryNetwork())


@pytest.mark.parametrize("noise", [b"", b"\xff" * 256, bytes(512)])
@pytest.mark.parametrize("is_late", [False, True])
async def test_noise_from_the_host_is_a_clear_error(
    noise: bytes, is_late: bool, autojump_clock: MockClock
) -> None:
    """As its answer to the hello, or once it has proven who it is."""

    async def babble(channel: Channel) -> Goodbye:
        session = Session.respond(HOST.record.raw, HOST.noise_private, CLUSTER, bytes(64))
        if is_late:
            session, effects = session.received(await channel.receive())
            await channel.send([e.data for e in effects if type(e) is Transmit])
        await channel.receive()
        await channel.send([noise])
        with suppress(LinkError):
            await channel.receive()
        return Goodbye.NORMAL

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(network.serve, babble, PLACE)
        with pytest.raises(LinkError, match="as no node of that cluster would"):
            await asked(network)
        nursery.cancel_scope.cancel()

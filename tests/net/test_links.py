from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net import links as links_module
from aegis_edge.net.arrivals import HOLD_S, Arrivals
from aegis_edge.net.channel import Channel, Goodbye, LinkError
from aegis_edge.net.direct import SILENCE_S, Direct
from aegis_edge.net.links import Arrived, LinkClosed, LinkOpened, Links, Measured, Timing
from aegis_edge.peers.bans import BAN_TICKS
from aegis_edge.peers.book import BACKOFF_TICKS_MAX, STEADY_TICKS
from aegis_edge.peers.identity import short
from aegis_edge.wire import records, session
from aegis_edge.wire.messages import MESSAGE_BYTES_MAX
from aegis_edge.wire.session import Session
from tests.net.network import (
    CLUSTER,
    Member,
    MemoryNetwork,
    Taker,
    cluster,
    next_event,
    place,
    running,
    send,
    until,
)


def linked_pair(
    network: MemoryNetwork, one: Member, two: Member, **options: Any
) -> tuple[tuple[Links, list[str]], tuple[Links, list[str]]]:
    """Both listen, and only `one` dials."""
    one.record = one.says((), 1)
    first = one.links([two.record], {"tcp": network}, **options)
    second = two.links([one.record], {"tcp": network}, **options)
    return (first, []), (second, [f"tcp:board{two.seed}:1"])


def drain(links: Links) -> list[Any]:
    events = []
    while True:
        try:
            events.append(Taker.of(links).events.receive_nowait())
        except trio.WouldBlock:
            return events


# --- talking ----------------------------------------------------------------------------------


async def test_two_members_find_each_other_and_talk(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    first, second = linked_pair(network, one, two)
    async with running(first, second):
        assert (await until(first[0], LinkOpened))[:2] == (two.key, two.record)
        assert (await until(second[0], LinkOpened))[:2] == (one.key, one.record)
        for i in range(20):
            first[0].post(two.key, b"to %d" % i)
            second[0].post(one.key, b"fro %d" % i)
        first[0].flush()
        second[0].flush()
        for i in range(20):
            assert await until(second[0], Arrived) == Arrived(one.key, b"to %d" % i)
            assert await until(first[0], Arrived) == Arrived(two.key, b"fro %d" % i)
        (seen,) = first[0].statistics()
        assert (seen.state, seen.name, seen.outbound, seen.last_error) == (
            "linked",
            f"node{two.seed}",
            True,
            "",
        )
        assert (seen.traffic.messages_in, seen.traffic.messages_out) == (20, 20)
        assert seen.traffic.frames_out == 1, "what waits together travels together"
        assert seen.traffic.bytes_out == 256
        assert all(channel.is_proven for channel in network.channels)


@pytest.mark.parametrize("size", [1, 100_000, MESSAGE_BYTES_MAX])
async def test_messages_of_every_size_arrive_whole(size: int, autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first, second):
        await until(first[0], LinkOpened)
        message = bytes(i % 251 for i in range(size))
        send(first[0], two.key, message)
        send(first[0], two.key, b"next")
        assert (await until(second[0], Arrived)).raw == message
        assert (await until(second[0], Arrived)).raw == b"next"


async def test_the_handshake_measures_the_way(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork(lambda: 0.7)
    first, second = linked_pair(network, one, two)
    async with running(first, second):
        for links, _ in (first, second):
            assert (await until(links, LinkOpened)).round_trip_ticks == pytest.approx(1400, abs=2)
            (peer,) = links.statistics()
            assert peer.rtt_ms == pytest.approx(1400, abs=2)
        network.channels[0].rtt_ms = network.channels[1].rtt_ms = 2.5
        (peer,) = first[0].statistics()
        assert peer.rtt_ms == 2.5, "what the transport knows is newer"


async def test_the_log_says_with_whom_a_link_is_and_by_which_way(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The way of an incoming one need not be an address: nobody knows that of who calls by Tor."""
    caplog.set_level(logging.INFO)
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first, second):
        await until(first[0], LinkOpened)
        await until(second[0], LinkOpened)
    said = {line for line in caplog.messages if line.startswith("linked to")}
    names = [f"node{each.seed} ({short(each.key)})" for each in (one, two)]
    assert said == {
        f"linked to {names[0]}: tcp:caller:1",
        f"linked to {names[1]}: tcp:board{two.seed}:1",
    }


async def test_messages_in_the_very_first_frame_arrive_after_the_link_is_announced(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = records.pack
    monkeypatch.setattr(records, "pack", lambda messages, c: pack(messages or (b"early",), c))
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first, second):
        events = [await next_event(second[0]) for _ in range(2)]
        assert events == [LinkOpened(one.key, one.record, 1), Arrived(one.key, b"early")]


async def test_a_member_counts_as_heard_once_it_says_something_and_not_for_what_we_said(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    heard: list[list[bytes]] = [[], []]
    first[0].heard, second[0].heard = heard[0].append, heard[1].append
    async with running(first, second):
        for links, _ in (first, second):
            await until(links, LinkOpened)
        assert heard == [[], []], "a handshake alone: the other may keep another link"
        for _ in range(2):
            send(first[0], two.key, b"x")
            await until(second[0], Arrived)
            assert heard == [[], [one.key]]
        await trio.sleep(20)
        assert heard == [[two.key], [one.key]], "an empty frame shows it as well"


async def test_a_message_for_a_member_without_a_link_is_counted_as_dropped() -> None:
    one, two = cluster(1, 2)
    links = one.links([two.record], {})
    send(links, two.key, b"x")
    links.close(two.key, "nothing to close")
    (seen,) = links.statistics()
    assert (seen.traffic.dropped, seen.state, seen.queued) == (1, "expected", 0)


# --- one link per pair ------------------------------------------------------------------------


@pytest.mark.parametrize("batch", range(4))
async def test_after_simultaneous_dials_exactly_one_link_stays(
    batch: int, autojump_clock: MockClock
) -> None:
    for seed in range(50 * batch, 50 * batch + 50):
        dice = random.Random(seed)
        network = MemoryNetwork(lambda: dice.random() * 0.05)  # noqa: B023
        one, two = cluster(1, 2)
        options = {"jitter": dice.random}
        first = one.links([two.record], {"tcp": network}, **options)
        second = two.links([one.record], {"tcp": network}, **options)
        async with running(
            (first, [f"tcp:board{one.seed}:1"]), (second, [f"tcp:board{two.seed}:1"])
        ):
            await until(first, LinkOpened)
            await trio.sleep(30)
            (mine,), (yours,) = first.statistics(), second.statistics()
            assert (mine.state, yours.state) == ("linked", "linked"), seed
            assert mine.outbound is not yours.outbound, seed
            assert len(network.channels) == 2, seed
            drain(first), drain(second)
            dials = len(network.dials)
            send(first, two.key, b"ping")
            assert (await until(second, Arrived)).raw == b"ping", seed
            send(second, one.key, b"pong")
            assert (await until(first, Arrived)).raw == b"pong", seed
            await trio.sleep(300)
            assert len(network.dials) == dials, "nobody goes on dialling"
            assert {type(event) for event in drain(first) + drain(second)} <= {Measured}


async def test_opened_and_closed_alternate_even_when_nobody_listens_for_long(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    Taker.of(links).resting = True
    async with running((links, ["tcp:board1:1"])):
        for _ in range(5):
            await trio.sleep(0.1)
            await prove(await network.dial("tcp:board1:1"), two)
        await trio.sleep(0.1)
        kinds = [type(event) for event in links.receive()]
        assert kinds[::2] == [LinkOpened] * len(kinds[::2])
        assert kinds[1::2] == [LinkClosed] * len(kinds[1::2])
        assert len(kinds) % 2 == 1
        assert len([c for c in network.channels if c.remote == "tcp:caller:1"]) == 1


async def prove(channel: Channel, member: Member, cluster_id: bytes = CLUSTER) -> Session:
    """Do the initiator's part of a handshake by hand; the session is open then."""
    entropy = bytes(random.Random(member.seed).randbytes(64))
    state, hello = Session.initiate(member.record.raw, member.noise_private, cluster_id, entropy)
    await channel.send([hello])
    state, effects = state.received(await channel.receive())
    await channel.send([effect.data for effect in effects[:2]])  # type: ignore[union-attr]
    return state


# --- links end and begin again -----------------------------------------------------------------


async def test_a_link_that_is_cut_is_made_anew(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    first, second = linked_pair(network, one, two)
    async with running(first, second):
        for _ in range(3):
            await until(first[0], LinkOpened)
            await until(second[0], LinkOpened)
            await trio.sleep(20)
            start = trio.current_time()
            network.channels[0].cut()
            assert (await until(second[0], LinkClosed)).peer == one.key
            closed = await until(first[0], LinkClosed)
            assert (closed.peer, closed.reason) == (two.key, "the wire is cut")
        await until(first[0], LinkOpened)
        assert trio.current_time() - start < 1
        assert first[0].statistics()[0].traffic.links == 4


async def test_dials_get_rarer_while_nobody_answers(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    links = one.links([two.record], {"tcp": network}, jitter=lambda: 1.0)
    async with running((links, [])):
        await trio.sleep(600)
        (seen,) = links.statistics()
        assert (seen.state, seen.last_error) == ("waiting", "nobody listens there")
        assert seen.dial_in_ticks is not None
        assert 0 <= seen.dial_in_ticks <= 60_000
    times = [at for at, _ in network.dials]
    pauses = [round(b - a) for a, b in itertools.pairwise(times)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[6:]) == {60}


async def test_a_bad_message_ends_the_link_and_says_so(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first, second):
        await until(second[0], LinkOpened)
        second[0].close(one.key, "it sent what is no message")
        second[0].close(one.key, "a second reason does not count")
        assert (await until(second[0], LinkClosed)).reason == "it sent what is no message"
        assert "could not read a message of ours" in (await until(first[0], LinkClosed)).reason
        await until(first[0], LinkOpened)


async def test_when_a_node_stops_the_others_are_told_why(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first):
        async with running(second):
            await until(first[0], LinkOpened)
            await until(second[0], LinkOpened)
        assert (await until(first[0], LinkClosed)).reason == "the other node is shutting down"


# --- time --------------------------------------------------------------------------------------


async def test_an_idle_link_stays_and_costs_little(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    first, second = linked_pair(network, one, two, jitter=random.Random(1).random)
    async with running(first, second):
        await until(first[0], LinkOpened)
        await until(second[0], LinkOpened)
        counter = Wakeups()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(counter)
        assert counter.steps < 4000, "about one a second for two nodes, with all their frames"
        for links in (first[0], second[0]):
            (seen,) = links.statistics()
            assert seen.state == "linked"
            assert 180 <= seen.traffic.frames_out <= 361, "one in 10 to 20 s"
            assert seen.linked_ticks is not None
            assert seen.linked_ticks >= 3_599_000
        assert drain(first[0]) == drain(second[0]) == []


async def test_a_link_that_falls_silent_is_given_up(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    timing = Timing(keepalive_ticks=2_000, silence_ticks=6_000)
    first, second = linked_pair(network, one, two, timing=timing)
    async with running(first, second):
        await until(first[0], LinkOpened)
        await until(second[0], LinkOpened)
        for channel in network.channels:
            channel._out.silent = True
        start = trio.current_time()
        assert "silent for 6 s" in (await until(first[0], LinkClosed)).reason
        assert 5 <= trio.current_time() - start <= 7.1
        (found,) = first[0].statistics()
        assert "silent" in {each.what for each in found.reasons}


async def test_a_peer_that_never_proves_itself_is_left(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()

    async def mute(channel: Channel) -> None:
        await trio.sleep_forever()

    links = one.links([two.record], {"tcp": network})
    async with trio.open_nursery() as nursery:
        await nursery.start(network.serve, mute, f"tcp:board{two.seed}:1")
        async with running((links, [])):
            await trio.sleep(5)
            (seen,) = links.statistics()
            assert (seen.state, seen.remote) == ("dialling", f"tcp:board{two.seed}:1")
            await trio.sleep(5.1)
            assert "prove in time" in links.statistics()[0].last_error
        nursery.cancel_scope.cancel()


async def test_a_node_that_did_not_listen_for_long_doubts_itself_first(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    timing = Timing(keepalive_ticks=2_000, silence_ticks=6_000)
    first, second = linked_pair(MemoryNetwork(), one, two, timing=timing)
    async with running(first, second):
        await until(second[0], LinkOpened)
        taker = Taker.of(second[0])
        taker.resting = True
        await trio.sleep(6.5)
        taker.resting = False
        await trio.sleep(20)
        assert first[0].statistics()[0].traffic.links == 1
        assert second[0].statistics()[0].state == "linked"


class Wakeups(trio.abc.Instrument):
    """Counts how often any task runs."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


# --- queues ------------------------------------------------------------------------------------


async def test_a_full_queue_drops_what_comes_last_and_counts_it(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first, second):
        await until(first[0], LinkOpened)
        for i in range(links_module.QUEUE_MESSAGES_MAX + 7):
            first[0].post(two.key, b"%d" % i)
        (seen,) = first[0].statistics()
        assert (seen.queued, seen.traffic.dropped) == (links_module.QUEUE_MESSAGES_MAX, 7)
        first[0].flush()
        for i in range(links_module.QUEUE_MESSAGES_MAX):
            assert (await until(second[0], Arrived)).raw == b"%d" % i
        send(first[0], two.key, b"again")
        assert (await until(second[0], Arrived)).raw == b"again"


async def test_a_queue_is_bounded_in_bytes(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    async with running(first, second):
        await until(first[0], LinkOpened)
        for _ in range(4):
            first[0].post(two.key, bytes(MESSAGE_BYTES_MAX))
        first[0].post(two.key, b"no room for this either")
        (seen,) = first[0].statistics()
        assert (seen.queued, seen.traffic.dropped) == (2, 3)
        first[0].flush()
        for _ in range(2):
            assert len((await until(second[0], Arrived)).raw) == MESSAGE_BYTES_MAX
        send(first[0], two.key, b"room again")
        assert (await until(second[0], Arrived)).raw == b"room again"


async def test_nothing_is_read_ahead_of_its_taker_and_nothing_is_lost() -> None:
    one, two = await boards(2)
    one.member.record = one.member.says((), 1)
    first, second = one.links(two), two.links(one)
    async with running((first, []), (second, [two.address])):
        await until(first, LinkOpened)
        await until(second, LinkOpened)
        Taker.of(second).resting = True
        for number in range(400):
            send(first, two.member.key, number.to_bytes(4, "big") + bytes(60_000))
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0.05)
        (waits,) = first.statistics()
        assert waits.queued, "the sender holds what the taker has no time for"
        events = second.receive()
        assert len(events) == 1, "one frame at a time"
        dropped = waits.traffic.dropped
        Taker.of(second).resting = False
        for number in range(1, 400 - dropped):
            assert (await until(second, Arrived)).raw[:4] == number.to_bytes(4, "big")


async def test_a_peer_that_floods_delays_the_others_by_one_frame(
    autojump_clock: MockClock,
) -> None:
    one, two, three = cluster(1, 2, 3)
    network = MemoryNetwork()
    two.record, three.record = two.says((), 1), three.says((), 1)
    links = one.links([two.record, three.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        flooder = await network.dial(f"tcp:board{one.seed}:1")
        state = await prove(flooder, two)
        other = await network.dial(f"tcp:board{one.seed}:1")
        quiet = await prove(other, three)
        await until(links, LinkOpened)
        await until(links, LinkOpened)
        Taker.of(links).resting = True
        for _ in range(50):
            state, frames = state.send([b"flood"] * 3, 0, bytes(32))
            await flooder.send(frames)
        quiet, frames = quiet.send([b"urgent"], 0, bytes(32))
        await other.send(frames)
        events = links.receive()
        assert Arrived(three.key, b"urgent") in events
        assert len(events) == 4


async def test_who_has_to_rest_is_not_read_and_wakes_nobody_until_it_has_rested(
    autojump_clock: MockClock,
) -> None:
    one, two, three = cluster(1, 2, 3)
    network = MemoryNetwork()
    two.record, three.record = two.says((), 1), three.says((), 1)
    links = one.links([two.record, three.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        flooder = await network.dial(f"tcp:board{one.seed}:1")
        state = await prove(flooder, two)
        other = await network.dial(f"tcp:board{one.seed}:1")
        quiet = await prove(other, three)
        await until(links, LinkOpened)
        await until(links, LinkOpened)
        links.rest(two.key)
        for number in range(3):
            state, frames = state.send([b"flood %d" % number], 0, bytes(32))
            await flooder.send(frames)
        counter = Wakeups()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(5)
        trio.lowlevel.remove_instrument(counter)
        assert counter.steps < 50
        assert drain(links) == []
        quiet, frames = quiet.send([b"urgent"], 0, bytes(32))
        await other.send(frames)
        assert await next_event(links) == Arrived(three.key, b"urgent")
        links.resume(two.key)
        for number in range(3):
            assert await next_event(links) == Arrived(two.key, b"flood %d" % number)


async def test_a_rest_outlives_the_link_and_whoever_rests_may_come_and_go(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    links.rest(two.key)
    async with running((links, ["tcp:board1:1"])):
        first = await network.dial("tcp:board1:1")
        await prove(first, two)
        assert await until(links, LinkOpened)
        second = await network.dial("tcp:board1:1")
        state = await prove(second, two)
        assert await until(links, LinkClosed)
        assert await until(links, LinkOpened)
        state, frames = state.send([b"patient"], 0, bytes(32))
        await second.send(frames)
        await trio.sleep(1)
        assert drain(links) == []
        links.resume(two.key)
        assert await next_event(links) == Arrived(two.key, b"patient")


async def test_one_call_may_leave_peers_unread_and_the_next_one_reads_them() -> None:
    """What was read from the socket but not looked at wakes its reader all the same."""
    one, two = await boards(2)
    one.member.record = one.member.says((), 1)
    first, second = one.links(two), two.links(one)
    async with running((first, []), (second, [two.address])):
        await until(first, LinkOpened)
        await until(second, LinkOpened)
        Taker.of(second).resting = True
        for number in range(3):
            send(first, two.member.key, b"%d" % number)
        await trio.testing.wait_all_tasks_blocked(0.05)
        key = one.member.key
        assert second.receive(but={key}) == []
        assert second.receive() == [Arrived(key, b"0")]
        assert second.receive(but={key}) == []
        with trio.fail_after(5):
            await second._poller.wait()
        assert second.receive() == [Arrived(key, b"1")]
        assert second.receive() == [Arrived(key, b"2")]


async def test_a_caller_who_was_dismissed_as_its_proof_came_is_no_link(
    autojump_clock: MockClock,
) -> None:
    """Else it would be one for ever: nobody reads it, and its member could never be dialled."""
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    links = one.links([two.record], {"tcp": network})
    async with running((links, [])), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def handler(channel: Any) -> Goodbye:
            async def at_once(frames: Sequence[bytes]) -> None:
                """As a socket does, which has room: without a checkpoint."""
                for frame in frames:
                    channel._out.into.send_nowait(frame)

            channel.send = at_once
            with scope:
                return await links._incoming(channel)
            return Goodbye.NORMAL

        await nursery.start(network.serve, handler, "tcp:board1:1")
        caller = await network.dial("tcp:board1:1")
        entropy = bytes(64)
        state, hello = Session.initiate(two.record.raw, two.noise_private, CLUSTER, entropy)
        await caller.send([hello])
        _, effects = state.received(await caller.receive())
        for effect in effects[:2]:
            await trio.testing.wait_all_tasks_blocked()
            caller._out.into.send_nowait(effect.data)  # type: ignore[union-attr]
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        (seen,) = links.statistics()
        assert (seen.state, seen.traffic.links) == ("waiting", 0), "it never was one"
        assert links._book[two.key].link is None
        nursery.cancel_scope.cancel()


async def test_a_link_that_is_given_up_here_is_on_the_plan_again(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    async with running((links, [])):
        async with trio.open_nursery() as nursery:
            await nursery.start(network.serve, links._incoming, "tcp:board1:1")
            await prove(await network.dial("tcp:board1:1"), two)
            await until(links, LinkOpened)
            nursery.cancel_scope.cancel()
        assert (await until(links, LinkClosed)).reason == "it was given up here"
        assert links.statistics()[0].state == "expected"


# --- who is not welcome --------------------------------------------------------------------------


async def error_of(links: Links) -> str:
    """Why the only other member cannot be reached by these links, which do not listen."""
    async with running((links, [])):
        with trio.fail_after(60):
            while not links.statistics()[0].last_error:
                await trio.sleep(0.05)
            return links.statistics()[0].last_error


async def test_a_node_that_is_no_member_is_refused_and_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, two, stranger = cluster(1, 2, 3)
    network = MemoryNetwork()
    links = one.links([two.record], {"tcp": network})
    strange = stranger.links([one.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        assert "does not count us a member" in await error_of(strange)
        assert links.refused >= 1
        assert "is no member; do both have the same genesis" in caplog.text
        assert "calls refused so far: 1; the last, tcp:caller:1: " in caplog.text
        assert not any(isinstance(event, LinkOpened) for event in drain(links))


async def test_whom_no_member_counts_hears_that_from_the_first_and_its_log_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    *members, stranger = cluster(1, 2, 3, 4)
    network = MemoryNetwork()
    records = [each.record for each in members]
    theirs = [
        (
            each.links([r for r in records if r != each.record], {"tcp": network}),
            [f"tcp:board{each.seed}:1"],
        )
        for each in members
    ]
    strange = stranger.links(records, {"tcp": network})
    async with running(*theirs, (strange, [])):
        with trio.fail_after(600):
            while not all(each.last_error for each in strange.statistics()):
                await trio.sleep(0.05)
    assert sum("does not count us a member" in line for line in caplog.messages) == 1


async def test_a_member_of_another_cluster_is_refused(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    foreign = two.links([one.record], {"tcp": network}, cluster_id=b"d" * 32)
    async with running((links, [f"tcp:board{one.seed}:1"])):
        assert "same genesis" in await error_of(foreign)
        assert drain(links) == []


async def test_another_node_than_the_dialled_one_never_sees_our_record(
    autojump_clock: MockClock,
) -> None:
    one, two, three = cluster(1, 2, 3)
    network = MemoryNetwork()
    moved = two.says((f"tcp:board{three.seed}:1",), 2)
    links = one.links([moved], {"tcp": network})
    third = three.links([one.says((), 1)], {"tcp": network})
    async with running((third, [f"tcp:board{three.seed}:1"])):
        assert "another node answers there" in await error_of(links)
        assert drain(third) == []
        assert third.refused >= 1


async def test_the_own_key_at_the_other_end_is_an_alarm(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    mirror = two.says((f"tcp:board{one.seed}:1",), 2)
    links = one.links([mirror], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        await trio.sleep(60)
        assert len(links.alarms.kept()) == 1, "it is tried again, but one alarm is enough"
        assert f"own key answers at tcp:board{one.seed}:1" in links.alarms.kept()[0]["reason"]
        assert "reached itself" in links.statistics()[0].last_error
    assert "alarm" in caplog.text


async def test_a_caller_with_the_own_key_is_an_alarm(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = cluster(1)
    network = MemoryNetwork()
    links = one.links([one.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        channel = await network.dial(f"tcp:board{one.seed}:1")
        state, hello = Session.initiate(one.record.raw, one.noise_private, CLUSTER, bytes(64))
        await channel.send([hello])
        answer = await channel.receive()
        with monkeypatch.context() as thief:
            thief.setattr(session, "_peer_record", lambda *_: one.record)
            _, effects = state.received(answer)
        assert isinstance(effects[0], session.Transmit)
        await channel.send([effects[0].data])
        with pytest.raises(LinkError, match="uses the same key"):
            await channel.receive()
        assert "own key calls" in links.alarms.kept()[0]["reason"]


async def test_an_older_record_is_refused_and_a_newer_one_is_learnt(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    newer = two.says(("tcp:elsewhere:1",), 5)
    links = one.links([newer], {"tcp": network})
    old = two.links([one.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        assert "refuses our node record" in await error_of(old)
    two.record = two.says(("tcp:new:1",), 6)
    links = one.links([newer], {"tcp": network})
    new = two.links([one.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"]), (new, [])):
        assert (await until(links, LinkOpened)).record == two.record
        (seen,) = links.statistics()
        assert (seen.addresses, seen.record_version) == (("tcp:new:1",), 6)


async def test_a_record_that_is_learnt_steers_no_dial_to_this_host(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    links = one.links([two.record], {"tcp": network})
    two.record = two.says(("tcp:127.0.0.1:6379", "tcp:board7:1"), 2)
    caller = two.links([one.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        async with running((caller, [])):
            assert (await until(links, LinkOpened)).record == two.record
        await trio.sleep(100)
    assert "tcp:board7:1" in {address for _, address in network.dials}
    assert "tcp:127.0.0.1:6379" not in {address for _, address in network.dials}
    assert sum("somewhere else for everybody" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("address", ["x", "tcp:h:0", "tcp:a@b:1", "tcp:" + "9" * 100 + ":1"])
async def test_a_record_with_a_bad_address_is_refused_without_an_error_of_ours(
    address: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    links = one.links([two.record], {"tcp": network})
    two.record = two.says((address,), 2)
    async with running((links, [f"tcp:board{one.seed}:1"])):
        channel = await network.dial(f"tcp:board{one.seed}:1")
        await prove(channel, two)
        with pytest.raises(LinkError, match="refuses our node record"):
            await channel.receive()
    assert "error of this program" not in caplog.text


# --- hostile bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"short"],
        [bytes(256)],
        [random.Random(1).randbytes(256)],
        [random.Random(2).randbytes(4096)],
    ],
)
async def test_noise_of_another_kind_ends_its_own_link_only(
    frames: list[bytes], autojump_clock: MockClock
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    first, second = linked_pair(network, one, two)
    async with running(first, second):
        await until(first[0], LinkOpened)
        hostile = await network.dial(f"tcp:board{two.seed}:1")
        await hostile.send(frames)
        with pytest.raises(LinkError, match="refused the handshake"):
            await hostile.receive()
        await trio.sleep(100)
        send(first[0], two.key, b"still here")
        assert (await until(second[0], Arrived)).raw == b"still here"
        assert second[0].refused == 1


async def test_a_replayed_handshake_opens_nothing(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        said: list[bytes] = []
        channel = await network.dial(f"tcp:board{one.seed}:1")
        send = channel.send

        async def overheard(frames: Sequence[bytes]) -> None:
            said.extend(frames)
            await send(frames)

        channel.send = overheard  # type: ignore[method-assign]
        await prove(channel, two)
        await until(links, LinkOpened)
        replay = await network.dial(f"tcp:board{one.seed}:1")
        await replay.send(said)
        await replay.receive()
        with pytest.raises(LinkError, match="refused the handshake"):
            await replay.receive()
        assert drain(links) == []
        assert links.statistics()[0].state == "linked"


async def test_a_frame_that_was_changed_or_replayed_ends_the_link(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        for spoil in (lambda f: [f, f], lambda f: [f[:-1] + b"?"], lambda f: [f[:-1]]):
            await trio.sleep(BACKOFF_TICKS_MAX / 1000)
            channel = await network.dial(f"tcp:board{one.seed}:1")
            state = await prove(channel, two)
            await until(links, LinkOpened)
            _, (frame,) = state.send([b"x"], 0, bytes(32))
            await channel.send(spoil(frame))
            closed = await until(links, LinkClosed)
            assert closed.peer == two.key
            assert "frame" in closed.reason or "replayed" in closed.reason


# --- who calls again and again -------------------------------------------------------------------


async def call(network: MemoryNetwork, at: Member, member: Member) -> Channel:
    """A call that proves who calls; whether it is welcome shows at the first `receive`."""
    channel = await network.dial(f"tcp:board{at.seed}:1")
    await prove(channel, member)
    return channel


async def test_a_member_whose_links_are_short_is_heard_ever_more_rarely(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        taken = []
        while trio.current_time() < 150:
            channel = await call(network, one, two)
            await trio.sleep(0.25)
            if links.statistics()[0].state == "linked":
                taken.append(trio.current_time())
                await channel.aclose()
                await until(links, LinkClosed)
            else:
                with pytest.raises(LinkError, match="takes no call from us for a while"):
                    await channel.receive()
        pauses = [round(b - a) for a, b in itertools.pairwise(taken)]
        assert pauses[:7] == [0, 1, 2, 4, 8, 16, 30]
        assert set(pauses[6:]) == {30}


async def test_one_good_link_and_a_member_is_heard_at_once_again(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    two.record = two.says((), 1)
    links = one.links([two.record], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        for lasts_s in (0, 0, STEADY_TICKS / 1000, 0):
            await trio.sleep(2)
            channel = await call(network, one, two)
            await until(links, LinkOpened)
            await trio.sleep(lasts_s)
            await channel.aclose()
            await until(links, LinkClosed)
        await call(network, one, two)
        await until(links, LinkOpened)


async def test_who_shows_an_old_record_again_and_again_is_soon_not_heard(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    links = one.links([two.says((), 5)], {"tcp": network})
    async with running((links, [f"tcp:board{one.seed}:1"])):
        said = []
        for _ in range(4):
            channel = await call(network, one, two)
            with pytest.raises(LinkError) as refused:
                await channel.receive()
            said.append(str(refused.value))
        assert said == [Goodbye.RECORD.words] * 2 + [Goodbye.TOO_SOON.words] * 2


# --- our own errors ------------------------------------------------------------------------------


class Broken:
    """A transport with an error in it."""

    def __init__(self, network: MemoryNetwork, *, dial: bool = False) -> None:
        self._network = network
        self._dial = dial
        self.serve = network.serve

    async def dial(self, address: str) -> Channel:
        if self._dial:
            raise ZeroDivisionError("in dial")
        channel = await self._network.dial(address)

        def fail() -> bytes:
            raise ZeroDivisionError("in take")

        channel.take = fail  # type: ignore[method-assign]
        return channel


@pytest.mark.parametrize("dial", [True, False])
async def test_an_error_of_this_program_is_logged_and_costs_one_link(
    dial: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    one.record = one.says((), 1)
    links = one.links([two.record], {"tcp": Broken(network, dial=dial)})
    other = two.links([one.record], {"tcp": network})
    async with running((other, [f"tcp:board{two.seed}:1"]), (links, [])):
        await trio.sleep(0.1)
        assert "an error of this program" in links.statistics()[0].last_error
    assert "ZeroDivisionError" in caplog.text


async def test_it_cannot_listen_where_there_is_nothing_to_listen_with() -> None:
    (one,) = cluster(1)
    with pytest.raises(LinkError, match="no such kind of address"):
        await one.links([], {}).run(["carrier-pigeon:roof"])


# --- over real sockets ---------------------------------------------------------------------------


class Board:
    """A member on loopback; the port is found before its record is made."""

    def __init__(self, seed: int) -> None:
        self.member = Member(seed, ())

    async def settle(self) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"tcp:127.0.0.1:{listener.socket.getsockname()[1]}"
        await listener.aclose()
        self.member.record = self.member.says((self.address,), 1)

    def links(self, *others: Board, hold_s: float = HOLD_S, **options: Any) -> Links:
        known = [other.member.record for other in others]
        transport = Direct(is_on_one_host=True, arrivals=Arrivals(SILENCE_S, hold_s=hold_s))
        return self.member.links(known, {"tcp": transport}, **options)


async def boards(count: int) -> list[Board]:
    made = sorted((Board(seed) for seed in range(1, count + 1)), key=lambda b: b.member.key)
    for board in made:
        await board.settle()
    return made


async def test_simultaneous_dials_over_sockets_leave_one_link() -> None:
    one, two = await boards(2)
    for _ in range(20):
        first, second = one.links(two, jitter=random.random), two.links(one, jitter=random.random)
        async with running((first, [one.address]), (second, [two.address])):
            with trio.fail_after(30):
                while True:
                    send(first, two.member.key, b"ping")
                    with trio.move_on_after(0.2):
                        await until(second, Arrived)
                        break
                await trio.testing.wait_all_tasks_blocked(0.01)
            (mine,), (yours,) = first.statistics(), second.statistics()
            assert (mine.state, yours.state) == ("linked", "linked")
            assert mine.outbound is not yours.outbound
            assert mine.rtt_ms is None or mine.rtt_ms < 1000


Attack = Callable[[trio.SocketStream], Awaitable[None]]


async def raw_garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(random.Random(3).randbytes(5000))


async def web_request(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")


async def immediate_close(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def half_close(stream: trio.SocketStream) -> None:
    await stream.send_eof()


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def after_opening(data: bytes) -> Attack:
    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(REQUEST + data)

    return attack


@pytest.mark.parametrize(
    "attack",
    [
        raw_garbage,
        web_request,
        immediate_close,
        half_close,
        after_opening(b"\x82\xfe\x01\x00\0\0\0\0" + random.Random(4).randbytes(256)),
        after_opening(b"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00\0\0\0\0"),
        after_opening(b"\x89\x80\0\0\0\0" * 1000),
        after_opening(b"\x81\x85\0\0\0\0hello"),
    ],
)
async def test_a_hostile_caller_is_gone_and_everybody_else_stays(attack: Attack) -> None:
    one, two = await boards(2)
    one.member.record = one.member.says((), 1)
    first, second = one.links(two), two.links(one)
    async with running((first, []), (second, [two.address])):
        await until(first, LinkOpened)
        await until(second, LinkOpened)
        stream = await trio.open_tcp_stream(*place(two.address))
        async with stream:
            await attack(stream)
            with trio.fail_after(5):
                try:
                    while await stream.receive_some():
                        pass
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
        send(first, two.member.key, b"still here")
        assert (await until(second, Arrived)).raw == b"still here"
        assert first.statistics()[0].traffic.links == 1


async def test_a_web_server_at_a_members_address_is_named() -> None:
    one, two = await boards(2)

    async def web_server(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    host, port = place(two.address)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host=host)
        await nursery.start(trio.serve_listeners, web_server, listeners)
        links = one.links(two)
        async with running((links, [])):
            with trio.fail_after(5):
                while not links.statistics()[0].last_error:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert "HTTP/1.1 200 OK" in links.statistics()[0].last_error
        nursery.cancel_scope.cancel()


async def test_a_node_that_was_killed_is_linked_again() -> None:
    one, two = await boards(2)
    first = one.links(two, jitter=lambda: 0.1)
    async with running((first, [one.address])):
        for _ in range(3):
            second = two.links(one)
            async with running((second, [two.address])):
                await until(first, LinkOpened)
            await until(first, LinkClosed)


async def test_a_member_that_calls_in_a_loop_pays_for_it_and_nobody_else_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It sends rubbish as soon as it is linked; another member calls from the same address."""
    caplog.set_level(logging.INFO)
    one, two, three = await boards(3)
    for board in (two, three):
        board.member.record = board.member.says((), 1)
    links = one.links(two, three, hold_s=0.05)
    calls, start = 0, trio.current_time()

    async def loop() -> None:
        nonlocal calls
        while True:
            try:
                channel = await Direct(is_on_one_host=True).dial(one.address)
                await prove(channel, two.member)
                calls += 1
                await channel.send([bytes(256)])
                await channel.receive()
                await channel.receive()
            except LinkError:
                await channel.aclose()

    async with running((links, [one.address])), trio.open_nursery() as nursery:
        nursery.start_soon(loop)
        with trio.fail_after(30):
            while calls < 20:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert links.statistics()[0].traffic.links + links.statistics()[1].traffic.links <= 6
        assert trio.current_time() - start >= 10 * 0.05, "calls that are refused have to wait"
        assert sum("refused so far" in line for line in caplog.messages) <= 5
        honest = three.links(one)
        async with running((honest, [])):
            await until(honest, LinkOpened, timeout_s=5)
            assert honest.statistics()[0].last_error == ""
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_stops_the_start() -> None:
    one, two = await boards(2)
    async with running((one.links(two), [one.address])):
        with pytest.raises(LinkError, match="another program holds port"):
            await two.links(one).run([one.address])


async def test_a_goodbye_is_the_reason_on_the_other_side() -> None:
    one, two, three = await boards(3)
    links = one.links(two)
    strange = three.links(one)
    async with running((links, [one.address]), (strange, [])):
        with trio.fail_after(5):
            while not strange.statistics()[0].last_error:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert Goodbye.NOT_A_MEMBER.words == strange.statistics()[0].last_error


def test_the_reason_is_found_in_what_an_older_trio_wraps_it_in() -> None:
    reason = LinkError("a reason")
    assert links_module._failure(ExceptionGroup("", [ExceptionGroup("", [reason])])) is reason


# --- members that come and go -----------------------------------------------------------------


async def test_who_comes_is_linked_and_who_goes_hears_the_last_of_it(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    one, two = cluster(1, 2)
    first, second = linked_pair(network, one, two)
    links, other = one.links([], {"tcp": network}), second[0]
    async with running((links, first[1]), second):
        links.meet([one.record, two.record], 1)
        await until(links, LinkOpened)
        await until(other, LinkOpened)
        assert [peer.state for peer in links.statistics()] == ["linked"]
        links.meet([one.record], 1)
        assert links.statistics() == ()
        send(links, two.key, b"the last word")
        assert await until(other, Arrived) == Arrived(one.key, b"the last word")
        closed = await until(links, LinkClosed)
        assert "no member any more" in closed.reason
        await until(other, LinkClosed)
        await trio.sleep(200)
        assert drain(links) == []
        links.meet([one.record, two.record], 1)
        await until(links, LinkOpened)


async def test_who_is_let_in_again_at_once_keeps_its_link(autojump_clock: MockClock) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(), one, two)
    links = first[0]
    async with running(first, second):
        await until(links, LinkOpened)
        links.meet([one.record], 1)
        links.meet([one.record, two.record], 1)
        await trio.sleep(10)
        assert drain(links) == []
        assert [peer.state for peer in links.statistics()] == ["linked"]


# --- who is kept out ---------------------------------------------------------------------------


def meeting(network: MemoryNetwork, *members: Member, quorum: int) -> list[tuple[Links, list[str]]]:
    """All of these as each other's members."""
    records = [member.record for member in members]
    found = []
    for member in members:
        links = member.links(records, {"tcp": network})
        links.meet(records, quorum)
        found.append((links, [f"tcp:board{member.seed}:1"]))
    return found


def seen(links: Links, member: Member) -> Any:
    (found,) = (each for each in links.statistics() if each.peer == member.key)
    return found


async def when(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not is_so():
            await trio.sleep(0.005)


async def all_linked(*several: tuple[Links, Sequence[str]]) -> None:
    for links, _ in several:
        await when(lambda: all(each.state == "linked" for each in links.statistics()))  # noqa: B023


async def test_who_speaks_nonsense_again_and_again_is_kept_out_for_a_while(
    autojump_clock: MockClock,
) -> None:
    one, two, third = cluster(1, 2, 3)
    several = meeting(MemoryNetwork(), one, two, third, quorum=2)
    first = several[0][0]
    async with running(*several):
        await all_linked(*several)
        for _ in range(2):
            first.close(two.key, "it sent what is no message")
            await when(lambda: seen(first, two).state != "linked")
            if not seen(first, two).ban:
                await all_linked(several[0])
        kept = seen(first, two)
        assert kept.state == "banned"
        assert kept.ban.reason.endswith("because it sent what is no message")
        assert not kept.ban.by_hand
        assert BAN_TICKS - 1_000 < kept.ban.left_ticks <= BAN_TICKS
        assert kept.score == 0
        assert (kept.reasons[0].what, kept.reasons[0].count) == ("wrong", 2)
        began = trio.current_time()
        await when(lambda: seen(several[1][0], one).last_error == Goodbye.BANNED.words)
        await all_linked(*several)
        took_ticks = (trio.current_time() - began) * 1000
        assert BAN_TICKS - 1_000 < took_ticks < 4 * BAN_TICKS, "it is over at some time"


async def test_who_contradicts_itself_keeps_its_link_while_it_is_needed(
    autojump_clock: MockClock,
) -> None:
    one, two, third = cluster(1, 2, 3)
    network = MemoryNetwork()
    several = meeting(network, one, two, third, quorum=3)
    first = several[0][0]
    async with running(*several):
        await all_linked(*several)
        first.accuse(two.key, "two votes")
        first.accuse(b"n" * 32, "nobody knows it")
        await trio.sleep(1)
        needed = seen(first, two)
        assert (needed.state, needed.ban) == ("linked", None)
        assert needed.last_event == "two votes"
        records = [member.record for member in (one, two, third)]
        first.meet(records, 2)
        first.accuse(two.key, "it is kept out by now")
        await when(lambda: seen(first, two).state == "banned")
        drain(first)
        first.meet(records, 3)
        assert (await until(first, LinkOpened)).peer == two.key, "at once"


async def test_the_owner_keeps_out_whom_it_likes_and_lets_it_in_again(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    several = meeting(MemoryNetwork(), one, two, quorum=2)
    (first, _), (second, _) = several
    async with running(*several):
        await all_linked(*several)
        now = int(trio.current_time() * 1000)
        first.ban(two.key, now + 3_600_000)
        assert "by hand" in (await until(first, LinkClosed)).reason
        await trio.sleep(3_000)
        kept = seen(first, two)
        assert (kept.state, kept.ban.by_hand, kept.traffic.links) == ("banned", True, 1)
        assert kept.ban.left_ticks == pytest.approx(600_000, abs=2_000)
        assert seen(second, one).last_error == Goodbye.BANNED.words
        assert first.banned() == {two.key: now + 3_600_000}
        first.ban(two.key, math.inf)
        assert seen(first, two).ban.left_ticks is None
        drain(first)
        first.lift(two.key)
        assert (await until(first, LinkOpened)).peer == two.key
        assert first.banned() == {}


async def test_a_dial_under_way_to_who_is_banned_meanwhile_brings_no_link(
    autojump_clock: MockClock,
) -> None:
    one, two = cluster(1, 2)
    first, second = linked_pair(MemoryNetwork(lambda: 0.5), one, two)
    async with running(first, second):
        await trio.sleep(1.2)
        assert seen(first[0], two).state == "dialling"
        first[0].ban(two.key, math.inf)
        await trio.sleep(60)
        assert seen(first[0], two).traffic.links == 0
        assert "by hand" in seen(first[0], two).last_error


async def test_what_somebody_on_the_way_may_have_done_has_nobody_kept_out(
    autojump_clock: MockClock,
) -> None:
    """Whoever flips bits of a correct member's frames costs it the link, and nothing else."""
    one, two = cluster(1, 2)
    network = MemoryNetwork()
    several = linked_pair(network, one, two)
    async with running(*several):
        for _ in range(8):
            opened = await until(several[1][0], LinkOpened, timeout_s=120)
            assert opened.peer == one.key
            noise = network.channels[0]._out
            await noise.into.send(b"\x55" * 256)
            noise.ring()
            assert "not sealed for this link" in (await until(several[1][0], LinkClosed)).reason
            kept = seen(several[1][0], one)
            assert (kept.ban, kept.reasons[0].what) == (None, "garbage")


async def test_what_only_the_member_can_have_sealed_counts_as_its_own(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = cluster(1, 2)
    several = linked_pair(MemoryNetwork(), one, two)
    async with running(*several):
        await until(several[1][0], LinkOpened)
        await until(several[0][0], LinkOpened)
        with monkeypatch.context() as patch:
            patch.setattr(records, "pack", lambda messages, c: [b"\xff" * c[0]])
            send(several[0][0], two.key, b"x")
        assert "longer than its frame" in (await until(several[1][0], LinkClosed)).reason
        assert seen(several[1][0], one).reasons[0].what == "wrong"

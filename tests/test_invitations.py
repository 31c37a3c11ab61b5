"""The desk: who is invited, whom that lets in, and what everybody else is told.

First at a desk over nodes in this process; then as owners type it, in processes of their own.
"""

from __future__ import annotations

import json
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import trio

from aegis_edge import config
from aegis_edge import invitations as module
from aegis_edge.api.messages import Refusal
from aegis_edge.client import Client
from aegis_edge.config import Config
from aegis_edge.crypto import sodium
from aegis_edge.disk import guestlist, keyfile
from aegis_edge.disk.guestlist import ROWS_MAX
from aegis_edge.home import own_record, read_genesis
from aegis_edge.invitations import OPEN_MAX, Invitations
from aegis_edge.knowledge.operations import Admit, Approve, Dismiss, Leave, Propose, Status
from aegis_edge.net.clock import now_ticks
from aegis_edge.pbft.route import Waypoint
from aegis_edge.peers import welcome
from aegis_edge.peers.genesis import Genesis
from aegis_edge.peers.identity import short
from aegis_edge.peers.invitation import Invitation
from aegis_edge.peers.observers import PASS_MS, RENEWAL_MS
from aegis_edge.peers.welcome import Answer, State
from aegis_edge.replication import NoQuorum, Replication, Unconfirmed
from aegis_edge.replication.performer import TICK_TICKS
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Pass, Verified
from cluster import free_ports
from tests.peers.test_address import ONION
from tests.test_growth import TIMEOUT_S, Board, decide, eventually, settled
from tests.test_node import Running, cluster

HOUR_S = 3600
TRANSCRIPT = bytes(range(64))
Record = Verified[NodeRecord]


def newcomer(seed: int) -> Record:
    noise_key = bytes([seed]) * 32
    said = NodeRecord(1, noise_key, (f"tcp:127.0.0.1:{seed}",), 2**31, f"new{seed}")
    return Signer(bytes([seed]) * 32, b"").sign(said)


NEW, OTHER = newcomer(101), newcomer(102)


class Town(NamedTuple):
    """Nodes of one cluster, their homes, and the desk of the first."""

    homes: list[Config]
    nodes: list[Replication]
    desk: Invitations
    again: Callable[[], Invitations]


@asynccontextmanager
async def town(path: Path, size: int) -> AsyncIterator[Town]:
    homes = cluster(path, size)
    own = own_record(homes[0], keyfile.read(homes[0].key_file))
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]

            def again() -> Invitations:
                """A desk of the same node, as after a restart."""
                genesis = read_genesis(homes[0])
                others = [record for record in genesis.records if record.signer != own.signer]
                file = homes[0].invitations_file
                return Invitations(file, genesis, own, lambda: others, nodes[0])

            yield Town(homes, nodes, again(), again)
            nursery.cancel_scope.cancel()


async def invited(desk: Invitations, instead_of: bytes | None = None) -> Invitation:
    issued = await desk.issue(HOUR_S, instead_of, timeout_s=TIMEOUT_S)
    assert issued.invited.state == "open"
    return Invitation.from_text(issued.code)


async def asks(
    desk: Invitations, invitation: Invitation, record: Record = NEW, *, is_ready: bool = True
) -> Answer:
    raw = welcome.question(invitation, TRANSCRIPT, is_ready=is_ready)
    answer = desk.guest(record, TRANSCRIPT, [raw])
    assert answer is not None
    return welcome.read_answer(await answer())


async def turn_clock(here: Town, wall_ms: int) -> None:
    """Of the board that is alone; agreed time follows with what it says next."""
    here.nodes[0]._wall_ms = lambda: wall_ms
    while await here.desk._agreed_ms(TIMEOUT_S) < wall_ms:
        pass


async def states(desk: Invitations) -> list[str]:
    return [each.state for each in await desk.listed()]


def key(*invitations: Invitation) -> list[bytes]:
    """What a service is told of these."""
    return [sodium.x25519_public(each.credential) for each in invitations]


async def test_a_service_expects_whom_an_invitation_is_open_to_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    said: list[list[bytes]] = []

    def expect(keys: Sequence[bytes]) -> None:
        said.append(list(keys))

    async def says(*invitations: Invitation) -> None:
        while said[-1:] != [key(*invitations)]:
            await trio.sleep(0.01)

    async with town(tmp_path, 1) as here, trio.open_nursery() as nursery:
        desk = here.desk
        nursery.start_soon(desk.announce, expect)
        await says()
        used, cancelled, over = [await invited(desk) for _ in range(3)]
        await says(used, cancelled, over)
        await desk.cancel((await desk.listed())[1].name)
        await says(used, over)
        assert (await asks(desk, used, is_ready=False)).state is State.WELCOME
        await says(used, over)
        assert (await asks(desk, used)).state is State.ADMITTED
        await says(over)
        nursery.cancel_scope.cancel()
    assert key(used) != key(over)


async def test_a_service_forgets_an_invitation_that_nobody_used_also_where_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    said: list[list[bytes]] = []

    async def until(wanted: list[bytes]) -> None:
        while said[-1:] != [wanted]:
            await trio.sleep(0.01)

    async with town(tmp_path, 1) as here, trio.open_nursery() as nursery:
        invitation = await invited(here.desk)
        # As after a restart: of those that are kept, too; and what is no key stops nobody.
        broken = replace(guestlist.read(here.homes[0].invitations_file)[0], public=bytes(32))
        guestlist.write(
            here.homes[0].invitations_file,
            [*guestlist.read(here.homes[0].invitations_file), broken],
        )
        desk = here.again()
        nursery.start_soon(desk.announce, lambda keys: said.append(list(keys)))
        await until(key(invitation))
        later_ms = (invitation.until_s + 1) * 1000
        here.nodes[0]._wall_ms = lambda: later_ms
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: later_ms / 1000))
        await until([])
        nursery.cancel_scope.cancel()


async def test_whose_proposal_waits_is_expected_until_it_was_told_what_came_of_it(
    tmp_path: Path,
) -> None:
    async with town(tmp_path, 2) as here:
        desk = here.desk
        invitation = await invited(desk)
        waiting = await asks(desk, invitation)
        assert waiting.state is State.WAITING
        (row,) = desk._rows.values()
        roll = await desk._roll()
        for now_ms, is_told, expected in (
            (row.until_ms - 1, False, True),
            (row.until_ms, False, True),
            (row.until_ms, True, False),
        ):
            desk._told = {row.public} if is_told else set()
            assert desk._may_come(row, now_ms, roll) is expected
        desk._told.clear()
        vote = await here.nodes[1].submit(Approve(waiting.number, False).encode(), of_members=True)
        assert vote.status is Status.DONE
        roll = await desk._roll()
        assert desk._may_come(row, row.until_ms - 1, roll), "it does not know that they said no"
        assert not desk._may_come(row, row.until_ms, roll)
        assert (await asks(desk, invitation)).state is State.REJECTED
        assert not desk._may_come(row, row.until_ms - 1, roll)


async def test_through_tor_a_code_says_the_level(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        place = f"onion:{ONION}:8080"
        own = Signer(bytes([9]) * 32, b"").sign(replace(NEW.message, addresses=(place,)))
        file, genesis = tmp_path / "invitations", read_genesis(here.homes[0])
        desk = Invitations(file, genesis, own, list, here.nodes[0], level="HIGH")
        invitation = await invited(desk)
        assert (invitation.level, invitation.addresses) == ("HIGH", (place,))


async def test_a_board_alone_lets_in_whom_it_invited(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        assert await desk.listed() == []
        invitation = await invited(desk)
        genesis = read_genesis(here.homes[0])
        assert invitation.cluster_id == genesis.cluster_id
        assert invitation.host == genesis.members[0]
        assert invitation.addresses == genesis.records[0].message.addresses
        now = Waypoint.at(here.nodes[0].members.configuration)
        assert Waypoint(invitation.number, invitation.mark) == now
        answer = await asks(desk, invitation, is_ready=False)
        assert answer.state is State.WELCOME
        assert Genesis.from_text(answer.genesis).cluster_id == genesis.cluster_id
        assert answer.records == (genesis.records[0].raw,)
        assert here.nodes[0].nodes == 1, "it holds nothing yet, so it is no member"
        assert await states(desk) == ["used"]
        assert (await asks(desk, invitation)).state is State.ADMITTED
        await settled(1, here.nodes[0])
        assert NEW.signer in here.nodes[0].members.configuration
        assert await states(desk) == ["admitted"]
        assert (await asks(desk, invitation)).state is State.ADMITTED, "it lost the answer"
        assert (await asks(desk, invitation, is_ready=False)).state is State.WELCOME
        assert (await asks(desk, invitation, OTHER)).state is State.USED


async def test_who_is_thrown_out_is_not_let_in_again_by_what_it_once_used(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as here:
        desk = here.desk
        held = await invited(desk)
        assert (await asks(desk, held, OTHER, is_ready=False)).state is State.WELCOME
        await decide(Propose(Admit(OTHER.raw)).encode(), *here.nodes[:2])
        await settled(1, here.nodes[0])
        assert (await asks(desk, held, OTHER)).state is State.ADMITTED
        await decide(Propose(Dismiss(OTHER.signer)).encode(), *here.nodes[:3])
        await settled(2, here.nodes[0])
        for is_ready in (False, True):
            assert (await asks(desk, held, OTHER, is_ready=is_ready)).state is State.CANCELLED
        assert await here.nodes[0].read(lambda database: database.roll().proposals) == ()


async def test_who_was_proposed_and_is_thrown_out_is_not_proposed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        invitation = await invited(desk)
        assert (await asks(desk, invitation)).state is State.ADMITTED
        roll = await desk._roll()
        (row,) = desk._rows.values()
        assert row.number == roll.last == 1
        assert module._proposal(row, roll) is None

        async def without_it() -> Any:
            return replace(roll, records=())

        monkeypatch.setattr(desk, "_roll", without_it)
        assert (await asks(desk, invitation)).state is State.REJECTED


def answers_are_lost(
    monkeypatch: pytest.MonkeyPatch, node: Replication, *, is_taken: bool = True
) -> None:
    """Whoever proposes hears nothing of it, and if it is not `is_taken`, nobody does."""
    submit = node.submit

    async def unheard(operation: bytes, **more: Any) -> Any:
        if not more.get("of_members"):
            return await submit(operation, **more)
        if is_taken:
            await submit(operation, **more)
        raise Unconfirmed("nothing was heard of it")

    monkeypatch.setattr(node, "submit", unheard)


async def test_what_is_proposed_is_not_cancelled_nor_proposed_again_where_no_answer_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 3) as here:
        desk = here.desk
        invitation = await invited(desk)
        with monkeypatch.context() as patched:
            answers_are_lost(patched, here.nodes[0])
            assert (await asks(desk, invitation)).state is State.LATER
        (listed,) = await desk.listed()
        assert (listed.state, listed.number) == ("waiting", 0)
        with pytest.raises(Refusal, match="its board is being proposed"):
            await desk.cancel(listed.name)
        after_a_restart = here.again()
        for one in (after_a_restart, desk):
            assert (await asks(one, invitation)).number == 1
            with pytest.raises(Refusal, match="its board is proposed already"):
                await one.cancel(listed.name)
        for node in here.nodes[1:]:
            await node.submit(Approve(1, False).encode(), of_members=True)
        await here.nodes[0].barrier()
        assert (await asks(desk, invitation)).state is State.REJECTED
        assert (await desk._roll()).last == 1


async def test_whom_the_members_rejected_meanwhile_is_not_proposed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 3) as here:
        invitation = await invited(here.desk)
        with monkeypatch.context() as patched:
            answers_are_lost(patched, here.nodes[0])
            assert (await asks(here.desk, invitation)).state is State.LATER
        for node in here.nodes[1:]:
            await node.submit(Approve(1, False).encode(), of_members=True)
        await here.nodes[0].barrier()
        for desk in (here.again(), here.desk):
            assert (await asks(desk, invitation)).state is State.REJECTED
        assert (await here.desk._roll()).last == 1


async def test_what_never_came_to_be_proposed_is_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 3) as here:
        invitation = await invited(here.desk)
        with monkeypatch.context() as patched:
            answers_are_lost(patched, here.nodes[0], is_taken=False)
            assert (await asks(here.desk, invitation)).state is State.LATER
        assert (await asks(here.again(), invitation)).number == 1


async def test_what_was_cancelled_just_before_is_not_proposed(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        invitation = await invited(desk)
        assert (await asks(desk, invitation, is_ready=False)).state is State.WELCOME
        (row,), roll = desk._rows.values(), await desk._roll()
        await desk.cancel((await desk.listed())[0].name)
        assert (await desk._admission(row, NEW, roll)).state is State.CANCELLED
        assert (await desk._roll()).last == 0
        desk._rows.clear()
        with pytest.raises(Refusal, match="no such invitation any more"):
            await desk._admission(row, NEW, roll)


async def test_whoever_has_a_used_code_costs_the_cluster_nothing(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        invitation = await invited(here.desk)
        assert (await asks(here.desk, invitation, is_ready=False)).state is State.WELCOME
        batches = here.nodes[0].counters.batches
        assert (await asks(here.desk, invitation, OTHER)).state is State.USED
        assert here.nodes[0].counters.batches == batches


async def test_votes_that_are_waited_for_after_the_end_cost_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 2) as here:
        invitation = await invited(here.desk)
        assert (await asks(here.desk, invitation)).state is State.WAITING
        later_s = invitation.until_s + 1
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: later_s))
        batches = here.nodes[0].counters.batches
        assert await here.desk._expected() == key(invitation)
        assert here.nodes[0].counters.batches == batches


async def test_a_disk_that_takes_nothing_lets_nobody_in(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        invitation = await invited(desk)
        desk._path = here.homes[0].key_file / "no folder"
        answer = await asks(desk, invitation)
        assert answer.state is State.LATER
        assert "no folder" not in answer.words
        assert here.nodes[0].nodes == 1
        with pytest.raises(Refusal) as refused:
            await invited(desk)
        assert refused.value.code == "internal"
        desk._path = here.homes[0].invitations_file
        assert (await asks(desk, invitation, OTHER)).state is State.ADMITTED


async def test_others_have_to_say_yes_and_may_say_no(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as here:
        invitation = await invited(here.desk)
        waiting = await asks(here.desk, invitation)
        assert waiting == Answer(State.WAITING, number=1, yes=1, needed=2)
        assert await states(here.desk) == ["waiting"]
        assert await asks(here.desk, invitation) == waiting, "asked again, proposed once"
        assert here.nodes[0].nodes == 3
        await here.nodes[1].submit(Approve(1, True).encode(), of_members=True)
        await settled(1, here.nodes[0])
        assert (await asks(here.desk, invitation)).state is State.ADMITTED
        second = await invited(here.desk)
        assert (await asks(here.desk, second, OTHER)).number == 2
        for node in here.nodes[1:]:
            await node.submit(Approve(2, False).encode(), of_members=True)
        await here.nodes[0].barrier()
        for is_ready in (True, False):
            answer = await asks(here.desk, second, OTHER, is_ready=is_ready)
            assert answer.state is State.REJECTED, "and hears nothing more of the members"
        assert await states(here.desk) == ["used", "admitted"]
        assert here.nodes[0].nodes == 4


async def test_a_newcomer_takes_the_place_of_a_member_as_the_host_said(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as here:
        old = here.nodes[2].key
        invitation = await invited(here.desk, old)
        assert (await asks(here.desk, invitation)).state is State.WAITING
        await here.nodes[1].submit(Approve(1, True).encode(), of_members=True)
        await settled(1, here.nodes[0])
        members = here.nodes[0].members.configuration.members
        assert NEW.signer in members
        assert old not in members
        assert len(members) == 3


async def test_who_cannot_be_replaced_is_not_invited_for(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as here:
        with pytest.raises(Refusal, match="in its own place"):
            await invited(here.desk, here.nodes[0].key)
        with pytest.raises(Refusal, match="no such member"):
            await invited(here.desk, NEW.signer)
        gone = here.nodes[2]
        invitation = await invited(here.desk, gone.key)
        await gone.submit(Leave().encode(), of_members=True)
        await settled(1, here.nodes[0])
        answer = await asks(here.desk, invitation)
        assert answer.state is State.REFUSED
        assert "no member any more" in answer.words


async def test_nobody_is_heard_who_does_not_know_the_secret(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        invitation = await invited(desk)
        good = welcome.question(invitation, TRANSCRIPT, is_ready=True)
        guessed = welcome.question(replace(invitation, secret=bytes(16)), TRANSCRIPT, is_ready=True)
        forged = welcome.read_question(guessed)._replace(public=invitation.public)
        strangers = [
            guessed,
            welcome.codec.encode((1, *forged)),
            welcome.question(invitation, bytes(64), is_ready=True),
            b"noise",
            good[:-1],
        ]
        batches = here.nodes[0].counters.batches
        for raw in strangers:
            assert desk.guest(NEW, TRANSCRIPT, [raw]) is None
        assert desk.guest(NEW, TRANSCRIPT, [good]) is not None, "but for this one"
        assert here.nodes[0].counters.batches == batches
        assert await states(desk) == ["open"]


async def test_what_is_over_is_told_from_what_never_was(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk, node = here.desk, here.nodes[0]
        cancelled, late = await invited(desk), await invited(desk)
        (name,) = [e.name for e in await desk.listed() if cancelled.public.hex().startswith(e.name)]
        await desk.cancel(name)
        assert (await asks(desk, cancelled)).state is State.CANCELLED
        now_ms = node._wall_ms()
        await turn_clock(here, now_ms + HOUR_S * 1000 - 60_000)
        assert (await asks(desk, late, is_ready=False)).state is State.WELCOME
        other = await invited(desk)
        # All were off meanwhile: no batch tells of the new time before there is one.
        node._wall_ms = lambda: now_ms + 2 * HOUR_S * 1000
        while now_ticks() <= node._tick_at + TICK_TICKS:
            await trio.sleep(0.01)
        assert (await asks(desk, other)).state is State.EXPIRED
        batches = node.counters.batches
        assert (await asks(desk, other)).state is State.EXPIRED
        assert node.counters.batches == batches, "it is over for good, and costs no batch"
        assert (await asks(desk, late)).state is State.EXPIRED, "it came in time, but did no more"
        assert (await asks(desk, late, OTHER)).state is State.USED
        assert await states(desk) == ["expired", "used", "expired"]
        assert node.nodes == 1
        assert [e.state for e in await here.again().listed()] == await states(desk)


async def test_the_agreed_time_counts_and_not_a_clock_that_starts_in_1970(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        first, second = await invited(desk), await invited(desk)
        await turn_clock(here, 0)
        assert (await asks(desk, first, is_ready=False)).state is State.WELCOME
        third = await invited(desk)
        assert abs(third.until_s - second.until_s) <= HOUR_S // 10
        assert (await asks(desk, third, OTHER, is_ready=False)).state is State.WELCOME


async def test_invitations_survive_a_restart_and_nothing_that_lets_in_is_kept(
    tmp_path: Path,
) -> None:
    async with town(tmp_path, 1) as here:
        first, second = await invited(here.desk), await invited(here.desk)
        assert (await asks(here.desk, first, is_ready=False)).state is State.WELCOME
        kept = here.homes[0].invitations_file
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        for invitation in (first, second):
            assert invitation.secret not in kept.read_bytes()
        desk = here.again()
        assert await states(desk) == ["open", "used"]
        assert (await asks(desk, first, OTHER)).state is State.USED
        assert (await asks(desk, second, OTHER, is_ready=False)).state is State.WELCOME
        assert (await asks(desk, first)).state is State.ADMITTED


async def test_open_invitations_are_few_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        for _ in range(OPEN_MAX):
            await invited(desk)
        with pytest.raises(Refusal, match="are open already"):
            await invited(desk)
        for _ in range(ROWS_MAX):
            for each in await desk.listed():
                if each.state == "open":
                    await desk.cancel(each.name)
            newest = await invited(desk)
        assert len(await desk.listed()) == ROWS_MAX
        assert (await desk.listed())[0].state == "open"
        assert (await asks(desk, newest, is_ready=False)).state is State.WELCOME
        await desk.cancel((await desk.listed())[0].name)
        assert (await asks(desk, newest)).state is State.CANCELLED, "it was not proposed yet"
        with pytest.raises(Refusal, match="no such invitation"):
            await desk.cancel("00000000")


async def test_a_host_without_a_quorum_has_its_guest_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 1) as here:
        invitation, second = await invited(here.desk), await invited(here.desk)
        assert (await asks(here.desk, invitation)).state is State.ADMITTED
        await settled(1, here.nodes[0])
        monkeypatch.setattr(module, "PATIENCE_S", 0.2)
        answer = await asks(here.desk, second, OTHER)
        assert answer.state is State.LATER
        assert "new101" not in answer.words, "who is down is not for whoever has a code"
        with pytest.raises(NoQuorum):
            await here.desk.issue(HOUR_S, None, timeout_s=0.2)


async def test_a_guest_is_answered_one_question_at_a_time(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        invitation = await invited(here.desk)
        found: list[Answer] = []

        async def ask() -> None:
            found.append(await asks(here.desk, invitation, is_ready=False))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert sorted(answer.state for answer in found) == [State.WELCOME] + [State.LATER] * 2
        assert (await asks(here.desk, invitation)).state is State.ADMITTED


async def test_a_proposal_that_comes_too_late_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        invitation = await invited(desk)
        fresh = desk._roll
        roll = await fresh()

        async def stale() -> Any:
            return replace(roll, number=7)

        monkeypatch.setattr(desk, "_roll", stale)
        answer = await asks(desk, invitation)
        assert answer == Answer(State.LATER, "the members have changed meanwhile")
        monkeypatch.setattr(desk, "_roll", fresh)
        assert (await asks(desk, invitation)).state is State.ADMITTED


async def test_who_is_a_member_already_hears_that_and_leaves_the_code_to_others(
    tmp_path: Path,
) -> None:
    async with town(tmp_path, 2) as here:
        desk = here.desk
        invitation = await invited(desk)
        member = own_record(here.homes[1], keyfile.read(here.homes[1].key_file))
        assert (await asks(desk, invitation, member, is_ready=False)).state is State.WELCOME
        assert (await asks(desk, invitation, member)).state is State.ADMITTED
        assert await here.nodes[0].read(lambda database: database.roll().proposals) == ()
        assert await states(desk) == ["open"], "and has used up nothing"
        assert await desk._expected() == key(invitation)
        assert (await asks(desk, invitation)).state is State.WAITING


# --- for whom it vouches ------------------------------------------------------------------------


class Given:
    """What the links were told, by whom this board is."""

    def __init__(self, settings: Config) -> None:
        self.signer = Signer(
            keyfile.read(settings.key_file).seed, read_genesis(settings).cluster_id
        )
        self.last: dict[bytes, Verified[Pass]] = {}

    def __call__(self, given: Mapping[bytes, Verified[Pass]]) -> None:
        self.last = dict(given)

    async def until(self, *keys: bytes) -> None:
        while self.last.keys() != set(keys):
            await trio.sleep(0.01)


async def test_an_observer_has_passes_until_its_host_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PASSES_S", 0.01)
    async with town(tmp_path, 1) as here, trio.open_nursery() as nursery:
        desk, given, met = here.desk, Given(here.homes[0]), list[Record]()
        desk.met = met.append
        nursery.start_soon(desk.vouch, given.signer, given)
        issued = await desk.issue(HOUR_S, None, timeout_s=TIMEOUT_S, is_observer=True)
        assert issued.invited.is_observer
        invitation = Invitation.from_text(issued.code)
        assert await states(desk) == ["open"]
        assert (await asks(desk, invitation, is_ready=False)).state is State.WELCOME
        assert (await asks(desk, invitation)).state is State.OBSERVER
        assert (await asks(desk, invitation, OTHER)).state is State.USED
        assert await states(desk) == ["observes"]
        assert (desk.observers(), met, desk.records()) == (
            {NEW.signer: "new101"},
            [NEW],
            [NEW],
        )
        await given.until(NEW.signer)
        first = given.last[NEW.signer]
        assert first.message == Pass(NEW.signer, here.nodes[0].agreed_ms + PASS_MS)
        assert here.nodes[0].nodes == 1
        # Long after the invitation has ended the next pass comes, in time.
        later_ms = here.nodes[0].agreed_ms + PASS_MS - RENEWAL_MS + HOUR_S * 1000
        await turn_clock(here, later_ms)
        while given.last[NEW.signer] == first:
            await trio.sleep(0.01)
        assert given.last[NEW.signer].message.until_ms >= later_ms + PASS_MS
        assert (await asks(desk, invitation)).state is State.OBSERVER
        # As after a restart: it is not known by what name.
        again = here.again()
        assert again.observers() == {NEW.signer: short(NEW.signer)}
        with pytest.raises(Refusal, match="no such observer"):
            await desk.dismiss(OTHER.signer)
        await desk.dismiss(NEW.signer)
        await given.until()
        assert await states(desk) == ["ended"]
        assert (await asks(desk, invitation)).state is State.EXPIRED
        with pytest.raises(Refusal, match="no such observer"):
            await desk.dismiss(NEW.signer)
        nursery.cancel_scope.cancel()


async def test_cancelling_ends_an_observer_too(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as here:
        desk = here.desk
        issued = await desk.issue(HOUR_S, None, timeout_s=TIMEOUT_S, is_observer=True)
        invitation = Invitation.from_text(issued.code)
        assert (await asks(desk, invitation)).state is State.OBSERVER
        await desk.cancel(issued.invited.name)
        assert (desk.observers(), await states(desk)) == ({}, ["ended"])
        assert (await asks(desk, invitation)).state is State.CANCELLED


async def test_who_waits_for_votes_has_a_pass_until_it_is_let_in_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PASSES_S", 0.01)
    async with town(tmp_path, 3) as here, trio.open_nursery() as nursery:
        desk, given = here.desk, Given(here.homes[0])
        nursery.start_soon(desk.vouch, given.signer, given)
        first, second = [await invited(desk) for _ in range(2)]
        assert (await asks(desk, first, is_ready=False)).state is State.WELCOME
        assert await desk._passes(given.signer) == {}, "it is not proposed yet"
        assert (await asks(desk, first)).number == 1
        assert (await asks(desk, second, OTHER)).number == 2
        await given.until(NEW.signer, OTHER.signer)
        assert (desk.observers(), desk.records()) == ({}, [])
        await here.nodes[1].submit(Approve(1, True).encode(), of_members=True)
        await given.until(OTHER.signer)
        assert NEW.signer in here.nodes[0].members.configuration
        for node in here.nodes[1:]:
            await node.submit(Approve(2, False).encode(), of_members=True)
        await given.until()
        nursery.cancel_scope.cancel()


async def test_who_was_an_observer_and_is_thrown_out_as_a_member_does_not_follow_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PASSES_S", 0.01)
    async with town(tmp_path, 1) as here, trio.open_nursery() as nursery:
        desk, given = here.desk, Given(here.homes[0])
        nursery.start_soon(desk.vouch, given.signer, given)
        issued = await desk.issue(HOUR_S, None, timeout_s=TIMEOUT_S, is_observer=True)
        assert (await asks(desk, Invitation.from_text(issued.code))).state is State.OBSERVER
        await given.until(NEW.signer)
        assert (await asks(desk, await invited(desk))).state is State.ADMITTED
        await given.until()
        while desk.observers():
            await trio.sleep(0.01)
        assert await states(desk) == ["admitted", "ended"]
        nursery.cancel_scope.cancel()


async def test_a_board_that_is_no_member_vouches_for_nobody(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as here:
        desk, given = here.desk, Given(here.homes[0])
        issued = await desk.issue(HOUR_S, None, timeout_s=TIMEOUT_S, is_observer=True)
        assert (await asks(desk, Invitation.from_text(issued.code))).state is State.OBSERVER
        assert list(await desk._passes(given.signer)) == [NEW.signer]
        await here.nodes[0].submit(Leave().encode(), of_members=True)
        await settled(1, here.nodes[0])
        assert await desk._passes(given.signer) == {}


async def test_observers_are_few_and_stay_when_old_invitations_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OBSERVERS_MAX", 1)
    async with town(tmp_path, 1) as here:
        desk = here.desk

        async def one() -> Invitation:
            issued = await desk.issue(HOUR_S, None, timeout_s=TIMEOUT_S, is_observer=True)
            return Invitation.from_text(issued.code)

        assert (await asks(desk, await one())).state is State.OBSERVER
        with pytest.raises(Refusal, match="vouches for 1 observers already"):
            await one()
        for _ in range(ROWS_MAX + 1):
            await invited(desk)
            await desk.cancel((await desk.listed())[0].name)
        assert len(await desk.listed()) == ROWS_MAX
        assert desk.observers() == {NEW.signer: "new101"}
        await desk.dismiss(NEW.signer)
        await one()


# --- as owners type it, in processes of their own -----------------------------------------------


class NewBoard:
    """A board that is no node yet, and what its owner types."""

    def __init__(self, path: Path, port: int) -> None:
        self.path, self.port = path, port

    def joins(self, code: str, *more: str) -> subprocess.Popen[str]:
        address = ["--name", self.path.name, "--address", f"127.0.0.1:{self.port}"]
        return self.types("join", *code.split(), *address, *more)

    def types(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "aegis_edge", "--home", str(self.path), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def comes(self, code: str, *more: str) -> tuple[int, str, str]:
        """The exit code of `join`, and what it says."""
        process = self.joins(code, *more)
        said, complaint = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, said, complaint

    def starts(self) -> Board:
        return Board(config.load({"home": self.path}, {}))


def code_of(said: str) -> str:
    words = shlex.split(said)
    assert words[:2] == ["aegis-edge", "join"]
    return words[2]


def new_boards(path: Path, count: int) -> list[NewBoard]:
    names = ("barn", "cellar", "dock", "elm", "farm")
    ports = free_ports(count)
    return [NewBoard(path / name, port) for name, port in zip(names, ports, strict=False)]


@pytest.fixture
def running() -> Iterator[list[Board]]:
    boards: list[Board] = []
    yield boards
    for board in boards:
        board.stop()


def status_of(settings: Config) -> dict[str, Any]:
    with Client(settings.api_socket) as kb:
        return kb.status()


def test_owners_invite_and_one_board_becomes_three_and_a_lost_one_is_replaced(
    tmp_path: Path, running: list[Board]
) -> None:
    (founder,) = cluster(tmp_path, 1)
    barn, cellar, dock = new_boards(tmp_path, 3)
    running.append(Board(founder))
    with Client(founder.api_socket) as kb:
        kb.put("from", "the beginning")
    code, said, _ = barn.comes(code_of(running[0].types("invite")))
    assert code == 0
    assert "This board is a member now" in said
    running.append(barn.starts())
    barn_home = running[1].settings
    eventually(lambda: status_of(barn_home)["is_member"])

    second = code_of(running[0].types("invite", "--for", "2d"))
    waiting = cellar.joins(second)
    assert waiting.stderr is not None
    line = waiting.stderr.readline()
    assert line.startswith("proposal 2 waits for others: 1 of 2 said yes")
    assert "aegis-edge approve 2" in line
    assert "cellar" in running[0].types("proposals")
    # The host is gone for a while, and knows its guest again.
    running[0].stop()
    running[0] = Board(founder)
    running[1].types("approve", "2")
    said, _ = waiting.communicate(timeout=TIMEOUT_S)
    assert waiting.returncode == 0
    assert "This board is a member now" in said
    running.append(cellar.starts())
    cellar_home = running[2].settings
    eventually(lambda: status_of(cellar_home)["is_member"])
    with Client(cellar_home.api_socket) as kb:
        assert kb.get("from", linearizable=True).value == "the beginning"

    running.pop().stop()  # cellar is lost
    third = code_of(running[0].types("replace", "cellar"))
    code, said, _ = dock.comes(third, "--no-wait", "--json")
    assert (code, json.loads(said)["state"]) == (0, "waiting")
    running.append(dock.starts())
    running[1].types("approve", str(json.loads(said)["proposal"]))
    dock_home = running[2].settings
    eventually(lambda: status_of(dock_home)["is_member"])
    names = {line.split()[1] for line in running[0].types("members").splitlines()[1:-1]}
    assert names == {founder.name, "barn", "dock"}
    with Client(dock_home.api_socket) as kb:
        assert kb.get("from", linearizable=True).value == "the beginning"
    listed = json.loads(running[0].types("invite", "list", "--json"))["invitations"]
    assert [each["state"] for each in listed] == ["admitted", "used", "admitted"]


def test_a_board_that_is_run_as_it_joins_keeps_nobody_waiting(
    tmp_path: Path, running: list[Board]
) -> None:
    (founder,) = cluster(tmp_path, 1)
    (barn,) = new_boards(tmp_path, 1)
    running.append(Board(founder))
    process = barn.joins(code_of(running[0].types("invite")), "--run", "--json")
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "member"
        assert json.loads(process.stdout.readline())["ready"]
        with Client(founder.api_socket) as kb:
            kb.put("both", "agreed")
        assert status_of(config.load({"home": barn.path}, {}))["nodes"] == 2
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


def test_a_code_that_is_no_good_lets_nobody_in_and_says_why(
    tmp_path: Path, running: list[Board]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (founder,), (stranger,) = cluster(here, 1), cluster(there, 1)
    barn, cellar, dock, elm = new_boards(tmp_path, 4)
    host = Board(founder)
    running.append(host)

    good = code_of(host.types("invite"))
    typo = good[:21] + ("A" if good[21] != "A" else "B") + good[22:]
    code, _, complaint = barn.comes(typo)
    assert (code, barn.path.exists()) == (2, False)
    assert "typing error" in complaint

    real = Invitation.from_text(good)
    code, _, complaint = barn.comes(replace(real, secret=bytes(16)).to_text())
    assert code == 8
    assert "does not know this code" in complaint

    listed = json.loads(host.types("invite", "list", "--json"))["invitations"]
    host.types("invite", "cancel", listed[0]["invitation"])
    code, _, complaint = barn.comes(good)
    assert (code, "was cancelled" in complaint) == (8, True)

    used = code_of(host.types("invite"))
    assert barn.comes(used)[0] == 0
    running.append(barn.starts())
    code, _, complaint = cellar.comes(used)
    assert (code, "by another board" in complaint) == (8, True)
    assert not (cellar.path / "genesis").exists()

    late = code_of(host.types("invite"))
    host.stop()
    rows = guestlist.read(founder.invitations_file)
    past = [row if row.guest else replace(row, until_ms=1) for row in rows]
    guestlist.write(founder.invitations_file, past)
    code, _, complaint = cellar.comes(late)
    assert (code, "cannot be reached" in complaint) == (1, True)
    assert "nothing listens" in complaint
    running[0] = host = Board(founder)
    code, _, complaint = cellar.comes(late)
    assert (code, "has expired" in complaint) == (8, True)

    running.append(Board(stranger))
    elsewhere = code_of(running[-1].types("invite"))
    code, _, complaint = barn.comes(elsewhere)
    assert (code, "belongs to another cluster" in complaint) == (78, True)
    # The host of one cluster under the name of another.
    mixed = replace(Invitation.from_text(elsewhere), cluster_id=real.cluster_id).to_text()
    code, _, complaint = dock.comes(mixed)
    assert (code, "refused the handshake" in complaint) == (1, True)
    # Another node than the one that is named.
    mixed = replace(Invitation.from_text(elsewhere), host=real.host).to_text()
    code, _, complaint = elm.comes(mixed)
    assert (code, "another node answers there" in complaint) == (1, True)
    assert status_of(founder)["nodes"] == 2
    assert status_of(stranger)["nodes"] == 1
    # Who has no patience may go: what was asked stays asked.
    waiting = dock.joins(code_of(host.types("invite")))
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith("proposal 2 waits")
    waiting.send_signal(signal.SIGINT)
    _, complaint = waiting.communicate(timeout=TIMEOUT_S)
    assert waiting.returncode == 130
    assert "Traceback" not in complaint
    assert "dock" in host.types("proposals")


def test_nothing_secret_is_in_a_log_or_a_file_of_the_host(tmp_path: Path) -> None:
    (founder,) = cluster(tmp_path, 1)
    (barn,) = new_boards(tmp_path, 1)
    log = tmp_path / "log"
    with log.open("w") as file:
        words = ["--home", founder.directory, "run", "--json", "--log-level", "debug"]
        process = subprocess.Popen(
            [sys.executable, "-m", "aegis_edge", *words],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"]
        with Client(founder.api_socket) as kb:
            code = kb.invite(HOUR_S)["code"]
        assert barn.comes(code)[0] == 0
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
    assert "comes by invitation" in log.read_text()
    secret = Invitation.from_text(code).secret
    spoken = [code, code.replace("-", ""), code[-20:], secret.hex()]
    for path in [log, *(p for p in founder.directory.rglob("*") if p.is_file())]:
        data = path.read_bytes()
        assert secret not in data
        assert not any(text.encode() in data for text in spoken), path

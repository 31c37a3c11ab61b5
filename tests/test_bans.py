"""The desk of bans by hand: kept over restarts, and a warning where they cost the quorum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.api.messages import Refusal
from aegis_edge.bans import Bans
from aegis_edge.client import connect
from aegis_edge.client.concurrent import TrioClient
from aegis_edge.disk import banlist
from aegis_edge.disk.banlist import ROWS_MAX, Row
from aegis_edge.net import clock
from aegis_edge.pbft.configuration import Configuration
from tests.test_node import Running, cluster, put

OWN, ANNA, BERT, CARL = (bytes([n]) * 32 for n in range(4))
STRANGER = b"s" * 32
FOUR = Configuration(0, (OWN, ANNA, BERT, CARL), 1)


class Links:
    """Links that remember whom they are to keep out."""

    def __init__(self) -> None:
        self.bans: dict[bytes, float] = {}
        self.lifted: list[bytes] = []

    def ban(self, peer: bytes, until_ticks: float) -> None:
        self.bans[peer] = until_ticks

    def lift(self, peer: bytes) -> None:
        self.bans.pop(peer, None)
        self.lifted.append(peer)

    def banned(self) -> Mapping[bytes, float]:
        now = clock.now_ticks()
        return {peer: until for peer, until in self.bans.items() if now < until}


class Board:
    """A node of `of` whose clock says `now_ms`."""

    def __init__(self, path: Path, of: Configuration = FOUR) -> None:
        self.path, self.of = path, of
        self.now_ms = 1_800_000_000_000
        self.start()

    def start(self) -> None:
        self.links = Links()
        links = cast(Any, self.links)
        self.desk = Bans(self.path / "bans", OWN, links, lambda: self.of, lambda: self.now_ms)

    def left(self, key: bytes) -> float:
        return self.links.bans[key] - clock.now_ticks()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


async def test_a_ban_lasts_over_restarts_for_as_long_as_it_should(
    board: Board, autojump_clock: MockClock
) -> None:
    await board.desk.ban(ANNA, 3_600)
    assert board.left(ANNA) == 3_600_000
    assert board.desk.listed() == [(ANNA, 3_600_000)]
    board.now_ms += 600_000
    board.start()
    assert board.left(ANNA) == 3_000_000
    board.now_ms = 0
    board.start()
    assert board.left(ANNA) == 3_600_000, "the clock fell back: not longer than it was meant to"
    board.now_ms = 1_900_000_000_000
    board.start()
    assert board.desk.listed() == []


async def test_a_ban_without_an_end_lasts_until_it_is_lifted(
    board: Board, autojump_clock: MockClock
) -> None:
    await board.desk.ban(ANNA, 60)
    await board.desk.ban(ANNA, None)
    board.start()
    assert board.links.bans == {ANNA: math.inf}
    assert board.desk.listed() == [(ANNA, None)]
    await board.desk.lift(ANNA)
    assert board.links.bans == {}
    board.start()
    assert board.links.bans == {}


async def test_what_was_earned_can_be_lifted_too(board: Board, autojump_clock: MockClock) -> None:
    await board.desk.lift(BERT)
    assert board.links.lifted == [BERT]
    assert not (board.path / "bans").exists(), "there was nothing to write"


async def test_the_owner_hears_what_it_may_cost(board: Board, autojump_clock: MockClock) -> None:
    board.of = Configuration(0, (*FOUR.members, b"d" * 32, b"e" * 32), 1)
    assert await board.desk.ban(ANNA, None) == "", "of six another one may be off still"
    board.of = FOUR
    assert "needs every member" in await board.desk.ban(ANNA, None)
    warning = await board.desk.ban(BERT, 60)
    assert "it takes 3 of 4 members to decide" in warning
    assert "no more than 1 others" in warning
    await board.desk.lift(ANNA)
    await board.desk.lift(BERT)
    assert await board.desk.ban(STRANGER, None) == "", "it is no member"
    board.of = Configuration(1, tuple(sorted((ANNA, BERT, CARL, STRANGER))), 1)
    assert await board.desk.ban(ANNA, None) == "", "this board does not decide"


async def test_nobody_keeps_itself_out(board: Board, autojump_clock: MockClock) -> None:
    with pytest.raises(Refusal, match="cannot keep itself out"):
        await board.desk.ban(OWN, None)


async def test_the_list_is_bounded_and_what_is_over_makes_room(
    board: Board, autojump_clock: MockClock
) -> None:
    many = [n.to_bytes(32, "big") for n in range(1_000, 1_000 + ROWS_MAX)]
    banlist.write(board.path / "bans", (Row(key, board.now_ms, 60_000) for key in many))
    board.start()
    with pytest.raises(Refusal, match="kept out already"):
        await board.desk.ban(ANNA, 60)
    assert ANNA not in board.links.bans
    await board.desk.ban(many[0], 60)
    board.now_ms += 60_000
    await board.desk.ban(ANNA, 60)
    assert [row.key for row in banlist.read(board.path / "bans")] == [ANNA]


async def test_a_ban_that_cannot_be_kept_is_none(board: Board, autojump_clock: MockClock) -> None:
    (board.path / "bans").mkdir()
    with pytest.raises(Refusal) as caught:
        await board.desk.ban(ANNA, None)
    assert caught.value.code == "internal"
    assert board.links.bans == {}


# --- whole nodes -------------------------------------------------------------------------------


async def state(kb: TrioClient, of: str) -> dict[str, Any]:
    (found,) = (peer for peer in (await kb.peers())["peers"] if peer["name"] == of)
    return dict(found)


async def test_who_is_banned_gets_no_link_also_after_a_restart_until_it_is_let_in(
    tmp_path: Path,
) -> None:
    homes = cluster(tmp_path, 3)
    first, second, _ = homes
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            running = Running(nursery)
            nodes = [await running.start(each) for each in homes]
            async with connect(str(first.api_socket)) as kb:
                while len(nodes[0].status()["reachable"]) < 2:
                    await trio.sleep(0.05)
                banned = (await state(kb, second.name))["peer"]
                warning = (await kb.ban(banned, 3_600))["warning"]
                assert "needs every member that is not banned" in warning
                while (await state(kb, second.name))["state"] != "banned":
                    await trio.sleep(0.05)
                await nodes[0].submit(put("without it"))
            await running.stop(first)
            again = await running.start(first)
            async with connect(str(first.api_socket)) as kb:
                while not again.has_quorum:
                    await trio.sleep(0.05)
                seen = await state(kb, second.name)
                assert seen["state"] == "banned"
                assert 3_500_000 < seen["ban"]["left_ticks"] <= 3_600_000
                assert [each["peer"] for each in (await kb.peers())["bans"]] == [banned]
                await kb.unban(banned)
                while (await state(kb, second.name))["state"] != "linked":
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()

"""A checkpoint is lacking until its root was taken; news of one reach all who wait."""

from __future__ import annotations

import trio
import trio.testing

from aegis_edge.replication.checkpoints import Checkpoints


def test_one_is_lacking_while_it_is_wanted_until_a_later_root_is_taken() -> None:
    checkpoints = Checkpoints()
    assert not checkpoints.is_lacking
    with checkpoints.wanted(0):
        assert checkpoints.is_lacking
        checkpoints.took(64)
        assert not checkpoints.is_lacking
    with checkpoints.wanted(63):
        assert not checkpoints.is_lacking, "the root at 64 is on its way already"
        with checkpoints.wanted(70), checkpoints.wanted(65):
            checkpoints.took(68)
            assert checkpoints.is_lacking
        assert not checkpoints.is_lacking, "who wanted it is gone"
        with checkpoints.wanted(70):
            assert checkpoints.is_lacking
            checkpoints.took(128)
            assert not checkpoints.is_lacking


async def test_news_reach_all_who_wait_and_nobody_who_comes_later() -> None:
    checkpoints = Checkpoints()
    reached = []

    async def wait(name: str) -> None:
        await checkpoints.news.wait()
        reached.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.testing.wait_all_tasks_blocked()
        checkpoints.tell()
        nursery.start_soon(wait, "c")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(reached) == ["a", "b"]
        nursery.cancel_scope.cancel()

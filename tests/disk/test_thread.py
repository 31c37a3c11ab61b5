"""The database's thread: one at a time, in order, each to its end."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from aegis_edge.disk.thread import DatabaseThread


async def test_jobs_run_in_order_in_one_thread_that_is_not_the_loops() -> None:
    thread = DatabaseThread()
    idents = [await thread.call(threading.get_ident) for _ in range(3)]
    assert len(set(idents)) == 1
    assert idents[0] != threading.get_ident()
    done: list[int] = []
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(thread.call, lambda number=number: done.append(number))
            await trio.testing.wait_all_tasks_blocked()
    assert done == [0, 1, 2]
    thread.close()


async def test_a_job_that_fails_fails_for_its_caller_only() -> None:
    thread = DatabaseThread()
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 // 0)
    assert await thread.call(lambda: 1) == 1
    thread.close()


async def test_a_job_under_way_is_not_abandoned() -> None:
    thread = DatabaseThread()
    gate = threading.Event()
    finished: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.call, lambda: finished.append(gate.wait(5)))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        gate.set()
    assert finished == [True]
    thread.close()

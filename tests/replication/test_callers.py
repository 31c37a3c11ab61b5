from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from aegis_edge.knowledge.operations import Outcome, Status
from aegis_edge.replication import callers
from aegis_edge.replication.callers import Callers
from aegis_edge.replication.errors import Busy, Stopped, TooLarge
from aegis_edge.wire.messages import BUNDLE_OPERATIONS_MAX, OPERATION_BYTES_MAX


def ignore(_: object) -> None:
    pass


def outcome(revision: int) -> Outcome:
    return Outcome(Status.DONE, revision, 0)


def test_outcomes_find_those_who_wait_for_them() -> None:
    waiting, heard = Callers(), []
    for number in range(3):
        waiting.enqueue(
            b"%d" % number, lambda answer, number=number: heard.append((number, answer))
        )
    assert waiting.form() == (b"0", b"1", b"2")
    waiting.bundled(7, 1)
    assert len(waiting) == 3
    assert waiting.executed(7, 1, [outcome(r) for r in (4, 5, 6)]) == 3
    assert heard == [(0, outcome(4)), (1, outcome(5)), (2, outcome(6))]
    assert len(waiting) == 0
    assert waiting.executed(7, 1, []) == 0, "a bundle of an earlier life has nobody waiting"


def test_a_bundle_takes_as_much_as_it_holds_and_leaves_the_rest_in_line() -> None:
    waiting = Callers()
    for _ in range(BUNDLE_OPERATIONS_MAX + 1):
        waiting.enqueue(b"x", ignore)
    assert len(waiting.form()) == BUNDLE_OPERATIONS_MAX
    waiting.bundled(1, 1)
    assert len(waiting.form()) == 1


def test_an_operation_that_nobody_waits_for_any_more_is_not_taken() -> None:
    waiting = Callers()
    given_up, kept = waiting.enqueue(b"a", ignore), waiting.enqueue(b"b", ignore)
    assert len(waiting) == 2
    assert given_up.withdraw(), "it was in no bundle: it never happens"
    assert len(waiting) == 1, "and counts no more"
    assert waiting.has_pending()
    assert waiting.form() == (b"b",)
    waiting.bundled(1, 1)
    assert not kept.withdraw(), "it is taken: it may happen"
    assert len(waiting) == 1


def test_what_waits_is_bounded_in_bytes_and_each_operation_too() -> None:
    waiting = Callers()
    with pytest.raises(TooLarge):
        waiting.enqueue(bytes(OPERATION_BYTES_MAX + 1), ignore)
    for _ in range(callers.PENDING_BYTES_MAX // OPERATION_BYTES_MAX):
        waiting.enqueue(bytes(OPERATION_BYTES_MAX), ignore)
    with pytest.raises(Busy):
        waiting.enqueue(bytes(OPERATION_BYTES_MAX), ignore)


def test_where_links_carry_little_no_bundle_is_large() -> None:
    waiting = Callers(1000)
    with pytest.raises(TooLarge, match="the bound is 1000 at this SECURITY_LEVEL"):
        waiting.enqueue(bytes(1001), ignore)
    for size in (1000, 400, 600, 1):
        waiting.enqueue(bytes(size), ignore)
    formed = []
    for number in range(3):
        formed.append([len(operation) for operation in waiting.form()])
        waiting.bundled(1, number)
    assert formed == [[1000], [400, 600], [1]]


@pytest.mark.parametrize("way", ["formed", "given up", "refused"])
async def test_those_who_wait_for_room_hear_of_it(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "PENDING_OPERATIONS_MAX", 1)
    waiting = Callers()
    ticket = waiting.enqueue(b"x", ignore)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.room)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        if way == "formed":
            waiting.form()
        elif way == "given up":
            ticket.withdraw()
            assert not waiting.has_pending()
        else:
            waiting.refuse(Stopped("the end"))


def test_what_waits_when_less_goes_at_a_time_goes_alone() -> None:
    waiting = Callers()
    for size in (600, 600, 100, 100):
        waiting.enqueue(bytes(size), ignore)
    waiting.bound(500)
    for sizes in ([600], [600], [100, 100]):
        assert [len(operation) for operation in waiting.form()] == sizes
        waiting.bundled(1, 1 + len(sizes))
    with pytest.raises(TooLarge, match="bound is 500"):
        waiting.enqueue(bytes(501), ignore)
    waiting.bound(600)
    waiting.enqueue(bytes(501), ignore)


def test_at_the_end_everybody_is_told_wherever_they_wait() -> None:
    waiting = Callers()
    heard: list[Any] = []
    waiting.enqueue(b"a", heard.append)
    waiting.form()
    waiting.bundled(1, 1)
    waiting.enqueue(b"b", heard.append)
    waiting.enqueue(b"c", heard.append).withdraw()
    end = Stopped("the end")
    waiting.refuse(end)
    assert heard == [end, end]
    assert len(waiting) == 0

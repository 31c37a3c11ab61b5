"""Plays that the simulator found first: each one was a mistake in the replica once."""

from __future__ import annotations

import pytest

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Effect, Persist, TakeRoot
from aegis_edge.wire.messages import Body, Bundle, Commit, Prepare, Proposal, Status
from tests.pbft.stage import Stage, kind_of


def test_a_body_that_comes_while_the_view_changes_gets_no_vote_in_the_old_view() -> None:
    stage = Stage(4)
    d = stage["D"].key
    stage.lost = lambda sender, to, raw: (
        kind_of(stage, raw) is Commit or (to == d and kind_of(stage, raw) in (Proposal, Body))
    )
    stage.submit("C", b"hidden")
    stage.crash("A")
    stage.lost = lambda sender, to, raw: to == d and kind_of(stage, raw) in (Proposal, Body)
    stage.wait(500)
    assert stage["D"].replica.view == 1
    named = stage["D"].replica.log.slots[1].pre_prepare
    assert named is not None
    assert not stage["D"].replica.log.slots[1].journalled
    body = stage["B"].replica.log.body(named.message.digest)
    assert body is not None
    stage.lost = lambda *_: True  # B falls silent: D gives up the view, and the body comes late
    stage["D"].replica._start_view_change(2)
    said: list[type] = []
    stage.lost = lambda sender, to, raw: bool(said.append(kind_of(stage, raw)))
    stage.post(stage["B"].key, d, Body(body).pack())
    stage.run()
    assert stage["D"].replica.changing
    assert Prepare not in said
    assert stage["D"].replica.log.body(named.message.digest) == body


def test_a_member_that_asks_for_a_view_alone_still_gets_its_operations_executed() -> None:
    stage = Stage(4)
    stage["B"].replica._start_view_change(1)
    stage.submit("B", b"first")
    stage.lost = lambda sender, to, raw: sender == stage["B"].key
    stage.submit("B", b"second")
    stage.lost = lambda *_: False
    stage.wait(3000)
    assert stage.agree() == [b"first", b"second"]
    assert stage["B"].replica.changing, "nobody had a reason to follow"


@pytest.mark.parametrize("kind", [journal.VIEW_CHANGE, journal.NEW_VIEW])
def test_a_crash_between_the_records_of_a_view_change_is_no_trap(kind: int) -> None:
    """Each record is durable by itself: a restart may find any first part of what a step wrote."""
    stage = Stage(4)
    stage.submit("A", b"before")
    stage.crash("A")
    stage.submit("C", b"after")
    d = stage["D"]
    step, written = d.step, []

    def watch(event: object) -> list[Effect]:
        effects = step(event)
        written.extend(e for e in effects if isinstance(e, Persist))
        return effects

    d.step = watch  # type: ignore[method-assign]
    while not any(p.record.kind == kind for p in written):
        before = dict(d.records)
        written.clear()
        stage.tick(10)
    d.step = step  # type: ignore[method-assign]
    for count in range(len(written) + 1):
        d.records = dict(before)
        for persist in written[:count]:
            record = persist.record
            d.records[record.kind, record.view, record.sequence] = record
        d.start()
        stage.link_all()
        stage.tick(stage.parameters.status_ticks)
        assert d.replica.view <= 1
    stage.wait(3000)
    assert stage.agree("B", "C", "D") == [b"before", b"after"]


def test_a_primary_that_restarts_proposes_nothing_else_where_its_new_view_names_a_batch() -> None:
    stage = Stage(4)
    b = stage["B"].key
    stage.lost = lambda sender, to, raw: (
        kind_of(stage, raw) is Commit or (to == b and kind_of(stage, raw) in (Proposal, Body))
    )
    stage.submit("C", b"hidden")
    stage.crash("A")
    stage.lost = lambda sender, to, raw: to == b and kind_of(stage, raw) is Body
    stage.wait(500)
    opened = stage["B"].replica.log.slots[1].pre_prepare
    assert opened is not None, "B leads view 1, and knows only the digest of what comes first"
    stage.crash("B", notice=False)
    stage["B"].start()
    stage.submit("B", b"mine", run=False)
    assert stage["B"].replica.view == 1
    assert stage["B"].replica.log.slots[1].pre_prepare == opened
    stage.restart("B")
    stage.lost = lambda *_: False
    stage.wait(3000)
    assert stage.agree("B", "C", "D")[:1] == [b"hidden"]


def test_a_member_that_asks_for_a_view_alone_falls_quiet() -> None:
    stage = Stage(4)
    stage["B"].replica._start_view_change(1)
    stage.wait(10_000)
    heard: list[bytes] = []
    stage.lost = lambda sender, to, raw: bool(heard.append(sender))
    stage.wait(10_000)
    assert heard.count(stage["B"].key) < 4 * 3 * 10_000 // stage.parameters.status_ticks


def test_members_that_ask_for_different_views_meet_again() -> None:
    stage = Stage(4)
    stage.crash("A")
    for name, view in (("B", 2), ("C", 2), ("D", 3)):
        stage[name].replica._start_view_change(view)
    stage.submit("B", b"op")
    stage.wait(40_000)
    assert stage.agree("B", "C", "D") == [b"op"]
    assert len({stage[name].replica.view for name in "BCD"}) == 1


def test_a_bundle_that_only_one_member_holds_is_relayed_before_anybody_is_suspected() -> None:
    stage = Stage(4)
    a, c, d = (stage[name].key for name in "ACD")
    stage.lost = lambda sender, to, raw: (
        (sender == c and to != d) or (sender == d and kind_of(stage, raw) is Bundle)
    )
    stage.submit("C", b"op")
    stage.wait(stage.parameters.timeout_ticks // 4 + 100)
    assert stage["D"].replica.pool.waiting(c)
    assert not stage["A"].replica.pool.waiting(c)
    stage.crash("C")
    stage.lost = lambda *_: False
    stage.wait(2 * stage.parameters.timeout_ticks)
    assert stage.agree("A", "B", "D") == [b"op"]
    assert {stage[name].replica.view for name in "ABD"} == {0}, "nobody was at fault"
    assert a == stage["A"].replica.primary


def test_an_old_word_that_a_faulty_member_passes_on_is_no_news() -> None:
    stage = Stage(4)
    a, b, d = (stage[name].key for name in "ABD")
    heard: dict[type, bytes] = {}
    stage.lost = lambda sender, to, raw: bool(
        sender == b and heard.setdefault(kind_of(stage, raw), raw) is None
    )
    stage.wait(2 * stage.parameters.status_ticks)
    stage.submit("C", b"op")
    stage.wait(10_000)
    stage.submit("C", b"op")
    clock_ms = stage["A"].replica.readings.clock_ms(b)
    answers: list[bytes] = []
    for kind in (Status, Commit):
        stage.post(d, a, heard[kind])
    stage.lost = lambda sender, to, raw: bool(sender == a and answers.append(raw))
    stage.run()
    assert stage["A"].replica.readings.clock_ms(b) == clock_ms, "the time does not stand still"
    assert answers == [], "and B is not flooded with what it once lacked"


def test_a_root_that_was_lost_behind_the_last_execution_holds_nobody_up() -> None:
    stage = Stage(4)
    d = stage["D"]
    perform = d.perform
    d.perform = lambda e: None if isinstance(e, TakeRoot) else perform(e)  # type: ignore[method-assign]
    for i in range(5):
        stage.submit("A", b"%d" % i)
    assert (d.replica.executed, d.replica.stable) == (5, 0), "the root after 4 was never taken"
    d.perform = perform  # type: ignore[method-assign]
    stage.crash("D")
    stage.restart("D")
    stage.wait(2 * stage.parameters.status_ticks)
    assert (d.replica.stable, d.replica.halted) == (4, None)

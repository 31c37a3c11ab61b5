"""Plays that the simulator found first: each one was a mistake in the replica once."""

from __future__ import annotations

from aegis_edge.wire import messages
from aegis_edge.wire.messages import (
    Body,
    Commit,
    Prepare,
    Proposal,
)
from tests.pbft.stage import Stage


def kind_of(stage: Stage, raw: bytes) -> type:
    message = messages.read(raw, stage["A"].opener.open)
    return type(getattr(message, "message", message))


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

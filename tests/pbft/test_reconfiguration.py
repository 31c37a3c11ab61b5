"""Plays about members who come and go: one configuration ends with a batch, the next begins.

The operations here are names of members with a sign before them; when they are in effect is the
state machine's business, and this stage's rule is: at once.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.events import (
    BatchesGone,
    BeginTransfer,
    Effect,
    LinkDown,
    PartJudged,
    Received,
    RowsRotten,
    Send,
    SendCommitted,
    Settled,
)
from aegis_edge.wire.envelope import Claim
from aegis_edge.wire.messages import Commit, FetchBatches, StableCheckpoint, Status
from tests.pbft.parts import stable
from tests.pbft.stage import PARAMETERS, Stage


def numbers(stage: Stage, names: str) -> list[int]:
    return [stage[name].replica.configuration.number for name in names]


def follow(stage: Stage, *names: str) -> None:
    """Time passes until these have executed what the first actor has."""
    for _ in range(100):
        if all(stage[name].replica.executed == stage["A"].replica.executed for name in names):
            return
        stage.wait(500)
    raise AssertionError("somebody is left behind")


def test_a_member_is_added_and_has_a_vote() -> None:
    stage = Stage(4, outsiders=1)
    stage.submit("B", b"before")
    stage.change_members("C", "+E")
    follow(stage, "E")
    assert numbers(stage, "ABCDE") == [1] * 5
    assert stage["E"].replica.configuration.members == tuple(stage.by_key)
    stage.submit("E", b"mine")
    assert stage.agree() == [b"before", b"+E", b"mine"]
    stage.crash("A")
    stage.submit("B", b"with four of five")
    stage.wait(20_000)
    assert stage.agree(*"BCDE")[-1] == b"with four of five"


def test_one_board_becomes_four_and_then_two() -> None:
    stage = Stage(1, outsiders=3)
    for step, change in enumerate(("+B", "+C", "+D", "-A", "-B"), 1):
        stage.change_members("D" if change[0] == "-" else "A", change)
        stage.wait(15_000)
        stage.submit("D" if step > 3 else "A", b"put %d" % step)
        stage.wait(5_000)
    assert numbers(stage, "CD") == [5, 5]
    assert stage["C"].replica.configuration.members == (stage["C"].key, stage["D"].key)
    assert [op for op in stage.agree("C", "D") if op.startswith(b"put")] == [
        b"put %d" % step for step in range(1, 6)
    ]


def test_the_members_go_by_another_interval_from_one_batch_on() -> None:
    stage = Stage(4)
    for number in range(5):
        stage.submit("A", b"%d" % number)
    assert {actor.replica.stable for actor in stage.actors} == {4}
    stage.change_members("B", "=3")  # the batch at 6 ends the configuration of four
    assert numbers(stage, "ABCD") == [1] * 4
    for actor in stage.actors:
        parameters = actor.replica.parameters
        assert (parameters.checkpoint_interval, parameters.window) == (3, 6)
        assert (actor.replica.stable, actor.replica.log.high) == (6, 12)
    for number in range(2):
        stage.submit("C", b"later %d" % number)
    assert {actor.replica.stable for actor in stage.actors} == {6}, "8 is no checkpoint any more"
    stage.submit("D", b"the third")
    assert {actor.replica.stable for actor in stage.actors} == {9}
    assert stage["A"].replica.past.denies(9, b"") and not stage["A"].replica.past.denies(3, b"")


def test_who_was_away_and_who_comes_go_by_what_was_agreed_on() -> None:
    stage = Stage(4, outsiders=1)
    stage.crash("D")
    stage.submit("A", b"before")
    stage.change_members("A", "=2")
    stage.submit("A", b"after")
    stage.restart("D")
    follow(stage, "D")
    stage.change_members("A", "+E")
    follow(stage, "E")
    for name in "ABCDE":
        assert stage[name].replica.parameters.checkpoint_interval == 2
        assert stage[name].replica.configuration.terms == b"2"
    for name in "ABCDE":
        stage.crash(name)
    for name in "ABCDE":
        stage.restart(name)
    assert {actor.replica.parameters.window for actor in stage.actors} == {4}
    for number in range(5):
        stage.submit("E", b"%d" % number)
    stage.wait(5_000)
    assert {actor.replica.stable for actor in stage.actors} == {8}
    stage.agree()


def test_who_leads_is_given_up_after_the_new_time_and_not_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(4)
    quick = replace(PARAMETERS, timeout_ticks=600)
    monkeypatch.setattr(stage, "parameters_of", lambda now: quick if now.terms else PARAMETERS)
    stage.change_members("A", "=1")
    (silent,) = {actor.replica.primary for actor in stage.actors}
    rest = [actor.name for actor in stage.actors if actor.key != silent]
    stage.lost = lambda sender, to, raw: sender == silent
    stage.submit(rest[0], b"waits")
    stage.wait(1_500)  # half of what it was before
    assert {stage[name].replica.view for name in rest} == {1}
    assert stage.agree(*rest)[-1] == b"waits"


def test_who_is_removed_votes_no_more_and_takes_nothing_in() -> None:
    stage = Stage(5)
    stage.change_members("A", "-B")
    removed = stage["B"].replica
    assert numbers(stage, "ABCDE") == [1] * 5
    assert removed.bundle_room == 0 and not removed._at.voting
    said = len(stage["B"].records)
    stage.submit("A", b"without")
    stage.wait(5_000)
    assert stage.agree(*"ACDE")[-1] == b"without"
    assert len(stage["B"].records) == said == 0


def test_what_waited_when_the_configuration_ended_is_ordered_in_the_next_one() -> None:
    stage = Stage(4, outsiders=1)
    for name in "ABCD":
        stage.submit(name, b"of " + name.encode(), run=False)
    stage.change_members("B", "+E", run=False)
    for name in "ABCD":
        stage.submit(name, b"again of " + name.encode(), run=False)
    stage.run()
    stage.wait(10_000)
    follow(stage, "E")
    executed = stage.agree()
    assert sorted(executed) == sorted(
        [b"+E", *(b"of %c" % c for c in b"ABCD"), *(b"again of %c" % c for c in b"ABCD")]
    )


def test_a_bundle_of_a_removed_member_is_void() -> None:
    stage = Stage(5)
    stage.lost = lambda sender, to, raw: sender == stage["B"].key
    stage.submit("B", b"never")
    stage["C"].replica.pool.add(stage["B"].replica.pool.waiting(stage["B"].key)[0][0], stage.now)
    stage.change_members("A", "-B")
    assert stage["C"].replica.pool.origins() == []
    stage.heal()
    stage.wait(5_000)
    assert b"never" not in stage.agree(*"ACDE")


def test_a_straggler_is_brought_over_by_those_who_are_ahead() -> None:
    stage = Stage(4, outsiders=1)
    stage.cut("ABCE", "D")
    stage.change_members("A", "+E")
    stage.submit("A", b"later")
    follow(stage, "E")
    assert stage["D"].replica.configuration.number == 0
    stage.heal()
    follow(stage, "D")
    assert numbers(stage, "ABCDE") == [1] * 5
    stage.agree()


def test_a_restart_in_the_next_configuration_remembers_that_one_alone() -> None:
    stage = Stage(4, outsiders=1)
    stage.submit("A", b"first")
    stage.change_members("A", "+E")
    follow(stage, "E")
    stage.submit("B", b"second")
    assert all(r.sequence == 3 for r in stage["C"].records.values()), "of that one alone"
    for name in "ABCDE":
        stage.crash(name)
    for name in "ABCDE":
        stage.restart(name)
    stage.submit("E", b"third")
    stage.wait(5_000)
    assert stage.agree() == [b"first", b"+E", b"second", b"third"]
    assert numbers(stage, "ABCDE") == [1] * 5


def test_a_view_change_in_the_next_configuration_needs_no_checkpoint_before_it() -> None:
    stage = Stage(4, outsiders=1)
    stage.submit("A", b"first")
    stage.change_members("A", "+E")
    follow(stage, "E")
    primary = stage.by_key[stage["A"].replica.primary].name
    rest = [name for name in "ABCDE" if name != primary]
    stage.crash(primary)
    stage.submit(rest[0], b"second")
    stage.wait(30_000)
    assert stage.agree(*rest)[-1] == b"second"
    assert stage[rest[0]].replica.view > 0 and stage[rest[0]].replica.stable == 2


def test_nothing_is_written_between_the_last_batch_and_the_answer() -> None:
    """What the old configuration would still say must not stand among the records of the next."""
    stage = Stage(1, Parameters(1, 2, 3000, pipeline=4))
    node = stage["A"]
    stage.change_members("A", "-A", "+A", run=False)
    stage.answer()
    assert [type(answer) for _, answer in stage.later] == [Settled]
    before = dict(node.records)
    assert node.replica.bundle_room == 0
    stage.tick(20_000, run=False)
    assert node.records == before
    stage.run()
    assert node.replica.bundle_room > 0 and node.replica.stable == 1


def test_a_checkpoint_falls_due_on_a_batch_that_changes_nothing() -> None:
    stage = Stage(4, Parameters(2, 4, 3000, 1000))
    stage.submit("A", b"first")
    stage.change_members("A", "+D")
    assert numbers(stage, "ABCD") == [0] * 4
    assert {actor.replica.stable for actor in stage.actors} == {2}


def test_who_forgot_its_votes_stays_silent_in_the_next_configuration_too() -> None:
    stage = Stage(4, outsiders=1)
    stage.submit("A", b"first")
    stage.crash("D")
    stage["D"].lose_disk()
    stage.change_members("A", "+E")
    follow(stage, "E")
    stage.restart("D")
    assert not stage["D"].replica._at.voting
    follow(stage, "D")
    assert numbers(stage, "ABCDE") == [1] * 5
    assert not stage["D"].replica._at.voting and stage["D"].replica.learning is not None
    stage.wait(PARAMETERS.status_ticks)  # it hears where the others stand
    for i in range(3 * PARAMETERS.window):
        stage.submit("A", b"put %d" % i)
    stage.wait(20_000)
    assert stage["D"].replica._at.voting
    stage.agree()


def test_what_comes_between_the_last_batch_and_the_answer_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(1, Parameters(1, 2, 3000, pipeline=4), outsiders=1)
    node, guest = stage["A"], stage["B"]
    stage.lost = lambda sender, to, raw: sender == guest.key  # what it asks is said below
    node.step(LinkDown(guest.key))
    stage.submit("A", b"put", run=False)
    stage.change_members("A", "+A", run=False)
    stage.later.rotate(-1)
    stage.answer()
    asks = guest.signer.sign(FetchBatches(0, 1, 2))
    assert node.step(Received(guest.key, asks)) == []
    assert node.step(Received(guest.key, StableCheckpoint(()))) == []
    done: list[Effect] = []
    perform = node.perform

    def watched(effect: Effect) -> None:
        done.append(effect)
        perform(effect)

    monkeypatch.setattr(node, "perform", watched)
    stage.run()
    # The root after the first batch was taken while nobody knew whose it is.
    assert node.replica.configuration.number == 0
    assert node.replica.stable == 2
    assert [e.first for e in done if isinstance(e, SendCommitted)] == [1]


def test_a_batch_that_changes_nothing_is_no_checkpoint_by_itself() -> None:
    stage = Stage(1)
    stage.change_members("A", "+A")
    assert stage["A"].replica.executed == 1
    assert stage["A"].replica.stable == 0


def test_votes_of_another_configuration_are_not_worth_a_look_unless_it_is_yet_to_come() -> None:
    stage = Stage(1, outsiders=1)
    stage.change_members("A", "+B")
    key, replica = stage["B"].key, stage["A"].replica
    assert replica.is_redundant(Claim(Commit.TAG, key, (0, 0, 2)))
    assert not replica.is_redundant(Claim(Commit.TAG, key, (2, 0, 2)))


def test_who_left_is_still_given_what_it_asks_for() -> None:
    stage = Stage(5)
    stage.change_members("A", "-B")
    asks = stage["B"].signer.sign(FetchBatches(1, 1, 1))
    effects = stage["C"].step(Received(stage["B"].key, asks))
    given = [e for e in effects if isinstance(e, SendCommitted)]
    assert [(e.peer, e.first) for e in given] == [(stage["B"].key, 1)]


def test_a_straggler_that_repeats_itself_is_told_once() -> None:
    stage = Stage(4, outsiders=1)
    stage.cut("ABCE", "D")
    stage.change_members("A", "+E")
    said = stage["D"].signer.sign(Status(0, 0, False, 0, 0, 5))
    told = [len(stage["C"].step(Received(stage["D"].key, said))) for _ in range(2)]
    assert told == [1, 0]


def test_who_is_let_in_again_says_again_what_it_still_wanted() -> None:
    """Nothing else may ever stand under the names of those bundles."""
    stage = Stage(5)
    stage.lost = lambda sender, to, raw: sender == stage["B"].key
    stage.submit("B", b"wanted")
    stage.change_members("A", "-B")
    assert numbers(stage, "B") == [1]
    stage.heal()
    stage.change_members("A", "+B")
    follow(stage, "B")
    stage.wait(5_000)
    assert stage.agree()[-1] == b"wanted"
    stage.submit("B", b"more")
    assert stage.agree()[-1] == b"more"


# --- what others are asked for while nobody knows who the members are ---------------------------


def test_what_the_disk_answers_is_heard_while_the_members_are_not_known() -> None:
    stage = Stage(1, Parameters(1, 2, 3000, pipeline=4), outsiders=1)
    node, guest = stage["A"], stage["B"].key
    stage.change_members("A", "+A", run=False)
    (told, *_) = node.step(BatchesGone(guest, 1))
    assert isinstance(told, Send) and told.peers == (guest,)
    assert node.step(PartJudged(64, guest, None)) == []
    assert node.step(RowsRotten(3, (b"row",))) == []
    assert node.replica.rotten == 1
    stage.run()
    assert node.replica.stable == 1, "and none of it is taken for a root"


def test_what_rots_is_wanted_of_the_next_members() -> None:
    stage = Stage(1, Parameters(1, 2, 3000, pipeline=4), outsiders=1)
    node = stage["A"]
    node.step(RowsRotten(3, (b"row",)))
    stage.change_members("A", "+B")
    follow(stage, "B")
    assert numbers(stage, "AB") == [1, 1]
    stage.submit("A", b"put")
    stage.wait(15_000)
    assert node.replica.rotten == 1
    assert {(key, part.peer, part.items) for key, part in stage.asked} == {
        (stage["B"].key, node.key, (b"row",))
    }


def test_no_state_is_begun_while_the_members_are_not_known() -> None:
    replica = Stage(4)["D"].replica
    beginning = stable(64)
    replica.transfer.heard(beginning)
    for key in replica.configuration.others(replica.key):
        replica.catchup.note(key, Status(0, 0, False, 64, 70, 5))
        replica.catchup._lacking[key] = 0
    replica._at.settling = True
    assert not any(isinstance(e, BeginTransfer) for e in replica.step(LinkDown(b"")))
    replica._at.settling = False
    assert any(isinstance(e, BeginTransfer) for e in replica.step(LinkDown(b"")))

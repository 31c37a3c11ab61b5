"""Leaving a view, joining others, and entering the next one."""

from dataclasses import replace

import pytest

from aegis_edge.pbft import journal, view_change
from aegis_edge.pbft.events import Alarm, Effect, HangUp, Persist, Send
from aegis_edge.pbft.execution import FORKED
from aegis_edge.pbft.restart import Memory
from aegis_edge.wire.envelope import claimed
from aegis_edge.wire.messages import NewView, PrePrepare, Status, Verified, ViewChange
from tests.pbft.parts import KEYS, PARAMETERS, SIGNERS, Parts, batch, change, prepared, stable
from tests.pbft.stage import PACE


def new_view(view: int, *changes: Verified[ViewChange]) -> Verified[NewView]:
    signer = SIGNERS[view % 4]
    opening = tuple(
        signer.sign(PrePrepare(0, view, sequence, digest))
        for sequence, digest in view_change.order(changes)
    )
    return signer.sign(NewView(0, view, changes, opening))


def quorum(view: int) -> tuple[Verified[ViewChange], ...]:
    return tuple(change(member, view) for member in (0, 1, 2))


def entered(new: Verified[NewView]) -> list[Effect]:
    """What a backup writes down when it enters."""
    return [
        Persist(journal.new_view(new)),
        Persist(journal.view(new.message.view, False)),
    ]


# --- leaving ---


def test_a_view_is_left_with_everything_that_was_prepared() -> None:
    made = Parts(own=2)
    made.log.advance(4, stable(4))
    certificate = prepared(5, batch().digest)
    made.log.slot(5).prepared = certificate
    effects = made.said(made.views.ask, 3)
    own = change(2, 3, 4, certificate)
    assert effects == [
        Persist(journal.view_change(own)),
        Persist(journal.view(3, True)),
        Send((KEYS[0], KEYS[1], KEYS[3]), own.raw),
    ]
    assert (made.at.view, made.at.changing, made.views.own) == (3, True, own)


def test_each_view_that_fails_is_waited_for_longer() -> None:
    made = Parts(own=2, now=10_000)
    timeouts = []
    for view in (1, 2):
        made.views.ask(view)
        made.suspicion.left_by_quorum(10_000)
        due = made.suspicion.give_up_at(KEYS[view])
        assert due is not None
        timeouts.append(due - 10_000)
    assert timeouts[1] == 2 * timeouts[0]


def test_only_the_last_view_that_began_is_the_one_that_was_left() -> None:
    made = Parts(own=3)
    assert not made.views.left(0)
    made.views.ask(1)
    assert made.views.left(0)
    made.views.on_new_view(new_view(2, *quorum(2)))
    made.views.ask(3)
    assert [view for view in range(5) if made.views.left(view)] == [2]


def test_one_moves_nobody_and_f_plus_1_move_to_the_lowest() -> None:
    made = Parts(own=2)
    assert made.said(made.views.on_view_change, change(0, 7)) == []
    assert made.at.view == 0
    made.views.on_view_change(change(3, 5))
    assert (made.at.view, made.at.changing) == (5, True)


def test_a_view_change_counts_once_and_the_later_one_of_a_member_counts() -> None:
    made = Parts(own=2)
    made.views.on_view_change(change(0, 2))
    assert made.said(made.views.on_view_change, change(0, 2)) == []
    assert made.said(made.views.on_view_change, change(0, 1)) == []
    made.views.on_view_change(change(0, 9))
    assert made.at.view == 0, "one member with two view changes is one member"
    made.views.on_view_change(change(1, 5))
    assert made.at.view == 5, "nor is its earlier one counted any more"


def test_a_view_change_with_a_flaw_accuses_its_sender() -> None:
    made = Parts(own=2)
    bad = SIGNERS[0].sign(ViewChange(0, 1, 4, (), ()))
    alarm, hang_up = made.said(made.views.on_view_change, bad)
    assert isinstance(alarm, Alarm)
    assert isinstance(hang_up, HangUp)
    assert hang_up.peer == KEYS[0]
    assert (alarm.about, alarm.evidence) == (KEYS[0], (bad.raw,))
    made.views.on_view_change(change(3, 1))
    assert made.at.view == 0, "and does not count"


def test_a_quorum_that_leaves_starts_the_clock_of_the_next_primary() -> None:
    made = Parts(own=3, now=10_000)
    made.views.ask(2)
    made.at.now_ticks = 10_500
    made.views.on_view_change(change(0, 2))
    assert made.suspicion.give_up_at(KEYS[2]) is None
    made.views.on_view_change(change(1, 3))
    assert made.suspicion.give_up_at(KEYS[2]) == 10_500 + 2 * PARAMETERS.timeout_ticks
    assert made.at.changing


def test_a_new_view_is_its_primary_s_to_make() -> None:
    made = Parts(own=3)
    made.views.ask(2)
    made.views.on_view_change(change(0, 2))
    assert made.said(made.views.on_view_change, change(1, 2)) == []
    assert made.at.changing


def test_who_is_not_changing_counts_no_quorum() -> None:
    made = Parts(own=3)
    made.views.ask(1)
    made.views.on_new_view(new_view(1, *quorum(1)))
    assert made.said(made.views._consider) == []
    assert made.suspicion.give_up_at(KEYS[1]) is None


# --- entering ---


def test_the_primary_of_the_next_view_makes_it_of_a_quorum() -> None:
    made = Parts(own=1)
    certificate = prepared(1, batch().digest)
    assert made.views.ask(1) is None
    assert made.views.on_view_change(change(3, 2)) is None, "who asks for a later one is no help"
    assert made.views.on_view_change(change(0, 1, 0, certificate)) is None
    effects = made.voice.begin()
    new = made.views.on_view_change(change(2, 1))
    made_of = (change(0, 1, 0, certificate), made.views.own, change(2, 1))
    assert new == new_view(1, *made_of)
    assert new is not None
    assert effects == [*entered(new), Send((KEYS[0], KEYS[2], KEYS[3]), new.raw)]
    assert (made.at.view, made.at.changing, made.views.begun) == (1, False, new)


def test_who_is_alone_enters_at_once() -> None:
    made = Parts(own=0, n=1)
    new = made.views.ask(1)
    assert new is not None
    assert new.message.view_changes == (made.views.own,)
    assert (made.at.view, made.at.changing) == (1, False)


def test_a_new_view_is_entered_by_who_waits_and_by_who_missed_it() -> None:
    for view in (0, 1):
        made = Parts(own=3, now=10_000)
        if view:
            made.views.ask(view)
        new = new_view(1, *quorum(1))
        made.at.now_ticks = 10_700
        effects = made.voice.begin()
        assert made.views.on_new_view(new) is new
        assert effects == entered(new)
        assert (made.at.view, made.at.changing) == (1, False)
        assert made.suspicion.progress_ticks == 10_700, "its primary gets the whole time-out"


@pytest.mark.parametrize("where", ["in it", "beyond"])
def test_a_new_view_that_is_over_is_nothing(where: str) -> None:
    made = Parts(own=3)
    made.at.view = 1 if where == "in it" else 2
    assert made.views.on_new_view(new_view(1, *quorum(1))) is None
    assert made.views.begun is None


def test_a_new_view_with_a_flaw_accuses_its_primary() -> None:
    made = Parts(own=3)
    bad = new_view(1, *quorum(1)[:2])
    effects = made.voice.begin()
    assert made.views.on_new_view(bad) is None
    alarm, hang_up = effects
    assert isinstance(hang_up, HangUp)
    assert isinstance(alarm, Alarm)
    assert (alarm.about, alarm.evidence) == (KEYS[1], (bad.raw,))
    assert made.at.view == 0


def test_who_missed_a_view_gets_it() -> None:
    made = Parts(own=3)
    new = new_view(2, *quorum(2))
    made.views.on_new_view(new)
    assert made.said(made.views.on_view_change, change(0, 2)) == [Send((KEYS[0],), new.raw)]
    assert made.said(made.views.on_view_change, change(0, 2)) == [], "once; it sends statuses too"
    assert made.said(made.views.on_view_change, change(1, 1)) == [Send((KEYS[1],), new.raw)]
    assert made.said(made.views.on_view_change, change(2, 3)) == [], "that is a later one"


def test_who_joins_a_view_late_is_told_of_it_only_if_it_may_have_missed_it() -> None:
    made = Parts(own=3, now=10_000)
    made.at.now_ticks = 10_001  # after the links
    new = new_view(2, *quorum(2))
    made.views.on_new_view(new)
    assert made.said(made.views.on_view_change, change(0, 1)) == [], "it is on its way"
    made.at.now_ticks = 10_001 + PACE.resend_ticks
    assert made.said(made.views.on_view_change, change(0, 2)) == [Send((KEYS[0],), new.raw)]


@pytest.mark.parametrize("how", ["view change", "new view"])
def test_a_root_that_differs_is_the_end(how: str) -> None:
    made = Parts(own=3)
    made.past.took(4, b"other".ljust(32))
    telling = change(0, 1, 4)
    effects = made.voice.begin()
    if how == "view change":
        assert made.views.on_view_change(telling) is None
    else:
        new = new_view(1, telling, change(1, 1), change(2, 1))
        assert made.views.on_new_view(new) is None
    assert [type(e) for e in effects] == [Persist, Alarm]
    assert made.voice.halted is not None
    assert made.at.view == 0


def test_s8_07_who_executed_another_batch_than_a_new_view_orders_says_so_and_stops() -> None:
    """Nobody votes against what it executed: that is how a fork would go unnoticed."""
    made = Parts(own=3)
    ordered = batch(2)
    new = new_view(1, change(0, 1, 0, prepared(1, ordered.digest)), change(1, 1), change(2, 1))
    made.past.executed(1, batch(1).digest)
    effects = made.voice.begin()
    assert made.views.on_new_view(new) is None
    assert made.voice.halted == FORKED
    assert effects == [Alarm(FORKED, KEYS[3], (new.raw,))], "no record, and no word in that view"
    assert (made.at.view, made.views.begun) == (0, None)
    same = Parts(own=3)
    same.past.executed(1, ordered.digest)
    assert same.views.on_new_view(new) is new


# --- without memory ---


def status(view: int, executed: int) -> Status:
    return Status(0, view, False, 0, executed, 0)


def test_who_forgot_asks_for_nothing_until_its_checkpoint_covers_all() -> None:
    made = Parts(own=3)
    made.views.restore(Memory(), rebuilt=True)
    assert not made.at.voting
    assert made.views.learning() == 0
    assert made.said(made.views.ask, 1) == []
    for member in (0, 1):
        made.views.on_view_change(change(member, 1))
        made.views.hear(KEYS[member], status(view=2, executed=4))
    assert made.at.view == 0, "nor does it join"
    assert made.views.learning() == 0
    made.views.hear(KEYS[2], status(view=2, executed=0))
    assert made.views.learning() == 12
    assert made.views.come_back() is None
    made.at.view = 2
    made.log.advance(8, stable(8))
    assert made.said(made.views.come_back) == []
    made.log.advance(12, stable(12))
    effects = made.said(made.views.come_back)
    assert effects[0] == Persist(journal.view_change(change(3, 3, 12)))
    assert (made.at.view, made.at.changing, made.at.voting) == (3, True, True)
    assert made.views.learning() is None
    made.views.hear(KEYS[0], status(view=9, executed=99))
    assert made.said(made.views.come_back) == [], "once"


def test_of_two_what_the_other_knows_is_said_in_a_view_that_began_after_the_loss() -> None:
    made = Parts(own=0, n=2)
    made.views.restore(Memory(), rebuilt=True)
    made.views.on_new_view(new_view(1, change(0, 1), change(1, 1)))
    made.views.hear(KEYS[1], status(view=1, executed=0))
    made.views.come_back()
    assert (made.at.view, made.at.voting, made.views.is_forgetful) == (2, True, True)
    assert made.said(made.views.come_back) == [], "the view before is of what was known before"
    made.views.on_view_change(change(1, 2))
    assert made.said(made.views.come_back) == [Persist(journal.remembers(0))]
    assert not made.views.is_forgetful


# --- restart ---


def test_a_restart_is_where_it_was() -> None:
    own, new = change(3, 2), new_view(1, *quorum(1))
    made = Parts(own=3)
    made.views.restore(Memory(view=2, changing=True, asked=own, begun=new), rebuilt=False)
    assert (made.at.view, made.at.changing) == (2, True)
    assert (made.views.own, made.views.begun) == (own, new)
    assert made.at.voting


def test_a_view_change_on_a_rebuilt_disk_says_that_nothing_is_forgotten_since() -> None:
    made = Parts(own=3)
    made.views.restore(Memory(view=2, changing=True, asked=change(3, 2)), rebuilt=True)
    assert made.at.voting
    assert made.views.learning() is None


@pytest.mark.parametrize(
    ("n", "rebuilt", "votes"), [(1, True, False), (2, True, False), (2, False, True)]
)
def test_without_records_votes_were_forgotten_even_if_nobody_else_is_known(
    n: int, rebuilt: bool, votes: bool
) -> None:
    made = Parts(own=0, n=n)
    made.views.restore(Memory(), rebuilt=rebuilt)
    assert made.at.voting is votes


# --- what need not be read ---


def spared(made: Parts, message: Verified[ViewChange] | Verified[NewView]) -> bool:
    claim = claimed(message.raw)
    assert claim is not None
    return made.views.is_redundant(claim)


def test_what_is_known_or_over_is_redundant() -> None:
    made = Parts(own=3)
    made.views.on_view_change(change(0, 3))
    assert spared(made, change(0, 2))
    assert spared(made, change(0, 3))
    assert not spared(made, change(0, 4))
    assert not spared(made, change(1, 3)), "known of one, not of the other"
    new = new_view(1, *quorum(1))
    assert not spared(made, new)
    made.views.ask(1)
    assert not spared(made, new), "it waits for that one"
    made.views.on_new_view(new)
    assert spared(made, new)
    made.at.view = 5
    assert spared(made, change(1, 4))
    assert not spared(made, change(1, 5)), "for the present one: it may need the new view"
    assert spared(made, new)


def test_a_new_view_that_travels_for_long_is_not_its_primarys_delay() -> None:
    slow = replace(PARAMETERS, bytes_a_second=1_000)
    for own, waits in ((2, True), (3, False)):
        made = Parts(own=own, now=10_000, parameters=slow)
        new = new_view(2, *quorum(2))
        if own == 2:
            made.views.ask(2)
            for member in (0, 1, 3):
                made.views.on_view_change(change(member, 2))
        else:
            made.views.on_new_view(new)
        assert (made.at.view, made.at.changing) == (2, False)
        assert made.views.begun is not None
        travel = made.at.pace.travel_ticks(len(made.views.begun.raw)) if waits else 0
        at = made.suspicion.suspect_at(KEYS[2], 0)
        patience = made.at.pace.timeout_ticks << (own == 2)
        assert at == 10_000 + travel + patience

"""Reads without a batch: what a quorum may have acknowledged is executed here first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegis_edge.pbft.events import Asked, Confirmed, Received, Send, Tick
from aegis_edge.pbft.reads import ANSWERS_A_TICK, Reads
from aegis_edge.wire import messages
from aegis_edge.wire.messages import AskReadIndex, ReadIndex, Verified
from tests.pbft.parts import KEYS, OPEN, PARAMETERS, SIGNERS, Parts, batch, commits, stable
from tests.pbft.stage import PACE, Actor, Stage, kind_of

LIFE = 5


class Asker(Parts):
    """Member 1 of four, which has executed up to `executed`, with a question under way."""

    def __init__(self, executed: int = 0, **more: Any) -> None:
        super().__init__(executed=executed, **more)
        self.reads = Reads(self.at, self.voice, self.log, LIFE)
        self.asked = self.said(self.reads.ask, 1)

    def hear(self, member: int, sequence: int, **other: Any) -> list[Any]:
        index = replace(ReadIndex(0, LIFE, 1, sequence), **other)
        self.said(self.reads.on_index, SIGNERS[member].sign(index), KEYS[member])
        return self.said(self.reads.conclude)


def test_one_question_goes_to_all() -> None:
    made = Asker()
    (effect,) = made.asked
    assert isinstance(effect, Send)
    assert set(effect.peers) == set(KEYS[:4]) - {made.key}
    said = messages.read(effect.raw, OPEN)
    assert isinstance(said, Verified)
    assert said.message == AskReadIndex(0, LIFE, 1)


def test_it_is_fresh_when_all_up_to_what_a_quorum_says_is_executed() -> None:
    made = Asker(executed=7)
    assert made.said(made.reads.conclude) == [], "one of three"
    assert made.hear(0, 8) == []
    assert made.hear(2, 6) == [], "three by now, and 8 is not here"
    made.at.executed = 8
    assert made.said(made.reads.conclude) == [Confirmed(1, is_fresh=True)]
    assert made.said(made.reads.conclude) == [], "once"
    assert made.hear(3, 9) == []
    assert made.reads.wake_at() is None


def test_any_quorum_will_do() -> None:
    made = Asker(executed=7)
    assert made.hear(0, 10**9) == [], "a member that lies"
    assert made.hear(2, 7) == []
    assert made.hear(3, 5) == [Confirmed(1, is_fresh=True)]


def test_one_member_has_one_answer() -> None:
    made = Asker()
    assert made.hear(0, 0) == []
    assert made.hear(0, 0) == []
    made.said(made.reads.on_index, SIGNERS[2].sign(ReadIndex(0, LIFE, 1, 0)), KEYS[0])
    assert made.said(made.reads.conclude) == [], "passed on by another"
    assert made.hear(2, 0) == [Confirmed(1, is_fresh=True)]


@pytest.mark.parametrize("other", [{"configuration": 1}, {"incarnation": 4}, {"number": 2}])
def test_an_answer_to_another_question_counts_for_nothing(other: dict[str, int]) -> None:
    made = Asker()
    assert made.hear(0, 0) == []
    assert made.hear(2, 0, **other) == []
    assert made.said(made.reads.ask, 2)
    assert made.hear(2, 0) == []


def test_a_question_has_its_time() -> None:
    made = Asker()
    until = 10_000 + PACE.resend_ticks
    assert made.reads.wake_at() == until
    made.hear(0, 1)
    made.hear(2, 1)
    made.at.now_ticks = until - 1
    assert made.said(made.reads.conclude) == []
    made.at.now_ticks = until
    assert made.said(made.reads.conclude) == [Confirmed(1, is_fresh=False)]


def asks(made: Asker, member: int = 2, **other: Any) -> list[Any]:
    question = replace(AskReadIndex(0, 9, 4), **other)
    return made.said(made.reads.on_ask, SIGNERS[member].sign(question), KEYS[2])


def index(made: Asker) -> int:
    (effect,) = asks(made)
    assert effect.peers == (KEYS[2],)
    said = messages.read(effect.raw, OPEN)
    assert isinstance(said, Verified)
    assert isinstance(said.message, ReadIndex)
    assert (said.message.incarnation, said.message.number) == (9, 4)
    return said.message.sequence


def test_the_answer_is_the_highest_commit_ever_signed() -> None:
    made = Asker(executed=1)
    assert index(made) == 1
    made.accepted(3, batch(2, 3))
    made.accepted(2, batch(2, 2)).own_commit = commits(2, batch(2, 2).digest)[1]
    assert index(made) == 2, "not the highest that was proposed"
    made.log.advance(4, stable(4))
    assert index(made) == 4, "what was forgotten since was not above"


def test_who_does_not_know_what_it_signed_does_not_answer() -> None:
    made = Asker()
    made.at.voting = False
    assert asks(made) == []
    made.said(made.reads.ask, 2)
    for member in (0, 2):
        assert made.hear(member, 0, number=2) == []
    assert made.hear(3, 0, number=2) == [Confirmed(2, is_fresh=True)], "but may ask all others"


def test_questions_of_others_passed_on_or_of_other_configurations_have_no_answer() -> None:
    made = Asker()
    assert asks(made, member=3) == []
    assert asks(made, configuration=1) == []


def test_who_asks_without_end_has_so_many_answers_a_tick_and_then_the_last() -> None:
    made = Asker(executed=1)
    made.said(made.reads.conclude)
    for number in range(1, ANSWERS_A_TICK + 1):
        assert len(asks(made, number=number)) == 1
    other = SIGNERS[3].sign(AskReadIndex(0, 1, 1))
    assert len(made.said(made.reads.on_ask, other, KEYS[3])) == 1, "others as before"
    until = made.reads.wake_at()
    assert until is not None and until > made.at.now_ticks
    for number in range(100, 200):
        assert asks(made, number=number) == []
    assert made.reads.wake_at() == made.at.now_ticks
    made.at.executed = 2
    (effect,) = made.said(made.reads.tick)
    said = messages.read(effect.raw, OPEN)
    assert isinstance(said, Verified)
    assert said.message == ReadIndex(0, 9, 199, 2)
    assert made.said(made.reads.tick) == []
    assert made.reads.wake_at() == until
    assert len(asks(made)) == 1


def test_a_tick_brings_the_answers_that_are_owed() -> None:
    stage = Stage(4)
    keys = {name: stage[name].key for name in "AB"}
    question = stage["B"].signer.sign(AskReadIndex(0, 1, 1))
    for _ in range(ANSWERS_A_TICK + 1):
        effects = stage["A"].step(Received(keys["B"], question))
    assert effects == []
    sent = [e for e in stage["A"].step(Tick(stage.now, 0)) if isinstance(e, Send)]
    assert ReadIndex in [kind_of(stage, effect.raw) for effect in sent]


def test_a_member_alone_asks_nobody() -> None:
    made = Asker(own=0, n=1)
    assert made.said(made.reads.conclude) == [Confirmed(1, is_fresh=True)]


# --- on a stage -------------------------------------------------------------------------------


def confirmed(stage: Stage, name: str, number: int) -> list[bool]:
    """What became of a question that a member asks now."""
    found: list[bool] = []
    actor = stage[name]
    sound = actor.perform

    def perform(effect: Any) -> None:
        if isinstance(effect, Confirmed):
            assert effect.number == number
            found.append(effect.is_fresh)
        sound(effect)

    actor.perform = perform  # type: ignore[method-assign]
    actor.step(Asked(number))
    stage.run()
    actor.perform = sound  # type: ignore[method-assign]
    return found


def test_s8_20_what_one_member_acknowledged_another_has_before_it_reads() -> None:
    """B acknowledged; all others signed commits, and have not executed."""
    stage = Stage(4)
    keys = {name: stage[name].key for name in "ABCD"}
    stage.lost = lambda _, to, raw: to != keys["B"] and kind_of(stage, raw) is messages.Commit
    stage.submit("B", b"op")
    assert stage["B"].operations == [b"op"]
    assert [stage[name].operations for name in "ACD"] == [[]] * 3
    assert confirmed(stage, "C", 1) == []
    stage.lost = lambda *_: False
    for name in "ACD":  # the commits come, with an answer to a status
        stage["B"].step(Received(keys[name], stage_status(stage, name)))
    stage.tick(PARAMETERS.timeout_ticks // 20)
    stage.tick(PARAMETERS.timeout_ticks // 20)
    assert stage["C"].operations == [b"op"]
    assert confirmed(stage, "C", 2) == [True]
    assert stage["C"].operations == [b"op"], "no batch was made for it"


def stage_status(stage: Stage, name: str) -> Any:
    actor = stage[name]
    return actor.signer.sign(actor.replica._at.status(0))


def test_a_question_that_nobody_hears_ends_with_the_clock() -> None:
    stage = Stage(4)
    stage.lost = lambda *_: True
    actor, found = stage["A"], []
    actor.step(Asked(1))
    stage.run()
    for _ in range(40):
        found += [e for e in actor.step(Tick(stage.now, 0)) if isinstance(e, Confirmed)]
        wake_at = actor.replica.wake_at
        assert wake_at is not None
        if found:
            break
        stage.now = max(stage.now + 1, wake_at)
    assert found == [Confirmed(1, is_fresh=False)]
    assert stage.now <= PACE.resend_ticks


# --- where the members change -----------------------------------------------------------------


class Listening(Stage):
    """Remembers what became of questions."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.found: list[tuple[str, Confirmed]] = []
        for actor in self.actors:
            self.listen(actor)

    def listen(self, actor: Actor) -> None:
        sound = actor.perform

        def perform(effect: Any) -> None:
            if isinstance(effect, Confirmed):
                self.found.append((actor.name, effect))
            sound(effect)

        actor.perform = perform  # type: ignore[method-assign]

    def number(self, name: str) -> int:
        return self[name].replica.configuration.number


def test_a_question_ends_with_its_configuration_and_nothing_is_fresh() -> None:
    stage = Listening(4, outsiders=1)
    stage.lost = lambda _, to, raw: kind_of(stage, raw) is messages.ReadIndex
    stage["C"].step(Asked(1))
    stage.run()
    assert stage.found == []
    stage.change_members("A", "+E")
    assert stage.number("C") == 1
    assert stage.found == [("C", Confirmed(1, is_fresh=False))]
    stage.lost = lambda *_: False
    stage["C"].step(Asked(2))
    stage.run()
    stage.wait(1_000)
    assert stage.found[1:] == [("C", Confirmed(2, is_fresh=True))]


def test_a_quorum_of_members_of_before_makes_nothing_fresh_that_those_of_today_wrote_over() -> None:
    """D hears nobody while the others go on without it, and answers of theirs that are late."""
    stage = Listening(4, outsiders=3)
    d = stage["D"]
    stage.lost = lambda sender, to, raw: to == d.key and kind_of(stage, raw) is not ReadIndex
    stage.change_members("A", "+E", "+F", "+G")
    stage.wait(4_000)  # some of them followed D, whom they do not hear
    stage.submit("E", b"of today")
    assert stage["E"].operations[-1] == b"of today"
    d.step(Asked(1))
    stage.run()
    assert (stage.number("D"), stage.number("A")) == (0, 1)
    assert stage.found == [], "nobody answers in a configuration that has ended"
    stage.lost = lambda sender, to, raw: to == d.key
    stage.wait(PACE.resend_ticks)
    assert stage.found == [("D", Confirmed(1, is_fresh=False))]


def test_who_only_signed_a_commit_for_the_last_batch_of_a_configuration_names_it() -> None:
    """B went over and acknowledged more; A, C and D have not seen the commits yet."""
    stage = Listening(4, outsiders=1)
    keys = {name: stage[name].key for name in "ABCDE"}
    stage.lost = lambda _, to, raw: to != keys["B"] and kind_of(stage, raw) is messages.Commit
    stage.change_members("B", "+E")
    assert [stage.number(name) for name in "ABCD"] == [0, 1, 0, 0]
    stage["D"].step(Asked(1))
    stage.run()
    assert stage.found == [], "all that answer name a batch that is not here"
    stage.lost = lambda *_: False
    for name in "ACD":
        stage["B"].step(Received(keys[name], stage_status(stage, name)))
    stage.wait(PACE.resend_ticks)
    assert stage.number("D") == 1
    assert stage.found == [("D", Confirmed(1, is_fresh=False))]


def test_who_is_no_member_has_no_answer_and_gives_none() -> None:
    stage = Listening(5)
    stage.change_members("A", "-B")
    stage["B"].step(Asked(1))
    stage["C"].step(Asked(1))
    stage.run()
    assert stage.found == [("C", Confirmed(1, is_fresh=True))]
    asked = stage["C"].signer.sign(AskReadIndex(1, 1, 9))
    assert stage["B"].step(Received(stage["C"].key, asked)) == []
    stage.wait(PACE.resend_ticks)
    assert stage.found[1:] == [("B", Confirmed(1, is_fresh=False))]

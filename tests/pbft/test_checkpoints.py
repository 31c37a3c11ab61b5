"""A root is signed, becomes stable with a quorum that agrees, or shows who differs."""

import pytest

from aegis_edge.pbft import journal
from aegis_edge.pbft.checkpoints import DIVERGED
from aegis_edge.pbft.events import Alarm, Persist, Prune, Send, TakeRoot
from aegis_edge.pbft.restart import Memory
from aegis_edge.wire.messages import Checkpoint
from tests.pbft.parts import KEYS, ROOT, SIGNERS, Parts, stable

OTHER = b"other".ljust(32)


def test_a_root_is_written_down_before_it_is_said() -> None:
    made = Parts(own=3, executed=0)
    made.at.executed = 4
    own = SIGNERS[3].sign(Checkpoint(0, 4, ROOT))
    effects = made.said(made.checkpoints.took, 4, ROOT)
    assert effects == [Persist(journal.checkpoint(own)), Send(KEYS[:3], own.raw)]
    assert made.said(made.checkpoints.took, 4, ROOT) == [], "a root that is taken again"
    assert made.log.low == 0


def test_who_forgot_its_votes_signs_no_root() -> None:
    made = Parts(own=3)
    made.at.executed, made.at.voting = 4, False
    assert made.said(made.checkpoints.took, 4, ROOT) == []
    assert made.past.root(4) == ROOT


def test_a_quorum_that_agrees_moves_the_watermark() -> None:
    made = Parts(own=3)
    made.at.executed = 4
    assert not made.checkpoints.took(4, ROOT)
    first, second, third = stable(4)
    assert not made.checkpoints.add(first)
    assert not made.checkpoints.add(first), "said twice"
    effects = made.voice.begin()
    assert made.checkpoints.add(second)
    assert made.log.low == 4
    assert isinstance(effects[0], Persist)
    assert effects[0].record.kind == journal.STABLE
    assert effects[1:] == [Prune(4)]
    assert not made.checkpoints.add(third), "it is over"


def test_the_own_root_may_come_last() -> None:
    made = Parts(own=3)
    made.at.executed = 4
    for checkpoint in stable(4):
        assert not made.checkpoints.add(checkpoint), "nothing to compare it with yet"
    effects = made.voice.begin()
    assert made.checkpoints.took(4, ROOT)
    kinds = [type(e) for e in effects]
    assert kinds == [Persist, Send, Persist, Prune], "its own word comes before the consequence"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_quorum_that_differs_is_the_end(when: str) -> None:
    made = Parts(own=3)
    made.at.executed = 4
    effects = made.voice.begin()
    if when == "before":
        assert not any(made.checkpoints.add(c) for c in stable(4, OTHER))
        assert not made.checkpoints.took(4, ROOT)
    else:
        assert not made.checkpoints.took(4, ROOT)
        assert not any(made.checkpoints.add(c) for c in stable(4, OTHER))
    record, alarm = effects[-2:]
    assert record == Persist(journal.diverged(stable(4, OTHER)))
    assert alarm == Alarm(DIVERGED, KEYS[3], tuple(c.raw for c in stable(4, OTHER)))
    assert made.voice.halted == DIVERGED
    assert made.log.low == 0
    assert made.checkpoints.denies(()), "it stays so"


def test_a_checkpoint_that_was_believed_is_compared_when_its_root_is_here() -> None:
    made = Parts(own=3)
    made.at.executed = 3
    made.checkpoints.advance(4, stable(4, OTHER))
    made.at.executed = 4
    effects = made.voice.begin()
    assert not made.checkpoints.took(4, ROOT)
    assert effects[0] == Persist(journal.diverged(stable(4, OTHER)))
    assert len(effects) == 2, "and no word of its own"


def test_the_genesis_and_unknown_roots_deny_nothing() -> None:
    made = Parts()
    assert not made.checkpoints.denies(())
    assert not made.checkpoints.denies(stable(4, OTHER))


# --- restart ---


def own_checkpoint(sequence: int) -> Memory:
    return Memory(checkpoints=(SIGNERS[3].sign(Checkpoint(0, sequence, ROOT)),))


def test_a_checkpoint_survives() -> None:
    made = Parts(own=3, executed=6)
    made.checkpoints.restore(own_checkpoint(4))
    assert [c.message.sequence for c in made.log.own_checkpoints(KEYS[3])] == [4]
    made.checkpoints.add(stable(4)[0])
    assert made.checkpoints.add(stable(4)[1])
    assert made.said(made.checkpoints.ask_again) == []


def test_a_survivor_is_still_compared() -> None:
    made = Parts(own=3, executed=6)
    made.checkpoints.restore(own_checkpoint(4))
    for checkpoint in stable(4, OTHER):
        made.checkpoints.add(checkpoint)
    assert made.voice.halted == DIVERGED


def test_a_root_that_was_lost_is_asked_for_once_more() -> None:
    made = Parts(own=3, executed=8)
    made.checkpoints.restore(own_checkpoint(4))
    assert made.said(made.checkpoints.ask_again) == [TakeRoot(8)]
    assert made.said(made.checkpoints.ask_again) == []
    for checkpoint in stable(8, OTHER):
        assert not made.checkpoints.add(checkpoint), "not believed: it can be compared soon"


def test_what_can_be_compared_no_more_is_believed() -> None:
    made = Parts(own=3, executed=6)
    made.checkpoints.restore(Memory())
    assert made.said(made.checkpoints.ask_again) == [], "the state is beyond that root"
    first, second, third = stable(4)
    made.checkpoints.add(first)
    made.checkpoints.add(second)
    assert made.checkpoints.add(third)
    assert made.log.low == 4


@pytest.mark.parametrize(("executed", "low"), [(8, 8), (6, 0), (0, 0)])
def test_no_root_is_owed(executed: int, low: int) -> None:
    made = Parts(own=3, executed=executed)
    if low:
        made.log.advance(low, stable(low))
    made.checkpoints.restore(Memory())
    assert made.said(made.checkpoints.ask_again) == []


def test_a_root_that_was_signed_is_not_asked_for_again() -> None:
    made = Parts(own=3, executed=8)
    made.checkpoints.restore(own_checkpoint(8))
    assert made.said(made.checkpoints.ask_again) == []


def test_who_differed_stays_silent() -> None:
    made = Parts()
    assert made.said(made.checkpoints.restore, Memory(diverged=True)) == []
    assert made.voice.halted == DIVERGED

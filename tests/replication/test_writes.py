from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.pbft.events import Effect, Persist, Prune, Record, Send, SendCommitted
from aegis_edge.replication.writes import Writes

ANNA, BERT = b"anna", b"bert"
RECORD = Persist(Record(4, 0, 1, b""))
TO_BERT = Send((BERT,), b"vote")


def test_a_send_passes_until_a_record_waits_and_again_once_it_is_durable() -> None:
    writes = Writes()
    assert writes.may_pass(TO_BERT)
    writes.hold(RECORD)
    assert not writes.may_pass(TO_BERT)
    writes.begin()
    assert not writes.may_pass(TO_BERT), "it is under way, not durable"
    writes.end()
    assert writes.may_pass(TO_BERT)


def test_a_step_that_promises_nothing_holds_nobody_back() -> None:
    writes = Writes()
    writes.hold(Prune(64))
    assert writes.may_pass(TO_BERT)


def test_nothing_overtakes_an_answer_to_the_same_peer() -> None:
    writes = Writes()
    writes.hold(SendCommitted(ANNA, 1, 9))
    assert writes.may_pass(TO_BERT)
    assert not writes.may_pass(Send((ANNA, BERT), b"vote"))


def test_what_a_peer_asked_for_last_is_answered_and_one_peer_in_a_write() -> None:
    writes = Writes()
    for fetch in (SendCommitted(ANNA, 1, 9), SendCommitted(BERT, 1, 9), SendCommitted(ANNA, 5, 9)):
        writes.hold(fetch)
    assert writes.begin() == [SendCommitted(BERT, 1, 9)]
    assert writes.end() == ([SendCommitted(BERT, 1, 9)], [SendCommitted(ANNA, 5, 9)])


def test_one_write_at_a_time_that_ends_once() -> None:
    writes = Writes()
    writes.hold(RECORD)
    writes.begin()
    with pytest.raises(AssertionError, match="one write"):
        writes.begin()
    writes.end()
    with pytest.raises(AssertionError, match="ends once"):
        writes.end()


@given(st.lists(st.sampled_from(["persist", "send", "begin", "end"]), max_size=30))
def test_no_send_is_seen_before_a_record_that_came_before_it_is_durable(script: list[str]) -> None:
    """Effects are numbered; whatever the script, a number is out only after lower records are."""
    writes = Writes()
    durable: set[int] = set()
    seen: list[int] = []

    def take(effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and writes.may_pass(effect):
                seen.append(int(effect.raw))
            else:
                writes.hold(effect)

    records: set[int] = set()
    for number, word in enumerate(script):
        if word == "persist":
            records.add(number)
            take([Persist(Record(4, 0, number, b""))])
        elif word == "send":
            take([Send((BERT,), b"%d" % number)])
        elif word == "begin" and not writes.under_way and writes.waiting:
            writes.begin()
        elif word == "end" and writes.under_way:
            done, held = writes.end()
            for effect in done:
                if isinstance(effect, Persist):
                    durable.add(effect.record.sequence)
            seen += [int(effect.raw) for effect in done if isinstance(effect, Send)]
            take(list(held))
        assert all(r in durable for s in seen for r in records if r < s)
    assert seen == sorted(seen)

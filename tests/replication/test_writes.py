from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    assert writes.part(TO_BERT) == (TO_BERT, None)
    writes.hold(RECORD)
    assert writes.part(TO_BERT) == (None, TO_BERT)
    writes.begin()
    assert writes.part(TO_BERT) == (None, TO_BERT), "it is under way, not durable"
    writes.end()
    assert writes.part(TO_BERT) == (TO_BERT, None)


def test_a_step_that_promises_nothing_holds_nobody_back() -> None:
    writes = Writes()
    writes.hold(Prune(64))
    assert writes.part(TO_BERT) == (TO_BERT, None)


def test_nothing_overtakes_an_answer_to_the_same_peer_and_nobody_else_waits_for_it() -> None:
    writes = Writes()
    writes.hold(SendCommitted(ANNA, 1, 9))
    to_anna = Send((ANNA,), b"vote")
    assert writes.part(TO_BERT) == (TO_BERT, None)
    assert writes.part(to_anna) == (None, to_anna)
    assert writes.part(Send((ANNA, BERT), b"vote")) == (TO_BERT, to_anna)


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


PEERS = (ANNA, BERT, b"carl")
TO = st.lists(st.sampled_from(PEERS), min_size=1, unique=True).map(tuple)
WORDS = st.one_of(
    st.sampled_from(["persist", "begin", "end"]),
    st.tuples(st.just("send"), TO),
    st.tuples(st.just("serve"), st.sampled_from(PEERS)),
)


@given(st.lists(WORDS, max_size=40))
def test_nothing_is_seen_before_what_it_must_not_overtake(script: list[Any]) -> None:
    """Effects are numbered; whatever the script, each peer sees them in order.

    A number is out only after lower records are durable; and at the end, all but the answers to
    fetches that were asked anew are out.
    """
    writes = Writes()
    durable: set[int] = set()
    records: set[int] = set()
    seen: dict[bytes, list[int]] = {peer: [] for peer in PEERS}
    sent: dict[bytes, list[int]] = {peer: [] for peer in PEERS}

    def out(send: Send) -> None:
        for peer in send.peers:
            seen[peer].append(int(send.raw))
            assert all(r in durable for r in records if r < int(send.raw))

    def take(effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                now, later = writes.part(effect)
                if now is not None:
                    out(now)
                if later is not None:
                    writes.hold(later)
            else:
                writes.hold(effect)

    def end() -> None:
        done, held = writes.end()
        for effect in done:
            if isinstance(effect, Persist):
                durable.add(effect.record.sequence)
        for effect in done:
            if isinstance(effect, Send):
                out(effect)
            elif isinstance(effect, SendCommitted):
                seen[effect.peer].append(effect.first)
        take(held)

    for number, word in enumerate(script):
        match word:
            case "persist":
                records.add(number)
                take([Persist(Record(4, 0, number, b""))])
            case ("send", to):
                for peer in to:
                    sent[peer].append(number)
                take([Send(to, b"%d" % number)])
            case ("serve", peer):
                take([SendCommitted(peer, number, number)])
            case "begin" if not writes.under_way and writes.waiting:
                writes.begin()
            case "end" if writes.under_way:
                end()
    while writes.under_way or writes.waiting:
        if not writes.under_way:
            writes.begin()
        end()
    for peer in PEERS:
        assert seen[peer] == sorted(seen[peer])
        assert set(sent[peer]) <= set(seen[peer])

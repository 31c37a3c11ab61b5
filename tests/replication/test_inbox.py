from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.replication.inbox import Inbox

ANNA, BERT = b"anna", b"bert"


def test_one_message_of_each_peer_in_turn_and_of_each_the_oldest_first() -> None:
    inbox = Inbox()
    for number in range(3):
        inbox.put(ANNA, b"a%d" % number)
    inbox.put(BERT, b"b0")
    assert inbox.next_round() == [(ANNA, b"a0"), (BERT, b"b0")]
    assert len(inbox) == 2
    assert inbox.next_round() == [(ANNA, b"a1")]


def test_what_waits_of_a_peer_can_be_dropped_and_that_of_others_stays() -> None:
    inbox = Inbox()
    inbox.put(ANNA, b"a0")
    inbox.put(BERT, b"b0")
    inbox.drop(ANNA)
    inbox.drop(ANNA)
    assert len(inbox) == 1
    assert ANNA not in inbox
    assert BERT in inbox
    assert inbox.next_round() == [(BERT, b"b0")]
    assert inbox.next_round() == []


def test_those_who_rest_keep_their_place_and_are_no_mail() -> None:
    inbox = Inbox()
    inbox.put(ANNA, b"a0")
    inbox.put(BERT, b"b0")
    assert inbox.next_round(but={ANNA}) == [(BERT, b"b0")]
    assert inbox.next_round(but={ANNA}) == []
    assert not inbox.has_mail(but={ANNA})
    assert inbox.has_mail()
    assert inbox.next_round() == [(ANNA, b"a0")]
    assert not inbox.has_mail()


@given(st.lists(st.tuples(st.sampled_from([ANNA, BERT]), st.binary(max_size=2)), max_size=20))
def test_nothing_is_lost_made_up_or_reordered(messages: list[tuple[bytes, bytes]]) -> None:
    inbox = Inbox()
    for peer, raw in messages:
        inbox.put(peer, raw)
    seen = []
    while len(inbox):
        seen += inbox.next_round()
    for peer in (ANNA, BERT):
        assert [m for m in seen if m[0] == peer] == [m for m in messages if m[0] == peer]
    assert len(seen) == len(messages)


def test_those_who_are_no_members_share_one_turn_however_many_they_are() -> None:
    inbox = Inbox(lambda peer: peer in (ANNA, BERT))
    crowd = [b"c%d" % n for n in range(3)]
    for peer in (*crowd, ANNA, BERT):
        for number in range(2):
            inbox.put(peer, b"%d" % number)
    members = [(ANNA, b"%d"), (BERT, b"%d")]
    seen = []
    for number in range(2):
        found = inbox.next_round()
        assert [each for each in found if each[0] in (ANNA, BERT)] == [
            (peer, raw % number) for peer, raw in members
        ]
        seen += [each for each in found if each[0] in crowd]
        assert len(seen) == number + 1, "one of all of them"
    while inbox.has_mail():
        (one,) = inbox.next_round()
        seen.append(one)
    assert [peer for peer, _ in seen] == crowd * 2, "in turn among themselves"
    assert [raw for _, raw in seen] == [b"0"] * 3 + [b"1"] * 3
    assert len(inbox) == 0


def test_one_that_rests_takes_no_turn_of_its_kind() -> None:
    inbox = Inbox(lambda peer: False)
    inbox.put(ANNA, b"a0")
    inbox.put(BERT, b"b0")
    assert inbox.next_round(but={ANNA}) == [(BERT, b"b0")]
    assert inbox.next_round() == [(ANNA, b"a0")]

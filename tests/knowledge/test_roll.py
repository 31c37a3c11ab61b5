"""The roll of members: who may change it, with how many, and what a lone traitor cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.knowledge.agreed import INTERVAL, TIMEOUT, Agreed, UnknownParameter, value_of
from aegis_edge.knowledge.operations import (
    Adjust,
    Admit,
    Approve,
    Change,
    Dismiss,
    Leave,
    OperationError,
    Propose,
    Status,
    decode,
)
from aegis_edge.knowledge.roll import PROPOSAL_MS, PROPOSALS_MAX, Ballot, Roll, Rules, decoded
from aegis_edge.peers.identity import open_record
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import NodeRecord, Verified

SIGNERS = sorted((Signer(bytes([i]) * 32, b"") for i in range(1, 10)), key=lambda s: s.public)
KEYS = [signer.public for signer in SIGNERS]
MEMBERS_MAX = 7


def record(number: int, noise: int | None = None) -> bytes:
    noise_key = bytes([number if noise is None else noise]) * 32
    return SIGNERS[number].sign(NodeRecord(1, noise_key, (), 9, "")).raw


def _open(raw: bytes) -> Verified[NodeRecord]:
    return open_record(raw, Opener(b"").open)


def _fits(n: int, agreed: tuple[Agreed, ...]) -> bool:
    """The more batches are under way, the fewer members there may be."""
    return n <= MEMBERS_MAX and n * (value_of(agreed, INTERVAL) or 1) <= 128


RULES = Rules(lambda n: (n + (n - 1) // 3) // 2 + 1, _fits, _open)


def roll_of(n: int, **more: Any) -> Roll:
    return Roll(tuple((KEYS[i], record(i)) for i in range(n)), **more)


class Assembly:
    """A roll, and members who speak one after another."""

    def __init__(self, n: int) -> None:
        self.roll = roll_of(n)
        self.now_ms = 1000

    def says(self, who: int, ballot: Ballot) -> tuple[Status, int]:
        assert decode(ballot.encode()) == ballot
        self.roll, status, number = self.roll.decide(KEYS[who], self.now_ms, ballot, RULES)
        assert decoded(self.roll.encoded()) == self.roll
        return status, number

    @property
    def members(self) -> list[int]:
        return [KEYS.index(key) for key in self.roll.members]


def test_a_lone_member_decides_alone() -> None:
    house = Assembly(1)
    assert house.says(0, Propose(Admit(record(1)))) == (Status.DONE, 1)
    assert house.members == [0, 1] and not house.roll.proposals


def test_a_quorum_of_four_is_three_and_one_alone_changes_nothing() -> None:
    house = Assembly(4)
    assert house.says(0, Propose(Admit(record(4)))) == (Status.DONE, 1)
    assert house.says(0, Approve(1, True)) == (Status.DONE, 1)
    assert house.says(0, Propose(Admit(record(4)))) == (Status.DONE, 1)
    assert house.members == [0, 1, 2, 3]
    assert house.says(1, Approve(1, True)) == (Status.DONE, 1)
    assert house.members == [0, 1, 2, 3]
    assert house.says(2, Propose(Admit(record(4)))) == (Status.DONE, 1)
    assert house.members == [0, 1, 2, 3, 4]
    assert house.says(3, Approve(1, True)) == (Status.ABSENT, 0)


def test_one_member_takes_the_place_of_another() -> None:
    house = Assembly(4)
    for who in (0, 1, 3):
        house.says(who, Propose(Admit(record(5), instead_of=KEYS[2])))
    assert house.members == [0, 1, 3, 5]


def test_a_member_is_dismissed_against_its_will() -> None:
    house = Assembly(4)
    house.says(0, Propose(Dismiss(KEYS[3])))
    house.says(3, Approve(1, False))
    house.says(1, Approve(1, True))
    house.says(2, Approve(1, True))
    assert house.members == [0, 1, 2]


def test_who_leaves_asks_nobody_but_the_last_one_stays() -> None:
    house = Assembly(2)
    assert house.says(1, Leave()) == (Status.DONE, 0)
    assert house.says(0, Leave()) == (Status.REFUSED, 0)
    assert house.says(0, Propose(Dismiss(KEYS[0]))) == (Status.REFUSED, 0)
    assert house.members == [0]


def test_a_proposal_without_hope_is_closed() -> None:
    house = Assembly(4)
    house.says(0, Propose(Dismiss(KEYS[3])))
    house.says(1, Approve(1, False))
    assert len(house.roll.proposals) == 1
    house.says(3, Approve(1, False))
    assert not house.roll.proposals


def test_a_vote_may_be_changed_until_it_is_decided() -> None:
    house = Assembly(4)
    house.says(0, Propose(Dismiss(KEYS[3])))
    house.says(1, Approve(1, True))
    house.says(1, Approve(1, False))
    house.says(2, Approve(1, True))
    assert house.members == [0, 1, 2, 3]
    house.says(1, Approve(1, True))
    assert house.members == [0, 1, 2]


def test_a_proposal_is_void_after_a_week() -> None:
    house = Assembly(4)
    house.says(0, Propose(Dismiss(KEYS[3])))
    house.now_ms += PROPOSAL_MS - 1
    assert house.says(1, Approve(1, True)) == (Status.DONE, 1)
    house.now_ms += 1
    assert house.says(2, Approve(1, True)) == (Status.ABSENT, 0)
    assert house.members == [0, 1, 2, 3]


def test_an_author_has_few_open_proposals() -> None:
    house = Assembly(4)
    for number in range(PROPOSALS_MAX):
        change = Dismiss(KEYS[number]) if number < 3 else Admit(record(4))
        assert house.says(0, Propose(change))[0] is Status.DONE
    assert house.says(0, Propose(Admit(record(5)))) == (Status.REFUSED, 0)
    assert house.says(1, Propose(Admit(record(5)))) == (Status.DONE, PROPOSALS_MAX + 1)


def test_who_has_proposed_enough_has_no_record_looked_at() -> None:
    """A bundle can hold hundreds of proposals, each with the records of all to be opened."""
    house = Assembly(4)
    for number in range(1, PROPOSALS_MAX):
        house.says(0, Propose(Dismiss(KEYS[number])))
    house.says(0, Propose(Admit(record(4))))
    house.says(1, Propose(Admit(record(5))))
    looked: list[bytes] = []

    def watched(raw: bytes) -> Verified[NodeRecord]:
        looked.append(raw)
        return _open(raw)

    rules = replace(RULES, open_record=watched)
    for change in (Admit(record(6)), Admit(b"nobody's")):
        _, status, _ = house.roll.decide(KEYS[0], 1000, Propose(change), rules)
        assert (status, looked) == (Status.REFUSED, [])
    _, status, number = house.roll.decide(KEYS[0], 1000, Propose(Admit(record(5))), rules)
    assert (status, number) == (Status.DONE, PROPOSALS_MAX + 1), "to want the same is a vote"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (Dismiss(KEYS[8]), Status.ABSENT),
        (Admit(record(5), instead_of=KEYS[8]), Status.ABSENT),
        (Admit(record(1)), Status.CONFLICT),
        (Admit(b"nobody's"), Status.INVALID),
        (Admit(record(5, noise=1)), Status.REFUSED),
        (Adjust("quorum", 1), Status.INVALID),
        (Adjust(TIMEOUT, 99), Status.INVALID),
        (Adjust(TIMEOUT, 3_600_001), Status.INVALID),
        (Adjust(INTERVAL, 0), Status.INVALID),
        (Adjust(INTERVAL, 129), Status.INVALID),
        (Adjust(INTERVAL, 33), Status.REFUSED),
    ],
)
def test_what_nobody_could_do_is_not_put_to_the_vote(change: Change, status: Status) -> None:
    house = Assembly(4)
    assert house.says(0, Propose(change)) == (status, 0)
    assert house.roll == roll_of(4)


def test_there_is_an_end_to_members() -> None:
    house = Assembly(MEMBERS_MAX)
    assert house.says(0, Propose(Admit(record(8)))) == (Status.REFUSED, 0)
    assert house.says(0, Propose(Admit(record(8), instead_of=KEYS[1])))[0] is Status.DONE


def test_a_member_shows_a_new_record_of_itself_in_its_own_place() -> None:
    house = Assembly(1)
    new = SIGNERS[0].sign(NodeRecord(2, bytes(32), (), 9, "")).raw
    assert house.says(0, Propose(Admit(new, instead_of=KEYS[0])))[0] is Status.DONE
    assert dict(house.roll.records)[KEYS[0]] == new


def test_strangers_and_the_dismissed_have_no_voice() -> None:
    house = Assembly(4)
    assert house.says(5, Propose(Admit(record(5)))) == (Status.REFUSED, 0)
    house.says(0, Propose(Dismiss(KEYS[1])))
    house.says(3, Leave())
    assert house.says(3, Approve(1, True)) == (Status.REFUSED, 0)
    assert house.says(3, Leave()) == (Status.REFUSED, 0)


def test_votes_of_the_dismissed_count_no_more() -> None:
    house = Assembly(5)  # four decide
    house.says(0, Propose(Dismiss(KEYS[4])))
    house.says(1, Approve(1, True))
    house.says(2, Approve(1, True))
    house.says(2, Leave())  # now three of four
    assert house.members == [0, 1, 3, 4]
    house.says(4, Approve(1, False))
    assert house.members == [0, 1, 3, 4]
    house.says(3, Approve(1, True))
    assert house.members == [0, 1, 3]


def test_a_change_closes_what_has_become_impossible() -> None:
    house = Assembly(4)
    house.says(0, Propose(Dismiss(KEYS[3])))
    house.says(1, Propose(Admit(record(5), instead_of=KEYS[3])))
    house.says(2, Propose(Admit(record(6))))
    house.says(3, Leave())
    assert [p.change for p in house.roll.proposals] == [Admit(record(6))]


def test_a_batch_closes_with_another_configuration_only_if_members_changed() -> None:
    before = roll_of(4)
    voted, _, _ = before.decide(KEYS[0], 1, Propose(Dismiss(KEYS[3])), RULES)
    assert voted.after(7, before) is voted
    left, _, _ = before.decide(KEYS[0], 1, Leave(), RULES)
    after = left.after(7, before)
    assert (after.number, after.start) == (1, 7)
    assert len({roll.digest() for roll in (before, voted, left, after)}) == 4


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.one_of(
                st.builds(Propose, st.builds(Dismiss, st.sampled_from(KEYS[:6]))),
                st.builds(Propose, st.builds(Admit, st.integers(0, 5).map(record))),
                st.builds(Propose, st.just(Adjust(TIMEOUT, 100))),
                st.builds(Approve, st.integers(1, 9), st.booleans()),
            ),
        ),
        max_size=40,
    )
)
def test_no_f_traitors_outvote_the_honest(spoken: list[tuple[int, Ballot]]) -> None:
    """Of four, one may say what it likes: without two of the others nothing changes."""
    house = Assembly(4)
    for who, ballot in spoken:
        house.says(0 if who % 2 else 5, ballot)
    assert house.members == [0, 1, 2, 3]
    assert not house.roll.agreed


# --- what all members share -------------------------------------------------------------------


def test_a_quorum_agrees_on_a_value_from_the_next_configuration_on() -> None:
    house = Assembly(4)
    before = house.roll
    change = Adjust(TIMEOUT, 10_000)
    assert house.says(0, Propose(change)) == (Status.DONE, 1)
    assert house.says(1, Propose(change)) == (Status.DONE, 1)
    assert house.roll.agreed == () and house.roll.after(9, before) is house.roll
    assert house.roll.terms == b""
    assert house.says(3, Approve(1, True)) == (Status.DONE, 1)
    after = house.roll.after(9, before)
    assert (after.number, after.start) == (1, 9)
    assert after.agreed == (Agreed(TIMEOUT, 10_000, 1),)
    assert after.members == before.members and not after.proposals
    assert after.terms and after.digest() != replace(after, agreed=()).digest()


def test_one_value_takes_the_place_of_another_and_is_not_agreed_on_twice() -> None:
    house = Assembly(1)
    for number, (name, value) in enumerate(
        ((TIMEOUT, 5000), (INTERVAL, 8), (TIMEOUT, 7000), (TIMEOUT, 5000)), 1
    ):
        before = house.roll
        assert house.says(0, Propose(Adjust(name, value))) == (Status.DONE, number)
        assert house.says(0, Propose(Adjust(name, value))) == (Status.CONFLICT, 0)
        house.roll = house.roll.after(number, before)
    assert house.roll.agreed == (Agreed(INTERVAL, 8, 2), Agreed(TIMEOUT, 5000, 4))
    assert house.roll.number == 4


def test_what_is_agreed_on_closes_the_proposals_that_want_just_that_or_fit_no_more() -> None:
    house = Assembly(4)
    for who, change in enumerate(
        (Adjust(INTERVAL, 32), Adjust(INTERVAL, 16), Admit(record(4)), Adjust(TIMEOUT, 100))
    ):
        house.says(who, Propose(change))
    for who in (1, 2):
        house.says(who, Propose(Adjust(INTERVAL, 32)))
    # With 32 there is no room for a fifth; a smaller one, and another value, may come still.
    assert [p.change for p in house.roll.proposals] == [Adjust(INTERVAL, 16), Adjust(TIMEOUT, 100)]
    assert house.says(0, Propose(Admit(record(4)))) == (Status.REFUSED, 0)
    assert house.says(0, Propose(Admit(record(4), instead_of=KEYS[3])))[0] is Status.DONE


def test_a_roll_without_anything_agreed_on_is_written_as_ever() -> None:
    plain = codec.decode(roll_of(2).encoded())
    assert type(plain) is tuple and len(plain) == 5
    agreed = roll_of(2, agreed=(Agreed(INTERVAL, 8, 2), Agreed(TIMEOUT, 5000, 4)))
    assert decoded(agreed.encoded()) == agreed


def test_what_a_later_release_knows_is_told_from_what_is_spoilt() -> None:
    plain = codec.decode(roll_of(1).encoded())
    for agreed in ((), (("a",),), 7):
        with pytest.raises(WireError, match="agreed on"):
            decoded(codec.encode((*plain, agreed)))
    with pytest.raises(WireError, match="no roll"):
        decoded(codec.encode((*plain, *[((TIMEOUT, 500, 1),)] * 2)))
    with pytest.raises(UnknownParameter, match="'quorum', which this release does not know"):
        decoded(codec.encode((*plain, (("quorum", 1, 1),))))


@given(st.binary(max_size=60))
def test_any_bytes_on_the_disk_give_a_roll_or_a_wire_error(data: bytes) -> None:
    try:
        decoded(data)
    except WireError:
        pass


@pytest.mark.parametrize(
    "value",
    [0, (), ((), 0, 0, ((1, 2),), 0), ((), 0, 0, ((1, b"", 2, (9, 9, 9, 9), (), ()),), 0)],
)
def test_what_is_no_roll_is_refused(value: object) -> None:
    with pytest.raises(WireError):
        decoded(codec.encode(value))


@pytest.mark.parametrize(
    "fields",
    [
        (4,),
        (4, 1),
        (4, (), None),
        (4, (1, b"", b"short"), None),
        (4, (1, "text", None), None),
        (4, (1, bytes(4096), None), None),
        (4, (2, b"short"), None),
        (4, (2, "text"), None),
        (4, (3, bytes(32)), None),
        (4, (4, "name", 1), None),
        (4, (3, "name"), None),
        (4, (3, b"name", 1), None),
        (4, (3, "", 1), None),
        (4, (3, "Name", 1), None),
        (4, (3, "n" * 33, 1), None),
        (4, (3, "name", -1), None),
        (4, (3, "name", 1 << 63), None),
        (4, (3, "name", True), None),
        (4, (3, "name", "1"), None),
        (4, (3, "name", 1, 1), None),
        (4, (2, bytes(32))),
        (4, (2, bytes(32)), -1),
        (4, (2, bytes(32)), "now"),
        (4, (2, bytes(32)), 0, 0),
        (6,),
        (6, -1),
        (6, True),
        (6, 1, 1),
        (5, 0, True),
        (5, 1, 1),
        (5, 1),
    ],
)
def test_bad_ballots_are_no_operations(fields: tuple[Any, ...]) -> None:
    with pytest.raises(OperationError):
        decode(codec.encode(fields))


def test_what_comes_late_changes_no_later_configuration() -> None:
    house = Assembly(3)
    house.roll = replace(house.roll, number=5)
    for late in (Propose(Dismiss(KEYS[2]), 4), Propose(Dismiss(KEYS[2]), 6), Leave(4)):
        assert house.says(0, late) == (Status.CONFLICT, 5)
    assert house.roll == replace(roll_of(3), number=5)
    assert house.says(0, Propose(Dismiss(KEYS[2]), 5)) == (Status.DONE, 1)
    assert house.says(0, Leave(5)) == (Status.DONE, 0)
    assert house.members == [1, 2]


def test_what_is_out_of_bounds_is_not_encoded() -> None:
    for bad in (
        Propose(Dismiss(b"")),
        Propose(Admit(bytes(4096))),
        Propose(Adjust("name", -1)),
        Approve(0, True),
        Leave(-1),
    ):
        with pytest.raises(OperationError):
            bad.encode()

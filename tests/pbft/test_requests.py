"""Bundles go to the primary; to everybody where it cannot be reached, or does not serve them."""

from dataclasses import replace

import pytest

from aegis_edge.pbft.events import Alarm, Bundled, Effect, Send
from aegis_edge.wire.messages import Bundle
from tests.pbft.parts import INCARNATION, KEYS, OPEN, PARAMETERS, SIGNERS, Parts, bundle
from tests.pbft.stage import PACE

COMPLAINT = PACE.complaint_ticks
PRIMARY = KEYS[0]


def sent(effects: list[Effect]) -> list[tuple[tuple[bytes, ...], tuple[int, int], bytes]]:
    """To whom which bundle of whom went."""
    found = []
    for effect in effects:
        assert isinstance(effect, Send)
        opened = OPEN(effect.raw)
        name = (opened.message.incarnation, opened.message.number)
        found.append((effect.peers, name, opened.signer))
    return found


def test_a_bundle_is_named_and_handed_to_the_primary() -> None:
    made = Parts(own=1)
    for number in (1, 2):
        named, *rest = made.said(made.requests.submit, (b"a", b"b"))
        assert named == Bundled(INCARNATION, number)
        assert sent(rest) == [((PRIMARY,), (INCARNATION, number), KEYS[1])]
    assert [b.message.operations for b, _ in made.pool.waiting(KEYS[1])] == [(b"a", b"b")] * 2


def test_a_primary_that_was_given_something_new_has_time_for_it() -> None:
    made = Parts(own=1)
    made.pool.add(bundle(2), made.at.now_ticks - COMPLAINT)
    assert made.pacing.has_come(made.pacing.complaint_due())
    made.requests.submit((b"a",))
    assert made.pacing.complaint_due() == made.at.now_ticks + COMPLAINT


@pytest.mark.parametrize("trouble", ["changing", "unreachable"])
def test_without_a_primary_everybody_is_told(trouble: str) -> None:
    made = Parts(own=1)
    made.at.changing = trouble == "changing"
    if trouble == "unreachable":
        made.suspicion.link(PRIMARY, False, made.at.now_ticks)
    _, *rest = made.said(made.requests.submit, (b"a",))
    assert [to for to, _, _ in sent(rest)] == [(KEYS[0], KEYS[2], KEYS[3])]


def test_a_primary_tells_nobody_unless_it_may_not_propose() -> None:
    made = Parts(own=0)
    assert made.said(made.requests.submit, (b"a",)) == [Bundled(INCARNATION, 1)]
    made.at.voting = False
    _, *rest = made.said(made.requests.submit, (b"b",))
    assert [to for to, _, _ in sent(rest)] == [KEYS[1:4]]


def test_where_links_carry_little_there_is_room_for_little() -> None:
    slow = replace(PARAMETERS, bytes_a_second=400)  # 600 bytes in half of the time-out
    for bytes_a_second, size, room in ((400, 100, 3), (400, 300, 0), (0, 300, 3)):
        made = Parts(parameters=replace(slow, bytes_a_second=bytes_a_second))
        made.said(made.requests.submit, (bytes(size),))
        assert made.requests.room() == room


def test_there_is_room_for_a_few() -> None:
    made = Parts(own=1)
    room = PARAMETERS.bundles_in_flight
    for left in range(room, 0, -1):
        assert made.requests.room() == left
        made.requests.submit((b"a",))
    assert made.requests.room() == 0
    with pytest.raises(AssertionError, match="room"):
        made.requests.submit((b"a",))
    made.pool.execute(tuple(b for b, _ in made.pool.waiting(KEYS[1]))[:1], 0)
    assert made.requests.room() == 1


def test_what_waits_is_repeated_to_whom_it_concerns() -> None:
    made = Parts(own=1)
    for _ in range(2):
        made.requests.submit((b"a",))
    made.pool.add(bundle(2), 0)
    again = sent(made.said(made.requests.repeat, KEYS[3]))
    assert again == [((KEYS[3],), (INCARNATION, n), KEYS[1]) for n in (1, 2)]
    assert [to for to, _, _ in sent(made.said(made.requests.repeat))] == [
        (KEYS[0], KEYS[2], KEYS[3])
    ] * 2


def test_a_complaint_is_of_ones_own_to_all_and_of_others_to_the_primary() -> None:
    made = Parts(own=1)
    made.requests.submit((b"a",))
    made.at.now_ticks += COMPLAINT
    made.pool.add(bundle(2), made.at.now_ticks - COMPLAINT)
    made.pool.add(bundle(3), made.at.now_ticks - COMPLAINT + 1)  # not for long enough
    told = sent(made.said(made.requests.complain))
    assert told == [
        ((KEYS[0], KEYS[2], KEYS[3]), (INCARNATION, 1), KEYS[1]),
        ((PRIMARY,), (1, 1), KEYS[2]),
    ]
    assert made.pacing.complaint_due() == made.at.now_ticks + COMPLAINT, "and not all the time"


@pytest.mark.parametrize("trouble", ["changing", "primary"])
def test_with_no_primary_but_oneself_others_are_not_complained_of(trouble: str) -> None:
    made = Parts(own=1)
    made.at.view, made.at.changing = (1, False) if trouble == "primary" else (0, True)
    made.requests.submit((b"a",))
    made.pool.add(bundle(2), 0)
    assert {who for _, _, who in sent(made.said(made.requests.complain))} == {KEYS[1]}


def test_an_origin_that_complains_is_heard_by_the_primary() -> None:
    made = Parts(own=1)
    first = bundle(2)
    assert sent(made.said(made.requests.on_bundle, first, KEYS[2])) == [
        ((PRIMARY,), (1, 1), KEYS[2])
    ]
    assert made.said(made.requests.on_bundle, first, KEYS[2]) == [], "once in a while"
    made.at.now_ticks += PACE.resend_ticks
    assert len(made.said(made.requests.on_bundle, first, KEYS[2])) == 1
    assert made.said(made.requests.on_bundle, bundle(2, 2), KEYS[3]) == [], "not its own word"
    made.pool.execute((first,), 0)
    made.at.now_ticks += PACE.resend_ticks
    assert made.said(made.requests.on_bundle, first, KEYS[2]) == [], "it is done"


def test_nobody_else_is_passed_a_bundle() -> None:
    made = Parts(own=1)
    assert made.said(made.requests.on_bundle, bundle(0), KEYS[0]) == [], "the primary's own"
    made.at.changing = True
    assert made.said(made.requests.on_bundle, bundle(2), KEYS[2]) == []
    made.at.changing, made.at.view = False, 1
    assert made.said(made.requests.on_bundle, bundle(3), KEYS[3]) == [], "it is here"
    assert made.pool.origins() == sorted((KEYS[0], KEYS[2], KEYS[3]))


def test_two_bundles_under_one_number_accuse_their_origin() -> None:
    made = Parts(own=1)
    made.requests.on_bundle(bundle(2), KEYS[3])
    second = SIGNERS[2].sign(Bundle(1, 1, (b"other",)))
    effects = made.said(made.requests.on_bundle, second, KEYS[2])
    assert effects == [Alarm("two bundles under one number", KEYS[2], (second.raw,))]

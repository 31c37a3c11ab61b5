"""One list for all parts: what is said comes out in the order in which it was said."""

from aegis_edge.pbft.events import Alarm, Persist, Prune, Record, Send
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import Checkpoint
from tests.pbft.parts import KEYS, SIGNERS

RECORD = Record(1, 0, 0, b"r")


def voice(*others: bytes) -> Voice:
    return Voice(SIGNERS[0], others)


def test_effects_keep_their_order_and_belong_to_their_step() -> None:
    made = voice(b"b", b"c")
    first = made.begin()
    made.persist(RECORD)
    made.send(b"raw")
    made.add(Prune(4))
    made.send(b"raw", b"c")
    assert first == [
        Persist(RECORD),
        Send((b"b", b"c"), b"raw"),
        Prune(4),
        Send((b"c",), b"raw"),
    ]
    second = made.begin()
    made.add(Prune(8))
    assert second == [Prune(8)]
    assert len(first) == 4


def test_it_signs_with_the_member_s_own_key() -> None:
    signed = voice().sign(Checkpoint(0, 4, b"r" * 32))
    assert (signed.signer, signed.message) == (KEYS[0], Checkpoint(0, 4, b"r" * 32))


def test_who_is_alone_speaks_to_nobody() -> None:
    made = voice()
    effects = made.begin()
    made.send(b"raw")
    assert effects == []


def test_nobody_is_accused_twice_of_the_same() -> None:
    made = voice()
    effects = made.begin()
    for about in (b"x", b"x", b"y"):
        made.alarm("it lies", about, b"proof")
    made.alarm("it steals", b"x")
    assert effects == [
        Alarm("it lies", b"x", (b"proof",)),
        Alarm("it lies", b"y", (b"proof",)),
        Alarm("it steals", b"x"),
    ]
    again = made.begin()
    made.alarm("it lies", b"x", b"proof")
    assert again == [], "in a later step neither"


def test_the_last_word_is_an_alarm_about_oneself() -> None:
    made = voice(b"b")
    assert made.halted is None
    effects = made.begin()
    made.halt("no more", b"proof")
    assert made.halted == "no more"
    assert effects == [Alarm("no more", KEYS[0], (b"proof",))]

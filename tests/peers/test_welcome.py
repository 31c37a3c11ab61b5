"""Newcomer and host: a question is good on one link alone, and hostile bytes are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.peers import welcome
from aegis_edge.peers.armour import TEXT_CHARACTERS_MAX
from aegis_edge.peers.welcome import Answer, Question, State
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import COUNTER_MAX, MEMBERS_MAX
from aegis_edge.wire.session import SIZE_BUCKETS
from tests.peers.test_invitation import GOOD as INVITATION

TRANSCRIPT = bytes(range(64))


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_question_shows_that_its_sender_was_invited(is_ready: bool) -> None:
    raw = welcome.question(INVITATION, TRANSCRIPT, is_ready=is_ready)
    asked = welcome.read_question(raw)
    assert asked.public == INVITATION.public
    assert asked.is_ready is is_ready
    assert asked.is_proven(TRANSCRIPT)
    assert len(raw) < SIZE_BUCKETS[0] - 64, "it rides in the smallest frame"


def test_it_is_good_on_no_other_link_and_with_no_other_secret() -> None:
    raw = welcome.question(INVITATION, TRANSCRIPT, is_ready=True)
    asked = welcome.read_question(raw)
    assert not asked.is_proven(bytes(64))
    guessed = replace(INVITATION, secret=bytes(16))
    forged = asked._replace(signature=guessed.sign(TRANSCRIPT))
    assert not forged.is_proven(TRANSCRIPT)


ANSWERS = [
    Answer(State.WELCOME, genesis="genesis", records=(b"one", b"two")),
    Answer(State.WAITING, number=7, yes=1, needed=3),
    Answer(State.LATER, "no quorum"),
    *map(Answer, State),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_comes_back_as_it_was_said(answer: Answer) -> None:
    assert welcome.read_answer(answer.encode()) == answer


GOOD_QUESTION = (1, INVITATION.public, bytes(64), True)
GOOD_ANSWER = (1, 0, "", "", (), 0, 0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        7,
        (),
        (2, *GOOD_QUESTION[1:]),
        (True, *GOOD_QUESTION[1:]),
        GOOD_QUESTION[:-1],
        (*GOOD_QUESTION, 0),
        (1, bytes(31), *GOOD_QUESTION[2:]),
        (1, "x" * 32, *GOOD_QUESTION[2:]),
        (*GOOD_QUESTION[:2], bytes(63), True),
        (*GOOD_QUESTION[:2], None, True),
        (*GOOD_QUESTION[:3], 1),
    ],
)
def test_what_is_no_question_is_refused(fields: Any) -> None:
    with pytest.raises(WireError):
        welcome.read_question(codec.encode(fields))


@pytest.mark.parametrize(
    "fields",
    [
        (2, *GOOD_ANSWER[1:]),
        GOOD_ANSWER[:-1],
        (1, len(State), *GOOD_ANSWER[2:]),
        (1, True, *GOOD_ANSWER[2:]),
        (1, 0, b"", *GOOD_ANSWER[3:]),
        (1, 0, "x" * (welcome.WORDS_CHARACTERS_MAX + 1), *GOOD_ANSWER[3:]),
        (*GOOD_ANSWER[:3], b"", *GOOD_ANSWER[4:]),
        (*GOOD_ANSWER[:3], "x" * (TEXT_CHARACTERS_MAX + 1), *GOOD_ANSWER[4:]),
        (*GOOD_ANSWER[:4], b"", *GOOD_ANSWER[5:]),
        (*GOOD_ANSWER[:4], (b"",) * (MEMBERS_MAX + 1), *GOOD_ANSWER[5:]),
        (*GOOD_ANSWER[:4], ("",), *GOOD_ANSWER[5:]),
        (*GOOD_ANSWER[:4], (bytes(welcome.RECORD_BYTES_MAX + 1),), *GOOD_ANSWER[5:]),
        (*GOOD_ANSWER[:5], -1, 0, 0),
        (True, *GOOD_ANSWER[1:]),
        (*GOOD_ANSWER[:5], 0, COUNTER_MAX + 1, 0),
        (*GOOD_ANSWER[:5], 0, 0, "many"),
    ],
)
def test_what_is_no_answer_is_refused(fields: Any) -> None:
    assert welcome.read_answer(codec.encode(GOOD_ANSWER)) == Answer(State.WELCOME)
    with pytest.raises(WireError):
        welcome.read_answer(codec.encode(fields))


@given(st.binary())
def test_any_bytes_are_refused_with_the_one_error(data: bytes) -> None:
    for read in (welcome.read_question, welcome.read_answer):
        with pytest.raises(WireError):
            read(data)


def test_no_key_is_good_for_what_it_did_not_sign() -> None:
    assert not Question(bytes(32), bytes(64), True).is_proven(TRANSCRIPT)

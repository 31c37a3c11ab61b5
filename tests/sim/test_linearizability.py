"""Two judges, one verdict: the fast one by revisions against the slow one by every order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.linearizability import Call, check, search


def put(invoked: int, returned: int | None, revision: int, value: bytes, **more: object) -> Call:
    status = "" if returned is None else "done"
    return Call("put", "k", invoked, value, None, returned, status, revision, **more)  # type: ignore[arg-type]


def get(invoked: int, returned: int, revision: int, seen: bytes | None) -> Call:
    return Call("get", "k", invoked, None, None, returned, "done", revision, seen)


def test_a_history_that_is_fine() -> None:
    history = [put(1, 2, 1, b"a"), get(3, 4, 1, b"a"), put(5, 8, 2, b"b"), get(6, 7, 2, b"b")]
    assert check(history) == []
    assert search(history)


@pytest.mark.parametrize(
    ("history", "word"),
    [
        ([put(1, 2, 1, b"a"), put(3, 4, 2, b"b"), get(5, 6, 1, b"a")], "past"),
        ([put(1, 2, 2, b"a"), put(3, 4, 1, b"b")], "past"),
        ([get(1, 2, 1, b"a"), put(3, 4, 1, b"a")], "future"),
        ([put(1, 2, 1, b"a"), get(3, 4, 1, b"b")], "another value"),
        ([get(1, 2, 1, b"x")], "nobody"),
        ([get(1, 2, 3, None)], "nobody"),
        ([put(1, 2, 1, b"a"), put(3, 4, 1, b"b")], "two writes"),
    ],
)
def test_histories_that_are_not(history: list[Call], word: str) -> None:
    assert any(word in wrong for wrong in check(history))


def test_compare_and_set_needs_its_revision() -> None:
    lost = [
        put(1, 2, 1, b"a"),
        put(3, 4, 2, b"b"),
        Call("put", "k", 5, b"c", 1, 6, "done", 3),
    ]
    assert any("overwrote" in wrong for wrong in check(lost))
    early = [Call("put", "k", 1, b"c", 7, 2, "done", 3)]
    assert any("before its condition" in wrong for wrong in check(early))
    odd = [put(1, 2, 1, b"a"), Call("put", "k", 3, b"c", 1, 4, "conflict", 1)]
    assert any("conflict without one" in wrong for wrong in check(odd))


def test_a_write_without_an_answer_may_or_may_not_have_happened() -> None:
    write = put(1, None, 0, b"a")
    assert check([write, get(2, 3, 0, None)]) == []
    assert check([write, get(2, 3, 1, b"a")]) == []
    assert check([write, get(2, 3, 1, b"a"), get(4, 5, 0, None)]) != []


def test_what_others_wrote_is_judged_by_its_place_only() -> None:
    foreign = frozenset({b"theirs"})
    assert check([get(1, 2, 4, b"theirs")], foreign) == []
    assert check([get(1, 2, 4, b"theirs"), put(3, 4, 3, b"a")], foreign) != []


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    """Calls of an honest register, some of them then spoilt."""
    count = draw(st.integers(1, 7))
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    revision, value, moment = 0, None, 0
    calls = []
    for number in range(count):
        moment += 10
        invoked = moment - chance.randrange(0, 60)
        returned: int | None = moment + chance.randrange(1, 60)
        if chance.random() < 0.5:
            revision, value = revision + 1, b"%d" % number
            calls.append(put(invoked, returned, revision, value))
            if chance.random() < 0.2:
                calls[-1].returned, calls[-1].status = None, ""
        else:
            calls.append(get(invoked, returned, revision, value))
    if draw(st.booleans()):
        reads = [c for c in calls if c.kind == "get"]
        writes = [c for c in calls if c.wrote]
        if reads and writes:
            read, write = chance.choice(reads), chance.choice(writes)
            read.revision, read.seen = write.revision, write.value
    # Moments only order, and no two are the same.
    order = sorted(
        [(c.invoked, i, 0) for i, c in enumerate(calls)]
        + [(c.returned, i, 1) for i, c in enumerate(calls) if c.returned is not None]
    )
    for place, (_, index, returning) in enumerate(order):
        if returning:
            calls[index].returned = place
        else:
            calls[index].invoked = place
    return calls


@given(histories())
def test_both_judges_agree(history: list[Call]) -> None:
    """Revisions say more than values: what the fast judge passes, the slow one must pass too, and
    where all writes were answered, in the order of their revisions, they say the same."""
    verdict = check(history)
    if not verdict:
        assert search(history)
    elif all(c.returned is not None for c in history) and not _order_matters(history):
        assert not search(history)


def _order_matters(history: list[Call]) -> bool:
    """True if two writes overlap: then revisions tell their order, and values do not."""
    writes = [c for c in history if c.wrote]
    return any(
        a is not b and a.invoked < (b.returned or 0) and b.invoked < (a.returned or 0)
        for a in writes
        for b in writes
    )

"""The state machine against a plain model, and the pinned root that no version may move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import (
    Barrier,
    Delete,
    Operation,
    OperationError,
    Outcome,
    Put,
    Status,
    decode,
)
from aegis_edge.knowledge.state import unpack_retained
from tests.knowledge.histories import BATCHES, Numbers, bundle, origin
from tests.knowledge.memory_state import MemoryState

Batch = list[tuple[int, list[Operation | bytes]]]


class Model:
    """The rules once more, as plainly as they can be said: lists of (revision, value or None)."""

    def __init__(self) -> None:
        self.revision = 0
        self.history: dict[str, list[tuple[int, bytes | None]]] = {}

    def execute(self, operation: Operation | bytes) -> tuple[Status, int]:
        if isinstance(operation, bytes):
            try:
                operation = decode(operation)
            except OperationError:
                return Status.INVALID, 0
        if isinstance(operation, Barrier):
            return Status.DONE, self.revision
        past = self.history.setdefault(operation.key, [(0, None)])
        current = 0 if past[-1][1] is None else past[-1][0]
        if operation.expected not in (None, current):
            return Status.CONFLICT, current
        if isinstance(operation, Delete) and current == 0:
            return Status.ABSENT, 0
        self.revision += 1
        past.append((self.revision, operation.value if isinstance(operation, Put) else None))
        return Status.DONE, self.revision


@given(BATCHES, st.integers(1, 4))
def test_outcomes_and_contents_are_those_of_the_model(batches: list[Batch], kept: int) -> None:
    state, model, numbers = MemoryState(), Model(), Numbers()
    machine = Machine(state, kept)
    for sequence, batch in enumerate(batches, 1):
        outcomes = machine.apply(sequence, 10 * sequence, numbers.bundles(batch))
        assert outcomes == [
            tuple(Outcome(*model.execute(op), 10 * sequence) for op in operations)
            for _, operations in batch
        ]
    written = {key: past[1:] for key, past in model.history.items() if past[1:]}
    assert set(state.retained_rows) == set(written)
    for key, past in written.items():
        found = [state.versions[r.revision] for r in unpack_retained(state.retained_rows[key])]
        assert [(v.revision, None if v.deleted else v.value) for v in found] == past[-kept:]
        before = [0, *(revision for revision, _ in past)]
        assert [v.previous_revision for v in found] == before[-len(found) - 1 : -1]
    assert len(state.versions) == sum(len(past[-kept:]) for past in written.values())
    assert machine.live_keys == sum(past[-1][1] is not None for past in written.values())
    assert machine.revision == model.revision


@given(BATCHES, st.integers(1, 4), st.sets(st.integers(1, 6)), st.sets(st.integers(1, 6)))
def test_the_root_depends_on_history_alone(
    batches: list[Batch], kept: int, restarts: set[int], roots: set[int]
) -> None:
    state, numbers, other_numbers = MemoryState(), Numbers(), Numbers()
    machine, plain = Machine(state, kept), Machine(MemoryState(), kept)
    for sequence, batch in enumerate(batches, 1):
        machine.apply(sequence, sequence, numbers.bundles(batch))
        plain.apply(sequence, sequence, other_numbers.bundles(batch))
        if sequence in roots:
            machine.root()
        if sequence in restarts:
            machine = Machine(state.copy(), kept)
            state = machine._state  # type: ignore[assignment]
    assert machine.root() == plain.root()
    assert Machine(state, kept).root() == plain.root()
    assert (machine.executed, machine.time_ms, machine.revision, machine.origins) == (
        plain.executed, plain.time_ms, plain.revision, plain.origins,
    )  # fmt: skip


GOLDEN = (
    (1000, (bundle(0, 1, Put("a", b"one"), Put("b/c", b'{"x":1}', 1), b"garbage"),)),
    (2000, (bundle(1, 1, Put("a", b"two", 0, 1)), bundle(0, 2, Delete("b/c"), Delete("nil")))),
    (2000, ()),
    (3000, (bundle(0, 1, Put("a", b"", 0, 9), *[Put("a", b"%d" % i) for i in range(5)],
                   Put("\U00010437/é", bytes(1000)), Barrier(), incarnation=2),)),
)  # fmt: skip


def golden(state: MemoryState) -> Machine:
    machine = Machine(state, 3)
    for sequence, (time_ms, bundles) in enumerate(GOLDEN, 1):
        machine.apply(sequence, time_ms, bundles)
    return machine


def test_the_root_of_a_known_history_is_pinned() -> None:
    """A change here splits every running cluster: it needs a new protocol version."""
    assert golden(MemoryState()).root().hex() == (
        "c729ca9fc2d7aa338732ef22058b35dc0035c87ef330eb45092cf791ba5ca0dd"
    )
    assert Machine(MemoryState(), 3).root().hex() == (
        "38c65d4ff2972138a3506eccc4b453017d6e267f6145d022253f58cf61cbf548"
    )


def test_the_root_binds_time_revision_origins_and_every_kept_version() -> None:
    base = golden(MemoryState()).root()
    for attribute, value in (
        ("time_ms", 3001),
        ("revision", 99),
        ("origins", {origin(0): (2, 1), origin(1): (1, 2)}),
        ("origins", {origin(0): (2, 1)}),
        ("origins", {}),
    ):
        machine = golden(MemoryState())
        setattr(machine, attribute, value)
        assert machine.root() != base, attribute
    state = MemoryState()
    golden(state)
    for key, row in list(state.retained_rows.items()):
        for at in range(len(row)):
            changed = state.copy()
            changed.retained_rows[key] = row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :]
            assert Machine(changed, 3).root() != base
    fewer = state.copy()
    del fewer.retained_rows["a"]
    assert Machine(fewer, 3).root() != base


def test_a_null_batch_moves_nothing_but_the_sequence() -> None:
    machine = golden(MemoryState())
    root = machine.root()
    assert machine.apply(5, 3000, ()) == []
    assert machine.executed == 5
    assert machine.root() == root


def test_a_barrier_answers_with_the_last_revision_of_all() -> None:
    machine = Machine(MemoryState(), 3)
    outcomes = machine.apply(1, 7, (bundle(0, 1, Put("a", b""), Put("b", b""), Barrier()),))
    assert outcomes[0][2] == (Status.DONE, 2, 7)


def test_what_is_agreed_is_executed_once_in_order_and_in_time() -> None:
    first = bundle(0, 2, Barrier())
    for sequence, time_ms, bundles in (
        (1, 10, ()),
        (3, 10, ()),
        (2, 9, ()),
        (2, 10, (first,)),
        (2, 10, (bundle(0, 1, Barrier()),)),
    ):
        machine = Machine(MemoryState(), 3)
        machine.apply(1, 10, (first,))
        with pytest.raises(AssertionError):
            machine.apply(sequence, time_ms, bundles)


def test_a_key_keeps_at_least_one_version() -> None:
    with pytest.raises(AssertionError):
        Machine(MemoryState(), 0)
    state = MemoryState()
    machine = Machine(state, 1)
    machine.apply(1, 1, (bundle(0, 1, Put("a", b"1"), Put("a", b"2"), Delete("a")),))
    assert list(state.versions) == [3]


def test_a_state_kept_with_more_versions_shrinks_to_fewer() -> None:
    state = MemoryState()
    Machine(state, 3).apply(1, 1, (bundle(0, 1, *[Put("a", b"%d" % i) for i in range(3)]),))
    Machine(state, 1).apply(2, 2, (bundle(0, 2, Put("a", b"new")),))
    assert list(state.versions) == [4]

"""The state machine against a plain model, and the pinned root that no version may move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.knowledge import merkle
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.operations import (
    Barrier,
    Delete,
    Dismiss,
    Leave,
    Operation,
    OperationError,
    Outcome,
    Propose,
    Put,
    Status,
    decode,
)
from aegis_edge.knowledge.parts import Row
from aegis_edge.knowledge.roll import Roll
from aegis_edge.knowledge.state import Rotten, unpack_retained
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import Bundle, Verified
from tests.knowledge.founders import FOUNDERS, machine_of
from tests.knowledge.histories import BATCHES, Numbers, bundle, origin, signer
from tests.knowledge.memory_state import MemoryState
from tests.knowledge.transfers import Node, share_labels

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
    machine = machine_of(state, kept)
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
    machine, plain = machine_of(state, kept), machine_of(MemoryState(), kept)
    for sequence, batch in enumerate(batches, 1):
        machine.apply(sequence, sequence, numbers.bundles(batch))
        plain.apply(sequence, sequence, other_numbers.bundles(batch))
        if sequence in roots:
            machine.root()
        if sequence in restarts:
            machine = machine_of(state.copy(), kept)
            state = machine._state  # type: ignore[assignment]
    assert machine.root() == plain.root()
    assert machine_of(state, kept).root() == plain.root()
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
    machine = machine_of(state, 3)
    for sequence, (time_ms, bundles) in enumerate(GOLDEN, 1):
        machine.apply(sequence, time_ms, bundles)
    return machine


def test_the_root_of_a_known_history_is_pinned() -> None:
    """A change here splits every running cluster: it needs a new protocol version."""
    assert golden(MemoryState()).root().hex() == (
        "a11575e2e5e88adcef406d413b459ff4cea16262d667097aa32aa3da6a631cfa"
    )
    assert machine_of(MemoryState(), 3).root().hex() == (
        "57f87d63ead751e2912d40523f1aa0d6cda509bd7c8216bd2f9c3997e163af45"
    )


def test_the_root_binds_time_revision_origins_and_every_kept_version() -> None:
    base = golden(MemoryState()).root()
    for attribute, value in (
        ("time_ms", 3001),
        ("revision", 99),
        ("origins", {origin(0): (2, 1), origin(1): (1, 2)}),
        ("origins", {origin(0): (2, 1)}),
        ("origins", {}),
        ("_roll_digest", FOUNDERS.after(4, Roll(())).digest()),
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
            assert machine_of(changed, 3).root() != base
    fewer = state.copy()
    del fewer.retained_rows["a"]
    assert machine_of(fewer, 3).root() != base


def test_a_null_batch_moves_nothing_but_the_sequence() -> None:
    machine = golden(MemoryState())
    root = machine.root()
    assert machine.apply(5, 3000, ()) == []
    assert machine.executed == 5
    assert machine.root() == root


def test_a_barrier_answers_with_the_last_revision_of_all() -> None:
    machine = machine_of(MemoryState(), 3)
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
        machine = machine_of(MemoryState(), 3)
        machine.apply(1, 10, (first,))
        with pytest.raises(AssertionError):
            machine.apply(sequence, time_ms, bundles)


def test_a_key_keeps_at_least_one_version() -> None:
    with pytest.raises(AssertionError):
        machine_of(MemoryState(), 0)
    state = MemoryState()
    machine = machine_of(state, 1)
    machine.apply(1, 1, (bundle(0, 1, Put("a", b"1"), Put("a", b"2"), Delete("a")),))
    assert list(state.versions) == [3]


def test_a_state_kept_with_more_versions_shrinks_to_fewer() -> None:
    state = MemoryState()
    machine_of(state, 3).apply(1, 1, (bundle(0, 1, *[Put("a", b"%d" % i) for i in range(3)]),))
    machine_of(state, 1).apply(2, 2, (bundle(0, 2, Put("a", b"new")),))
    assert list(state.versions) == [4]


def test_only_a_bundle_of_members_changes_them_and_the_roll_is_kept_with_its_batch() -> None:
    state = MemoryState()
    machine = machine_of(state, 3)
    leave = Leave().encode()
    (plain,) = machine.apply(1, 1, (bundle(0, 1, leave),))
    assert plain == ((Status.INVALID, 0, 1),)
    assert (machine.roll, state.kept.roll) == (FOUNDERS, b"")
    said = signer(0).sign(Bundle(1, 2, (leave, Put("a", b"1").encode()), of_members=True))
    before = machine.root()
    (outcomes,) = machine.apply(2, 2, (said,))
    assert outcomes == ((Status.DONE, 0, 2), (Status.DONE, 1, 2))
    assert (machine.roll.number, machine.roll.start) == (1, 2)
    assert origin(0) not in machine.roll.members
    assert machine.root() != before
    again = machine_of(state, 3)
    assert (again.roll, again.root()) == (machine.roll, machine.root())


def test_what_a_batch_would_make_of_the_roll_is_foreseen_and_nothing_is_changed() -> None:
    machine = machine_of(MemoryState(), 3)

    def says(who: int, number: int, *operations: bytes, of_members: bool = True) -> None:
        bundles.append(signer(who).sign(Bundle(1, number, operations, of_members)))

    bundles: list[Verified[Bundle]] = []
    dismiss = Propose(Dismiss(origin(2))).encode()
    assert machine.foresee(1, 5, bundles) == FOUNDERS
    says(0, 1, Put("a", b"1").encode(), b"none", Barrier().encode(), dismiss)
    assert machine.foresee(1, 5, bundles).number == 0
    says(1, 1, dismiss, of_members=False)
    assert machine.foresee(1, 5, bundles).members == FOUNDERS.members
    says(1, 2, dismiss)
    foreseen = machine.foresee(1, 5, bundles)
    assert (foreseen.number, foreseen.start) == (1, 1)
    assert origin(2) not in foreseen.members
    assert (machine.roll, machine.executed, machine.revision) == (FOUNDERS, 0, 0)
    machine.apply(1, 5, bundles)
    assert machine.roll == foreseen
    assert machine.foresee(2, 6, ()) == foreseen
    with pytest.raises(AssertionError, match="next"):
        machine.foresee(2 + 1, 6, ())


# --- what the disk spoils -------------------------------------------------------------------


def grown() -> tuple[Machine, MemoryState]:
    """One with two versions of `a`, and one of `b`."""
    state = MemoryState()
    machine = machine_of(state, 3)
    machine.apply(1, 1, (bundle(0, 1, Put("a", b"1"), Put("a", b"2"), Put("b", b"3")),))
    return machine, state


def given_by_others(*keys: str) -> list[Row]:
    _, state = grown()
    return [
        Row(key, row, [state.versions[r.revision] for r in unpack_retained(row)])
        for key in keys
        for row in (state.retained_rows[key],)
    ]


A, B = label(b"a"), label(b"b")


def test_a_row_that_is_not_the_agreed_one_is_neither_read_nor_written_over() -> None:
    machine, state = grown()
    assert machine.keys() == 2
    assert machine.has_label(A)
    assert machine.row("a") == state.retained_rows["a"]
    assert machine.row("c") is None
    state.retained_rows["a"] = state.retained_rows["b"]
    with pytest.raises(Rotten) as caught:
        machine.row("a")
    assert caught.value.labels == (A,)
    with pytest.raises(Rotten):
        machine.apply(2, 2, (bundle(0, 2, Put("a", b"4")),))
    del state.retained_rows["a"]
    with pytest.raises(Rotten):
        machine.row("a")


def test_a_row_that_nobody_wrote_is_in_nobodys_way() -> None:
    """A key that rots on the disk becomes another one: what is written there counts alone."""
    machine, state = grown()
    state.retained_rows["c"] = state.retained_rows["a"]
    machine.apply(2, 2, (bundle(0, 2, Put("c", b"4", expected=0)),))
    sound, right = grown()
    sound.apply(2, 2, (bundle(0, 2, Put("c", b"4", expected=0)),))
    assert machine.row("c") == state.retained_rows["c"] == right.retained_rows["c"]
    assert machine.root() == sound.root()


@pytest.mark.parametrize("spoilt", ["row", "no row", "value", "no version", "all"])
def test_what_others_have_mends_it(spoilt: str) -> None:
    machine, state = grown()
    if spoilt in ("row", "all"):
        state.retained_rows["a"] = state.retained_rows["b"]
    if spoilt == "no row":
        del state.retained_rows["a"]
    if spoilt in ("value", "all"):
        state.versions[1] = state.versions[1]._replace(value=b"0")
    if spoilt in ("no version", "all"):
        del state.versions[2]
    assert machine.mend([A, B], given_by_others("a")) == [B]
    _, right = grown()
    assert state.versions == right.versions
    assert state.retained_rows == right.retained_rows
    assert machine.row("a") == right.retained_rows["a"]


def test_a_row_of_another_state_mends_what_it_can_and_the_rest_is_left() -> None:
    machine, state = grown()
    machine.apply(2, 2, (bundle(0, 2, Put("a", b"4")),))
    right = dict(state.versions)
    state.versions[1] = state.versions[1]._replace(value=b"0")
    state.versions[4] = state.versions[4]._replace(value=b"0")
    assert machine.mend([A], given_by_others("a")) == [A]
    assert state.versions[1] == right[1]
    assert state.versions[4] != right[4], "that it had not by then"
    state.retained_rows["a"] = state.retained_rows["b"]
    assert machine.mend([A], given_by_others("a")) == [A]
    assert state.retained_rows["a"] == state.retained_rows["b"], "and nothing is guessed"


def test_what_nobody_asked_for_is_refused() -> None:
    machine, _ = grown()
    with pytest.raises(WireError, match="nobody asked"):
        machine.mend([B], given_by_others("a"))


def test_a_key_whose_label_another_one_has_is_absent_once_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, state = grown()
    monkeypatch.setattr(merkle, "label", lambda key: A if key == b"c" else label(key))
    with pytest.raises(Rotten):
        machine.row("c")
    assert machine.mend([A], given_by_others("a")) == []
    assert machine.row("c") is None
    assert machine.row("a") == state.retained_rows["a"]


@pytest.mark.parametrize("rotten", [1, 2])
def test_of_keys_that_share_a_label_the_rotten_one_is_mended(
    rotten: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_labels(monkeypatch)
    node = Node()
    node.execute(Put("twin=1", b"1"), Put("twin=2", b"2"))
    state, right, head = node.state, node.restarted().state, label(b"twin=")
    given = [
        Row(key, row, [right.versions[unpack_retained(row)[0].revision]])
        for key, row in right.rows()
    ]
    machine, key = node.machine, f"twin={rotten}"
    del state.retained_rows[key]
    with pytest.raises(Rotten):
        machine.row(key)
    assert machine.mend([head], [given[2 - rotten]]) == [head], "the other one tells nothing"
    with pytest.raises(Rotten):
        machine.row(key)
    assert machine.mend([head], given) == []
    assert state.retained_rows == right.retained_rows
    with pytest.raises(Rotten):
        machine.row("twin=3")
    assert machine.mend([head], given) == []
    assert machine.row("twin=3") is None

"""What shows a key: it does, for every key and every history; and nothing that is changed does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_edge.knowledge import merkle
from aegis_edge.knowledge.inclusion import Inclusion, InclusionError, Moment, Unprovable
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import VALUE_BYTES_MAX, Delete, Put
from aegis_edge.knowledge.state import RETAINED_BYTES, TOTALS_BYTES_MIN, Version, newest_retained
from tests.knowledge.founders import machine_of
from tests.knowledge.histories import BATCHES, Numbers, bundle, origin
from tests.knowledge.memory_state import MemoryState

KEYS = ("a", "a/b", "b", "é", "never")


@dataclass
class Standing:
    """A machine, and what shows each key in the state that it has now."""

    state: MemoryState
    machine: Machine

    def shows(self, key: str, moment: Moment | None = None) -> Inclusion:
        row = self.state.retained(key)
        version = None if row is None else self.state.versions[newest_retained(row)[0]]
        return (moment or self.machine.moment()).shows(key, row, version)


@pytest.fixture
def standing() -> Standing:
    state = MemoryState()
    machine = machine_of(state, 2)
    writes = [Put("a", b"1"), Put("a", b"2", 1), Put("b", b"3"), Delete("b"), Put("a", b"4")]
    machine.apply(1, 77, (bundle(0, 1, *writes),))
    return Standing(state, machine)


def check(found: Inclusion, root: bytes) -> None:
    """As whoever gets it by mail would."""
    Inclusion.parse(found.fields()).check(root)


@settings(max_examples=50)
@given(BATCHES, st.integers(1, 3))
def test_every_key_is_shown_after_every_history(batches: list[Any], kept: int) -> None:
    state, numbers = MemoryState(), Numbers()
    machine = machine_of(state, kept)
    for sequence, batch in enumerate(batches, 1):
        machine.apply(sequence, 10 * sequence, numbers.bundles(batch))
    now, moment = Standing(state, machine), machine.moment()
    for key in KEYS:
        found = now.shows(key, moment)
        check(found, machine.root())
        row = state.retained(key)
        assert (found.version is None) == (row is None)
        assert found.time_ms == machine.time_ms
        assert found.revision == machine.revision
        with pytest.raises(InclusionError, match="does not lead"):
            check(found, bytes(32))


def test_it_says_what_was_written(standing: Standing) -> None:
    there, gone, never = map(standing.shows, ("a", "b", "never"))
    assert there.version == Version(5, "a", 2, origin(0), 77, 0, False, b"4")
    assert gone.version == Version(4, "b", 3, origin(0), 77, 0, True, b"")
    assert never.version is None
    assert (there.revision, there.time_ms) == (5, 77)


def test_it_is_small_and_bears_its_keys_partition_alone(standing: Standing) -> None:
    found = standing.shows("a")
    assert len(found.entries) == merkle.ENTRY_BYTES
    assert len(found.path) == 12 * 32
    assert len(found.row) == 2 * RETAINED_BYTES


def test_a_moment_is_of_what_was_then(standing: Standing) -> None:
    moment, root = standing.machine.moment(), standing.machine.root()
    row = standing.state.retained("a")
    assert row is not None
    version = standing.state.versions[5]
    standing.machine.apply(2, 78, (bundle(0, 2, Put("a", b"later"), Put("c", b"new")),))
    assert not moment.is_current("a")
    assert moment.is_current("b")
    with pytest.raises(InclusionError, match="does not lead"):
        check(moment.shows("a", row, version), root)
    check(moment.shows("b", standing.state.retained("b"), standing.state.versions[4]), root)
    check(moment.shows("never", None, None), root)


def test_of_two_keys_with_one_label_both_are_shown_and_a_third_cannot_be_denied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merkle, "label", lambda key: b"samelabl")
    state = MemoryState()
    machine = machine_of(state, 2)
    machine.apply(1, 77, (bundle(0, 1, Put("a", b"1"), Put("b", b"2")),))
    now = Standing(state, machine)
    for key in "ab":
        check(now.shows(key), machine.root())
    with pytest.raises(Unprovable):
        now.shows("c")


# --- lies -------------------------------------------------------------------------------------


def test_a_key_that_is_there_is_never_shown_absent(standing: Standing) -> None:
    found = standing.shows("a")
    for lie in (
        found._replace(version=None, row=b""),
        found._replace(version=None, row=b"", entries=b""),
    ):
        with pytest.raises(InclusionError, match=r"is there|does not lead"):
            check(lie, standing.machine.root())


def test_an_older_version_never_passes_for_the_newest(standing: Standing) -> None:
    """Its digest is in the row, but not at its end; and no other row is in the tree."""
    root, found = standing.machine.root(), standing.shows("a")
    older = standing.state.versions[2]
    with pytest.raises(InclusionError, match="another version"):
        check(found._replace(version=older), root)
    shorter = found.row[:RETAINED_BYTES]
    with pytest.raises(InclusionError, match="does not have this row"):
        check(found._replace(version=older, row=shorter), root)


def test_no_field_of_a_version_can_be_changed(standing: Standing) -> None:
    root, found = standing.machine.root(), standing.shows("a")
    assert found.version is not None
    changes: dict[str, Any] = {
        "previous_revision": 1,
        "author": origin(1),
        "time_ms": 78,
        "media": 1,
        "value": b"5",
    }
    for name, value in changes.items():
        with pytest.raises(InclusionError, match="another version"):
            check(found._replace(version=found.version._replace(**{name: value})), root)


def test_a_key_never_borrows_what_shows_another(standing: Standing) -> None:
    root = standing.machine.root()
    found = standing.shows("a")
    assert found.version is not None
    renamed = found._replace(key="b", version=found.version._replace(key="b"))
    with pytest.raises(InclusionError):
        check(renamed, root)


def test_the_totals_are_bound(standing: Standing) -> None:
    found = standing.shows("a")
    for totals in (found.totals[:-1], found.totals + b"\0", bytes(TOTALS_BYTES_MIN)):
        with pytest.raises(InclusionError, match="does not lead"):
            check(found._replace(totals=totals), standing.machine.root())


GOOD_VERSION = (0, bytes(32), 0, 0, b"")
GOOD = ("a", GOOD_VERSION, bytes(RETAINED_BYTES), bytes(40), bytes(384), bytes(TOTALS_BYTES_MIN))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (None, "six parts"),
        (GOOD[:5], "six parts"),
        (("", *GOOD[1:]), "its key is none"),
        ((7, *GOOD[1:]), "its key is none"),
        ((*GOOD[:3], "entries", *GOOD[4:]), "no byte string"),
        ((*GOOD[:2], b"row", *GOOD[3:]), "wrong size"),
        ((*GOOD[:3], bytes(41), *GOOD[4:]), "wrong size"),
        ((*GOOD[:4], bytes(383), GOOD[5]), "wrong size"),
        ((*GOOD[:5], bytes(TOTALS_BYTES_MIN - 1)), "too short"),
        ((*GOOD[:2], b"", *GOOD[3:]), "without a row"),
        ((GOOD[0], None, *GOOD[2:]), "without a version"),
        ((GOOD[0], b"version", *GOOD[2:]), "five fields"),
        ((GOOD[0], GOOD_VERSION[:4], *GOOD[2:]), "five fields"),
        ((GOOD[0], (-1, *GOOD_VERSION[1:]), *GOOD[2:]), "a number"),
        ((GOOD[0], (True, *GOOD_VERSION[1:]), *GOOD[2:]), "a number"),
        ((GOOD[0], (2**63, *GOOD_VERSION[1:]), *GOOD[2:]), "a number"),
        ((GOOD[0], (0, bytes(32), 0, 2, b""), *GOOD[2:]), "neither bytes nor JSON"),
        ((GOOD[0], (0, bytes(31), 0, 0, b""), *GOOD[2:]), "no public key"),
        ((GOOD[0], (0, "author", 0, 0, b""), *GOOD[2:]), "no public key"),
        ((GOOD[0], (0, bytes(32), 0, 0, ""), *GOOD[2:]), "no byte string"),
        ((GOOD[0], (0, bytes(32), 0, 0, bytes(VALUE_BYTES_MAX + 1)), *GOOD[2:]), "too large"),
    ],
)
def test_bad_fields_are_refused_with_words(fields: Any, complaint: str) -> None:
    assert Inclusion.parse(GOOD).fields() == GOOD
    with pytest.raises(InclusionError, match=complaint):
        Inclusion.parse(fields)

"""The nouns: a version's digest binds every field, a key's row is its versions."""

from __future__ import annotations

import pytest

from aegis_edge.knowledge.state import (
    RETAINED_BYTES,
    Progress,
    Retained,
    Version,
    newest_retained,
    pack_retained,
    stands_for,
    unpack_retained,
)

BASE = Version(5, "a/b", 3, b"o" * 32, 1000, 0, False, b"value")


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 6},
        {"key": "a/c"},
        {"previous_revision": 4},
        {"author": b"p" * 32},
        {"time_ms": 1001},
        {"media": 1},
        {"deleted": True},
        {"value": b"valuf"},
        # The same bytes, divided in another way.
        {"author": b"o" * 31, "key": "oa/b"},
        {"key": "a/bv", "value": b"alue"},
    ],
)
def test_the_digest_of_a_version_binds_every_field(change: dict[str, object]) -> None:
    assert BASE._replace(**change).digest() != BASE.digest()


def test_the_digest_of_a_version_is_pinned() -> None:
    assert BASE.digest().hex() == (
        "ab3e326a675bf5f2ef2537ce167fa00018ab807bf1ba45d334614eb0f46c6c80"
    )


def test_a_row_is_its_versions_oldest_first() -> None:
    row = pack_retained(3, True, b"x" * 32) + pack_retained(2**63 - 1, False, b"y" * 32)
    assert len(row) == 2 * RETAINED_BYTES
    assert unpack_retained(row) == [
        Retained(3, True, b"x" * 32),
        Retained(2**63 - 1, False, b"y" * 32),
    ]
    assert newest_retained(row) == (2**63 - 1, False)
    assert newest_retained(row[:RETAINED_BYTES]) == (3, True)


@pytest.mark.parametrize(
    "change", [{"value": None}, {"key": b"a/b"}, {"revision": "5"}, {"media": 256}, {"author": 1}]
)
def test_fields_that_no_version_has_stand_for_nothing(change: dict[str, object]) -> None:
    retained = Retained(5, False, BASE.digest())
    assert stands_for(retained, BASE)
    assert not stands_for(retained, None)
    assert not stands_for(Retained(6, False, BASE.digest()), BASE)
    assert not stands_for(Retained(5, True, BASE.digest()), BASE)
    assert not stands_for(retained, BASE._replace(**change))  # type: ignore[arg-type]


def test_a_new_state_has_made_no_progress() -> None:
    assert Progress() == (0, 0, 0, {}, b"")

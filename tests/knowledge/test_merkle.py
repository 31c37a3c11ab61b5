"""The tree: equal contents give equal tops, whatever the way there; different ones never do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_edge.knowledge import merkle
from aegis_edge.knowledge.merkle import PARTITIONS, Tree

ROWS = st.dictionaries(st.binary(min_size=1, max_size=3), st.binary(max_size=3), max_size=30)


def top_by_hand(rows: dict[bytes, bytes]) -> bytes:
    """The definition, with nothing kept: all partitions, level by level."""
    partitions: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for key, row in rows.items():
        head = merkle.label(key)
        number = int.from_bytes(head[:2], "big") >> 4
        partitions[number].append(head + merkle.row_digest(key, row))
    level = [merkle.leaf_digest(b"".join(sorted(entries))) for entries in partitions]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [merkle.inner_digest(left, right) for left, right in pairs]
    return level[0]


@given(st.lists(st.tuples(ROWS, st.booleans()), max_size=2))
def test_the_top_is_that_of_the_definition_whenever_it_is_taken(
    steps: list[tuple[dict[bytes, bytes], bool]],
) -> None:
    tree, rows = Tree(), {}
    for changes, taken in steps:
        for key, row in changes.items():
            tree.replace(key, rows.get(key), row)
            rows[key] = row
        if taken:
            assert tree.top() == top_by_hand(rows)
    assert tree.top() == top_by_hand(rows)


def test_keys_that_share_a_label_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle, "label", lambda key: b"samelabl")
    one, other = Tree(), Tree()
    for tree, keys in ((one, b"abc"), (other, b"cab")):
        for key in keys:
            tree.replace(bytes([key]), None, b"old")
        tree.replace(b"b", b"old", b"new")
    assert one.top() == other.top()
    one.replace(b"a", b"old", b"new")
    assert one.top() != other.top()


def test_what_looks_like_a_label_within_an_entry_is_none() -> None:
    tree, sought = Tree(), b"\0\0sought"
    tree.exchange(None, b"\0\0before" + bytes(12) + sought + bytes(12))
    assert not tree.has_label(sought)
    tree.exchange(None, sought + bytes(32))
    assert tree.has_label(sought)
    assert tree.has(sought + bytes(32))


def test_a_row_that_the_tree_does_not_know_cannot_be_replaced() -> None:
    tree = Tree()
    tree.replace(b"a", None, b"row")
    with pytest.raises(AssertionError):
        tree.replace(b"a", b"another", b"new")


def test_the_partition_is_the_head_of_the_label() -> None:
    assert merkle.partition(b"\x00\x00rest") == 0
    assert merkle.partition(b"\x12\x3frest") == 0x123
    assert merkle.partition(b"\xff\xffrest") == PARTITIONS - 1


def test_nothing_hashed_as_one_thing_passes_for_another() -> None:
    data = bytes(64)
    digests = [
        merkle.leaf_digest(data),
        merkle.inner_digest(data[:32], data[32:]),
        merkle.row_digest(b"", data[2:]),
        merkle.label(data),
    ]
    assert len({d[:8] for d in digests}) == len(digests)
    assert merkle.row_digest(b"a", b"bc") != merkle.row_digest(b"ab", b"c")


def test_the_tops_are_pinned() -> None:
    tree = Tree()
    assert tree.top().hex() == ("da7bd6913b89b6c5a7fbe8ab28c2629547c65dc908622b5159fa3ea1cd0d8b18")
    tree.replace(b"a", None, b"row")
    assert tree.top().hex() == ("0514ed5a10c8912f6e59963ea2b87132de7f4c4abdd09202f4223ef46d6ab4ea")


def test_only_what_changed_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree()
    tree.top()
    calls = []
    digest = merkle.sodium.digest
    monkeypatch.setattr(
        merkle.sodium, "digest", lambda domain, data: calls.append(domain) or digest(domain, data)
    )
    tree.replace(b"a", None, b"row")
    calls.clear()
    tree.top()
    assert calls == [b"aegis-edge leaf"] + 12 * [b"aegis-edge inner"]
    tree.top()
    assert len(calls) == 13


@settings(max_examples=30)
@given(ROWS, st.binary(min_size=1, max_size=3), st.binary(max_size=3))
def test_each_path_of_a_snapshot_leads_to_the_top_of_its_time(
    rows: dict[bytes, bytes], key: bytes, later: bytes
) -> None:
    tree = Tree()
    for each, row in rows.items():
        tree.replace(each, None, row)
    entries = {key: tree.entries(merkle.partition(merkle.label(key))) for key in (*rows, key)}
    snapshot, top = tree.snapshot(), tree.top()
    tree.replace(key, rows.get(key), later)
    tree.top()
    for each, held in entries.items():
        number = merkle.partition(merkle.label(each))
        path = snapshot.path(number)
        assert snapshot.leaf(number) == merkle.leaf_digest(held)
        assert len(path) == merkle.LEVELS * merkle.DIGEST_BYTES
        assert merkle.top_by_path(number, held, path) == top
        assert not held or merkle.top_by_path(number ^ 1, held, path) != top
        assert merkle.top_by_path(number, held + bytes(40), path) != top


def test_a_tree_tells_its_own_rows_from_others() -> None:
    tree = Tree()
    keys = [b"%d" % number for number in range(50)]
    for key in keys:
        assert tree.agrees(key, None)
        assert not tree.agrees(key, b"row " + key)
        tree.replace(key, None, b"row " + key)
    assert tree.size() == len(keys)
    for key in keys:
        assert tree.has_label(merkle.label(key))
        assert tree.agrees(key, b"row " + key)
        assert not tree.agrees(key, b"row")
        assert not tree.agrees(key, None)
    assert tree.agrees(b"other", None)

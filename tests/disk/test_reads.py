"""Reads: bounded, in pages, in bytewise order; deletions are hidden, but not from history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_edge.disk import reads
from aegis_edge.disk.database import Database
from aegis_edge.disk.reads import Pruned
from aegis_edge.knowledge.operations import Delete, Operation, OperationError, Put
from tests.disk.stage import deliver, info_of, open_database
from tests.knowledge.histories import origin


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path)
    yield opened
    opened.close()


def run(database: Database, *operations: Operation) -> None:
    database.perform([deliver(info_of(database).executed + 1, *operations)])


def test_get_gives_the_value_with_its_author_and_time(database: Database) -> None:
    run(database, Put("a", b"1"), Put("a", b"2", 1))
    version = database.get("a")
    assert version == (2, "a", 1, origin(0), 1000, 1, False, b"2")
    assert type(version.deleted) is bool
    assert database.get("b") is None
    assert database.get("") is None


def test_get_at_a_revision_gives_the_value_of_then(database: Database) -> None:
    run(database, Put("x", b""), Put("a", b"2"), Put("x", b""), Delete("a"), Put("a", b"5"))
    values = [database.get("a", revision) for revision in range(7)]
    assert [v and v.value for v in values] == [None, None, b"2", b"2", None, b"5", b"5"]
    run(database, Put("a", b"6"))
    with pytest.raises(Pruned, match="begins at revision 4"):
        database.get("a", 3)
    assert database.get("a", 4) is None
    assert database.get("a", 5) is not None


def test_ls_is_in_bytewise_order_and_hides_deletions(database: Database) -> None:
    keys = ["a", "a/b", "a-", "aa", "Z", "é", "\uffff", "\U00010000", "\U0010ffff", "b/c"]
    run(database, *[Put(key, b"12") for key in keys], Put("gone", b""), Delete("gone"))
    listing = database.ls()
    assert listing.more is None
    assert [e.key for e in listing.entries] == sorted(keys, key=str.encode)
    assert listing.entries[0] == ("Z", 5, origin(0), 1000, 0, 2)


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/b", "c", "\U0010ffff", "é", "\x00", "a" * 600]
)
def test_ls_by_prefix_and_pages_gives_every_key_once(database: Database, prefix: str) -> None:
    keys = [
        *("a", "a/b", "a/b/c", "a/\U0010ffff", "ab", "b", "é/1", "é", "\U0010ffff" * 128),
        *("\U0010ffff/\U0010ffff", "a/bc"),
    ]
    run(database, *[Put(key, b"") for key in keys])
    wanted = sorted((k for k in keys if k.startswith(prefix)), key=str.encode)
    for limit in (1, 2, 3, 100):
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            listing = database.ls(prefix, after, limit)
            assert len(listing.entries) <= limit
            found += [entry.key for entry in listing.entries]
            after = listing.more
        assert found == wanted


def test_a_listing_that_ends_exactly_at_its_limit_says_so(database: Database) -> None:
    run(database, Put("a", b""), Put("b", b""))
    assert database.ls("", "", 2).more is None
    assert database.ls("", "", 1).more == "a"


def test_a_listing_looks_at_a_bounded_number_of_keys(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SCAN_ROWS_MAX", 10)
    monkeypatch.setattr(reads, "PAGE_ENTRIES_MAX", 4)
    gone = [f"gone/{i:02}" for i in range(25)]
    run(database, *[Put(k, b"") for k in gone], *[Delete(k) for k in gone], Put("z", b""))
    listing = database.ls()
    assert listing == ([], "gone/09")
    listing = database.ls(after=listing.more or "")
    assert listing == ([], "gone/19")
    listing = database.ls(after=listing.more or "")
    assert ([e.key for e in listing.entries], listing.more) == (["z"], None)
    run(database, *[Put(f"a{i}", b"") for i in range(6)])
    assert len(database.ls("", "", 100).entries) == 4


def test_history_is_newest_first_with_deletions(database: Database) -> None:
    run(database, Put("a", b"1"), Put("b", b""), Delete("a"), Put("a", b"4"))
    found = database.history("a")
    assert [(v.revision, v.previous_revision, v.deleted, v.value) for v in found] == [
        (4, 3, False, b"4"),
        (3, 1, True, b""),
        (1, 0, False, b"1"),
    ]
    assert [v.revision for v in database.history("a", 2)] == [4, 3]
    assert database.history("c") == []
    run(database, Put("a", b"5"))
    assert [v.revision for v in database.history("a")] == [5, 4, 3]


def test_history_and_changes_are_bounded_in_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PAGE_VALUE_BYTES_MAX", 250)
    run(database, *[Put("a", bytes(100)) for _ in range(3)], Put("b", bytes(1000)))
    assert [v.revision for v in database.history("a")] == [3, 2]
    assert [v.revision for v in database.history("b")] == [4]
    changes = database.changes(0)
    assert ([v.revision for v in changes.versions], changes.upto) == ([1, 2], 2)
    changes = database.changes(2)
    assert ([v.revision for v in changes.versions], changes.upto) == ([3], 3)
    changes = database.changes(3)
    assert ([v.revision for v in changes.versions], changes.upto) == ([4], 4)


def test_changes_show_their_gaps(database: Database) -> None:
    run(database, *[Put("a", b"%d" % i) for i in range(5)], Put("b", b""))
    changes = database.changes(0)
    assert [(v.revision, v.previous_revision) for v in changes.versions] == [
        (3, 2), (4, 3), (5, 4), (6, 0),
    ]  # fmt: skip
    assert changes.upto == 6
    assert database.changes(6) == ([], 6)
    assert database.changes(99) == ([], 99)


def test_changes_by_prefix_and_pages_give_everything_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(database, *[Put(f"{'ab'[i % 7 == 0]}/{i}", b"%d" % i) for i in range(100)])
    monkeypatch.setattr(reads, "SCAN_ROWS_MAX", 9)
    for prefix, wanted in (("b/", range(0, 100, 7)), ("", range(100)), ("c", range(0))):
        for limit in (1, 3, 100):
            found: list[int] = []
            after = 0
            while after < 100:
                changes = database.changes(after, limit, prefix)
                assert len(changes.versions) <= limit
                assert after < changes.upto <= 100
                found += [int(v.value) for v in changes.versions]
                after = changes.upto
            assert found == list(wanted)


@pytest.mark.parametrize("call", ["get", "history", "ls"])
def test_a_text_that_is_not_utf8_is_a_clear_error(database: Database, call: str) -> None:
    with pytest.raises(OperationError, match="UTF-8"):
        getattr(database, call)("\ud800")
    with pytest.raises(OperationError, match="UTF-8"):
        database.ls("", "\ud800")
    with pytest.raises(OperationError, match="UTF-8"):
        database.changes(0, 1, "\ud800")

"""Opening the file: ours or not, whole or not, alone or not."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from aegis_edge.disk import schema
from aegis_edge.disk.errors import (
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseLocked,
    DatabaseNewer,
    DiskForbidden,
)
from tests.disk.stage import check, info_of, open_database, steps


def filled(folder: Path, last: int = 9) -> None:
    database = open_database(folder)
    for sequence in range(1, last + 1):
        for transaction in steps(sequence):
            database.perform(transaction)
    database.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_promised_about_durability_is_set(tmp_path: Path) -> None:
    database = open_database(tmp_path)

    def pragma(name: str) -> object:
        return database._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("locking_mode") == "exclusive"
    assert pragma("secure_delete") == 0
    assert pragma("page_size") == schema.PAGE_BYTES
    assert names(tmp_path) == {"node.db", "node.db-wal", "node.db.lock"}
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database.close()
    assert names(tmp_path) == {"node.db", "node.db.lock"}


def test_the_wal_is_folded_in_and_keeps_its_size(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    database._connection.execute("PRAGMA synchronous = OFF")
    for sequence in range(1, 601):
        for transaction in steps(sequence):
            database.perform(transaction)
    assert (tmp_path / "node.db-wal").stat().st_size < 1.2 * schema.WAL_BYTES
    assert (tmp_path / "node.db").stat().st_size > 100_000
    database.close()


def test_a_second_opener_is_refused_and_told_which_file(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    said = rf"another process, pid {os.getpid()}, which holds .*node\.db\.lock"
    with pytest.raises(DatabaseLocked, match=said):
        open_database(tmp_path)
    database.close()
    open_database(tmp_path).close()


def test_another_program_that_has_it_open_is_found_too(tmp_path: Path) -> None:
    filled(tmp_path)
    other = sqlite3.connect(tmp_path / "node.db")
    other.execute("BEGIN")
    other.execute("SELECT * FROM meta").fetchall()
    with pytest.raises(DatabaseLocked, match="stop the other program"):
        open_database(tmp_path)
    other.close()
    open_database(tmp_path).close()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"cluster_id": b"other"}, "cluster"),
        ({"node": b"other"}, "node"),
        ({"history_versions": 4}, "number of kept versions"),
    ],
)
def test_the_database_of_another_is_refused_untouched(
    tmp_path: Path, change: dict[str, object], what: str
) -> None:
    filled(tmp_path)
    before = (tmp_path / "node.db").read_bytes()
    with pytest.raises(DatabaseForeign, match=f"another {what}"):
        open_database(tmp_path, **change)
    assert (tmp_path / "node.db").read_bytes() == before
    open_database(tmp_path).close()


def test_the_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "node.db") as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    before = (tmp_path / "node.db").read_bytes()
    with pytest.raises(DatabaseForeign, match="some other program"):
        open_database(tmp_path)
    assert (tmp_path / "node.db").read_bytes() == before
    assert names(tmp_path) == {"node.db", "node.db.lock"}


def test_a_later_format_is_refused_untouched(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "node.db") as other:
        other.execute("PRAGMA user_version = 2")
    other.close()
    before = (tmp_path / "node.db").read_bytes()
    with pytest.raises(DatabaseNewer, match="install that release again"):
        open_database(tmp_path)
    assert (tmp_path / "node.db").read_bytes() == before


def aside_then_fresh(folder: Path) -> None:
    """Opening says what was set aside; the next opening begins anew, and knows that it does."""
    before = (folder / "node.db").read_bytes()
    with pytest.raises(
        DatabaseDamaged, match=r"node\.db\.damaged-1; the node goes on with an empty"
    ):
        open_database(folder)
    assert not (folder / "node.db").exists()
    assert (folder / "node.db.damaged-1").read_bytes() == before
    database = open_database(folder)
    assert check(database) == 0
    assert info_of(database).rebuilt
    database.close()


def test_a_file_of_a_release_that_kept_no_node_records_opens(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "node.db")) as earlier:
        earlier.execute("DROP TABLE node_records")
    for kept in ([], [b"record"]):
        database = open_database(tmp_path)
        assert database.node_records() == kept
        assert check(database) == 9
        database.keep_node_record(b"node", b"record")
        database.close()


def test_garbage_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(os.urandom(5000))
    aside_then_fresh(tmp_path)


def test_a_text_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_text("not a database at all\n" * 100)
    aside_then_fresh(tmp_path)


@pytest.mark.parametrize("page", [2, 5, 9])
def test_a_rotten_page_is_set_aside(tmp_path: Path, page: int) -> None:
    filled(tmp_path, 30)
    raw = bytearray((tmp_path / "node.db").read_bytes())
    raw[(page - 1) * 1024 : page * 1024] = b"\xa5" * 1024
    (tmp_path / "node.db").write_bytes(raw)
    aside_then_fresh(tmp_path)


def test_a_file_cut_short_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path, 30)
    os.truncate(tmp_path / "node.db", (tmp_path / "node.db").stat().st_size // 2)
    aside_then_fresh(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys SET retained = x'0102' WHERE key = 'counter'",
        "UPDATE keys SET retained = x''",
        "UPDATE certificates SET origins = x'ff' WHERE sequence = 9",
        "UPDATE certificates SET origins = x'8101' WHERE sequence = 9",
        "DELETE FROM meta",
        "INSERT INTO keys VALUES (CAST(x'ff' AS TEXT), zeroblob(41))",
    ],
)
def test_sound_pages_with_senseless_rows_are_set_aside(tmp_path: Path, statement: str) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "node.db") as other:
        other.execute(statement)
    other.close()
    aside_then_fresh(tmp_path)


def test_each_damaged_file_gets_a_name_of_its_own(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / "node.db").write_bytes(b"garbage %d" % number * 100)
        with pytest.raises(DatabaseDamaged, match=rf"damaged-{number};"):
            open_database(tmp_path)
    assert (tmp_path / "node.db.damaged-2").read_bytes()[:9] == b"garbage 2"


def test_a_wal_that_lost_its_file_is_not_played_into_the_next(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = open_database(home)
    for transaction in steps(1):
        database.perform(transaction)
    (tmp_path / "node.db-wal").write_bytes((home / "node.db-wal").read_bytes())
    database.close()
    database = open_database(tmp_path)
    assert check(database) == 0
    assert "node.db.damaged-1-wal" in names(tmp_path)
    database.close()


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    schema.mark_new(tmp_path, b"node")
    (tmp_path / "node.db").touch()
    database = open_database(tmp_path)
    assert not info_of(database).rebuilt
    database.close()


# --- a missing file: never there, or lost -----------------------------------------------------


def is_rebuilt(folder: Path) -> bool:
    database = open_database(folder)
    try:
        return info_of(database).rebuilt
    finally:
        database.close()


def test_s8_14_a_missing_database_was_lost_unless_its_node_never_ran(tmp_path: Path) -> None:
    """Also one that left nothing behind: a deleted file, a new card with the old key."""
    schema.mark_new(tmp_path, b"node")
    assert stat.S_IMODE((tmp_path / schema.NEVER_RAN_NAME).stat().st_mode) == 0o600
    assert not is_rebuilt(tmp_path)
    assert names(tmp_path) == {"node.db", "node.db.lock"}, "it has run now"
    assert not is_rebuilt(tmp_path), "and remembers all"
    for name in names(tmp_path):
        (tmp_path / name).unlink()
    assert is_rebuilt(tmp_path)
    assert is_rebuilt(tmp_path), "for as long as this file lives"


def test_s8_14_the_mark_of_another_identity_says_nothing_of_this_one(tmp_path: Path) -> None:
    """A home that was made anew, into which the old key was put from its backup."""
    schema.mark_new(tmp_path, b"made with the new home")
    assert is_rebuilt(tmp_path)


def test_s8_14_a_mark_is_worth_nothing_beside_a_damaged_file(tmp_path: Path) -> None:
    schema.mark_new(tmp_path, b"node")
    (tmp_path / "node.db.damaged-1").touch()
    assert is_rebuilt(tmp_path)


def test_s8_14_a_mark_that_outlived_the_first_start_goes_with_the_next(tmp_path: Path) -> None:
    """The power may fail when the database is there, and the mark still is."""
    filled(tmp_path)
    schema.mark_new(tmp_path, b"node")
    open_database(tmp_path).close()
    (tmp_path / "node.db").unlink()
    assert is_rebuilt(tmp_path)


def test_a_folder_that_is_missing_or_a_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DiskForbidden, match="folder exists"):
        open_database(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(DiskForbidden, match="folder exists"):
        open_database(tmp_path / "file")
    (tmp_path / "node.db").mkdir()
    with pytest.raises(DiskForbidden):
        open_database(tmp_path)

"""What a card does to a database in use: seen by the walk and by readers, and never served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseDamaged, DatabaseLost
from aegis_edge.disk.scrub import Slice
from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.operations import Dismiss, Propose, Put
from aegis_edge.knowledge.parts import ROWS, row_item
from aegis_edge.knowledge.state import Rotten
from aegis_edge.pbft.events import Deliver, MendRows, Prune, RowsMended, Settle, TakeRoot
from aegis_edge.wire.messages import Bundle
from tests.disk.stage import INTERVAL, check, deliver, info_of, open_database, steps
from tests.knowledge.histories import origin, signer

LAST = 5 * INTERVAL
PEER = b"peer"
ROTTEN = "own/7"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """One that performed the history to a checkpoint, and whose file holds all of it."""
    database = open_database(tmp_path)
    for sequence in range(1, LAST + 1):
        for transaction in steps(sequence):
            database.perform(transaction)
    database.close()
    return open_database(tmp_path)


def spoil(database: Database, statement: str, *values: object) -> None:
    """Change what lies in the tables, behind the back of whoever knows what should."""
    database._connection.execute("BEGIN")
    assert database._connection.execute(statement, values).rowcount > 0
    database._connection.execute("COMMIT")


def spoil_value(database: Database, key: str = ROTTEN) -> None:
    spoil(database, "UPDATE versions SET value = x'00' WHERE key = ?", key)


def walk(database: Database, keys_max: int = 7) -> int:
    """To its end; how many keys were seen."""
    seen = 0
    while True:
        found = database.scrub(keys_max)
        seen += found.keys
        if found.is_last:
            assert found.keys == 0
            return seen


def rotten(act: Callable[[], object]) -> tuple[bytes, ...]:
    with pytest.raises(Rotten) as caught:
        act()
    return caught.value.labels


def from_source(folder: Path, *keys: str) -> bytes:
    """The rows of these keys, as another database that holds the checkpoint gives them."""
    folder.mkdir()
    source = open_database(folder)
    for sequence in range(1, LAST + 1):
        for transaction in steps(sequence):
            source.perform(transaction)
    items = [row_item(label(key.encode()), 0) for key in keys]
    while (data := source.part(PEER, LAST, ROWS, items)) is None:
        continue
    source.close()
    return data


def test_a_sound_database_is_walked_over_again_and_again(database: Database) -> None:
    assert database.scrub(7) == Slice(7, False)
    for _ in range(2):
        database.perform([deliver(database.root()[0] + 1, Put("new", b"1"), Put("a", b"2"))])
        walk(database)
    assert walk(database) == database._machine.keys()


def test_a_value_that_rots_is_found_and_not_served_and_mended(
    database: Database, tmp_path: Path
) -> None:
    spoil_value(database)
    wanted = (label(ROTTEN.encode()),)
    assert rotten(lambda: walk(database)) == wanted
    walked = walk(database)
    assert walked < database._machine.keys(), "it went on behind what it had found"
    assert rotten(lambda: database.get(ROTTEN)) == wanted
    assert rotten(lambda: database.get(ROTTEN, 1 << 40)) == wanted
    assert rotten(lambda: database.history(ROTTEN)) == wanted
    assert rotten(lambda: database.changes(0, 1000)) == wanted
    database.perform([TakeRoot(LAST)])
    assert rotten(lambda: database.show(ROTTEN, LAST, 0)) == wanted
    item = row_item(wanted[0], 0)
    data = from_source(tmp_path / "source", ROTTEN)
    assert database.perform([MendRows(PEER, (item,), data)]) == [RowsMended(PEER, None, (), 1)]
    assert database.perform([MendRows(PEER, (item,), data)]) == [RowsMended(PEER, None, ())]
    assert database.get(ROTTEN) is not None
    assert walk(database) == database._machine.keys()
    assert check(database) == LAST
    spoil(database, "DELETE FROM keys WHERE key = ?", ROTTEN)
    assert rotten(lambda: database.get(ROTTEN)) == wanted, "it is not taken for absent"
    database.close()


def test_a_value_that_was_turned_into_a_deletion_while_the_node_was_off_is_seen(
    database: Database, tmp_path: Path
) -> None:
    """The tree is made of what is found at the start; what it says of a version is still wrong."""
    query = "SELECT retained FROM keys WHERE key = ?"
    (row,) = database._connection.execute(query, (ROTTEN,)).fetchone()
    turned = row[:8] + b"\x01" + row[9:]
    spoil(database, "UPDATE keys SET retained = ? WHERE key = ?", turned, ROTTEN)
    database.close()
    database = open_database(tmp_path)
    assert rotten(lambda: database.get(ROTTEN)) == (label(ROTTEN.encode()),)
    assert rotten(lambda: walk(database)) == (label(ROTTEN.encode()),)


def test_what_does_not_mend_is_left(database: Database, tmp_path: Path) -> None:
    spoil_value(database)
    assert rotten(lambda: walk(database))
    other, item = (row_item(label(key.encode()), 0) for key in ("own/8", ROTTEN))
    (said,) = database.perform([MendRows(PEER, (item,), b"\xff")])
    assert isinstance(said, RowsMended)
    assert said.fault
    assert said.left == (item,)
    data = from_source(tmp_path / "source", "own/8")
    (said,) = database.perform([MendRows(PEER, (item, other), data)])
    assert said == RowsMended(PEER, None, (item,))
    assert rotten(lambda: database.get(ROTTEN))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys SET retained = zeroblob(41) WHERE key = 'own/7'",
        "DELETE FROM versions WHERE key = 'own/7'",
        "DELETE FROM keys WHERE key = 'own/7'",
        "UPDATE versions SET value = 'text', author = NULL WHERE key = 'own/7'",
        "UPDATE versions SET key = CAST(x'ff' AS TEXT) WHERE key = 'own/7'",
    ],
)
def test_whatever_rots_of_a_key_is_not_served(database: Database, statement: str) -> None:
    database._connection.execute("PRAGMA ignore_check_constraints = ON")
    if "NULL" in statement:
        statement = statement.replace("NULL", "1")
    spoil(database, statement)
    assert rotten(lambda: database.get(ROTTEN)) == (label(ROTTEN.encode()),)
    if not statement.startswith(("DELETE FROM keys", "UPDATE versions")):
        assert rotten(lambda: database.ls("own/7")) == (label(ROTTEN.encode()),)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM keys WHERE key = 'own/7'", "keys are missing"),
        ("UPDATE keys SET key = 'own/z' WHERE key = 'own/7'", "a key that nobody wrote"),
        ("UPDATE keys SET retained = x'00' WHERE key = 'own/7'", "no whole number of parts"),
        ("UPDATE keys SET key = CAST(key AS BLOB) WHERE key = 'own/7'", "and is no text"),
        ("UPDATE records SET data = x'00' WHERE kind = 8", "its records are not"),
        ("DELETE FROM records WHERE kind = 8", "its records are not"),
        ("UPDATE certificates SET time_ms = 1", "its records are not"),
    ],
)
def test_what_no_peer_can_mend_is_the_end_of_the_database(
    database: Database, tmp_path: Path, statement: str, words: str
) -> None:
    spoil(database, statement)
    with pytest.raises(DatabaseDamaged, match=words):
        walk(database)
    with pytest.raises(DatabaseLost, match=r"node\.db\.damaged-1; the node goes on with an empty"):
        database.close()
    assert (tmp_path / "node.db.damaged-1").exists()
    database = open_database(tmp_path)
    assert info_of(database).rebuilt
    assert info_of(database).executed == 0
    database.close()


@pytest.mark.parametrize("statement", ["DELETE FROM roll", "UPDATE roll SET roll = x'00'"])
def test_a_roll_of_members_that_rots_is_the_end_of_the_database(
    database: Database, statement: str
) -> None:
    operations = (Propose(Dismiss(origin(1))).encode(),)
    said = signer(0).sign(Bundle(1, LAST + 1, operations, of_members=True))
    database.perform([Deliver(LAST + 1, 1000 * (LAST + 1), (said,), b"c"), Settle(LAST + 1)])
    walk(database)
    spoil(database, statement)
    with pytest.raises(DatabaseDamaged, match="its roll of members is not what was written"):
        walk(database)
    with pytest.raises(DatabaseLost):
        database.close()


def test_a_page_of_a_tree_that_rots_is_found_past_what_is_in_memory(
    database: Database, tmp_path: Path
) -> None:
    query = "SELECT rootpage FROM sqlite_schema WHERE name = 'versions'"
    (page,) = database._connection.execute(query).fetchone()
    walk(database)
    with (tmp_path / "node.db").open("r+b") as file:
        file.seek((page - 1) * 1024)
        assert file.read(1) == b"\x05", "an inner page"
        file.seek((page - 1) * 1024)
        file.write(b"\x04")
    assert database.get(ROTTEN) is not None, "as it is in memory"
    with pytest.raises(DatabaseDamaged, match="malformed"):
        walk(database)
    with pytest.raises(DatabaseLost):
        database.close()


def test_where_a_row_rots_the_structure_is_looked_at(database: Database, tmp_path: Path) -> None:
    walk(database)
    spoil_value(database)
    database.close()
    shutil.copy(tmp_path / "node.db", tmp_path / "copy")
    database = open_database(tmp_path)
    query = "SELECT rootpage FROM sqlite_schema WHERE name = 'records'"
    (page,) = database._connection.execute(query).fetchone()
    with (tmp_path / "node.db").open("r+b") as file:
        file.seek((page - 1) * 1024)
        file.write(b"\x04")
    with pytest.raises(DatabaseDamaged):
        database.get(ROTTEN)


def test_nothing_is_written_over_a_row_that_rots(database: Database, tmp_path: Path) -> None:
    spoil(database, "UPDATE keys SET retained = zeroblob(41) WHERE key = 'own/7'")
    with pytest.raises(DatabaseDamaged, match="is to change rots"):
        database.perform([deliver(LAST + 1, Put(ROTTEN, b"new"))])
    with pytest.raises(DatabaseLost):
        database.close()


def test_what_was_asked_wrongly_is_no_rot(database: Database) -> None:
    """A file that SQLite finds no fault with is not set aside for what it was asked."""
    with pytest.raises(DatabaseDamaged), database._exclusively():
        database._connection.execute("SELECT nothing")
    database.close()


@pytest.mark.parametrize(
    "change", ["value = CAST(value AS TEXT)", "key = CAST(key AS BLOB)", "time_ms = -1"]
)
def test_a_version_of_other_types_is_given_to_nobody(database: Database, change: str) -> None:
    """One bit on the card makes bytes of a text, or a text of bytes."""
    item = row_item(label(ROTTEN.encode()), 0)
    database.perform([TakeRoot(LAST)])
    while database.part(PEER, LAST, ROWS, [item]) is None:
        continue
    assert database.part(PEER, LAST, ROWS, [item])
    spoil(database, f"UPDATE versions SET {change} WHERE key = ?", ROTTEN)
    assert database.part(PEER, LAST, ROWS, [item]) == b""


def test_one_that_is_only_kept_for_others_and_rots_does_not_keep_the_node_from_starting(
    tmp_path: Path,
) -> None:
    database = open_database(tmp_path)
    database.perform([deliver(1, *(Put("key", b"%d" % number) for number in range(3)))])
    database.perform([TakeRoot(1)])
    database.perform([deliver(2, Put("key", b"4")), TakeRoot(2, is_signed=False)])
    spoil(database, "UPDATE versions SET value = CAST(value AS TEXT) WHERE revision = 1")
    database.close()
    database = open_database(tmp_path)
    assert [v.revision for v in database.changes(0).versions] == [2, 3, 4]
    database.perform([Prune(1)])
    (kept,) = database._connection.execute("SELECT count(*) FROM versions").fetchone()
    assert kept == 3
    database.close()


def test_a_key_that_is_no_text_any_more_is_the_end_of_the_database_at_the_start_too(
    tmp_path: Path,
) -> None:
    database = open_database(tmp_path)
    database.perform([deliver(1, Put("key", b"1")), TakeRoot(1, is_signed=False)])
    spoil(database, "UPDATE keys SET key = CAST(key AS BLOB)")
    database.close()
    with pytest.raises(DatabaseDamaged, match="and is no text"):
        open_database(tmp_path)

"""Opens the database file: the lock, the settings, the tables, and what to do with a bad file.

Knows SQLite's file format only through its pragmas.  Refuses to know what the tables mean.
A file that is missing is held to be lost, with all that its node ever said, unless the home still
bears the mark of a new identity: a lost memory that counts as none would vote against itself.
Follows: sqlite.org/wal.html, sqlite.org/lockingv3.html and sqlite.org/withoutrowid.html.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from aegis_edge.disk.errors import (
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseLocked,
    DatabaseNewer,
    disk_errors,
)

#: Marks the file as ours (sqlite.org/pragma.html#pragma_application_id): "AEdg".
APPLICATION_ID = 0x41456467
SCHEMA_VERSION = 1
#: Small pages: a lone write dirties few of them, each goes to the card twice (WAL, then file).
PAGE_BYTES = 1024
#: The WAL is folded into the file when it has this size, and is then written over, not cut off.
WAL_BYTES = 4 * 1024 * 1024
WAL_BYTES_MAX = 16 * 1024 * 1024
CACHE_BYTES = 4 * 1024 * 1024
DAMAGED_SUFFIX = ".damaged-"
#: Beside the database of an identity that was made here and has not run yet: names that identity.
NEVER_RAN_NAME = "never-ran"

TABLES = (
    # One row.  `rebuilt`: this file took the place of one that is lost, and memory with it.
    """CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        cluster_id BLOB NOT NULL,
        node BLOB NOT NULL,
        history_versions INTEGER NOT NULL,
        incarnation INTEGER NOT NULL,
        pruned INTEGER NOT NULL,
        rebuilt INTEGER NOT NULL)""",
    # Every kept version, in the order of writing: appended at the right edge of the tree.
    """CREATE TABLE versions (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        previous_revision INTEGER NOT NULL,
        author BLOB NOT NULL,
        time_ms INTEGER NOT NULL,
        media INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB NOT NULL)""",
    # One row a key, in key order: its kept versions, see knowledge.state.
    """CREATE TABLE keys (
        key TEXT PRIMARY KEY,
        retained BLOB NOT NULL) WITHOUT ROWID""",
    # Protocol records and batch certificates: see disk.log.
    """CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        view INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        data BLOB NOT NULL)""",
    # `time_ms` and `origins` of the newest row say how far execution came.
    """CREATE TABLE certificates (
        sequence INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        origins BLOB,
        tail INTEGER,
        tail_bytes INTEGER,
        data BLOB NOT NULL)""",
)

#: The newest record of itself that each other member has shown, in its envelope.  Made whenever it
#: is missing: a file without it is of an earlier release, which lets the table alone, so both can
#: open what the other wrote, and the format keeps its number.
NODE_RECORDS = """CREATE TABLE IF NOT EXISTS node_records (
    node BLOB PRIMARY KEY,
    record BLOB NOT NULL) WITHOUT ROWID"""

#: What is given to who was away, and what is fetched and not installed yet: see `disk.applied`.
#: Made like the above.
TRANSFER = (
    # Where execution stood at the last checkpoints, whose state others may fetch.
    """CREATE TABLE IF NOT EXISTS checkpoints (
        sequence INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        origins BLOB NOT NULL,
        roll BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS staged_rows (
        label BLOB NOT NULL,
        key TEXT PRIMARY KEY,
        retained BLOB NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS staged_versions (
        revision INTEGER NOT NULL,
        key TEXT NOT NULL,
        previous_revision INTEGER NOT NULL,
        author BLOB NOT NULL,
        time_ms INTEGER NOT NULL,
        media INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (key, revision))""",
)

#: Who the members are, from the first operation on that was about them: see knowledge.roll.
ROLL = """CREATE TABLE IF NOT EXISTS roll (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    roll BLOB NOT NULL)"""

#: How they came about: see disk.handovers.  Both are made like the above.
HANDOVERS = """CREATE TABLE IF NOT EXISTS handovers (
    number INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL,
    data BLOB NOT NULL)"""


class Lock:
    """Held for as long as the database is open: two processes on one database would diverge."""

    def __init__(self, path: Path) -> None:
        lock_path = path.with_name(path.name + ".lock")
        with disk_errors(lock_path):
            self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise DatabaseLocked(
                f"{path} is in use by another process{holder and ', pid '}{holder}, which holds "
                f"{lock_path}",
                "stop that node first, or give this one a --home of its own",
            ) from None
        with disk_errors(lock_path):  # for people only: what counts is the lock itself
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def connect(
    path: Path, cluster_id: bytes, node: bytes, history_versions: int
) -> sqlite3.Connection:
    """A checked connection to the database of `node` at `path`, which is made if it is missing.

    Raises a `DiskError`; a damaged file has been set aside by then.
    """
    with disk_errors(path):
        if not path.exists():
            # A WAL without its file would be played into the new one.
            _set_aside(path)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            sync_folder(path.parent)
    connection: sqlite3.Connection | None = None
    try:
        with disk_errors(path):
            connection = sqlite3.connect(
                path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            # Nobody else may open the file: no shared memory, no lock calls per transaction.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            if _empty(connection):
                _settle(connection)
                damaged_before = any(path.parent.glob(path.name + DAMAGED_SUFFIX + "*"))
                rebuilt = damaged_before or not _never_ran(path.parent, node)
                _create(connection, (cluster_id, node, history_versions, rebuilt))
            else:
                _check(path, connection)
                _settle(connection)
            _same(path, connection, (cluster_id, node, history_versions))
            for table in (NODE_RECORDS, *TRANSFER, ROLL, HANDOVERS):
                connection.execute(table)
            # Shows now, not at the first write, that the file may not be written.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            _about_to_run(path.parent)
    except DatabaseDamaged as error:
        if connection is not None:
            connection.close()
        raise damaged(path, error.message) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def damaged(path: Path, message: str) -> DatabaseDamaged:
    """Set the database at `path` aside; the error that says so.  The connection must be closed."""
    with disk_errors(path):
        aside = _set_aside(path)
    return DatabaseDamaged(
        f"the database is damaged ({message}); it is now {aside}",
        "the node goes on with an empty database and fetches the state from its peers; keep the "
        "old file until `aegis-edge status` shows their revision",
    )


def mark_new(folder: Path, node: bytes) -> None:
    """Say, durably, that the identity `node` was made in `folder` just now and never ran."""
    path = folder / NEVER_RAN_NAME
    with disk_errors(path):
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(_mark_of(node))
            file.flush()
            os.fsync(descriptor)
        sync_folder(folder)


def _mark_of(node: bytes) -> bytes:
    return node.hex().encode() + b"\n"


def _never_ran(folder: Path, node: bytes) -> bool:
    """Whether the mark is there, and of this identity: another one may have been put here since."""
    try:
        return (folder / NEVER_RAN_NAME).read_bytes() == _mark_of(node)
    except FileNotFoundError:
        return False


def _about_to_run(folder: Path) -> None:
    """Remove the mark, durably: from now on a database that is missing is one that was lost."""
    mark = folder / NEVER_RAN_NAME
    if mark.exists():
        mark.unlink()
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever made in this file, or the power failed before that was durable."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return not application_id and not tables


def _check(path: Path, connection: sqlite3.Connection) -> None:
    # Before anything else, so that a file which is not ours is neither changed nor moved.
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise DatabaseForeign(
            f"{path} is a database of some other program",
            "name another file; this one was not touched",
        )
    if version > SCHEMA_VERSION:
        raise DatabaseNewer(
            f"{path} was written by a later release (format {version}, this one knows "
            f"{SCHEMA_VERSION})",
            "install that release again; the file was not touched",
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DatabaseDamaged(f"{path}: {verdict}", "")


def _settle(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is still empty
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // PAGE_BYTES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")
    # Debian builds SQLite so that deleting overwrites with zeros: that would double the wear.
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("PRAGMA temp_store = MEMORY")


def _create(connection: sqlite3.Connection, owner: tuple[bytes, bytes, int, bool]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for table in TABLES:
        connection.execute(table)
    connection.execute("INSERT INTO meta VALUES (1, ?, ?, ?, 0, 0, ?)", owner)
    connection.execute("COMMIT")


def _same(path: Path, connection: sqlite3.Connection, owner: tuple[bytes, bytes, int]) -> None:
    found = connection.execute("SELECT cluster_id, node, history_versions FROM meta").fetchone()
    if found is None:
        raise DatabaseDamaged(f"{path}: it does not say whose it is", "")
    for what, here, wanted in zip(
        ("cluster", "node", "number of kept versions"), found, owner, strict=True
    ):
        if here != wanted:
            raise DatabaseForeign(
                f"{path} belongs to another {what}",
                "give each node in each cluster a folder of its own; this file was not touched",
            )


def _set_aside(path: Path) -> Path:
    """Rename the database and its companions out of the way; the new name of the database."""
    number = 1
    while any(path.parent.glob(f"{path.name}{DAMAGED_SUFFIX}{number}*")):
        number += 1
    aside = path.with_name(f"{path.name}{DAMAGED_SUFFIX}{number}")
    # The database first: a WAL that is left alone is found and moved by the next start.
    for companion in ("", "-wal", "-shm", "-journal"):
        old = path.with_name(path.name + companion)
        if old.exists():
            old.rename(aside.with_name(aside.name + companion))
    sync_folder(path.parent)
    return aside

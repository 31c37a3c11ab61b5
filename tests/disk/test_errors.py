"""Every failure of a disk has a type, says where, and says what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from aegis_edge.disk.errors import (
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseLocked,
    DatabaseNewer,
    DiskError,
    DiskFailing,
    DiskForbidden,
    DiskFull,
    DiskReadOnly,
    disk_error,
    disk_errors,
)

PATH = Path("/var/lib/some/node.db")


def sqlite(code: int | None) -> sqlite3.Error:
    error = sqlite3.OperationalError("what SQLite says")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite(sqlite3.SQLITE_FULL), DiskFull),
        (sqlite(sqlite3.SQLITE_READONLY), DiskReadOnly),
        (sqlite(sqlite3.SQLITE_READONLY_DBMOVED), DiskReadOnly),
        (sqlite(sqlite3.SQLITE_CANTOPEN), DiskForbidden),
        (sqlite(sqlite3.SQLITE_IOERR_FSYNC), DiskFailing),
        (sqlite(sqlite3.SQLITE_BUSY), DatabaseLocked),
        (sqlite(sqlite3.SQLITE_CORRUPT), DatabaseDamaged),
        (sqlite(sqlite3.SQLITE_NOTADB), DatabaseDamaged),
        (sqlite(None), DatabaseDamaged),
        (OSError(errno.ENOSPC, "full"), DiskFull),
        (OSError(errno.EROFS, "read-only"), DiskReadOnly),
        (sqlite(sqlite3.SQLITE_PERM), DiskForbidden),
        (PermissionError(errno.EACCES, "denied"), DiskForbidden),
        (OSError(errno.EIO, "broken"), DiskFailing),
        (OSError("no number"), DiskFailing),
    ],
)
def test_each_failure_has_its_type_and_advice(
    error: sqlite3.Error | OSError, kind: type[DiskError]
) -> None:
    translated = disk_error(PATH, error)
    assert type(translated) is kind
    assert str(PATH) in translated.message
    assert translated.advice
    assert str(translated) == f"{translated.message}; {translated.advice}"
    with pytest.raises(kind), disk_errors(PATH):
        raise error


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DiskFull, os.EX_IOERR),
        (DiskFailing, os.EX_IOERR),
        (DiskReadOnly, os.EX_IOERR),
        (DatabaseDamaged, os.EX_IOERR),
        (DatabaseLocked, os.EX_TEMPFAIL),
        (DatabaseForeign, os.EX_CONFIG),
        (DatabaseNewer, os.EX_CONFIG),
        (DiskForbidden, os.EX_CONFIG),
    ],
)
def test_each_failure_says_whether_to_start_again(kind: type[DiskError], code: int) -> None:
    assert kind("m", "a").exit_code == code


def test_what_an_account_may_not_do_is_told_in_words() -> None:
    said = str(disk_error(PATH, PermissionError(errno.EACCES, "Permission denied", "x")))
    assert said.startswith(f"{PATH}: Permission denied; run this as the account")
    assert "--home" in said


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), disk_errors(PATH):
        raise KeyError

"""What can go wrong with a disk, and what its owner should do about it.

Knows SQLite's result codes (sqlite.org/rescode.html) and the errors of the operating system.
Refuses to know which statement failed, and why anybody ran it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskError(Exception):
    """The disk does not do its part.  `advice` tells the owner what to do next.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    exit_code = os.EX_IOERR

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(f"{message}; {advice}")
        self.message = message
        self.advice = advice


class DiskFull(DiskError):
    """There is no room left; nothing of the failed write is there."""


class DiskReadOnly(DiskError):
    """The file, its folder or its file system may not be written."""


class DiskForbidden(DiskError):
    """There is no such place, or this account may not do that there: a person has to say where."""

    exit_code = os.EX_CONFIG


class DiskFailing(DiskError):
    """The device answered with an error."""


class DatabaseDamaged(DiskError):
    """The database cannot be trusted, and has been or will be set aside."""


class DatabaseLost(DatabaseDamaged):
    """The database was damaged while it was in use, and is set aside: the node begins anew."""


class DatabaseNewer(DiskError):
    """A later release wrote this database."""

    exit_code = os.EX_CONFIG


class DatabaseForeign(DiskError):
    """A sound database, but not one for this node in this cluster."""

    exit_code = os.EX_CONFIG


class DatabaseLocked(DiskError):
    """Another process uses this database."""

    exit_code = os.EX_TEMPFAIL


_BY_CODE: dict[int, tuple[type[DiskError], str]] = {
    sqlite3.SQLITE_FULL: (DiskFull, "make room on its file system, then start the node again"),
    sqlite3.SQLITE_READONLY: (
        DiskReadOnly,
        "make the file and its folder writable for this user; a card that turned read-only by "
        "itself is dying: copy it and replace it",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        DiskForbidden,
        "see that its folder exists and that this account may write there, or name another place "
        "with --home",
    ),
    sqlite3.SQLITE_PERM: (
        DiskForbidden,
        "run this as the account that the place belongs to, or give it to this one (chown), or "
        "name another place with --home",
    ),
    sqlite3.SQLITE_IOERR: (
        DiskFailing,
        "look at the kernel log (dmesg) for errors of the card, and at the size limits of the "
        "process; then start the node again",
    ),
    sqlite3.SQLITE_BUSY: (DatabaseLocked, "stop the other program that has it open"),
    sqlite3.SQLITE_LOCKED: (DatabaseLocked, "stop the other program that has it open"),
    sqlite3.SQLITE_NOMEM: (DiskFailing, "give the process more memory"),
}
_DAMAGED = "start the node again: it checks the file, sets it aside if it is damaged, and says so"

_BY_ERRNO = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EACCES: sqlite3.SQLITE_PERM,
    errno.EPERM: sqlite3.SQLITE_PERM,
    errno.ENOENT: sqlite3.SQLITE_CANTOPEN,
    errno.ENOTDIR: sqlite3.SQLITE_CANTOPEN,
    errno.EISDIR: sqlite3.SQLITE_CANTOPEN,
}


def disk_error(path: Path, error: sqlite3.Error | OSError) -> DiskError:
    """The `DiskError` that stands for a failure of SQLite or of the operating system at `path`."""
    words: object = error
    if isinstance(error, OSError):
        code = _BY_ERRNO.get(error.errno or 0, sqlite3.SQLITE_IOERR)
        words = error.strerror or error
    else:
        # Errors of the binding itself (a text that is not UTF-8) carry no code: the file is bad.
        code = getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_CORRUPT
    kind, advice = _BY_CODE.get(code & 0xFF, (DatabaseDamaged, _DAMAGED))
    return kind(f"{path}: {words}", advice)


def is_rot(error: DatabaseDamaged) -> bool:
    """Whether the file itself is bad, rather than what was asked of SQLite."""
    code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise into `DiskError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise disk_error(path, error) from error

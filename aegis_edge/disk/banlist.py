"""Whom the owner keeps out, on disk: keys, and until when.

Knows the file: 0600, written beside and renamed, synced with its folder.  Refuses to know links,
and to lose a node for it: what cannot be read is as good as empty, and the log says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from aegis_edge.disk.errors import disk_errors
from aegis_edge.disk.schema import sync_folder
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

FORMAT = 1
ROWS_MAX = 128
KEY_BYTES = 32
SIZE_BYTES_MAX = 16 * 1024

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One ban by hand: of the node with this key, from `since_ms` on (Unix) for `length_ms`.

    A length of 0: until somebody lifts it.
    """

    key: bytes
    since_ms: int
    length_ms: int

    def left_ms(self, now_ms: int) -> int | None:
        """How much of it is left by a clock that may have been wrong, then or now; None: no end.

        At most its whole length: where the clock fell back, it begins anew.
        """
        if not self.length_ms:
            return None
        return min(self.length_ms, max(0, self.since_ms + self.length_ms - now_ms))


def read(path: Path) -> tuple[Row, ...]:
    """The rows at `path`; none if there is no file, or a damaged one."""
    try:
        with path.open("rb") as file:
            return _decoded(file.read(SIZE_BYTES_MAX + 1))
    except FileNotFoundError:
        return ()
    except (OSError, WireError) as error:
        log.error("%s: the bans in it are lost, make new ones: %s", path, error)
        return ()


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace the rows at `path`; durable when it returns.  Raises `DiskError`."""
    fresh = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(codec.encode((FORMAT, tuple(map(tuple, rows)))))
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        sync_folder(path.parent)


def _decoded(data: bytes) -> tuple[Row, ...]:
    value = codec.decode(data, size_max=SIZE_BYTES_MAX)
    _check(type(value) is tuple and len(value) == 2 and value[0] == FORMAT)
    _check(type(value[1]) is tuple and len(value[1]) <= ROWS_MAX)
    return tuple(map(_row, value[1]))


def _row(fields: Any) -> Row:
    _check(type(fields) is tuple and len(fields) == 3)
    key, *times = fields
    _check(type(key) is bytes and len(key) == KEY_BYTES)
    _check(all(type(each) is int and each >= 0 for each in times))
    return Row(*fields)


def _check(is_so: bool) -> None:
    if not is_so:
        raise WireError("not a list of bans")

"""The invitations that a node has given out, on disk: public keys alone, and what became of each.

Knows the file.  Refuses to know when an
invitation ends, and to lose a node for it: what cannot be read is as good as cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from aegis_edge.disk import durable
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

FORMAT = 1
ROWS_MAX = 32
KEY_BYTES = 32
SIZE_BYTES_MAX = 16 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One invitation.  `public`: see `peers.invitation`; `until_ms`: agreed time in Unix ms.

    `instead_of`: the member that the newcomer takes the place of.  `guest`: the key of the newcomer
    that used it; `number`: of the proposal to admit it, 0 before there is one.  While one is being
    made, and perhaps is made already, nobody knows its number: then it is below 0, and says which
    was the last one before, as `underway` of that.  `is_over`: it was cancelled, or nobody used it
    in time.  `is_observer`: its guest is to follow, and no member: for as long as it is not over.
    """

    public: bytes
    until_ms: int
    instead_of: bytes | None = None
    guest: bytes | None = None
    number: int = 0
    is_over: bool = False
    is_observer: bool = False


def underway(last: int) -> int:
    """The `Row.number` of a proposal that comes after the one with the number `last`; and back."""
    return -1 - last


def read(path: Path) -> tuple[Row, ...]:
    """The rows at `path`, the oldest first; none if there is no file, or a damaged one."""
    try:
        with path.open("rb") as file:
            return _decoded(file.read(SIZE_BYTES_MAX + 1))
    except FileNotFoundError:
        return ()
    except (OSError, WireError) as error:
        log.error("%s: the invitations in it are lost, make new ones: %s", path, error)
        return ()


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace the rows at `path`; durable when it returns.  Raises `DiskError`."""
    durable.replace(path, codec.encode((FORMAT, tuple(astuple(row) for row in rows))))


def _decoded(data: bytes) -> tuple[Row, ...]:
    value = codec.decode(data, size_max=SIZE_BYTES_MAX)
    _check(type(value) is tuple and len(value) == 2 and value[0] == FORMAT)
    _check(type(value[1]) is tuple and len(value[1]) <= ROWS_MAX)
    return tuple(map(_row, value[1]))


def _row(fields: Any) -> Row:
    _check(type(fields) is tuple and len(fields) in (6, 7))  # 6 before there were observers
    public, until_ms, instead_of, guest, number, is_over, *more = fields
    _check(_is_key(public) and type(until_ms) is int and type(number) is int)
    _check(all(each is None or _is_key(each) for each in (instead_of, guest)))
    _check(all(type(flag) is bool for flag in (is_over, *more)))
    _check(until_ms >= 0)
    return Row(public, until_ms, instead_of, guest, number, is_over, *more)


def _is_key(value: Any) -> bool:
    return type(value) is bytes and len(value) == KEY_BYTES


def _check(is_so: bool) -> None:
    if not is_so:
        raise WireError("not a list of invitations")

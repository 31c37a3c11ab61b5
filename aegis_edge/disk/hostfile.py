"""Who invited this board, on disk: whom it follows until it is a member, or as an observer.

Knows the file.  Refuses to judge what is in it: its owner alone wrote it, and it opens no door that
the host keeps shut.
"""

from __future__ import annotations

import logging
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from aegis_edge.disk import durable
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

FORMAT = 1
SIZE_BYTES_MAX = 16 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Host:
    """`record`: the signed node record of the member that invited; `word`: the pass that it gave
    last, b"" for none yet; `is_observer`: this board is to be no member.
    """

    record: bytes
    is_observer: bool
    word: bytes = b""


def read(path: Path) -> Host | None:
    """What is at `path`; None if there is no file, or a damaged one."""
    try:
        with path.open("rb") as file:
            return _decoded(file.read(SIZE_BYTES_MAX + 1))
    except FileNotFoundError:
        return None
    except (OSError, WireError) as error:
        log.error("%s: join again to follow the member that invited this board: %s", path, error)
        return None


def write(path: Path, host: Host) -> None:
    """Put `host` at `path`; durable when it returns.  Raises `DiskError`."""
    durable.replace(path, codec.encode((FORMAT, *astuple(host))))


def _decoded(data: bytes) -> Host:
    value: Any = codec.decode(data, size_max=SIZE_BYTES_MAX)
    is_right = type(value) is tuple and [type(each) for each in value] == [int, bytes, bool, bytes]
    if not is_right or value[0] != FORMAT:
        raise WireError("it does not say who invited this board")
    return Host(*value[1:])

"""Where the cluster was when this node last knew: beside the database, which may be lost.

Knows the file: 0600, written beside and renamed, synced with its folder; it never goes back.
Refuses to know what follows from it (`pbft.route`), and to keep a node from starting: one that
cannot be read is as good as none.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from aegis_edge.disk.errors import disk_errors
from aegis_edge.disk.schema import sync_folder
from aegis_edge.pbft.route import DIGEST_BYTES, Waypoint
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

FORMAT = 1
SIZE_BYTES_MAX = 64

log = logging.getLogger(__name__)


def read(path: Path) -> Waypoint | None:
    """What is at `path`; None if there is no file, or a damaged one."""
    try:
        with path.open("rb") as file:
            value = codec.decode(file.read(SIZE_BYTES_MAX + 1), size_max=SIZE_BYTES_MAX)
        if type(value) is not tuple or len(value) != 3 or value[0] != FORMAT:
            raise WireError("not a word of where a cluster was")
        _, number, digest = value
        if type(number) is not int or type(digest) is not bytes or len(digest) != DIGEST_BYTES:
            raise WireError("not a word of where a cluster was")
    except FileNotFoundError:
        return None
    except (OSError, WireError) as error:
        log.error(
            "%s: what this node knew of its cluster is lost, and learnt anew: %s", path, error
        )
        return None
    return Waypoint(number, digest)


def advance(path: Path, waypoint: Waypoint) -> None:
    """Keep `waypoint` if it lies further on; durable when it returns.  Raises `DiskError`."""
    known = read(path)
    if waypoint.number <= (0 if known is None else known.number):
        return
    fresh = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(codec.encode((FORMAT, waypoint.number, waypoint.digest)))
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """The owner says that there never was more than the database knows.  Raises `DiskError`."""
    with disk_errors(path):
        path.unlink(missing_ok=True)
        sync_folder(path.parent)

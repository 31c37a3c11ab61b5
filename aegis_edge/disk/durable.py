"""A small file that is replaced whole: either all of the new one is there after a loss of power, or
the old one.

Knows how: written beside, synced, renamed, and the folder synced.  Refuses to know what is in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from aegis_edge.disk.errors import disk_errors
from aegis_edge.disk.schema import sync_folder


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of what `path` has; for its owner alone, and durable when it returns.

    Raises `DiskError`.
    """
    fresh = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        sync_folder(path.parent)

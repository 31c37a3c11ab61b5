"""Prints one line: the Python, the SQLite and the versions of what aegis-edge stands on."""

import platform
import sqlite3
from importlib import metadata

from aegis_edge.cli.version import LIBRARIES


def line() -> str:
    """For example: python 3.11.2, sqlite 3.40.1, trio 0.22.0, ..."""
    parts = [f"python {platform.python_version()}", f"sqlite {sqlite3.sqlite_version}"]
    return ", ".join([*parts, *(f"{name} {metadata.version(name)}" for name in LIBRARIES)])


if __name__ == "__main__":
    print(line())

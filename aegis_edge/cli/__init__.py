"""The command line: one screen per command, all of them clients of the local API or of the home.

Knows how things are shown and asked for.  Refuses to know how they are done.

Exit codes: see `root.EPILOG`; `screen.explain` gives them, those from 64 on are the errors' own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> Any:
    """The `aegis-edge` command; ends the process with its exit code."""
    from aegis_edge.cli.root import root

    sys.exit(root.main(list(sys.argv[1:] if arguments is None else arguments), "aegis-edge"))

"""What `aegis-edge run` becomes: a process in which the node is, and nothing else.

Knows how what was given on the command line comes over.  Refuses to know which flags there are.
A node lives for months, on boards where each megabyte counts: what it takes to read a command line
(click, and what that imports) is left behind by an exec, which keeps the process id.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import aegis_edge

#: Lines are enough to find what failed: columns are kept for every instruction of every module.
#: Likewise one heap is enough: a node's threads seldom want memory at the same time.
SPARING = ("-X", "no_debug_ranges")
#: As in `screen`, which takes click to read.
INTERRUPTED = 130


def become(given: Mapping[str, Any], *, alone: bool, as_json: bool) -> NoReturn:
    """Run the node in the place of this process: `given` is for `config.load`."""
    words = json.dumps({"given": dict(given), "alone": alone, "as_json": as_json})
    os.execve(
        sys.executable,
        [sys.executable, *SPARING, *_safety(), "-m", __name__, words],
        {"MALLOC_ARENA_MAX": "1"} | os.environ,
    )


def _safety() -> list[str]:
    """Options with which this package is found, and nothing in the current directory."""
    if sys.flags.isolated:
        return ["-I"]
    first = "" if sys.flags.safe_path else sys.path[0]
    return [] if first == str(Path(aegis_edge.__file__).parent.parent) else ["-P"]


def main(words: str) -> int:
    """The node, until it is told to stop; gives the exit code."""
    said = json.loads(words)
    as_json = said["as_json"]

    def tell(error: Exception) -> int:
        from aegis_edge.cli import screen  # not before there is something to tell

        return screen.explain(error, as_json=as_json)

    def ready(_: object) -> None:
        if as_json:
            print(json.dumps({"ready": True, "api_socket": str(settings.api_socket)}), flush=True)

    try:
        from aegis_edge import config, node

        reread = partial(config.load, said["given"])
        settings = reread()
        return node.main(settings, alone=said["alone"], ready=ready, tell=tell, reread=reread)
    except KeyboardInterrupt:  # while it is still being read: a node heeds it by itself
        return INTERRUPTED
    except Exception as error:
        return tell(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

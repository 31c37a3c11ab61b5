"""`aegis-edge run`: the node itself, in the foreground.

Knows the settings that may be flags.  Refuses to know what a node does.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from aegis_edge.cli import screen
from aegis_edge.config import SETTINGS

#: Settings that `common` has as an option already.
_COMMON = ("api_socket",)


def _flags(function: Any) -> Any:
    """An option for each setting of the table."""
    for setting in reversed([s for s in SETTINGS if s.key not in _COMMON]):
        function = click.option(
            setting.flag,
            setting.key,
            metavar="VALUE",
            help=f"{setting.help[0].upper()}{setting.help[1:]}.  [env: {setting.variable}]",
        )(function)
    return function


@click.command("run")
@_flags
@screen.common
def command(**flags: Any) -> int:
    """Run the node until it is told to stop (Ctrl-C, or SIGTERM).

    Logs go to standard error.  With --json, one line on standard output says when it is ready.
    Exit codes of its own: 74 if the disk fails, 78 if settings, keys or the genesis need a person.

    \b
    Examples:
      aegis-edge run
      aegis-edge run --listen 0.0.0.0 --log-level debug
    """
    from aegis_edge import node
    from aegis_edge.config import ConfigError

    try:
        config = screen.config(**{key: value for key, value in flags.items() if value is not None})
    except ConfigError as error:
        screen.explain(error, as_json=screen.wants_json())
        return node.EXIT_CONFIG
    as_json = screen.wants_json()

    def ready(_: object) -> None:
        if as_json:
            screen.print_json({"ready": True, "api_socket": str(config.api_socket)})
            sys.stdout.flush()

    return node.main(config, ready=ready)

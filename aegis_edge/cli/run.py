"""`aegis-edge run`: the node itself, in the foreground.

Knows the settings that may be flags.  Refuses to know what a node does.
"""

from __future__ import annotations

from typing import Any, NoReturn

import click

from aegis_edge import config
from aegis_edge.cli import bare, owner, screen
from aegis_edge.config import SETTINGS

#: Settings that are no flags of `run`: `common` has the one, and the other is in the genesis.
_ELSEWHERE = ("api_socket", "byzantine_threshold_ratio")


def _flags(function: Any) -> Any:
    """An option for each setting of the table that a running node heeds."""
    for setting in reversed([s for s in SETTINGS if s.key not in _ELSEWHERE]):
        function = click.option(
            setting.flag,
            setting.key,
            metavar="VALUE",
            help=f"{setting.help[0].upper()}{setting.help[1:]}.  [env: {setting.variable}]",
        )(function)
    return function


@click.command("run")
@_flags
@click.option(
    "--alone",
    is_flag=True,
    help="After its database was lost: no board was ever admitted but those of the genesis.",
)
@screen.common
def command(alone: bool, **flags: Any) -> NoReturn:
    """Run the node until it is told to stop (Ctrl-C, or SIGTERM).

    Logs go to standard error.  With --json, one line on standard output says when it is ready.
    For a supervisor: after the exit codes 74 and 75 it may help to start again, after 78 it does
    not: a person has to correct something first.

    \b
    Examples:
      aegis-edge run
      aegis-edge run --listen 0.0.0.0 --log-level debug
    """
    given = screen.given(**{key: value for key, value in flags.items() if value is not None})
    settings = config.load(given)  # what is wrong with a flag is said before anything else
    owner.become(settings)
    bare.become(given, alone=alone, as_json=screen.wants_json())

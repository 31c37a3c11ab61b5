"""`aegis-edge config`: the settings in force, and where each came from.

Knows how settings are shown.  Refuses to change any: that is done in the file, or, where members
share them, by proposal.
"""

from __future__ import annotations

from typing import Any

import click

from aegis_edge.cli import screen
from aegis_edge.cli.meant import Group


@click.group("config", cls=Group)
@screen.common
def command() -> None:
    """The settings, and where each came from.

    \b
    Example:
      aegis-edge config show
    """


@command.command("show")
@click.option("--running", is_flag=True, help="What the running node was started with.")
@screen.common
def show(running: bool) -> None:
    """Show every setting, and where it came from.

    What the members agreed on counts before all else, and is known to the running node. Of the
    rest a flag counts before the environment, that before the file, and that before the default.

    \b
    Examples:
      aegis-edge config show
      aegis-edge config show --running --json
    """
    if running:
        with screen.client() as client:
            said = client.config()
    else:
        said = _own()
    if screen.wants_json():
        screen.print_json(said)
        return
    screen.table(
        ["SETTING", "VALUE", "FROM"],
        [
            [row["key"], screen.shown(_text(row["value"])), screen.faint(row["source"])]
            for row in said["settings"]
        ],
    )
    for remark in said["overruled"]:
        screen.note(remark)


def _own() -> dict[str, Any]:
    """The settings as they would be now, and what the members agreed on, if the node runs."""
    from aegis_edge.client import ClientError

    settings = screen.config()
    try:
        with screen.client() as client:
            shared = client.config()["agreed"]
    except (ClientError, screen.Failure) as error:
        shared = []
        screen.note(f"what the members agreed on is not shown: {error}")
    agreed = [(row["key"], row["value"], row["since"]) for row in shared]
    rows = [{"key": k, "value": v, "source": source} for k, v, source in settings.rows(agreed)]
    return {"settings": rows, "agreed": shared, "overruled": settings.overruled(agreed)}


def _text(value: object) -> str:
    if isinstance(value, bool):  # as the file has it
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

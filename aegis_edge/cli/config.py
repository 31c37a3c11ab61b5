"""`aegis-edge config`: the settings in force, and where each came from.

Knows how settings are shown.  Refuses to change any: that is done in the file.
"""

from __future__ import annotations

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

    A flag counts before the environment, that before the file, and that before the default.

    \b
    Examples:
      aegis-edge config show
      aegis-edge config show --running --json
    """
    if running:
        with screen.client() as client:
            said = client.config()["settings"]
        rows = [(row["key"], row["value"], row["source"]) for row in said]
    else:
        rows = screen.config().rows()
    if screen.wants_json():
        screen.print_json(
            {"settings": [{"key": k, "value": v, "source": source} for k, v, source in rows]}
        )
        return
    screen.table(
        ["SETTING", "VALUE", "FROM"],
        [[key, screen.shown(_text(value)), screen.faint(source)] for key, value, source in rows],
    )


def _text(value: object) -> str:
    if isinstance(value, bool):  # as the file has it
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

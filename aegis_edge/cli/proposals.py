"""`aegis-edge proposals`, `approve` and `reject`: changes of members that wait for votes.

Knows how a proposal is shown.  Refuses to count: each member does.
"""

from __future__ import annotations

import click

from aegis_edge.cli import screen


@click.command("proposals")
@screen.common
def command() -> None:
    """Show the changes of members that wait for votes.

    \b
    Example:
      aegis-edge proposals
    """
    with screen.client() as client:
        said = client.proposals()
    if screen.wants_json():
        screen.print_json(said)
        return
    if not said["proposals"]:
        screen.say("nothing waits for votes")
        return
    rows = [
        [
            str(each["number"]),
            f"{each['change']} {screen.short(each['id'])}",
            screen.shown(each["name"]),
            screen.shown(each["author"]),
            screen.ago(each["time_ms"]),
            f"{len(each['yes'])} of {each['needed']}",
            str(len(each["no"])),
        ]
        for each in said["proposals"]
    ]
    screen.table(["NUMBER", "CHANGE", "NAME", "BY", "WHEN", "YES", "NO"], rows, right="NUMBER NO")


@click.command("approve")
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1))
@screen.common
def approve(number: int) -> None:
    """Say yes to a proposal, for this node.

    \b
    Example:
      aegis-edge approve 3
    """
    _vote(number, True)


@click.command("reject")
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1))
@screen.common
def reject(number: int) -> None:
    """Say no to a proposal, for this node.

    \b
    Example:
      aegis-edge reject 3
    """
    _vote(number, False)


def _vote(number: int, yes: bool) -> None:
    with screen.client() as client:
        said = client.vote(number, yes)
    if screen.wants_json():
        screen.print_json(said)
    elif said["open"]:
        screen.say(f"proposal {number} waits for others")
    else:
        screen.say(f"proposal {number} is decided: aegis-edge members")

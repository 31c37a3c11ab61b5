"""`aegis-edge propose`, `proposals`, `approve` and `reject`: changes that wait for votes.

Knows how a proposal is shown.  Refuses to count, and to know what may be proposed: members do.
"""

from __future__ import annotations

from typing import Any

import click

from aegis_edge.cli import patience, screen
from aegis_edge.cli.members import told


@click.command("propose")
@click.argument("name", metavar="NAME")
@click.argument("value", metavar="VALUE", type=float)
@screen.common
def propose(name: str, value: float) -> None:
    """Propose that all members go by another value of what they share.

    Once a quorum of them has said yes, it counts on all, from one batch on, whatever their own
    settings say; `aegis-edge config show` says so.

    \b
    NAME                  VALUE
      pbft_timeout          0.1 to 3600 seconds: how long a pending operation may
                            wait before the primary is replaced
      checkpoint_interval   1 to 128 batches, from one signed state to the next;
                            a larger one may be too much for many members

    \b
    Examples:
      aegis-edge propose pbft_timeout 10
      aegis-edge propose checkpoint_interval 32 --json
    """
    whole = int(value) if value.is_integer() else value
    with screen.client() as client:
        told(client.propose_value(name, whole), f"{name} is {whole:g} now, on all members")


@click.command("proposals")
@screen.common
def command() -> None:
    """Show the changes that wait for votes: of members, and of what they share.

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
            _what(each),
            _whom(each),
            screen.shown(each["author"]),
            screen.ago(each["time_ms"]),
            f"{len(each['yes'])} of {each['needed']}",
            str(len(each["no"])),
        ]
        for each in said["proposals"]
    ]
    screen.table(["NUMBER", "CHANGE", "NODE", "BY", "WHEN", "YES", "NO"], rows, right="NUMBER NO")


def _what(proposal: dict[str, Any]) -> str:
    """The change whole: who comes, and who goes for it; or what is set to what."""
    if proposal["change"] == "set":
        return f"set {proposal['name']} to {proposal['value']:g} {proposal['unit']}"
    said = f"{proposal['change']} {screen.shown(proposal['name'])}"
    old = proposal.get("instead_of")
    return f"{said}, remove {screen.shown(old['name'])}" if old else said


def _whom(proposal: dict[str, Any]) -> str:
    """The ids of those whom it is about: a board that comes chose its name itself."""
    found = filter(None, (proposal, proposal.get("instead_of")))
    return ", ".join(screen.short(each["id"]) if "id" in each else "all" for each in found)


@click.command("approve")
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1))
@patience.option
@screen.common
def approve(number: int, timeout_s: float | None) -> None:
    """Say yes to a proposal, for this node.

    \b
    Example:
      aegis-edge approve 3
    """
    _vote(number, True, timeout_s)


@click.command("reject")
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1))
@patience.option
@screen.common
def reject(number: int, timeout_s: float | None) -> None:
    """Say no to a proposal, for this node.

    \b
    Example:
      aegis-edge reject 3
    """
    _vote(number, False, timeout_s)


def _vote(number: int, yes: bool, timeout_s: float | None) -> None:
    with patience.wishing(timeout_s) as client:
        # A number means one change, for good: what is read here is what the vote is about.
        found = [each for each in client.proposals()["proposals"] if each["number"] == number]
        said = client.vote(number, yes)
    if screen.wants_json():
        change = {k: v for each in found for k, v in each.items() if k not in ("yes", "no")}
        screen.print_json(said | {"proposal": change})
        return
    words = "".join(f", {_what(each)} ({_whom(each)})," for each in found)
    if said["open"]:
        screen.say(f"proposal {number}{words} waits for others")
    else:
        screen.say(
            f"proposal {number}{words} is decided: aegis-edge members, aegis-edge config show"
        )

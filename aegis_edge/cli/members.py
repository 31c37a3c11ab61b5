"""`aegis-edge members`, `remove` and `leave`: who takes part, and how that changes.

Knows how members are shown, and how people name one.  Refuses to decide: a quorum of them does, and
of an observer who invited it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aegis_edge.cli import patience, screen
from aegis_edge.cli.meant import Group


@click.group("members", cls=Group, invoke_without_command=True)
@screen.common
@click.pass_context
def command(ctx: click.Context) -> None:
    """Who takes part in the cluster.

    \b
    Examples:
      aegis-edge members
      aegis-edge members add attic.record
    """
    if ctx.invoked_subcommand is not None:
        return
    with screen.client() as client:
        said = client.members()
    if screen.wants_json():
        screen.print_json(said)
        return
    rows = [
        [
            screen.short(member["id"]),
            screen.shown(member["name"]),
            _state(member["state"]),
            screen.shown(", ".join(member["addresses"])),
        ]
        for member in said["members"]
    ]
    screen.table(["NODE", "NAME", "STATE", "ADDRESS"], rows)
    needed = f"{said['quorum']} of them decide, {said['faulty_max']} may be faulty"
    screen.say(f"configuration {said['configuration']}: {needed}")
    if said.get("observers"):
        screen.say()
        _show_observers(said["observers"])
    if not said["is_member"]:
        screen.say(screen.bad("this node is none of them"))


def _show_observers(observers: list[dict[str, Any]]) -> None:
    """Who follows, and how far each is, if it asks this board for what is next."""
    rows = [
        [
            screen.short(each["id"]),
            screen.shown(each["name"]),
            _state(each["state"]),
            lag(each["behind"]),
            "this board" if each["is_ours"] else "another",
        ]
        for each in observers
    ]
    screen.table(["OBSERVER", "NAME", "STATE", "BEHIND", "INVITED BY"], rows)


def lag(behind: int | None) -> str:
    """How far one that follows is, in words; nothing if it asks another."""
    return "" if behind is None else screen.count(behind, "batch", "es")


def _state(state: str) -> str:
    return screen.good(state) if state in ("linked", "here") else screen.bad(state)


@command.command("add")
@click.argument("file", metavar="RECORD", type=click.Path())
@click.option(
    "--unseen",
    is_flag=True,
    help="Propose it although it does not answer.  If it never does, and the cluster needs it to"
    " decide, nothing is ever decided again: not even that it goes.",
)
@patience.option
@screen.common
def add(file: str, unseen: bool, timeout_s: float | None) -> None:
    """Propose a board as a member, by its record from `aegis-edge record`.

    It has the genesis of this cluster installed, and runs: let in, its vote is needed.  So where
    the cluster could not decide without it, as a board alone, it is called first, and has to show
    that it is there and has this genesis.  Through Tor from HIGH on nobody but a member can call
    it: invite it instead (aegis-edge invite).

    \b
    Examples:
      aegis-edge members add attic.record
      aegis-edge members add attic.record --unseen
    """
    try:
        text = Path(file).read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise screen.Failure(f"{file}: is not a text file", "is it the right file?") from None
    with patience.wishing(timeout_s) as client:
        told(client.propose_addition(text, unseen=unseen), "it is a member now")


@click.command("remove")
@click.argument("node", metavar="NODE")
@patience.option
@screen.common
def remove(node: str, timeout_s: float | None) -> None:
    """Propose that a member goes: NODE is its name, or the beginning of its id.

    An observer that this board has invited goes at once, and nobody is asked.  Others may still
    have a pass that it has shown them: it is good for a day at most.

    \b
    Example:
      aegis-edge remove attic
    """
    with patience.wishing(timeout_s) as client:
        said = client.members()
        observers = [each for each in said.get("observers", ()) if each["is_ours"]]
        node_id = named(node, [*said["members"], *observers])
        if any(each["id"] == node_id for each in said["members"]):
            told(client.propose_removal(node_id), "it is no member any more")
            return
        dismissed = client.dismiss_observer(node_id)
    if screen.wants_json():
        screen.print_json(dismissed)
    else:
        screen.say("this board vouches for it no more")


@click.command("leave")
@patience.option
@screen.common
def leave(timeout_s: float | None) -> None:
    """Have this node go; nobody is asked.

    It holds what it holds, follows no longer, and can be admitted again.

    \b
    Example:
      aegis-edge leave
    """
    with patience.wishing(timeout_s) as client:
        told(client.leave(), "this node is no member any more")


def named(node: str, members: list[dict[str, Any]]) -> str:
    """The id of the one member that is meant."""
    found = [m for m in members if node in (m["name"], m["id"])]
    if not found:  # of one name, each goes by its id as well
        found = [m for m in members if m["name"] == f"{node} {screen.short(m['id'])}".strip()]
    if not found and node:
        found = [m for m in members if m["id"].startswith(node.lower())]
    if len(found) != 1:
        names = ", ".join(m["name"] for m in found)
        what = f"is more than one: {names}" if found else "is no member"
        raise screen.Failure(screen.shown(f"{node} {what}"), "aegis-edge members shows their ids")
    return str(found[0]["id"])


def told(said: dict[str, Any], done: str) -> None:
    """What came of a wish."""
    if screen.wants_json():
        screen.print_json(said)
    elif said["open"]:
        number = said["number"]
        screen.say(f"proposal {number} waits for others: aegis-edge approve {number}")
    else:
        screen.say(done)

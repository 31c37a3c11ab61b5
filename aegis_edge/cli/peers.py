"""`aegis-edge peers`: the other members, observers, the links to them, and who is kept out.

Knows how links are shown, and why there is none.  Refuses to dial any.
"""

from __future__ import annotations

import re
from typing import Any

import click

from aegis_edge.cli import screen
from aegis_edge.cli.invite import seconds_of
from aegis_edge.cli.meant import Group
from aegis_edge.cli.members import named

#: Enough of an onion address, whose 56 characters nobody reads, to tell members apart.
_ONION = re.compile(r"^onion:([a-z2-7]{8})[a-z2-7]{48}\.onion(?=:|$)")
#: Below this a score needs no looking for.
_GOOD = 50


@click.group("peers", cls=Group, invoke_without_command=True)
@screen.common
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the other members, and those who follow, and the links to them.

    SCORE is what the links were like, from 0 to 100, 50 where nothing is known; it says whom this
    board tries first.  Where something is wrong, the lines below say what.  Onion addresses are
    shortened; --json has them whole.

    \b
    Examples:
      aegis-edge peers
      aegis-edge peers --json | jq .peers[].reasons
      aegis-edge peers ban attic --for 1h
    """
    if ctx.invoked_subcommand is not None:
        return
    with screen.client() as client:
        said = client.peers()
    if screen.wants_json():
        screen.print_json(said)
        return
    peers = said["peers"]
    if peers:
        _table(peers)
    else:
        screen.say("no other members: this is a cluster of one")
    for peer in peers:
        for line in remarks(peer):
            screen.say(f"{screen.shown(peer['name'])}: {line}")
    members = {peer["peer"] for peer in peers}
    for ban in said.get("bans", ()):
        if ban["peer"] not in members:
            screen.say(f"{screen.short(ban['peer'])}: no member; banned {_left(ban['left_ticks'])}")


@command.command("ban")
@click.argument("node", metavar="NODE")
@click.option(
    "--for",
    "for_s",
    callback=lambda *given: None if given[-1] is None else seconds_of(*given),
    metavar="TIME",
    help="Such as 30min, 1h or 2d; until `peers unban` if not given.",
)
@screen.common
def ban(node: str, for_s: int | None) -> None:
    """Have no link with a node, over restarts.

    NODE is a member's name, the beginning of its id, or any whole id.  The ban is this board's
    alone; what members sign still comes through others.  To throw one out: aegis-edge remove.

    \b
    Examples:
      aegis-edge peers ban attic
      aegis-edge peers ban attic --for 1h
    """
    with screen.client() as client:
        said = client.ban(_meant(node, client.peers()["peers"]), for_s)
    if screen.wants_json():
        screen.print_json(said)
        return
    length = "until aegis-edge peers unban" if for_s is None else f"for {screen.span(for_s)}"
    screen.say(f"banned {length}")
    if said["warning"]:
        screen.note(f"{screen.bad('warning:')} {said['warning']}")


@command.command("unban")
@click.argument("node", metavar="NODE")
@screen.common
def unban(node: str) -> None:
    """Hold nothing against a node any more.

    Neither a ban by hand, nor what it is kept out for because of what it did.

    \b
    Example:
      aegis-edge peers unban attic
    """
    with screen.client() as client:
        said = client.peers()
        # Of a ban by hand the member may be one no more.
        banned = [{"id": ban["peer"], "name": ban["peer"]} for ban in said.get("bans", ())]
        said = client.unban(_meant(node, said["peers"], *banned))
    if screen.wants_json():
        screen.print_json(said)
    else:
        screen.say("nothing is held against it any more")


def _meant(node: str, peers: list[dict[str, Any]], *others: dict[str, Any]) -> str:
    """The id of the node that is meant."""
    from aegis_edge.peers.identity import IdentityError, node_id, parse_node_id

    try:
        return node_id(parse_node_id(node))
    except IdentityError:
        known = {peer["peer"]: {"id": peer["peer"], "name": peer["name"]} for peer in peers}
        more = [other for other in others if other["id"] not in known]
        return named(node, [*known.values(), *more])


def _table(peers: list[dict[str, Any]]) -> None:
    header = ["NODE", "NAME", "STATE", "AGE", "RTT", "SCORE", "ADDRESS", "LAST ERROR"]
    rows = [row(peer) for peer in peers]
    if not any(cells[-1] for cells in rows):
        header, rows = header[:-1], [cells[:-1] for cells in rows]
    roles = [str(peer.get("role", "member")) for peer in peers]
    if set(roles) != {"member"}:
        header = [*header[:2], "ROLE", *header[2:]]
        rows = [[*c[:2], role, *c[2:]] for c, role in zip(rows, roles, strict=True)]
    screen.table(header, rows, right="AGE RTT SCORE")


def row(peer: dict[str, Any]) -> list[str]:
    """The cells of one; fields that another version does not send are left out."""
    state, linked, rtt = peer["state"], peer["linked_ticks"], peer["rtt_ms"]
    return [
        screen.short(peer["peer"]),
        screen.shown(peer["name"]),
        screen.good(state) if state == "linked" else screen.bad(state),
        "" if linked is None else screen.span(linked / 1000),
        "" if rtt is None else f"{rtt:.1f} ms",
        str(peer.get("score", "")),
        screen.shown(", ".join(map(_short, peer["addresses"])) or peer["remote"]),
        screen.shown(peer["last_error"]),
    ]


def remarks(peer: dict[str, Any]) -> list[str]:
    """What there is to say of a member that has no link, or had bad ones."""
    lines = []
    ban = peer.get("ban")
    if ban:
        lines.append(f"banned {_left(ban['left_ticks'])}: {screen.shown(ban['reason'])}")
    elif peer["state"] != "linked" and peer.get("last_event"):
        when = screen.span(peer["last_event_ticks"] / 1000)
        lines.append(f"{screen.shown(peer['last_event'])} {when} ago")
    reasons = [each for each in peer.get("reasons", ()) if round(each["points"])]
    if reasons and (peer["state"] != "linked" or peer["score"] < _GOOD):
        made_of = ", ".join(map(_reason, reasons))
        lines.append(f"score {peer['score']}: {made_of}")
    return lines


def _reason(said: dict[str, Any]) -> str:
    times = screen.count(said["count"], "time")
    return f"{said['what']} {times} ({said['points']:+d})"


def _left(left_ticks: int | None) -> str:
    return "until peers unban" if left_ticks is None else f"for {screen.span(left_ticks / 1000)}"


def _short(address: str) -> str:
    return _ONION.sub("onion:\\1\N{HORIZONTAL ELLIPSIS}", address)

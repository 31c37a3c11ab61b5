"""`aegis-edge peers`: the other members and the links to them.

Knows how links are shown.  Refuses to dial any.
"""

from __future__ import annotations

import re
from typing import Any

import click

from aegis_edge.cli import screen

#: Enough of an onion address, whose 56 characters nobody reads, to tell members apart.
_ONION = re.compile(r"^onion:([a-z2-7]{8})[a-z2-7]{48}\.onion(?=:|$)")


@click.command("peers")
@screen.common
def command() -> None:
    """Show the other members, and the links to them.

    Onion addresses are shortened; --json has them whole.

    \b
    Examples:
      aegis-edge peers
      aegis-edge peers --json | jq .peers[].addresses
    """
    with screen.client() as client:
        said = client.peers()
    if screen.wants_json():
        screen.print_json(said)
        return
    peers = said["peers"]
    if not peers:
        screen.say("no other members: this is a cluster of one")
        return
    header = ["NODE", "NAME", "STATE", "AGE", "RTT", "ADDRESS", "LAST ERROR"]
    rows = [row(peer) for peer in peers]
    if not any(cells[-1] for cells in rows):
        header, rows = header[:-1], [cells[:-1] for cells in rows]
    screen.table(header, rows, right="AGE RTT")


def row(peer: dict[str, Any]) -> list[str]:
    """The cells of one member."""
    state, linked, rtt = peer["state"], peer["linked_ticks"], peer["rtt_ms"]
    return [
        screen.short(peer["peer"]),
        screen.shown(peer["name"]),
        screen.good(state) if state == "linked" else screen.bad(state),
        "" if linked is None else screen.span(linked / 1000),
        "" if rtt is None else f"{rtt:.1f} ms",
        screen.shown(", ".join(map(_short, peer["addresses"])) or peer["remote"]),
        screen.shown(peer["last_error"]),
    ]


def _short(address: str) -> str:
    return _ONION.sub("onion:\\1\N{HORIZONTAL ELLIPSIS}", address)

"""`aegis-edge peers`: the other members and the links to them.

Knows how links are shown.  Refuses to dial any.
"""

from __future__ import annotations

from typing import Any

import click

from aegis_edge.cli import screen


@click.command("peers")
@screen.common
def command() -> None:
    """Show the other members, and the links to them.

    \b
    Example:
      aegis-edge peers
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
    screen.table(header, [row(peer) for peer in peers], right="AGE RTT")


def row(peer: dict[str, Any]) -> list[str]:
    """The cells of one member."""
    state, linked, rtt = peer["state"], peer["linked_ticks"], peer["rtt_ms"]
    return [
        screen.short(peer["peer"]),
        screen.shown(peer["name"]),
        screen.good(state) if state == "linked" else screen.bad(state),
        "" if linked is None else screen.span(linked / 1000),
        "" if rtt is None else f"{rtt:.1f} ms",
        screen.shown(", ".join(peer["addresses"]) or peer["remote"]),
        screen.shown(peer["last_error"]),
    ]

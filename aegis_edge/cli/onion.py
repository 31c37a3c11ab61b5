"""`aegis-edge onion`: the onion addresses of this node, and a new one.

Knows how they are shown.  Refuses to talk to tor: a node that runs does, and it starts anew with
what is decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aegis_edge.cli import owner, screen
from aegis_edge.cli.meant import Group

if TYPE_CHECKING:
    from aegis_edge.config import Config


@click.group("onion", cls=Group)
@screen.common
def command() -> None:
    """The onion address of this node, where its links go through Tor.

    \b
    Examples:
      aegis-edge onion show
      aegis-edge onion rotate
    """


@command.command("show")
@screen.common
def show() -> None:
    """Show the address, which is known before any tor runs.

    \b
    Example:
      aegis-edge onion show
    """
    from aegis_edge import home
    from aegis_edge.disk import keyfile

    config = _config()
    keys = keyfile.read(config.key_file)
    _tell(home.own_addresses(config, keys), keys.onion_generation)


@command.command("rotate")
@click.option("--now", is_flag=True, help="Give up the address in use at once.")
@screen.common
def rotate(now: bool) -> None:
    """Give this node a new onion address, and the old one up.

    From its next start on, the node is found at the new one, and at the old one too until each
    member has been linked to it since and so knows the new one.  No member needs to do anything.

    With --now the old one is gone from that start on: for an address that is attacked.  The node
    then finds the others; a member that rotated as well, while this one was off, is lost to it.

    \b
    Examples:
      aegis-edge onion rotate
      aegis-edge onion rotate --now
    """
    from aegis_edge import home
    from aegis_edge.disk import keyfile

    config = _config()
    keys = keyfile.rotate_onion(config.key_file, at_once=now)
    _tell(home.own_addresses(config, keys), keys.onion_generation)
    if screen.wants_json():
        return
    screen.say()
    screen.say("The backup of identity.key is of no use any more: make a new one.")
    screen.say("The address counts from the node's next start; if it runs as a service:")
    screen.say(f"  {owner.to_restart(config)}")


def _config() -> Config:
    config = screen.config()
    if not config.is_through_tor:
        raise screen.Failure(
            "the links of this node are direct, so it has no onion address",
            "set transport to tor for one; see aegis-edge config show",
        )
    owner.become(config)
    return config


def _tell(addresses: tuple[str, ...], rotations: int) -> None:
    last, *older = addresses
    if screen.wants_json():
        screen.print_json({"address": last, "old_addresses": older, "rotations": rotations})
        return
    screen.pairs(
        [
            ("address", screen.strong(last)),
            *(("old", f"{each} {screen.faint('until all know the new one')}") for each in older),
            ("rotations", str(rotations)),
        ]
    )

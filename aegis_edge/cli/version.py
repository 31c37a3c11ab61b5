"""`aegis-edge version`: what runs here.

Knows the names of what the program stands on.  Refuses to ask the network for newer ones.
"""

from __future__ import annotations

import platform

import click

import aegis_edge
from aegis_edge.cli import screen

#: As in setup.cfg; a test sees to that.
LIBRARIES = ("cbor2", "click", "h11", "pynacl", "stem", "trio", "trio-websocket")


@click.command("version")
@screen.common
def command() -> None:
    """Show the versions of the program and of what it stands on.

    \b
    Example:
      aegis-edge version
    """
    from importlib import metadata

    found = {"aegis-edge": aegis_edge.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    if screen.wants_json():
        screen.print_json(found)
    else:
        screen.pairs(list(found.items()))

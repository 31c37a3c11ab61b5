"""`aegis-edge record`: the public, signed record of this node, for people and for files.

Knows how a record is shown.  Refuses to change it: `init` and `run` sign new ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aegis_edge.cli import owner, screen
from aegis_edge.cli.meant import Group

if TYPE_CHECKING:
    from aegis_edge.wire.messages import NodeRecord, Verified


@click.group("record", cls=Group, invoke_without_command=True)
@screen.common
@click.pass_context
def command(ctx: click.Context) -> None:
    """This node's public record: who it is and where it listens.  Alone: the same as `export`.

    \b
    Example:
      aegis-edge record > attic.record
    """
    if ctx.invoked_subcommand is None:
        _export(None)


@command.command("show")
@screen.common
def show() -> None:
    """Show the record for people.

    \b
    Example:
      aegis-edge record show
    """
    from aegis_edge.peers import identity

    record = _own()
    said = record.message
    node_id = identity.node_id(record.signer)
    if screen.wants_json():
        screen.print_json(
            {
                "node_id": node_id,
                "name": said.name,
                "addresses": list(said.addresses),
                "version": said.version,
                "expires_s": said.expires_s,
                "noise_key": said.noise_key.hex(),
            }
        )
        return
    screen.pairs(
        [
            ("node", screen.strong(node_id)),
            ("name", screen.shown(said.name)),
            ("address", ", ".join(map(screen.shown, said.addresses))),
            ("version", str(said.version)),
            ("expires", screen.ago(said.expires_s * 1000)),
        ]
    )


@command.command("export")
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Write it there.")
@screen.common
def export(output: str | None) -> None:
    """Print the record, to be handed to the other owners.

    Nothing in it is secret.

    \b
    Example:
      aegis-edge record export -o attic.record
    """
    _export(output)


def _export(output: str | None) -> None:
    from aegis_edge.peers import identity

    record = _own()
    text = identity.record_to_text(record)
    if output is not None:
        with open(output, "w", encoding="ascii") as file:
            file.write(text)
        screen.note(f"wrote {output}")
    if screen.wants_json():
        screen.print_json({"node_id": identity.node_id(record.signer), "record": text})
    elif output is None:
        click.echo(text, nl=False)


def _own() -> Verified[NodeRecord]:
    from aegis_edge import home
    from aegis_edge.disk import keyfile

    config = screen.config()
    owner.become(config)
    return home.own_record(config, keyfile.read(config.key_file))

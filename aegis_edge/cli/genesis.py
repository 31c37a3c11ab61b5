"""`aegis-edge genesis`: the file that makes boards a cluster, made once and copied to each.

Knows files and what people compare.  Refuses to replace a genesis: that would be another cluster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_edge.cli import owner, screen
from aegis_edge.cli.meant import Group
from aegis_edge.cli.status import tolerance

if TYPE_CHECKING:
    from aegis_edge.config import Config
    from aegis_edge.peers.genesis import Genesis
    from aegis_edge.wire.messages import NodeRecord, Verified


#: For those who make a genesis: there it counts, and for nobody else.
ratio_option = click.option(
    "--byzantine-threshold-ratio",
    metavar="VALUE",
    help="The share of members that may be faulty, 0 to 0.33; fixed in the genesis for good."
    "  [env: BYZANTINE_THRESHOLD_RATIO]",
)


@click.group("genesis", cls=Group)
@screen.common
def command() -> None:
    """Make the genesis of a cluster, install it, or show it.

    \b
    Example:
      aegis-edge genesis create attic.record barn.record -o genesis
    """


@command.command("create")
@click.argument("records", metavar="RECORD...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o", "--output", metavar="FILE", required=True, type=click.Path(), help="Write it there."
)
@ratio_option
@screen.common
def create(records: Sequence[str], output: str, byzantine_threshold_ratio: str | None) -> None:
    """Make a genesis of the records of all members.  Once, on one board.

    \b
    Example:
      aegis-edge genesis create attic.record barn.record -o genesis
    """
    from aegis_edge.peers import identity

    config = screen.config(byzantine_threshold_ratio=byzantine_threshold_ratio)
    members: list[Verified[NodeRecord]] = []
    for name in records:
        try:
            members += identity.records_from_text(_text(name))
        except identity.IdentityError as error:
            raise screen.Failure(f"{name}: {error}", "ask its owner for it again") from None
    signers = [record.signer for record in members]
    for record in members:
        if signers.count(record.signer) > 1:
            raise screen.Failure(
                f"{screen.shown(record.message.name)} is there twice, as"
                f" {identity.node_id(record.signer)}",
                "give one record of each node",
            )
    genesis = _genesis(members, config.byzantine_ratio_percent)
    _write_new(Path(output), genesis.to_text())
    _show(genesis, output)
    if not screen.wants_json():
        screen.say()
        screen.say("Next: copy it to each board by a way that you trust, and there:")
        screen.say(f"  aegis-edge genesis install {os.path.basename(output)}")


@command.command("install")
@click.argument("file", metavar="FILE", type=click.Path())
@screen.common
def install(file: str) -> None:
    """Put a genesis into this node's home.  On each board.

    \b
    Example:
      aegis-edge genesis install genesis
    """
    from aegis_edge.disk import keyfile
    from aegis_edge.peers import identity

    config = screen.config()
    text = _text(file, "genesis")
    genesis = _read(file, text)
    owner.become(config)
    own = keyfile.read(config.key_file).public
    if config.genesis_file.exists() and _text(str(config.genesis_file)) == text:
        screen.note("it is installed already")
    else:
        _write_new(config.genesis_file, text)
    _show(genesis, str(config.genesis_file))
    if not screen.wants_json():
        screen.say()
        if own not in genesis.members:
            screen.say(f"This node, {identity.node_id(own)}, is not one of its members.")
            screen.say("Give its record to one of the cluster, who lets it in once it runs:")
            screen.say(f"  aegis-edge members add {config.name}.record")
        screen.say(f"Next: {owner.to_start(config)}")


@command.command("show")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path())
@screen.common
def show(file: str | None) -> None:
    """Show a genesis: this node's, or the one in FILE.  Owners compare the cluster id.

    \b
    Example:
      aegis-edge genesis show
    """
    from aegis_edge import home

    config = screen.config()
    genesis = home.read_genesis(config) if file is None else _read(file, _text(file, "genesis"))
    _show(genesis, file or str(config.genesis_file))


def found(config: Config, records: Sequence[Verified[NodeRecord]]) -> None:
    """Write a genesis of these records into the home."""
    put(config, _genesis(records, config.byzantine_ratio_percent))


def put(config: Config, genesis: Genesis) -> None:
    """Write this genesis into the home, where there is none yet."""
    _write_new(config.genesis_file, genesis.to_text())


def _genesis(records: Sequence[Verified[NodeRecord]], ratio_percent: int) -> Genesis:
    from aegis_edge.peers.genesis import (
        NONCE_BYTES,
        Genesis,
        Parameters,
        intervals,
    )

    interval, window = intervals(records)
    return Genesis.of(
        records,
        Parameters(
            created_ms=int(time.time() * 1000),
            nonce=os.urandom(NONCE_BYTES),
            checkpoint_interval=interval,
            window=window,
            byzantine_ratio_percent=ratio_percent,
        ),
    )


def _text(name: str, code: str = "error") -> str:
    try:
        return Path(name).read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise screen.Failure(f"{name}: is not a text file", "is it the right file?", code) from None


def _read(name: str, text: str) -> Genesis:
    from aegis_edge.peers.genesis import Genesis, GenesisError

    try:
        return Genesis.from_text(text)
    except GenesisError as error:
        raise screen.Failure(
            f"{name}: {error}", "give the file that `aegis-edge genesis create` made", "genesis"
        ) from None


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise screen.Failure(
            f"{path} is there already",
            "a genesis is made once; move the old file away if it is of no use",
        ) from None


def _show(genesis: Genesis, place: str) -> None:
    from aegis_edge import home
    from aegis_edge.pbft import quorum
    from aegis_edge.peers import identity

    members: list[dict[str, Any]] = [
        {
            "node_id": identity.node_id(record.signer),
            "name": record.message.name,
            "addresses": list(record.message.addresses),
        }
        for record in genesis.records
    ]
    count = len(members)
    faulty = quorum.faults(count, genesis.parameters.byzantine_ratio_percent)
    needed = quorum.quorum(count, faulty)
    remarks = home.remarks(genesis)
    if screen.wants_json():
        screen.print_json(
            {
                "cluster": genesis.cluster_id.hex(),
                "file": place,
                "created_ms": genesis.parameters.created_ms,
                "members": members,
                "faulty_max": faulty,
                "quorum": needed,
                "remarks": remarks,
            }
        )
        return
    screen.pairs(
        [
            ("cluster", screen.strong(genesis.cluster_id.hex())),
            ("file", place),
            ("made", screen.ago(genesis.parameters.created_ms)),
            ("members", f"{count}; {tolerance(count, needed, faulty)}"),
            *(("mind", screen.bad(remark)) for remark in remarks),
        ]
    )
    screen.say()
    screen.table(
        ["NODE", "NAME", "ADDRESS"],
        [
            [
                screen.short(member["node_id"]),
                screen.shown(member["name"]),
                ", ".join(map(screen.shown, member["addresses"])),
            ]
            for member in members
        ],
    )

"""`aegis-edge init`: keys, settings and the public record of a new node.

Knows which files a home needs.  Refuses to overwrite any of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aegis_edge.cli import owner, screen
from aegis_edge.cli.genesis import ratio_option

if TYPE_CHECKING:
    from aegis_edge.config import Config, Value
    from aegis_edge.peers.address import Address
    from aegis_edge.wire.messages import NodeRecord, Verified

_RATIO = "byzantine_threshold_ratio"


_F = TypeVar("_F", bound=Callable[..., Any])


def board_options(function: _F) -> _F:
    """What a new board can be told of itself; `settings_of` takes them all."""
    options = (
        click.option("--name", help="What people call this node; the host's name if not given."),
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Where the other nodes reach this one, such as 192.168.1.20:8080.",
        ),
        click.option("--listen", metavar="IP", help="The IP address to listen on."),
        click.option("--p2p-port", type=int, metavar="PORT", help="The TCP port to listen on."),
        click.option(
            "--tor", is_flag=True, help="Reach the others, and be reached, through Tor alone."
        ),
        click.option(
            "--security-level",
            type=click.Choice(["STANDARD", "HIGH", "PARANOID"]),
            help="With --tor: what to hide, and at which price; HIGH if not given.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("init")
@board_options
@click.option("--single", is_flag=True, help="A cluster of this one board, ready to run.")
@ratio_option
@screen.common
def command(single: bool, byzantine_threshold_ratio: str | None, **board: Any) -> None:
    """Make this board a node: its keys, its settings and its public record.

    What the options and the environment (AEGIS_EDGE_*, SECURITY_LEVEL and the like) say is kept
    in config.toml, so that the node runs with it wherever it is started.

    \b
    Examples:
      aegis-edge init --name attic --address 192.168.1.20:8080
      aegis-edge init --name attic --tor
      aegis-edge init --name attic --tor --security-level PARANOID
      aegis-edge init --single
    """
    from aegis_edge.peers import identity

    if byzantine_threshold_ratio is not None and not single:
        raise click.UsageError(
            "--byzantine-threshold-ratio is fixed when a genesis is made: give it with --single, or"
            " to: aegis-edge genesis create"
        )
    config = settings_of(**board, byzantine_threshold_ratio=byzantine_threshold_ratio)
    unsaved = config.unsaved()
    if single:  # fixed in the genesis, which is made here
        unsaved.pop(_RATIO, None)
    record = make(config, unsaved)
    if single:
        from aegis_edge.cli import genesis

        genesis.found(config, [record])
    addresses = list(record.message.addresses)
    _tell(config, identity.node_id(record.signer), addresses, unsaved, single)


def settings_of(
    name: str | None,
    address: str | None,
    listen: str | None,
    p2p_port: int | None,
    tor: bool,
    security_level: str | None,
    byzantine_threshold_ratio: str | None = None,
) -> Config:
    """The settings in force, with what `board_options` say."""
    given = _settings(name, address, listen, p2p_port)
    if tor:
        given["transport"] = "tor"
    if security_level is not None:
        given["security_level"] = security_level
    if security_level is not None and not tor and not screen.config().is_through_tor:
        raise click.UsageError("--security-level is what Tor shall hide: give it with --tor")
    config = screen.config(**given, byzantine_threshold_ratio=byzantine_threshold_ratio)
    if config.is_through_tor and (address or listen):
        raise click.UsageError(
            "through Tor a node has one address, which is made for it: leave"
            " --address and --listen out"
        )
    return config


def make(config: Config, unsaved: Mapping[str, Value]) -> Verified[NodeRecord]:
    """The record of a new node, whose keys and `unsaved` settings are in its home by now."""
    from aegis_edge import home
    from aegis_edge.disk import keyfile
    from aegis_edge.disk.errors import disk_errors

    owner.become(config)
    _refuse_a_nodes_home(config)
    with disk_errors(config.directory):
        config.directory.mkdir(0o700, parents=True, exist_ok=True)
    ratio = config.values[_RATIO]
    if ratio.source != "default" and config.byzantine_ratio_percent < 33:
        screen.note(
            f"byzantine_threshold_ratio is {ratio.value:g} ({ratio.source}): a cluster whose"
            " genesis is made here may bear fewer hostile members than it could"
        )
    if unsaved:
        _save_settings(config.file, unsaved)
    return home.own_record(config, keyfile.create(config.key_file))


def _refuse_a_nodes_home(config: Config) -> None:
    if config.directory.exists() and not config.directory.is_dir():
        from aegis_edge.disk.errors import DiskForbidden

        raise DiskForbidden(
            f"{config.directory} is a file, and a node's home is a directory",
            "name another place with --home",
        )
    for path in (config.key_file, config.genesis_file, config.database_file):
        if path.exists():
            use_it = (
                "use it as it is"
                if config.key_file.exists()
                else f"restore {config.key_file.name} from your backup"
            )
            raise screen.Failure(
                f"{path} is there already: this is a node's home",
                f"{use_it}, or give another directory with --home",
            )


def _settings(
    name: str | None, address: str | None, listen: str | None, p2p_port: int | None
) -> dict[str, Any]:
    """The settings that the flags stand for, by key."""
    given: dict[str, Any] = {"name": name, "listen": listen, "p2p_port": p2p_port}
    if address is not None:
        reached = _reached_at(address)
        given["advertise"] = (str(reached),)
        if p2p_port is None:
            given["p2p_port"] = reached.port
        if listen is None:
            given["listen"] = _listening_for(reached)
    return {key: value for key, value in given.items() if value is not None}


def _reached_at(text: str) -> Address:
    """Where others dial this board."""
    from aegis_edge.config import ADDRESS_BYTES_MAX
    from aegis_edge.peers import address

    try:
        found = address.parse(f"{address.TCP}:{text}")
    except address.AddressError:
        found = None
    if found is None or len(str(found)) > ADDRESS_BYTES_MAX:
        raise click.BadParameter(
            f"{text!r} must look like 192.168.1.20:8080, attic.lan:8080 or [2001:db8::1]:8080",
            param_hint="--address",
        )
    if found.peculiarity in ("unspecified", "multicast"):
        raise click.BadParameter(
            f"nobody reaches one board at {found.host} ({found.peculiarity}); give the address of"
            " this one, and with --listen where it listens",
            param_hint="--address",
        )
    return found


def _listening_for(reached: Address) -> str:
    """Loopback for loopback; every address of the board for anything else."""
    if reached.peculiarity == "loopback":
        return "127.0.0.1" if reached.is_name else reached.host
    return "::" if ":" in reached.host else "0.0.0.0"


def _save_settings(path: Path, unsaved: Mapping[str, Value]) -> None:
    lines = [_line(key, held.value) for key, held in unsaved.items()]
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
    except FileExistsError:
        sources = ", ".join(dict.fromkeys(held.source for held in unsaved.values()))
        raise screen.Failure(
            f"{path} is there already, and does not say: {'; '.join(lines)} ({sources})",
            "write that into it yourself, or run init without",
        ) from None


def _line(key: str, value: Any) -> str:
    """A setting as the file has it."""
    import json

    # A JSON text or list of texts is the same thing in TOML, save for a few control characters.
    plain = list(value) if isinstance(value, tuple) else value
    return f"{key} = {json.dumps(plain, ensure_ascii=False, default=str)}"


def _tell(
    config: Config, node_id: str, addresses: list[str], saved: Mapping[str, Value], single: bool
) -> None:
    if screen.wants_json():
        screen.print_json(
            {
                "node_id": node_id,
                "name": config.name,
                "addresses": addresses,
                "home": str(config.directory),
                "record": str(config.record_file),
                "genesis": str(config.genesis_file) if single else None,
                "saved": {key: value for key, value, _ in config.rows() if key in saved},
            }
        )
        return
    screen.pairs(
        [
            ("node", screen.strong(node_id)),
            ("name", screen.shown(config.name)),
            ("address", ", ".join(map(screen.shown, addresses))),
            *([("links", _links(config))] if config.is_through_tor else []),
            ("home", str(config.directory)),
            ("record", str(config.record_file)),
            *(
                ("saved", f"{screen.shown(_line(key, held.value))}  {screen.faint(held.source)}")
                for key, held in saved.items()
                if held.source.startswith("environment ")
            ),
        ]
    )
    screen.say()
    if config.is_through_tor and config["security_level"] == "PARANOID":
        screen.say("PARANOID takes bridges.  sudo apt install obfs4proxy, then write")
        screen.say("  ClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy")
        screen.say("and each line of https://bridges.torproject.org, with the word Bridge")
        screen.say(f"before it, to {config.tor_extra_file}")
        screen.say()
    if single:
        screen.say(f"Next: {owner.to_start(config)}")
    else:
        if not (config.is_through_tor or config["advertise"]) and config.listen in (
            "127.0.0.1",
            "::1",
        ):
            screen.say("Only this machine reaches that address.  For other boards, make a node in")
            screen.say("another home, with --address HOST:PORT.")
            screen.say()
        record = f"{screen.typed('record')} > {shlex.quote(config.name)}.record"
        install = screen.typed("genesis install genesis")
        screen.say("Next:")
        screen.say(f"  {record:45}  # on each board; bring all to one")
        screen.say(
            "  aegis-edge genesis create *.record -o genesis  # there, once; copy it to each"
        )
        screen.say(f"  {install:45}  # on each board")
        screen.say(f"  {owner.to_start(config):45}  # on each board")


def _links(config: Config) -> str:
    return f"through Tor at {config['security_level']}, which has to be the same on every board"

"""The tree of commands, loaded branch by branch, and the one place where errors end.

Knows the names of the screens.  Refuses to know what is on them.
A screen is imported when it is asked for: on a small board each import is time that somebody waits.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

import aegis_edge
from aegis_edge.cli import screen
from aegis_edge.cli.meant import Group

#: Each command: the module that holds it (and its name there, if that is not `command`), and the
#: line that the help of the root shows.
COMMANDS = {
    "init": ("init", "Make this board a node: its keys and its public record."),
    "record": ("record", "This node's public record, for the other owners."),
    "genesis": ("genesis", "Make the genesis of a cluster, or install it."),
    "invite": ("invite", "Invite a board: a code, and a picture of it."),
    "join": ("join", "Make this board a node of the cluster that it was invited to."),
    "replace": ("invite:replace", "Invite a board in the place of a member."),
    "run": ("run", "Run the node until it is told to stop."),
    "status": ("status", "Where the node stands."),
    "members": ("members", "Who takes part in the cluster; propose another."),
    "remove": ("members:remove", "Propose that a member goes."),
    "leave": ("members:leave", "Have this node go."),
    "propose": ("proposals:propose", "Propose another value of what all members share."),
    "proposals": ("proposals", "Changes that wait for votes."),
    "approve": ("proposals:approve", "Say yes to a proposal."),
    "reject": ("proposals:reject", "Say no to a proposal."),
    "peers": ("peers", "The other members, and the links to them."),
    "onion": ("onion", "The onion address of this node, and a new one."),
    "kb": ("kb", "Read and write the knowledge base."),
    "verify": ("verify", "Whether a proof holds: offline, with nothing but the genesis."),
    "config": ("config", "The settings, and where each came from."),
    "version": ("version", "Versions of the program and of what it stands on."),
    "completion": ("completion", "Completion of commands for a shell."),
}

EPILOG = """\b
Exit codes:
   0  done                        7  the proof does not hold
   1  error                       8  the invitation is over, or the members say no
   2  wrong usage                66  no such proof, or none that can be read
   3  not found                  74  the disk failed
   4  conflict: other revision   75  another process holds the home, the port or the socket
   5  no quorum, or too late     78  settings, genesis, key or database: a person must act
   6  the node is not running   130  interrupted
"""


class Root(Group):
    """The group of all commands; knows their names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        module = importlib.import_module(f"aegis_edge.cli.{name}")
        command: click.Command = getattr(module, attribute or "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command.  Every error becomes words and an exit code, never a traceback."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in words
        try:
            code = super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
        except Exception as error:
            code = screen.explain(error, as_json=as_json)
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code


@click.group(
    cls=Root,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(aegis_edge.__version__, message="%(prog)s %(version)s")
@screen.common
def root() -> None:
    """Shared knowledge on small boards that agree, even when some of them lie.

    \b
    One board, to begin with:
      aegis-edge init --single
      aegis-edge run &
      aegis-edge kb put garden/tomatoes "water them at six"
      aegis-edge kb get garden/tomatoes
    """

"""What somebody may have meant who typed a command that there is not.

Knows the names of all commands, and a few that other programs use for the same things.
Refuses to run what was only guessed.
"""

from __future__ import annotations

import click

#: What other programs call our commands.
SYNONYMS = {
    "add": "put",
    "cat": "get",
    "del": "rm",
    "delete": "rm",
    "list": "ls",
    "log": "history",
    "read": "get",
    "remove": "rm",
    "set": "put",
    "start": "run",
    "write": "put",
}


class Group(click.Group):
    """A group of commands that suggests the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = nearest(name, ctx)
            hint = f"  Did you mean: {near}" if near else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)


def nearest(name: str, ctx: click.Context) -> str:
    """The whole command that was most likely meant, in this group or in any; empty if none is."""
    import difflib  # which no running node needs

    top = ctx.find_root()
    here = _paths(ctx.command, ctx, ctx.command_path)
    everywhere = _paths(top.command, top, top.command_path) | here
    wanted = SYNONYMS.get(name, name)
    if wanted in everywhere:
        return everywhere[wanted]
    for paths in (here, everywhere):
        close = difflib.get_close_matches(wanted, paths, n=1)
        if close:
            return paths[close[0]]
    return ""


def _paths(command: click.Command, ctx: click.Context, path: str) -> dict[str, str]:
    """Each command below: its last word, and all of them; of one name, the one nearest the root."""
    found: dict[str, str] = {}
    if isinstance(command, click.Group):
        names = command.list_commands(ctx)
        found = {name: f"{path} {name}" for name in names}
        for name in names:
            inner = command.get_command(ctx, name)
            assert inner is not None, "a group knows the commands that it lists"
            found = _paths(inner, ctx, found[name]) | found
    return found

"""Writes the man pages: one for the program, one for each command, from the help that they give.

Knows roff's man macros and click's tree of commands.  Refuses to say anything of its own, but for
the files and units that a package brings.
Usage: manpages.py DIRECTORY
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import click

import aegis_edge
from aegis_edge.cli.root import COMMANDS, EPILOG, root
from aegis_edge.config import HOME_VARIABLE, SETTINGS

ROOT = Path(__file__).resolve().parent.parent
NAME = "aegis-edge"
FILES = (
    ("/var/lib/aegis-edge", "the home of the node that runs as a service"),
    ("~/.local/share/aegis-edge", "the home of one that a person runs"),
    ("HOME/config.toml", "its settings: lines of the form key = value, each key as below"),
    ("HOME/identity.key", "who it is; the one file to have a backup of, and to keep secret"),
    ("/run/aegis-edge/api.sock", "the API of the service, for members of the group aegis-edge"),
    ("/etc/aegis-edge/torrc", "the tor of aegis-edge-tor.service: bridges and the like"),
)
UNITS = (
    ("aegis-edge.service", "a node whose links are direct"),
    ("aegis-edge-tor.service", "a node whose links go through Tor; it has no network"),
    ("tor-for-aegis-edge.service", "the tor that it uses"),
)


def escaped(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    """The help of a command: paragraphs, and after \\b lines that stay as they are."""
    for block in inspect.cleandoc(text).split("\n\n"):
        if block.startswith("\b\n"):
            first, *rest = block[2:].split("\n")
            yield f".PP\n{escaped(first)}"
            yield f".nf\n.RS 2\n{escaped(textwrap.dedent(chr(10).join(rest)))}\n.RE\n.fi"
        else:
            yield f".PP\n{escaped(' '.join(block.split()))}"


def option(parameter: click.Option) -> str:
    """One option: how it is given, and what its help says."""
    context = click.Context(click.Command(NAME))
    given, help_text = parameter.get_help_record(context) or ("", "")
    return f".TP\n.B {escaped(given)}\n{escaped(help_text)}"


def synopsis(path: str, command: click.Command) -> str:
    """The line that shows what may be given."""
    context = click.Context(command, info_name=path)
    pieces = " ".join(command.collect_usage_pieces(context))
    return f".SY {escaped(path)}\n{escaped(pieces)}\n.YS"


def described(path: str, command: click.Command, heading: str) -> Iterator[str]:
    """What a command does, its options, and its own commands below it."""
    yield f"{heading} {escaped(path) if heading == '.SS' else 'DESCRIPTION'}"
    if heading == ".SS":
        yield synopsis(path, command)
    yield from paragraphs(command.help or "")
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    own = [p for p in options if p.name not in ("as_json", "api_socket", "home")]
    if own and heading == ".SH":
        yield ".SH OPTIONS"
    yield from map(option, own)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, "it is in the list"
            yield from described(f"{path} {name}", below, ".SS")


def page(path: str, line: str, body: Iterator[str]) -> str:
    """A whole page; `path`: the words that are typed."""
    entry = (ROOT / "debian" / "changelog").read_text(encoding="utf-8")
    trailer = next(each for each in entry.splitlines() if each.startswith(" -- "))
    date = f"{parsedate_to_datetime(trailer.partition('>  ')[2]):%Y-%m-%d}"
    title = path.replace(" ", "-")
    head = f'.TH {escaped(title.upper())} 1 {escaped(date)} "{NAME} {aegis_edge.__version__}"'
    name = f"{escaped(title)} \\- {escaped(line[0].lower() + line[1:].rstrip('.'))}"
    return "\n".join([head, ".SH NAME", name, *body, ""])


def of_program() -> Iterator[str]:
    yield f".SH SYNOPSIS\n{synopsis(NAME, root)}"
    yield ".SH DESCRIPTION"
    yield from paragraphs(root.help or "")
    yield ".SH COMMANDS"
    for name, (_, line) in COMMANDS.items():
        yield f".TP\n.BR {escaped(f'{NAME}-{name}')} (1)\n{escaped(line)}"
    yield ".SH OPTIONS\nEvery command has these."
    yield from (option(p) for p in root.params if isinstance(p, click.Option))
    yield ".SH SETTINGS\nEach is a key of config.toml, a variable of the environment and a flag."
    yield f".TP\n.B {HOME_VARIABLE}\nthe home"
    for setting in SETTINGS:
        given = f"{setting.key}, {setting.variable}, {setting.flag}"
        yield f".TP\n.B {escaped(given)}\n{escaped(setting.help)}"
    for title, rows in (("FILES", FILES), ("UNITS", UNITS)):
        yield f".SH {title}"
        yield from (f".TP\n.I {escaped(name)}\n{escaped(what)}" for name, what in rows)
    _, *codes = EPILOG.removeprefix("\b\n").rstrip().splitlines()
    yield ".SH EXIT STATUS"
    pairs = re.findall(r"(\d+)  (\S.*?)(?=  |$)", "\n".join(codes), re.MULTILINE)
    yield from (f".TP\n.B {code}\n{escaped(what)}" for code, what in pairs)


def of_command(name: str, command: click.Command) -> Iterator[str]:
    path = f"{NAME} {name}"
    yield f".SH SYNOPSIS\n{synopsis(path, command)}"
    yield from described(path, command, ".SH")
    yield f".SH SEE ALSO\n.BR {escaped(NAME)} (1)"


def write(directory: Path) -> None:
    """All pages into `directory`."""
    what = (root.help or "").split("\n")[0]
    (directory / f"{NAME}.1").write_text(page(NAME, what, of_program()), encoding="utf-8")
    context = click.Context(root)
    for name, (_, line) in COMMANDS.items():
        command = root.get_command(context, name)
        assert command is not None, "it is in the table"
        text = page(f"{NAME} {name}", line, of_command(name, command))
        (directory / f"{NAME}-{name}.1").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

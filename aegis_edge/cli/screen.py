"""What all screens share: where the node is, how errors end, tables, times, colours.

Knows terminals and exit codes.  Refuses to know what is shown.
Follows: no-color.org; colours and relative times only where a person reads.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aegis_edge.cli import owner

if TYPE_CHECKING:
    from aegis_edge.client import Client
    from aegis_edge.config import Config

OK, ERROR, USAGE, NOT_FOUND, CONFLICT, NO_QUORUM, NOT_RUNNING, NOT_PROVEN, NOT_INVITED = range(9)
INTERRUPTED = 130

_CODES = {
    "not_found": NOT_FOUND,
    "conflict": CONFLICT,
    "no_quorum": NO_QUORUM,
    "timeout": NO_QUORUM,
    "not_running": NOT_RUNNING,
    "not_proven": NOT_PROVEN,
    "not_invited": NOT_INVITED,
    "unreadable": os.EX_NOINPUT,
    "genesis": os.EX_CONFIG,
}

_OF_PATHS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on its file system")

F = TypeVar("F", bound=Callable[..., Any])


class Failure(Exception):
    """A screen cannot do what it was asked for: a message, and what to do next."""

    def __init__(self, message: str, advice: str = "", code: str = "error") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.code = code


# --- options --------------------------------------------------------------------------------


def _kept(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Remember an option that may stand before or after the name of the command."""
    found = ctx.ensure_object(dict)
    if value not in (None, False):
        found[parameter.name] = value
    return value


def common(function: F) -> F:
    """The options that every command has: --home, --socket and --json."""
    options = (
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            expose_value=False,
            callback=_kept,
            help="Print JSON for programs; errors too, on standard error.",
        ),
        click.option(
            "--socket",
            "--api-socket",
            "api_socket",
            metavar="PATH",
            type=click.Path(readable=False),  # whoever opens it has better words
            expose_value=False,
            callback=_kept,
            help="The socket of the node's API; in its home if not given.",
        ),
        click.option(
            "--home",
            metavar="DIR",
            type=click.Path(readable=False),  # whoever opens it has better words
            expose_value=False,
            callback=_kept,
            help="The node's home directory.  [env: AEGIS_EDGE_HOME]",
        ),
    )
    for option in options:
        function = option(function)
    return function


def _options() -> dict[str, Any]:
    found: dict[str, Any] = click.get_current_context().ensure_object(dict)
    return found


def wants_json() -> bool:
    """True if the caller asked for JSON."""
    return bool(_options().get("as_json"))


def given(**flags: Any) -> Mapping[str, Any]:
    """What the command line gave for settings, by key; `flags`: those of one command alone."""
    common = {k: v for k, v in _options().items() if k in ("home", "api_socket")}
    if common.get("api_socket"):
        common["api_socket"] = os.path.abspath(common["api_socket"])
    return common | flags


def config(**flags: Any) -> Config:
    """The settings in force, with what the command line gave."""
    from aegis_edge import config as settings

    return settings.load(given(**flags))


def client(timeout_s: float | None = None) -> Client:
    """A client of this node's API; `timeout_s` as there."""
    from aegis_edge.client import Client

    given = _options().get("api_socket")
    settings = None if given else config()
    path = os.path.abspath(str(given)) if settings is None else str(settings.api_socket)
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if settings is not None and not owner.has_key(settings):
            raise Failure(
                f"{settings.directory} is no node's home: there is no {settings.key_file.name}",
                "say which is, with --home or AEGIS_EDGE_HOME; or make this board a node:"
                " aegis-edge init",
                "not_running",
            ) from None
        run = typed("run") if settings is None else owner.to_start(settings)
        start = f"start it with: {run}; if it runs, say where with --home or --socket"
        raise Failure(f"the node is not running: no {path}", start, "not_running") from None
    except OSError:
        pass  # the client has the words for it
    return Client(path, timeout_s=timeout_s)


def typed(words: str) -> str:
    """A command as somebody types it who works with the same home; see `_options`."""
    import shlex

    home = _options().get("home")
    return f"aegis-edge {words}" + (f" --home {shlex.quote(home)}" if home else "")


@contextmanager
def writing(file: str) -> Iterator[None]:
    """What goes wrong with a file while it is written names it: the system does not."""
    try:
        yield
    except OSError as error:
        error.filename = file
        raise


# --- printing -------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """A line for people, on standard output."""
    click.echo(text, color=None if _colours(sys.stdout) else False)


def note(text: str) -> None:
    """A line about what is going on, on standard error; programs that want JSON get none."""
    if not wants_json():
        click.echo(text, err=True, color=None if _colours(sys.stderr) else False)


def print_json(value: Any) -> None:
    """A JSON value on a line of its own."""
    click.echo(json.dumps(value, ensure_ascii=False))


def _colours(stream: Any) -> bool:
    return "NO_COLOR" not in os.environ and bool(getattr(stream, "isatty", lambda: False)())


def good(text: str) -> str:
    return click.style(text, fg="green")


def bad(text: str) -> str:
    return click.style(text, fg="red", bold=True)


def faint(text: str) -> str:
    return click.style(text, dim=True)


def strong(text: str) -> str:
    return click.style(text, bold=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Aligned columns; `right` names the columns (by header) that hold numbers."""
    aligned_right = [name in right.split() for name in header]
    cells = [[faint(name) for name in header], *rows]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        padded = []
        for text, width, to_right in zip(row, widths, aligned_right, strict=True):
            gap = " " * (width - _width(text))
            padded.append(gap + text if to_right else text + gap)
        say("  ".join(padded).rstrip())


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{faint(name.ljust(width))}  {value}")


def _width(text: str) -> int:
    return len(click.unstyle(text))


def shown(text: str) -> str:
    """Text of others on a terminal: no control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def short(node_id: str) -> str:
    """Enough of a node id to tell nodes apart."""
    return node_id[:8]


def member_names(client: Client) -> Mapping[str, str]:
    """What people call each member, by its node id; nothing if the node does not say."""
    from aegis_edge.client import ClientError

    try:
        own = client.status()
        return {p["peer"]: p["name"] for p in client.peers()["peers"]} | {own["id"]: own["name"]}
    except (ClientError, KeyError, TypeError):
        return {}


def author(node_id: str, names: Mapping[str, str]) -> str:
    """Who wrote: the name of a member, or enough of its id."""
    return shown(names.get(node_id) or short(node_id))


def count(number: int, noun: str, ending: str = "s") -> str:
    """So many of them: "1 file", "2 files"."""
    return f"{number} {noun}{'' if number == 1 else ending}"


def ago(time_ms: int) -> str:
    """How long ago a time (Unix milliseconds) is, for people."""
    seconds = time.time() - time_ms / 1000
    if seconds < -5:
        return "in " + span(-seconds)
    return "now" if seconds < 1 else span(seconds) + " ago"


def span(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    for unit, size in (("y", 31_557_600), ("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(size_bytes: int) -> str:
    """A number of bytes in its largest fitting unit."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    for unit, scale in (("KiB", 1 << 10), ("MiB", 1 << 20)):
        if size_bytes < scale << 10:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes / (1 << 30):.1f} GiB"


# --- errors ---------------------------------------------------------------------------------


def explain(error: Exception, *, as_json: bool) -> int:
    """Print what went wrong and what to do, and give the exit code for it."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.Abort):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        kind = "usage" if isinstance(error, click.UsageError) else "error"
        if isinstance(error, click.NoSuchOption) and error.option_name[1:2].isdigit():
            hint = "Put -- before a value that begins with a dash."
            error = click.UsageError(f"{error.format_message()}  {hint}", error.ctx)
        if as_json:
            _print_error(kind, error.format_message(), "")
        else:
            error.show()
        return int(error.exit_code)
    code, message, advice = _words(error)
    if as_json:
        _print_error(code, message, advice, getattr(error, "revision", None))
    else:
        click.echo(f"{bad('error:')} {message}", err=True, color=_err_colour())
        for line in advice.splitlines():
            click.echo(f"       {line}", err=True)
    return int(getattr(error, "exit_code", _CODES.get(code, ERROR)))


def _err_colour() -> bool | None:
    return None if _colours(sys.stderr) else False


def _words(error: Exception) -> tuple[str, str, str]:
    """The code, the message and the advice of an error."""
    message = getattr(error, "message", None)
    if isinstance(message, str):
        code = getattr(error, "code", "error")
        advice = str(getattr(error, "advice", ""))
        return (code if isinstance(code, str) else "error"), message, advice
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        advice = _OF_PATHS.get(error.errno or 0, "check the path and its permissions")
        return "error", f"{where}{error.strerror}", advice
    from aegis_edge.config import ConfigError

    if isinstance(error, ConfigError):
        return error.code, str(error), ""
    from aegis_edge.node import OURS
    from aegis_edge.peers.identity import IdentityError

    if isinstance(error, (*OURS, IdentityError)):
        return "error", str(error), ""
    text = f"a fault of this program: {type(error).__name__}: {error}"
    return "internal", text, "please report it, with the command that you gave"


def _print_error(code: str, message: str, advice: str, revision: int | None = None) -> None:
    said: Mapping[str, Any] = {"error": code, "message": message, "advice": advice}
    if revision is not None:
        said = {**said, "revision": revision}
    click.echo(json.dumps(said, ensure_ascii=False), err=True)

"""`aegis-edge kb`: read and write the knowledge base, a key at a time.

Knows how entries are shown and where values come from.  Whole directories are in `folders`.
Refuses to know how a write is agreed on.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_edge.cli import patience, screen
from aegis_edge.cli.folders import export, import_
from aegis_edge.cli.meant import Group

if TYPE_CHECKING:
    from aegis_edge.client import Change, Client, Entry, Version
    from aegis_edge.knowledge import state

COMPLETED_MAX = 100
#: The last of all characters: behind it comes nothing that begins like what stands before it.
_LAST = "\U0010ffff"


def _keys(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What a shell may offer: keys and folders; nothing if the node does not answer at once.

    Where a folder is the only way on, what is in it: a shell would end the word behind it.
    """
    try:
        with ctx, screen.client(timeout_s=1) as client:
            found = _level(client, incomplete)
            while len(found) == 1 and found[0].endswith("/"):
                found = _level(client, found[0])
            return found
    except Exception:  # somebody is typing: nothing that goes wrong here is worth a word
        return []


def _level(client: Client, start: str) -> list[str]:
    """The keys that begin with `start`, each up to its next slash; once for all in a folder."""
    found: dict[str, None] = {}
    after: str | None = ""
    while after is not None:
        keys = client.ls(start, after=after, page=COMPLETED_MAX)
        after = None
        for version in keys:
            if len(found) == COMPLETED_MAX:
                break
            name, slash, _ = version.key[len(start) :].partition("/")
            found[start + name + slash] = None
            if slash:
                after = max(version.key, start + name + slash + _LAST)
                break
    return list(found)


expect = click.option(
    "--expect",
    "--expected",
    "expected",
    type=click.IntRange(0),
    metavar="REVISION",
    help="Only if the key has this revision now (0: if there is no such key).",
)


@click.group("kb", cls=Group)
@screen.common
def command() -> None:
    """Read and write the knowledge base.

    \b
    Examples:
      aegis-edge kb put garden/tomatoes "water them at six"
      aegis-edge kb get garden/tomatoes
      aegis-edge kb ls garden/
    """


command.add_command(import_)
command.add_command(export)


@command.command("put")
@click.argument("key", shell_complete=_keys)
@click.argument("value", required=False)
@click.option("--file", "file", metavar="FILE", type=click.File("rb"), help="The value's bytes.")
@click.option("--json-value", is_flag=True, help="The value is JSON, and is checked to be.")
@expect
@patience.option
@screen.common
def put(
    key: str,
    value: str | None,
    file: Any,
    json_value: bool,
    expected: int | None,
    timeout_s: float | None,
) -> None:
    """Write VALUE under KEY; returns when a quorum has it on disk.  "-" is standard input.

    \b
    Examples:
      aegis-edge kb put garden/tomatoes "water them at six"
      aegis-edge kb put greenhouse/door --json-value '{"open": false}'
      aegis-edge kb put manuals/pump.pdf --file pump.pdf
      date | aegis-edge kb put clock/now - --expect 41
      aegis-edge kb put cellar/celsius -- -5
    """
    if (value is None) == (file is None):
        raise click.UsageError("give a VALUE, or - for standard input, or --file FILE")
    data: Any
    if file is not None:
        data = file.read()
    elif value == "-":
        data = sys.stdin.buffer.read()
    else:
        assert value is not None
        data = value.encode(errors="surrogateescape")
    if json_value:
        from aegis_edge.client import Invalid, JsonText

        try:
            data = JsonText.of(data)
        except Invalid as error:
            raise click.UsageError(f"--json-value: {error.message}") from None
    with _until_written(), screen.client(timeout_s) as client, patience.shown(client):
        written = client.put(key, data, expected=expected)
    _wrote(key, written.revision, written.time_ms)


@command.command("rm")
@click.argument("key", shell_complete=_keys)
@expect
@patience.option
@screen.common
def rm(key: str, expected: int | None, timeout_s: float | None) -> None:
    """Delete KEY; its history stays.

    \b
    Example:
      aegis-edge kb rm garden/tomatoes
    """
    with _until_written(), screen.client(timeout_s) as client, patience.shown(client):
        written = client.delete(key, expected=expected)
    _wrote(key, written.revision, written.time_ms)


@contextmanager
def _until_written() -> Iterator[None]:
    """Whoever gives up waiting hears that the write may still be agreed on."""
    try:
        yield
    except KeyboardInterrupt:
        screen.note("not waiting any more; the write may still happen")
        raise


def _wrote(key: str, revision: int, time_ms: int) -> None:
    if screen.wants_json():
        screen.print_json({"key": key, "revision": revision, "time_ms": time_ms})
    else:
        screen.say(f"{screen.shown(key)}  {screen.faint('revision')} {revision}")


@command.command("get")
@click.argument("key", shell_complete=_keys)
@click.option("--raw", is_flag=True, help="The exact bytes, and nothing else.")
@click.option(
    "--revision", type=click.IntRange(0), metavar="REVISION", help="As it was at that revision."
)
@click.option(
    "--linearizable", is_flag=True, help="Through the cluster: sees every acknowledged write."
)
@click.option(
    "--proof",
    "proof_file",
    metavar="FILE",
    type=click.Path(),
    help="Write there what proves it, or that there is no KEY; see: aegis-edge verify.",
)
@patience.option
@screen.common
def get(
    key: str,
    raw: bool,
    revision: int | None,
    linearizable: bool,
    proof_file: str | None,
    timeout_s: float | None,
) -> None:
    """Read KEY from this node's copy, or through the cluster.

    JSON and text are shown as they are; other bytes only into a file or a pipe.

    \b
    Examples:
      aegis-edge kb get garden/tomatoes
      aegis-edge kb get manuals/pump.pdf --raw > pump.pdf
      aegis-edge kb get greenhouse/door --linearizable --json
      aegis-edge kb get greenhouse/door --proof door.proof
    """
    if proof_file is not None and revision is not None:
        raise click.UsageError("a proof is of what KEY has now: leave out --revision")
    waits = linearizable or proof_file is not None
    with screen.client(timeout_s) as client:
        with _advised(key), patience.shown(client) if waits else nullcontext():
            if proof_file is None:
                entry = client.get(key, revision=revision, linearizable=linearizable)
            else:
                entry = _proven(client.prove(key, linearizable=linearizable), proof_file)
    if screen.wants_json():
        said: dict[str, Any] = {
            "key": key,
            "revision": entry.revision,
            "author": entry.author,
            "time_ms": entry.time_ms,
            "media": "json" if entry.is_json else "bytes",
        }
        screen.print_json(said | value_fields(entry.value))
    elif raw or not on_terminal():
        sys.stdout.flush()
        sys.stdout.buffer.write(entry.raw if raw else _line(entry.raw))
        sys.stdout.buffer.flush()
    else:
        screen.say(_readable(entry.raw))


def _proven(data: bytes, file: str) -> Entry:
    """Write a proof into `file`; what it says of its key."""
    from aegis_edge import proof

    try:
        said = proof.claimed(data)
    except proof.ProofError as error:
        raise screen.Failure(f"the node answered with no proof: {error}") from None
    with screen.writing(file):
        Path(file).write_bytes(data)
    version = said.version
    if version is None or version.deleted:
        raise screen.Failure(
            f"no key {screen.shown(said.key)}",
            f"the proof of that, as of batch {said.sequence}, is {file}",
            "not_found",
        )
    screen.note(f"the proof, as of batch {said.sequence}, is {file}")
    return entry_of(version)


def entry_of(version: state.Version) -> Entry:
    """What a proof says of a value, as a read does."""
    from aegis_edge.client import Entry
    from aegis_edge.peers.identity import node_id

    author = node_id(version.author)
    is_json = bool(version.media)
    return Entry(version.key, version.revision, author, version.time_ms, is_json, version.value)


@contextmanager
def _advised(key: str) -> Iterator[None]:
    """What the node advises programs, for whoever typed the command."""
    from aegis_edge.client import ClientError, Invalid

    try:
        yield
    except ClientError as error:
        if isinstance(error, Invalid) and key.endswith("/"):
            error.advice = f"list them: aegis-edge kb ls {shlex.quote(key)}"
        error.advice = error.advice.replace(
            "without linearizable", "without --linearizable and --proof"
        )
        raise


def on_terminal() -> bool:
    """True if a person reads our output."""
    return sys.stdout.isatty()


def value_fields(value: Any) -> dict[str, Any]:
    """A value for JSON: text and JSON as they are, other bytes in base64."""
    if not isinstance(value, bytes):
        return {"value": value}
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        from binascii import b2a_base64

        return {"value_base64": b2a_base64(value, newline=False).decode()}


def _line(raw: bytes) -> bytes:
    """Text ends with a newline; other bytes are left alone."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw
    return raw if raw.endswith(b"\n") else raw + b"\n"


def _readable(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise screen.Failure(
            f"the value is {len(raw)} bytes that are no text", "write them to a file: --raw > FILE"
        ) from None
    return "\n".join(screen.shown(line) for line in text.expandtabs().splitlines())


@command.command("ls")
@click.argument("prefix", default="", shell_complete=_keys)
@screen.common
def ls(prefix: str) -> None:
    """List the keys that start with PREFIX.

    With --json: one object a line.

    \b
    Examples:
      aegis-edge kb ls
      aegis-edge kb ls garden/
    """
    with screen.client() as client:
        entries = client.ls(prefix)
        if screen.wants_json():
            for entry in entries:
                screen.print_json(_described(entry))
            return
        names = screen.member_names(client)
        rows = [
            [
                screen.shown(entry.key),
                str(entry.revision),
                screen.size(entry.size_bytes),
                "json" if entry.is_json else "bytes",
                screen.author(entry.author, names),
                screen.ago(entry.time_ms),
            ]
            for entry in entries
        ]
    if rows:
        screen.table(
            ["KEY", "REVISION", "SIZE", "KIND", "AUTHOR", "WRITTEN"], rows, "REVISION SIZE"
        )
    else:
        screen.note("no keys" + (f" start with {screen.shown(prefix)}" if prefix else ""))


@command.command("history")
@click.argument("key", shell_complete=_keys)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, help="At most so many.")
@screen.common
def history(key: str, limit: int) -> None:
    """Show who wrote KEY, and when, the newest first.

    So many versions of a key are kept as the genesis says, and the times are agreed by the
    cluster.  With --json: one object a line.

    \b
    Example:
      aegis-edge kb history greenhouse/door
    """
    with screen.client() as client:
        versions = client.history(key, limit=limit)
        names = {} if screen.wants_json() else screen.member_names(client)
    if screen.wants_json():
        for version in versions:
            screen.print_json(_described(version))
        return
    rows = [
        [
            str(version.revision),
            "deleted" if version.deleted else screen.size(version.size_bytes),
            "" if version.deleted else "json" if version.is_json else "bytes",
            screen.author(version.author, names),
            screen.ago(version.time_ms),
        ]
        for version in versions
    ]
    screen.table(["REVISION", "SIZE", "KIND", "AUTHOR", "WRITTEN"], rows, "REVISION SIZE")


@command.command("watch")
@click.argument("prefix", default="", shell_complete=_keys)
@click.option(
    "--after",
    type=click.IntRange(0),
    metavar="REVISION",
    help="Begin after this revision (0: with everything that is kept); from now on if not given.",
)
@screen.common
def watch(prefix: str, after: int | None) -> None:
    """Follow the writes to keys that start with PREFIX, until Ctrl-C.

    With --json: one object a line, with the value.

    \b
    Examples:
      aegis-edge kb watch greenhouse/
      aegis-edge kb watch --after 0 --json | jq -c .key
    """
    from aegis_edge.client import Disconnected

    with screen.client() as client:
        names = {} if screen.wants_json() else screen.member_names(client)
        try:
            for change in client.watch(after=after, prefix=prefix):
                if screen.wants_json():
                    value = {} if change.version.deleted else value_fields(change.value)
                    screen.print_json(_described(change.version) | value)
                else:
                    screen.say(line_of(change, names))
                sys.stdout.flush()
                after = change.version.revision
        except Disconnected as error:
            again = "watch again" if after is None else f"go on with --after {after}"
            error.advice = f"look at the node's log; once it runs again, {again}"
            raise


def line_of(change: Change, names: Mapping[str, str]) -> str:
    """A change for people, on one line."""
    version = change.version
    if version.deleted:
        what = screen.bad("deleted")
    elif isinstance(change.value, bytes):
        what = line_of_value(change.value)
    else:
        what = line_of_text(json.dumps(change.value, ensure_ascii=False))
    left = f"{screen.faint(str(version.revision))}  {screen.author(version.author, names)}"
    return f"{left}  {screen.strong(screen.shown(version.key))}  {what}"


def line_of_value(raw: bytes) -> str:
    """A value for people, on one line: its beginning if it is text, else its size."""
    try:
        return line_of_text(raw.decode())
    except UnicodeDecodeError:
        return screen.faint(screen.size(len(raw)))


def line_of_text(text: str) -> str:
    """The beginning of a text, on one line."""
    line = screen.shown(" ".join(text.split()))
    return line if len(line) <= 60 else line[:59] + "\N{HORIZONTAL ELLIPSIS}"


def _described(version: Version) -> dict[str, Any]:
    return {
        "key": version.key,
        "revision": version.revision,
        "author": version.author,
        "time_ms": version.time_ms,
        "media": "json" if version.is_json else "bytes",
        "deleted": version.deleted,
        "size_bytes": version.size_bytes,
    }

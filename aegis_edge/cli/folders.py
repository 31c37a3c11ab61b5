"""`aegis-edge kb import` and `export`: directories of files into the knowledge base, and out of it.

Knows how a path becomes a key and a key a path.  Refuses to follow links out of a directory, to
write outside of one, to overwrite, and, unasked, to write what is hidden: keys are others' words.
Files go through the pipeline, many on the way at once.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_edge.cli import patience, screen

if TYPE_CHECKING:
    from aegis_edge.client import Client, Pipeline

#: Writes on the way before their answers are looked at.
SETTLE_FILES = 256
SETTLE_BYTES = 4 * 1024 * 1024

#: What nobody sees beside category Cf: Unicode's Default_Ignorable_Code_Point.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff]"
)
#: The short name by which a FAT or NTFS file system knows a long one as well, such as GIT~1.
_SHORT_NAME = re.compile(r"[^.]{0,7}~[0-9]{1,6}(\.[^.]{0,3})?").fullmatch


@click.command("import")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("place", metavar="[PREFIX]", default="")
@click.option("--prefix", metavar="PREFIX", help="The same as the argument.")
@patience.option
@screen.common
def import_(directory: str, place: str, prefix: str | None, timeout_s: float | None) -> None:
    """Write every file below DIR, under PREFIX and its path.

    JSON files (*.json) become JSON.  A key that has its file's value already is left as it is.
    Files that are too large or cannot be keys are skipped and named; the exit code is 1 then.
    Symbolic links to files or directories are left out.

    \b
    Examples:
      aegis-edge kb import ~/manuals manuals
      aegis-edge kb import ./notes --prefix notes/2026
    """
    start = (prefix if prefix is not None else place).strip("/")
    paths = sorted(_files(Path(directory)))
    skipped: list[tuple[str, str]] = []
    done = _Sent(skipped)
    with (
        _until_written(done),
        screen.client(timeout_s) as client,
        patience.explained(client),
        client.pipeline() as pipeline,
        patience.shown(client),
        _bar(len(paths), "importing") as bar,
    ):
        there = _There(client, f"{start}/" if start else "")
        for path in paths:
            done.send(pipeline, there, _key(start, path.relative_to(directory)), path)
            bar.update(1)
        done.settle(pipeline)
    _tell("path", done.files, done.size_bytes, skipped, unchanged=done.unchanged)


@contextmanager
def _until_written(done: _Sent) -> Iterator[None]:
    """Whoever's import ends early hears what came of it."""
    from aegis_edge.client import ClientError

    try:
        yield
    except (ClientError, KeyboardInterrupt):
        written = screen.count(done.files, "file")
        screen.note(
            f"{written} written; others may be yet.  Import again: what is there is left as it is"
        )
        raise


def _tell(
    what: str,
    files: int,
    size_bytes: int,
    skipped: list[tuple[str, str]],
    *,
    unchanged: int | None = None,
) -> None:
    """What was done, and what was left out and why: each a `what`.  Ends with 1 if any was."""
    if screen.wants_json():
        screen.print_json(
            {
                "files": files,
                "bytes": size_bytes,
                **({} if unchanged is None else {"unchanged": unchanged}),
                "skipped": [{what: name, "reason": reason} for name, reason in skipped],
            }
        )
    else:
        for name, reason in skipped:
            screen.note(f"skipped {screen.shown(name)}: {screen.shown(reason)}")
        same = "" if unchanged is None else f"{unchanged} unchanged, "
        screen.say(
            f"{screen.count(files, 'file')}, {screen.size(size_bytes)};"
            f" {same}{len(skipped)} skipped"
        )
    if skipped:
        click.get_current_context().exit(screen.ERROR)


class _There:
    """What the keys of an import hold before it."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._kept = {entry.key: (entry.size_bytes, entry.is_json) for entry in client.ls(prefix)}
        self._is_fresh = False

    def has(self, key: str, raw: bytes, is_json: bool) -> bool:
        """Whether the value of `key` is this one, also for the cluster: a copy may be behind."""
        from aegis_edge.client import NotFound

        if self._kept.get(key) != (len(raw), is_json):
            return False
        try:
            entry = self._client.get(key, linearizable=not self._is_fresh)
        except NotFound:  # deleted since it was listed
            return False
        self._is_fresh = True
        return (entry.raw, entry.is_json) == (raw, is_json)


class _Sent:
    """What is on its way, and what came of it."""

    def __init__(self, skipped: list[tuple[str, str]]) -> None:
        self.files = 0
        self.size_bytes = 0
        self.unchanged = 0
        self._skipped = skipped
        self._open: list[tuple[Path, int]] = []
        self._open_bytes = 0

    def send(self, pipeline: Pipeline, there: _There, key: str, path: Path) -> None:
        from aegis_edge.client import Invalid
        from aegis_edge.knowledge.operations import VALUE_BYTES_MAX

        try:
            size_bytes = path.stat().st_size
            if size_bytes > VALUE_BYTES_MAX:
                limit = screen.size(VALUE_BYTES_MAX)
                reason = f"{screen.size(size_bytes)}; a value has at most {limit}"
                self._skipped.append((str(path), reason))
                return
            data = path.read_bytes()
            value = _as_value(path, data)
            if there.has(key, data, is_json=value is not data):
                self.unchanged += 1
                return
            pipeline.put(key, value)
        except Invalid as error:
            self._skipped.append((str(path), error.message))
            return
        except OSError as error:
            self._skipped.append((str(path), error.strerror or str(error)))
            return
        self._open.append((path, len(data)))
        self._open_bytes += len(data)
        if len(self._open) >= SETTLE_FILES or self._open_bytes >= SETTLE_BYTES:
            self.settle(pipeline)

    def settle(self, pipeline: Pipeline) -> None:
        from aegis_edge.client import ClientError

        for (path, size_bytes), result in zip(self._open, pipeline.settle(), strict=True):
            if isinstance(result, ClientError):
                self._skipped.append((str(path), result.message))
            else:
                self.files += 1
                self.size_bytes += size_bytes
        self._open.clear()
        self._open_bytes = 0


def _files(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _key(start: str, inside: Path) -> str:
    return "/".join([*([start] if start else []), *inside.parts])


def _as_value(path: Path, data: bytes) -> Any:
    """JSON for a file that says it is, and is; else the bytes."""
    if path.suffix == ".json":
        from aegis_edge.client import Invalid, JsonText

        with suppress(Invalid):
            return JsonText.of(data)
    return data


def _bar(length: int, label: str) -> Any:
    """A progress bar on standard error, where a person sees it."""
    if screen.wants_json() or not sys.stderr.isatty():
        return nullcontext(_NoBar())
    return click.progressbar(length=length, label=label, file=sys.stderr)


class _NoBar:
    def update(self, _: int) -> None:
        """Show nothing."""


@click.command("export")
@click.argument("places", metavar="[PREFIX] DIR", nargs=-1, required=True)
@click.option("--prefix", metavar="PREFIX", help="The same as the argument.")
@click.option("--dotfiles", is_flag=True, help="Write hidden files and folders too.")
@screen.common
def export(places: Sequence[str], prefix: str | None, dotfiles: bool) -> None:
    """Write the keys below PREFIX as files into DIR.

    Nothing that is there already is overwritten.  Keys with a hidden part (.bashrc,
    a/.git/hooks/x) are left out unless --dotfiles is given: they could make your other programs
    do things.  What is not written is named; then the exit code is 1.

    \b
    Examples:
      aegis-edge kb export manuals /tmp/manuals
      aegis-edge kb export --prefix notes/2026 ./notes
    """
    from aegis_edge.client import NotFound

    *first, target = places
    if len(first) > 1 or (first and prefix is not None):
        raise click.UsageError("give one PREFIX and one DIR")
    start = (prefix if prefix is not None else "".join(first)).strip("/")
    directory = Path(target)
    directory.mkdir(parents=True, exist_ok=True)
    files = size_bytes = 0
    skipped: list[tuple[str, str]] = []
    with screen.client() as client:
        versions = list(client.ls(f"{start}/" if start else ""))
        with _bar(len(versions), "exporting") as bar:
            for version in versions:
                bar.update(1)
                inside = version.key[len(start) + 1 :] if start else version.key
                reason = _refused(version.key, inside, dotfiles)
                try:
                    if not reason:
                        data = client.get(version.key).raw
                        _write(directory, inside, data)
                        files += 1
                        size_bytes += len(data)
                except NotFound:
                    continue  # deleted since it was listed
                except FileExistsError:
                    reason = "it is there already, and nothing is overwritten"
                except OSError as error:
                    reason = error.strerror or str(error)
                if reason:
                    skipped.append((version.key, reason))
    _tell("key", files, size_bytes, skipped)
    if not versions:
        screen.note("no keys" + (f" start with {screen.shown(start)}/" if start else ""))


def _refused(key: str, inside: str, dotfiles: bool) -> str:
    """Why `key` is not written to the path `inside`; empty if it may be.

    The node has checked its keys; here they become paths, so they are checked again.  Parts are
    judged as the least strict file system would read them: without the characters that nobody
    sees, and without dots and blanks at their ends.
    """
    from aegis_edge.knowledge import operations

    try:
        operations.check_key(key)
        operations.check_key(inside)
    except operations.OperationError as error:
        return f"no path: {error}"
    for part in inside.split("/"):
        if "\\" in part:
            return "no path: on some file systems a backslash leads into a folder"
        seen = "".join(c for c in part if unicodedata.category(c) != "Cf")
        seen = _IGNORABLE.sub("", seen)
        if not seen.strip(". "):
            return "no path: on some file systems it leads to another folder"
        if not dotfiles and (seen.startswith(".") or _SHORT_NAME(seen)):
            return "a hidden name; --dotfiles writes it too"
    return ""


def _write(directory: Path, inside: str, data: bytes) -> None:
    """Write one file below `directory`; no part of its path may be a link."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *folders, name = inside.split("/")
        for part in folders:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = deeper
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(name, flags, 0o644, dir_fd=folder), "wb") as file:
            file.write(data)
    finally:
        os.close(folder)

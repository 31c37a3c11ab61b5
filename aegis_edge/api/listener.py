"""The Unix socket that the API listens on: who may use it, and when an old one may be replaced.

Knows the file system's rules for sockets.  Refuses to know what is spoken over them.
The new socket appears under its name only once its mode is right and it accepts connections.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o750
BACKLOG = 128
#: The longest path that the address of a Unix socket can hold, in bytes; ours begins with a suffix.
PATH_BYTES_MAX = 107
_SUFFIX = ".new"


class ApiError(Exception):
    """The API cannot listen; the message says what to do.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    exit_code = os.EX_CONFIG


class AlreadyRunning(ApiError):
    """Somebody answers there: most likely the node that was to be started."""

    exit_code = os.EX_TEMPFAIL


@contextmanager
def open_listener(path: Path) -> Iterator[trio.SocketListener]:
    """Listen at `path`, mode 0660, and take the socket away at the end.  Raises `ApiError`.

    A socket that nobody answers on is replaced; one that somebody answers on, or another kind of
    file, is left alone.
    """
    _check_directory(path.parent)
    _check_free(path)
    listening = _bound(path)
    mark = _identity(path)
    try:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    finally:
        listening.close()
        with suppress(OSError):
            if _identity(path) == mark:
                path.unlink()


def _check_directory(directory: Path) -> None:
    try:
        directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise ApiError(
            f"{directory}: cannot hold the API's socket ({error.strerror}); set api_socket to a "
            "path in a directory of this node's account"
        ) from None
    if found.st_uid not in (os.geteuid(), 0):
        raise ApiError(
            f"{directory}: belongs to another account, which could put its own socket there; "
            "set api_socket to a path in a directory of this node's account"
        )
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise ApiError(f"{directory}: everybody may write there; run: chmod o-w {directory}")


def _check_free(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ApiError(f"{path}: is in the way and is no socket; move it, or set api_socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        process = ""
        try:
            probe.connect(os.fspath(path))
            process = _listening_process(probe)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:
            pass
    raise AlreadyRunning(
        f"already running{process}: a node answers at {path}; see `aegis-edge status`, and give a "
        "second node a --home of its own"
    )


def _listening_process(connected: socket.socket) -> str:
    """Who listens at the other end, where Linux tells: ", pid 4711", else nothing."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack(
        "3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return f", pid {pid}" if pid else ""


def _bound(path: Path) -> socket.socket:
    new = path.with_name(path.name + _SUFFIX)
    if len(os.fsencode(new)) > PATH_BYTES_MAX:
        raise ApiError(
            f"{path}: too long for a Unix socket, which allows {PATH_BYTES_MAX - len(_SUFFIX)} "
            "bytes; set api_socket to a shorter path"
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new.unlink(missing_ok=True)
        listening.bind(os.fspath(new))
        new.chmod(SOCKET_MODE)
        listening.listen(BACKLOG)
        new.rename(path)
    except OSError as error:
        listening.close()
        raise ApiError(
            f"{path}: cannot listen there ({error.strerror}); run the node as the account that "
            f"{path.parent} belongs to, or choose another place with --home or api_socket"
        ) from None
    return listening


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino

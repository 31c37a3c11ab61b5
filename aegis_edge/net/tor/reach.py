"""A stream to a place where tor listens, or why there is none.

Knows sockets of this host, and who may use them.
Refuses to know what is said there.  No packet leaves the host, and no name is looked up.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Sequence

import trio

from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import Unreachable


async def connect(endpoint: Endpoint, what: str) -> trio.SocketStream:
    """A stream to `endpoint`; `what` names its purpose for people, such as "control port".

    Raises `Unreachable`.
    """
    family = trio.socket.AF_UNIX
    if not endpoint.is_unix:
        family = trio.socket.AF_INET6 if ":" in endpoint.host else trio.socket.AF_INET
    to = endpoint.path if endpoint.is_unix else (endpoint.host, endpoint.port)
    socket = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        await socket.connect(to)
    except OSError as error:
        socket.close()
        raise _unreachable(endpoint, what, error) from None
    except BaseException:
        socket.close()
        raise
    return trio.SocketStream(socket)


def _unreachable(endpoint: Endpoint, what: str, error: OSError) -> Unreachable:
    if isinstance(error, PermissionError):
        return Unreachable(
            f"this user may not open tor's {what} at {endpoint}", access_advice(endpoint.path)
        )
    if isinstance(error, FileNotFoundError):
        return Unreachable(
            f"there is no tor's {what} at {endpoint}",
            "start tor, and compare this path with its torrc",
        )
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(
            f"nothing listens at {endpoint}, where tor's {what} should be",
            "start tor (systemctl start tor), and compare this with its torrc",
        )
    return Unreachable(
        f"tor's {what} at {endpoint} cannot be opened ({error.strerror or error})",
        "see that tor runs, and compare this with its torrc",
    )


def access_advice(path: str) -> str:
    """How this user gets access to a file or socket of tor's: by its group, or by its mode."""
    user = _name(os.geteuid(), pwd.getpwuid)
    part = path
    while part != "/" and part:
        try:
            status = os.stat(part)
        except OSError:
            part = os.path.dirname(part)
            continue
        break
    else:
        return f"give the user {user} access to {path}"
    group = _name(status.st_gid, grp.getgrgid)
    needed = 0o050 if stat.S_ISDIR(status.st_mode) else 0o060
    if stat.S_ISREG(status.st_mode):
        needed = 0o040
    if status.st_mode & needed == needed and status.st_gid not in os.getgroups():
        return (
            f"let the user {user} into the group {group} (usermod -aG {group} {user}), then start "
            "this again in a new session"
        )
    letters = {0o050: "rx", 0o060: "rw", 0o040: "r"}[needed]
    return (
        f"give the group {group} access (chmod g+{letters} {part}; for tor's own files set "
        "CookieAuthFileGroupReadable 1, or GroupWritable on the ControlSocket line), and let the "
        f"user {user} into it"
    )


def _name(number: int, lookup: Callable[[int], Sequence[object]]) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)

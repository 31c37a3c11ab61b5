"""Where tor listens: a Unix socket, or a TCP port of this host's loopback.

Knows how to connect there, and why it does not work.
Refuses to know names and addresses elsewhere: nothing is looked up, and no packet leaves the host.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from aegis_edge.net.tor.errors import Unreachable

UNIX = "unix:"
#: The longest path that the address of a Unix socket can hold, in bytes.
PATH_BYTES_MAX = 107
_FORMS = "write it as unix:/path/of/the/socket, a port of this host, or 127.0.0.1:port"


class EndpointError(ValueError):
    """A text that names no place on this host where tor could listen."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place: `path` of a Unix socket, or else `host` (a loopback literal) and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_unix(self) -> bool:
        """Whether it can be reached without any network, not even a loopback."""
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def parse(text: str) -> Endpoint:
        """The endpoint in ``unix:/path``, ``9051``, ``127.0.0.1:9051`` or ``[::1]:9051``.

        Raises `EndpointError`.
        """
        if text.startswith((UNIX, "/")):
            return _unix(text.removeprefix(UNIX))
        host, _, port = text.rpartition(":")
        host = host or "127.0.0.1"
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        digits = port.isascii() and port.isdigit() and len(port) <= 5
        if not digits or not 1 <= int(port) <= 65_535:
            raise EndpointError(f"{text!r} has no port from 1 to 65535; {_FORMS}")
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise EndpointError(f"{text!r} is not on this host; {_FORMS}")
        return Endpoint(host=host, port=int(port))


def _unix(path: str) -> Endpoint:
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise EndpointError(
            f"{path!r} is no absolute path of at most {PATH_BYTES_MAX} bytes; {_FORMS}"
        )
    return Endpoint(path=path)


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

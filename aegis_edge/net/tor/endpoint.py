"""Where tor listens: a Unix socket, or a TCP port of this host's loopback.

Knows the forms in which such a place is written.
Refuses to know how to get there, and names and addresses elsewhere: nothing is ever looked up.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

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
    if not path.startswith("/") or "\0" in path or _size_bytes(path) > PATH_BYTES_MAX:
        raise EndpointError(
            f"{path!r} is no absolute path of at most {PATH_BYTES_MAX} bytes; {_FORMS}"
        )
    return Endpoint(path=path)


def _size_bytes(path: str) -> int:
    return len(path.encode("utf-8", "surrogatepass"))

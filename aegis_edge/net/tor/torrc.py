"""The torrc of a tor that serves aegis-edge alone: where its files are, and the level's options.

Knows which line goes where, and that no value can become a line or an option of its own.
Refuses to know how that tor is run.  Follows: tor(1), "THE CONFIGURATION FILE FORMAT".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aegis_edge.net.tor import levels
from aegis_edge.net.tor.endpoint import PATH_BYTES_MAX, Endpoint
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel

#: Once per option: these have lines without limit.
_REPEATED = frozenset({"bridge", "clienttransportplugin", "dirauthority"})


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one tor, all in one private folder; the sockets' paths have to be short."""

    folder: Path

    def __post_init__(self) -> None:
        text = str(self.folder)
        longest = f"{text}/control"
        if not _PATH.fullmatch(text) or len(longest.encode()) > PATH_BYTES_MAX:
            raise TorError(
                f"{text!r} cannot be tor's folder",
                f"name one by an absolute path of letters, digits and ._/-+@, so short that "
                f"/control after it makes at most {PATH_BYTES_MAX} bytes",
            )

    @property
    def control(self) -> Endpoint:
        """Its control socket."""
        return Endpoint(path=f"{self.folder}/control")

    @property
    def socks(self) -> Endpoint:
        """Its SOCKS socket."""
        return Endpoint(path=f"{self.folder}/socks")

    @property
    def cookie(self) -> Path:
        """The cookie of its control socket."""
        return self.folder / "cookie"

    @property
    def data(self) -> Path:
        """Its own data: guards, consensus, keys."""
        return self.folder / "data"

    @property
    def torrc(self) -> Path:
        """Its settings."""
        return self.folder / "torrc"

    @property
    def defaults(self) -> Path:
        """An empty file in the place of the distribution's defaults."""
        return self.folder / "torrc-defaults"


_PATH = re.compile(r"/[A-Za-z0-9._/+@-]+")


def text(
    places: Places, level: SecurityLevel, owner: int, extra: Sequence[tuple[str, str]] = ()
) -> str:
    """The torrc of a child of the process `owner`: tor ends when that process does.

    `extra`: further options, such as bridges; they cannot change an option that stands here, but
    Bridge, ClientTransportPlugin and DirAuthority may come again and again.  Raises `TorError`.
    """
    lines = [
        ("__OwningControllerProcess", str(owner)),
        ("DataDirectory", str(places.data)),
        ("ControlSocket", str(places.control)),
        ("CookieAuthentication", "1"),
        ("CookieAuthFile", str(places.cookie)),
        ("SocksPort", f"{places.socks} {' '.join(levels.SOCKS_FLAGS)}"),
        ("Log", "notice stdout"),
        ("RunAsDaemon", "0"),
        ("AvoidDiskWrites", "1"),
        ("ShutdownWaitLength", "0"),
        *levels.torrc_options(level),
    ]
    set_here = {name.lower(): value for name, value in lines}
    taken = set(set_here)
    for name, value in extra:
        if not _NAME.fullmatch(name) or not value.isprintable() or not _VALUE.fullmatch(value):
            raise TorError(
                "an extra option for tor is not one line of a name and a value", "correct it"
            )
        if set_here.get(name.lower()) == value:
            continue  # as in the lines that people copy, such as UseBridges 1
        if name.lower() in taken:
            raise TorError(
                f"{name} cannot be an extra option for tor: the node or its level sets it",
                "remove it",
            )
        if name.lower() not in _REPEATED:
            taken.add(name.lower())
        lines.append((name, value))
    return "".join(f"{name} {value}\n" for name, value in lines)


#: Not "%include", and none of the marks "+" and "/" that add to an option or take it away.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: A backslash at the end would join it with the next line.
_VALUE = re.compile(r".*[^\\]")

"""How a node and a tor prove to each other, before any command, that they belong together.

Knows PROTOCOLINFO, SAFECOOKIE, a password and, if the configuration says so, no proof at all.
Refuses to know sockets.  Refuses COOKIE: it would send the content of a file that whoever listens
there may name, and every tor since 0.2.3 has SAFECOOKIE, which proves both sides and shows nothing.
Follows: control-spec sections 3.21 (PROTOCOLINFO), 3.24 (AUTHCHALLENGE) and 3.5 (AUTHENTICATE).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import lines
from aegis_edge.net.tor.errors import NotAuthenticated, NotTor
from aegis_edge.net.tor.lines import Garbled, Reply
from aegis_edge.net.tor.reach import access_advice

COOKIE_BYTES = 32
NONCE_BYTES = 32
HASH_BYTES = 32
PASSWORD_BYTES_MAX = 1024

_SERVER_KEY = b"Tor safe cookie authentication server-to-controller hash"
_CLIENT_KEY = b"Tor safe cookie authentication controller-to-server hash"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What this node has to prove itself with; by default the cookie that tor names.

    `cookie_file`: where the cookie is, if not where tor says.  `password_file`: the password of a
    HashedControlPassword, used instead of the cookie.  `allow_none`: go on if tor wants no proof;
    then any program of this host may be in control of it.
    """

    cookie_file: Path | None = None
    password_file: Path | None = None
    allow_none: bool = False


@dataclass(frozen=True, slots=True)
class ProtocolInfo:
    """What tor says of itself before it is proven; `version` is empty if it does not say."""

    methods: frozenset[str]
    cookie_file: str
    version: str


def protocol_info(reply: Reply) -> ProtocolInfo:
    """The answer to ``PROTOCOLINFO 1``; raises `NotTor`."""
    methods: frozenset[str] = frozenset()
    cookie_file = version = ""
    seen = False
    try:
        for line in reply.lines if reply.is_good else ():
            words, pairs = lines.fields(line.text)
            if words[:1] == ("PROTOCOLINFO",):
                seen = True
            elif words[:1] == ("AUTH",):
                methods = frozenset(pairs.get("METHODS", "").split(","))
                cookie_file = pairs.get("COOKIEFILE", "")
            elif words[:1] == ("VERSION",):
                version = lines.printable(pairs.get("Tor", ""))
    except Garbled as error:
        raise not_tor(str(error)) from None
    if not seen:
        raise not_tor(f"it answered {reply.code} {reply.said!r} to PROTOCOLINFO")
    return ProtocolInfo(methods, cookie_file, version)


def not_tor(why: str) -> NotTor:
    """The error for whatever does not speak as tor does."""
    return NotTor(
        f"what listens there is no tor: {why}",
        "name the ControlSocket or ControlPort of tor's torrc, not its SocksPort",
    )


def method(info: ProtocolInfo, credentials: Credentials) -> str:
    """How to authenticate: PASSWORD, SAFECOOKIE or NULL; raises `NotAuthenticated`."""
    if credentials.password_file is not None:
        if "HASHEDPASSWORD" not in info.methods:
            raise NotAuthenticated(
                "a password is configured and tor takes none",
                "set HashedControlPassword in torrc, or remove the password here",
            )
        return "PASSWORD"
    if "SAFECOOKIE" in info.methods:
        return "SAFECOOKIE"
    if "NULL" in info.methods:
        if credentials.allow_none:
            return "NULL"
        raise NotAuthenticated(
            "this tor lets anybody on this host control it",
            "set CookieAuthentication 1 in its torrc and restart it",
        )
    raise NotAuthenticated(
        "tor offers no way to authenticate that this node has",
        "set CookieAuthentication 1 in "
        "its torrc and restart it, or configure the file of its control password",
    )


# --- SAFECOOKIE -------------------------------------------------------------------------------


def read_cookie(path: str) -> bytes:
    """The 32 bytes of tor's cookie; raises `NotAuthenticated`.  Blocks no longer than a file."""
    data = _read(path, COOKIE_BYTES, "tor's cookie")
    if len(data) != COOKIE_BYTES:
        raise NotAuthenticated(
            f"{lines.printable(path)!r} is not tor's cookie, which has {COOKIE_BYTES} bytes",
            "restart tor to have it written again, and compare the path with its torrc",
        )
    return data


def challenge(nonce: bytes) -> tuple[str, ...]:
    """The AUTHCHALLENGE command; `nonce` has 32 fresh random bytes."""
    assert len(nonce) == NONCE_BYTES, "a nonce has 32 bytes"
    return ("AUTHCHALLENGE", "SAFECOOKIE", nonce.hex().upper())


def proof(reply: Reply, cookie: bytes, nonce: bytes) -> tuple[str, ...]:
    """The AUTHENTICATE command that answers tor's proof; raises `NotAuthenticated` if it is none.

    Nothing that an impostor could use is told before it has shown that it knows the cookie.
    """
    try:
        words, pairs = lines.fields(reply.lines[0].text)
        server_hash = bytes.fromhex(pairs["SERVERHASH"])
        server_nonce = bytes.fromhex(pairs["SERVERNONCE"])
    except (Garbled, KeyError, ValueError):
        words, server_hash, server_nonce = (), b"", b""
    if (
        reply.code != 250
        or words != ("AUTHCHALLENGE",)
        or len(server_hash) != HASH_BYTES
        or len(server_nonce) != NONCE_BYTES
    ):
        raise NotAuthenticated(
            f"tor does not take up the challenge ({reply.code} {reply.said})",
            "see that tor listens there and nothing else",
        )
    data = cookie + nonce + server_nonce
    if not sodium.equal(server_hash, sodium.mac("sha256", _SERVER_KEY, data)):
        raise NotAuthenticated(
            "what listens there does not know the cookie: it is another tor, or an impostor",
            "compare the path of the cookie with CookieAuthFile in torrc; restart tor to have it "
            "written again",
        )
    return ("AUTHENTICATE", sodium.mac("sha256", _CLIENT_KEY, data).hex().upper())


# --- password ---------------------------------------------------------------------------------


def password_proof(path: Path) -> tuple[str, ...]:
    """The AUTHENTICATE command with the password in a file of one line; `NotAuthenticated`."""
    data = _read(str(path), PASSWORD_BYTES_MAX, "the password of tor's control port", private=True)
    # In hexadecimal no password can break out of its quotes, or out of its line.
    password = data.rstrip(b"\r\n")
    if not password or len(password) > PASSWORD_BYTES_MAX:
        raise NotAuthenticated(
            f"{path} holds no password of 1 to {PASSWORD_BYTES_MAX} bytes",
            "put the password of HashedControlPassword there, as its only line",
        )
    return ("AUTHENTICATE", password.hex().upper())


def refused(how: str, reply: Reply) -> NotAuthenticated:
    """The error for an AUTHENTICATE that tor refuses."""
    fix = {
        "PASSWORD": "compare the password file with HashedControlPassword in torrc",
        "SAFECOOKIE": "tor may have been restarted just now: try again; else restart tor",
    }
    return NotAuthenticated(
        f"tor does not believe this node ({reply.code} {reply.said})",
        fix.get(how, "set CookieAuthentication 1 in its torrc and restart it"),
    )


def _read(path: str, size_bytes: int, what: str, *, private: bool = False) -> bytes:
    """At most `size_bytes` and one more of a regular file; raises `NotAuthenticated`."""
    shown = lines.printable(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NotAuthenticated(f"{shown!r} is no file", f"name the file with {what}")
            if private and status.st_mode & 0o077:
                raise NotAuthenticated(f"{shown!r} may be read by others", f"run chmod 600 {shown}")
            return os.read(descriptor, size_bytes + 1)
        finally:
            os.close(descriptor)
    except PermissionError:
        raise NotAuthenticated(
            f"this user may not read {what} in {shown!r}", access_advice(path)
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotAuthenticated(
            f"{what} cannot be read from {shown!r} ({why})",
            "see that tor runs, and compare the path with CookieAuthFile in its torrc",
        ) from None

"""A stream to an onion service, through tor's SOCKS port.

Knows SOCKS5 with the exact number of bytes of each answer, and why a service cannot be reached.
Refuses everything but onion addresses before a byte is sent: nothing else is ever asked of tor, so
no name is looked up anywhere, and no connection leaves Tor through an exit.
Follows: RFC 1928, RFC 1929 (as tor's IsolateSOCKSAuth uses it: other words, other circuits), and
tor's socks-extensions (proposal 304) for the answers F0 to F7, with ``ExtendedErrors``.
"""

from __future__ import annotations

from enum import Enum

import trio

from aegis_edge.net.tor import reach
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import TorError, Unreachable
from aegis_edge.peers import onion
from aegis_edge.peers.onion import OnionError

#: Of the words that keep streams apart.
ISOLATION_BYTES_MAX = 255

_VERSION = 5
_AUTH_VERSION = 1
_USERNAME_PASSWORD = 2
_CONNECT = 1
_DOMAIN_NAME = 3
_ADDRESS_BYTES = {1: 4, 4: 16}
_PORT_BYTES = 2


class Failure(Enum):
    """Why a service cannot be reached.  The value is for programs, `words` are for people."""

    NOT_ONION = "not-onion"
    NO_PORT = "socks-unreachable"
    NOT_SOCKS = "not-socks"
    TIMEOUT = "timeout"
    HUNG_UP = "hung-up"
    GENERAL = "01"
    NOT_ALLOWED = "02"
    NETWORK_UNREACHABLE = "03"
    HOST_UNREACHABLE = "04"
    CONNECTION_REFUSED = "05"
    EXPIRED = "06"
    COMMAND = "07"
    ADDRESS_TYPE = "08"
    NO_DESCRIPTOR = "F0"
    BAD_DESCRIPTOR = "F1"
    INTRODUCTION = "F2"
    RENDEZVOUS = "F3"
    CREDENTIAL_MISSING = "F4"
    CREDENTIAL_WRONG = "F5"
    BAD_ADDRESS = "F6"
    INTRODUCTION_TIMEOUT = "F7"
    UNKNOWN = "unknown"

    @property
    def words(self) -> tuple[str, str]:
        """What it means, and what may help."""
        return _WORDS[self]


_LATER = "it is tried again by itself"
_WORDS = {
    Failure.NOT_ONION: ("that is no onion address", "correct the address"),
    Failure.NO_PORT: ("tor's SOCKS port cannot be opened", "see that tor runs"),
    Failure.NOT_SOCKS: (
        "what listens there is no SOCKS port of tor's",
        "compare it with the SocksPort line of tor's torrc",
    ),
    Failure.TIMEOUT: (
        "no connection in time",
        f"{_LATER}; is that board on, and its clock right, as this one's?",
    ),
    Failure.HUNG_UP: ("tor hung up before it answered", f"see that tor runs; {_LATER}"),
    Failure.GENERAL: (
        "tor broke off without a reason: mostly that board's tor runs, and its node does not",
        "see that aegis-edge runs over there, and that this tor's SocksPort line has "
        "ExtendedErrors: without it there never is a reason",
    ),
    Failure.NOT_ALLOWED: (
        "tor's settings forbid this connection",
        "look for filters on the SocksPort line of torrc",
    ),
    Failure.NETWORK_UNREACHABLE: ("tor has no network", "see that this board is connected"),
    Failure.HOST_UNREACHABLE: (
        "the service cannot be reached",
        f"{_LATER}; is that board on? ExtendedErrors on tor's SocksPort line would tell more",
    ),
    Failure.CONNECTION_REFUSED: (
        "that board's tor answers, but not its node",
        "see that aegis-edge runs there",
    ),
    Failure.EXPIRED: (
        "tor tried for too long",
        f"{_LATER}; tor may hold an old descriptor of a service that was restarted",
    ),
    Failure.COMMAND: ("tor does not know this request", "update tor"),
    Failure.ADDRESS_TYPE: ("tor does not know this kind of address", "update tor"),
    Failure.NO_DESCRIPTOR: (
        "it is not announced in Tor: that board is off, or was started a moment ago, or has lost "
        "its network",
        f"{_LATER}; if it stays so, look at aegis-edge status over there",
    ),
    Failure.BAD_DESCRIPTOR: (
        "its announcement in Tor is damaged or too new for this tor",
        "update tor on both boards, and set both clocks",
    ),
    Failure.INTRODUCTION: (
        "its introduction points do not answer: it was just restarted, or is gone",
        _LATER,
    ),
    Failure.RENDEZVOUS: ("its board did not come to the meeting point", _LATER),
    Failure.CREDENTIAL_MISSING: (
        "it is announced for authorised members only, and this node is not known as one",
        "set the same SECURITY_LEVEL on both boards, and see that both have the same genesis",
    ),
    Failure.CREDENTIAL_WRONG: (
        "it does not accept the key that this node has for it",
        "see on another board, with aegis-edge members, that this one is a member, and that both "
        "have the same genesis; was one of the two set up anew?",
    ),
    Failure.BAD_ADDRESS: ("tor finds the onion address wrong", "correct the address"),
    Failure.INTRODUCTION_TIMEOUT: (
        "its introduction points are too slow to answer",
        f"{_LATER}; is the network of one of the two boards overloaded?",
    ),
    Failure.UNKNOWN: ("tor gives a reason that this version does not know", "update aegis-edge"),
}
_BY_REPLY = {int(f.value, 16): f for f in Failure if len(f.value) == 2}


class SocksError(TorError):
    """An onion service cannot be reached; `failure` says why to programs."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        message, advice = failure.words
        super().__init__(f"{message} ({detail})" if detail else message, advice)
        self.failure = failure


async def dial(
    place: Endpoint,
    host: str,
    port: int,
    *,
    isolation: tuple[bytes, bytes],
    timeout_s: float,
) -> trio.SocketStream:
    """A stream to `port` of the onion address `host`; raises `SocksError`.

    `isolation`: two words of 1 to 255 bytes; streams with other words get other circuits.
    """
    assert all(1 <= len(word) <= ISOLATION_BYTES_MAX for word in isolation), "1 to 255 bytes"
    assert 1 <= port <= 65_535, "a port is 1 to 65535"
    try:
        name = onion.address(onion.parse(host))
    except OnionError as error:
        raise SocksError(Failure.NOT_ONION, str(error)) from None
    try:
        with trio.fail_after(timeout_s):
            stream = await reach.connect(place, "SOCKS port")
            try:
                await _negotiate(stream, isolation)
                await _request(stream, name, port)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except trio.TooSlowError:
        raise SocksError(Failure.TIMEOUT, f"{timeout_s:g} s") from None
    except Unreachable as error:
        raise SocksError(Failure.NO_PORT, str(error)) from None
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise SocksError(Failure.HUNG_UP) from None
    return stream


async def _negotiate(stream: trio.SocketStream, isolation: tuple[bytes, bytes]) -> None:
    """Agree on username and password, and say them; tor takes any."""
    await stream.send_all(bytes((_VERSION, 1, _USERNAME_PASSWORD)))
    answer = await _exactly(stream, 2)
    if answer != bytes((_VERSION, _USERNAME_PASSWORD)):
        raise SocksError(Failure.NOT_SOCKS, f"it greets with {answer.hex()}")
    name, word = isolation
    await stream.send_all(bytes((_AUTH_VERSION, len(name))) + name + bytes((len(word),)) + word)
    answer = await _exactly(stream, 2)
    if answer != bytes((_AUTH_VERSION, 0)):
        raise SocksError(Failure.NOT_SOCKS, f"it refuses the words for isolation: {answer.hex()}")


async def _request(stream: trio.SocketStream, name: str, port: int) -> None:
    """Ask for the connection; return when it is there, having read not one byte of its content."""
    host = name.encode("ascii")
    head = bytes((_VERSION, _CONNECT, 0, _DOMAIN_NAME, len(host)))
    await stream.send_all(head + host + port.to_bytes(_PORT_BYTES, "big"))
    version, reply, _, kind = await _exactly(stream, 4)
    if version != _VERSION:
        raise SocksError(Failure.NOT_SOCKS, f"it answers in version {version}")
    if reply != 0:
        failure = _BY_REPLY.get(reply, Failure.UNKNOWN)
        raise SocksError(failure, f"SOCKS answer {reply:02X}")
    # 10 bytes in all from a TCP port, 22 from a Unix socket: tor gives an address of its kind.
    if kind == _DOMAIN_NAME:
        (size,) = await _exactly(stream, 1)
    elif kind in _ADDRESS_BYTES:
        size = _ADDRESS_BYTES[kind]
    else:
        raise SocksError(Failure.NOT_SOCKS, f"it answers with an address of kind {kind}")
    await _exactly(stream, size + _PORT_BYTES)


async def _exactly(stream: trio.SocketStream, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        more = await stream.receive_some(size_bytes - len(data))
        if not more:
            raise SocksError(Failure.HUNG_UP)
        data += more
    return data

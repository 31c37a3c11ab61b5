"""Addresses: where a node can be reached, as text such as tcp:192.168.1.20:8080.

Knows their one form, two kinds (``onion:`` is a v3 onion service with its virtual port), and which
hosts are somewhere else for everybody who dials them.
Refuses to know sockets and DNS.  Names follow RFC 1123 section 2.1, but none ends in a number: a
resolver takes such a name for an IPv4 address in an odd form (inet_aton(3)).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from aegis_edge.peers import onion

TCP = "tcp"
ONION = "onion"
PORT_MAX = 65_535

_FORM = re.compile(r"([a-z0-9]+):(\[[0-9a-fA-F:.]+\]|[^\[\]:]+):(0|[1-9][0-9]{0,4})")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_NAME_CHARACTERS_MAX = 253
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.ip_address("255.255.255.255")


class AddressError(ValueError):
    """A text that is no address; the message says what to write instead."""


class Address(NamedTuple):
    """One way to reach a node; `str` gives its text.  `host` has no brackets, and small letters."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}"

    @property
    def peculiarity(self) -> str:
        """Why this leads each board that dials it somewhere else, or "" if it does not.

        One of: loopback, link-local, multicast, unspecified.
        """
        if self.scheme == ONION:
            return ""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return "loopback"
        return "" if self.is_name else peculiarity(self.host)

    @property
    def is_name(self) -> bool:
        """Whether somebody has to be asked where the host is."""
        return _literal(self.host) is None


def peculiarity(host: str) -> str:
    """As `Address.peculiarity`, of an IP address as text."""
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    address = address if mapped is None else mapped
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast or address == _BROADCAST:
        return "multicast"
    return "unspecified" if address.is_unspecified or address in _THIS_NETWORK else ""


def parse(text: str, *, port_min: int = 1) -> Address:
    """The address in `text`; a port from `port_min`, so 0 where any free one will do.

    Raises `AddressError`.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise AddressError(f"{text!r} is no address; write it as tcp:host:port or tcp:[IPv6]:port")
    scheme, host, port = form[1], form[2].lower(), int(form[3])
    if scheme not in (TCP, ONION):
        raise AddressError(f"{text!r} is of a kind that this version does not know; write tcp:...")
    if not port_min <= port <= PORT_MAX:
        raise AddressError(f"{text!r} has no port from {port_min} to {PORT_MAX}")
    if scheme == ONION:
        return Address(scheme, _onion(text, host), port)
    bare = host.strip("[]")
    literal = _literal(bare)
    if literal is not None and (":" in bare) == (host != bare):
        return Address(scheme, str(literal), port)
    if host != bare or not _is_name(bare):
        raise AddressError(f"{text!r} has a host that is neither a name nor an IP address")
    return Address(scheme, host, port)


def parse_all(texts: Sequence[str]) -> tuple[Address, ...]:
    """The addresses in `texts`, in order; raises `AddressError`, also if one is there twice."""
    found = tuple(map(parse, texts))
    for address, text in zip(found, texts, strict=True):
        if found.count(address) > 1:
            raise AddressError(f"{text!r} is there twice; once will do")
    return found


def peculiarities(texts: Sequence[str]) -> frozenset[str]:
    """Those among these addresses, which are good ones."""
    return frozenset(parse(text).peculiarity for text in texts) - {""}


def _onion(text: str, host: str) -> str:
    try:
        return onion.address(onion.parse(host))
    except onion.OnionError as error:
        raise AddressError(f"{text!r} names no onion service: {error}") from None


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return (
        len(host) <= _NAME_CHARACTERS_MAX
        and all(map(_LABEL.fullmatch, labels))
        and not _NUMBER.fullmatch(labels[-1])
    )

"""An invitation as text: how a newcomer finds one member, knows it, and shows that it was invited.

Knows the one text form, and what follows from the secret in it.  Refuses to know who is invited,
time, and what becomes of it (`invitations`).
Follows: RFC 4648 section 6 (base32) with a checksum; the secret is the seed of an Ed25519 key (RFC
8032), of which the member that invites keeps the public half: nothing that it stores lets anybody
in.  Either half gives that of an X25519 key, by which an onion service knows its client: so there
is nothing more to keep.  What it says of the members of today keeps the newcomer from those who
once were all members, and may have been thrown out since.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from aegis_edge.crypto import sodium
from aegis_edge.peers import address
from aegis_edge.peers.address import AddressError
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import ADDRESSES_MAX, COUNTER_MAX

FORMAT = 1
#: Of a cluster that is reached through Tor.
FORMAT_THROUGH_TOR = 2
LEVEL_CHARACTERS_MAX = 16
SECRET_BYTES = 16
#: Of a configuration: as in `pbft.route`.
MARK_BYTES = 16
CHECKSUM_BYTES = 4
GROUP_CHARACTERS = 6
#: Longest text that is looked at; the longest that there can be, grouped, has fewer.
TEXT_CHARACTERS_MAX = 4_096
_ITEMS_MAX = 16
_SHAPES = ((8, FORMAT), (9, FORMAT_THROUGH_TOR))
_LEVEL = re.compile(f"[A-Z]{{1,{LEVEL_CHARACTERS_MAX}}}")
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
#: Between groups, as programs write it that mean well.
_DASHES = "-\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{EM DASH}"
#: Digits that do not occur, and the one letter that each is read for.
_MISREAD = str.maketrans("08", "OB")


class InvitationError(ValueError):
    """A text that is no invitation; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """`host`: the key of the member that invites, which is reached at `addresses`, in this cluster.

    `secret` (16 bytes) is for the newcomer alone; `until_s` is Unix seconds of the cluster's agreed
    time, here for people: the host decides.  `number` and `mark`: of the configuration that the
    host knew last, and how its digest begins (16 bytes).  `level`: the security level of a cluster
    that is reached through Tor, which the newcomer's has to be as well; "" where links are direct.
    """

    cluster_id: bytes
    host: bytes
    addresses: tuple[str, ...]
    secret: bytes = field(repr=False)
    until_s: int
    number: int
    mark: bytes
    level: str = ""

    @property
    def public(self) -> bytes:
        """What the host knows of the secret: an Ed25519 public key (32 bytes)."""
        return sodium.ed25519_keypair(self._seed)[0]

    @property
    def credential(self) -> bytes:
        """The X25519 private key (32 bytes) with which its bearer finds the host through Tor."""
        return sodium.x25519_private_of(self._seed)

    def sign(self, message: bytes) -> bytes:
        """The signature (64 bytes) that only who knows the secret can make."""
        return sodium.ed25519_sign(sodium.ed25519_keypair(self._seed)[1], message)

    @property
    def _seed(self) -> bytes:
        info = b"aegis-edge invitation" + self.host
        return sodium.hkdf("blake2b", self.cluster_id, self.secret, info, sodium.KEY_BYTES)

    def to_text(self) -> str:
        """The code: groups of base32, with dashes between them."""
        bare = self.bare()
        at = range(0, len(bare), GROUP_CHARACTERS)
        return "-".join(bare[i : i + GROUP_CHARACTERS] for i in at)

    def bare(self) -> str:
        """The code without dashes, as a picture holds it."""
        whom = (self.cluster_id, self.host, self.addresses, self.secret)
        fields = (*whom, self.until_s, self.number, self.mark)
        if self.level:
            data = codec.encode((FORMAT_THROUGH_TOR, *fields, self.level))
        else:
            data = codec.encode((FORMAT, *fields))
        return base64.b32encode(data + _checksum(data)).decode("ascii").rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Invitation:
        """The invitation in a code, in either case, with any blanks and dashes in it.

        Raises `InvitationError`, and nothing else.
        """
        data = _bytes_of(text)
        body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        if checksum != _checksum(body):
            raise InvitationError(
                "the checksum of this code is wrong; look for a typing error, and for a part that"
                " is missing"
            )
        try:
            return _decode(body)
        except (WireError, AddressError) as error:
            raise InvitationError(f"no invitation of a kind that is known here: {error}") from None


def _bytes_of(text: str) -> bytes:
    if len(text) > TEXT_CHARACTERS_MAX:
        raise InvitationError(f"no code is longer than {TEXT_CHARACTERS_MAX} characters")
    found = "".join(c for c in text if not c.isspace() and c not in _DASHES)
    letters = found.upper().translate(_MISREAD)
    strange = next((c for c in letters if c not in _ALPHABET), None)
    if strange is not None:
        raise InvitationError(
            f"{strange!r} does not occur in codes (A-Z and 2-7 do); look for a typing error"
        )
    try:
        data = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        data = b""
    if base64.b32encode(data).decode("ascii").rstrip("=") != letters or not letters:
        raise InvitationError(f"{len(letters)} letters are no whole code; copy all of it")
    return data


def _decode(data: bytes) -> Invitation:
    value = codec.decode(data, items_max=_ITEMS_MAX)
    shape = (len(value), *value[:1]) if type(value) is tuple else ()
    if shape not in _SHAPES or type(value[0]) is not int:
        raise WireError("it is of another format; both sides should run the same version")
    cluster_id, host, addresses, secret, until_s, number, mark = value[1:8]
    level = value[8] if value[0] == FORMAT_THROUGH_TOR else ""
    _check_bytes(cluster_id, sodium.DIGEST_BYTES)
    _check_bytes(host, sodium.KEY_BYTES)
    _check_bytes(secret, SECRET_BYTES)
    _check_bytes(mark, MARK_BYTES)
    if type(until_s) is not int or not 0 <= until_s <= COUNTER_MAX:
        raise WireError("its end is no time")
    if type(number) is not int or not 0 <= number <= COUNTER_MAX:
        raise WireError("it names no configuration")
    if type(addresses) is not tuple or not 1 <= len(addresses) <= ADDRESSES_MAX:
        raise WireError("it names no address, or too many")
    if not all(type(text) is str for text in addresses):
        raise WireError("an address is no text")
    schemes = {place.scheme for place in address.parse_all(addresses)}
    if value[0] == FORMAT_THROUGH_TOR:
        if type(level) is not str or not _LEVEL.fullmatch(level):
            raise WireError("its security level is none")
        if schemes != {address.ONION}:
            raise WireError(
                "it has a security level, and addresses that are not reached through Tor"
            )
    return Invitation(cluster_id, host, addresses, secret, until_s, number, mark, level)


def _check_bytes(value: Any, size: int) -> None:
    if type(value) is not bytes or len(value) != size:
        raise WireError(f"{size} bytes are missing in it")


def _checksum(data: bytes) -> bytes:
    return sodium.digest(b"aegis invitation", data)[:CHECKSUM_BYTES]

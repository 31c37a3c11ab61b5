"""Signed envelopes: the only way from bytes to a `Verified` message, and from a message to bytes.

Knows COSE_Sign1 (RFC 9052 sections 4.2 and 4.4) with EdDSA (RFC 9053 section 2.2), untagged, in
exactly one form: protected {1: -8, 4: public key}, nothing unprotected, an embedded payload.
Refuses to know who is a member and what a message is for.  The signature also covers the protocol
version, the kind and the cluster (external_aad), so nothing signed for one purpose serves another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from aegis_edge.crypto import sodium
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import (
    SIGNED,
    Commit,
    NewView,
    Open,
    Prepare,
    Signed,
    Verified,
    ViewChange,
    mint,
)

PROTOCOL_VERSION = 1

#: How deep envelopes may stand in envelopes: a new view holds view changes, which hold votes.
NESTING_MAX = 3

M = TypeVar("M", bound=Signed)

# An envelope is an array of four: the protected header, an empty map, the payload, the signature.
# All but the payload has a fixed size, so its place is known before anything is decoded.
_HEADER = b"\x58\x26" + b"\xa2\x01\x27\x04\x58\x20"  # {1: -8 (EdDSA), 4: 32 bytes} in 38 bytes
_OPENING = b"\x84" + _HEADER
_KEY_AT = len(_OPENING)
_UNPROTECTED_AT = _KEY_AT + 32
_PAYLOAD_AT = _UNPROTECTED_AT + 1
_SIGNATURE_HEAD = b"\x58\x40"
_SIGNATURE_BYTES = 64
_TAIL_BYTES = len(_SIGNATURE_HEAD) + _SIGNATURE_BYTES
_PAYLOAD_BYTES_MIN = 2
_VOTE_BYTES_MAX = 256
#: An array of the fields of a prepare, or of a commit (with a successor), and the tag before them.
_VOTE_STARTS = (
    bytes((0x85, Prepare.TAG)),
    bytes((0x86, Commit.TAG)),
    bytes((0x87, Commit.TAG)),
)
#: The same of what changes views, and how much of it its configuration and its view can take.
_VIEW_STARTS = (bytes((0x86, ViewChange.TAG)), bytes((0x85, NewView.TAG)))
_VIEW_HEAD_BYTES_MAX = 18
_SIZE_BYTES_MIN = _PAYLOAD_AT + 1 + _PAYLOAD_BYTES_MIN + _TAIL_BYTES

# RFC 9052 section 4.4: Sig_structure = ["Signature1", protected, external_aad, payload].
_SIG_STRUCTURE = b"\x84" + codec.encode("Signature1")

assert all(0 <= tag < 24 for tag in SIGNED), "a tag must fit the second byte of a payload"


def external_aad(tag: int, cluster_id: bytes) -> bytes:
    """What a signature on a message of kind `tag` covers beside the envelope itself."""
    scope = cluster_id if SIGNED[tag].IN_CLUSTER else b""
    return codec.encode(("aegis-edge", PROTOCOL_VERSION, tag, scope))


class Signer:
    """Signs messages as the node with the 32-byte `seed`, in the cluster `cluster_id`.

    `sign(secret64, bytes) -> 64 bytes` is Ed25519 unless the simulator puts something cheaper in.
    """

    def __init__(
        self,
        seed: bytes,
        cluster_id: bytes,
        *,
        sign: Callable[[bytes, bytes], bytes] = sodium.ed25519_sign,
    ) -> None:
        self.public, self._secret = sodium.ed25519_keypair(seed)
        self._sign = sign
        self._opening = _OPENING + self.public + b"\xa0"
        self._covered = {
            tag: _SIG_STRUCTURE
            + _HEADER
            + self.public
            + codec.encode(external_aad(tag, cluster_id))
            for tag in SIGNED
        }

    def sign(self, message: M) -> Verified[M]:
        """The message in its envelope; raises `WireError` if a field has no encoding."""
        tag = message.TAG
        payload = codec.encode(codec.encode((tag, *message.fields())))
        signature = self._sign(self._secret, self._covered[tag] + payload)
        return mint(
            message, self.public, b"".join((self._opening, payload, _SIGNATURE_HEAD, signature))
        )


class Opener:
    """Checks envelopes of the cluster `cluster_id`, and remembers which bytes were good.

    `members`: whose messages of the cluster are worth the check of a signature; None for anybody's.
    The memory holds at most `memo_size` envelopes and `memo_bytes` of their bytes.
    `verify(public, bytes, signature) -> bool` never raises.
    """

    def __init__(
        self,
        cluster_id: bytes,
        *,
        members: frozenset[bytes] | None = None,
        verify: Callable[[bytes, bytes, bytes], bool] = sodium.ed25519_verify,
        memo_size: int = 2048,
        memo_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        self._verify = verify
        self._members = members
        self._kinds = {
            tag: (kind, codec.encode(external_aad(tag, cluster_id))) for tag, kind in SIGNED.items()
        }
        self._inner: tuple[Open, ...] = (
            *(partial(self._open, nesting) for nesting in range(1, NESTING_MAX)),
            _too_deep,
        )
        # Two generations: a full young one becomes the old one, and the former old one is gone.
        self._young: dict[bytes, Verified[Any]] = {}
        self._old: dict[bytes, Verified[Any]] = {}
        self._young_bytes = 0
        self._generation_size = memo_size // 2
        self._generation_bytes = memo_bytes // 2

    def open(self, raw: bytes) -> Verified[Any]:
        """The message in `raw`, its signature and those inside checked; raises `WireError`."""
        return self._open(0, raw)

    def learn(self, verified: Verified[Any]) -> None:
        """Remember an envelope of this node's own, so that it is not checked when it comes back."""
        self._remember(verified)

    def _open(self, nesting: int, raw: bytes) -> Verified[Any]:
        known = self._young.get(raw)
        if known is not None:
            return known
        known = self._old.get(raw)
        if known is not None:
            self._remember(known)
            return known
        payload_at, payload_end = _frame(raw)
        kind, scope = self._kinds.get(raw[payload_at + 1], (None, b""))
        if kind is None or not 0x81 <= raw[payload_at] < 0x98:
            raise WireError("a signed message of an unknown kind")
        key = raw[_KEY_AT:_UNPROTECTED_AT]
        if self._members is not None and kind.IN_CLUSTER and key not in self._members:
            raise WireError("a signed message of somebody who is no member")
        covered = _SIG_STRUCTURE + raw[1:_UNPROTECTED_AT] + scope + raw[_PAYLOAD_AT:payload_end]
        if not self._verify(key, covered, raw[-_SIGNATURE_BYTES:]):
            raise WireError("a signature that does not fit its message, its key or this cluster")
        fields = codec.decode(raw[payload_at:payload_end])
        verified = mint(kind.parse(fields[1:], self._inner[nesting]), key, raw)
        self._remember(verified)
        return verified

    def _remember(self, verified: Verified[Any]) -> None:
        size = len(verified.raw)
        if size > self._generation_bytes:
            return
        if (
            len(self._young) >= self._generation_size
            or self._young_bytes + size > self._generation_bytes
        ):
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[verified.raw] = verified
        self._young_bytes += size


class LearningSigner:
    """A signer whose envelopes the opener knows already when they come back from others."""

    def __init__(self, signer: Signer, opener: Opener) -> None:
        self.public = signer.public
        self._signer = signer
        self._opener = opener

    def sign(self, message: M) -> Verified[M]:
        """The message in its envelope."""
        signed = self._signer.sign(message)
        self._opener.learn(signed)
        return signed


class Claim(NamedTuple):
    """What an envelope says of itself, unproven: its kind, its signer and its first fields.

    All fields of a prepare or commit; the configuration and the view of what changes views.
    """

    tag: int
    signer: bytes
    fields: tuple[Any, ...]


def claimed(raw: bytes) -> Claim | None:
    """What a prepare, commit, view change or new view claims; None for anything else.

    Only for deciding that a message is not worth the check of its signatures: most late votes are
    not, and what changes views holds hundreds of them.
    """
    try:
        start, end = _frame(raw)
        opening = raw[start : start + 2]
        if opening in _VIEW_STARTS:
            fields = codec.head(raw[start + 2 : start + 2 + _VIEW_HEAD_BYTES_MAX], 2)
        elif opening in _VOTE_STARTS and len(raw) <= _VOTE_BYTES_MAX:
            _, *fields = codec.decode(raw[start:end])
        else:
            return None
    except WireError:
        return None
    if not all(type(field) is int for field in fields[:3]):
        return None
    return Claim(opening[1], raw[_KEY_AT:_UNPROTECTED_AT], tuple(fields))


def _frame(raw: bytes) -> tuple[int, int]:
    """Where the payload starts and ends in an envelope of exactly the one form that we write."""
    if len(raw) < _SIZE_BYTES_MIN or not raw.startswith(_OPENING) or raw[_UNPROTECTED_AT] != 0xA0:
        raise WireError("not a signed envelope")
    head = raw[_PAYLOAD_AT]
    if head == 0x58:
        start, size, least = _PAYLOAD_AT + 2, raw[_PAYLOAD_AT + 1], 0x18
    elif head < 0x58:
        start, size, least = _PAYLOAD_AT + 1, head - 0x40, _PAYLOAD_BYTES_MIN
    elif head == 0x59:
        start, least = _PAYLOAD_AT + 3, 1 << 8
        size = int.from_bytes(raw[_PAYLOAD_AT + 1 : start], "big")
    else:
        start, least = _PAYLOAD_AT + 5, 1 << 16
        size = int.from_bytes(raw[_PAYLOAD_AT + 1 : start], "big")
    end = start + size
    if (
        head > 0x5A
        or size < least
        or len(raw) != end + _TAIL_BYTES
        or raw[end : end + 2] != _SIGNATURE_HEAD
    ):
        raise WireError("not a signed envelope")
    return start, end


def _too_deep(raw: bytes) -> Verified[Any]:
    raise WireError(f"envelopes nested more than {NESTING_MAX} deep")

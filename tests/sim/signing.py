"""Signatures for a simulated world: as unforgeable as Ed25519, at the price of one keyed hash.

Knows every secret key of the world, as the laws of nature do; the liars are handed only their own.
Everything else about an envelope is the real thing: `wire.envelope` makes it and checks it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any

from aegis_edge.crypto import sodium
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Claim, Opener, Signer, claimed
from aegis_edge.wire.messages import COUNTER_MAX, Message, NodeRecord, read

CLUSTER_ID = bytes(range(32))

_SECRETS: dict[bytes, bytes] = {}


def sign(secret: bytes, message: bytes) -> bytes:
    """The 64-byte keyed BLAKE2b that stands for a signature."""
    return hashlib.blake2b(message, digest_size=64, key=secret).digest()


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    secret = _SECRETS.get(public)
    return secret is not None and sign(secret, message) == signature


@cache
def signers(n: int) -> tuple[Signer, ...]:
    """The signers of a cluster of `n`, in the order of their public keys: index is rank."""
    made = []
    for number in range(n):
        seed = hashlib.blake2b(b"simulated node %d" % number, digest_size=32).digest()
        signer = Signer(seed, CLUSTER_ID, sign=sign)
        public, secret = sodium.ed25519_keypair(seed)
        _SECRETS[public] = secret
        made.append(signer)
    return tuple(sorted(made, key=lambda s: s.public))


@cache
def records(n: int) -> tuple[tuple[bytes, bytes], ...]:
    """The key and the node record of each of them."""
    return tuple(
        (
            signer.public,
            signer.sign(
                NodeRecord(1, hashlib.sha256(signer.public).digest(), (), COUNTER_MAX, "")
            ).raw,
        )
        for signer in signers(n)
    )


_RECORDS = Opener(b"", verify=verify)
open_record = _RECORDS.open


class Reader:
    """Bytes to messages, once per distinct bytes: reading is a pure function, so nodes share it."""

    def __init__(self, members: Iterable[bytes]) -> None:
        self.opener = Opener(
            CLUSTER_ID,
            verify=verify,
            memo_size=1 << 17,
            memo_bytes=1 << 28,
            members=frozenset(members),
        )
        self._known: dict[bytes, Message | str] = {}
        self._claimed: dict[bytes, Claim | None] = {}

    def read(self, raw: bytes) -> Message | str:
        """The message, or why there is none."""
        known = self._known.get(raw)
        if known is None:
            try:
                known = read(raw, self.opener.open)
            except WireError as error:
                known = str(error)
            self._known[raw] = known
        return known

    def claimed(self, raw: bytes) -> Claim | None:
        """`wire.envelope.claimed`, remembered."""
        try:
            return self._claimed[raw]
        except KeyError:
            claim = self._claimed[raw] = claimed(raw)
            return claim

    def learn(self, verified: Any) -> None:
        self.opener.learn(verified)

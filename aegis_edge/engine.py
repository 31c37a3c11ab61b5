"""Signatures of a node's owner: by the identity of the node, on whatever people and programs write.

Knows where a home keeps its key, and a domain of its own, so that nothing signed here can be taken
for a message of the protocol.  Refuses to know links, agreement and members.
Follows: RFC 8032 (Ed25519); a signature covers `DOMAIN` and then the message.
"""

from __future__ import annotations

import os

from aegis_edge import config
from aegis_edge.crypto import sodium
from aegis_edge.disk import keyfile
from aegis_edge.peers import identity

#: What every signature of this module covers first.  Those of the protocol cover a COSE
#: Sig_structure (RFC 9052 section 4.4), whose first byte is 0x84, an array: no bytes are both.
DOMAIN = b"aegis-edge: a message of this node's owner, 1\x00"


class CryptoEngine:
    """Signs as the node whose home this is, and checks what other nodes' owners signed.

    `home`: the node's home directory; by default the one that the `aegis-edge` command would use.
    Raises `ConfigError`, or `KeyFileError` if there is no identity or this account may not read it.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        settings = config.load({"home": None if home is None else os.fspath(home)})
        seed = keyfile.read(settings.key_file).seed
        self._public, self._secret = sodium.ed25519_keypair(seed)

    @property
    def public_key(self) -> bytes:
        """The node's Ed25519 public key, 32 bytes."""
        return self._public

    @property
    def node_id(self) -> str:
        """The same key as people write it: 56 characters, with a checksum."""
        return identity.node_id(self._public)

    def sign_message(self, message: bytes | str) -> bytes:
        """The 64-byte signature of `message`, of any length; a text is signed as its UTF-8."""
        return sodium.ed25519_sign(self._secret, _covered(message))

    @staticmethod
    def verify_signature(message: bytes | str, signature: bytes, public_key: bytes | str) -> bool:
        """Whether the owner of `public_key` (32 bytes, or a node id) signed `message`.

        Needs no home.  Bytes of any other length are no signature and no key of anybody: False.
        A text that is no node id is a typing error: raises `IdentityError`.
        """
        if isinstance(public_key, str):
            public_key = identity.parse_node_id(public_key)
        return sodium.ed25519_verify(public_key, _covered(message), signature)


def _covered(message: bytes | str) -> bytes:
    return DOMAIN + (message.encode() if isinstance(message, str) else message)

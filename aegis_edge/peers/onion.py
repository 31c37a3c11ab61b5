"""v3 onion addresses, and the keys of onion services and of their authorised clients, as text.

Knows how a key becomes an address before any tor runs, and the forms in which tor takes keys.
Refuses to know tor, sockets and where keys come from.
Follows: rend-spec-v3, [ONIONADDRESS] in section 6 (SHA3-256 checksum, version 3) and appendix G
(client authorisation keys); RFC 8032 section 5.1.5 for the expansion of a seed.

A service's key signs one thing besides what tor does with it: whose it is (`proof`).  Tor itself
signs with keys that are blinded anew each day, and with nonces of their own, so neither signature
serves in the other's place.
"""

from __future__ import annotations

import base64

from aegis_edge.crypto import sodium

SUFFIX = ".onion"
VERSION = 3
KEY_BYTES = sodium.KEY_BYTES
CHECKSUM_BYTES = 2
#: Of the name without its suffix.
NAME_CHARACTERS = 56

_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")


class OnionError(ValueError):
    """A text that is no v3 onion address; the message says what is wrong with it."""


def address(public: bytes) -> str:
    """The onion address (lower case, with its suffix) of a 32-byte Ed25519 public key."""
    assert len(public) == KEY_BYTES, "an Ed25519 public key has 32 bytes"
    data = public + _checksum(public) + bytes((VERSION,))
    return base64.b32encode(data).decode("ascii").lower() + SUFFIX


def parse(text: str) -> bytes:
    """The 32-byte public key that an onion address in either case names; raises `OnionError`.

    As tor does, it refuses keys that are no point of prime order: of those one service could have
    several addresses.
    """
    name = text.lower()
    if not name.endswith(SUFFIX):
        raise OnionError(f"it does not end with {SUFFIX}; nothing else is reached through Tor")
    name = name.removesuffix(SUFFIX)
    strange = next((c for c in name if c not in _ALPHABET), None)
    if strange is not None:
        raise OnionError(
            f"{strange!r} does not occur in onion addresses (a-z and 2-7 do); look for a typing "
            "error"
        )
    if len(name) != NAME_CHARACTERS:
        raise OnionError(
            f"a v3 onion address has {NAME_CHARACTERS} characters before {SUFFIX}, this has "
            f"{len(name)}; copy all of it"
        )
    data = base64.b32decode(name.upper())
    public, checksum, version = data[:KEY_BYTES], data[KEY_BYTES:-1], data[-1]
    if version != VERSION:
        raise OnionError(f"it is of version {version}, and only 3 is known; copy it again")
    if checksum != _checksum(public):
        raise OnionError("its checksum is wrong; look for a typing error")
    if not sodium.ed25519_is_sound(public):
        raise OnionError("its key is not a sound one; ask its owner for the address again")
    return public


def service_address(seed: bytes) -> str:
    """The onion address of the service whose key has this 32-byte Ed25519 seed."""
    return address(sodium.ed25519_keypair(seed)[0])


def service_seed(identity_seed: bytes, generation: int) -> bytes:
    """The seed of a node's service key: another one for each generation, and no way back."""
    info = b"aegis-edge onion service" + generation.to_bytes(8, "big")
    return sodium.hkdf("blake2b", b"", identity_seed, info, KEY_BYTES)


def proof(seed: bytes, node: bytes) -> bytes:
    """The signature (64 bytes) of the service with this seed on being that of `node` (its key)."""
    return sodium.ed25519_sign(sodium.ed25519_keypair(seed)[1], _claim(node))


def is_proven(public: bytes, node: bytes, proof: bytes) -> bool:
    """Whether who holds the key of the service `public` says that it is the one of `node`."""
    return sodium.ed25519_verify(public, _claim(node), proof)


def pair_credential(shared: bytes, cluster_id: bytes, service: bytes, client: bytes) -> bytes:
    """The X25519 private key with which `client` finds the service of `service` (node keys).

    `shared`: the X25519 secret of both members' Noise keys.  So both can make it, nobody has to
    hand it over, and neither tor ever holds a key that stands for a node.
    """
    info = b"aegis-edge onion client" + service + client
    return sodium.hkdf("blake2b", cluster_id, shared, info, KEY_BYTES)


def pair_knock(shared: bytes, cluster_id: bytes, service: bytes, client: bytes) -> bytes:
    """The key with which `client` shows to `service`, before any handshake, that it calls.

    `shared`: as of `pair_credential`.  For the first bytes of a call, where a stranger costs most.
    """
    info = b"aegis-edge onion knock" + service + client
    return sodium.hkdf("blake2b", cluster_id, shared, info, KEY_BYTES)


def expanded_secret(seed: bytes) -> bytes:
    """The 64 bytes that tor wants as an ED25519-V3 key: the seed's SHA-512, its first half clamped.

    Secret as the seed is.
    """
    assert len(seed) == KEY_BYTES, "an Ed25519 seed has 32 bytes"
    expanded = bytearray(sodium.plain_hash("sha512", seed))
    expanded[0] &= 0b1111_1000
    expanded[31] &= 0b0111_1111
    expanded[31] |= 0b0100_0000
    return bytes(expanded)


def authorised_client(public: bytes) -> str:
    """An authorised client's X25519 public key as its service names it: base32, not padded."""
    assert len(public) == KEY_BYTES, "an X25519 public key has 32 bytes"
    return base64.b32encode(public).decode("ascii").rstrip("=")


def client_credential(private: bytes) -> str:
    """An authorised client's X25519 private key as that client gives it to its tor: base64."""
    assert len(private) == KEY_BYTES, "an X25519 private key has 32 bytes"
    return base64.b64encode(private).decode("ascii")


def _claim(node: bytes) -> bytes:
    return b"aegis-edge: this onion service is of the node " + node


def _checksum(public: bytes) -> bytes:
    data = b".onion checksum" + public + bytes((VERSION,))
    return sodium.plain_hash("sha3_256", data)[:CHECKSUM_BYTES]

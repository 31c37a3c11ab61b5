"""The primitives: digest, Ed25519, X25519, ChaCha20-Poly1305 and HKDF, strict and typed.

Knows libsodium through `nacl.bindings`; no other module imports nacl.
Refuses to know what is signed or sealed, and never draws randomness: keys come from the caller.
Follows: RFC 8032 (Ed25519), 7748 (X25519), 8439 (ChaCha20-Poly1305), 7693 (BLAKE2b), 5869 (HKDF).
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from nacl import bindings
from nacl import exceptions as nacl_exceptions

DIGEST_BYTES = 32
DOMAIN_BYTES_MAX = 16
KEY_BYTES = 32
SIGNATURE_BYTES = 64
NONCE_BYTES = 12
TAG_BYTES = 16


class CryptoError(Exception):
    """Bytes of somebody else's do not check out; whoever held a state still holds the old one."""


# --- digests and key derivation -------------------------------------------------------------


def digest(domain: bytes, data: bytes) -> bytes:
    """BLAKE2b-256 of `data`, personalised with `domain` (1 to 16 bytes), so domains never meet."""
    begun = _begun(domain).copy()
    begun.update(data)
    return begun.digest()


@lru_cache(maxsize=256)
def _begun(domain: bytes) -> hashlib.blake2b:
    """A hash that has seen nothing yet: a copy of it is made in half the time of a new one."""
    assert 0 < len(domain) <= DOMAIN_BYTES_MAX, "a domain has 1 to 16 bytes"
    return hashlib.blake2b(digest_size=DIGEST_BYTES, person=domain)


def plain_hash(hash_name: str, data: bytes) -> bytes:
    """The hash of `data` without a domain, for protocols that lay it down: "sha256", "sha3_256"."""
    return hashlib.new(hash_name, data).digest()


def mac(hash_name: str, key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104) of `data`, for protocols that lay it down; `hash_name` such as "sha256"."""
    return hmac.digest(key, data, hash_name)


def equal(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def hkdf(hash_name: str, salt: bytes, secret: bytes, info: bytes, size_bytes: int) -> bytes:
    """HKDF (RFC 5869), extract then expand; `hash_name` is one of hashlib's, such as "sha256"."""
    key = hmac.digest(salt, secret, hash_name)
    block = hmac.digest(key, info + b"\x01", hash_name)
    output = block
    counter = 1
    while len(output) < size_bytes:
        counter += 1
        block = hmac.digest(key, block + info + bytes((counter,)), hash_name)
        output += block
    return output[:size_bytes]


def prf(domain: bytes, key: bytes) -> bytes:
    """BLAKE2b-512 of nothing under a key of 32 bytes, personalised with `domain`: 64 new bytes."""
    assert len(key) == KEY_BYTES, "a PRF key has 32 bytes here"
    return hashlib.blake2b(key=key, person=domain).digest()


# --- Ed25519 --------------------------------------------------------------------------------


def ed25519_keypair(seed: bytes) -> tuple[bytes, bytes]:
    """The 32-byte public and the 64-byte secret key of a 32-byte seed."""
    assert len(seed) == KEY_BYTES, "an Ed25519 seed has 32 bytes"
    return bindings.crypto_sign_seed_keypair(seed)


def ed25519_is_sound(public: bytes) -> bool:
    """Whether these 32 bytes are a canonical point of prime order, as an honest key is."""
    assert len(public) == KEY_BYTES, "an Ed25519 public key has 32 bytes"
    return _member_of_prime_order(public)


def ed25519_sign(secret: bytes, message: bytes) -> bytes:
    """The 64-byte signature of `message` under a 64-byte secret key of `ed25519_keypair`."""
    assert len(secret) == 2 * KEY_BYTES, "an Ed25519 secret key has 64 bytes"
    return bindings.crypto_sign(message, secret)[:SIGNATURE_BYTES]


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is `public`'s (32 bytes) on `message`; never raises.

    Strict: a key A or a nonce R that is not of prime order, and non-canonical encodings of A, R or
    S, are refused.  So all nodes judge alike, whichever libsodium they have: releases up to 1.0.21
    check the equation itself, its main branch checks it times the cofactor, and signatures can be
    made on purpose that only the latter accepts.
    """
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    if not _matches(public, message, signature) or not _member_of_prime_order(public):
        return False
    return not _COFACTORED or _of_prime_order(signature[:KEY_BYTES])


def _matches(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        bindings.crypto_sign_open(signature + message, public)
    except nacl_exceptions.BadSignatureError:
        return False
    return True


def _of_prime_order(point: bytes) -> bool:
    """Whether a point times the group order L, plus itself, is itself; none of small order is.

    libsodium has a check of its own, but before CVE-2025-69277 was fixed it let a part of order
    2 pass; such a part falls out here, because L + 1 is even.
    """
    try:
        product = bindings.crypto_scalarmult_ed25519_noclamp(_ORDER_AND_ONE, point)
    except nacl_exceptions.RuntimeError:
        return False
    return product == point


#: Keys come again and again, the R of a signature never does.
_member_of_prime_order = lru_cache(maxsize=256)(_of_prime_order)
_ORDER_AND_ONE = (2**252 + 27742317777372353535851937790883648494).to_bytes(32, "little")

#: Whether this libsodium takes a signature of the empty message whose R has a part of order 8.
_COFACTORED = _matches(
    bytes.fromhex("ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"),
    b"",
    bytes.fromhex(
        "e9b2fe981587efae6478f48ba1fa60cec6126d0e26dde72a0a24f640dcd783e5"
        "7220bc52fc4428a90c7eff446bc102f1a00cddefd1ad687a25521669908c3b07"
    ),
)


# --- X25519 ---------------------------------------------------------------------------------


def x25519_public(private: bytes) -> bytes:
    """The 32-byte public key of a 32-byte private key (any 32 random bytes are one)."""
    assert len(private) == KEY_BYTES, "an X25519 private key has 32 bytes"
    return bindings.crypto_scalarmult_base(private)


def x25519_private_of(seed: bytes) -> bytes:
    """The X25519 private key that belongs to the Ed25519 key of a 32-byte seed."""
    return bindings.crypto_sign_ed25519_sk_to_curve25519(ed25519_keypair(seed)[1])


def x25519_public_of(public: bytes) -> bytes:
    """The X25519 public key that belongs to an Ed25519 public key; CryptoError if that is none."""
    if len(public) != KEY_BYTES:
        raise CryptoError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    except nacl_exceptions.RuntimeError:
        raise CryptoError("not an Ed25519 public key of prime order") from None


def x25519(private: bytes, public: bytes) -> bytes:
    """The 32-byte shared secret; CryptoError for a public key of wrong length or of low order."""
    assert len(private) == KEY_BYTES, "an X25519 private key has 32 bytes"
    if len(public) != KEY_BYTES:
        raise CryptoError(f"an X25519 public key has 32 bytes, not {len(public)}")
    try:
        return bindings.crypto_scalarmult(private, public)
    except nacl_exceptions.RuntimeError:
        raise CryptoError("an X25519 public key of low order: the shared secret is zero") from None


# --- ChaCha20-Poly1305 ----------------------------------------------------------------------


def aead_seal(key: bytes, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """`plaintext` encrypted, and its 16-byte tag; the caller never repeats (`key`, `nonce`)."""
    assert len(key) == KEY_BYTES, "an AEAD key has 32 bytes"
    assert len(nonce) == NONCE_BYTES, "an AEAD nonce has 12 bytes"
    return bindings.crypto_aead_chacha20poly1305_ietf_encrypt(
        plaintext, associated_data, nonce, key
    )


def aead_open(key: bytes, nonce: bytes, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext of `aead_seal`, or CryptoError if anything was changed or cut off."""
    assert len(key) == KEY_BYTES, "an AEAD key has 32 bytes"
    assert len(nonce) == NONCE_BYTES, "an AEAD nonce has 12 bytes"
    if len(sealed) < TAG_BYTES:
        raise CryptoError(f"{len(sealed)} bytes are too few to hold an authentication tag")
    try:
        return bindings.crypto_aead_chacha20poly1305_ietf_decrypt(
            sealed, associated_data, nonce, key
        )
    except nacl_exceptions.CryptoError:
        raise CryptoError("the authentication tag does not match") from None

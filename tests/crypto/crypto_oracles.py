"""Implementations that no one here wrote, behind one small face for each protocol.

Noise: noiseprotocol and dissononce.  Double Ratchet: DoubleRatchet, with our primitives' names but
the code of cryptography and libsodium.  Edwards curve: the textbook formulas on Python integers.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import doubleratchet
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from doubleratchet.recommended import (
    HashFunction,
    diffie_hellman_ratchet_curve25519,
    kdf_hkdf,
)
from nacl.bindings import crypto_generichash_blake2b_salt_personal
from noise.connection import Keypair, NoiseConnection

# --- Noise ----------------------------------------------------------------------------------


class NoiseProtocolSide:
    """One side of a handshake by the noiseprotocol package, and its transport afterwards."""

    def __init__(
        self,
        pattern: str,
        hash_name: str,
        *,
        initiator: bool,
        prologue: bytes,
        static: bytes,
        ephemeral: bytes | None = None,
        remote_static: bytes | None = None,
    ) -> None:
        self.it = NoiseConnection.from_name(
            f"Noise_{pattern}_25519_ChaChaPoly_{hash_name}".encode()
        )
        self.it.set_prologue(prologue)
        self.it.set_keypair_from_private_bytes(Keypair.STATIC, static)
        if ephemeral is not None:
            self.it.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
        if remote_static is not None:
            self.it.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
        (self.it.set_as_initiator if initiator else self.it.set_as_responder)()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a fixed ephemeral key
            self.it.start_handshake()

    def write(self, payload: bytes) -> bytes:
        return bytes(self.it.write_message(payload))

    def read(self, message: bytes) -> bytes:
        return bytes(self.it.read_message(message))

    @property
    def hash(self) -> bytes:
        return bytes(self.it.get_handshake_hash())

    def seal(self, plaintext: bytes) -> bytes:
        return bytes(self.it.encrypt(plaintext))

    def open(self, sealed: bytes) -> bytes:
        return bytes(self.it.decrypt(sealed))


class DissononceSide:
    """The same by the dissononce package, which makes its ephemeral keys itself."""

    def __init__(
        self,
        pattern: str,
        hash_name: str,
        *,
        initiator: bool,
        prologue: bytes,
        static: bytes,
        remote_static: bytes | None = None,
    ) -> None:
        from dissononce.cipher.chachapoly import ChaChaPolyCipher
        from dissononce.dh.x25519.x25519 import X25519DH, PrivateKey, PublicKey
        from dissononce.hash.blake2b import Blake2bHash
        from dissononce.hash.sha256 import SHA256Hash
        from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
        from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
        from dissononce.processing.impl.cipherstate import CipherState
        from dissononce.processing.impl.handshakestate import HandshakeState
        from dissononce.processing.impl.symmetricstate import SymmetricState

        rows = {"XX": XXHandshakePattern, "IK": IKHandshakePattern}
        functions = {"SHA256": SHA256Hash, "BLAKE2b": Blake2bHash}
        dh = X25519DH()
        self.symmetric = SymmetricState(CipherState(ChaChaPolyCipher()), functions[hash_name]())
        self.it = HandshakeState(self.symmetric, dh)
        self.it.initialize(
            rows[pattern](),
            initiator,
            prologue,
            s=dh.generate_keypair(PrivateKey(static)),
            rs=None if remote_static is None else PublicKey(remote_static),
        )
        self.initiator = initiator
        self.ciphers: Any = None

    def write(self, payload: bytes) -> bytes:
        buffer = bytearray()
        self.ciphers = self.it.write_message(payload, buffer)
        return bytes(buffer)

    def read(self, message: bytes) -> bytes:
        buffer = bytearray()
        self.ciphers = self.it.read_message(message, buffer)
        return bytes(buffer)

    @property
    def hash(self) -> bytes:
        return bytes(self.symmetric.get_handshake_hash())

    def seal(self, plaintext: bytes) -> bytes:
        return bytes(self.ciphers[0 if self.initiator else 1].encrypt_with_ad(b"", plaintext))

    def open(self, sealed: bytes) -> bytes:
        return bytes(self.ciphers[1 if self.initiator else 0].decrypt_with_ad(b"", sealed))


# --- Double Ratchet -------------------------------------------------------------------------


class _RootKDF(kdf_hkdf.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"aegis-edge ratchet root"


class _ChainKDF(doubleratchet.KDF):
    """libsodium's BLAKE2b-512, keyed with the chain key: the next one, then the message key."""

    @staticmethod
    async def derive(key: bytes, data: bytes, length: int) -> bytes:
        return keyed_blake2b(b"aegis-edge chain", key)[:length]


class _ChaChaPoly(doubleratchet.AEAD):
    @staticmethod
    async def encrypt(plaintext: bytes, key: bytes, associated_data: bytes) -> bytes:
        return ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, associated_data)

    @staticmethod
    async def decrypt(ciphertext: bytes, key: bytes, associated_data: bytes) -> bytes:
        try:
            return ChaCha20Poly1305(key).decrypt(bytes(12), ciphertext, associated_data)
        except InvalidTag:
            raise doubleratchet.AuthenticationFailedException from None


def _header(header: doubleratchet.Header) -> bytes:
    return (
        header.ratchet_pub
        + header.previous_sending_chain_length.to_bytes(4, "big")
        + header.sending_chain_length.to_bytes(4, "big")
    )


class _Ratchet(doubleratchet.DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: doubleratchet.Header) -> bytes:
        return associated_data + _header(header)


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The package's functions are coroutines that never wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it does wait for something")


class DoubleRatchetSide:
    """One side of a conversation by the DoubleRatchet package; `keys` yields its private keys."""

    def __init__(self, shared_key: bytes, keys: Callable[[], bytes], ad: bytes) -> None:
        class Curve(diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet):
            @staticmethod
            def _generate_priv() -> bytes:
                return keys()

        self.ad = ad
        self.it: Any = None
        self.settings: dict[str, Any] = {
            "diffie_hellman_ratchet_class": Curve,
            "root_chain_kdf": _RootKDF,
            "message_chain_kdf": _ChainKDF,
            "message_chain_constant": b"",
            "dos_protection_threshold": 64,
            "max_num_skipped_message_keys": 256,
            "aead": _ChaChaPoly,
            "shared_secret": shared_key,
            "associated_data": ad,
        }

    def first(self, remote_public: bytes, plaintext: bytes) -> bytes:
        self.it, message = _finish(
            _Ratchet.encrypt_initial_message(
                recipient_ratchet_pub=remote_public, message=plaintext, **self.settings
            )
        )
        return _header(message.header) + message.ciphertext

    def first_received(self, private: bytes, message: bytes) -> bytes:
        self.it, plaintext = _finish(
            _Ratchet.decrypt_initial_message(
                own_ratchet_priv=private, message=_parsed(message), **self.settings
            )
        )
        return bytes(plaintext)

    def encrypt(self, plaintext: bytes) -> bytes:
        message = _finish(self.it.encrypt_message(plaintext, self.ad))
        return _header(message.header) + message.ciphertext

    def decrypt(self, message: bytes) -> bytes:
        return bytes(_finish(self.it.decrypt_message(_parsed(message), self.ad)))


def _parsed(message: bytes) -> doubleratchet.EncryptedMessage:
    header = doubleratchet.Header(
        message[:32], int.from_bytes(message[32:36], "big"), int.from_bytes(message[36:40], "big")
    )
    return doubleratchet.EncryptedMessage(header, message[40:])


# --- primitives -----------------------------------------------------------------------------


def keyed_blake2b(domain: bytes, key: bytes) -> bytes:
    return bytes(
        crypto_generichash_blake2b_salt_personal(
            b"", digest_size=64, key=key, person=domain.ljust(16, b"\0")
        )
    )


def x25519_shared(private: bytes, public: bytes) -> bytes:
    return x25519.X25519PrivateKey.from_private_bytes(private).exchange(
        x25519.X25519PublicKey.from_public_bytes(public)
    )


# --- the Edwards curve, RFC 8032 section 5.1 ------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    k = _D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - k, -1, P)
    return x % P, y % P


def multiply(scalar: int, point: Point) -> Point:
    """By doubling and adding, on fractions (X : Y : Z) so that only the end divides."""
    total, power = (0, 1, 1), (*point, 1)
    while scalar:
        if scalar & 1:
            total = _add_fractions(total, power)
        power = _add_fractions(power, power)
        scalar >>= 1
    x, y, z = total
    return x * pow(z, -1, P) % P, y * pow(z, -1, P) % P


def _add_fractions(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    (x1, y1, z1), (x2, y2, z2) = a, b
    z = z1 * z2 % P
    k = _D * x1 * x2 % P * y1 * y2 % P
    above, below = (z * z - k) % P, (z * z + k) % P
    x = (x1 * y2 + x2 * y1) % P * z % P * above
    y = (y1 * y2 + x1 * x2) % P * z % P * below
    return x % P, y % P, above * below % P


def recover_x(y: int) -> int | None:
    """The even x of a point with this y, if there is one."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return x if x % 2 == 0 else P - x


_BASE_Y = 4 * pow(5, -1, P) % P
BASE: Point = (recover_x(_BASE_Y) or 0, _BASE_Y)


def encode(point: Point, *, plus_p: bool = False, flip_sign: bool = False) -> bytes:
    """The encoding of a point, or one that RFC 8032 forbids: y + p, or the sign of x = 0 set."""
    x, y = point
    return ((y + P * plus_p) | ((x & 1) ^ flip_sign) << 255).to_bytes(32, "little")


def torsion() -> list[Point]:
    """The eight points of small order; the i-th is i times one of order 8."""
    y = 2
    while True:
        x = recover_x(y)
        if x is not None:
            eighth = multiply(ORDER, (x, y))
            if multiply(4, eighth) != IDENTITY:
                return [multiply(i, eighth) for i in range(8)]
        y += 1


def challenge(r: bytes, a: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + a + message).digest(), "little") % ORDER


def equation(a: Point, r: Point, h: int, s: int, *, cofactor: int) -> bool:
    """Whether cofactor * (s B) = cofactor * (R + h A)."""
    left = multiply(s, BASE)
    right = add(r, multiply(h, a))
    return multiply(cofactor, left) == multiply(cofactor, right)

"""Noise handshakes: patterns as tables of tokens, and one interpreter over a frozen state.

Knows XX and IK over 25519 and ChaChaPoly with SHA256 or BLAKE2b, their transcript and their split.
Refuses to know who the peer ought to be, what a payload says, and where ephemeral keys come from.
Follows: The Noise Protocol Framework, revision 34, sections 5 (processing rules) and 7 (patterns).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import KEY_BYTES, TAG_BYTES, CryptoError

#: Section 3: the longest Noise message, handshake or transport.
MESSAGE_BYTES_MAX = 65535
#: Section 5.1: the last nonce is reserved, so a cipher seals this many messages.
CIPHER_MESSAGES_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """One row of section 7.5: who is known beforehand, and the tokens of each message.

    In a two-letter token the first letter names the initiator's key, the second the responder's.
    """

    responder_known: bool
    messages: tuple[tuple[str, ...], ...]


PATTERNS = {
    "XX": Pattern(False, (("e",), ("e", "ee", "s", "es"), ("s", "se"))),
    "IK": Pattern(True, (("e", "es", "s", "ss"), ("e", "ee", "se"))),
}

#: Noise's name of a hash function -> hashlib's.
HASHES = {"SHA256": "sha256", "BLAKE2b": "blake2b"}


@dataclass(frozen=True, slots=True)
class Cipher:
    """CipherState: a key and the nonce of the next message; without a key it passes bytes through.

    Frozen: `seal` and `open` return the successor, and a failed `open` leaves this one usable.
    """

    key: bytes | None = field(default=None, repr=False)
    nonce: int = 0

    def seal(self, plaintext: bytes, associated_data: bytes = b"") -> tuple[Cipher, bytes]:
        """The next cipher, and `plaintext` sealed; use each cipher for one message only."""
        if self.key is None:
            return self, plaintext
        sealed = sodium.aead_seal(self.key, self._nonce_bytes(), plaintext, associated_data)
        return Cipher(self.key, self.nonce + 1), sealed

    def open(self, sealed: bytes, associated_data: bytes = b"") -> tuple[Cipher, bytes]:
        """The next cipher, and the plaintext; CryptoError if this is not the next message."""
        if self.key is None:
            return self, sealed
        plaintext = sodium.aead_open(self.key, self._nonce_bytes(), sealed, associated_data)
        return Cipher(self.key, self.nonce + 1), plaintext

    def _nonce_bytes(self) -> bytes:
        if self.nonce >= CIPHER_MESSAGES_MAX:
            raise CryptoError("this cipher has used up its nonces: make a new handshake")
        return bytes(4) + self.nonce.to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class Symmetric:
    """SymmetricState (section 5.2): chaining key, transcript hash, and the cipher between them."""

    hash_name: str
    chaining_key: bytes = field(repr=False)
    hash: bytes
    cipher: Cipher

    def mix_hash(self, data: bytes) -> Symmetric:
        return replace(self, hash=sodium.plain_hash(self.hash_name, self.hash + data))

    def mix_key(self, secret: bytes) -> Symmetric:
        chaining_key, key = self._derive(secret)
        return replace(self, chaining_key=chaining_key, cipher=Cipher(key[:KEY_BYTES]))

    def seal(self, plaintext: bytes) -> tuple[Symmetric, bytes]:
        cipher, sealed = self.cipher.seal(plaintext, self.hash)
        return replace(self, cipher=cipher).mix_hash(sealed), sealed

    def open(self, sealed: bytes) -> tuple[Symmetric, bytes]:
        cipher, plaintext = self.cipher.open(sealed, self.hash)
        return replace(self, cipher=cipher).mix_hash(sealed), plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The keys (32 bytes each) initiator to responder, and responder to initiator."""
        first, second = self._derive(b"")
        return first[:KEY_BYTES], second[:KEY_BYTES]

    def _derive(self, secret: bytes) -> tuple[bytes, bytes]:
        size = len(self.chaining_key)
        output = sodium.hkdf(self.hash_name, self.chaining_key, secret, b"", 2 * size)
        return output[:size], output[size:]


@dataclass(frozen=True, slots=True)
class Handshake:
    """One side of a handshake; `write` and `read` return its successor and change nothing here.

    A CryptoError therefore leaves the state that it came from usable.  After a `write` the old
    state must be forgotten: writing from it again would seal twice under one nonce.
    `remote_static` and `remote_ephemeral` are the peer's 32-byte public keys once they are known;
    trust `remote_static` when `complete` is true, and as IK's responder only after a first
    transport message, because IK's first handshake message can be replayed (section 7.7).
    """

    pattern: Pattern
    initiator: bool
    static: bytes = field(repr=False)
    ephemeral: bytes = field(repr=False)
    remote_static: bytes | None
    remote_ephemeral: bytes | None
    symmetric: Symmetric
    written_and_read: int = 0

    @property
    def complete(self) -> bool:
        """Whether all messages of the pattern have been written and read."""
        return self.written_and_read == len(self.pattern.messages)

    @property
    def my_turn(self) -> bool:
        """Whether the next message is this side's to write."""
        return not self.complete and (self.written_and_read % 2 == 0) == self.initiator

    @property
    def hash(self) -> bytes:
        """The hash of the transcript so far (32 bytes for SHA256, 64 for BLAKE2b)."""
        return self.symmetric.hash

    def write(self, payload: bytes) -> tuple[Handshake, bytes]:
        """The next state, and the next message with `payload`; only when it is `my_turn`."""
        assert self.my_turn, "it is not this side's turn to write"
        symmetric = self.symmetric
        message = b""
        for token in self.pattern.messages[self.written_and_read]:
            if token == "e":
                part = sodium.x25519_public(self.ephemeral)
                symmetric = symmetric.mix_hash(part)
                message += part
            elif token == "s":
                symmetric, part = symmetric.seal(sodium.x25519_public(self.static))
                message += part
            else:
                symmetric = symmetric.mix_key(self._shared(token))
        symmetric, part = symmetric.seal(payload)
        message += part
        assert len(message) <= MESSAGE_BYTES_MAX, "the payload does not fit into a Noise message"
        return self._advance(symmetric), message

    def read(self, message: bytes) -> tuple[Handshake, bytes]:
        """The next state, and the payload of the peer's message.

        CryptoError: not the peer's turn, truncated, too long, a key of low order, or a message
        that does not belong to this transcript, in this place, from the holder of these keys.
        """
        if self.complete or self.my_turn:
            raise CryptoError("a handshake message that nobody waits for")
        if len(message) > MESSAGE_BYTES_MAX:
            raise CryptoError(f"a Noise message of {len(message)} bytes is too long")
        state = self
        rest = message
        for token in self.pattern.messages[self.written_and_read]:
            if token == "e":
                state, rest = state._read_ephemeral(rest)
            elif token == "s":
                state, rest = state._read_static(rest)
            else:
                mixed = state.symmetric.mix_key(state._shared(token))
                state = replace(state, symmetric=mixed)
        symmetric, payload = state.symmetric.open(rest)
        return state._advance(symmetric), payload

    def split(self) -> tuple[bytes, bytes]:
        """The 32-byte keys (to send with, to receive with) of this side; nonces count from 0."""
        assert self.complete, "the handshake is not complete"
        first, second = self.symmetric.split()
        return (first, second) if self.initiator else (second, first)

    def transport(self) -> tuple[Cipher, Cipher]:
        """The ciphers (to send with, to receive with) of this side: `split` as `Cipher`."""
        send, receive = self.split()
        return Cipher(send), Cipher(receive)

    def _advance(self, symmetric: Symmetric) -> Handshake:
        return replace(self, symmetric=symmetric, written_and_read=self.written_and_read + 1)

    def _shared(self, token: str) -> bytes:
        mine, theirs = (token[0], token[1]) if self.initiator else (token[1], token[0])
        public = self.remote_ephemeral if theirs == "e" else self.remote_static
        assert public is not None, "the pattern uses a key before it was sent"
        return sodium.x25519(self.ephemeral if mine == "e" else self.static, public)

    def _read_ephemeral(self, rest: bytes) -> tuple[Handshake, bytes]:
        public, rest = _cut(rest, KEY_BYTES)
        sodium.x25519(self.ephemeral, public)  # a low-order key is refused here, not at next write
        symmetric = self.symmetric.mix_hash(public)
        return replace(self, symmetric=symmetric, remote_ephemeral=public), rest

    def _read_static(self, rest: bytes) -> tuple[Handshake, bytes]:
        sealed, rest = _cut(rest, KEY_BYTES + TAG_BYTES)
        symmetric, public = self.symmetric.open(sealed)
        return replace(self, symmetric=symmetric, remote_static=public), rest


def start(
    pattern: str,
    hash_name: str,
    *,
    initiator: bool,
    prologue: bytes,
    static: bytes,
    ephemeral: bytes,
    remote_static: bytes | None = None,
) -> Handshake:
    """The state before the first message.

    `pattern` is "XX" or "IK", `hash_name` "SHA256" or "BLAKE2b"; `static` and `ephemeral` are
    32-byte private keys, the latter fresh from the system's entropy and used for this handshake
    alone.  `remote_static` is the responder's public key: given by IK's initiator, and by nobody
    else.  CryptoError if it is no usable key.
    """
    row = PATTERNS[pattern]
    assert len(static) == len(ephemeral) == KEY_BYTES, "private keys have 32 bytes"
    assert (remote_static is not None) == (row.responder_known and initiator), (
        "remote_static is for the initiator of IK alone"
    )
    if remote_static is not None:
        sodium.x25519(ephemeral, remote_static)
    name = f"Noise_{pattern}_25519_ChaChaPoly_{hash_name}".encode()
    function = HASHES[hash_name]
    hashed = name.ljust(len(sodium.plain_hash(function, b"")), b"\0")
    symmetric = Symmetric(function, hashed, hashed, Cipher()).mix_hash(prologue)
    if row.responder_known:
        symmetric = symmetric.mix_hash(remote_static or sodium.x25519_public(static))
    return Handshake(row, initiator, static, ephemeral, remote_static, None, symmetric)


def _cut(data: bytes, size_bytes: int) -> tuple[bytes, bytes]:
    if len(data) < size_bytes:
        raise CryptoError(f"a handshake message cut off: {len(data)} of {size_bytes} bytes left")
    return data[:size_bytes], data[size_bytes:]

"""The Double Ratchet: a state that is only ever replaced, and the messages between two of them.

Knows the root chain, the sending and receiving chains, and the keys of skipped messages, bounded.
Refuses to know when a Diffie-Hellman step is due: it says that one is owed, the caller paces it.
Follows: Signal, The Double Ratchet Algorithm, sections 2.6, 3 and 5.2: X25519, HKDF-SHA256 root,
ChaCha20-Poly1305 under each message key; headers are in clear.  KDF_CK is one keyed BLAKE2b-512
(RFC 7693) where section 5.2 recommends two HMACs: a PRF as well, and what a small message costs
is mostly this.  A message key seals one message, so its nonce is zero.
"""

from __future__ import annotations

from typing import NamedTuple

from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import KEY_BYTES, NONCE_BYTES, TAG_BYTES, CryptoError

#: A message is header | ciphertext | tag; the header is ratchet key (32) | pn (4) | n (4).
HEADER_BYTES = KEY_BYTES + 8
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES
COUNTER_MAX = 2**32 - 1

#: The most message keys skipped at once in one chain, and the most that are kept in all.  A link
#: delivers in order and allows no gap at all, so it keeps none.  Whoever allows gaps, for mail that
#: waits, has to bound the age of what is kept as well (Signal, "Deletion of skipped message keys"):
#: there is no clock in here.
GAP_MAX = 64
SKIPPED_MAX = 256

ROOT_INFO = b"aegis-edge ratchet root"
CHAIN_DOMAIN = b"aegis-edge chain"

_NONCE = bytes(NONCE_BYTES)


class State(NamedTuple):
    """One side of a conversation.  Secret, in memory only; never changed, `skipped` included.

    `step_owed`: the peer's ratchet key has changed since this side last made a new one.
    `sent_since_step`: messages sent under the present ratchet key, `n` of the next one.
    """

    root_key: bytes
    private: bytes
    public: bytes
    remote_public: bytes
    sending_key: bytes | None
    sent_since_step: int
    sent_before_step: int
    receiving_key: bytes | None
    received: int
    step_owed: bool
    skipped: dict[bytes, bytes]

    def __repr__(self) -> str:
        return (
            f"State(public={self.public.hex()}, sent_since_step={self.sent_since_step}, "
            f"received={self.received}, step_owed={self.step_owed}, skipped={len(self.skipped)})"
        )


def initiator(shared_key: bytes, remote_public: bytes, entropy: bytes) -> State:
    """The side that sends first; all arguments have 32 bytes, `entropy` is used for this alone.

    `remote_public` is the public half of the responder's ratchet key; CryptoError if it is of
    low order or of wrong length.
    """
    assert len(shared_key) == KEY_BYTES, "a shared key has 32 bytes"
    root_key, sending_key = _step_root(shared_key, entropy, remote_public)
    public = sodium.x25519_public(entropy)
    return State(root_key, entropy, public, remote_public, sending_key, 0, 0, None, 0, False, {})


def responder(shared_key: bytes, private: bytes) -> State:
    """The side that receives first; `private` (32 bytes) is its first ratchet key."""
    assert len(shared_key) == KEY_BYTES, "a shared key has 32 bytes"
    public = sodium.x25519_public(private)
    return State(shared_key, private, public, b"", None, 0, 0, None, 0, False, {})


def encrypt(
    state: State, plaintext: bytes, associated_data: bytes, entropy: bytes | None = None
) -> tuple[State, bytes]:
    """The next state, and the message; forget the old state, or one key seals two messages.

    Given `entropy` (32 bytes), a step that is owed is taken; otherwise `entropy` is ignored.
    Without it the message stays on the old sending chain.  The responder's first one needs it.
    """
    if entropy is not None and state.step_owed:
        state = _step_sending(state, entropy)
    (root, private, public, remote, sending, sent, before, receiving, received, owed, skipped) = (
        state
    )
    assert sending is not None, "a responder sends with entropy, after it has decrypted once"
    assert sent < COUNTER_MAX, "a sending chain is used up: take the step that is owed"
    header = public + before.to_bytes(4, "big") + sent.to_bytes(4, "big")
    sending, key = _step_chain(sending)
    sealed = sodium.aead_seal(key, _NONCE, plaintext, associated_data + header)
    following = State(
        root,
        private,
        public,
        remote,
        sending,
        sent + 1,
        before,
        receiving,
        received,
        owed,
        skipped,
    )
    return following, header + sealed


def decrypt(
    state: State,
    message: bytes,
    associated_data: bytes,
    *,
    gap_max: int = GAP_MAX,
    skipped_max: int = SKIPPED_MAX,
) -> tuple[State, bytes]:
    """The next state, and the plaintext.

    CryptoError, and `state` stands: truncated, changed, replayed, for somebody else, under a key
    of low order, or more than `gap_max` messages ahead in one chain.  Keys of skipped messages
    are kept for late arrivals, at most `skipped_max` of them; the oldest is dropped first.
    """
    if len(message) < OVERHEAD_BYTES:
        raise CryptoError(f"a ratchet message of {len(message)} bytes is cut off")
    header = message[:HEADER_BYTES]
    remote = header[:KEY_BYTES]
    number = int.from_bytes(header[-4:], "big")
    if state.skipped:
        late = remote + header[-4:]
        if late in state.skipped:
            return _decrypt_late(state, late, message, associated_data)
    if remote != state.remote_public:
        previous = int.from_bytes(header[KEY_BYTES:-4], "big")
        state = _step_receiving(state, remote, previous, gap_max)
    if number != state.received:
        if number < state.received:
            raise CryptoError("a ratchet message replayed, or later than its key was kept")
        state = _skip(state, number, gap_max)
    receiving = state.receiving_key
    if receiving is None:
        raise CryptoError("a ratchet message under a key with which the peer never sends")
    receiving, key = _step_chain(receiving)
    plaintext = sodium.aead_open(key, _NONCE, message[HEADER_BYTES:], associated_data + header)
    skipped = state.skipped
    if len(skipped) > skipped_max:
        skipped = dict(list(skipped.items())[len(skipped) - skipped_max :])
    following = State(
        *state[:7],
        receiving,
        number + 1,
        state.step_owed,
        skipped,
    )
    return following, plaintext


def _decrypt_late(
    state: State, late: bytes, message: bytes, associated_data: bytes
) -> tuple[State, bytes]:
    key, header = state.skipped[late], message[:HEADER_BYTES]
    plaintext = sodium.aead_open(key, _NONCE, message[HEADER_BYTES:], associated_data + header)
    skipped = {name: kept for name, kept in state.skipped.items() if name != late}
    return state._replace(skipped=skipped), plaintext


def _step_sending(state: State, entropy: bytes) -> State:
    root_key, sending_key = _step_root(state.root_key, entropy, state.remote_public)
    return state._replace(
        root_key=root_key,
        private=entropy,
        public=sodium.x25519_public(entropy),
        sending_key=sending_key,
        sent_since_step=0,
        sent_before_step=state.sent_since_step,
        step_owed=False,
    )


def _step_receiving(state: State, remote: bytes, previous: int, gap_max: int) -> State:
    if state.step_owed:
        raise CryptoError("a new ratchet key from a peer that has not seen our next one")
    if state.receiving_key is not None and previous > state.received:
        state = _skip(state, previous, gap_max)
    root_key, receiving_key = _step_root(state.root_key, state.private, remote)
    return state._replace(
        root_key=root_key,
        remote_public=remote,
        receiving_key=receiving_key,
        received=0,
        step_owed=True,
    )


def _skip(state: State, until: int, gap_max: int) -> State:
    """The state with the receiving chain at number `until`, the keys in between set aside."""
    key = state.receiving_key
    if key is None:
        raise CryptoError("a ratchet message under a key with which the peer never sends")
    gap = until - state.received
    if gap > gap_max:
        raise CryptoError(f"{gap} ratchet messages lost at once, {gap_max} allowed: start anew")
    skipped = dict(state.skipped)
    for number in range(state.received, until):
        key, skipped[state.remote_public + number.to_bytes(4, "big")] = _step_chain(key)
    return state._replace(receiving_key=key, received=until, skipped=skipped)


def _step_root(root_key: bytes, private: bytes, remote: bytes) -> tuple[bytes, bytes]:
    """KDF_RK: the next root key, and the key of a new chain."""
    shared = sodium.x25519(private, remote)
    output = sodium.hkdf("sha256", root_key, shared, ROOT_INFO, 2 * KEY_BYTES)
    return output[:KEY_BYTES], output[KEY_BYTES:]


def _step_chain(chain_key: bytes) -> tuple[bytes, bytes]:
    """KDF_CK: the next chain key, and a message key."""
    output = sodium.prf(CHAIN_DOMAIN, chain_key)
    return output[:KEY_BYTES], output[KEY_BYTES:]

"""A link to one peer, as a transition table: handshake, confirmation, open; padding included.

Knows Noise XX (rev 34), the Double Ratchet that it seeds, and which sizes frames have, which
`records` fill.
Refuses to know sockets, clocks, entropy, and whether the peer is welcome: the caller decides that
upon `Opened`.  A session is replaced and never changed: after a `SessionError` the old one stands,
and its link is to be closed.

    initiator                                   responder
    ANSWER         -- hello: e -->              HELLO
                   <-- answer: e ee s es --     PROOF
    OPEN           -- proof: s se -->           CONFIRMATION
                   -- first frame -->           OPEN

Every transmission has one of the sizes in `SIZE_BUCKETS`, or fills a cell of Tor.  The hello shows
in clear the protocol version and a proof that its sender knows the cluster id: who does not know it
gets no answer.  The answer and the proof carry the signed node records.  The handshake's keys and
hash seed the ratchet, the responder's first ratchet key is its Noise ephemeral, and the initiator's
first frame confirms the keys; it may carry a message that is made of the handshake's hash, and so
proves something on this link and on no other.  A link delivers in order, so a gap in the ratchet's
numbers is an error here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from aegis_edge.crypto import handshake as noise
from aegis_edge.crypto import ratchet, sodium
from aegis_edge.crypto.handshake import Handshake
from aegis_edge.crypto.sodium import CryptoError
from aegis_edge.wire import codec, records
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import PROTOCOL_VERSION, Opener
from aegis_edge.wire.messages import NodeRecord, Verified
from aegis_edge.wire.records import RecordError

#: What an observer can tell apart.  Few of them, but a vote fits into the first and a bundle of one
#: small write into the second: without that one a lone put would cost 40 % more bytes.
SIZE_BUCKETS = (256, 512, 1024, 4096, 16384, 65536)
FRAME_BYTES_MAX = SIZE_BUCKETS[-1]
#: The frame that, as a WebSocket message (8 bytes), fills one cell of Tor: 488 bytes of a stream,
#: the lesser of the two formats that relays speak.  Where all frames have one size, it is this one.
CELL_FRAME_BYTES = 480
_SIZES = frozenset((*SIZE_BUCKETS, CELL_FRAME_BYTES))

#: A Diffie-Hellman step that is owed is taken after so many frames, or so many milliseconds.
#: This bounds what a stolen session key opens, and what the steps cost.
RATCHET_MESSAGES = 256
RATCHET_TICKS = 60_000

ENTROPY_BYTES = 64

_KEY_BYTES = sodium.KEY_BYTES
_HELLO_OVERHEAD_BYTES = _KEY_BYTES
_PROOF_OVERHEAD_BYTES = _KEY_BYTES + 2 * sodium.TAG_BYTES
_ANSWER_OVERHEAD_BYTES = _KEY_BYTES + _PROOF_OVERHEAD_BYTES


class SessionError(WireError):
    """The peer's bytes do not belong to this session: close the link."""


class Breach(SessionError):
    """The peer itself sealed for this session what no peer would send: nobody else can have."""


class OwnKey(SessionError):
    """The peer has this node's own key: the node reached itself, or its key file was copied."""


# --- effects --------------------------------------------------------------------------------


class Transmit(NamedTuple):
    """Give `data` to the peer, as one message of the transport."""

    data: bytes


class Opened(NamedTuple):
    """The peer has proven to be `peer` (its public key) and to own the Noise key in `record`."""

    peer: bytes
    record: Verified[NodeRecord]


class Delivered(NamedTuple):
    """The peer sent this message (1 to `MESSAGE_BYTES_MAX` bytes, not yet looked at)."""

    message: bytes


Effect = Transmit | Opened | Delivered

#: What the initiator says with its first frame, made of the handshake's hash: one short message.
First = Callable[[bytes], bytes]

# --- the state ------------------------------------------------------------------------------


class Phase(Enum):
    """What the session waits for."""

    HELLO = 1
    ANSWER = 2
    PROOF = 3
    CONFIRMATION = 4
    OPEN = 5


@dataclass(frozen=True, slots=True)
class _Shaking:
    """What only the handshake needs; it is dropped when the ratchet takes over."""

    handshake: Handshake
    record_raw: bytes
    cluster_id: bytes
    ratchet_private: bytes
    first: First | None

    def __repr__(self) -> str:
        return "_Shaking(...)"


class Session(NamedTuple):
    """One end of a link; use `initiate` or `respond`, then `received` and `send`."""

    phase: Phase
    shaking: _Shaking | None
    ratchet: ratchet.State | None
    transcript: bytes
    peer: Verified[NodeRecord] | None
    pieces: records.Pieces | None
    stepped_ticks: int | None

    def __repr__(self) -> str:
        return f"Session({self.phase.name}, peer={self.peer!r})"

    @staticmethod
    def initiate(
        record_raw: bytes,
        noise_private: bytes,
        cluster_id: bytes,
        entropy: bytes,
        first: First | None = None,
    ) -> tuple[Session, bytes]:
        """A session that this side begins, and the hello to transmit.

        `record_raw` is this node's signed record, which names the public half of `noise_private`;
        `entropy` has 64 bytes, fresh and for this session alone.  `first`: what the first frame
        says; nothing if it is None.
        """
        shaking = _start(record_raw, noise_private, cluster_id, entropy, first, initiator=True)
        public = sodium.x25519_public(shaking.handshake.ephemeral)
        hello = codec.encode((PROTOCOL_VERSION, _membership_proof(cluster_id, public)))
        handshake, data = shaking.handshake.write(_pad_record(hello, _HELLO_OVERHEAD_BYTES))
        return _shaking_session(Phase.ANSWER, shaking, handshake), data

    @staticmethod
    def respond(
        record_raw: bytes, noise_private: bytes, cluster_id: bytes, entropy: bytes
    ) -> Session:
        """A session that the peer begins; the arguments are those of `initiate`."""
        shaking = _start(record_raw, noise_private, cluster_id, entropy, None, initiator=False)
        return _shaking_session(Phase.HELLO, shaking, shaking.handshake)

    def received(self, data: bytes) -> tuple[Session, tuple[Effect, ...]]:
        """The next session, and what follows from one message of the transport, in order.

        SessionError: the bytes are not what the peer would send now; this session still stands.
        """
        if len(data) not in _SIZES:
            raise SessionError(f"{len(data)} bytes are no frame: the peer speaks something else")
        try:
            return _TRANSITIONS[self.phase](self, data)
        except SessionError:
            raise
        except RecordError as error:
            raise SessionError(str(error)) from None
        except CryptoError as error:
            raise SessionError(f"a frame that was not sealed for this link: {error}") from None
        except WireError as error:
            raise SessionError(f"the peer's handshake means nothing: {error}") from None

    def send(
        self, messages: Sequence[bytes], now_ticks: int, entropy: bytes, *, cells: bool = False
    ) -> tuple[Session, tuple[bytes, ...]]:
        """The next session, and the frames that carry `messages`; none of them: a keep-alive.

        Each message has 1 to `MESSAGE_BYTES_MAX` bytes.  `cells`: all frames have the one size
        `CELL_FRAME_BYTES`, else each takes the smallest bucket that holds it.  `now_ticks` are
        milliseconds of any monotonic clock; `entropy` has 32 bytes, fresh, for the ratchet step
        that may be due.
        Forget the old session: sealing from it again would repeat its keys.
        """
        state, stepped_ticks = self.ratchet, self.stepped_ticks
        assert state is not None and self.phase is Phase.OPEN, "the session is not open"
        frames = []
        for plaintext in records.pack(messages, _CELL if cells else _BUCKETS):
            if state.step_owed and (
                stepped_ticks is None
                or state.sent_since_step >= RATCHET_MESSAGES
                or now_ticks - stepped_ticks >= RATCHET_TICKS
            ):
                stepped_ticks = now_ticks
                state, frame = ratchet.encrypt(state, plaintext, self.transcript, entropy)
            else:
                state, frame = ratchet.encrypt(state, plaintext, self.transcript)
            frames.append(frame)
        _, _, _, transcript, peer, pieces, _ = self
        following = Session(Phase.OPEN, None, state, transcript, peer, pieces, stepped_ticks)
        return following, tuple(frames)


def _start(
    record_raw: bytes,
    noise_private: bytes,
    cluster_id: bytes,
    entropy: bytes,
    first: First | None,
    *,
    initiator: bool,
) -> _Shaking:
    assert len(entropy) == ENTROPY_BYTES, "a session takes 64 bytes of entropy"
    handshake = noise.start(
        "XX",
        "BLAKE2b",
        initiator=initiator,
        prologue=codec.encode(("aegis-edge", PROTOCOL_VERSION, cluster_id)),
        static=noise_private,
        ephemeral=entropy[:_KEY_BYTES],
    )
    ratchet_private = entropy[_KEY_BYTES:] if initiator else handshake.ephemeral
    return _Shaking(handshake, record_raw, cluster_id, ratchet_private, first)


def _shaking_session(phase: Phase, shaking: _Shaking, handshake: Handshake) -> Session:
    following = replace(shaking, handshake=handshake)
    return Session(phase, following, None, b"", None, None, None)


# --- transitions ----------------------------------------------------------------------------


def _on_hello(session: Session, data: bytes) -> tuple[Session, tuple[Effect, ...]]:
    shaking = session.shaking
    assert shaking is not None, "a handshake has its state"
    if len(data) != SIZE_BUCKETS[0]:
        raise SessionError("a hello that is longer than it needs to be")
    handshake, payload = shaking.handshake.read(data)
    fields = codec.decode(_only_record(payload))
    if type(fields) is not tuple or len(fields) != 2 or type(fields[0]) is not int:
        raise SessionError("a hello of an unknown shape")
    version, proof = fields
    if version != PROTOCOL_VERSION:
        raise SessionError(
            f"the peer speaks protocol version {version} and this node {PROTOCOL_VERSION}: "
            "upgrade the older one"
        )
    public = handshake.remote_ephemeral
    assert public is not None, "a hello brings the peer's ephemeral key"
    if proof != _membership_proof(shaking.cluster_id, public):
        raise SessionError("the peer is of another cluster: compare the genesis files")
    handshake, answer = handshake.write(_pad_record(shaking.record_raw, _ANSWER_OVERHEAD_BYTES))
    return _shaking_session(Phase.PROOF, shaking, handshake), (Transmit(answer),)


def _on_answer(session: Session, data: bytes) -> tuple[Session, tuple[Effect, ...]]:
    shaking = session.shaking
    assert shaking is not None, "a handshake has its state"
    handshake, payload = shaking.handshake.read(data)
    record = _peer_record(shaking, handshake, payload)
    handshake, proof = handshake.write(_pad_record(shaking.record_raw, _PROOF_OVERHEAD_BYTES))
    public = handshake.remote_ephemeral
    assert public is not None, "an answer brings the peer's ephemeral key"
    send_key, receive_key = handshake.split()
    key = _session_key(send_key + receive_key, handshake.hash)
    state = ratchet.initiator(key, public, shaking.ratchet_private)
    said = () if shaking.first is None else (shaking.first(handshake.hash),)
    (plaintext,) = records.pack(said, _BUCKETS)
    state, confirmation = ratchet.encrypt(state, plaintext, handshake.hash)
    following = Session(Phase.OPEN, None, state, handshake.hash, record, None, None)
    return following, (Transmit(proof), Transmit(confirmation), Opened(record.signer, record))


def _on_proof(session: Session, data: bytes) -> tuple[Session, tuple[Effect, ...]]:
    shaking = session.shaking
    assert shaking is not None, "a handshake has its state"
    handshake, payload = shaking.handshake.read(data)
    record = _peer_record(shaking, handshake, payload)
    send_key, receive_key = handshake.split()
    key = _session_key(receive_key + send_key, handshake.hash)
    state = ratchet.responder(key, shaking.ratchet_private)
    return Session(Phase.CONFIRMATION, None, state, handshake.hash, record, None, None), ()


def _on_confirmation(session: Session, data: bytes) -> tuple[Session, tuple[Effect, ...]]:
    following, effects = _on_frame(session, data)
    record = session.peer
    assert record is not None, "a proof brings the peer's record"
    return following, (Opened(record.signer, record), *effects)


def _on_frame(session: Session, data: bytes) -> tuple[Session, tuple[Effect, ...]]:
    _, _, state, transcript, peer, pieces, stepped_ticks = session
    assert state is not None, "a session past its handshake has a ratchet"
    state, plaintext = ratchet.decrypt(state, data, transcript, gap_max=0)
    try:
        messages, pieces = records.unpack(plaintext, pieces)
    except RecordError as error:
        raise Breach(str(error)) from None
    following = Session(Phase.OPEN, None, state, transcript, peer, pieces, stepped_ticks)
    return following, tuple(map(Delivered, messages))


_TRANSITIONS: dict[Phase, Callable[[Session, bytes], tuple[Session, tuple[Effect, ...]]]] = {
    Phase.HELLO: _on_hello,
    Phase.ANSWER: _on_answer,
    Phase.PROOF: _on_proof,
    Phase.CONFIRMATION: _on_confirmation,
    Phase.OPEN: _on_frame,
}


def _peer_record(shaking: _Shaking, handshake: Handshake, payload: bytes) -> Verified[NodeRecord]:
    """The record in a handshake payload, proven to belong to the peer's Noise key."""
    opener = Opener(shaking.cluster_id)
    record: Verified[NodeRecord] = opener.open(_only_record(payload))
    if type(record.message) is not NodeRecord:
        raise SessionError("the peer's handshake carries something else than its node record")
    if record.message.noise_key != handshake.remote_static:
        raise SessionError("the peer's record names another Noise key than the peer has proven")
    if record.signer == opener.open(shaking.record_raw).signer:
        raise OwnKey("this node reached itself (correct the address), or its key file was copied")
    return record


def _membership_proof(cluster_id: bytes, ephemeral_public: bytes) -> bytes:
    return sodium.digest(b"aegis-edge hello", codec.encode((cluster_id, ephemeral_public)))


def _session_key(keys: bytes, transcript: bytes) -> bytes:
    """The ratchet's first key, from the initiator's and the responder's sending key."""
    return sodium.hkdf("blake2b", transcript, keys, b"aegis-edge session", _KEY_BYTES)


# --- frames ---------------------------------------------------------------------------------


def _capacities(sizes: Sequence[int], overhead_bytes: int) -> tuple[int, ...]:
    """What transmissions of these sizes hold."""
    return tuple(size - overhead_bytes for size in sizes)


def _pad_record(body: bytes, overhead_bytes: int) -> bytes:
    return records.pad(records.alone(body), _capacities(SIZE_BUCKETS, overhead_bytes))


def _only_record(payload: bytes) -> bytes:
    messages, pieces = records.unpack(payload, None)
    if len(messages) != 1 or pieces is not None:
        raise SessionError("a handshake message without its one record")
    return messages[0]


_BUCKETS = _capacities(SIZE_BUCKETS, ratchet.OVERHEAD_BYTES)
_CELL = _capacities((CELL_FRAME_BYTES,), ratchet.OVERHEAD_BYTES)
#: What frames carry that are sent on a schedule, all messages and their headers together.
CELL_CAPACITY_BYTES = _CELL[0]

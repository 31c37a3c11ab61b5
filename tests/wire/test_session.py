"""The session: two ends that understand each other, and nothing that anybody else does to them."""

from __future__ import annotations

import hmac
import random
from dataclasses import dataclass
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from aegis_edge.crypto import handshake as noise
from aegis_edge.crypto import ratchet, sodium
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import PROTOCOL_VERSION, Opener, Signer
from aegis_edge.wire.messages import MESSAGE_BYTES_MAX, FetchBody, NodeRecord, Prepare
from aegis_edge.wire.session import (
    CELL_FRAME_BYTES,
    FRAME_BYTES_MAX,
    RATCHET_MESSAGES,
    RATCHET_TICKS,
    SIZE_BUCKETS,
    Breach,
    Delivered,
    Opened,
    OwnKey,
    Phase,
    Session,
    SessionError,
    Transmit,
)
from tests.wire.conftest import CLUSTER, Voices, blob

CAPACITY = FRAME_BYTES_MAX - ratchet.OVERHEAD_BYTES
#: The largest message that fits, alone, into the smallest frame.
SMALL_MESSAGE_BYTES_MAX = SIZE_BUCKETS[0] - ratchet.OVERHEAD_BYTES - 4
CONTINUES = 1 << 31


def entropy(number: int, size: int = 64) -> bytes:
    return random.Random(number).randbytes(size)


@dataclass(frozen=True)
class Node:
    """What one end brings along."""

    signer: Signer
    noise_private: bytes
    raw: bytes

    @classmethod
    def make(cls, number: int, addresses: int = 1, noise_key: bytes | None = None) -> Node:
        signer, private = Signer(blob(number), CLUSTER), entropy(1000 + number, 32)
        key = sodium.x25519_public(private) if noise_key is None else noise_key
        texts = tuple("x" * 120 for _ in range(addresses))
        record = signer.sign(NodeRecord(1, key, texts, 2**31, f"node {number}"))
        return cls(signer, private, record.raw)

    def initiate(self, number: int = 1, cluster: bytes = CLUSTER) -> tuple[Session, bytes]:
        return Session.initiate(self.raw, self.noise_private, cluster, entropy(number))

    def respond(self, number: int = 2, cluster: bytes = CLUSTER) -> Session:
        return Session.respond(self.raw, self.noise_private, cluster, entropy(number))


ALICE, BOB = Node.make(1), Node.make(2)


@dataclass(frozen=True)
class Opening:
    """Every state and every transmission of one good handshake."""

    waiting: Session
    answering: Session
    hello: bytes
    proving: Session
    answer: bytes
    initiator: Session
    proof: bytes
    confirmation: bytes
    initiator_opened: Opened
    confirming: Session
    responder: Session
    responder_opened: Opened


def open_pair(one: Node = ALICE, two: Node = BOB, number: int = 1) -> Opening:
    answering, hello = one.initiate(2 * number)
    waiting = two.respond(2 * number + 1)
    proving, (answer,) = waiting.received(hello)
    initiator, (proof, confirmation, initiator_opened) = answering.received(answer.data)
    confirming, nothing = proving.received(proof.data)
    assert nothing == ()
    responder, (responder_opened,) = confirming.received(confirmation.data)
    return Opening(
        waiting,
        answering,
        hello,
        proving,
        answer.data,
        initiator,
        proof.data,
        confirmation.data,
        initiator_opened,
        confirming,
        responder,
        responder_opened,
    )


GOOD = open_pair()


def send(session: Session, *messages: bytes, now: int = 0) -> tuple[Session, tuple[bytes, ...]]:
    return session.send(messages, now, entropy(now, 32))


def seal(session: Session, plaintext: bytes) -> bytes:
    """A frame as a hostile member might seal it: good keys, any content."""
    return ratchet.encrypt(session.ratchet, plaintext, session.transcript)[1]


# --- the handshake ----------------------------------------------------------------------------


def test_both_ends_open_and_know_each_other() -> None:
    opening = open_pair()
    assert opening.initiator_opened.peer == BOB.signer.public
    assert opening.initiator_opened.record.raw == BOB.raw
    assert opening.responder_opened.peer == ALICE.signer.public
    assert opening.responder_opened.record.raw == ALICE.raw
    assert opening.initiator.peer == opening.initiator_opened.record
    phases = [
        opening.waiting,
        opening.answering,
        opening.proving,
        opening.confirming,
        opening.initiator,
        opening.responder,
    ]
    assert [session.phase for session in phases] == [
        Phase.HELLO,
        Phase.ANSWER,
        Phase.PROOF,
        Phase.CONFIRMATION,
        Phase.OPEN,
        Phase.OPEN,
    ]


def test_the_same_entropy_gives_the_same_bytes_and_other_entropy_others() -> None:
    assert open_pair(number=3).confirmation == open_pair(number=3).confirmation
    one, two = open_pair(number=3), open_pair(number=4)
    assert one.initiator.transcript != two.initiator.transcript
    for name in ("hello", "answer", "proof", "confirmation"):
        assert getattr(one, name) != getattr(two, name)


@pytest.mark.parametrize("addresses", range(9))
def test_handshakes_fill_size_buckets(addresses: int) -> None:
    one, two = Node.make(1, addresses), Node.make(2, addresses)
    opening = open_pair(one, two)
    for data in (opening.hello, opening.answer, opening.proof, opening.confirmation):
        assert len(data) in SIZE_BUCKETS


def test_the_records_are_not_seen_on_the_way() -> None:
    for data in (GOOD.hello, GOOD.answer, GOOD.proof, GOOD.confirmation):
        for secret in (CLUSTER, ALICE.signer.public, BOB.signer.public, b"xxxx"):
            assert secret not in data


def test_no_ephemeral_key_serves_twice_on_the_initiators_side() -> None:
    assert GOOD.confirmation[:32] != GOOD.hello[:32]


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
def test_another_noise_library_opens_a_session() -> None:
    """The handshake as the docstring tells it, with no code of ours on this side of it."""
    other = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_BLAKE2b")
    other.set_as_initiator()
    other.set_prologue(cbor2.dumps(["aegis-edge", 1, CLUSTER]))
    other.set_keypair_from_private_bytes(Keypair.STATIC, ALICE.noise_private)
    other.set_keypair_from_private_bytes(Keypair.EPHEMERAL, blob(5))
    other.start_handshake()
    hello = other.write_message(record_of(cbor2.dumps([1, proof_of()]), 224))
    proving, (answer,) = GOOD.waiting.received(bytes(hello))
    payload = bytes(other.read_message(answer.data))
    assert payload[4:].startswith(BOB.raw)
    proof = other.write_message(record_of(ALICE.raw, 512 - 64))
    confirming, _ = proving.received(bytes(proof))
    transcript = other.get_handshake_hash()
    ciphers = other.noise_protocol
    keys = ciphers.cipher_state_encrypt.k + ciphers.cipher_state_decrypt.k
    extracted = hmac.digest(transcript, keys, "blake2b")
    key = hmac.digest(extracted, b"aegis-edge session\x01", "blake2b")[:32]
    state = ratchet.initiator(key, answer.data[:32], blob(6))
    _, frame = ratchet.encrypt(state, record_of(b"hi", 200), transcript)
    responder, effects = confirming.received(frame)
    assert effects == (Opened(ALICE.signer.public, responder.peer), Delivered(b"hi"))


def test_the_first_frame_may_carry_what_is_made_of_the_handshake() -> None:
    """And nothing else of the handshake looks different for it."""
    said = []

    def first(transcript: bytes) -> bytes:
        said.append(transcript)
        return b"of " + transcript

    answering, hello = Session.initiate(ALICE.raw, ALICE.noise_private, CLUSTER, entropy(2), first)
    proving, (answer,) = GOOD.waiting.received(hello)
    initiator, (proof, confirmation, _) = answering.received(answer.data)
    assert (hello, answer.data, proof.data) == (GOOD.hello, GOOD.answer, GOOD.proof)
    assert len(confirmation.data) == len(GOOD.confirmation) == SIZE_BUCKETS[0]
    confirming, _ = proving.received(proof.data)
    responder, effects = confirming.received(confirmation.data)
    assert said == [initiator.transcript] == [responder.transcript]
    assert effects == (
        Opened(ALICE.signer.public, responder.peer),
        Delivered(b"of " + responder.transcript),
    )


def test_nothing_secret_is_printed() -> None:
    for session in (GOOD.waiting, GOOD.proving, GOOD.initiator):
        text = repr(session) + repr(session.shaking)
        for secret in (ALICE.noise_private, BOB.noise_private, entropy(2)[:32], entropy(3)[:32]):
            assert repr(secret)[2:-1] not in text
            assert secret.hex() not in text


def test_nothing_is_sent_before_the_session_is_open() -> None:
    for session in (GOOD.waiting, GOOD.answering, GOOD.proving, GOOD.confirming):
        with pytest.raises(AssertionError):
            send(session, b"too early")


def test_entropy_is_asked_for_in_full() -> None:
    with pytest.raises(AssertionError):
        Session.initiate(ALICE.raw, ALICE.noise_private, CLUSTER, bytes(32))


def test_a_record_that_no_frame_holds_is_a_bug_of_ours() -> None:
    giant = Node(BOB.signer, BOB.noise_private, bytes(FRAME_BYTES_MAX))
    with pytest.raises(AssertionError):
        giant.respond().received(GOOD.hello)


# --- who is not welcome -----------------------------------------------------------------------


def test_another_cluster_gets_no_answer() -> None:
    stranger, hello = ALICE.initiate(cluster=blob(99))
    with pytest.raises(SessionError, match="another cluster"):
        GOOD.waiting.received(hello)
    with pytest.raises(SessionError, match="not sealed for this link"):
        stranger.received(GOOD.answer)


def raw_hello(payload: bytes, cluster: bytes = CLUSTER) -> tuple[noise.Handshake, bytes]:
    """A hello with any payload."""
    prologue = codec.encode(("aegis-edge", PROTOCOL_VERSION, cluster))
    state = noise.start(
        "XX",
        "BLAKE2b",
        initiator=True,
        prologue=prologue,
        static=ALICE.noise_private,
        ephemeral=blob(5),
    )
    return state.write(payload)


def record_of(body: bytes, size: int) -> bytes:
    return (len(body).to_bytes(4, "big") + body).ljust(size, b"\0")


def proof_of(cluster: bytes = CLUSTER) -> bytes:
    public = sodium.x25519_public(blob(5))
    return sodium.digest(b"aegis-edge hello", codec.encode((cluster, public)))


def hello_with(value: Any) -> bytes:
    return raw_hello(record_of(codec.encode(value), 224))[1]


def test_the_hand_made_hello_is_good() -> None:
    """Else the refusals below would prove nothing."""
    session, _ = GOOD.waiting.received(hello_with((PROTOCOL_VERSION, proof_of())))
    assert session.phase is Phase.PROOF


def test_another_version_is_told_what_to_do() -> None:
    with pytest.raises(SessionError, match=r"version 7 and this node 1: upgrade"):
        GOOD.waiting.received(hello_with((7, proof_of())))


@pytest.mark.parametrize(
    "value",
    [
        (),
        (PROTOCOL_VERSION,),
        (PROTOCOL_VERSION, proof_of(), 0),
        {PROTOCOL_VERSION: proof_of()},
        PROTOCOL_VERSION,
        (True, proof_of()),
        ("1", proof_of()),
        (PROTOCOL_VERSION, proof_of(blob(99))),
        (PROTOCOL_VERSION, proof_of()[:-1]),
        (PROTOCOL_VERSION, None),
    ],
    ids=repr,
)
def test_a_hello_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(SessionError):
        GOOD.waiting.received(hello_with(value))


GOOD_HELLO = codec.encode((PROTOCOL_VERSION, proof_of()))


@pytest.mark.parametrize(
    "payload",
    [
        bytes(224),
        record_of(GOOD_HELLO, 224)[:-1] + b"\1",
        record_of(GOOD_HELLO, 50) + record_of(GOOD_HELLO, 174),
        record_of(GOOD_HELLO + b"\0", 224),
        b"\xff" * 224,
        (224).to_bytes(4, "big") + bytes(220),
        ((220 | CONTINUES).to_bytes(4, "big")) + GOOD_HELLO + bytes(220 - len(GOOD_HELLO)),
    ],
)
def test_a_hello_with_other_records_is_refused(payload: bytes) -> None:
    with pytest.raises(SessionError):
        GOOD.waiting.received(raw_hello(payload)[1])


def test_a_hello_has_one_size() -> None:
    """Nothing else protects its padding, which no key covers yet."""
    refuses(GOOD.waiting, GOOD.hello.ljust(1024, b"\0"))


def test_a_proof_is_bound_to_its_own_hello() -> None:
    """The proof of another hello, seen on the way, does not make its thief a member."""
    stolen = noise.start(
        "XX",
        "BLAKE2b",
        initiator=True,
        prologue=b"",
        static=blob(3),
        ephemeral=blob(6),
    ).write(GOOD.hello[32:])[1]
    with pytest.raises(SessionError, match="another cluster"):
        GOOD.waiting.received(stolen)


@pytest.mark.parametrize(
    "low_order",
    [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"],
    ids=["zero", "one", "minus one"],
)
def test_a_key_of_low_order_is_refused(low_order: bytes) -> None:
    with pytest.raises(SessionError):
        GOOD.waiting.received(low_order + GOOD.hello[32:])
    with pytest.raises(SessionError):
        GOOD.answering.received(low_order + GOOD.answer[32:])


def test_a_record_with_another_noise_key_is_refused_by_both_ends() -> None:
    """The record of one node, shown over the Noise key of another."""
    thief = Node(ALICE.signer, blob(77), ALICE.raw)
    answering, hello = thief.initiate()
    proving, (answer,) = BOB.respond().received(hello)
    _, (proof, *_) = answering.received(answer.data)
    with pytest.raises(SessionError, match="another Noise key"):
        proving.received(proof.data)
    thief = Node(BOB.signer, blob(77), BOB.raw)
    answering, hello = ALICE.initiate()
    _, (answer,) = thief.respond().received(hello)
    with pytest.raises(SessionError, match="another Noise key"):
        answering.received(answer.data)


def test_something_else_than_a_record_is_refused(voices: Voices) -> None:
    for raw in (voices.signed[Prepare].raw, b"no envelope", BOB.raw[:-1] + b"\0"):
        thief = Node(BOB.signer, BOB.noise_private, raw)
        answering, hello = ALICE.initiate()
        _, (answer,) = thief.respond().received(hello)
        with pytest.raises(SessionError):
            answering.received(answer.data)


def test_a_node_that_reaches_itself_says_so() -> None:
    answering, hello = ALICE.initiate(1)
    _, (answer,) = ALICE.respond(2).received(hello)
    with pytest.raises(OwnKey, match="reached itself"):
        answering.received(answer.data)


def test_a_man_in_the_middle_changes_nothing_unseen() -> None:
    """Two handshakes spliced: the answer to one hello does not fit another."""
    other = open_pair(number=9)
    with pytest.raises(SessionError):
        GOOD.answering.received(other.answer)
    with pytest.raises(SessionError):
        GOOD.proving.received(other.proof)
    with pytest.raises(SessionError):
        GOOD.confirming.received(other.confirmation)


# --- hostile bytes in every state ---------------------------------------------------------------

STATES = {
    "hello": (GOOD.waiting, GOOD.hello),
    "answer": (GOOD.answering, GOOD.answer),
    "proof": (GOOD.proving, GOOD.proof),
    "confirmation": (GOOD.confirming, GOOD.confirmation),
    "open, responder": (GOOD.responder, send(GOOD.initiator, b"good")[1][0]),
    "open, initiator": (GOOD.initiator, send(GOOD.responder, b"good")[1][0]),
}


def refuses(session: Session, data: bytes) -> None:
    with pytest.raises(SessionError):
        session.received(data)


@pytest.mark.parametrize("state", STATES)
def test_what_the_state_waits_for_is_good_again_after_garbage(state: str) -> None:
    session, good = STATES[state]
    before = session.received(good)
    for data in (b"", b"\0", good[:-1], good + b"\0", bytes(256), bytes(len(good)), good[::-1]):
        refuses(session, data)
    assert session.received(good) == before


@pytest.mark.parametrize("state", STATES)
def test_every_changed_byte_is_noticed(state: str) -> None:
    session, good = STATES[state]
    step = 7 if len(good) > 256 else 1
    for at in range(0, len(good), step):
        refuses(session, good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])


@pytest.mark.parametrize("state", STATES)
def test_every_other_transmission_is_refused(state: str) -> None:
    """Messages of other steps, the own ones reflected, those of other sessions."""
    session, good = STATES[state]
    other = open_pair(number=9)
    transmissions = [data for _, data in STATES.values()]
    transmissions += [other.hello, other.answer, other.proof, other.confirmation]
    for data in transmissions:
        if data != good and not (state == "hello" and data == other.hello):
            refuses(session, data)


@given(data=st.data())
@settings(max_examples=200)
def test_any_bytes_are_refused_in_any_state(data: st.DataObject) -> None:
    session, good = STATES[data.draw(st.sampled_from(sorted(STATES)))]
    size = data.draw(st.sampled_from([*SIZE_BUCKETS[:3], 0, 1, 255, 257]))
    garbage = random.Random(data.draw(st.integers(0, 2**32))).randbytes(size)
    mixed = data.draw(st.integers(0, len(good)))
    for hostile in (garbage, (good[:mixed] + garbage)[:size], (garbage + good)[-size:]):
        if hostile != good:
            refuses(session, hostile)


@given(st.binary(max_size=100))
def test_any_short_bytes_are_refused(data: bytes) -> None:
    for session, _ in STATES.values():
        refuses(session, data)


def test_a_session_error_is_a_wire_error() -> None:
    assert issubclass(SessionError, WireError)


# --- messages -----------------------------------------------------------------------------------


class Wire:
    """Two open sessions and what is under way between them, in order."""

    def __init__(self, opening: Opening) -> None:
        self.ends = [opening.initiator, opening.responder]
        self.flying: list[list[bytes]] = [[], []]
        self.sent: list[list[bytes]] = [[], []]
        self.got: list[list[bytes]] = [[], []]
        self.keys: set[bytes] = set()
        self.frames = 0
        self.now = 0

    def send(self, end: int, messages: list[bytes]) -> None:
        self.frames += 1
        self.ends[end], frames = self.ends[end].send(
            messages, self.now, entropy(self.frames + 7_000, 32)
        )
        assert frames
        for frame in frames:
            assert len(frame) in SIZE_BUCKETS
            self.keys.add(frame[:32])
        self.flying[end] += frames
        self.sent[end] += messages

    def deliver(self, end: int, count: int) -> None:
        for _ in range(min(count, len(self.flying[1 - end]))):
            frame = self.flying[1 - end].pop(0)
            self.ends[end], effects = self.ends[end].received(frame)
            for effect in effects:
                assert type(effect) is Delivered
                self.got[end].append(effect.message)

    def settle(self) -> None:
        for end in (0, 1):
            self.deliver(end, len(self.flying[1 - end]))
            assert self.got[end] == self.sent[1 - end]
            assert self.ends[end].pieces is None


def of_size(size: int, seed: int = 0) -> bytes:
    return random.Random(size * 31 + seed).randbytes(size)


sizes = st.integers(1, 300) | st.sampled_from([1, 196, 197, 1000, 16_000, 65_475, 66_000, 140_000])


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.lists(sizes, max_size=4),
            st.integers(0, 5),
            st.sampled_from([0, 1, 1000, RATCHET_TICKS]),
        ),
        max_size=25,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_ends_do_all_messages_arrive_in_order(
    plan: list[tuple[int, list[int], int, int]],
) -> None:
    wire = Wire(GOOD)
    for end, lengths, deliveries, passed in plan:
        wire.now += passed
        wire.send(end, [of_size(length, wire.frames) for length in lengths])
        wire.deliver(end, deliveries)
    wire.settle()


@pytest.mark.parametrize(
    "lengths",
    [
        [1],
        [SMALL_MESSAGE_BYTES_MAX],
        [SMALL_MESSAGE_BYTES_MAX + 1],
        [1, 1, 1],
        [CAPACITY - 4],
        [CAPACITY - 3],
        [CAPACITY - 5, 1],
        [CAPACITY - 6, 9],
        [CAPACITY - 7, 9],
        [CAPACITY - 8, 9],
        [CAPACITY - 9, 9],
        [CAPACITY - 4, CAPACITY - 4],
        [2 * (CAPACITY - 4)],
        [2 * (CAPACITY - 4) + 1],
        [100, 200_000, 100],
        [MESSAGE_BYTES_MAX],
        [10, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, 10],
    ],
    ids=repr,
)
def test_messages_of_all_sizes_share_frames_or_span_them(lengths: list[int]) -> None:
    wire = Wire(GOOD)
    wire.send(0, [of_size(length) for length in lengths])
    total = sum(lengths) + 4 * len(lengths)
    assert len(wire.flying[0]) <= total // (CAPACITY - 8) + 1
    wire.settle()


@pytest.mark.parametrize("lengths", [[], [1], [420], [421], [100, 100, 100, 100], [50_000, 7]])
def test_in_cells_all_frames_have_one_size(lengths: list[int]) -> None:
    messages = [of_size(length) for length in lengths]
    _, frames = GOOD.initiator.send(messages, 0, bytes(32), cells=True)
    assert {len(frame) for frame in frames} == {CELL_FRAME_BYTES}
    receiver, heard = GOOD.responder, []
    for frame in frames:
        receiver, effects = receiver.received(frame)
        heard += [effect.message for effect in effects if isinstance(effect, Delivered)]
    assert heard == messages


def test_sizes_tell_the_bucket_alone() -> None:
    """A keep-alive and every small message look the same; the next size up is the next bucket."""
    small = SMALL_MESSAGE_BYTES_MAX
    for count, size in ((0, 256), (small, 256), (small + 1, 512), (453, 1024), (65_000, 65536)):
        _, (frame,) = send(GOOD.initiator, *([bytes(count)] if count else []))
        assert len(frame) == size
    _, frames = send(GOOD.initiator, *(bytes(100) for _ in range(9)))
    assert [len(frame) for frame in frames] == [1024]


def test_a_link_keeps_no_key_of_a_frame_that_did_not_come() -> None:
    sender, (first,) = send(GOOD.initiator, b"one")
    sender, (second,) = send(sender, b"two")
    with pytest.raises(SessionError):
        GOOD.responder.received(second)
    receiver, _ = GOOD.responder.received(first)
    receiver, _ = receiver.received(second)
    assert receiver.ratchet is not None
    assert receiver.ratchet.skipped == {}


def test_a_keep_alive_delivers_nothing() -> None:
    _, (frame,) = send(GOOD.initiator)
    session, effects = GOOD.responder.received(frame)
    assert effects == ()
    assert session.phase is Phase.OPEN


def test_messages_may_come_with_the_confirmation() -> None:
    """The first frame that the responder can open may already carry something."""
    frame = seal(
        GOOD.initiator._replace(
            ratchet=ratchet.initiator(
                GOOD.confirming.ratchet.root_key,
                GOOD.confirming.ratchet.public,
                blob(4),
            )
        ),
        record_of(b"early", 200),
    )
    session, effects = GOOD.confirming.received(frame)
    assert effects == (Opened(ALICE.signer.public, session.peer), Delivered(b"early"))


@pytest.mark.parametrize("size", [0, MESSAGE_BYTES_MAX + 1])
def test_our_own_messages_are_within_bounds(size: int) -> None:
    with pytest.raises(AssertionError):
        send(GOOD.initiator, bytes(size))


# --- order --------------------------------------------------------------------------------------


def test_replayed_dropped_and_swapped_frames_are_refused() -> None:
    sender, (first,) = send(GOOD.initiator, b"1")
    sender, (second,) = send(sender, b"2")
    _, (third,) = send(sender, b"3")
    receiver, _ = GOOD.responder.received(first)
    refuses(receiver, first)
    refuses(receiver, third)
    refuses(GOOD.responder, second)
    receiver, effects = receiver.received(second)
    assert effects == (Delivered(b"2"),)
    refuses(receiver, first)
    refuses(receiver, second)
    assert receiver.received(third)[1] == (Delivered(b"3"),)


def test_a_gap_over_a_ratchet_step_is_refused() -> None:
    """The last frames under the old key are lost, the first under the new one comes."""
    wire = Wire(GOOD)
    for _ in range(2):
        for end in (0, 1):
            wire.send(end, [b"x"])
            wire.deliver(1 - end, 1)
            wire.now += RATCHET_TICKS
    before = wire.ends[0].ratchet.public
    wire.now = wire.ends[0].stepped_ticks
    wire.send(0, [b"lost"])
    lost = wire.flying[0].pop()
    assert wire.ends[0].ratchet.public == before
    wire.now += RATCHET_TICKS
    wire.send(0, [b"stepped"])
    assert wire.ends[0].ratchet.public != before
    refuses(wire.ends[1], wire.flying[0][0])
    wire.flying[0].insert(0, lost)
    wire.settle()


def test_own_frames_reflected_are_refused() -> None:
    wire = Wire(GOOD)
    for end in (0, 1, 0, 1):
        wire.send(end, [b"x"])
        refuses(wire.ends[end], wire.flying[end][-1])
        wire.deliver(1 - end, 1)


def test_frames_of_another_session_of_the_same_two_are_refused() -> None:
    other = open_pair(number=9)
    refuses(GOOD.responder, send(other.initiator, b"x")[1][0])
    refuses(GOOD.initiator, send(other.responder, b"x")[1][0])


# --- what a hostile member seals ----------------------------------------------------------------


def header(length: int, *, continues: bool = False) -> bytes:
    return (length | (CONTINUES if continues else 0)).to_bytes(4, "big")


BAD_PLAINTEXTS = {
    "a record longer than its frame": header(197) + bytes(196),
    "a record of 2^31 - 1 bytes": header(2**31 - 1) + bytes(196),
    "a piece of 2^31 - 1 bytes": header(2**31 - 1, continues=True) + bytes(196),
    "a piece that continues before the end of a small frame": (
        header(195, continues=True) + bytes(196)
    ),
    "an empty piece": header(0, continues=True) + bytes(196),
    "an empty piece at the end of a large frame": (
        header(CAPACITY - 8) + bytes(CAPACITY - 8) + header(0, continues=True)
    ),
    "a piece that continues before the end": (
        header(CAPACITY - 10, continues=True) + bytes(CAPACITY - 4)
    ),
    "padding with a one at its end": bytes(199) + b"\1",
    "padding with a record behind it": bytes(8) + header(1) + b"x" + bytes(187),
    "a rest of three bytes that is not zero": header(193) + bytes(193) + b"\0\0\1",
}


@pytest.mark.parametrize("name", BAD_PLAINTEXTS)
def test_a_sealed_frame_with_bad_records_is_refused(name: str) -> None:
    plaintext = BAD_PLAINTEXTS[name]
    assert len(plaintext) in (200, CAPACITY)
    refuses(GOOD.responder, seal(GOOD.initiator, plaintext))


@pytest.mark.parametrize("size", [0, 4, 100, 199, 201])
def test_a_sealed_frame_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(SessionError, match="no frame"):
        GOOD.responder.received(seal(GOOD.initiator, bytes(size)))


def test_padding_of_up_to_three_bytes_is_padding() -> None:
    for rest in range(5):
        body = of_size(196 - rest)
        frame = seal(GOOD.initiator, header(len(body)) + body + bytes(rest))
        assert GOOD.responder.received(frame)[1] == (Delivered(body),)


@pytest.mark.parametrize("last_piece", ["continues", "ends"])
def test_what_is_put_together_is_bounded(last_piece: str) -> None:
    sender, receiver = GOOD.initiator, GOOD.responder
    piece = header(CAPACITY - 4, continues=True) + bytes(CAPACITY - 4)
    whole, rest = divmod(MESSAGE_BYTES_MAX, CAPACITY - 4)
    for _ in range(whole):
        state, frame = ratchet.encrypt(sender.ratchet, piece, sender.transcript)
        sender = sender._replace(ratchet=state)
        receiver, effects = receiver.received(frame)
        assert effects == ()
    if last_piece == "continues":
        plaintext = piece
    else:
        plaintext = (header(rest + 1) + bytes(rest + 1)).ljust(CAPACITY, b"\0")
    with pytest.raises(Breach, match="size bound"):
        receiver.received(seal(sender, plaintext))
    exact = (header(rest) + bytes(rest)).ljust(CAPACITY, b"\0")
    (delivered,) = receiver.received(seal(sender, exact))[1]
    assert len(delivered.message) == MESSAGE_BYTES_MAX


# --- the pace of the ratchet --------------------------------------------------------------------


def test_a_chatty_link_steps_once_in_so_many_frames() -> None:
    wire = Wire(GOOD)
    for _ in range(4 * RATCHET_MESSAGES):
        for end in (0, 1):
            wire.send(end, [b"x"])
            wire.deliver(1 - end, 1)
    wire.settle()
    assert 2 * 4 <= len(wire.keys) <= 2 * 6


def test_a_quiet_link_steps_as_time_passes() -> None:
    wire = Wire(GOOD)
    for _ in range(10):
        for end in (0, 1):
            before = wire.ends[end].ratchet.public
            wire.now += RATCHET_TICKS
            wire.send(end, [])
            wire.deliver(1 - end, 1)
            if wire.frames > 2:
                assert wire.ends[end].ratchet.public != before


def test_chatter_over_a_long_time_steps_as_time_passes() -> None:
    wire = Wire(GOOD)
    for _ in range(1000):
        wire.now += RATCHET_TICKS // 100
        for end in (0, 1):
            wire.send(end, [])
            wire.deliver(1 - end, 1)
    assert 2 * 9 <= len(wire.keys) <= 2 * 12


def test_steps_wait_until_they_are_due() -> None:
    wire = Wire(GOOD)
    for end in (0, 1, 0, 1):
        wire.send(end, [b"x"])
        wire.deliver(1 - end, 1)
    keys = len(wire.keys)
    wire.now += RATCHET_TICKS - 1
    for end in (0, 1, 0, 1):
        wire.send(end, [b"x"])
        wire.deliver(1 - end, 1)
    assert len(wire.keys) == keys
    wire.now += 1
    wire.send(0, [b"x"])
    wire.send(1, [b"x"])
    assert len(wire.keys) == keys + 1 or len(wire.keys) == keys + 2
    wire.settle()


def test_one_end_alone_keeps_its_key_and_its_words() -> None:
    """A step needs the peer's: without one, any number of frames stays on one chain."""
    wire = Wire(GOOD)
    for _ in range(3 * RATCHET_MESSAGES):
        wire.send(0, [b"x"])
    assert len(wire.keys) == 1
    wire.settle()


# --- records of the room ------------------------------------------------------------------------


def test_effects_are_plain_values(voices: Voices) -> None:
    assert Transmit(b"x").data == b"x"
    assert Delivered(voices.signed[FetchBody].raw).message == voices.signed[FetchBody].raw
    assert Opener(CLUSTER).open(ALICE.raw).message.name == "node 1"

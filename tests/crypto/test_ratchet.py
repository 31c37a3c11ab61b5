"""The Double Ratchet against the DoubleRatchet package, against a list, and against bad bytes."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aegis_edge.crypto import ratchet, sodium
from aegis_edge.crypto.ratchet import State
from aegis_edge.crypto.sodium import CryptoError
from tests.crypto.crypto_oracles import DoubleRatchetSide

AD = b"associated"
SHARED = b"\x5a" * 32
VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "ratchet.json").read_text())


def pair(dice: random.Random) -> tuple[State, State]:
    private = dice.randbytes(32)
    a = ratchet.initiator(SHARED, sodium.x25519_public(private), dice.randbytes(32))
    return a, ratchet.responder(SHARED, private)


def talking(dice: random.Random) -> tuple[State, State]:
    """Both sides after one message each way; neither owes a step but the initiator."""
    a, b = pair(dice)
    a, message = ratchet.encrypt(a, b"hello", AD)
    b, _ = ratchet.decrypt(b, message, AD)
    b, message = ratchet.encrypt(b, b"hello to you", AD, dice.randbytes(32))
    a, _ = ratchet.decrypt(a, message, AD)
    return a, b


def send_many(state: State, count: int) -> tuple[State, list[bytes]]:
    messages = []
    for number in range(count):
        state, message = ratchet.encrypt(state, b"%d" % number, AD)
        messages.append(message)
    return state, messages


# --- another implementation -----------------------------------------------------------------


@dataclass
class Ours:
    """This package's side, with the face of the other's; steps when the dice say so."""

    state: State
    dice: random.Random
    step_chance: float

    def encrypt(self, plaintext: bytes) -> bytes:
        step = self.state.sending_key is None or self.dice.random() < self.step_chance
        entropy = self.dice.randbytes(32) if step else None
        self.state, message = ratchet.encrypt(self.state, plaintext, AD, entropy)
        return message

    def decrypt(self, message: bytes) -> bytes:
        self.state, plaintext = ratchet.decrypt(self.state, message, AD)
        return plaintext


def meet(we_start: bool, dice: random.Random, step_chance: float) -> tuple[Ours, DoubleRatchetSide]:
    """Both sides, once the responder has read the first message."""
    private = dice.randbytes(32)
    theirs = DoubleRatchetSide(SHARED, lambda: dice.randbytes(32), AD)
    if we_start:
        public = sodium.x25519_public(private)
        ours = Ours(ratchet.initiator(SHARED, public, dice.randbytes(32)), dice, step_chance)
        assert theirs.first_received(private, ours.encrypt(b"first")) == b"first"
    else:
        ours = Ours(ratchet.responder(SHARED, private), dice, step_chance)
        assert ours.decrypt(theirs.first(sodium.x25519_public(private), b"first")) == b"first"
    return ours, theirs


@pytest.mark.parametrize("we_start", [True, False])
@pytest.mark.parametrize("step_chance", [0.0, 0.1, 1.0])
def test_talks_with_another_implementation_through_reordering_and_loss(
    we_start: bool, step_chance: float
) -> None:
    dice = random.Random(f"{we_start} {step_chance}")
    ours, theirs = meet(we_start, dice, step_chance)
    in_flight: list[tuple[bool, bytes, bytes]] = []
    delivered = lost = 0
    for number in range(1200):
        to_them = dice.random() < 0.5
        text = b"%d" % number * dice.randrange(1, 20)
        message = (ours if to_them else theirs).encrypt(text)
        in_flight.append((to_them, text, message))
        while len(in_flight) > dice.randrange(25):
            to_them, text, message = in_flight.pop(dice.randrange(len(in_flight)))
            if dice.random() < 0.1:
                lost += 1
                continue
            assert (theirs if to_them else ours).decrypt(message) == text
            delivered += 1
    assert delivered > 900
    assert lost > 50


@pytest.mark.parametrize("we_start", [True, False])
def test_the_other_implementation_takes_an_old_sending_chain_while_a_step_is_owed(
    we_start: bool,
) -> None:
    dice = random.Random(5)
    ours, theirs = meet(we_start, dice, 0.0)
    if we_start:
        assert ours.decrypt(theirs.encrypt(b"its new key")) == b"its new key"
    else:
        assert theirs.decrypt(ours.encrypt(b"our first key")) == b"our first key"
        assert ours.decrypt(theirs.encrypt(b"its new key")) == b"its new key"
    assert ours.state.step_owed
    key = ours.state.public
    sent = ours.state.sent_since_step
    for number in range(20):
        text = b"%d" % number
        assert theirs.decrypt(ours.encrypt(text)) == text
        assert ours.decrypt(theirs.encrypt(text)) == text
    assert (ours.state.public, ours.state.sent_since_step) == (key, sent + 20)
    ours.step_chance = 1.0
    assert theirs.decrypt(ours.encrypt(b"stepped")) == b"stepped"
    assert ours.state.public != key
    assert not ours.state.step_owed
    assert ours.state.sent_since_step == 1


@pytest.mark.parametrize("conversation", VECTORS["conversations"], ids=lambda c: str(c["name"]))
def test_known_answers(conversation: dict[str, object]) -> None:
    """A conversation that the DoubleRatchet package held with itself, byte for byte."""
    key = {
        name: bytes.fromhex(str(text))
        for name, text in conversation.items()
        if name not in ("name", "steps")
    }
    ad = key["associated_data"]
    sides = {
        "initiator": ratchet.initiator(
            key["shared_key"], sodium.x25519_public(key["responder"]), key["initiator"]
        ),
        "responder": ratchet.responder(key["shared_key"], key["responder"]),
    }
    steps = conversation["steps"]
    assert isinstance(steps, list)
    sealed = {}
    for step in steps:
        who, number = step["who"], step["number"]
        plaintext = bytes.fromhex(step["plaintext"])
        if step["does"] == "encrypts":
            entropy = step["entropy"] and bytes.fromhex(step["entropy"])
            sides[who], message = ratchet.encrypt(sides[who], plaintext, ad, entropy)
            assert message.hex() == step["message"]
            sealed[number] = message
        else:
            sides[who], read = ratchet.decrypt(sides[who], sealed[number], ad)
            assert read == plaintext


# --- a list as the model --------------------------------------------------------------------

GAP_MAX = 5
SKIPPED_MAX = 7


@dataclass(frozen=True)
class Sent:
    generation: int
    previous: int
    number: int
    text: bytes
    message: bytes


class Side:
    """A state, and beside it what a plain reading of the specification says that it holds."""

    def __init__(self, state: State, generation: int) -> None:
        self.state = state
        self.generation = generation  # of its own ratchet key; -1 before the first
        self.sent = 0
        self.sent_before = 0
        self.owed = False
        self.remote = -1  # generation of the peer's chain that it reads
        self.next = 0
        self.kept: list[tuple[int, int]] = []
        self.inbox: list[Sent] = []

    def takes(self, it: Sent) -> bool:
        """Whether the message is one that must be read; if so, note it as read."""
        if (it.generation, it.number) in self.kept:
            self.kept.remove((it.generation, it.number))
            return True
        kept = list(self.kept)
        remote, following = self.remote, self.next
        if it.generation > remote:
            assert it.generation == remote + 1, "a peer steps only after it has seen our step"
            if remote >= 0:
                if it.previous - following > GAP_MAX:
                    return False
                kept += [(remote, n) for n in range(following, it.previous)]
            remote, following = it.generation, 0
        if it.generation < remote or not 0 <= it.number - following <= GAP_MAX:
            return False
        kept += [(remote, n) for n in range(following, it.number)]
        self.owed = self.owed or remote != self.remote
        self.kept = kept[-SKIPPED_MAX:]
        self.remote, self.next = remote, it.number + 1
        return True


class RatchetAgainstList(RuleBasedStateMachine):
    """Loss, reordering, duplication, forgery and paced steps; the model foretells every verdict."""

    def __init__(self) -> None:
        super().__init__()
        self.serial = 0
        a, b = pair(random.Random(1))
        self.sides = [Side(a, 0), Side(b, -1)]

    def entropy(self) -> bytes:
        self.serial += 1
        return sodium.digest(b"entropy", b"%d" % self.serial)

    @rule(who=st.integers(0, 1), step=st.booleans(), count=st.integers(1, 4))
    def send(self, who: int, step: bool, count: int) -> None:
        side = self.sides[who]
        for _ in range(count):
            if side.generation < 0 and not (side.owed and step):
                return
            if side.owed and step:
                side.sent_before, side.sent = side.sent, 0
                side.generation += 1
                side.owed = False
            text = b"text %d" % self.serial
            entropy = self.entropy() if step else None
            side.state, message = ratchet.encrypt(side.state, text, AD, entropy)
            sent = Sent(side.generation, side.sent_before, side.sent, text, message)
            self.sides[1 - who].inbox.append(sent)
            side.sent += 1

    def waiting(self, data: st.DataObject) -> tuple[Side, Sent]:
        side = data.draw(st.sampled_from([s for s in self.sides if s.inbox]))
        return side, side.inbox[data.draw(st.integers(0, len(side.inbox) - 1))]

    def deliver(self, side: Side, sent: Sent) -> None:
        before, skipped = side.state, dict(side.state.skipped)
        try:
            side.state, text = ratchet.decrypt(
                side.state, sent.message, AD, gap_max=GAP_MAX, skipped_max=SKIPPED_MAX
            )
        except CryptoError:
            assert not side.takes(sent)
        else:
            assert side.takes(sent)
            assert text == sent.text
        assert before.skipped == skipped

    @precondition(lambda self: any(s.inbox for s in self.sides))
    @rule(data=st.data(), stays=st.booleans())
    def deliver_any(self, data: st.DataObject, stays: bool) -> None:
        """In any order; a message that stays comes again."""
        side, sent = self.waiting(data)
        self.deliver(side, sent)
        if not stays:
            side.inbox.remove(sent)

    @rule(who=st.integers(0, 1))
    def converse(self, who: int) -> None:
        """What is sent arrives at once, both ways, with a step each: new keys come into being."""
        for sender in (who, 1 - who):
            self.send(sender, True, 1)
            inbox = self.sides[1 - sender].inbox
            if inbox:
                self.deliver(self.sides[1 - sender], inbox[-1])

    @precondition(lambda self: any(s.inbox for s in self.sides))
    @rule(data=st.data())
    def forge(self, data: st.DataObject) -> None:
        side, sent = self.waiting(data)
        how = data.draw(st.sampled_from(["bit", "cut", "ad"]))
        message, ad = sent.message, AD
        if how == "bit":
            bit = data.draw(st.integers(0, 8 * len(message) - 1))
            changed = bytearray(message)
            changed[bit // 8] ^= 1 << bit % 8
            message = bytes(changed)
        elif how == "cut":
            message = message[: data.draw(st.integers(0, len(message) - 1))]
        else:
            ad += b"!"
        skipped = dict(side.state.skipped)
        with pytest.raises(CryptoError):
            ratchet.decrypt(side.state, message, ad, gap_max=GAP_MAX, skipped_max=SKIPPED_MAX)
        assert side.state.skipped == skipped

    @precondition(lambda self: any(s.inbox for s in self.sides))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        side, sent = self.waiting(data)
        side.inbox.remove(sent)

    @invariant()
    def the_state_says_what_the_model_says(self) -> None:
        for side in self.sides:
            assert side.state.step_owed == side.owed
            assert side.state.sent_since_step == side.sent
            assert side.state.received == side.next
            assert (side.state.sending_key is not None) == (side.generation >= 0)
            assert [int.from_bytes(key[32:], "big") for key in side.state.skipped] == [
                number for _, number in side.kept
            ]


RatchetAgainstList.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRatchetAgainstList = RatchetAgainstList.TestCase


# --- bounds ---------------------------------------------------------------------------------


def test_a_gap_is_bridged_up_to_the_bound_and_not_beyond() -> None:
    a, b = talking(random.Random(2))
    _, messages = send_many(a, 67)
    _, text = ratchet.decrypt(b, messages[64 + b.received - 1], AD)
    assert text == b"64"
    with pytest.raises(CryptoError, match="65 ratchet messages lost at once, 64 allowed"):
        ratchet.decrypt(b, messages[64 + b.received], AD)


def test_a_gap_at_the_end_of_the_peers_previous_chain_is_bounded_too() -> None:
    dice = random.Random(3)
    for lost, fits in ((64, True), (65, False)):
        a, b = talking(dice)
        a, _ = send_many(a, lost)
        b, message = ratchet.encrypt(b, b"", AD, dice.randbytes(32))
        a, _ = ratchet.decrypt(a, message, AD)
        a, message = ratchet.encrypt(a, b"new chain", AD, dice.randbytes(32))
        if fits:
            b, text = ratchet.decrypt(b, message, AD)
            assert text == b"new chain"
            assert len(b.skipped) == 64
        else:
            with pytest.raises(CryptoError, match="65 ratchet messages lost"):
                ratchet.decrypt(b, message, AD)


def test_the_store_of_skipped_keys_is_bounded_and_drops_the_oldest_first() -> None:
    a, b = talking(random.Random(4))
    read = b.received
    messages: list[bytes] = []
    for _ in range(5):
        a, chunk = send_many(a, 65)
        messages += chunk
        b, _ = ratchet.decrypt(b, chunk[64], AD)
    assert len(b.skipped) == 256
    missed = [m for n, m in enumerate(messages) if n % 65 != 64]
    for late in missed[: len(missed) - 256]:
        with pytest.raises(CryptoError, match="replayed, or later"):
            ratchet.decrypt(b, late, AD)
    for late in missed[len(missed) - 256 :]:
        b, _ = ratchet.decrypt(b, late, AD)
    assert b.skipped == {}
    assert b.received == read + len(messages)


def test_a_store_of_none_keeps_none() -> None:
    a, b = talking(random.Random(5))
    _, messages = send_many(a, 3)
    b, _ = ratchet.decrypt(b, messages[2], AD, skipped_max=0)
    assert b.skipped == {}


# --- what is refused ------------------------------------------------------------------------


def test_a_replay_is_refused_in_order_and_late() -> None:
    a, b = talking(random.Random(6))
    _, messages = send_many(a, 3)
    for number in (0, 2, 1):
        b, _ = ratchet.decrypt(b, messages[number], AD)
        with pytest.raises(CryptoError, match="replayed"):
            ratchet.decrypt(b, messages[number], AD)


def test_a_message_cut_off_or_changed_anywhere_is_refused_and_the_true_one_still_read() -> None:
    a, b = talking(random.Random(7))
    _, messages = send_many(a, 3)
    b, _ = ratchet.decrypt(b, messages[1], AD)  # so that there is a kept key to spoil as well
    for message in (messages[0], messages[2]):
        for size in range(ratchet.OVERHEAD_BYTES, len(message)):
            with pytest.raises(CryptoError):
                ratchet.decrypt(b, message[:size], AD)
        for size in range(ratchet.OVERHEAD_BYTES):
            with pytest.raises(CryptoError, match=f"of {size} bytes is cut off"):
                ratchet.decrypt(b, message[:size], AD)
        for bit in range(8 * len(message)):
            changed = bytearray(message)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CryptoError):
                ratchet.decrypt(b, bytes(changed), AD)
        with pytest.raises(CryptoError):
            ratchet.decrypt(b, message, b"other data")
        b, _ = ratchet.decrypt(b, message, AD)
    assert b.skipped == {}


def test_a_message_of_another_conversation_is_refused() -> None:
    a, _ = talking(random.Random(8))
    _, b = talking(random.Random(9))
    _, message = ratchet.encrypt(a, b"", AD)
    with pytest.raises(CryptoError):
        ratchet.decrypt(b, message, AD)


def test_a_message_reflected_to_its_sender_is_refused() -> None:
    a, b = talking(random.Random(10))
    for state in (a, b, pair(random.Random(10))[0]):
        following, message = ratchet.encrypt(state, b"", AD)
        with pytest.raises(CryptoError):
            ratchet.decrypt(following, message, AD)


@pytest.mark.parametrize("number", [0, 1])
def test_a_message_under_the_responders_first_key_is_refused(number: int) -> None:
    """Nobody ever sends under that key; the initiator has no chain to read it with."""
    a, _ = pair(random.Random(11))
    forged = a.remote_public + bytes(4) + number.to_bytes(4, "big") + bytes(20)
    with pytest.raises(CryptoError, match="never sends"):
        ratchet.decrypt(a, forged, AD)


def test_a_second_new_key_without_a_step_of_ours_is_refused() -> None:
    a, _ = talking(random.Random(12))
    assert a.step_owed
    with pytest.raises(CryptoError, match="not seen our next"):
        ratchet.decrypt(a, b"\x09" * 32 + bytes(8) + bytes(16), AD)


def test_keys_of_low_order_are_refused() -> None:
    _, b = talking(random.Random(13))
    assert not b.step_owed
    with pytest.raises(CryptoError, match="low order"):
        ratchet.decrypt(b, bytes(32) + bytes(8) + bytes(16), AD)
    for remote in (bytes(32), bytes(31)):
        with pytest.raises(CryptoError):
            ratchet.initiator(SHARED, remote, b"\x01" * 32)


# --- the state ------------------------------------------------------------------------------


def test_entropy_is_used_only_when_a_step_is_owed() -> None:
    a, b = talking(random.Random(14))
    following, _ = ratchet.encrypt(b, b"", AD, b"\x01" * 32)
    assert following.public == b.public
    following, _ = ratchet.encrypt(a, b"", AD, b"\x01" * 32)
    assert following.private == b"\x01" * 32
    assert not following.step_owed


def test_an_old_key_cannot_be_had_from_a_later_state() -> None:
    """Forward secrecy in the large: no secret of before is left after a step of each side."""
    dice = random.Random(15)
    a, b = talking(dice)
    old = {a.root_key, a.private, a.sending_key, b.root_key, b.private, b.sending_key}
    for _ in range(2):
        a, message = ratchet.encrypt(a, b"", AD, dice.randbytes(32))
        b, _ = ratchet.decrypt(b, message, AD)
        b, message = ratchet.encrypt(b, b"", AD, dice.randbytes(32))
        a, _ = ratchet.decrypt(a, message, AD)
    assert not old & {a.root_key, a.private, a.sending_key, a.receiving_key}
    assert not old & {b.root_key, b.private, b.sending_key, b.receiving_key}


def test_a_state_shows_no_secret() -> None:
    a, b = talking(random.Random(16))
    shown = repr(a) + repr(b)
    for state in (a, b):
        for secret in (state.root_key, state.private, state.sending_key, state.receiving_key):
            assert secret is not None
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown


def test_misuse_is_an_assertion() -> None:
    a, b = pair(random.Random(17))
    with pytest.raises(AssertionError, match="decrypted once"):
        ratchet.encrypt(b, b"", AD, b"\x01" * 32)
    with pytest.raises(AssertionError, match="32 bytes"):
        ratchet.responder(bytes(31), bytes(32))
    with pytest.raises(AssertionError, match="32 bytes"):
        ratchet.initiator(bytes(33), a.remote_public, bytes(32))
    with pytest.raises(AssertionError, match="used up"):
        ratchet.encrypt(a._replace(sent_since_step=2**32 - 1), b"", AD)

"""Noise: known answers, two other implementations in both roles, and everything that is refused."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aegis_edge.crypto import handshake, sodium
from aegis_edge.crypto.handshake import Cipher, Handshake
from aegis_edge.crypto.sodium import CryptoError
from tests.crypto.crypto_oracles import DissononceSide, NoiseProtocolSide

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "noise.json").read_text())
SUITES = list(product(("XX", "IK"), ("SHA256", "BLAKE2b")))
LOW_ORDER = bytes(32)


def sides(
    pattern: str, hash_name: str, dice: random.Random, prologue: bytes = b"cluster"
) -> list[Handshake]:
    """A fresh initiator and a fresh responder."""
    keys = [dice.randbytes(32) for _ in range(4)]
    known = sodium.x25519_public(keys[2]) if pattern == "IK" else None
    return [
        handshake.start(
            pattern,
            hash_name,
            initiator=True,
            prologue=prologue,
            static=keys[0],
            ephemeral=keys[1],
            remote_static=known,
        ),
        handshake.start(
            pattern,
            hash_name,
            initiator=False,
            prologue=prologue,
            static=keys[2],
            ephemeral=keys[3],
        ),
    ]


def run(
    pair: list[Handshake], payloads: tuple[bytes, ...] = (b"", b"two", b"three")
) -> list[bytes]:
    """Both sides, in place, to the end; the messages."""
    messages = []
    for payload in payloads:
        if pair[0].complete:
            break
        turn = 0 if pair[0].my_turn else 1
        pair[turn], message = pair[turn].write(payload)
        pair[1 - turn], read = pair[1 - turn].read(message)
        assert read == payload
        messages.append(message)
    return messages


# --- known answers --------------------------------------------------------------------------


def check_vector(vector: dict[str, Any]) -> None:
    """One vector in the format of cacophony and snow: every message, both ways, and the hash."""
    _, pattern, _, _, hash_name = vector["protocol_name"].split("_")
    pair = []
    for who in ("init", "resp"):
        remote_static = vector.get(f"{who}_remote_static")
        pair.append(
            handshake.start(
                pattern,
                hash_name,
                initiator=who == "init",
                prologue=bytes.fromhex(vector[f"{who}_prologue"]),
                static=bytes.fromhex(vector[f"{who}_static"]),
                ephemeral=bytes.fromhex(vector[f"{who}_ephemeral"]),
                remote_static=remote_static and bytes.fromhex(remote_static),
            )
        )
    ciphers: list[list[Cipher]] = []
    for number, entry in enumerate(vector["messages"]):
        payload, ciphertext = bytes.fromhex(entry["payload"]), bytes.fromhex(entry["ciphertext"])
        turn, other = number % 2, 1 - number % 2
        if not pair[0].complete:
            pair[turn], written = pair[turn].write(payload)
            pair[other], read = pair[other].read(ciphertext)
        else:
            ciphers = ciphers or [list(side.transport()) for side in pair]
            ciphers[turn][0], written = ciphers[turn][0].seal(payload)
            ciphers[other][1], read = ciphers[other][1].open(ciphertext)
        assert written == ciphertext
        assert read == payload
    assert ciphers, "a vector without transport messages shows no transport keys"
    assert pair[0].hash == pair[1].hash == bytes.fromhex(vector["handshake_hash"])


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: str(v["protocol_name"]))
def test_known_answers(vector: dict[str, Any]) -> None:
    check_vector(vector)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: str(v["protocol_name"]))
def test_the_known_answers_are_noiseprotocols(vector: dict[str, Any]) -> None:
    _, pattern, _, _, hash_name = vector["protocol_name"].split("_")
    pair = []
    for who in ("init", "resp"):
        remote_static = vector.get(f"{who}_remote_static")
        pair.append(
            NoiseProtocolSide(
                pattern,
                hash_name,
                initiator=who == "init",
                prologue=bytes.fromhex(vector[f"{who}_prologue"]),
                static=bytes.fromhex(vector[f"{who}_static"]),
                ephemeral=bytes.fromhex(vector[f"{who}_ephemeral"]),
                remote_static=remote_static and bytes.fromhex(remote_static),
            )
        )
    count = len(handshake.PATTERNS[pattern].messages)
    for number, entry in enumerate(vector["messages"]):
        turn, other = pair[number % 2], pair[1 - number % 2]
        payload, ciphertext = bytes.fromhex(entry["payload"]), bytes.fromhex(entry["ciphertext"])
        sealed = turn.write(payload) if number < count else turn.seal(payload)
        assert sealed == ciphertext
        assert (other.read if number < count else other.open)(sealed) == payload
    assert pair[0].hash.hex() == pair[1].hash.hex() == vector["handshake_hash"]


# --- other implementations ------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "hash_name"), SUITES)
@pytest.mark.parametrize("initiator", [True, False])
@pytest.mark.parametrize("theirs", [NoiseProtocolSide, DissononceSide])
def test_shakes_hands_with_another_implementation(
    pattern: str, hash_name: str, initiator: bool, theirs: Any
) -> None:
    if theirs is DissononceSide:
        pytest.importorskip("dissononce")
    dice = random.Random(f"{pattern} {hash_name} {initiator}")
    for _ in range(20):
        static, ephemeral, remote = (dice.randbytes(32) for _ in range(3))
        prologue = dice.randbytes(dice.randrange(60))
        known = pattern == "IK"
        us = handshake.start(
            pattern,
            hash_name,
            initiator=initiator,
            prologue=prologue,
            static=static,
            ephemeral=ephemeral,
            remote_static=sodium.x25519_public(remote) if known and initiator else None,
        )
        them = theirs(
            pattern,
            hash_name,
            initiator=not initiator,
            prologue=prologue,
            static=remote,
            remote_static=sodium.x25519_public(static) if known and not initiator else None,
        )
        while not us.complete:
            payload = dice.randbytes(dice.choice((0, 1, 100, 5000)))
            if us.my_turn:
                us, message = us.write(payload)
                assert them.read(message) == payload
            else:
                us, read = us.read(them.write(payload))
                assert read == payload
        assert us.hash == them.hash
        assert us.remote_static == sodium.x25519_public(remote)
        sending, receiving = us.transport()
        for _ in range(3):
            text = dice.randbytes(50)
            sending, sealed = sending.seal(text)
            assert them.open(sealed) == text
            receiving, opened = receiving.open(them.seal(text))
            assert opened == text


# --- one with itself ------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "hash_name"), SUITES)
def test_both_sides_end_with_the_same_hash_crossed_keys_and_each_others_statics(
    pattern: str, hash_name: str
) -> None:
    pair = sides(pattern, hash_name, random.Random(1))
    statics = [sodium.x25519_public(side.static) for side in pair]
    ephemerals = [sodium.x25519_public(side.ephemeral) for side in pair]
    messages = run(pair)
    assert len(messages) == {"XX": 3, "IK": 2}[pattern]
    a, b = pair
    assert a.complete and b.complete and not a.my_turn and not b.my_turn
    assert a.hash == b.hash
    assert len(a.hash) == {"SHA256": 32, "BLAKE2b": 64}[hash_name]
    assert (a.remote_static, b.remote_static) == (statics[1], statics[0])
    assert (a.remote_ephemeral, b.remote_ephemeral) == (ephemerals[1], ephemerals[0])
    assert a.split() == b.split()[::-1]
    assert a.split()[0] != a.split()[1]
    assert {len(key) for key in a.split()} == {32}


def test_statics_travel_encrypted() -> None:
    pair = sides("XX", "SHA256", random.Random(2))
    statics = [sodium.x25519_public(side.static) for side in pair]
    wire = b"".join(run(pair))
    assert not any(public in wire for public in statics)


def test_a_state_shows_no_secret() -> None:
    pair = sides("XX", "SHA256", random.Random(3))
    run(pair)
    for side in pair:
        shown = repr(side) + repr(side.transport())
        secrets = [side.static, side.ephemeral, side.symmetric.chaining_key, *side.split()]
        assert not any(repr(s)[2:-1] in shown or s.hex() in shown for s in secrets)


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "hash_name"), SUITES)
def test_a_message_cut_off_or_changed_is_refused_and_the_state_still_takes_the_true_one(
    pattern: str, hash_name: str
) -> None:
    pair = sides(pattern, hash_name, random.Random(4))
    for number, row in enumerate(pair[0].pattern.messages):
        turn, other = number % 2, 1 - number % 2
        following, message = pair[turn].write(b"payload")
        waiting = pair[other]
        # The first message of XX has no key to protect its end: that shows one message later.
        open_end = 7 if row == ("e",) else 0
        for cut in range(len(message) - open_end):
            with pytest.raises(CryptoError):
                waiting.read(message[:cut])
        for position in range(0, len(message) - open_end, 3):
            if row == ("e",):
                continue
            changed = bytearray(message)
            changed[position] ^= 1 << position % 8
            with pytest.raises(CryptoError):
                waiting.read(bytes(changed))
        assert pair[other] is waiting
        pair[turn] = following
        pair[other], payload = waiting.read(message)
        assert payload == b"payload"
    assert pair[0].hash == pair[1].hash


def test_a_first_message_of_xx_that_was_changed_shows_at_the_second() -> None:
    for change in (0, 31, 32):
        a, b = sides("XX", "BLAKE2b", random.Random(5))
        a, message = a.write(b"x")
        changed = bytearray(message)
        changed[change] ^= 1
        b, _ = b.read(bytes(changed))
        b, answer = b.write(b"")
        with pytest.raises(CryptoError, match="tag"):
            a.read(answer)


@pytest.mark.parametrize("pattern", ["XX", "IK"])
def test_another_prologue_is_another_transcript(pattern: str) -> None:
    a, _ = sides(pattern, "SHA256", random.Random(6), prologue=b"one cluster")
    _, b = sides(pattern, "SHA256", random.Random(6), prologue=b"another")
    a, first = a.write(b"")
    if pattern == "IK":
        with pytest.raises(CryptoError, match="tag"):
            b.read(first)
        return
    b, _ = b.read(first)
    b, second = b.write(b"")
    with pytest.raises(CryptoError, match="tag"):
        a.read(second)


@pytest.mark.parametrize(("pattern", "hash_name"), SUITES)
def test_messages_of_another_handshake_are_refused(pattern: str, hash_name: str) -> None:
    """Same peers, same statics, same place in the pattern; only the ephemeral keys differ."""
    pair = sides(pattern, hash_name, random.Random(7))
    recorded = run(list(pair))
    fresh = [
        handshake.start(
            pattern,
            hash_name,
            initiator=side.initiator,
            prologue=b"cluster",
            static=side.static,
            ephemeral=bytes((7,)) * 32,
            remote_static=side.remote_static,
        )
        for side in pair
    ]
    for number in range(len(recorded)):
        turn, other = number % 2, 1 - number % 2
        if number:  # a first message may be replayed: nothing fresh of the responder is in it
            with pytest.raises(CryptoError):
                fresh[other].read(recorded[number])
        fresh[turn], message = fresh[turn].write(b"")
        fresh[other], _ = fresh[other].read(message)
    assert fresh[0].complete


def test_a_replayed_first_message_of_ik_yields_no_session() -> None:
    pair = sides("IK", "SHA256", random.Random(8))
    first, second = run(list(pair))
    again = sides("IK", "SHA256", random.Random(8))[1]
    responder = handshake.start(
        "IK",
        "SHA256",
        initiator=False,
        prologue=b"cluster",
        static=again.static,
        ephemeral=bytes((8,)) * 32,
    )
    responder, _ = responder.read(first)
    responder, answer = responder.write(b"")
    run(pair)
    assert answer != second
    assert not set(responder.split()) & set(pair[1].split())


@pytest.mark.parametrize("pattern", ["XX", "IK"])
def test_messages_out_of_turn_are_refused(pattern: str) -> None:
    pair = sides(pattern, "SHA256", random.Random(9))
    recorded = run(list(pair))
    with pytest.raises(CryptoError, match="nobody waits"):
        pair[0].read(recorded[1])  # before its own first
    if pattern == "IK":  # in XX any 32 bytes open a handshake: nothing is authentic yet
        with pytest.raises(CryptoError):
            pair[1].read(recorded[1])  # the second in place of the first
    waiting, _ = pair[0].write(b"")
    with pytest.raises(CryptoError):
        waiting.read(recorded[0])  # the first, reflected, in place of the second
    run(pair)
    for side, message in product(pair, recorded):
        with pytest.raises(CryptoError, match="nobody waits"):
            side.read(message)  # after the end


def test_a_message_longer_than_noise_allows_is_refused() -> None:
    _, b = sides("XX", "SHA256", random.Random(10))
    with pytest.raises(CryptoError, match="too long"):
        b.read(bytes(65536))


@pytest.mark.parametrize(("pattern", "hash_name"), SUITES)
def test_a_low_order_ephemeral_is_refused_when_it_arrives(pattern: str, hash_name: str) -> None:
    a, b = sides(pattern, hash_name, random.Random(11))
    a, first = a.write(b"")
    with pytest.raises(CryptoError, match="low order"):
        b.read(LOW_ORDER + first[32:])
    b, _ = b.read(first)
    _, second = b.write(b"")
    with pytest.raises(CryptoError, match="low order"):
        a.read(LOW_ORDER + second[32:])


@pytest.mark.parametrize("pattern", ["XX", "IK"])
def test_a_low_order_static_is_refused_although_it_is_sealed_rightly(pattern: str) -> None:
    a, b = sides(pattern, "SHA256", random.Random(12))
    if pattern == "XX":
        a, first = a.write(b"")
        b, _ = b.read(first)
        b, second = b.write(b"")
        a, _ = a.read(second)
        _, sealed = a.symmetric.seal(LOW_ORDER)
        message = sealed + bytes(16)
    else:
        public = sodium.x25519_public(a.ephemeral)
        assert a.remote_static is not None
        symmetric = a.symmetric.mix_hash(public)
        symmetric = symmetric.mix_key(sodium.x25519(a.ephemeral, a.remote_static))
        _, sealed = symmetric.seal(LOW_ORDER)
        message = public + sealed + bytes(16)
    with pytest.raises(CryptoError, match="low order"):
        b.read(message)


@pytest.mark.parametrize("remote_static", [LOW_ORDER, bytes(31), bytes(33)])
def test_ik_does_not_start_towards_a_key_that_is_none(remote_static: bytes) -> None:
    with pytest.raises(CryptoError):
        handshake.start(
            "IK",
            "SHA256",
            initiator=True,
            prologue=b"",
            static=bytes(32),
            ephemeral=bytes(32),
            remote_static=remote_static,
        )


# --- our own bugs ---------------------------------------------------------------------------


def test_misuse_is_an_assertion() -> None:
    a, b = sides("XX", "SHA256", random.Random(13))
    with pytest.raises(AssertionError, match="turn"):
        b.write(b"")
    with pytest.raises(AssertionError, match="not complete"):
        a.split()
    with pytest.raises(AssertionError, match="does not fit"):
        a.write(bytes(65504))
    assert len(a.write(bytes(65503))[1]) == 65535
    key = bytes(32)
    for pattern, initiator, known in (("XX", True, key), ("IK", True, None), ("IK", False, key)):
        with pytest.raises(AssertionError, match="IK alone"):
            handshake.start(
                pattern,
                "SHA256",
                initiator=initiator,
                prologue=b"",
                static=key,
                ephemeral=key,
                remote_static=known,
            )
    with pytest.raises(AssertionError, match="32 bytes"):
        handshake.start("XX", "SHA256", initiator=True, prologue=b"", static=key, ephemeral=b"")


# --- the transport cipher -------------------------------------------------------------------


def test_a_cipher_takes_its_messages_in_order_and_once() -> None:
    sender = receiver = Cipher(bytes(32))
    sealed = []
    for text in (b"one", b"two", b"three"):
        sender, message = sender.seal(text, b"ad")
        sealed.append(message)
    for wrong in (sealed[1], sealed[2], sealed[0][:-1], sealed[0][:5], b""):
        with pytest.raises(CryptoError):
            receiver.open(wrong, b"ad")
    with pytest.raises(CryptoError):
        receiver.open(sealed[0], b"another ad")
    receiver, text = receiver.open(sealed[0], b"ad")
    assert text == b"one"
    with pytest.raises(CryptoError):
        receiver.open(sealed[0], b"ad")
    receiver, text = receiver.open(sealed[1], b"ad")
    assert (text, receiver.nonce) == (b"two", 2)


def test_a_cipher_without_a_key_passes_bytes_through() -> None:
    bare = Cipher()
    assert bare.seal(b"x") == (bare, b"x")
    assert bare.open(b"x") == (bare, b"x")


def test_a_cipher_never_uses_the_last_nonce() -> None:
    last = Cipher(bytes(32), 2**64 - 2)
    spent, _ = last.seal(b"")
    with pytest.raises(CryptoError, match="new handshake"):
        spent.seal(b"")
    with pytest.raises(CryptoError, match="new handshake"):
        spent.open(bytes(16))

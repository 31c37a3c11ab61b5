"""Envelopes: one form, one purpose, one cluster; and another COSE library agrees."""

from __future__ import annotations

import ast
import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import Sign1Message

import aegis_edge
from aegis_edge.crypto import sodium
from aegis_edge.wire import codec, envelope
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import NESTING_MAX, Opener, Signer, external_aad
from aegis_edge.wire.messages import (
    COUNTER_MAX,
    SIGNED,
    Bundle,
    Checkpoint,
    Commit,
    FetchBody,
    NewView,
    NodeRecord,
    Prepare,
    PrePrepare,
    Signed,
    Verified,
    ViewChange,
    mint,
)
from tests.wire.conftest import CLUSTER, Voices, blob

SEED = blob(1)
KINDS = list(SIGNED.values())


def named(kind: type[Signed]) -> str:
    return kind.__name__


# --- what one node signs, another opens -----------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_every_kind_is_opened_as_it_was_signed(kind: type[Signed], voices: Voices) -> None:
    verified = voices.signed[kind]
    opened = voices.opener().open(verified.raw)
    assert opened == verified
    assert opened.message == verified.message
    assert opened.signer == verified.signer
    assert opened.raw == verified.raw


@pytest.mark.parametrize("size", [1, 20, 24, 180, 200, 255, 256, 65_000, 66_000, 300_000])
def test_payloads_of_every_width_of_length(size: int) -> None:
    verified = Signer(SEED, CLUSTER).sign(Bundle(1, 1, (bytes(size),)))
    assert Opener(CLUSTER).open(verified.raw).message == verified.message
    assert codec.decode(verified.raw)[2] == codec.encode((2, 1, 1, (bytes(size),)))


def test_the_shortest_payload() -> None:
    """A payload of fewer than 24 bytes has its length in the head: signed as strictly."""
    signer = Signer(SEED, CLUSTER)
    raw = forge(SEED, signer.public, codec.encode((5, 1)), external_aad(5, CLUSTER))
    with pytest.raises(WireError, match="fields"):
        Opener(CLUSTER).open(raw)


# --- another library --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_pycose_verifies_what_we_sign(kind: type[Signed], voices: Voices) -> None:
    verified = voices.signed[kind]
    message = Sign1Message.from_cose_obj(cbor2.loads(verified.raw), True)
    message.key = OKPKey(crv=Ed25519, x=verified.signer)
    message.external_aad = external_aad(kind.TAG, CLUSTER)
    assert message.verify_signature()
    assert message.phdr == {Algorithm: EdDSA, KID: verified.signer}
    assert message.uhdr == {}
    message.external_aad = external_aad(kind.TAG % 11 + 1, CLUSTER)
    assert not message.verify_signature()


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_we_open_what_pycose_signs(kind: type[Signed], voices: Voices) -> None:
    public, _ = sodium.ed25519_keypair(SEED)
    original = voices.signed[kind].message
    message = Sign1Message(
        phdr={Algorithm: EdDSA, KID: public},
        payload=codec.encode((kind.TAG, *original.fields())),
        external_aad=external_aad(kind.TAG, CLUSTER),
        key=OKPKey(crv=Ed25519, x=public, d=SEED),
    )
    raw = message.encode(tag=False)
    opened = voices.opener().open(raw)
    assert opened.message == original
    assert opened.signer == public
    assert raw == Signer(SEED, CLUSTER).sign(original).raw


# --- forgeries ------------------------------------------------------------------------------


def forge(
    seed: bytes,
    kid: bytes,
    payload: bytes,
    aad: bytes,
    *,
    protected: bytes | None = None,
    unprotected: Any = None,
) -> bytes:
    """An envelope as an attacker with a key might build it."""
    _, secret = sodium.ed25519_keypair(seed)
    header = codec.encode({1: -8, 4: kid}) if protected is None else protected
    covered = codec.encode(("Signature1", header, aad, payload))
    signature = sodium.ed25519_sign(secret, covered)
    return cbor2.dumps([header, unprotected or {}, payload, signature])


FIELDS = (5, 0, 0, 1, blob(7), 9)
AAD = external_aad(5, CLUSTER)


def test_the_forger_can_build_a_good_envelope() -> None:
    """Else the refusals below would prove nothing."""
    public, _ = sodium.ed25519_keypair(SEED)
    raw = forge(SEED, public, codec.encode(FIELDS), AAD)
    assert Opener(CLUSTER).open(raw).message == Commit(0, 0, 1, blob(7), 9)


def bad_envelopes() -> dict[str, bytes]:
    public, _ = sodium.ed25519_keypair(SEED)
    payload = codec.encode(FIELDS)
    header = codec.encode({1: -8, 4: public})
    good = forge(SEED, public, payload, AAD)

    def with_header(data: bytes) -> bytes:
        return forge(SEED, public, payload, AAD, protected=data)

    signature_at = len(good) - 64
    return {
        "another key than the signer's": forge(SEED, blob(3), payload, AAD),
        "a kid of 31 bytes": forge(SEED, public[:31], payload, AAD),
        "a kid of 33 bytes": forge(SEED, public + b"x", payload, AAD),
        "no kid": with_header(codec.encode({1: -8})),
        "no algorithm": with_header(codec.encode({4: public})),
        "another algorithm": with_header(codec.encode({1: -7, 4: public})),
        "a further header": with_header(codec.encode({1: -8, 4: public, 5: 0})),
        "a header in another order": with_header(b"\xa2\x04\x58\x20" + public + b"\x01\x27"),
        "an algorithm in two bytes": with_header(b"\xa2\x01\x38\x07\x04\x58\x20" + public),
        "an empty header": with_header(b""),
        "an unprotected header": forge(SEED, public, payload, AAD, unprotected={4: public}),
        "an unprotected null": good.replace(header + b"\xa0", header + b"\xf6"),
        "COSE tag 18": b"\xd2" + good,
        "a byte after it": good + b"\0",
        "the last byte missing": good[:-1],
        "three items": b"\x83" + good[1:],
        "five items": b"\x85" + good[1:] + b"\0",
        "an indefinite array": b"\x9f" + good[1:] + b"\xff",
        "a detached payload": codec.encode((header, {}, None, good[-64:])),
        "a text as payload": codec.encode((header, {}, "x" * 60, good[-64:])),
        "a payload of 2^64 - 1 bytes": good[:42] + b"\x5b" + b"\xff" * 8 + good[44:],
        "a payload of 2^32 - 1 bytes": good[:42] + b"\x5a" + b"\xff" * 4 + good[44:],
        "a length in two bytes that fits one": good[:42] + b"\x59\0" + good[43:],
        "a length in four bytes that fits one": good[:42] + b"\x5a\0\0\0" + good[43:],
        "a length in one byte that fits the head": (
            forge(SEED, public, codec.encode((5, 1)), AAD).replace(b"\xa0\x43", b"\xa0\x58\x03")
        ),
        "an indefinite payload": good[:42] + b"\x5f" + good[42:] + b"\xff",
        "a signature of 63 bytes": good[: signature_at - 2] + b"\x58\x3f" + good[-63:],
        "a signature of 65 bytes": good[: signature_at - 2] + b"\x58\x41" + good[-64:] + b"x",
        "a signature as text": good[: signature_at - 2] + b"\x78\x40" + b"x" * 64,
        "a signature of zeros": good[:-64] + bytes(64),
        "a changed signature": good[:-1] + bytes((good[-1] ^ 1,)),
        "the signature's S not reduced": good[:-32] + lift(good[-32:]),
        "a key of small order": small_order(good),
        "a changed payload": good[:60] + b"\xff" + good[61:],
        "nothing": b"",
        "one byte": b"\x84",
        "an array of four nothings": codec.encode((b"", {}, b"", b"")),
        "zeros": bytes(200),
    } | bad_payloads()


def bad_payloads() -> dict[str, bytes]:
    """Good signatures on what is no message."""
    public, _ = sodium.ed25519_keypair(SEED)
    payload = codec.encode(FIELDS)

    def with_payload(value: Any) -> bytes:
        data = value if isinstance(value, bytes) else codec.encode(value)
        return forge(SEED, public, data, AAD)

    return {
        "another kind of the same shape": with_payload((4, *FIELDS[1:])),
        "tag 0": with_payload((0, *FIELDS[1:])),
        "tag 12": with_payload((12, *FIELDS[1:])),
        "tag 24": with_payload((24, *FIELDS[1:])),
        "a negative tag": with_payload((-6, *FIELDS[1:])),
        "a tag in two bytes": with_payload(b"\x86\x18\x05" + payload[2:]),
        "an array's length in two bytes": with_payload(b"\x98\x06" + payload[1:]),
        "an array's length that looks like the tag": with_payload(b"\x98\x05" + payload[1:]),
        "an indefinite array of fields": with_payload(b"\x9f" + payload[1:] + b"\xff"),
        "fields in a map": with_payload({5: 0}),
        "fields in a byte string": with_payload(b"\x45\x05" + b"x" * 4),
        "a number alone": with_payload(b"\x18\x05"),
        "an empty array": with_payload(b"\x80\x05"),
        "an empty payload": with_payload(b""),
        "a payload of one byte": with_payload(b"\x05"),
        "too few fields": with_payload(FIELDS[:-1]),
        "too many fields": with_payload((*FIELDS, 0)),
        "a field of another type": with_payload((*FIELDS[:-1], "9")),
        "bytes after the fields": with_payload(payload + b"\0"),
    }


def lift(s: bytes) -> bytes:
    """S plus the order of the group: the same signature in another form (RFC 8032, 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    return (int.from_bytes(s, "little") + order).to_bytes(32, "little")


def small_order(good: bytes) -> bytes:
    """The neutral point as key and as R, S zero: satisfies the equation for every message."""
    neutral = b"\x01" + bytes(31)
    return good.replace(good[9:41], neutral)[:-64] + neutral + bytes(32)


@pytest.mark.parametrize("name", bad_envelopes())
def test_what_is_not_exactly_our_form_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        Opener(CLUSTER).open(bad_envelopes()[name])


#: Those that only the signature gives away.
FALSE_ALONE = {
    "another key than the signer's",
    "a signature of zeros",
    "a changed signature",
    "the signature's S not reduced",
    "a key of small order",
    "a changed payload",
    "another kind of the same shape",
}


@pytest.mark.parametrize("name", sorted(bad_envelopes().keys() - FALSE_ALONE))
def test_another_form_is_refused_whatever_was_signed(name: str) -> None:
    """A signer may well sign another form of its own message: there is one form only."""
    with pytest.raises(WireError):
        Opener(CLUSTER, verify=lambda *_: True).open(bad_envelopes()[name])


@pytest.mark.parametrize("head", [0x1A, 0x5B, 0x5E, 0x5F, 0x7A, 0x9A, 0xBA, 0xDA, 0xFF])
def test_a_large_payload_is_a_byte_string(head: int) -> None:
    raw = Signer(SEED, CLUSTER).sign(Bundle(1, 1, (bytes(70_000),))).raw
    opener = Opener(CLUSTER, verify=lambda *_: True)
    assert opener.open(raw).raw == raw
    assert raw[42] == 0x5A
    with pytest.raises(WireError, match="not a signed envelope"):
        opener.open(raw[:42] + bytes((head,)) + raw[43:])


def test_signatures_do_not_serve_another_purpose() -> None:
    """Other kind, other cluster, other protocol version, no domain at all: refused."""
    public, _ = sodium.ed25519_keypair(SEED)
    opener = Opener(CLUSTER)
    fields = (0, 0, 1, blob(7))
    for other in (
        external_aad(PrePrepare.TAG, CLUSTER),
        external_aad(Prepare.TAG, blob(0)),
        codec.encode(("aegis-edge", envelope.PROTOCOL_VERSION + 1, Prepare.TAG, CLUSTER)),
        codec.encode(("aegis-edge", envelope.PROTOCOL_VERSION, Prepare.TAG, b"")),
        codec.encode(("other-edge", envelope.PROTOCOL_VERSION, Prepare.TAG, CLUSTER)),
        b"",
    ):
        with pytest.raises(WireError, match="signature"):
            opener.open(forge(SEED, public, codec.encode((Prepare.TAG, *fields)), other))


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_only_node_records_leave_their_cluster(kind: type[Signed], voices: Voices) -> None:
    stranger = Opener(blob(0))
    raw = voices.signed[kind].raw
    if kind is NodeRecord:
        assert stranger.open(raw) == voices.signed[kind]
    else:
        with pytest.raises(WireError, match="signature"):
            stranger.open(raw)


@given(data=st.data())
@settings(max_examples=300)
def test_any_damage_is_refused(data: st.DataObject, voices: Voices) -> None:
    verified = voices.signed[data.draw(st.sampled_from([Commit, Checkpoint, ViewChange]))]
    raw = bytearray(verified.raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    if bytes(raw) == verified.raw:
        return
    with pytest.raises(WireError):
        voices.opener().open(bytes(raw))


@given(st.binary(max_size=250))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Opener(CLUSTER, verify=lambda *_: False).open(data)


@given(st.binary(min_size=2, max_size=80))
def test_any_payload_is_a_message_or_a_wire_error(payload: bytes) -> None:
    """Behind a good signature as well."""
    opener = Opener(CLUSTER, verify=lambda *_: True)
    for tag in SIGNED:
        for body in (payload, b"\x86" + bytes((tag,)) + payload):
            try:
                opener.open(codec.encode((codec.encode({1: -8, 4: blob(1)}), {}, body, bytes(64))))
            except WireError:
                continue


# --- envelopes in envelopes -------------------------------------------------------------------


def test_a_forged_envelope_inside_a_good_one_is_refused(voices: Voices) -> None:
    view_change = voices.signed[ViewChange].message
    inner = view_change.stable[0]
    broken = inner.raw[:-1] + bytes((inner.raw[-1] ^ 1,))
    signer = voices.signers[0]
    fields = (7, 0, 4, 64, (broken,), ())
    raw = forge(SEED, signer.public, codec.encode(fields), external_aad(7, CLUSTER))
    with pytest.raises(WireError, match="signature"):
        voices.opener().open(raw)


def test_nesting_is_bounded(voices: Voices) -> None:
    """View changes in view changes, where checkpoints belong: refused before they are opened."""
    checks = 0

    def verify(public: bytes, covered: bytes, signature: bytes) -> bool:
        nonlocal checks
        checks += 1
        return sodium.ed25519_verify(public, covered, signature)

    public = voices.signers[0].public
    raw = voices.signed[Checkpoint].raw
    for _ in range(20):
        fields = (7, 0, 4, 64, (raw,), ())
        raw = forge(SEED, public, codec.encode(fields), external_aad(7, CLUSTER))
    with pytest.raises(WireError, match="nested"):
        Opener(CLUSTER, verify=verify).open(raw)
    assert checks == NESTING_MAX


def test_the_deepest_message_of_the_vocabulary_fits(voices: Voices) -> None:
    new_view = voices.opener().open(voices.signed[NewView].raw)
    assert new_view.message.view_changes[0].message.stable[0].message.sequence == 64


# --- the memory of good envelopes -------------------------------------------------------------


class Counting:
    """A verify function that counts what it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, public: bytes, covered: bytes, signature: bytes) -> bool:
        self.calls += 1
        return sodium.ed25519_verify(public, covered, signature)


def votes(count: int, digest_bytes: bytes = blob(7)) -> list[Verified[Prepare]]:
    signer = Signer(SEED, CLUSTER)
    return [signer.sign(Prepare(0, 0, number, digest_bytes)) for number in range(1, count + 1)]


def test_the_same_bytes_are_checked_once() -> None:
    verify = Counting()
    opener = Opener(CLUSTER, verify=verify)
    (vote,) = votes(1)
    first = opener.open(vote.raw)
    assert opener.open(bytes(bytearray(vote.raw))) is first
    assert verify.calls == 1


def test_own_envelopes_need_no_check() -> None:
    verify = Counting()
    opener = Opener(CLUSTER, verify=verify)
    (vote,) = votes(1)
    opener.learn(vote)
    assert opener.open(vote.raw) is vote
    assert verify.calls == 0


def test_what_a_learning_signer_signs_needs_no_check() -> None:
    checked: list[bytes] = []
    opener = Opener(CLUSTER, verify=lambda key, *_: bool(checked.append(key)))
    signer = envelope.LearningSigner(Signer(SEED, CLUSTER), opener)
    signed = signer.sign(Prepare(0, 0, 1, blob(7)))
    assert signed.signer == signer.public == Signer(SEED, CLUSTER).public
    assert opener.open(signed.raw) == signed
    assert checked == []


def test_a_refused_envelope_is_not_remembered() -> None:
    answers = [False, True]
    opener = Opener(CLUSTER, verify=lambda *_: answers.pop(0))
    (vote,) = votes(1)
    with pytest.raises(WireError):
        opener.open(vote.raw)
    assert opener.open(vote.raw).message == vote.message
    assert answers == []


def test_the_memory_is_bounded_by_count_and_keeps_what_is_used() -> None:
    verify = Counting()
    opener = Opener(CLUSTER, verify=verify, memo_size=8)
    used, *others = votes(40)
    for vote in others:
        opener.open(used.raw)
        opener.open(vote.raw)
    assert verify.calls == 40
    assert len(opener._young) + len(opener._old) <= 8
    opener.open(others[0].raw)
    assert verify.calls == 41, "the oldest is forgotten"


def test_the_memory_is_bounded_by_bytes() -> None:
    signer = Signer(SEED, CLUSTER)
    verify = Counting()
    opener = Opener(CLUSTER, verify=verify, memo_bytes=20_000)
    for number in range(1, 30):
        opener.open(signer.sign(Bundle(1, number, (bytes(3000),))).raw)
    kept = [*opener._young, *opener._old]
    assert kept
    assert sum(map(len, kept)) <= 20_000
    large = signer.sign(Bundle(1, 99, (bytes(12_000),)))
    opener.open(large.raw)
    opener.open(large.raw)
    assert verify.calls == 31, "what is larger than half of the memory is not kept"


# --- only a check makes a Verified --------------------------------------------------------------


def test_nobody_else_makes_a_verified(voices: Voices) -> None:
    vote = voices.signed[Prepare]
    with pytest.raises(TypeError, match="only the check"):
        Verified(vote.message, vote.signer, vote.raw)
    with pytest.raises(TypeError):
        replace(vote, signer=blob(0))  # type: ignore[type-var]


def test_a_verified_never_changes(voices: Voices) -> None:
    vote = voices.signed[Prepare]
    for name in ("message", "signer", "raw", "more"):
        with pytest.raises(AttributeError):
            setattr(vote, name, b"")
    with pytest.raises(AttributeError):
        del vote.raw
    with pytest.raises(FrozenInstanceError):
        vote.message.view = 7
    for copier in (copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))):
        with pytest.raises((AttributeError, TypeError)):
            copier(vote)


def test_a_verified_is_its_bytes(voices: Voices) -> None:
    vote = voices.signed[Prepare]
    again = voices.opener().open(vote.raw)
    assert again is not vote
    assert again == vote
    assert hash(again) == hash(vote)
    assert vote != voices.signed[Commit]
    assert vote != vote.raw
    assert "Prepare" in repr(vote)
    assert len(repr(voices.signed[FetchBody])) < 300


def test_mint_is_called_by_the_envelope_alone() -> None:
    assert mint.__module__ == "aegis_edge.wire.messages"
    root = Path(aegis_edge.__file__).parent
    callers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if "mint" in (getattr(node, "id", ""), getattr(node, "attr", "")):
                callers.add(path.relative_to(root).as_posix())
    assert callers == {"wire/envelope.py"}


def test_a_field_without_an_encoding_cannot_be_signed() -> None:
    with pytest.raises(WireError):
        Signer(SEED, CLUSTER).sign(Prepare(0, 0, 2**64, blob(7)))


def test_sign_and_verify_can_be_replaced() -> None:
    """As the simulator does it."""

    def sign(secret: bytes, covered: bytes) -> bytes:
        return sodium.digest(b"test", secret[32:] + covered) * 2

    def verify(public: bytes, covered: bytes, signature: bytes) -> bool:
        return sodium.digest(b"test", public + covered) * 2 == signature

    vote = Signer(SEED, CLUSTER, sign=sign).sign(Prepare(0, 0, 1, blob(7)))
    assert Opener(CLUSTER, verify=verify).open(vote.raw) == vote
    with pytest.raises(WireError):
        Opener(CLUSTER).open(vote.raw)


# --- claims before the check ----------------------------------------------------------------

CLAIMING = tuple(kind.TAG for kind in (Prepare, Commit, ViewChange, NewView))


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_votes_and_view_changes_claim_something(kind: type[Signed], voices: Voices) -> None:
    verified = voices.signed[kind]
    claim = envelope.claimed(verified.raw)
    if kind in (Prepare, Commit):
        assert claim == (kind.TAG, verified.signer, verified.message.fields())
    elif kind in (ViewChange, NewView):
        assert claim == (kind.TAG, verified.signer, verified.message.fields()[:2])
    else:
        assert claim is None


def test_a_claim_has_the_largest_numbers() -> None:
    change = ViewChange(COUNTER_MAX, COUNTER_MAX, 0, (), ())
    claim = envelope.claimed(Signer(SEED, CLUSTER).sign(change).raw)
    assert claim is not None
    assert claim.fields == (COUNTER_MAX, COUNTER_MAX)


def test_a_commit_that_says_who_follows_claims_it_however_large_its_numbers() -> None:
    for top in (1, COUNTER_MAX):
        commit = Commit(top, top, top, blob(3), top, blob(4))
        claim = envelope.claimed(Signer(SEED, CLUSTER).sign(commit).raw)
        assert claim is not None
        assert claim.fields == commit.fields()


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_claim_is_total(noise: bytes, at: int) -> None:
    raw = Signer(SEED, CLUSTER).sign(Commit(0, 1, 2, blob(3), 4)).raw
    for data in (noise, raw[:at] + noise, raw[:at] + noise + raw[at + len(noise) :], raw[:at]):
        claim = envelope.claimed(data)
        assert claim is None or claim.tag in CLAIMING


def test_a_claim_of_another_shape_is_none() -> None:
    raw = Signer(SEED, CLUSTER).sign(Commit(0, 1, 2, blob(3), 4)).raw
    numbers = raw.index(bytes((0x86, Commit.TAG, 0, 1, 2)))
    text = raw[: numbers + 2] + b"\xf6" + raw[numbers + 3 :]
    assert envelope.claimed(text) is None
    broken = raw[: numbers + 2] + b"\xff" + raw[numbers + 3 :]
    assert envelope.claimed(broken) is None
    vote = Signer(SEED, CLUSTER).sign(Commit(0, 1, 2, b"", 4)).raw
    long = Signer(SEED, CLUSTER).sign(Commit(0, 1, 2, bytes(300), 4)).raw
    assert envelope.claimed(vote) is not None
    assert envelope.claimed(long) is None, "no vote is so long"


@pytest.mark.parametrize(
    "payload", ["190400", "390500", "1a05000000", "4104", "6104", "a10400", "8104", "f4", "9f04ff"]
)
def test_a_claim_that_is_no_array_of_fields_is_none(payload: str) -> None:
    """A number whose second byte is the tag of a vote is not a vote."""
    header = codec.encode({1: -8, 4: blob(1)})
    raw = codec.encode((header, {}, bytes.fromhex(payload), bytes(64)))
    assert envelope.claimed(raw) is None


@given(st.binary(min_size=2, max_size=60))
def test_a_claim_with_any_payload_is_total(payload: bytes) -> None:
    header = codec.encode({1: -8, 4: blob(1)})
    for tag in CLAIMING:
        for body in (payload, payload[:1] + bytes((tag,)) + payload[1:]):
            envelope.claimed(codec.encode((header, {}, body, bytes(64))))


# --- members --------------------------------------------------------------------------------


def test_only_members_are_worth_the_check_of_a_signature() -> None:
    checked: list[bytes] = []

    def verify(key: bytes, covered: bytes, signature: bytes) -> bool:
        checked.append(key)
        return sodium.ed25519_verify(key, covered, signature)

    member, stranger = Signer(SEED, CLUSTER), Signer(blob(2), CLUSTER)
    opener = Opener(CLUSTER, members=frozenset({member.public}), verify=verify)
    commit = Commit(0, 1, 2, blob(3), 4)
    assert opener.open(member.sign(commit).raw).signer == member.public
    with pytest.raises(WireError, match="no member"):
        opener.open(stranger.sign(commit).raw)
    assert checked == [member.public]
    record = NodeRecord(1, blob(5), (), 1, "new")
    assert opener.open(stranger.sign(record).raw).signer == stranger.public, "of no cluster yet"


def test_a_certificate_that_repeats_a_signer_costs_two_checks() -> None:
    checked: list[bytes] = []

    def verify(key: bytes, covered: bytes, signature: bytes) -> bool:
        checked.append(key)
        return True

    signer = Signer(SEED, CLUSTER)
    checkpoints = tuple(signer.sign(Checkpoint(0, 64, blob(i))) for i in range(1, 60))
    change = signer.sign(ViewChange(0, 1, 64, checkpoints, ()))
    with pytest.raises(WireError, match="two votes of one signer"):
        Opener(CLUSTER, verify=verify).open(change.raw)
    assert len(checked) == 3

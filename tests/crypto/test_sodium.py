"""The primitives: published answers, the cryptography package, and a strict Ed25519 verifier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import CryptoError
from tests.crypto import crypto_oracles as oracles
from tests.crypto.crypto_oracles import BASE, ORDER, P, encode

KEYS = st.binary(min_size=32, max_size=32)
TEXTS = st.binary(max_size=300)
modest = settings(max_examples=40, deadline=None)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


# --- digests and key derivation -------------------------------------------------------------


@modest
@given(st.binary(min_size=1, max_size=16), TEXTS)
def test_digest_is_personalised_blake2b(domain: bytes, data: bytes) -> None:
    expected = bindings.crypto_generichash_blake2b_salt_personal(
        data, digest_size=32, person=domain.ljust(16, b"\0")
    )
    assert sodium.digest(domain, data) == expected


def test_domains_never_meet() -> None:
    assert len({sodium.digest(d, b"x") for d in (b"a", b"b", b"ab", b"a" * 16)}) == 4
    for domain in (b"", b"a" * 17):
        with pytest.raises(AssertionError, match="domain"):
            sodium.digest(domain, b"x")


def test_hkdf_gives_the_answer_of_rfc_5869() -> None:
    okm = sodium.hkdf("sha256", bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42)
    assert okm == unhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_mac_gives_the_answer_of_rfc_4231() -> None:
    assert sodium.mac("sha256", b"Jefe", b"what do ya want for nothing?") == unhex(
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


@modest
@given(TEXTS, TEXTS)
def test_equal_is_equality(one: bytes, other: bytes) -> None:
    assert sodium.equal(one, one)
    assert sodium.equal(one, other) == (one == other)


def test_a_sound_key_is_of_prime_order() -> None:
    public = sodium.ed25519_keypair(bytes(32))[0]
    assert sodium.ed25519_is_sound(public)
    for point in oracles.torsion():
        assert not sodium.ed25519_is_sound(encode(point))
    with pytest.raises(AssertionError, match="32 bytes"):
        sodium.ed25519_is_sound(public[1:])


@modest
@given(KEYS, TEXTS, TEXTS, st.integers(1, 200))
def test_hkdf_agrees_with_another(salt: bytes, secret: bytes, info: bytes, size: int) -> None:
    other = HKDF(hashes.SHA256(), size, salt, info).derive(secret)
    assert sodium.hkdf("sha256", salt, secret, info, size) == other


@modest
@given(KEYS)
def test_prf_agrees_with_another(key: bytes) -> None:
    assert sodium.prf(b"a domain", key) == oracles.keyed_blake2b(b"a domain", key)


def test_prf_wants_a_whole_key() -> None:
    with pytest.raises(AssertionError, match="32 bytes"):
        sodium.prf(b"a domain", bytes(31))


# --- Ed25519: what is right -----------------------------------------------------------------

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_ed25519_gives_the_answers_of_rfc_8032(
    seed: str, public: str, message: str, signature: str
) -> None:
    made, secret = sodium.ed25519_keypair(unhex(seed))
    assert made.hex() == public
    assert sodium.ed25519_sign(secret, unhex(message)).hex() == signature
    assert sodium.ed25519_verify(made, unhex(message), unhex(signature))


@modest
@given(KEYS, TEXTS)
def test_ed25519_agrees_with_another_both_ways(seed: bytes, message: bytes) -> None:
    public, secret = sodium.ed25519_keypair(seed)
    other = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    signature = sodium.ed25519_sign(secret, message)
    assert signature == other.sign(message)
    other.public_key().verify(signature, message)
    assert sodium.ed25519_verify(public, message, signature)


@modest
@given(st.data())
def test_any_change_of_key_message_or_signature_is_refused(data: st.DataObject) -> None:
    public, secret = sodium.ed25519_keypair(bytes(32))
    message = b"the message"
    parts = [public, message, sodium.ed25519_sign(secret, message)]
    which = data.draw(st.integers(0, 2))
    bit = data.draw(st.integers(0, 8 * len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    assert not sodium.ed25519_verify(*parts)


@modest
@given(st.binary(max_size=80), TEXTS, st.binary(max_size=80))
def test_no_bytes_make_the_verifier_raise(public: bytes, message: bytes, signature: bytes) -> None:
    assert sodium.ed25519_verify(public, message, signature) is False
    assert sodium.ed25519_verify(public.ljust(32)[:32], message, signature.ljust(64)[:64]) is False


def test_the_lengths_of_keys_and_signatures_are_part_of_the_verdict() -> None:
    public, secret = sodium.ed25519_keypair(bytes(32))
    signature = sodium.ed25519_sign(secret, b"message")
    assert not sodium.ed25519_verify(public + b"x", b"message", signature)
    assert not sodium.ed25519_verify(public[:31], b"message", signature)
    assert not sodium.ed25519_verify(public, signature[63:] + b"message", signature[:63])
    assert not sodium.ed25519_verify(public, b"essage", signature + b"m")


# --- Ed25519: what a lax verifier would take ------------------------------------------------

SECRET = 0x1234567 * 2**200 + 8
NONCE = 0x7654321 * 2**190 + 1
A = oracles.multiply(SECRET, BASE)
R = oracles.multiply(NONCE, BASE)
MIXED = range(1, 8)


def signature_on(message: bytes, a: bytes, r: bytes, nonce: int = NONCE) -> bytes:
    """S for these encodings as the holder of SECRET would make it."""
    return r + ((nonce + oracles.challenge(r, a, message) * SECRET) % ORDER).to_bytes(32, "little")


def lax_cases() -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """Name, key, message and a signature whose equation holds, at least times the cofactor."""
    small = oracles.torsion()
    s_of_r = NONCE.to_bytes(32, "little")
    message = b"whatever"
    for i, point in enumerate(small):
        # A of small order: h A vanishes times the cofactor, so anybody signs.
        yield f"A of small order {i}", encode(point), message, encode(R) + s_of_r
        r = encode(point)
        yield f"R of small order {i}", encode(A), message, signature_on(message, encode(A), r, 0)
        if i in MIXED:
            a = encode(oracles.add(A, point))
            for n in range(8):  # for some of them h is a multiple of 8: the strict equation holds
                text = bytes([n])
                yield f"A of mixed order {i} {n}", a, text, signature_on(text, a, encode(R))
            r = encode(oracles.add(R, point))
            yield f"R of mixed order {i}", encode(A), message, signature_on(message, encode(A), r)
        if point[1] < 19:
            a = encode(point, plus_p=True)
            yield f"A not canonical {i}", a, message, encode(R) + s_of_r
            r = encode(point, plus_p=True)
            yield f"R not canonical {i}", encode(A), message, signature_on(message, encode(A), r, 0)
        if point[0] == 0:
            a = encode(point, flip_sign=True)
            yield f"A with the sign of zero {i}", a, message, encode(R) + s_of_r
    good = signature_on(message, encode(A), encode(R))
    for times in (1, 2, 7):
        s = int.from_bytes(good[32:], "little") + times * ORDER
        yield f"S + {times} L", encode(A), message, good[:32] + s.to_bytes(32, "little")


CASES = list(lax_cases())


def test_the_lax_cases_would_do_for_a_lax_verifier() -> None:
    """So a refusal of them is strictness and no accident: the same maker makes good ones."""
    good = signature_on(b"m", encode(A), encode(R))
    assert sodium.ed25519_verify(encode(A), b"m", good)
    small = oracles.torsion()
    strict = 0
    for i in MIXED:
        a, r = oracles.add(A, small[i]), oracles.add(R, small[i])
        for n in range(8):
            message = bytes([n])
            signed = signature_on(message, encode(a), encode(R))
            h, s = oracles.challenge(signed[:32], encode(a), message), signed[32:]
            assert oracles.equation(a, R, h, int.from_bytes(s, "little"), cofactor=8)
            strict += oracles.equation(a, R, h, int.from_bytes(s, "little"), cofactor=1)
        signed = signature_on(b"m", encode(A), encode(r))
        h, s = oracles.challenge(signed[:32], encode(A), b"m"), signed[32:]
        assert oracles.equation(A, r, h, int.from_bytes(s, "little"), cofactor=8)
        assert not oracles.equation(A, r, h, int.from_bytes(s, "little"), cofactor=1)
    assert strict > 0
    assert {name.split()[0] for name, *_ in CASES} == {"A", "R", "S"}


@pytest.mark.parametrize(("name", "public", "message", "signature"), CASES, ids=lambda v: v)
def test_a_lax_signature_is_refused(
    name: str, public: bytes, message: bytes, signature: bytes
) -> None:
    assert not sodium.ed25519_verify(public, message, signature)


def test_the_verdict_is_the_same_with_a_libsodium_that_multiplies_by_the_cofactor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cofactored(signed: bytes, public: bytes) -> bytes:
        return signed[64:]  # as its main branch judges the mixed cases: all of them hold

    monkeypatch.setattr(bindings, "crypto_sign_open", cofactored)
    monkeypatch.setattr(sodium, "_COFACTORED", True)
    mixed = [case for case in CASES if "mixed" in case[0]]
    assert len(mixed) == 7 * 9
    for _, public, message, signature in mixed:
        assert not sodium.ed25519_verify(public, message, signature)
    good = signature_on(b"m", encode(A), encode(R))
    assert sodium.ed25519_verify(encode(A), b"m", good)


def test_misuse_of_ed25519_is_an_assertion() -> None:
    with pytest.raises(AssertionError, match="seed"):
        sodium.ed25519_keypair(bytes(31))
    with pytest.raises(AssertionError, match="secret key"):
        sodium.ed25519_sign(bytes(32), b"")


# --- X25519 ---------------------------------------------------------------------------------


@given(KEYS)
def test_the_x25519_pair_of_an_ed25519_pair_is_one(seed: bytes) -> None:
    private = sodium.x25519_private_of(seed)
    assert private == _clamped(seed)
    public, _ = sodium.ed25519_keypair(seed)
    assert sodium.x25519_public_of(public) == sodium.x25519_public(private)


def _clamped(seed: bytes) -> bytes:
    """The scalar of RFC 8032, section 5.1.5, which is also one of RFC 7748."""
    scalar = bytearray(sodium.plain_hash("sha512", seed)[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), b"\x01" + bytes(31), bytes(33)])
def test_of_what_is_no_ed25519_key_there_is_none_of_x25519(public: bytes) -> None:
    with pytest.raises(CryptoError, match="Ed25519 public key"):
        sodium.x25519_public_of(public)


def test_x25519_gives_the_answer_of_rfc_7748() -> None:
    shared = sodium.x25519(
        unhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
        unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
    )
    assert shared.hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"


@modest
@given(KEYS, KEYS)
def test_x25519_agrees_with_another(mine: bytes, theirs: bytes) -> None:
    other = x25519.X25519PrivateKey.from_private_bytes(theirs).public_key().public_bytes_raw()
    assert sodium.x25519_public(theirs) == other
    assert sodium.x25519(mine, other) == oracles.x25519_shared(mine, other)
    assert sodium.x25519(mine, other) == sodium.x25519(theirs, sodium.x25519_public(mine))


LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    unhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (P - 1).to_bytes(32, "little"),
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
]


@pytest.mark.parametrize("public", LOW_ORDER, ids=lambda p: p.hex()[:6])
def test_x25519_refuses_points_of_low_order(public: bytes) -> None:
    with pytest.raises(CryptoError, match="low order"):
        sodium.x25519(b"\x55" * 32, public)
    with pytest.raises(CryptoError, match="low order"):
        sodium.x25519(b"\x55" * 32, public[:31] + bytes([public[31] | 0x80]))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_x25519_refuses_keys_of_another_length(size: int) -> None:
    with pytest.raises(CryptoError, match="32 bytes"):
        sodium.x25519(bytes(32), b"\x09" * size)
    with pytest.raises(AssertionError, match="32 bytes"):
        sodium.x25519(b"\x09" * size, b"\x09" * 32)
    with pytest.raises(AssertionError, match="32 bytes"):
        sodium.x25519_public(b"\x09" * size)


# --- ChaCha20-Poly1305 ----------------------------------------------------------------------

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)


def test_aead_gives_the_answer_of_rfc_8439() -> None:
    sealed = sodium.aead_seal(
        bytes(range(0x80, 0xA0)),
        unhex("070000004041424344454647"),
        SUNSCREEN,
        unhex("50515253c0c1c2c3c4c5c6c7"),
    )
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


@modest
@given(KEYS, st.binary(min_size=12, max_size=12), TEXTS, TEXTS)
def test_aead_agrees_with_another(key: bytes, nonce: bytes, text: bytes, ad: bytes) -> None:
    sealed = sodium.aead_seal(key, nonce, text, ad)
    assert sealed == ChaCha20Poly1305(key).encrypt(nonce, text, ad)
    assert sodium.aead_open(key, nonce, sealed, ad) == text


def test_aead_refuses_what_was_changed_or_cut_off() -> None:
    key, nonce = bytes(32), bytes(12)
    sealed = sodium.aead_seal(key, nonce, b"text", b"ad")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(CryptoError, match="does not match"):
            sodium.aead_open(key, nonce, bytes(changed), b"ad")
    for size in range(len(sealed)):
        with pytest.raises(CryptoError):
            sodium.aead_open(key, nonce, sealed[:size], b"ad")
    with pytest.raises(CryptoError, match="does not match"):
        sodium.aead_open(key, nonce, sealed, b"AD")
    with pytest.raises(CryptoError, match="does not match"):
        sodium.aead_open(key, bytes(11) + b"\x01", sealed, b"ad")


def test_misuse_of_the_aead_is_an_assertion() -> None:
    for key, nonce in ((bytes(31), bytes(12)), (bytes(32), bytes(8))):
        with pytest.raises(AssertionError, match="AEAD"):
            sodium.aead_seal(key, nonce, b"", b"")
        with pytest.raises(AssertionError, match="AEAD"):
            sodium.aead_open(key, nonce, bytes(16), b"")

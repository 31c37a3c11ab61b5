from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from aegis_edge.crypto import sodium
from aegis_edge.peers import onion
from aegis_edge.peers.onion import OnionError
from tests.crypto import crypto_oracles

#: From rend-spec-v3 section 6, and of services that are known to the public.
PUBLISHED = (
    "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
    "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion",
    "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd.onion",
    "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion",
    "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion",
)
SEEDS = st.binary(min_size=32, max_size=32)


def recoded(public: bytes, version: int = 3, flip: int = 0) -> str:
    """An address of our own making, with a checksum that fits unless `flip`."""
    good = sodium.plain_hash("sha3_256", b".onion checksum" + public + bytes((version,)))
    checksum = bytes((good[0] ^ flip, good[1]))
    data = public + checksum + bytes((version,))
    return base64.b32encode(data).decode().lower() + ".onion"


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_addresses_are_read_and_made_again(text: str) -> None:
    assert onion.address(onion.parse(text)) == text
    assert onion.parse(text.upper()) == onion.parse(text)


@given(SEEDS)
def test_an_address_names_its_key(seed: bytes) -> None:
    public = sodium.ed25519_keypair(seed)[0]
    assert onion.service_address(seed) == onion.address(public) == recoded(public)
    assert onion.parse(onion.address(public)) == public


@given(SEEDS)
def test_an_expanded_secret_is_of_the_same_key(seed: bytes) -> None:
    expanded = onion.expanded_secret(seed)
    assert len(expanded) == 64
    public = bindings.crypto_scalarmult_ed25519_base_noclamp(expanded[:32])
    other = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    assert public == other.public_bytes_raw()
    # Its second half is the prefix of RFC 8032, so signatures are the same too.
    assert expanded[32:] == sodium.plain_hash("sha512", seed)[32:]


@given(SEEDS, st.integers(0, 55), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_wrong_character_is_refused(seed: bytes, at: int, other: str) -> None:
    text = onion.service_address(seed)
    wrong = text[:at] + other + text[at + 1 :]
    if wrong != text:
        with pytest.raises(OnionError):
            onion.parse(wrong)


@given(st.text(max_size=70) | st.text("abcdefgh234567.onio", min_size=50, max_size=70))
def test_any_text_is_an_address_or_an_onion_error(text: str) -> None:
    try:
        public = onion.parse(text)
    except OnionError:
        return
    assert onion.address(public) == text.lower()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not end with .onion"),
        ("example.com", "nothing else is reached"),
        (f"www.{PUBLISHED[0]}", "'.' does not occur"),
        (PUBLISHED[0].replace("pg6", "pg1"), "'1' does not occur"),
        (PUBLISHED[0].replace("pg6", "pgß"), "'ß' does not occur"),
        (PUBLISHED[0][1:], "this has 55"),
        ("expyuzz4wqqyqhjn.onion", "this has 16"),
        (recoded(bytes(31) + b"\x01", version=4), "of version 4"),
        (recoded(bytes(32), flip=1), "checksum is wrong"),
        (recoded(bytes(32)), "not a sound one"),
        (PUBLISHED[0] + ".", "does not end with .onion"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(OnionError, match=words):
        onion.parse(text)


def test_a_key_with_a_part_of_small_order_is_refused() -> None:
    public = sodium.ed25519_keypair(bytes(range(32)))[0]
    (small,) = [p for p in crypto_oracles.torsion() if crypto_oracles.encode(p)[:2] == b"\0\0"][:1]
    mixed = bindings.crypto_core_ed25519_add(public, crypto_oracles.encode(small))
    assert mixed != public
    with pytest.raises(OnionError, match="not a sound one"):
        onion.parse(recoded(mixed))


def test_keys_of_clients_have_the_forms_that_tor_takes() -> None:
    private = bytes(range(32))
    public = sodium.x25519_public(private)
    text = onion.authorised_client(public)
    assert len(text) == 52 and base64.b32decode(text + "====") == public
    assert base64.b64decode(onion.client_credential(private), validate=True) == private


def test_a_key_of_another_length_is_a_bug() -> None:
    for function in (
        onion.address,
        onion.expanded_secret,
        onion.authorised_client,
        onion.client_credential,
    ):
        with pytest.raises(AssertionError, match="32 bytes"):
            function(bytes(31))


def test_each_generation_of_a_node_has_a_service_of_its_own() -> None:
    seeds = {onion.service_seed(bytes(32), generation) for generation in range(3)}
    assert len(seeds) == 3
    assert onion.service_seed(bytes(32), 0) in seeds
    assert onion.service_seed(b"\1" * 32, 0) not in seeds


def test_both_of_a_pair_make_the_same_key_and_each_direction_has_its_own() -> None:
    anna, bert = bytes([1]) * 32, bytes([2]) * 32
    ours = sodium.x25519(anna, sodium.x25519_public(bert))
    theirs = sodium.x25519(bert, sodium.x25519_public(anna))
    keys = {
        onion.pair_credential(ours, b"cluster", b"anna", b"bert"),
        onion.pair_credential(ours, b"cluster", b"bert", b"anna"),
        onion.pair_credential(ours, b"another", b"anna", b"bert"),
    }
    assert len(keys) == 3
    assert onion.pair_credential(theirs, b"cluster", b"anna", b"bert") in keys
    knock = onion.pair_knock(ours, b"cluster", b"anna", b"bert")
    assert onion.pair_knock(theirs, b"cluster", b"anna", b"bert") == knock
    assert onion.pair_knock(ours, b"cluster", b"bert", b"anna") != knock
    assert knock not in keys, "what is for a tor is not for a caller"

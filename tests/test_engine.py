"""CryptoEngine: the node's identity signs for its owner, and never what the protocol would read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_edge
from aegis_edge import CryptoEngine, engine
from aegis_edge.crypto import sodium
from aegis_edge.disk import keyfile
from aegis_edge.disk.keyfile import KeyFileError
from aegis_edge.peers import identity
from aegis_edge.peers.identity import IdentityError
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import SIGNED, NodeRecord

ENTROPY = bytes(range(64))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("AEGIS_EDGE_HOME", raising=False)
    keyfile.create(tmp_path / "identity.key", ENTROPY)
    return tmp_path


def test_what_the_owner_signs_others_can_check(home: Path, tmp_path: Path) -> None:
    ours = CryptoEngine(home)
    signature = ours.sign_message(b"the hens are fed")
    assert len(signature) == 64
    for key in (ours.public_key, ours.node_id, ours.node_id.upper()):
        assert CryptoEngine.verify_signature(b"the hens are fed", signature, key)
    assert ours.verify_signature("the hens are fed", signature, ours.public_key)
    assert ours.public_key == keyfile.read(home / "identity.key").public
    assert ours.sign_message("grün") == ours.sign_message("grün".encode())


def test_the_home_is_that_of_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_EDGE_HOME", str(home))
    assert CryptoEngine().node_id == CryptoEngine(str(home)).node_id


def test_what_was_not_signed_is_not_believed(home: Path) -> None:
    ours = CryptoEngine(home)
    other = sodium.ed25519_keypair(bytes(32))[0]
    signature = ours.sign_message(b"message")
    for message, signed, key in (
        (b"Message", signature, ours.public_key),
        (b"message", signature[:-1], ours.public_key),
        (b"message", bytes(64), ours.public_key),
        (b"message", signature, other),
        (b"message", signature, b""),
        (b"message", b"", ours.public_key),
    ):
        assert not ours.verify_signature(message, signed, key)
    typo = ("a" if ours.node_id[0] == "b" else "b") + ours.node_id[1:]
    with pytest.raises(IdentityError, match="checksum"):
        ours.verify_signature(b"message", signature, typo)


def record() -> NodeRecord:
    return NodeRecord(1, bytes(32), ("tcp:127.0.0.1:1",), 2**31, "attic")


def test_no_signature_of_the_owner_is_one_of_the_protocol(home: Path) -> None:
    """Whoever gets an owner to sign the very bytes that an envelope covers has gained nothing."""
    ours = CryptoEngine(home)
    signer = Signer(ENTROPY[:32], b"c" * 32)
    for tag in SIGNED:
        covered = signer._covered[tag]
        assert not covered.startswith(engine.DOMAIN[:1]), "what is covered tells the two apart"
    envelope = signer.sign(record())
    payload = envelope.raw[:-66].partition(signer.public + b"\xa0")[2]
    covered = signer._covered[NodeRecord.TAG] + payload
    assert sodium.ed25519_verify(signer.public, covered, envelope.raw[-64:]), "the true bytes"
    forged = envelope.raw[:-64] + ours.sign_message(covered)
    with pytest.raises(WireError, match="signature"):
        Opener(b"c" * 32).open(forged)
    assert not ours.verify_signature(covered, envelope.raw[-64:], ours.public_key)


@given(st.binary(max_size=200))
def test_it_is_plain_ed25519_over_the_domain_and_the_message(message: bytes) -> None:
    public, secret = sodium.ed25519_keypair(bytes(32))
    signature = sodium.ed25519_sign(secret, engine.DOMAIN + message)
    assert CryptoEngine.verify_signature(message, signature, identity.node_id(public))
    assert not CryptoEngine.verify_signature(engine.DOMAIN + message, signature, public)


def test_a_home_without_an_identity_is_explained(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="aegis-edge init"):
        CryptoEngine(tmp_path / "none")


def test_the_secret_is_in_no_repr(home: Path) -> None:
    assert ENTROPY[:4].hex() not in repr(CryptoEngine(home))


def test_importing_the_package_stays_cheap() -> None:
    program = "import aegis_edge, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = json.loads(done.stdout)
    assert [name for name in loaded if name.startswith("aegis_edge.")] == []
    assert {"nacl", "trio", "cbor2", "sqlite3"}.isdisjoint(loaded)


def test_names_that_there_are_not_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CryptoMotor'"):
        aegis_edge.CryptoMotor  # noqa: B018
    assert set(aegis_edge.__all__) <= set(dir(aegis_edge))

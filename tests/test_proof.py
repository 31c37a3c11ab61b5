"""Proofs: what was signed holds for whoever has the genesis; whatever is changed does not."""

from __future__ import annotations

from itertools import product

import pytest

from aegis_edge import proof
from aegis_edge.crypto import sodium
from aegis_edge.knowledge.state import Version
from aegis_edge.proof import NotAProof, ProofError, Proven, claimed, make, verify
from aegis_edge.wire import codec
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Checkpoint, NodeRecord, Prepare
from tests.proofs import SEQUENCE, TIME_MS, cluster

KEYS = ("door", "gone", "never")


def test_a_value_a_deletion_and_an_absence_are_proven() -> None:
    made = cluster()
    signers = tuple(signer.public for signer in made.signers[:3])
    author = made.signers[0].public
    versions = (
        Version(2, "door", 0, author, TIME_MS + 1, 1, False, b'{"open":false}'),
        Version(7, "gone", 3, author, TIME_MS + 2, 0, True, b""),
        None,
    )
    state = (SEQUENCE, 69, TIME_MS + SEQUENCE, signers)
    for key, version in zip(KEYS, versions, strict=True):
        data = made.proof(key)
        assert verify(data, made.genesis) == Proven(key, version, *state)
        assert claimed(data) == verify(data, made.genesis)


def test_any_quorum_proves_and_fewer_do_not() -> None:
    made = cluster()
    for indexes in ((0, 1, 2), (3, 1, 0), (0, 1, 2, 3)):
        assert verify(made.proof("door", *indexes), made.genesis).key == "door"
    for indexes in ((0, 1), (2,)):
        with pytest.raises(ProofError, match="3 members"):
            verify(made.proof("door", *indexes), made.genesis)


@pytest.mark.parametrize("key", KEYS)
def test_no_byte_of_a_proof_can_be_changed(key: str) -> None:
    """Each byte, in a few ways.  Another key may be absent too: that is true, and of that key."""
    made = cluster()
    good = made.proof(key)
    for at, flip in product(range(len(good)), (0x01, 0x80, 0xFF)):
        bad = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
        try:
            said = verify(bad, made.genesis)
        except ProofError:
            continue
        assert said.key != key, f"byte {at}"
        assert said.version is None, f"byte {at}"
        assert made.state.retained(said.key) is None, f"byte {at}"


def test_no_bit_of_the_proof_of_a_value_can_be_changed() -> None:
    made = cluster()
    good = made.proof("door")
    for at, bit in product(range(len(good)), range(8)):
        bad = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
        with pytest.raises(ProofError):
            verify(bad, made.genesis)


def test_no_proof_is_cut_or_followed_by_more() -> None:
    made = cluster()
    good = made.proof("door")
    for end in range(len(good)):
        with pytest.raises(ProofError):
            verify(good[:end], made.genesis)
    with pytest.raises(ProofError):
        verify(good + b"\0", made.genesis)


def test_the_members_of_another_genesis_prove_nothing() -> None:
    one, other = cluster(), cluster(1)
    assert one.genesis.members == other.genesis.members
    for key in KEYS:
        with pytest.raises(ProofError, match="this cluster"):
            verify(one.proof(key), other.genesis)


def test_what_is_signed_must_be_one_root_of_one_checkpoint_by_distinct_members() -> None:
    made = cluster()
    shown = made.shows("door")
    a, b, c = (made.checkpoint(index) for index in range(3))
    for lie in (
        made.checkpoint(2, root=bytes(32)),
        made.checkpoint(2, sequence=SEQUENCE + 1),
        made.checkpoint(2, configuration=1),
    ):
        with pytest.raises(ProofError, match="signed one root"):
            verify(make(shown, (a, b, lie)), made.genesis)
    later = tuple(made.checkpoint(index, configuration=1) for index in range(3))
    with pytest.raises(ProofError, match="signed one root"):
        verify(make(shown, later), made.genesis)
    nothing = tuple(made.checkpoint(index, sequence=0) for index in range(3))
    with pytest.raises(ProofError, match="signed one root"):
        verify(make(shown, nothing), made.genesis)
    other = tuple(made.checkpoint(index, root=bytes(32)) for index in range(3))
    with pytest.raises(ProofError, match="does not lead"):
        verify(make(shown, other), made.genesis)
    for disorder in ((a, b, b), (c, b, a)):
        with pytest.raises(ProofError, match="out of order"):
            verify(assembled(shown.fields(), [v.raw for v in disorder]), made.genesis)


def test_only_members_and_only_checkpoints_count() -> None:
    made = cluster()
    shown = made.shows("door")
    vote = made.signers[0].sign(Prepare(0, 0, SEQUENCE, made.machine.root()))
    record = made.signers[0].sign(NodeRecord(1, bytes(32), (), 1, ""))
    for stranger in (vote, record):
        with pytest.raises(ProofError, match="another kind"):
            verify(assembled(shown.fields(), [stranger.raw]), made.genesis)
    outside = Signer(bytes([9]) * 32, made.genesis.cluster_id)
    said = outside.sign(Checkpoint(0, SEQUENCE, made.machine.root()))
    with pytest.raises(ProofError, match="no member"):
        verify(make(shown, (said,)), made.genesis)


def test_other_files_and_other_formats_are_no_proofs() -> None:
    made = cluster()
    good = made.proof("door")
    later = good.replace(codec.encode(proof.LABEL) + b"\x01", codec.encode(proof.LABEL) + b"\x02")
    for data, word in (
        (b"", "right file"),
        (made.genesis.to_text().encode(), "right file"),
        (good[:10], "right file"),
        (good[: len(proof.LABEL) + 2], "another format"),
        (later, "another format"),
    ):
        for read in (claimed, lambda data: verify(data, made.genesis)):
            with pytest.raises(NotAProof, match=word):
                read(data)


def test_the_checkpoints_are_byte_strings() -> None:
    made = cluster()
    for raws in (None, [], ["text"], [7], b"raw"):
        with pytest.raises(ProofError, match="array of byte strings"):
            claimed(assembled(made.shows("door").fields(), raws))


def test_a_proof_has_a_bound() -> None:
    made = cluster()
    shown = made.shows("door")
    large = shown._replace(entries=bytes(40) * (proof.PROOF_BYTES_MAX // 40))
    with pytest.raises(ProofError, match="size bound"):
        claimed(make(large, (made.checkpoint(0),)))


def test_the_format_is_pinned() -> None:
    """A proof that is kept must be readable for as long as the format has this number."""
    assert len(cluster().proof("door")) == 1115
    unsigned = make(cluster().shows("door"), ())
    assert sodium.digest(b"test", unsigned).hex() == (
        "b0a2f5c4fbe1b473b9476b4ed91afaa292916860936ede48bbd451cfa821b76b"
    )


def assembled(fields: object, raws: object) -> bytes:
    return codec.encode((proof.LABEL, proof.FORMAT, fields, raws))

"""Proofs: what was signed holds for whoever has the genesis; whatever is changed does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_edge import proof
from aegis_edge.crypto import sodium
from aegis_edge.knowledge.agreed import Agreed, pack
from aegis_edge.knowledge.state import Version
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.proof import NotAProof, ProofError, Proven, claimed, make, verify
from aegis_edge.wire import codec
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Checkpoint, Commit, NodeRecord, Prepare, pack_handover
from tests.proofs import SEQUENCE, TIME_MS, changed, cluster, handover, keys, member

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
    state = (SEQUENCE, 69, TIME_MS + SEQUENCE, signers, 0, made.genesis.members)
    for key, version in zip(KEYS, versions, strict=True):
        data = made.proof(key)
        assert verify(data, made.genesis) == Proven(key, version, *state)
        assert claimed(data) == replace(verify(data, made.genesis), members=())


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
    label = codec.encode(proof.LABEL)
    later = good.replace(label + b"\x02", label + b"\x03")
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
    for raws in (None, ["text"], [7], b"raw"):
        with pytest.raises(ProofError, match="array of byte strings"):
            claimed(assembled(made.shows("door").fields(), raws))
        with pytest.raises(ProofError, match="array of byte strings"):
            claimed(assembled(made.shows("door").fields(), [b"raw"], raws))
    for signed in (None, (), (b"raw",), ((b"raw",), (), ())):
        with pytest.raises(ProofError, match="not its checkpoints"):
            claimed(codec.encode((proof.LABEL, proof.FORMAT, (), signed)))
    with pytest.raises(ProofError, match="no checkpoint"):
        claimed(assembled(made.shows("door").fields(), []))
    with pytest.raises(ProofError, match="envelope"):
        claimed(assembled(made.shows("door").fields(), [b"raw"]))


def test_a_proof_has_a_bound() -> None:
    made = cluster()
    shown = made.shows("door")
    large = shown._replace(entries=bytes(40) * (proof.PROOF_BYTES_MAX // 40))
    with pytest.raises(ProofError, match="size bound"):
        claimed(make(large, (made.checkpoint(0),)))


def test_the_format_is_pinned() -> None:
    """A proof that is kept must be readable for as long as the format has this number."""
    assert len(cluster().proof("door")) == 1117
    assert sodium.digest(b"test", cluster().proof("door")).hex() == (
        "231d861a919fdcc0af948758619f11bbc273e6e33ef1cc7973a5e17322f778fc"
    )
    assert sodium.digest(b"test", changed().proof("door")).hex() == (
        "44b2770745cb0689ff991faf5d437437d78ae423f5bbe05f4eadcaa5685b2959"
    )


def test_a_proof_of_the_first_format_is_read_still() -> None:
    made = cluster()
    raws = tuple(made.checkpoint(index).raw for index in range(3))
    first = codec.encode((proof.LABEL, 1, made.shows("door").fields(), raws))
    assert len(first) == 1115
    assert verify(first, made.genesis) == verify(made.proof("door"), made.genesis)
    assert claimed(first) == claimed(made.proof("door"))
    with pytest.raises(ProofError, match="3 members"):
        verify(codec.encode((proof.LABEL, 1, made.shows("door").fields(), raws[:2])), made.genesis)


# --- members who change ---------------------------------------------------------------------------


def test_members_who_came_later_prove_what_is_so_to_whoever_has_the_genesis() -> None:
    for changes in (1, 3, 7):
        made = changed(changes)
        assert not changes > 3 or not {s.public for s in made.signers} & set(made.genesis.members)
        for key in KEYS:
            proven = verify(made.proof(key), made.genesis)
            assert (proven.key, proven.changes) == (key, changes)
            assert proven.members == keys(made.signers)
            assert set(proven.signers) == {signer.public for signer in made.signers[:3]}
            assert claimed(made.proof(key)) == replace(proven, members=())


def test_a_thousand_changes_fit_into_a_proof() -> None:
    made = changed(1_000)
    data = made.proof("door")
    assert verify(data, made.genesis).changes == 1_000
    assert len(data) < 850 * 1024
    of_thirteen = (9 * 220 + 13 * 32) * 1_000
    assert of_thirteen < proof.PROOF_BYTES_MAX


def test_no_bit_of_what_leads_to_the_members_can_be_changed() -> None:
    made = changed(2)
    good = made.proof("door")
    start = good.index(made.handovers[0])
    for at, bit in product(range(start - 8, len(good)), range(8)):
        bad = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
        with pytest.raises(ProofError):
            verify(bad, made.genesis)


def test_none_is_left_out_repeated_or_put_elsewhere() -> None:
    made = changed(3)
    one, two, three = made.handovers
    for wrong in (
        (),
        (one, two),
        (two, three),
        (one, three),
        (one, one, two, three),
        (one, three, two),
        (one, two, three, three),
    ):
        data = make(made.shows("door"), tuple(map(made.checkpoint, range(3))), wrong)
        with pytest.raises(ProofError):
            verify(data, made.genesis)
    other = changed(3, 1)
    with pytest.raises(ProofError):
        verify(other.proof("door"), made.genesis)
    mixed = (one, two, other.handovers[2])
    with pytest.raises(ProofError):
        verify(make(made.shows("door"), tuple(map(made.checkpoint, range(3))), mixed), made.genesis)


def test_only_a_quorum_of_those_before_says_who_follows() -> None:
    made = cluster()
    genesis, cluster_id = made.genesis, made.genesis.cluster_id
    now = Configuration(0, genesis.members, 1)
    mine = tuple(member(number, cluster_id) for number in (4, 5, 6, 7))
    following = now.followed_by(9, keys(mine))
    others = now.followed_by(9, keys(mine[:3]))
    signed = tuple(signer.sign(Checkpoint(1, SEQUENCE, made.machine.root())) for signer in mine[1:])

    def judge(raw: bytes) -> Proven:
        return verify(make(made.shows("door"), signed, (raw,)), genesis)

    before = made.signers
    assert judge(handover(now, before[:3], following)).changes == 1
    assert judge(handover(now, before, following)).changes == 1
    for few in ((), before[:1], before[:2]):
        with pytest.raises(ProofError, match="3 members of configuration 0 did not sign"):
            judge(handover(now, few, following))
    for wrong in (
        {"successor": b""},
        {"successor": others.digest},
        {"successor": bytes(32)},
        {"configuration": 1},
        {"sequence": 10},
    ):
        with pytest.raises(ProofError, match="did not sign who follows"):
            judge(handover(now, before[:3], following, **wrong))
    with pytest.raises(ProofError, match="no member"):
        judge(handover(now, mine, following))
    with pytest.raises(ProofError, match="two votes of one signer"):
        judge(handover(now, [before[0]] * 3, following))
    at_odds = pack_handover(
        following.members,
        tuple(
            signer.sign(Commit(0, view, 9, bytes(32), 7, following.digest)).raw
            for view, signer in enumerate(before[:3])
        ),
    )
    with pytest.raises(ProofError, match="did not sign who follows"):
        judge(at_odds)
    votes = tuple(signer.sign(Prepare(0, 3, 9, bytes(32))).raw for signer in before[:3])
    with pytest.raises(ProofError, match="another kind"):
        judge(pack_handover(following.members, votes))


def test_what_the_members_agreed_on_is_in_the_proof_as_those_before_signed_it() -> None:
    made = cluster()
    genesis = made.genesis
    now = Configuration(0, genesis.members, 1)
    agreed = (Agreed("pbft_timeout", 2_500, 1),)
    following = now.followed_by(9, now.members, pack(agreed))
    signed = tuple(s.sign(Checkpoint(1, SEQUENCE, made.machine.root())) for s in made.signers[1:])

    def judge(raw: bytes) -> Proven:
        return verify(make(made.shows("door"), signed, (raw,)), genesis)

    proven = judge(handover(now, made.signers[:3], following))
    assert (proven.changes, proven.agreed, proven.members) == (1, agreed, genesis.members)
    others = pack((Agreed("pbft_timeout", 2_501, 1),))
    bent = replace(following, terms=others), replace(following, terms=b"")
    for wrong in bent:
        with pytest.raises(ProofError, match="did not sign who follows"):
            judge(handover(now, made.signers[:3], wrong, successor=following.digest))
    later = now.followed_by(9, now.members, codec.encode((("later", 1, 1),)))
    with pytest.raises(ProofError, match="install"):
        judge(handover(now, made.signers[:3], later))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 60))
def test_any_bytes_at_all_are_no_proof_and_no_traceback(junk: bytes, at: int, gone: int) -> None:
    made = changed(1)
    good = made.proof("door")
    for bad in (junk, good[:30] + junk, good[:at] + junk + good[at + gone :]):
        if bad != good:
            with pytest.raises(ProofError):
                verify(bad, made.genesis)


def assembled(fields: object, raws: object, handovers: object = ()) -> bytes:
    return codec.encode((proof.LABEL, proof.FORMAT, fields, (raws, handovers)))

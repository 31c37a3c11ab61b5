"""The vocabulary: each message has one shape and bounds, and `read` gives it or WireError."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_edge.crypto import sodium
from aegis_edge.wire import codec
from aegis_edge.wire import messages as say
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import (
    CARRIERS,
    SIGNED,
    Batch,
    Body,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    FetchBatches,
    NewView,
    NodeRecord,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Signed,
    StableCheckpoint,
    Status,
    ViewChange,
    read,
)
from tests.wire.conftest import CLUSTER, Voices, blob

#: Who reads these believes nothing in them.
UNPROVEN = (say.StatePart, say.Follow, say.Reached)
BIG = 2**63
TEXT_33 = "x" * 33


def nothing_opens(raw: bytes) -> say.Verified[Any]:
    raise WireError("a test that opens nothing")


def parse(kind: type[Signed], *fields: Any) -> Signed:
    return kind.parse(fields, nothing_opens)


# --- reading what links bring -----------------------------------------------------------------


@pytest.mark.parametrize("kind", SIGNED.values(), ids=lambda k: k.__name__)
def test_signed_messages_are_read(kind: type[Signed], voices: Voices) -> None:
    verified = voices.signed[kind]
    got = read(verified.raw, voices.opener().open)
    assert got == verified
    assert got.message == verified.message


@pytest.mark.parametrize("kind", CARRIERS.values(), ids=lambda k: k.__name__)
def test_carriers_are_read(kind: Any, voices: Voices) -> None:
    carrier = voices.carriers[kind]
    assert read(carrier.pack(), voices.opener().open) == carrier


def test_the_tables_know_every_kind() -> None:
    assert sorted(SIGNED) == list(range(1, 17))
    assert sorted(CARRIERS) == list(range(1, 8))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x84",
        b"\x80",
        b"\x00",
        codec.encode("text"),
        codec.encode((0,)),
        codec.encode((5,)),
        codec.encode((None,)),
        codec.encode((True, blob(0), b"")),
        codec.encode(((1,), 2)),
        codec.encode((3, b"")),
        codec.encode((3, 7)),
        codec.encode((3,)),
        codec.encode((3, codec.encode(((), ())), 1)),
        codec.encode((4, (b"",))),
        codec.encode((4, 1)),
        codec.encode((1, b"", codec.encode(((), ())))),
        codec.encode((2, (), b"")),
        codec.encode((1, 1, 1, 1, 1, 1, 1, 1, 1)),
        codec.encode((b"", {}, b"", b"")),
        bytes(say.MESSAGE_BYTES_MAX + 1),
    ],
    ids=lambda raw: raw[:12].hex() or "nothing",
)
def test_other_bytes_are_refused(raw: bytes, voices: Voices) -> None:
    with pytest.raises(WireError):
        read(raw, voices.opener().open)


@given(data=st.data())
@settings(max_examples=300)
def test_any_damage_to_a_message_is_refused(data: st.DataObject, voices: Voices) -> None:
    """Signatures and digests cover everything: what is still read says the same."""
    opener = voices.opener()
    whole = data.draw(st.sampled_from([*voices.carriers.values()]))
    raw = bytearray(whole.pack())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        got = read(bytes(raw), opener.open)
    except WireError:
        return
    # A body and the pieces of a state are covered by digests that others signed.
    assert got == whole or isinstance(got, (Body, *UNPROVEN))


# --- shapes and bounds ------------------------------------------------------------------------

GOOD: dict[type[Signed], tuple[Any, ...]] = {
    NodeRecord: (0, blob(1), ("tcp:a:1",), 0, "name", (bytes(64),)),
    Bundle: (1, 1, (b"",)),
    PrePrepare: (0, 0, 1, blob(1)),
    Prepare: (0, 0, 1, blob(1)),
    Commit: (0, 0, 1, blob(1), 0),
    Checkpoint: (0, 0, blob(1)),
    ViewChange: (0, 1, 0, (), ()),
    say.NewView: (0, 1, (), ()),
    Status: (0, 0, False, 0, 0, 0, 0),
    FetchBatches: (0, 1, 1),
    say.FetchBody: (0, blob(1)),
    say.Gone: (0, 1),
    say.FetchState: (0, 1, 0, (b"",)),
    say.AskReadIndex: (0, 1, 1),
    say.ReadIndex: (0, 1, 1, 0),
    say.Pass: (blob(1), 0),
}
COUNTER = (-1, BIG, "1", None, True, b"", 1.5, ())
POSITIVE = (0, *COUNTER)
DIGEST = (b"", bytes(31), bytes(33), "x" * 32, 0, None)
BAD: list[tuple[type[Signed], int, tuple[Any, ...]]] = [
    (NodeRecord, 0, COUNTER),
    (NodeRecord, 1, DIGEST),
    (NodeRecord, 2, (("x" * 129,), ("é" * 65,), ("a",) * 9, (b"a",), "a", None, (("a",),))),
    (NodeRecord, 3, COUNTER),
    (NodeRecord, 4, (TEXT_33, "é" * 17, b"", 0, None)),
    (NodeRecord, 5, ((bytes(63),), (bytes(65),), ("x" * 64,), (bytes(64),) * 9, bytes(64), None)),
    (Bundle, 0, POSITIVE),
    (Bundle, 1, POSITIVE),
    (Bundle, 2, ((), (1,), ("x",), b"x", (b"",) * 513, (bytes(say.OPERATION_BYTES_MAX + 1),))),
    (Bundle, 2, ((bytes(say.OPERATION_BYTES_MAX),) * 2,)),
    *((vote, 0, COUNTER) for vote in (PrePrepare, Prepare, Commit)),
    *((vote, 1, COUNTER) for vote in (PrePrepare, Prepare, Commit)),
    *((vote, 2, POSITIVE) for vote in (PrePrepare, Prepare, Commit)),
    *((vote, 3, DIGEST) for vote in (PrePrepare, Prepare, Commit)),
    (Commit, 4, COUNTER),
    (Checkpoint, 0, COUNTER),
    (Checkpoint, 1, COUNTER),
    (Checkpoint, 2, DIGEST),
    (ViewChange, 0, COUNTER),
    (ViewChange, 1, POSITIVE),
    (ViewChange, 2, COUNTER),
    (ViewChange, 3, (b"", (1,), (b"",), (b"",) * 65, None)),
    (ViewChange, 4, (b"", (1,), ((),), ((b"", ()),), ((b"", (), ()),), ((),) * 257, None)),
    (say.NewView, 0, COUNTER),
    (say.NewView, 1, POSITIVE),
    (say.NewView, 2, (b"", (1,), (b"",), (b"",) * 65, None)),
    (say.NewView, 3, (b"", (1,), (b"",), (b"",) * 257, None)),
    (Status, 0, COUNTER),
    (Status, 1, COUNTER),
    (Status, 2, (0, 1, None, "", b"")),
    (Status, 3, COUNTER),
    (Status, 4, COUNTER),
    (Status, 5, COUNTER),
    (Status, 6, COUNTER),
    (FetchBatches, 0, COUNTER),
    (FetchBatches, 1, (2, *POSITIVE)),
    (FetchBatches, 2, (1 + say.FETCH_BATCHES_MAX, *POSITIVE)),
    (say.FetchBody, 0, COUNTER),
    (say.FetchBody, 1, DIGEST),
    (say.Gone, 0, COUNTER),
    (say.Gone, 1, POSITIVE),
    (say.FetchState, 0, COUNTER),
    (say.FetchState, 1, POSITIVE),
    (say.FetchState, 2, COUNTER),
    (say.FetchState, 3, ((bytes(17),), (b"",) * 65, (1,), b"", None)),
    *((asked, 0, COUNTER) for asked in (say.AskReadIndex, say.ReadIndex)),
    *((asked, 1, POSITIVE) for asked in (say.AskReadIndex, say.ReadIndex)),
    *((asked, 2, POSITIVE) for asked in (say.AskReadIndex, say.ReadIndex)),
    (say.ReadIndex, 3, COUNTER),
    (say.Pass, 0, DIGEST),
    (say.Pass, 1, COUNTER),
]


@pytest.mark.parametrize("kind", SIGNED.values(), ids=lambda k: k.__name__)
def test_the_number_of_fields_is_exact(kind: type[Signed]) -> None:
    fields = GOOD[kind]
    assert parse(kind, *fields).fields() == fields
    more = (0, 0) if kind is Commit else (0,)
    for wrong in (fields[:-1], (*fields, *more), ()):
        with pytest.raises(WireError, match="fields where"):
            parse(kind, *wrong)


def test_a_bundle_of_members_says_so_and_no_other_says_anything_of_it() -> None:
    fields = (*GOOD[Bundle], True)
    assert parse(Bundle, *fields) == Bundle(*fields)
    assert parse(Bundle, *fields).fields() == fields
    assert parse(Bundle, *GOOD[Bundle]) == Bundle(*GOOD[Bundle], of_members=False)
    for wrong in (False, 1, b"", None):
        with pytest.raises(WireError, match="4 fields where 3"):
            parse(Bundle, *GOOD[Bundle], wrong)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [(kind, place, value) for kind, place, wrong in BAD for value in wrong],
    ids=lambda value: getattr(value, "__name__", repr(value)[:30]),
)
def test_a_field_out_of_bounds_is_refused(kind: type[Signed], place: int, value: Any) -> None:
    fields = list(GOOD[kind])
    fields[place] = value
    with pytest.raises(WireError):
        parse(kind, *fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (NodeRecord, (BIG - 1, blob(1), ("é" * 64,) * 8, BIG - 1, "x" * 32, (bytes(64),) * 8)),
        (NodeRecord, (0, blob(1), (), 0, "", ())),
        (Bundle, (BIG - 1, BIG - 1, (b"",) * 512)),
        (Bundle, (1, 1, (bytes(say.OPERATION_BYTES_MAX),))),
        (Bundle, (1, 1, (bytes(say.BUNDLE_BYTES_MAX // 2),) * 2)),
        (FetchBatches, (0, 5, 4 + say.FETCH_BATCHES_MAX)),
        (Commit, (BIG - 1,) * 3 + (blob(1), BIG - 1)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bounds_are_inside(kind: type[Signed], fields: tuple[Any, ...]) -> None:
    assert parse(kind, *fields).fields() == fields


def test_the_base_has_no_shape() -> None:
    with pytest.raises(AssertionError):
        Signed().fields()
    with pytest.raises(AssertionError):
        Signed.parse((), nothing_opens)


def test_messages_never_change(voices: Voices) -> None:
    with pytest.raises(FrozenInstanceError):
        voices.signed[Prepare].message.view = 1


# --- what is inside others --------------------------------------------------------------------


def test_another_kind_inside_is_refused(voices: Voices) -> None:
    """A good signature on something else than belongs there."""
    opener = voices.opener()
    prepare, checkpoint = voices.signed[Prepare], voices.signed[Checkpoint]
    for fields in (
        (0, 4, 64, (prepare.raw,), ()),
        (0, 4, 64, (), ((prepare.raw, ()),)),
        (0, 4, 64, (), ((voices.signed[PrePrepare].raw, (checkpoint.raw,)),)),
    ):
        with pytest.raises(WireError, match="another kind"):
            ViewChange.parse(fields, opener.open)
    for batch in (
        ((prepare.raw,), ()),
        ((), (prepare.raw,)),
    ):
        with pytest.raises(WireError, match="another kind"):
            Batch.open(codec.encode(batch), opener.open)


def test_a_batch_is_its_content(voices: Voices) -> None:
    bundle, status = voices.signed[Bundle], voices.signed[Status]
    batch = Batch((status,), (bundle,))
    again = Batch.open(batch.raw, voices.opener().open)
    assert again == batch
    assert again.raw == batch.raw
    assert again.digest == batch.digest == sodium.digest(b"aegis-edge batch", batch.raw)
    assert Batch((), (bundle,)).digest != batch.digest
    assert Batch.open(say.NULL_BATCH.raw, nothing_opens) == say.NULL_BATCH


@pytest.mark.parametrize(
    "value", [0, (), ((),), ((), (), ()), (1, ()), ((), 1), ((b"",) * 65, ()), ((), (b"",) * 65)]
)
def test_a_batch_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        Batch.open(codec.encode(value), nothing_opens)


def test_a_proposal_holds_the_batch_that_it_names(voices: Voices) -> None:
    proposal = voices.carriers[Proposal]
    other = Proposal(proposal.pre_prepare, say.NULL_BATCH)
    with pytest.raises(WireError, match="names"):
        read(other.pack(), voices.opener().open)


def test_a_committed_batch_holds_the_batch_that_its_commits_name(voices: Voices) -> None:
    committed = voices.carriers[Committed]
    stray = voices.signers[3].sign(Commit(0, 3, 71, blob(7), 5))
    for other in (
        Committed(committed.commits, say.NULL_BATCH),
        Committed((*committed.commits, stray), committed.batch),
    ):
        with pytest.raises(WireError, match="another batch"):
            read(other.pack(), voices.opener().open)


def test_the_largest_new_view_that_a_genesis_allows_fits_into_a_message() -> None:
    """n = 19 is the largest cluster of the default window: 13 times 13 times 128 votes."""
    quorum, window, top = 13, 128, say.COUNTER_MAX
    signers = [Signer(bytes((n,)) * 32, CLUSTER, sign=lambda *_: bytes(64)) for n in range(quorum)]

    def certificate(sequence: int) -> PreparedCertificate:
        fields = (top, top, sequence, blob(7))
        prepares = tuple(s.sign(Prepare(*fields)) for s in signers[1:])
        return PreparedCertificate(signers[0].sign(PrePrepare(*fields)), prepares)

    full = tuple(certificate(top - n) for n in range(window))
    stable = tuple(s.sign(Checkpoint(top, top, blob(8))) for s in signers)
    changes = tuple(s.sign(ViewChange(top, top, top, stable, full)) for s in signers)
    new = signers[0].sign(NewView(top, top, changes, tuple(c.pre_prepare for c in full)))
    bound = say.new_view_bytes_max(quorum, window)
    assert 0.95 * bound < len(new.raw) <= bound <= say.MESSAGE_BYTES_MAX
    assert read(new.raw, Opener(CLUSTER, verify=lambda *_: True).open) == new


def test_carriers_are_bounded(voices: Voices) -> None:
    checkpoints = tuple(
        Signer(bytes((number,)) * 32, CLUSTER).sign(Checkpoint(0, 64, blob(8)))
        for number in range(say.MEMBERS_MAX + 1)
    )
    full = StableCheckpoint(checkpoints[:-1])
    assert read(full.pack(), voices.opener().open) == full
    with pytest.raises(WireError, match="at most 64"):
        read(StableCheckpoint(checkpoints).pack(), voices.opener().open)
    with pytest.raises(WireError, match="two votes of one signer"):
        read(StableCheckpoint((*checkpoints[:2], checkpoints[1])).pack(), voices.opener().open)


@pytest.mark.parametrize(
    "fields",
    [
        (6,),
        (6, 1),
        (6, 1, 1, 1),
        *((6, wrong, 1) for wrong in COUNTER),
        *((6, 1, wrong) for wrong in COUNTER),
        (7, 1, 0, True),
        (7, 1, 0, True, (), 0),
        *((7, wrong, 0, True, ()) for wrong in COUNTER),
        *((7, 1, wrong, True, ()) for wrong in (say.HOPS_MAX + 1, *COUNTER)),
        *((7, 1, 0, wrong, ()) for wrong in (0, 1, None, b"")),
        *((7, 1, 0, True, wrong) for wrong in (None, b"", (blob(1),) * 5, *((d,) for d in DIGEST))),
    ],
    ids=repr,
)
def test_what_is_asked_and_said_of_following_is_bounded(fields: Any) -> None:
    with pytest.raises(WireError):
        read(codec.encode(fields), nothing_opens)


def test_the_bounds_of_following_are_inside() -> None:
    for carrier in (
        say.Follow(BIG - 1, BIG - 1),
        say.Follow(0, 0),
        say.Reached(BIG - 1, say.HOPS_MAX, True, (blob(1),) * say.OTHERS_MAX),
    ):
        assert read(carrier.pack(), nothing_opens) == carrier


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        ((), "barn\x1b]0;mine\x07"),
        ((), "barn\nERROR all is lost"),
        (("tcp:a b:1",), "barn"),
        (("tcp:a\x00:1",), "barn"),
        (("",), "barn"),
    ],
)
def test_a_record_holds_nothing_that_a_terminal_would_obey(
    addresses: tuple[str, ...], name: str, voices: Voices
) -> None:
    record = voices.signers[0].sign(NodeRecord(1, blob(9), addresses, 2**31, name))
    with pytest.raises(WireError, match=r"cannot be shown|spaces"):
        voices.opener().open(record.raw)


def test_messages_of_another_cluster_are_refused(voices: Voices) -> None:
    stranger = Opener(CLUSTER[::-1])
    for carrier in voices.carriers.values():
        if isinstance(carrier, UNPROVEN):
            continue  # says nothing by itself
        with pytest.raises(WireError, match="signature"):
            read(carrier.pack(), stranger.open)


# --- who follows --------------------------------------------------------------------------------


def test_a_commit_says_who_follows_or_that_nobody_does() -> None:
    plain = (1, 2, 3, blob(4), 5)
    assert parse(Commit, *plain).fields() == plain
    assert parse(Commit, *plain, blob(6)) == Commit(*plain, blob(6))
    assert Commit(*plain, blob(6)).fields() == (*plain, blob(6))
    assert Commit(*plain, blob(6)).vote == (1, 2, 3, blob(4), blob(6))
    assert Commit(*plain[:4], 9).vote == Commit(*plain).vote == (*plain[:4], b"")
    for wrong in (b"", b"short", None, 0):
        with pytest.raises(WireError, match="32 bytes"):
            parse(Commit, *plain, wrong)


def heirs(voices: Voices, *members: bytes) -> say.Handover:
    said = Commit(0, 3, 71, blob(7), 5, blob(6))
    return say.Handover(members, tuple(s.sign(said) for s in voices.signers))


def test_a_handover_is_the_keys_of_members_and_commits_of_distinct_signers(voices: Voices) -> None:
    open_ = voices.opener().open
    good = heirs(voices, blob(1), blob(2))
    assert say.Handover.open(good.raw, open_) == good
    most = heirs(voices, *(blob(number) for number in range(say.MEMBERS_MAX)))
    assert say.Handover.open(most.raw, open_) == most
    for wrong in ((), (blob(2), blob(1)), (blob(1), blob(1)), (blob(1), b"short")):
        with pytest.raises(WireError, match="keys of members"):
            say.Handover.open(heirs(voices, *wrong).raw, open_)
    with pytest.raises(WireError):
        say.Handover.open(heirs(voices, *(blob(n) for n in range(65))).raw, open_)
    agreed = replace(good, terms=b"what they agreed on")
    assert say.Handover.open(agreed.raw, open_) == agreed
    raws = tuple(c.raw for c in good.commits)
    vote = voices.signed[Prepare].raw
    for fields in (
        (b"".join(good.members),),
        (b"".join(good.members), raws, 0),
        (b"".join(good.members), raws, b""),
        (b"".join(good.members), raws, bytes(say.TERMS_BYTES_MAX + 1)),
        (b"".join(good.members), raws, b"terms", b""),
        (b"".join(good.members), (*raws, raws[0])),
        (b"".join(good.members), (vote,)),
        (b"".join(good.members), (b"raw",)),
        (good.members, raws),
        (b"".join(good.members), raws[0]),
    ):
        with pytest.raises(WireError):
            say.Handover.open(codec.encode(fields), open_)
    for raw in (None, b"", bytes(say.HANDOVER_BYTES_MAX + 1), good.raw[:-1], good.raw + b"x"):
        with pytest.raises(WireError):
            say.Handover.open(raw, open_)


def test_the_largest_handover_has_room(voices: Voices) -> None:
    top = say.COUNTER_MAX
    signers = [Signer(bytes((n,)) * 32, CLUSTER) for n in range(say.MEMBERS_MAX)]
    said = Commit(top, top, top, blob(7), top, blob(6))
    members = tuple(sorted(s.public for s in signers))
    terms = bytes(say.TERMS_BYTES_MAX)
    handover = say.Handover(members, tuple(s.sign(said) for s in signers), terms)
    assert len(handover.raw) < say.HANDOVER_BYTES_MAX
    assert say.Handover.open(handover.raw, voices.opener().open) == handover


def test_a_lineage_is_a_checkpoint_or_none_and_handovers(voices: Voices) -> None:
    open_ = voices.opener().open
    stable = voices.carriers[StableCheckpoint]
    assert say.read_lineage(say.pack_lineage(b"", ()), open_) == ((), ())
    data = say.pack_lineage(stable.pack(), (b"one", b"two"))
    assert say.read_lineage(data, open_) == (stable.checkpoints, (b"one", b"two"))
    for wrong in (
        (stable.pack(),),
        (stable.pack(), (), ()),
        (stable.pack(), (1,)),
        (stable.pack(), (b"",) * (say.HANDOVERS_MAX + 1)),
        (stable.pack(), (bytes(say.HANDOVER_BYTES_MAX + 1),)),
        (None, ()),
        (voices.carriers[say.StatePart].pack(), ()),
        (codec.encode(()), ()),
        (codec.encode((StableCheckpoint.TAG,)), ()),
        (b"none", ()),
    ):
        with pytest.raises(WireError):
            say.read_lineage(codec.encode(wrong), open_)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_handover_a_lineage_or_an_error(data: bytes) -> None:
    opener = Opener(CLUSTER, verify=lambda *_: True)
    for read_ in (say.Handover.open, say.read_lineage):
        try:
            read_(data, opener.open)
        except WireError:
            continue

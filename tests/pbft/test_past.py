"""What was executed here lately, and what contradicts it."""

from aegis_edge.pbft.past import Past
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Checkpoint, Verified

SIGNER = Signer(b"s" * 32, b"c" * 32)


def stable(sequence: int, root: bytes) -> tuple[Verified[Checkpoint], ...]:
    return (SIGNER.sign(Checkpoint(0, sequence, root)),)


def test_batches_are_remembered_for_one_window() -> None:
    past = Past(8)
    for sequence in range(1, 21):
        past.executed(sequence, b"%d" % sequence)
    assert not past.denies(20, b"20")
    assert past.denies(20, b"other")
    assert past.denies(13, b"other")
    assert not past.denies(12, b"other"), "too long ago"
    assert not past.denies(21, b"other"), "not yet"


def test_with_another_window_it_goes_back_as_far_as_that() -> None:
    past = Past(8)
    past.spans(4)  # before anything was executed
    past.spans(8)
    for sequence in range(1, 21):
        past.executed(sequence, b"%d" % sequence)
    past.spans(4)
    assert [past.denies(s, b"other") for s in (16, 17)] == [False, True]
    past.spans(8)
    for sequence in range(21, 30):
        past.executed(sequence, b"%d" % sequence)
    assert [past.denies(s, b"other") for s in (21, 22)] == [False, True]


def test_roots_are_remembered_for_one_window() -> None:
    past = Past(8)
    for sequence in (4, 8, 12):
        past.took(sequence, b"%d" % sequence)
    assert [past.root(s) for s in (4, 8, 12, 16)] == [None, b"8", b"12", None]
    assert past.denies_root(stable(8, b"other"))
    assert not past.denies_root(stable(8, b"8"))
    assert not past.denies_root(stable(4, b"other")), "too long ago"
    assert not past.denies_root(()), "the genesis is nobody's word"

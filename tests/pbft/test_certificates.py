"""Rules 2 and 4: what counts as proof, and every way in which votes do not add up."""

import pytest

from aegis_edge.pbft import certificates
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    Checkpoint,
    Commit,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Verified,
)

SIGNERS = sorted((Signer(bytes([i]) * 32, b"c" * 32) for i in range(1, 6)), key=lambda s: s.public)
FOUR = Configuration(0, tuple(s.public for s in SIGNERS[:4]), 1)
DIGEST, OTHER = b"d" * 32, b"e" * 32


def pre_prepare(i: int = 0, view: int = 0, configuration: int = 0) -> Verified[PrePrepare]:
    return SIGNERS[i].sign(PrePrepare(configuration, view, 7, DIGEST))


def prepare(i: int, view: int = 0, sequence: int = 7, digest: bytes = DIGEST) -> Verified[Prepare]:
    return SIGNERS[i].sign(Prepare(0, view, sequence, digest))


def commit(
    i: int, view: int = 0, digest: bytes = DIGEST, configuration: int = 0, clock: int = 1
) -> Verified[Commit]:
    return SIGNERS[i].sign(Commit(configuration, view, 7, digest, clock))


def checkpoint(
    i: int, sequence: int = 64, root: bytes = DIGEST, configuration: int = 0
) -> Verified[Checkpoint]:
    return SIGNERS[i].sign(Checkpoint(configuration, sequence, root))


def test_a_prepared_certificate() -> None:
    assert certificates.is_prepared(
        PreparedCertificate(pre_prepare(), (prepare(1), prepare(2))), FOUR
    )


@pytest.mark.parametrize(
    ("named", "prepares"),
    [
        (pre_prepare(), (prepare(1),)),  # too few
        (pre_prepare(), (prepare(1), prepare(1))),  # one backup twice
        (pre_prepare(), (prepare(0), prepare(1))),  # 4: the primary sends no prepare
        (pre_prepare(), (prepare(1), prepare(4))),  # a stranger
        (pre_prepare(), (prepare(1), prepare(2, digest=OTHER))),  # another digest
        (pre_prepare(), (prepare(1), prepare(2, view=4))),  # another view
        (pre_prepare(), (prepare(1), prepare(2, sequence=8))),  # another slot
        (pre_prepare(1), (prepare(2), prepare(3))),  # not the primary of view 0
        (pre_prepare(configuration=1), (prepare(1), prepare(2))),  # another configuration
    ],
)
def test_votes_that_prove_nothing(
    named: Verified[PrePrepare], prepares: tuple[Verified[Prepare], ...]
) -> None:
    assert not certificates.is_prepared(PreparedCertificate(named, prepares), FOUR)


def test_a_commit_certificate_may_differ_in_clocks() -> None:
    assert certificates.is_commit(tuple(commit(i, clock=i) for i in range(3)), FOUR)


@pytest.mark.parametrize(
    "commits",
    [
        (),
        (commit(0), commit(1)),
        (commit(0), commit(1), commit(1)),
        (commit(0), commit(1), commit(4)),
        (commit(0), commit(1), commit(2, digest=OTHER)),
        (commit(0), commit(1), commit(2, view=1)),
        tuple(commit(i, configuration=1) for i in range(3)),
    ],
)
def test_commits_that_prove_nothing(commits: tuple[Verified[Commit], ...]) -> None:
    assert not certificates.is_commit(commits, FOUR)


def test_s6_08_matching_checkpoints_not_merely_a_count_of_them() -> None:
    assert certificates.is_stable(64, tuple(checkpoint(i) for i in range(3)), FOUR)
    assert certificates.is_stable(0, (), FOUR)


@pytest.mark.parametrize(
    ("sequence", "checkpoints"),
    [
        (0, tuple(checkpoint(i, sequence=1) for i in range(3))),
        (64, ()),
        (64, (checkpoint(0), checkpoint(1), checkpoint(1))),
        (64, (checkpoint(0), checkpoint(1), checkpoint(4))),
        (64, (checkpoint(0), checkpoint(1), checkpoint(2, root=OTHER))),
        (64, (checkpoint(0), checkpoint(1), checkpoint(2, sequence=128))),
        (64, tuple(checkpoint(i, configuration=1) for i in range(3))),
    ],
)
def test_checkpoints_that_prove_nothing(
    sequence: int, checkpoints: tuple[Verified[Checkpoint], ...]
) -> None:
    assert not certificates.is_stable(sequence, checkpoints, FOUR)

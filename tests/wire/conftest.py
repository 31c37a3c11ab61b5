"""A small cluster that has said one of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from aegis_edge.wire import messages as say
from aegis_edge.wire.envelope import Opener, Signer

CLUSTER = bytes(range(32))


def blob(number: int) -> bytes:
    return bytes((number,)) * 32


@dataclass(frozen=True)
class Voices:
    """Four signers, and one message of every kind, signed."""

    signers: tuple[Signer, ...]
    signed: dict[type[say.Signed], say.Verified[Any]]
    carriers: dict[type[say.Carrier], say.Carrier]

    def opener(self, **options: Any) -> Opener:
        return Opener(CLUSTER, **options)


@pytest.fixture(scope="session")
def voices() -> Voices:
    signers = tuple(Signer(blob(number), CLUSTER) for number in range(1, 5))
    one, two, three, four = signers
    record = say.NodeRecord(1, blob(9), ("tcp:10.0.0.1:8080", "tcp:[::1]:8080"), 2**31, "böard")
    bundle = one.sign(say.Bundle(1, 1, (b"put", b"get")))
    status = two.sign(say.Status(0, 3, True, 64, 70, 1_763_800_000_000, 40_000))
    commit = three.sign(say.Commit(0, 0, 1, blob(7), 1_763_800_000_000))
    batch = say.Batch((status, commit), (bundle,))
    named = one.sign(say.PrePrepare(0, 3, 71, batch.digest))
    prepares = tuple(s.sign(say.Prepare(0, 3, 71, batch.digest)) for s in (two, three))
    commits = tuple(s.sign(say.Commit(0, 3, 71, batch.digest, 5)) for s in (one, two, three))
    checkpoints = tuple(s.sign(say.Checkpoint(0, 64, blob(8))) for s in (one, two, three))
    prepared = say.PreparedCertificate(named, prepares)
    changes = tuple(s.sign(say.ViewChange(0, 4, 64, checkpoints, (prepared,))) for s in signers)
    null = two.sign(say.PrePrepare(0, 4, 72, say.NULL_BATCH.digest))
    signed = (
        four.sign(record),
        bundle,
        named,
        prepares[0],
        commit,
        checkpoints[0],
        changes[0],
        two.sign(say.NewView(0, 4, changes, (named, null))),
        status,
        one.sign(say.FetchBatches(0, 5, 132)),
        one.sign(say.FetchBody(0, batch.digest)),
        two.sign(say.Gone(0, 5)),
        one.sign(say.FetchState(0, 64, 1, (b"\x01", b"\x02"))),
        two.sign(say.AskReadIndex(0, 1_763_800_000, 7)),
        one.sign(say.ReadIndex(0, 1_763_800_000, 7, 70)),
        one.sign(say.Pass(blob(7), 1_763_800_000_000)),
    )
    carriers = (
        say.Proposal(named, batch),
        say.Committed(commits, batch),
        say.Body(batch),
        say.StableCheckpoint(checkpoints),
        say.StatePart(64, 1, b"pieces"),
        say.Follow(70, 1 << 20),
        say.Reached(71, 2, False, (blob(1), blob(2))),
    )
    return Voices(signers, {type(v.message): v for v in signed}, {type(c): c for c in carriers})

"""Rules 7 and 8: which view changes are valid, and which pre-prepares follow from them."""

import pytest

from aegis_edge.pbft import view_change
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    NULL_BATCH,
    Checkpoint,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Verified,
    ViewChange,
)

SIGNERS = sorted((Signer(bytes([i]) * 32, b"c" * 32) for i in range(1, 6)), key=lambda s: s.public)
FOUR = Configuration(0, tuple(s.public for s in SIGNERS[:4]), 1)
PARAMETERS = Parameters(checkpoint_interval=4, window=8)


def digest(text: str) -> bytes:
    return text.encode().ljust(32, b".")


def prepared(sequence: int, view: int, text: str) -> PreparedCertificate:
    fields = (0, view, sequence, digest(text))
    backups = [i for i in range(4) if i != view % 4][:2]
    return PreparedCertificate(
        SIGNERS[view % 4].sign(PrePrepare(*fields)),
        tuple(SIGNERS[i].sign(Prepare(*fields)) for i in backups),
    )


def stable(sequence: int) -> tuple[Verified[Checkpoint], ...]:
    return tuple(SIGNERS[i].sign(Checkpoint(0, sequence, digest("root"))) for i in range(3))


def change(
    i: int,
    *certificates: PreparedCertificate,
    view: int = 3,
    start: int = 0,
    configuration: int = 0,
) -> Verified[ViewChange]:
    proof = stable(start) if start else ()
    return SIGNERS[i].sign(ViewChange(configuration, view, start, proof, certificates))


def judge(said: Verified[ViewChange]) -> str | None:
    return view_change.judge_view_change(said, FOUR, PARAMETERS)


def test_valid_view_changes() -> None:
    assert judge(change(0)) is None
    assert judge(change(0, prepared(1, 0, "a"), prepared(3, 2, "b"))) is None
    assert judge(change(0, prepared(5, 1, "a"), start=4)) is None


def test_s8_08_a_view_change_is_refused_whole() -> None:
    bare = SIGNERS[0].sign(ViewChange(0, 3, 4, (), ()))
    assert judge(change(4)) == "it is not from a member of this configuration"
    assert judge(change(0, configuration=1)) == "it is not from a member of this configuration"
    assert judge(bare) == "its checkpoint is not proven"
    out = "its certificates are out of order or out of the window"
    assert judge(change(0, prepared(2, 0, "a"), prepared(1, 0, "b"))) == out
    assert judge(change(0, prepared(4, 0, "a"), start=4)) == out
    assert judge(change(0, prepared(9, 0, "a"))) == out
    nothing = "one of its certificates proves nothing"
    assert judge(change(0, prepared(1, 3, "a"))) == nothing
    weak = prepared(1, 0, "a")
    weak = PreparedCertificate(weak.pre_prepare, weak.prepares[:1])
    assert judge(change(0, prepared(2, 0, "a"), view=3)) is None
    assert judge(change(0, weak)) == nothing


def test_s8_07_the_highest_prepared_view_wins_and_holes_become_null() -> None:
    changes = (
        change(0, prepared(1, 0, "old"), prepared(3, 0, "c")),
        change(1, prepared(1, 2, "new")),
        change(2, prepared(1, 1, "mid")),
    )
    assert view_change.order(changes) == [
        (1, digest("new")),
        (2, NULL_BATCH.digest),
        (3, digest("c")),
    ]


def test_s8_07_nothing_at_or_under_the_highest_checkpoint() -> None:
    changes = (
        change(0, prepared(1, 0, "a"), prepared(5, 0, "b")),
        change(1, start=4),
        change(2, prepared(4, 1, "c")),
    )
    assert view_change.stable_of(changes)[0] == 4
    assert view_change.order(changes) == [(5, digest("b"))]
    assert view_change.order((change(0), change(1))) == []


def new_view(
    *changes: Verified[ViewChange],
    by: int = 3,
    view: int = 3,
    configuration: int = 0,
    spoil: str = "",
) -> Verified[NewView]:
    pairs = view_change.order(changes) if changes else []
    signer = SIGNERS[by]
    pre_prepares = [signer.sign(PrePrepare(configuration, view, s, d)) for s, d in pairs]
    if spoil == "foreign":
        pre_prepares = [SIGNERS[0].sign(p.message) for p in pre_prepares]
    elif spoil == "dropped":
        pre_prepares = pre_prepares[:-1]
    elif spoil == "other":
        pre_prepares[0] = signer.sign(PrePrepare(0, view, 1, digest("mine")))
    return signer.sign(NewView(configuration, view, changes, tuple(pre_prepares)))


GOOD = (
    change(0, prepared(1, 0, "a"), prepared(2, 1, "b")),
    change(1),
    change(2, prepared(1, 0, "a")),
)


def test_a_new_view() -> None:
    assert view_change.judge_new_view(new_view(*GOOD), FOUR, PARAMETERS) is None


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (new_view(*GOOD, by=2), "it is not from the primary of its view"),
        (new_view(*GOOD, configuration=1), "it is not from the primary of its view"),
        (new_view(*GOOD[:2]), "it shows no quorum of view changes"),
        (new_view(*GOOD[:2], GOOD[0]), "it shows no quorum of view changes"),
        (new_view(*GOOD[:2], change(2, view=7)), "it shows a view change for another view"),
        (
            new_view(*GOOD[:2], change(4)),
            "it shows a view change that is refused: it is not from a member of this configuration",
        ),
        (new_view(*GOOD, spoil="foreign"), "its pre-prepares do not follow from its view changes"),
        (new_view(*GOOD, spoil="dropped"), "its pre-prepares do not follow from its view changes"),
        (new_view(*GOOD, spoil="other"), "its pre-prepares do not follow from its view changes"),
    ],
)
def test_s8_07_every_replica_recomputes_what_must_follow(
    new: Verified[NewView], reason: str
) -> None:
    assert view_change.judge_new_view(new, FOUR, PARAMETERS) == reason

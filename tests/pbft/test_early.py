"""Rules 5 and 16: what comes too early waits within a bound per sender."""

from aegis_edge.pbft import early
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Batch, Bundle, Prepare, PrePrepare, Proposal

ONE = Signer(b"1" * 32, b"c" * 32)


def prepare(i: int) -> object:
    return ONE.sign(Prepare(0, 1, i, b"d" * 32))


def test_order_is_kept_and_senders_are_apart() -> None:
    waiting = early.Early()
    messages = [prepare(i) for i in (1, 2, 3)]
    waiting.add(b"b", messages[0])  # type: ignore[arg-type]
    waiting.add(b"a", messages[1])  # type: ignore[arg-type]
    waiting.add(b"b", messages[2])  # type: ignore[arg-type]
    assert waiting.drain() == [(b"a", messages[1]), (b"b", messages[0]), (b"b", messages[2])]
    assert waiting.drain() == []


def test_a_flooding_sender_only_loses_its_own() -> None:
    waiting = early.Early()
    waiting.add(b"quiet", prepare(1))  # type: ignore[arg-type]
    for i in range(1, early.COUNT_MAX + 10):
        waiting.add(b"loud", prepare(i))  # type: ignore[arg-type]
    drained = waiting.drain()
    assert len([s for s, _ in drained if s == b"loud"]) == early.COUNT_MAX
    assert len([s for s, _ in drained if s == b"quiet"]) == 1


def test_bytes_are_bounded_too() -> None:
    waiting = early.Early()
    bundles = tuple(
        ONE.sign(Bundle(1, i, (bytes([i]) * 200_000, bytes([i]) * 200_000))) for i in (1, 2)
    )
    batch = Batch((), bundles)
    proposals = [Proposal(ONE.sign(PrePrepare(0, 1, i, batch.digest)), batch) for i in (1, 2, 3, 4)]
    for proposal in proposals:
        waiting.add(b"loud", proposal)
    assert waiting.drain() == [(b"loud", proposals[-1])]


def test_the_same_again_takes_no_room() -> None:
    waiting = early.Early()
    waiting.add(b"a", prepare(1))  # type: ignore[arg-type]
    for _ in range(early.COUNT_MAX):
        waiting.add(b"a", prepare(2))  # type: ignore[arg-type]
    assert waiting.drain() == [(b"a", prepare(1)), (b"a", prepare(2))]

"""Waiting bundles: one execution each, fairness between origins, and ages."""

from aegis_edge.pbft.pool import AHEAD_MAX, CARRIED_MAX, Pool, follows
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    BATCH_BUNDLES_MAX,
    BUNDLE_BYTES_MAX,
    OPERATION_BYTES_MAX,
    Bundle,
    Verified,
)

ONE = Signer(b"1" * 32, b"c" * 32)
TWO = Signer(b"2" * 32, b"c" * 32)


def bundle(signer: Signer, incarnation: int, number: int, *ops: bytes) -> Verified[Bundle]:
    return signer.sign(Bundle(incarnation, number, ops or (b"op",)))


def test_what_follows_what() -> None:
    assert follows((1, 1), (0, 0))
    assert follows((1, 2), (1, 1))
    assert follows((5, 1), (1, 9))
    assert not follows((1, 3), (1, 1))
    assert not follows((2, 2), (1, 1))
    assert not follows((1, 1), (2, 1))


def test_a_bundle_is_taken_once_and_refused_after_execution() -> None:
    pool = Pool({})
    first = bundle(ONE, 1, 1)
    assert pool.add(first, 5) == "new"
    assert pool.add(first, 6) == "known"
    assert pool.add(bundle(ONE, 1, 1, b"other"), 6) == "conflict"
    assert pool.execute((first,), 0) == (first,)
    assert pool.add(first, 7) == "stale"
    assert pool.execute((first,), 0) == (), "20: a request executes once"
    assert pool.origins() == []


def test_a_gap_waits_and_does_not_age() -> None:
    pool = Pool({ONE.public: (1, 1)})
    pool.add(bundle(ONE, 1, 3), 5)
    assert pool.oldest_ticks() is None, "a faulty origin must not make a primary look slow"
    assert not pool.has_unproposed()
    assert pool.since_ticks((bundle(ONE, 1, 3),)) is None
    pool.add(bundle(ONE, 1, 2), 9)
    assert pool.oldest_ticks() == 9, "s8_10: nor by the gap that it fills when it likes"
    assert pool.since_ticks((bundle(ONE, 1, 3),)) == 9
    assert [b.message.number for b, _ in pool.waiting(ONE.public)] == [2, 3]


def test_s8_10_a_gap_that_is_filled_elsewhere_does_not_age_either() -> None:
    """The primary alone is given what is missing; here it comes with its batch."""
    pool = Pool({ONE.public: (1, 1)})
    pool.add(bundle(ONE, 1, 3), 5)
    pool.add(bundle(ONE, 1, 4), 6)
    missing = (bundle(ONE, 1, 2), bundle(ONE, 1, 3))
    assert pool.since_ticks(missing) is None
    assert pool.execute(missing, 9) == missing
    assert pool.oldest_ticks() == 9


def test_what_was_waiting_in_its_place_keeps_its_age() -> None:
    pool = Pool({})
    for number in (1, 2):
        pool.add(bundle(ONE, 1, number), 5)
    pool.execute((bundle(ONE, 1, 1),), 9)
    assert pool.oldest_ticks() == 5


def test_a_batch_executes_in_the_origins_order_only() -> None:
    pool = Pool({ONE.public: (1, 1)})
    one, two, three = (bundle(ONE, 1, i) for i in (1, 2, 3))
    assert pool.execute((three, one, two), 0) == (two,)
    assert pool.last_executed(ONE.public) == (1, 2)
    assert pool.execute((three,), 0) == (three,)


def test_a_restarted_origin_voids_what_it_left_behind() -> None:
    pool = Pool({})
    old = bundle(ONE, 1, 1)
    pool.add(old, 0)
    assert pool.add(bundle(ONE, 2, 1), 1) == "new"
    assert pool.add(bundle(ONE, 1, 2), 1) == "stale"
    assert pool.execute((bundle(ONE, 2, 1),), 0)
    assert pool.execute((old,), 0) == ()


def test_s8_22_an_origin_has_a_bounded_share() -> None:
    pool = Pool({ONE.public: (1, 4)})
    assert pool.add(bundle(ONE, 1, 4 + AHEAD_MAX), 0) == "new"
    assert pool.add(bundle(ONE, 1, 5 + AHEAD_MAX), 0) == "far"
    assert pool.add(bundle(ONE, 2, AHEAD_MAX + 1), 0) == "far"


def test_a_gap_in_a_higher_incarnation_hides_nothing() -> None:
    """Else a hostile origin makes backups wait for what their primary cannot order."""
    pool = Pool({})
    pool.add(bundle(ONE, 5, 1), 0)
    assert pool.add(bundle(ONE, 6, 2), 1) == "far"
    assert [b.message.incarnation for b, _ in pool.waiting(ONE.public)] == [5]
    assert pool.add(bundle(ONE, 6, 1), 2) == "new"
    assert [b.message.incarnation for b, _ in pool.waiting(ONE.public)] == [6]


def test_a_batch_takes_origins_in_turn() -> None:
    pool = Pool({})
    for number in (1, 2, 3):
        pool.add(bundle(ONE, 1, number), 0)
    pool.add(bundle(TWO, 1, 1), 0)
    assert pool.take() != ()
    pool.forget_proposed(7)
    origins = [taken.signer for taken in pool.take()]
    assert sorted(origins[:2]) == sorted([ONE.public, TWO.public])
    assert len(origins) == 4
    assert pool.take() == ()
    assert pool.oldest_ticks() == 7, "a new view starts every age anew"


def test_a_batch_is_bounded_in_bytes_and_count() -> None:
    pool = Pool({})
    big = (b"x" * OPERATION_BYTES_MAX, b"y" * (BUNDLE_BYTES_MAX - OPERATION_BYTES_MAX))
    for number in (1, 2, 3):
        pool.add(bundle(ONE, 1, number, *big), 0)
    assert len(pool.take()) == 1
    assert len(pool.take()) == 1
    many = Pool({})
    for i in range(BATCH_BUNDLES_MAX + 1):
        many.add(bundle(Signer(bytes([i]) * 32, b"c" * 32), 1, 1), 0)
    assert len(many.take()) == BATCH_BUNDLES_MAX
    assert len(many.take()) == 1


def test_nothing_to_take() -> None:
    assert Pool({}).take() == ()
    assert Pool({}).waiting(ONE.public) == []


def test_marked_bundles_are_not_proposed_again() -> None:
    pool = Pool({})
    first, second, third = (bundle(ONE, 1, i) for i in (1, 2, 3))
    for b in (first, second, third):
        pool.add(b, 0)
    pool.mark_proposed((first, third))
    assert pool.take() == (second, third)


def test_execution_of_an_unknown_bundle_counts() -> None:
    pool = Pool({ONE.public: (1, 1)})
    pool.add(bundle(ONE, 1, 3), 0)
    assert pool.execute((bundle(ONE, 1, 2),), 0)
    assert pool.has_unproposed()


def test_a_bundle_signed_again_is_the_same_bundle() -> None:
    pool = Pool({})
    again = Signer(b"1" * 32, b"c" * 32, sign=lambda *_: bytes(64))
    assert pool.add(bundle(ONE, 1, 1), 5) == "new"
    assert pool.add(bundle(again, 1, 1), 5) == "known"


def test_the_age_of_what_is_executed() -> None:
    pool = Pool({})
    first, second, foreign = bundle(ONE, 1, 1), bundle(ONE, 1, 2), bundle(TWO, 1, 1)
    pool.add(first, 5)
    pool.add(second, 7)
    assert pool.since_ticks((foreign, second, first)) == 5
    assert pool.since_ticks((foreign,)) is None


def test_what_can_execute_is_measured_by_origin_and_once() -> None:
    pool = Pool({TWO.public: (1, 2)})
    first, second, beyond = (bundle(ONE, 1, number) for number in (1, 2, 4))
    size = len(first.raw)
    for waiting in (first, second, beyond):
        pool.add(waiting, 0)
    assert pool.waiting_bytes((), 0) == {ONE.public: 2 * size}, "nothing behind a gap"
    old, new = bundle(TWO, 1, 2), bundle(TWO, 1, 3)
    ordered = (old, first, new, new)
    assert pool.waiting_bytes(ordered, 0) == {ONE.public: 2 * size, TWO.public: size}
    pool.execute((new, first, old), 9)
    assert pool.carried_bytes(8) == {ONE.public: size, TWO.public: size}
    assert pool.carried_bytes(9) == {}
    assert pool.waiting_bytes((), 8) == {ONE.public: 2 * size, TWO.public: size}
    assert pool.waiting_bytes((), 9) == {ONE.public: size}
    for number in range(4, 4 + CARRIED_MAX):
        pool.execute((bundle(TWO, 1, number),), 9 + number)
    assert ONE.public not in pool.carried_bytes(0), "the last ones"


def test_a_bundle_is_relayed_once_in_a_while_and_few_of_an_origin() -> None:
    pool = Pool({})
    first = bundle(ONE, 1, 1)
    assert pool.may_relay(first, 0, 100)
    assert not pool.may_relay(first, 99, 100)
    assert pool.may_relay(first, 100, 100)
    for number in range(2, AHEAD_MAX + 1):
        assert pool.may_relay(bundle(ONE, 1, number), 150, 100)
    assert not pool.may_relay(bundle(ONE, 2, 1), 150, 100), "lives are made up at no cost"
    assert pool.may_relay(bundle(TWO, 1, 1), 150, 100)
    assert pool.may_relay(bundle(ONE, 2, 1), 200, 100)


def test_what_would_be_executed_is_what_is_and_nothing_is_yet() -> None:
    pool = Pool({TWO.public: (1, 2)})
    batch = (
        bundle(ONE, 1, 1),
        bundle(ONE, 1, 1),
        bundle(ONE, 1, 3),
        bundle(ONE, 1, 2),
        bundle(TWO, 1, 2),
        bundle(TWO, 2, 1),
        bundle(TWO, 1, 3),
        bundle(ONE, 1, 3),
    )
    foreseen = pool.would_execute(batch)
    assert foreseen == (batch[0], batch[3], batch[5], batch[7])
    assert pool.executed == {TWO.public: (1, 2)}
    assert pool.execute(batch, 0) == foreseen
    assert pool.would_execute(batch) == ()

"""A state that is fetched piece by piece, none of which is believed unproven."""

from __future__ import annotations

import random

import pytest

from aegis_edge.knowledge import merkle, parts
from aegis_edge.knowledge.operations import Approve, Dismiss, Leave, Propose, Put
from aegis_edge.knowledge.parts import GROUP, HEAD, PARTITION, ROWS
from aegis_edge.knowledge.state import Version, pack_retained, unpack_retained
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from tests.knowledge.founders import FOUNDERS
from tests.knowledge.histories import origin
from tests.knowledge.transfers import Node, fetch, history, let_go, same, share_labels, two


@pytest.mark.parametrize("seed", range(20))
def test_what_was_missed_is_fetched_from_a_state_that_moves_on(seed: int) -> None:
    chance = random.Random(seed)
    source = Node()
    history(source, chance, chance.randrange(20))
    behind = source.restarted()
    history(source, chance, 1 + chance.randrange(30))
    then = source.restarted()
    source.machine.hold()
    history(source, chance, chance.randrange(30))
    if seed % 2:
        source = source.restarted()
    wanted = behind.begin(then)
    fetch(behind, source.answers(then.machine.executed), 1 + seed % 5)
    assert wanted.done == wanted.parts
    behind.machine.install()
    same(behind, then)
    behind.machine.hold()
    assert behind.answers(then.machine.executed)(HEAD, [b""])
    let_go(source)
    kept = {r.revision for row in source.state.retained_rows.values() for r in unpack_retained(row)}
    assert set(source.state.versions) == kept, "what was pruned late is pruned in the end"


def test_who_the_members_are_comes_with_the_state_and_no_other_roll_is_believed() -> None:
    source = Node()
    source.execute(Put("a", b"1"))
    behind, young = source.restarted(), source.restarted()
    source.decide(0, Propose(Dismiss(origin(1))))
    source.execute(Put("a", b"2"))
    then = source.restarted()
    source.machine.hold()
    source = source.restarted()
    source.decide(2, Leave())
    answer = source.answers(3)
    head = parts.read_head(answer(HEAD, [b""]))
    assert head.roll == then.state.kept.roll != b""
    young.begin(then)
    for wrong in (b"", FOUNDERS.encoded(), source.state.kept.roll, b"none"):
        with pytest.raises(WireError, match="not the certified one"):
            young.machine.take(HEAD, [b""], parts.pack_head(head._replace(roll=wrong)))
    behind.begin(then)
    fetch(behind, answer)
    behind.machine.install()
    same(behind, then)
    assert [p.author for p in behind.machine.roll.proposals] == [origin(0)]
    behind.decide(2, Approve(1, True))
    then.decide(2, Approve(1, True))
    same(behind, then)
    assert behind.machine.roll.number == 1, "the votes go on counting"


def test_no_bit_of_any_answer_can_be_another() -> None:
    """What is flipped is refused, or changes nothing; and the end is the agreed state."""
    behind, source, answer = two()
    chance = random.Random(3)
    refused = 0

    def bent(kind: int, items: list[bytes]) -> bytes:
        nonlocal refused
        data = answer(kind, items)
        for _ in range(10):
            wrong = bytearray(data)
            wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
            try:
                twin = behind.machine.rebuild
                assert twin is not None
                before = (dict(twin.entries), twin.done, len(behind.state.staged_rows))
                behind.machine.take(kind, items, bytes(wrong))
            except WireError:
                refused += 1
                assert (dict(twin.entries), twin.done) == before[:2] or kind != HEAD
        return data

    behind.begin(source)
    try:
        fetch(behind, bent, 1)
    except WireError:
        raise AssertionError("the truth was refused") from None
    behind.machine.install()
    let_go(source)
    same(behind, source)
    assert refused > 50


def test_what_it_takes_to_list_what_differs_shows_once_all_of_that_is_known() -> None:
    behind, source, answer = two()
    wanted = behind.begin(source)
    own, shown = behind.machine.rebuild, []
    assert own is wanted is not None

    def noted(kind: int, items: list[bytes]) -> bytes:
        shown.append((kind, wanted.listing_bytes))
        return answer(kind, items)

    fetch(behind, noted, 1)
    assert {listing for kind, listing in shown if kind <= GROUP} == {None}
    sizes = {listing for kind, listing in shown if kind == ROWS} - {None}
    assert sizes == {wanted.listing_bytes}
    assert wanted.listing_bytes == sum(len(wanted.own[number]) for number in wanted.entries) > 0


def test_what_nobody_asked_for_is_refused() -> None:
    behind, source, answer = two()
    behind.begin(source)
    answers = dict(fetch(behind, answer, 64))
    for kind in (GROUP, PARTITION, ROWS):
        with pytest.raises(WireError, match="nobody asked"):
            behind.machine.take(kind, [], answers[kind])
    for number in (300, -1, 1 << 20):
        wrong = codec.encode(((number, b""),))
        for kind in (GROUP, PARTITION):
            with pytest.raises(WireError, match=r"out of its bounds|nobody asked"):
                behind.machine.take(kind, [], wrong)


@pytest.mark.parametrize("of", [GROUP, PARTITION, ROWS])
def test_an_answer_without_any_piece_is_a_lie(of: int) -> None:
    """It would be asked for again at once, as long as somebody likes to answer so."""
    behind, source, answer = two()
    behind.begin(source)
    with pytest.raises(WireError, match="without any piece"):
        fetch(behind, lambda kind, items: b"\x80" if kind == of else answer(kind, items))


def test_a_restart_keeps_what_was_proven() -> None:
    behind, source, answer = two()
    behind.begin(source)
    asked = sum(kind == ROWS for kind, _ in fetch(behind, answer, 1))
    again = behind.restarted()
    wanted = again.begin(source)
    assert sum(kind == ROWS for kind, _ in fetch(again, answer, 1)) == 0 < asked
    assert wanted.done == wanted.parts
    again.machine.install()
    let_go(source)
    same(again, source)


def test_another_checkpoint_costs_only_what_changed_since() -> None:
    behind, source, answer = two()
    behind.begin(source)
    first = sum(kind == ROWS for kind, _ in fetch(behind, answer, 1))
    source.execute(Put("key/1", b"newer"), Put("new", b"key"))
    source.machine.hold()
    behind.begin(source)
    more = sum(
        kind == ROWS for kind, _ in fetch(behind, source.answers(source.machine.executed), 1)
    )
    assert more == 2 < first
    behind.machine.install()
    let_go(source)
    same(behind, source)


def test_a_state_that_is_another_one_becomes_the_agreed_one() -> None:
    """Rows that differ, are missing, or are too many: whatever the disk made of them."""
    chance = random.Random(5)
    source = Node()
    history(source, chance, 12, keys=20)
    ill = source.restarted()
    keys = sorted(ill.state.retained_rows)
    ill.state.retained_rows[keys[0]] = ill.state.retained_rows[keys[1]]
    del ill.state.retained_rows[keys[2]]
    ill.state.adopt("a/stray", ill.state.retained_rows[keys[3]], ())
    history(source, chance, 3, keys=20)
    source.machine.hold()
    ill = Node(ill.state)
    ill.begin(source)
    fetch(ill, source.answers(source.machine.executed))
    ill.machine.install()
    assert ill.machine.root() == source.machine.root()
    assert ill.state.retained_rows == source.state.retained_rows
    assert ill.machine.live_keys == source.machine.live_keys


def test_a_stray_key_goes_with_its_versions() -> None:
    source = Node()
    source.execute(Put("one", b"1"))
    ill = source.restarted()
    source.execute(Put("two", b"2"))
    source.machine.hold()
    stray = Version(99, "stray", 0, b"", 0, 0, False, b"")
    row = pack_retained(99, False, stray.digest())
    ill.state.adopt("stray", row, (stray,))
    number = merkle.partition(merkle.label(b"stray"))
    ill = Node(ill.state)
    wanted = ill.begin(source)
    fetch(ill, source.answers(2))
    assert number in wanted.entries
    ill.machine.install()
    same(ill, source)


def test_nothing_may_be_left_out_of_a_row() -> None:
    behind, source, answer = two()
    behind.begin(source)

    def without(kind: int, items: list[bytes]) -> bytes:
        data = answer(kind, items)
        rows = parts.read_rows(data) if kind == ROWS else []
        return parts.pack_rows([row._replace(versions=[]) for row in rows]) if rows else data

    with pytest.raises(WireError, match="versions that are not"):
        fetch(behind, without)


def test_what_was_staged_of_a_transfer_that_was_given_up_is_not_installed() -> None:
    behind, source, answer = two()
    behind.state.stage(merkle.label(b"other"), "other", pack_retained(1, False, bytes(32)))
    behind.begin(source)
    fetch(behind, answer)
    behind.machine.install()
    let_go(source)
    same(behind, source)


@pytest.mark.parametrize("known", [(), ("twin=1",), ("twin=2",), ("twin=1", "twin=2")])
@pytest.mark.parametrize("size_bytes", [1, 70_000])
def test_keys_that_share_a_label_are_all_fetched(
    known: tuple[str, ...], size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write can see to it that two do; a key that is lacking would split the state."""
    share_labels(monkeypatch)
    source = Node()
    source.execute(*(Put(key, b"old") for key in known))
    behind = source.restarted()
    for number in range(3):
        source.execute(
            Put("twin=1", bytes([number]) * size_bytes),
            Put("twin=2", bytes([number]) * size_bytes),
            Put(f"other/{number}", b"1"),
        )
    source.machine.hold()
    wanted = behind.begin(source)
    fetch(behind, source.answers(4))
    assert wanted.done == wanted.parts
    behind.machine.install()
    let_go(source)
    same(behind, source)


def test_one_of_two_keys_that_share_a_label_may_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share_labels(monkeypatch)
    source = Node()
    source.execute(Put("twin=1", b"1"), Put("twin=2", b"2"))
    behind = source.restarted()
    source.execute(Put("twin=2", b"3"))
    source.machine.hold()
    behind.begin(source)
    fetch(behind, source.answers(2))
    behind.machine.install()
    let_go(source)
    same(behind, source)


def test_who_gives_one_of_two_keys_that_share_a_label_gives_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share_labels(monkeypatch)
    source = Node()
    source.execute(Put("twin=1", b"1"), Put("twin=2", b"2"))
    source.machine.hold()
    behind, answer = Node(), source.answers(1)
    behind.begin(source)

    def half(kind: int, items: list[bytes]) -> bytes:
        data = answer(kind, items)
        return parts.pack_rows(parts.read_rows(data)[1:]) if kind == ROWS else data

    with pytest.raises(WireError, match="not all rows"):
        fetch(behind, half)
    del source.state.versions[1]
    assert answer(ROWS, [parts.row_item(merkle.label(b"twin=2"), 0)]) == b"", "all or none"

"""What a node holds for others, for how long, and what it answers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aegis_edge.knowledge import held, parts
from aegis_edge.knowledge.operations import Put
from aegis_edge.knowledge.parts import GROUP, HEAD, PARTITION, ROWS
from aegis_edge.knowledge.state import State
from aegis_edge.wire.codec import WireError
from tests.knowledge.transfers import KEPT, PEER, Node, fetch, head, history, let_go, same, two


def test_what_nobody_fetches_is_let_go_of() -> None:
    node, chance = Node(), random.Random(1)
    for checkpoint in range(1, 9):
        history(node, chance, 4, keys=3)
        node.machine.hold()
        node.machine.release(4 * checkpoint, 0)
        node.machine.answer(PEER, 8, HEAD, [b""])
        wanted = {4 * checkpoint - 4, 4 * checkpoint, *([8] if checkpoint > 1 else [])} - {0}
        assert list(node.machine._holds._held) == sorted(wanted)
    for late in range(held.LEASE_CHECKPOINTS + 1):
        assert 8 in node.machine._holds._held
        node.machine.release(32 + late, 0)
    assert list(node.machine._holds._held) == [32]
    assert node.machine.answer(PEER, 8, HEAD, [b""]) == b""


def test_a_checkpoint_whose_next_batches_are_gone_is_of_no_use() -> None:
    node, chance = Node(), random.Random(1)
    for _ in range(3):
        history(node, chance, 4)
        node.machine.hold()
        node.machine.answer(PEER, 4, HEAD, [b""])
    node.machine.release(12, 3)
    assert list(node.machine._holds._held) == [4, 8, 12]
    node.machine.release(12, 5)
    assert list(node.machine._holds._held) == [8, 12]


def test_large_values_come_one_by_one() -> None:
    behind, source, _ = two()
    for _ in range(KEPT):
        source.execute(*(Put(f"large/{i}", bytes(40_000)) for i in range(3)))
    source.machine.hold()
    behind.begin(source)
    answers = fetch(behind, source.answers(source.machine.executed), 64)
    sizes = [len(data) for kind, data in answers if kind == ROWS]
    assert max(sizes) < held.ANSWER_BYTES_MAX + 50_000
    assert len(sizes) >= 5
    behind.machine.install()
    let_go(source)
    same(behind, source)


def test_digests_come_in_answers_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, answer = two()
    items = [parts.group_item(number) for number in range(64)]
    assert answer(GROUP, [*items, b"\xff"])
    assert len(parts.read_numbered(answer(GROUP, items))) == held.ANSWER_BYTES_MAX // 2048
    assert answer(PARTITION, [b"\xff\xff"]) == b""
    assert answer(ROWS, [parts.row_item(bytes(8), 0)]) == b""
    with pytest.raises(WireError, match="by its label"):
        answer(ROWS, [b""])


def test_who_cannot_show_a_row_any_more_leaves_it_out() -> None:
    behind, source, answer = two()
    behind.begin(source)
    wants = behind.machine.take(*head(answer))
    wants = [w for k, i in wants for w in behind.machine.take(k, [i], answer(k, [i]))]
    wants = [w for k, i in wants for w in behind.machine.take(k, [i], answer(k, [i]))]
    assert {kind for kind, _ in wants} == {ROWS}
    first, *others = [item for _, item in wants]
    (row,) = parts.read_rows(answer(ROWS, [first]))
    newest = row.versions[-1]
    source.state.versions[newest.revision] = newest._replace(value=b"rotten")
    assert answer(ROWS, [first]) == b""
    of_other_types: Any = newest._replace(value="a text")
    source.state.versions[newest.revision] = of_other_types
    assert answer(ROWS, [first]) == b""
    del source.state.versions[newest.revision]
    assert answer(ROWS, [first]) == b""
    rest = answer(ROWS, [first, *others])
    left = behind.machine.take(ROWS, [first, *others], rest)
    assert left == [(ROWS, first)], "what was not answered is asked for again"


def test_a_label_is_not_found_across_two_others() -> None:
    assert held._find(b"abcdcdcd", b"bc", 4) == []
    assert held._find(b"xabcabcdabce", b"abc", 4) == [b"abcd", b"abce"]


def test_who_asks_for_one_checkpoint_after_another_has_one_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, chance, other = Node(), random.Random(1), b"other"
    looked = []
    sound = held.Held._scan

    def scan(one: held.Held, state: State) -> None:
        looked.append(one)
        sound(one, state)

    monkeypatch.setattr(held.Held, "_scan", scan)
    for at in range(4, 40, 4):
        history(node, chance, 4)
        node.machine.hold()
        while node.machine.answer(PEER, at, HEAD, [b""]) is None:
            continue
        node.machine.answer(other, 4, HEAD, [b""])
        node.machine.release(at, 0)
        assert list(node.machine._holds._held) == sorted({4, max(4, at - 4), at})
    assert node.machine.answer(PEER, 32, HEAD, [b""]) == b"", "nobody goes back"
    assert node.machine.answer(other, 4, HEAD, [b""]), "another one stays where it was"
    history(node, chance, 40)
    assert not node.machine._holds._held[4]._pruned, "its digests are known by then"
    node.machine.answer(other, 36, HEAD, [b""])
    node.machine.release(40, 0)
    assert 4 not in node.machine._holds._held
    assert len(looked) == 2 * len(set(looked)), "once from begin to end"


def test_what_is_kept_for_others_and_rots_is_kept_for_nobody() -> None:
    node = Node()
    for _ in range(KEPT):
        node.execute(Put("key", b"1"))
    node.machine.hold()
    node.execute(Put("key", b"2"))
    assert sorted(node.state.versions) == [1, 2, 3, 4]
    of_other_types: Any = node.state.versions[1]._replace(value="a text")
    node.state.versions[1] = of_other_types
    assert sorted(node.restarted().state.versions) == [2, 3, 4]

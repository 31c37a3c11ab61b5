"""Machines that fetch a state from one another, and how."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import pytest

from aegis_edge.crypto import sodium
from aegis_edge.knowledge import merkle, rebuild
from aegis_edge.knowledge.operations import Delete, Operation, Put
from aegis_edge.knowledge.parts import HEAD, Want
from aegis_edge.wire.messages import Bundle
from tests.knowledge.founders import machine_of
from tests.knowledge.histories import bundle, signer
from tests.knowledge.memory_state import MemoryState

KEPT = 3
PEER = b"peer"
Answer = Callable[[int, list[bytes]], bytes]


class Node:
    """A machine, and how many batches it executed."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = MemoryState() if state is None else state
        self.machine = machine_of(self.state, KEPT)

    def execute(self, *operations: Operation) -> None:
        sequence = self.machine.executed + 1
        made = bundle(0, sequence, *operations)
        self.machine.apply(sequence, 1000 * sequence, (made,))

    def decide(self, index: int, *operations: Operation) -> None:
        """The next batch is about members: what this one of them wants."""
        sequence = self.machine.executed + 1
        raw = tuple(operation.encode() for operation in operations)
        made = signer(index).sign(Bundle(1, sequence, raw, of_members=True))
        self.machine.apply(sequence, 1000 * sequence, (made,))

    def answers(self, sequence: int) -> Answer:
        def answer(kind: int, items: list[bytes]) -> bytes:
            while (data := self.machine.answer(PEER, sequence, kind, items)) is None:
                continue
            return data

        return answer

    def restarted(self) -> Node:
        return Node(self.state.copy())

    def begin(self, then: Node) -> rebuild.Rebuild:
        self.machine.begin(then.machine.executed, then.machine.root())
        assert self.machine.rebuild is not None
        return self.machine.rebuild


def history(node: Node, chance: random.Random, batches: int, keys: int = 60) -> None:
    for _ in range(batches):
        node.execute(*(operation(chance, keys) for _ in range(chance.randint(1, 6))))


def operation(chance: random.Random, keys: int) -> Operation:
    key = f"key/{chance.randrange(keys)}"
    if chance.random() < 0.2:
        return Delete(key)
    return Put(key, chance.randbytes(chance.randrange(40)))


def fetch(node: Node, answer: Answer, batch: int = 7) -> list[tuple[int, bytes]]:
    """Ask until nothing is wanted; all answers, with the kind of each."""
    wants: deque[Want] = deque([rebuild.FIRST])
    answers = []
    while wants:
        kind = wants[0][0]
        items = [item for k, item in list(wants)[:batch] if k == kind]
        for item in items:
            wants.remove((kind, item))
        data = answer(kind, items)
        wants.extend(node.machine.take(kind, items, data))
        answers.append((kind, data))
    return answers


def same(one: Node, other: Node) -> None:
    assert one.machine.root() == other.machine.root()
    assert one.machine.live_keys == other.machine.live_keys
    assert one.machine.origins == other.machine.origins
    assert one.machine.roll == other.machine.roll
    assert one.state.versions == other.state.versions
    assert one.state.retained_rows == other.state.retained_rows
    assert one.state.kept == other.state.kept
    assert not one.state.staged_rows
    assert not one.state.staged_versions
    assert one.restarted().machine.root() == other.machine.root(), "a restart reads the same"


def let_go(node: Node) -> None:
    """Let nobody hold anything any more, so that what was pruned is gone."""
    node.machine._holds.clear()


def two(source_batches: int = 12) -> tuple[Node, Node, Answer]:
    """One that is behind, one that is ahead, and what the latter answers."""
    chance = random.Random(7)
    source = Node()
    history(source, chance, 4, keys=9)
    behind = source.restarted()
    history(source, chance, source_batches, keys=9)
    source.machine.hold()
    return behind, source, source.answers(source.machine.executed)


def head(answer: Answer) -> tuple[int, list[bytes], bytes]:
    return HEAD, [b""], answer(HEAD, [b""])


def share_labels(patched: pytest.MonkeyPatch) -> None:
    """From now on all keys have one label that begin alike, up to a "=".

    That two keys do takes 2^32 hashes to find: an hour of one core.
    """

    class Weak:
        DIGEST_BYTES = sodium.DIGEST_BYTES

        @staticmethod
        def digest(domain: bytes, data: bytes) -> bytes:
            is_key = domain == merkle._KEY_DOMAIN
            return sodium.digest(domain, data.partition(b"=")[0] if is_key else data)

    patched.setattr(merkle, "sodium", Weak)

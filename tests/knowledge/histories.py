"""Bundles for tests, signed by nobody: what a batch holds is what matters here."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from aegis_edge.knowledge.operations import Barrier, Delete, Operation, Put
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Bundle, Verified


@cache
def signer(index: int) -> Signer:
    return Signer(bytes([index]) * 32, b"a cluster", sign=lambda secret, message: bytes(64))


def origin(index: int) -> bytes:
    return signer(index).public


def bundle(
    index: int, number: int, *operations: Operation | bytes, incarnation: int = 1
) -> Verified[Bundle]:
    """A bundle of node `index`; operations may be given as bytes that are none."""
    raw = tuple(op if isinstance(op, bytes) else op.encode() for op in operations)
    return signer(index).sign(Bundle(incarnation, number, raw))


KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "é", "\U00010437"])
EXPECTED = st.none() | st.integers(0, 12)
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, st.binary(max_size=6), st.sampled_from([0, 1]), EXPECTED),
    st.builds(Delete, KEYS, EXPECTED),
    st.just(Barrier()),
    st.binary(max_size=6),
)
#: Batches: for each bundle the origin and its operations.
BATCHES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(OPERATIONS, min_size=1, max_size=6)), max_size=3
    ),
    max_size=6,
)


class Numbers:
    """Counts each origin's bundles."""

    def __init__(self) -> None:
        self._last = [0, 0, 0]

    def bundles(
        self, batch: list[tuple[int, list[Operation | bytes]]]
    ) -> tuple[Verified[Bundle], ...]:
        made = []
        for index, operations in batch:
            self._last[index] += 1
            made.append(bundle(index, self._last[index], *operations))
        return tuple(made)

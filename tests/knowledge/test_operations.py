"""Operations: what may be asked, and that any bytes at all are an operation or a clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.knowledge import operations
from aegis_edge.knowledge.operations import Barrier, Delete, OperationError, Put, decode
from aegis_edge.wire import codec
from aegis_edge.wire.messages import OPERATION_BYTES_MAX

SEGMENT = st.text(
    st.characters(codec="utf-8", exclude_characters="/", exclude_categories=["Cc"]),
    min_size=1,
    max_size=20,
).filter(lambda text: text not in (".", ".."))
KEYS = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)
EXPECTED = st.none() | st.integers(0, 2**63 - 1)


@given(
    st.one_of(
        st.builds(Put, KEYS, st.binary(), st.sampled_from([0, 1]), EXPECTED),
        st.builds(Delete, KEYS, EXPECTED),
        st.just(Barrier()),
    )
)
def test_every_operation_comes_back_from_its_bytes(operation: operations.Operation) -> None:
    assert decode(operation.encode()) == operation


@given(st.binary(max_size=64))
def test_any_bytes_are_an_operation_with_these_bytes_or_an_operation_error(raw: bytes) -> None:
    try:
        operation = decode(raw)
    except OperationError:
        return
    assert operation.encode() == raw


LEAVES = st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.text() | st.binary()


@given(
    st.lists(LEAVES | st.tuples(LEAVES), max_size=6).map(tuple), st.sampled_from([0, 1, 2, 3, 4])
)
def test_any_array_is_an_operation_or_an_operation_error(
    rest: tuple[object, ...], tag: int
) -> None:
    raw = codec.encode((tag, *rest))
    try:
        operation = decode(raw)
    except OperationError:
        return
    assert operation.encode() == raw


@pytest.mark.parametrize(
    "value",
    [
        (),
        (True, "a", b"", 0, None),
        (b"\x01", "a", b"", 0, None),
        7,
        "a",
        None,
        {1: 2},
        (0,),
        (4,),
        (1, "a", b"", 0),
        (1, "a", b"", 0, None, None),
        (1, b"a", b"", 0, None),
        (1, "a", "text", 0, None),
        (1, "a", b"", 2, None),
        (1, "a", b"", True, None),
        (1, "a", b"", 0, -1),
        (1, "a", b"", 0, 2**63),
        (1, "a", b"", 0, False),
        (1, "", b"", 0, None),
        (1, "a", bytes(operations.VALUE_BYTES_MAX + 1), 0, None),
        (2, "a"),
        (2, "a", "1"),
        (2, "/a", None),
        (3, 1),
    ],
)
def test_arrays_of_another_shape_are_refused(value: object) -> None:
    with pytest.raises(OperationError):
        decode(codec.encode(value))


@pytest.mark.parametrize(
    "key", ["a", "a/b/c", ".a", "a.", "...", "a b", "é", "\U0010ffff", "-", "~"]
)
def test_keys_are_paths(key: str) -> None:
    assert decode(Put(key, b"").encode()) == Put(key, b"")


@pytest.mark.parametrize(
    "key",
    [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\n", "a\x00b", "\x7f",
        "\x85", "\x1f", "\x9f", "a/\r/b", "\ud800", 7, None, b"a",
    ],
)  # fmt: skip
def test_keys_that_are_no_paths_are_refused_with_advice(key: str) -> None:
    with pytest.raises(OperationError, match="key"):
        Delete(key).encode()


def test_the_length_of_a_key_counts_in_bytes() -> None:
    Put("é" * 256, b"").encode()
    with pytest.raises(OperationError, match="514 bytes"):
        Put("é" * 257, b"").encode()


def test_the_biggest_operation_fits_in_a_bundle() -> None:
    biggest = Put("k" * 512, bytes(operations.VALUE_BYTES_MAX), 1, 2**63 - 1).encode()
    assert len(biggest) <= OPERATION_BYTES_MAX
    assert decode(biggest).encode() == biggest


def test_a_refused_value_says_how_big_it_may_be() -> None:
    with pytest.raises(OperationError, match="at most 262144"):
        Put("a", bytes(operations.VALUE_BYTES_MAX + 1)).encode()

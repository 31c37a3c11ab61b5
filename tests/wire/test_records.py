from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.wire import records
from aegis_edge.wire.messages import MESSAGE_BYTES_MAX
from aegis_edge.wire.records import PIECES_MAX, Pieces, RecordError, alone, pack, pad, unpack

CAPACITIES = st.lists(st.integers(9, 60), min_size=1, max_size=3, unique=True).map(sorted)


def unpacked(plaintexts: list[bytes]) -> list[bytes]:
    pieces: Pieces | None = None
    messages = []
    for plaintext in plaintexts:
        found, pieces = unpack(plaintext, pieces)
        messages += found
    assert pieces is None, "the last message is whole"
    return messages


@given(CAPACITIES, st.lists(st.binary(min_size=1, max_size=200), max_size=8))
def test_what_is_packed_comes_out_whole_and_in_order(
    capacities: list[int], messages: list[bytes]
) -> None:
    plaintexts = pack(messages, capacities)
    assert unpacked(plaintexts) == messages
    assert all(len(plaintext) == capacities[-1] for plaintext in plaintexts[:-1])
    assert len(plaintexts[-1]) in capacities


def test_nothing_is_a_plaintext_of_padding() -> None:
    assert pack((), (9, 20)) == [bytes(9)]


def test_the_last_one_takes_the_smallest_capacity_that_holds_it() -> None:
    assert [len(p) for p in pack([bytes(60)], (9, 20, 40))] == [40, 40]
    assert [len(p) for p in pack([bytes(50)], (9, 20, 40))] == [40, 20]
    assert pad(b"x", (9, 20)) == b"x" + bytes(8)
    with pytest.raises(AssertionError, match="holds so much"):
        pad(bytes(21), (9, 20))


@pytest.mark.parametrize("message", [b"", bytes(MESSAGE_BYTES_MAX + 1)])
def test_messages_of_no_bytes_or_too_many_are_our_own_error(message: bytes) -> None:
    with pytest.raises(AssertionError, match="no bytes"):
        pack([message], (100,))


@given(st.binary(max_size=60))
def test_any_bytes_give_messages_or_a_typed_error(plaintext: bytes) -> None:
    try:
        messages, pieces = unpack(plaintext, None)
    except RecordError:
        return
    assert all(messages)
    size = sum(len(alone(message)) for message in messages)
    assert size + (pieces.size_bytes + 4 if pieces else 0) <= len(plaintext)


def header(length: int, *, continues: bool = False) -> bytes:
    return (length | (1 << 31 if continues else 0)).to_bytes(4, "big")


@pytest.mark.parametrize(
    "plaintext",
    [
        header(5) + bytes(4),
        header(0, continues=True),
        header(2, continues=True) + bytes(3),
        header(1) + b"x" + b"\0\0\0\0\1",
        b"\0\1",
    ],
)
def test_what_nobody_would_make_is_refused(plaintext: bytes) -> None:
    with pytest.raises(RecordError):
        unpack(plaintext, None)


def test_a_message_is_bounded_in_bytes_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = header(10, continues=True) + bytes(10)
    pieces: Pieces | None = None
    for _ in range(PIECES_MAX):
        _, pieces = unpack(piece, pieces)
    with pytest.raises(RecordError, match="more pieces"):
        unpack(piece, pieces)
    monkeypatch.setattr(records, "MESSAGE_BYTES_MAX", 25)
    _, pieces = unpack(piece, None)
    _, pieces = unpack(piece, pieces)
    with pytest.raises(RecordError, match="size bound"):
        unpack(piece, pieces)
    with pytest.raises(RecordError, match="size bound"):
        unpack(header(6) + bytes(6), pieces)
    assert unpack(header(5) + bytes(5), pieces) == ([bytes(25)], None)


def test_the_largest_message_in_the_smallest_frames_is_within_the_bound() -> None:
    from aegis_edge.wire.session import CELL_CAPACITY_BYTES

    assert MESSAGE_BYTES_MAX / (CELL_CAPACITY_BYTES - 4) < PIECES_MAX

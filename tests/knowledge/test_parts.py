"""Any bytes give a piece of a state, or an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.knowledge import parts
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError

BAD_HEADS = [
    (),
    (1, 2, (), bytes(2048)),
    (1, 2, (), b"", b""),
    (1, 2, ((b"", 1),), bytes(2048), b""),
    (1, 2, ((bytes(65), 1, 1),), bytes(2048), b""),
    (1, 2, ((b"", 1, 1 << 63),), bytes(2048), b""),
    (-1, 2, (), bytes(2048), b""),
    (1, True, (), bytes(2048), b""),
    (1, 2, (), bytes(2048), ()),
]
_GOOD = (1, 0, b"author", 5, 0, False, b"value")


def bad(place: int, value: object) -> tuple[object, ...]:
    return (*_GOOD[:place], value, *_GOOD[place + 1 :])


BAD_ROWS = [
    (("key", b""),),
    ((b"key", b"", ()),),
    (("k" * 513, b"", ()),),
    (("key", b"", (_GOOD[:-1],)),),
    *((("key", b"", (bad(place, -1),)),) for place in (0, 1, 3, 4)),
    (("key", b"", (bad(0, 1 << 63),)),),
    (("key", b"", (bad(2, bytes(65)),)),),
    (("key", b"", (bad(4, 256),)),),
    (("key", b"", (bad(6, bytes(256 * 1024 + 1)),)),),
    7,
]


@pytest.mark.parametrize("fields", BAD_HEADS, ids=range(len(BAD_HEADS)))
def test_a_head_of_another_shape_is_refused(fields: object) -> None:
    with pytest.raises(WireError):
        parts.read_head(codec.encode(fields))


@pytest.mark.parametrize("fields", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_rows_of_another_shape_are_refused(fields: object) -> None:
    with pytest.raises(WireError):
        parts.read_rows(codec.encode(fields))


@given(st.binary(max_size=60))
def test_any_bytes_give_pieces_or_an_error(data: bytes) -> None:
    for read in (parts.read_head, parts.read_numbered, parts.read_rows):
        try:
            read(data)
        except WireError:
            continue

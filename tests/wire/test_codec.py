"""The codec: any bytes give one value or WireError, and a value has one encoding."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aegis_edge.wire import codec
from aegis_edge.wire.codec import DEPTH_MAX, WireError, decode, encode

EDGES = [0, 23, 24, 2**8 - 1, 2**8, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**63 - 1]
integers = (
    st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([*EDGES, 2**63, 2**64 - 1])
    | st.sampled_from([-1 - edge for edge in EDGES])
)
keys = integers | st.text(max_size=30)
leaves = integers | st.binary(max_size=40) | st.text(max_size=40) | st.booleans() | st.none()
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=30).map(tuple) | st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=60,
)


def sorted_maps(value: Any) -> Any:
    """The value for cbor2, which keeps the order of a dict: maps sorted as RFC 8949 wants."""
    if isinstance(value, tuple):
        return [sorted_maps(item) for item in value]
    if isinstance(value, dict):
        pairs = sorted((cbor2.dumps(key), key) for key in value)
        return {key: sorted_maps(value[key]) for _, key in pairs}
    return value


def same(left: Any, right: Any) -> bool:
    """Equal in types too: 1 is not True."""
    if type(left) is not type(right):
        return False
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


# --- one value, one encoding ----------------------------------------------------------------


@given(values)
def test_what_is_written_is_read_again(value: Any) -> None:
    read = decode(encode(value))
    assert read == value
    assert encode(read) == encode(value)


@given(values)
def test_cbor2_writes_the_same_bytes_and_reads_the_same_value(value: Any) -> None:
    data = encode(value)
    assert cbor2.dumps(sorted_maps(value)) == data
    assert cbor2.loads(data) == sorted_maps(value)


def test_lists_and_tuples_are_written_alike_and_read_as_tuples() -> None:
    assert encode([1, [2]]) == encode((1, (2,)))
    assert decode(encode([1, [2]])) == (1, (2,))


#: RFC 8949 appendix A, those examples that are in our part of CBOR.
APPENDIX_A = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("20", -1),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\1\2\3\4"),
    ("60", ""),
    ("6449455446", "IETF"),
    ("62c3bc", "\u00fc"),
    ("64f0908591", "\U00010151"),
    ("80", ()),
    ("8301820203820405", (1, (2, 3), (4, 5))),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": (2, 3)}),
    ("826161a161626163", ("a", {"b": "c"})),
    ("3b7fffffffffffffff", -(2**63)),
]


@pytest.mark.parametrize(("text", "value"), APPENDIX_A)
def test_examples_of_the_standard(text: str, value: Any) -> None:
    assert same(decode(bytes.fromhex(text)), value)
    assert encode(value).hex() == text


def test_map_keys_are_in_the_order_of_their_bytes() -> None:
    """RFC 8949 section 4.2.1, its own example: not the length-first order of RFC 7049."""
    value = {"aa": 0, "z": 0, -1: 0, 100: 0, 10: 0}
    assert list(decode(encode(value))) == [10, 100, -1, "z", "aa"]


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536])
def test_lengths_of_every_width(size: int) -> None:
    for value in (bytes(size), "x" * size):
        data = encode(value)
        assert data == cbor2.dumps(value)
        assert decode(data) == value
    if size < codec.ITEMS_MAX:
        assert decode(encode((0,) * size)) == (0,) * size


# --- any bytes at all -----------------------------------------------------------------------


def check_total(data: bytes) -> None:
    try:
        value = decode(data)
    except WireError:
        return
    assert encode(value) == data
    assert cbor2.loads(data) == sorted_maps(value)


@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    check_total(data)


@given(st.data(), values)
def test_any_damage_is_a_value_or_a_wire_error(data: st.DataObject, value: Any) -> None:
    raw = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        new = data.draw(st.binary(max_size=3))
        raw[at : at + data.draw(st.integers(0, 3))] = new
    check_total(bytes(raw))


@given(values)
@settings(max_examples=40)
def test_a_part_of_an_encoding_and_more_than_it_are_refused(value: Any) -> None:
    data = encode(value)
    for end in range(len(data)):
        with pytest.raises(WireError):
            decode(data[:end])
    with pytest.raises(WireError):
        decode(data + b"\0")


HOSTILE = {
    "nothing": "",
    "a break alone": "ff",
    "an integer in two bytes that fits one": "1817",
    "an integer in three bytes that fits two": "1900ff",
    "an integer in five bytes that fits three": "1a0000ffff",
    "an integer in nine bytes that fits five": "1b00000000ffffffff",
    "a negative integer too long": "3817",
    "a byte string's length too long": "580100",
    "a text's length too long": "780161",
    "an array's length too long": "980100",
    "a map's length too long": "b8010000",
    "a negative integer below the least": "3b8000000000000000",
    "a negative integer at the end of its range": "3bffffffffffffffff",
    "a half float": "f90000",
    "a single float": "fa47c35000",
    "a double float": "fb7ff8000000000000",
    "not a number, in a half": "f97e00",
    "undefined": "f7",
    "an unassigned simple value": "e0",
    "simple value 19": "f3",
    "a simple value in two bytes": "f8ff",
    "false in two bytes": "f814",
    "simple value 24 in two bytes": "f818",
    "reserved 28": "1c",
    "reserved 29": "5d",
    "reserved 30": "9e",
    "reserved 31 of an integer": "1f",
    "an indefinite byte string": "5f4100ff",
    "an indefinite text": "7f6161ff",
    "an indefinite array": "9f01ff",
    "an indefinite map": "bf0102ff",
    "an indefinite tag": "df00",
    "a text that is not UTF-8": "61ff",
    "a text with a surrogate": "63eda080",
    "a text with an overlong form": "62c080",
    "a text cut inside a character": "61c3",
    "a date, tag 0": "c074323031332d30332d32315432303a30343a30305a",
    "a time, tag 1": "c11a514b67b0",
    "a big number, tag 2": "c249010000000000000000",
    "a decimal fraction, tag 4": "c48221196ab3",
    "a rational, tag 30": "d81e820103",
    "a regular expression, tag 35": "d8236a" + b"(a+)+(b+)+"[:10].hex(),
    "a costly regular expression, tag 35": "d8237828" + (b"(" * 20 + b")" * 20).hex(),
    "a MIME message, tag 36": "d8246161",
    "a UUID, tag 37": "d82550" + "00" * 16,
    "a set, tag 258": "d9010281" + "01",
    "an IP address, tag 260": "d90104447f000001",
    "self-described CBOR, tag 55799": "d9d9f700",
    "a shared reference to itself, tags 28 and 29": "d81c81d81d00",
    "a reference to nothing, tag 29": "d81d00",
    "a string reference, tags 256 and 25": "d9010082 4401020304 d81900".replace(" ", ""),
    "a tag in eight bytes": "dbffffffffffffffff00",
    "a COSE envelope's tag": "d28440a04040",
    "a duplicate key": "a2616101616102",
    "a duplicate integer key": "a201000100",
    "keys out of order": "a2616201616102",
    "keys length-first, as RFC 7049 had them": "a2200018 6400".replace(" ", ""),
    "a key that is a byte string": "a1410000",
    "a key that is an array": "a1800000",
    "a key that is a map": "a1a000",
    "a key that is true": "a1f500",
    "a key that is null": "a1f600",
    "a key that is a float": "a1f97e0000",
    "a map without its last value": "a16161",
    "an array without its last item": "8201",
    "two values": "0000",
    "a byte string of 2^64 - 1 bytes": "5bffffffffffffffff",
    "a byte string of 2^63 bytes": "5b8000000000000000",
    "a byte string of 2^32 bytes": "5b0000000100000000",
    "a text of 2^64 - 1 bytes": "7bffffffffffffffff",
    "an array of 2^64 - 1 items": "9bffffffffffffffff",
    "an array of 2^31 items": "9a80000000",
    "a map of 2^64 - 1 pairs": "bbffffffffffffffff",
    "arrays in arrays without an end": "81" * 100_000,
    "maps in maps without an end": "a100" * 100_000,
    "indefinite arrays without an end": "9f" * 100_000,
    "tags without an end": "c1" * 100_000,
    "a huge length inside huge lengths": "9affffffff" * 20,
    "a huge byte string, then a head": "82 5b7fffffffffffffff 00".replace(" ", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_and_cost_nothing(name: str) -> None:
    data = bytes.fromhex(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


@pytest.mark.parametrize("major", range(8))
def test_reserved_and_indefinite_lengths_are_named(major: int) -> None:
    for low in range(28, 32):
        with pytest.raises(WireError, match="indefinite or a reserved"):
            decode(bytes((major << 5 | low,)) + bytes(40))


# --- bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("opening", ["81", "a100"])
def test_depth_is_bounded_exactly(opening: str) -> None:
    good = bytes.fromhex(opening * DEPTH_MAX + "00")
    assert encode(decode(good)) == good
    with pytest.raises(WireError, match="deep"):
        decode(bytes.fromhex(opening * (DEPTH_MAX + 1) + "00"))


def test_items_are_counted_over_all_arrays_and_maps() -> None:
    value = ((1, 2), {3: 4}, (5,))  # 3 + 2 + 2 + 1 items
    assert decode(encode(value), items_max=8) == value
    with pytest.raises(WireError, match="too many items"):
        decode(encode(value), items_max=7)
    assert len(decode(encode((0,) * codec.ITEMS_MAX))) == codec.ITEMS_MAX
    with pytest.raises(WireError, match="too many items"):
        decode(encode((0,) * (codec.ITEMS_MAX + 1)))


def test_the_head_is_read_without_the_rest() -> None:
    assert codec.head(b"\x05\x19\x01\x00\xff\xff", 2) == [5, 256]
    assert codec.head(b"\x42xx", 1) == [b"xx"]
    for data in (b"", b"\x05", b"\x05\x19", b"\x05\x19\x01", b"\x05\x42x", b"\x05\x61\xff"):
        with pytest.raises(WireError):
            codec.head(data, 2)
    with pytest.raises(WireError, match="nested"):
        codec.head(b"\x81\x05", 1)


def test_size_is_bounded() -> None:
    assert decode(b"\x42xx", size_max=3) == b"xx"
    with pytest.raises(WireError, match="size"):
        decode(b"\x42xx", size_max=2)


# --- what cannot be written -----------------------------------------------------------------


def nested(wrap: Any, depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {1, 2},
        bytearray(b"x"),
        memoryview(b"x"),
        object(),
        (1, (2.0,)),
        2**64,
        -(2**63) - 1,
        "\ud800",
        {"\ud800": 1},
        {b"x": 1},
        {True: 1},
        {(1,): 1},
        {2**64: 1},
        nested(lambda inner: (inner,), DEPTH_MAX + 1),
        nested(lambda inner: {0: inner}, DEPTH_MAX + 1),
    ],
    ids=repr,
)
def test_a_value_without_an_encoding_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        encode(value)


def test_the_deepest_value_can_be_written() -> None:
    for wrap in (lambda inner: (inner,), lambda inner: {0: inner}):
        value = nested(wrap, DEPTH_MAX)
        assert decode(encode(value)) == value

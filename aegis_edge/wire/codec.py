"""Deterministic, bounded CBOR: any bytes at all give one value or `WireError`.

Knows RFC 8949 section 4.2.1 (core deterministic encoding) for integers, byte strings, texts, truth
values, null, arrays and maps.  Refuses to know tags, floats, indefinite lengths, and what it means.
Reading is one pass of our own: no one version of cbor2 is strict, and before any check of its
result could run, some build cycles, compile regular expressions or recurse without a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cbor2

#: Bounds that hold for every encoding, before anything is allocated.
DEPTH_MAX = 16
ITEMS_MAX = 65_536
SIZE_BYTES_MAX = 8 * 1024 * 1024

#: The least argument that may be written in 1, 2, 4 and 8 bytes (RFC 8949 section 4.2.1).
_LEAST = (24, 1 << 8, 1 << 16, 1 << 32)
_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}
_BYTE = tuple(bytes((number,)) for number in range(256))
_SIMPLE_BYTES = {value: _BYTE[head] for head, value in _SIMPLE.items()}

_from_bytes = int.from_bytes


class WireError(Exception):
    """Bytes that mean nothing here: malformed, out of bounds, unproven or not for this cluster."""


# --- reading --------------------------------------------------------------------------------


def decode(data: bytes, *, items_max: int = ITEMS_MAX, size_max: int = SIZE_BYTES_MAX) -> Any:
    """The value that `data` encodes, with arrays as tuples; raises `WireError`, and nothing else.

    `items_max` bounds the items of all arrays and maps together, `size_max` the bytes.
    """
    if len(data) > size_max:
        raise WireError("an encoding above its size bound")
    try:
        if data[0] & 0xE0 == 0x80 and (count := data[0] & 0x1F) < 0x18:  # as most begin
            room = [items_max]
            _claim(count, DEPTH_MAX, room)
            items, end = _items(data, 1, count, DEPTH_MAX - 1, room)
            values: list[Any] = [tuple(items)]
        else:
            values, end = _items(data, 0, 1, DEPTH_MAX, [items_max])
    except IndexError:
        raise WireError("an encoding that ends too early") from None
    except UnicodeDecodeError:
        raise WireError("a text that is not UTF-8") from None
    if end != len(data):
        raise WireError("an encoding that ends too early, or too late")
    return values[0]


def head(data: bytes, count: int) -> list[Any]:
    """The first `count` numbers or strings in `data`, whatever follows; raises `WireError`."""
    try:
        values, end = _items(data, 0, count, 0, [0])
    except (IndexError, UnicodeDecodeError):
        raise WireError("an encoding that ends too early, or a text that is not UTF-8") from None
    if end > len(data):
        raise WireError("an encoding that ends too early")
    return values


def _items(data: bytes, at: int, count: int, depth: int, room: list[int]) -> tuple[list[Any], int]:
    """`count` items from `at` on, and the position after them.

    A position may run past the end: the next head then raises `IndexError`, and `decode` compares
    the last position with the size.  So no item pays for a check of its own.
    """
    values: list[Any] = []
    append = values.append
    for _ in range(count):
        head = data[at]
        at += 1
        if head < 0x18:  # the commonest first: a small number, then 24 to 255 bytes
            append(head)
            continue
        argument = head & 0x1F
        if argument == 0x18:
            argument = data[at]
            at += 1
            if argument < 0x18:
                raise WireError("a number or a length written longer than it needs to be")
            if head == 0x58:
                start = at
                at += argument
                append(data[start:at])
                continue
        elif argument > 0x18:
            if argument > 0x1B:
                raise WireError("an indefinite or a reserved length")
            start = at
            at += 1 << (argument - 0x18)
            least = _LEAST[argument - 0x18]
            argument = _from_bytes(data[start:at], "big")
            if argument < least:
                raise WireError("a number or a length written longer than it needs to be")
        if head < 0x20:
            append(argument)
        elif head < 0x40:
            if argument >> 63:
                raise WireError("an integer below -2^63")
            append(-1 - argument)
        elif head < 0x60:
            start = at
            at += argument
            append(data[start:at])
        elif head < 0x80:
            start = at
            at += argument
            append(data[start:at].decode())
        elif head < 0xA0:
            _claim(argument, depth, room)
            inner, at = _items(data, at, argument, depth - 1, room)
            append(tuple(inner))
        elif head < 0xC0:
            _claim(2 * argument, depth, room)
            mapping, at = _mapping(data, at, argument, depth - 1, room)
            append(mapping)
        elif head in _SIMPLE:
            append(_SIMPLE[head])
        else:
            raise WireError("a tag, a float or a simple value without a meaning here")
    return values, at


def _claim(count: int, depth: int, room: list[int]) -> None:
    if not depth:
        raise WireError(f"arrays or maps nested more than {DEPTH_MAX} deep")
    room[0] -= count
    if room[0] < 0:
        raise WireError("an encoding with too many items")


def _mapping(
    data: bytes, at: int, count: int, depth: int, room: list[int]
) -> tuple[dict[int | str, Any], int]:
    """`count` pairs whose keys rise bytewise, so that none comes twice."""
    mapping: dict[int | str, Any] = {}
    last = b""
    for _ in range(count):
        start = at
        (key,), at = _items(data, at, 1, 0, room)
        if type(key) is not int and type(key) is not str:
            raise WireError("a map key that is neither an integer nor a text")
        if data[start:at] <= last:
            raise WireError("map keys out of order, or twice the same")
        last = data[start:at]
        (mapping[key],), at = _items(data, at, 1, depth, room)
    return mapping, at


# --- writing --------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """The one deterministic encoding of `value`; raises `WireError` if it has none.

    Tuples and lists become arrays; the keys of a map are integers and texts, sorted bytewise.
    """
    parts: list[bytes] = []
    try:
        _write((value,), parts.append, DEPTH_MAX)
    except UnicodeEncodeError:
        raise WireError("a text that has no UTF-8 form") from None
    return b"".join(parts)


def _write(values: Iterable[Any], put: Callable[[bytes], object], depth: int) -> None:
    for value in values:
        kind = type(value)
        if kind is int:
            if 0 <= value < 0x18:
                put(_BYTE[value])
            else:
                put(_head(0, value) if 0 < value < _TOO_BIG else _integer(value))
        elif kind is bytes:
            size = len(value)
            put(_SHORT[size] if size < 256 else _head(0x40, size))
            put(value)
        elif kind is tuple or kind is list:
            if not depth:
                raise WireError(f"arrays or maps nested more than {DEPTH_MAX} deep")
            put(_head(0x80, len(value)))
            _write(value, put, depth - 1)
        elif kind is str:
            text = value.encode()
            put(_head(0x60, len(text)))
            put(text)
        elif kind is dict:
            if not depth:
                raise WireError(f"arrays or maps nested more than {DEPTH_MAX} deep")
            put(_head(0xA0, len(value)))
            for key, inner in sorted((_key(key), inner) for key, inner in value.items()):
                put(key)
                _write((inner,), put, depth - 1)
        elif kind is bool or value is None:
            put(_SIMPLE_BYTES[value])
        else:
            raise WireError(f"a {kind.__name__} has no place in an encoding")


def _head(major: int, argument: int) -> bytes:
    if argument < 0x18:
        return _BYTE[major | argument]
    if argument < 1 << 8:
        return _BYTE[major | 0x18] + _BYTE[argument]
    if argument < 1 << 16:
        return _BYTE[major | 0x19] + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return _BYTE[major | 0x1A] + argument.to_bytes(4, "big")
    return _BYTE[major | 0x1B] + argument.to_bytes(8, "big")


#: The heads of the commonest strings of bytes.
_SHORT = tuple(_head(0x40, size) for size in range(256))
_TOO_BIG = 1 << 64


def _integer(value: int) -> bytes:
    """One that is negative; any other is too big."""
    if value >= 0:
        raise WireError("an integer above 2^64 - 1")
    if value < -(1 << 63):
        raise WireError("an integer below -2^63")
    return cbor2.dumps(value)


def _key(key: Any) -> bytes:
    if type(key) is not int and type(key) is not str:
        raise WireError("a map key that is neither an integer nor a text")
    return encode(key)

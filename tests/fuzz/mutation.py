"""Inputs: good bytes with damage that decoders are known to fall for, from a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

#: Heads that are wrong nearly everywhere: huge, reserved, tagged, floating, too long.
HEAD_LINES = (
    "1bffffffffffffffff 3bffffffffffffffff 5bffffffffffffffff 7bffffffffffffffff",
    "9bffffffffffffffff bbffffffffffffffff dbffffffffffffffff 5a7fffffff 9affffffff ba80000000",
    "9f bf 5f 7f df ff c0 c1 c249010000000000000000 c4 d2 d81c d81d00 d818 d819 d81e d823 d824",
    "d8236a28612b292b28622b29 d825 d90100 d90102 d90104 d9d9f7 f7 f800 f818 f8ff f97e00 f90000",
    "fa7fc00000 fb7ff8000000000000 1800 1817 190000 1900ff 1a00000000 1b0000000000000000 5800",
    "590000 7800 9800 b800 1c 3d 5e 80 a0 40 60 a10000 a2000000 61ff 62c328 63eda080 f4 f5 f6",
)
HEADS = [bytes.fromhex(text) for line in HEAD_LINES for text in line.split()]
TEXTS = [b"-----BEGIN ", b"-----END ", b"\r\n", b"\n\n", b"=", b"\xff\xfe", b"\0", b"../", b"\xc3"]
NUMBERS = [0, 1, 0x17, 0x18, 0x1F, 0x20, 0x40, 0x58, 0x7F, 0x80, 0xA0, 0xBF, 0xFE, 0xFF]
INPUT_BYTES_MAX = 70_000

Change = Callable[["Mutator", bytearray, int], None]


class Mutator:
    """A stream of inputs: the seeds with one to eight changes, and now and then plain noise."""

    def __init__(self, seeds: Sequence[bytes], generator: random.Random) -> None:
        assert seeds, "a mutation needs something to start from"
        self.seeds = seeds
        self.random = generator

    def next(self) -> bytes:
        below = self.random.randrange
        if below(50) == 0:
            return self.random.randbytes(below(300))
        data = bytearray(self.seeds[below(len(self.seeds))])
        for _ in range(1 + below(8) * (below(2) == 0)):
            end = min(len(data), 12) if below(3) == 0 else len(data)  # the beginning decides
            CHANGES[below(len(CHANGES))](self, data, below(end + 1))
        del data[INPUT_BYTES_MAX:]
        return bytes(data)

    def flip(self, data: bytearray, at: int) -> None:
        if at < len(data):
            data[at] ^= 1 << self.random.randrange(8)

    def number(self, data: bytearray, at: int) -> None:
        if at < len(data):
            data[at] = self.random.choice((self.random.choice(NUMBERS), self.random.randrange(256)))

    def noise(self, data: bytearray, at: int) -> None:
        data[at : at + self.random.randrange(5)] = self.random.randbytes(self.random.randrange(5))

    def head(self, data: bytearray, at: int) -> None:
        head = self.random.choice(HEADS)
        data[at : at + self.random.choice((0, 1, len(head)))] = head

    def text(self, data: bytearray, at: int) -> None:
        data[at:at] = self.random.choice(TEXTS)

    def cut(self, data: bytearray, at: int) -> None:
        del data[at : at + 1 + self.random.randrange(40)]

    def end(self, data: bytearray, at: int) -> None:
        del data[at:]

    def repeat(self, data: bytearray, at: int) -> None:
        piece = data[at : at + 1 + self.random.randrange(40)]
        data[at:at] = piece * (1 + self.random.randrange(4))

    def nest(self, data: bytearray, at: int) -> None:
        opening = self.random.choice((b"\x81", b"\xa1\x00", b"\x9f", b"\xc1", b"\x82"))
        data[at:at] = opening * self.random.choice((1, 3, 15, 16, 17, 400))

    def splice(self, data: bytearray, at: int) -> None:
        other = self.seeds[self.random.randrange(len(self.seeds))]
        start = self.random.randrange(len(other) + 1)
        data[at : at + self.random.randrange(60)] = other[start : start + 60]

    def whole(self, data: bytearray, at: int) -> None:
        data[at:] = self.seeds[self.random.randrange(len(self.seeds))]

    def item(self, data: bytearray, at: int) -> None:
        """The rest becomes one item: any head, and the bytes that stand there as its argument."""
        major, width = self.random.randrange(8) << 5, self.random.randrange(4)
        data[at:] = bytes((major | 0x18 + width,)) + data[at + 1 : at + 1 + (1 << width)]

    def wrap(self, data: bytearray, at: int) -> None:
        """The rest as a byte string: an encoding inside an encoding."""
        rest = bytes(data[at:])
        data[at:] = b"\x59" + min(len(rest), 0xFFFF).to_bytes(2, "big") + rest


CHANGES: tuple[Change, ...] = (
    Mutator.flip,
    Mutator.flip,
    Mutator.number,
    Mutator.number,
    Mutator.noise,
    Mutator.noise,
    Mutator.head,
    Mutator.head,
    Mutator.text,
    Mutator.cut,
    Mutator.end,
    Mutator.repeat,
    Mutator.nest,
    Mutator.splice,
    Mutator.whole,
    Mutator.wrap,
    Mutator.item,
)


def shrink(data: bytes, still: Callable[[bytes], bool], tries_max: int = 2000) -> bytes:
    """A shorter input for which `still` holds, found by leaving out ever smaller pieces."""
    piece = max(1, len(data) // 2)
    tries = 0
    while tries < tries_max:
        at = 0
        before = len(data)
        while at < len(data) and tries < tries_max:
            tries += 1
            shorter = data[:at] + data[at + piece :]
            if still(shorter):
                data = shorter
            else:
                at += piece
        if piece == 1 and len(data) == before:
            break
        piece = max(1, piece // 2)
    return data

"""The list of invitations on disk: it survives, is for its owner alone, and lets nobody in."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from aegis_edge.disk import guestlist
from aegis_edge.disk.errors import DiskError
from aegis_edge.disk.guestlist import ROWS_MAX, SIZE_BYTES_MAX, Row, underway
from aegis_edge.wire import codec

ROW = Row(bytes(range(32)), 1_800_000_000_000)
GOOD = astuple(ROW)
USED = replace(ROW, public=bytes(32), instead_of=b"o" * 32, guest=b"g" * 32, number=7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "invitations"


def test_what_was_written_comes_back_in_order(path: Path) -> None:
    assert guestlist.read(path) == ()
    rows = (
        ROW,
        USED,
        replace(ROW, public=b"c" * 32, is_over=True),
        replace(ROW, public=b"d" * 32, guest=b"g" * 32, is_observer=True),
    )
    guestlist.write(path, rows)
    assert guestlist.read(path) == rows
    guestlist.write(path, ())
    assert guestlist.read(path) == ()
    assert [each.name for each in path.parent.iterdir()] == ["invitations"]


def test_a_proposal_under_way_names_the_one_before(path: Path) -> None:
    assert [underway(last) for last in (0, 7)] == [-1, -8]
    assert [underway(underway(last)) for last in (0, 7)] == [0, 7]
    guestlist.write(path, (replace(ROW, number=underway(7)),))
    assert underway(guestlist.read(path)[0].number) == 7


def test_a_list_from_before_there_were_observers_is_read(path: Path) -> None:
    path.write_bytes(codec.encode((1, (GOOD[:-1],))))
    assert guestlist.read(path) == (ROW,)


def test_a_full_list_fits(path: Path) -> None:
    rows = tuple(replace(USED, public=bytes((n,)) * 32, number=2**62) for n in range(ROWS_MAX))
    guestlist.write(path, rows)
    assert path.stat().st_size < SIZE_BYTES_MAX
    assert guestlist.read(path) == rows


@pytest.mark.parametrize(
    "value",
    [
        7,
        (),
        (2, ()),
        (1, 7),
        (1, (7,)),
        (1, (GOOD[:-2],)),
        (1, ((*GOOD, False),)),
        (1, ((bytes(31), *GOOD[1:]),)),
        (1, ((*GOOD[:1], "soon", *GOOD[2:]),)),
        (1, ((*GOOD[:1], -1, *GOOD[2:]),)),
        (1, ((*GOOD[:2], b"short", *GOOD[3:]),)),
        (1, ((*GOOD[:3], 7, *GOOD[4:]),)),
        (1, ((*GOOD[:4], None, False),)),
        (1, ((*GOOD[:5], 0),)),
        (1, ((*GOOD[:6], 0),)),
        (1, (GOOD,) * (ROWS_MAX + 1)),
    ],
)
def test_a_damaged_list_is_as_good_as_none_and_says_so(
    path: Path, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(codec.encode(value))
    assert guestlist.read(path) == ()
    assert "make new ones" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, bytes(SIZE_BYTES_MAX + 1)])
def test_noise_is_no_list(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert guestlist.read(path) == ()


def test_a_place_that_cannot_be_read_or_written_is_an_error_of_the_disk(path: Path) -> None:
    path.mkdir()
    assert guestlist.read(path) == ()
    with pytest.raises(DiskError):
        guestlist.write(path, (ROW,))

"""The list of bans on disk: it survives, is for its owner alone, and a bad clock prolongs none."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from aegis_edge.disk import banlist
from aegis_edge.disk.banlist import ROWS_MAX, SIZE_BYTES_MAX, Row
from aegis_edge.disk.errors import DiskError
from aegis_edge.wire import codec

ROW = Row(bytes(range(32)), 1_800_000_000_000, 3_600_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bans"


def test_what_was_written_comes_back_and_is_for_its_owner_alone(path: Path) -> None:
    assert banlist.read(path) == ()
    path.with_name(f".{path.name}.new").write_text("left by a crash")
    rows = (ROW, Row(bytes(32), 0, 0))
    banlist.write(path, rows)
    assert banlist.read(path) == rows
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    banlist.write(path, ())
    assert banlist.read(path) == ()
    assert [each.name for each in path.parent.iterdir()] == ["bans"]


def test_a_full_list_fits(path: Path) -> None:
    rows = tuple(Row(bytes([n]) * 32, 2**62, 2**62) for n in range(ROWS_MAX))
    banlist.write(path, rows)
    assert path.stat().st_size < SIZE_BYTES_MAX
    assert banlist.read(path) == rows


@pytest.mark.parametrize(
    ("now_ms", "left_ms"),
    [
        (1_800_000_000_000, 3_600_000),
        (1_800_000_600_000, 3_000_000),
        (1_800_003_600_000, 0),
        (1_900_000_000_000, 0),
        (0, 3_600_000),
    ],
)
def test_a_ban_never_lasts_longer_than_it_was_meant_to(now_ms: int, left_ms: int) -> None:
    assert ROW.left_ms(now_ms) == left_ms
    assert ROW._replace(length_ms=0).left_ms(now_ms) is None


@pytest.mark.parametrize(
    "value",
    [
        7,
        (),
        (2, ()),
        (1, 7),
        (1, (7,)),
        (1, (tuple(ROW)[:2],)),
        (1, ((bytes(31), 1, 1),)),
        (1, (("key", 1, 1),)),
        (1, ((bytes(32), -1, 1),)),
        (1, ((bytes(32), 1, "soon"),)),
        (1, ((bytes(32), 1, True),)),
        (1, (tuple(ROW),) * (ROWS_MAX + 1)),
    ],
)
def test_a_damaged_list_is_as_good_as_none_and_says_so(
    path: Path, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(codec.encode(value))
    assert banlist.read(path) == ()
    assert "make new ones" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, bytes(SIZE_BYTES_MAX + 1)])
def test_noise_is_no_list(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert banlist.read(path) == ()


def test_a_place_that_cannot_be_read_or_written_is_an_error_of_the_disk(path: Path) -> None:
    path.mkdir()
    assert banlist.read(path) == ()
    with pytest.raises(DiskError):
        banlist.write(path, (ROW,))

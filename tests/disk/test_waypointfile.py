"""Where the cluster was: it survives beside the database, and never goes back."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from aegis_edge.disk import waypointfile
from aegis_edge.disk.errors import DiskError
from aegis_edge.pbft.route import DIGEST_BYTES, Waypoint
from aegis_edge.wire import codec

SEVEN = Waypoint(7, b"7" * DIGEST_BYTES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "waypoint"


def test_it_goes_on_and_never_back(path: Path) -> None:
    assert waypointfile.read(path) is None
    waypointfile.advance(path, Waypoint(0, bytes(DIGEST_BYTES)))
    assert not path.exists(), "that the genesis was is known"
    waypointfile.advance(path, SEVEN)
    assert waypointfile.read(path) == SEVEN
    for number in (3, 7):
        waypointfile.advance(path, Waypoint(number, bytes(DIGEST_BYTES)))
        assert waypointfile.read(path) == SEVEN
    later = Waypoint(2**62, bytes(DIGEST_BYTES))
    waypointfile.advance(path, later)
    assert waypointfile.read(path) == later
    assert [each.name for each in path.parent.iterdir()] == ["waypoint"]
    waypointfile.remove(path)
    waypointfile.remove(path)
    assert waypointfile.read(path) is None


def test_it_is_for_its_owner_alone_whatever_a_crash_left(path: Path) -> None:
    path.with_name(f".{path.name}.new").write_text("left by a crash")
    waypointfile.advance(path, SEVEN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "value",
    [
        7,
        (),
        (2, 7, bytes(DIGEST_BYTES)),
        (1, "7", bytes(DIGEST_BYTES)),
        (1, 7, bytes(DIGEST_BYTES - 1)),
        (1, 7, "digest"),
        (1, 7),
    ],
)
def test_what_is_damaged_is_as_good_as_none(
    path: Path, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(codec.encode(value))
    assert waypointfile.read(path) is None
    assert "learnt anew" in caplog.text
    waypointfile.advance(path, SEVEN)
    assert waypointfile.read(path) == SEVEN


def test_a_folder_that_is_gone_is_a_typed_error(path: Path) -> None:
    with pytest.raises(DiskError):
        waypointfile.advance(path.parent / "gone" / "waypoint", SEVEN)

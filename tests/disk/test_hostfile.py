"""Who invited this board, on disk; a damaged file is as good as none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis_edge.disk import hostfile
from aegis_edge.disk.errors import DiskError
from aegis_edge.disk.hostfile import SIZE_BYTES_MAX, Host
from aegis_edge.wire import codec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host"


def test_what_was_written_comes_back(path: Path) -> None:
    assert hostfile.read(path) is None
    for host in (Host(b"record", False), Host(b"record", True, b"pass")):
        hostfile.write(path, host)
        assert hostfile.read(path) == host


@pytest.mark.parametrize(
    "value",
    [7, (), (2, b"", True, b""), (1, b"", True), (1, b"", 1, b""), (1, "", True, b"")],
)
def test_a_damaged_one_is_as_good_as_none_and_says_what_to_do(
    path: Path, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(codec.encode(value))
    assert hostfile.read(path) is None
    assert "join again" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\xff" * 9, bytes(SIZE_BYTES_MAX + 1)])
def test_noise_is_none(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert hostfile.read(path) is None


def test_a_place_that_cannot_be_used_is_an_error_of_the_disk(path: Path) -> None:
    path.mkdir()
    assert hostfile.read(path) is None
    with pytest.raises(DiskError):
        hostfile.write(path, Host(b"", False))

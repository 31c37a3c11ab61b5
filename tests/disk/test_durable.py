"""A small file is replaced whole, for its owner alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from aegis_edge.disk import durable
from aegis_edge.disk.errors import DiskError


def test_it_is_for_its_owner_alone_whatever_a_crash_left(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.with_name(".small.new").write_text("left by a crash")
    for data in (b"one", b"another"):
        durable.replace(path, data)
        assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["small"]


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "small"
    durable.replace(path, b"old")
    path.with_name(".small.new").mkdir()
    with pytest.raises(DiskError):
        durable.replace(path, b"new")
    assert path.read_bytes() == b"old"

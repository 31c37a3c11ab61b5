from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.supervisor.restarts import WAIT_S_MAX, Restarts, wait_s


def test_it_waits_longer_each_time_up_to_a_bound() -> None:
    assert [wait_s(lives) for lives in range(6)] == [0, 0, 3, 6, 12, 24]
    assert wait_s(1_000) == WAIT_S_MAX


def test_starts_count_until_one_lasts(tmp_path: Path) -> None:
    assert [Restarts(tmp_path).begun() for _ in range(3)] == [0, 1, 2]
    Restarts(tmp_path).lasted()
    assert Restarts(tmp_path).begun() == 0


@pytest.mark.parametrize("rubbish", [b"", b"many", b"-7", b"\xff\xfe"])
def test_what_cannot_be_read_counts_for_nothing(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "starts").write_bytes(rubbish)
    assert Restarts(tmp_path).begun() == 0
    assert Restarts(tmp_path).begun() == 1


def test_a_count_that_grew_out_of_hand_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "starts").write_text("9" * 50)
    assert wait_s(Restarts(tmp_path).begun()) == WAIT_S_MAX


def test_without_its_folder_nothing_is_counted(tmp_path: Path) -> None:
    gone = Restarts(tmp_path / "gone")
    assert (gone.begun(), gone.begun()) == (0, 0)
    gone.lasted()

"""The socket of the API: its mode, its place, and when an old one may be replaced."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from aegis_edge.api.listener import ApiError, open_listener


async def test_the_socket_has_its_mode_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    with open_listener(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o007 == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert list(path.parent.iterdir()) == []


async def test_a_socket_that_nobody_answers_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with open_listener(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


async def test_a_node_that_answers_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with open_listener(path):
        with (
            pytest.raises(ApiError, match=f"already running, pid {os.getpid()}:"),
            open_listener(path),
        ):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with open_listener(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            inode = path.stat().st_ino
    assert path.stat().st_ino == inode


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("mine")
    with pytest.raises(ApiError, match="no socket"), open_listener(path):
        pass
    assert path.read_text() == "mine"


async def test_places_that_cannot_hold_a_socket_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ApiError, match="cannot hold"), open_listener(tmp_path / "file" / "s"):
        pass
    with pytest.raises(ApiError, match="too long"), open_listener(tmp_path / ("s" * 120)):
        pass


async def test_a_directory_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ApiError, match="chmod o-w"), open_listener(tmp_path / "s"):
        pass
    tmp_path.chmod(0o1777)
    with open_listener(tmp_path / "s"):
        pass


async def test_a_directory_of_another_account_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ApiError, match="another account"), open_listener(tmp_path / "s"):
        pass

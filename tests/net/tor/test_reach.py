from __future__ import annotations

import grp
import os
import pwd
import socket
from pathlib import Path

import pytest

from aegis_edge.net.tor import reach
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import Unreachable


async def test_nothing_there_is_said_with_advice(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"there is no tor's control port.*start tor"):
        await reach.connect(Endpoint(path=f"{tmp_path}/none"), "control port")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")  # by a program that is gone: nobody listens
    with pytest.raises(Unreachable, match=r"nothing listens at unix:.*systemctl start tor"):
        await reach.connect(Endpoint(path=f"{tmp_path}/left"), "control port")
    with pytest.raises(Unreachable, match="cannot be opened"):
        await reach.connect(Endpoint(path="/dev/null/x"), "control port")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_is_said_with_advice(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match="nothing listens"):
            await reach.connect(Endpoint(host=host, port=port), "SOCKS port")


async def test_a_socket_of_others_is_said_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/control")
        listener.listen()
        os.chmod(f"{tmp_path}/control", 0o660)

        class Forbidden:
            async def connect(self, _: object) -> None:
                raise PermissionError(13, "Permission denied")  # as for all users but root

            def close(self) -> None:
                pass

        monkeypatch.setattr(reach.trio.socket, "socket", lambda *_: Forbidden())
        monkeypatch.setattr(os, "getgroups", list)
        group = grp.getgrgid(os.stat(f"{tmp_path}/control").st_gid)[0]
        user = pwd.getpwuid(os.geteuid())[0]
        with pytest.raises(Unreachable, match=f"usermod -aG {group} {user}"):
            await reach.connect(Endpoint(path=f"{tmp_path}/control"), "control port")


def test_access_is_a_matter_of_the_mode_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    assert f"chmod g+rx {folder}" in reach.access_advice(f"{folder}/cookie")
    cookie = tmp_path / "cookie"
    cookie.write_bytes(b"")
    cookie.chmod(0o600)
    assert f"chmod g+r {cookie}" in reach.access_advice(str(cookie))
    monkeypatch.setattr(os, "geteuid", lambda: 2**31)
    assert "the user 2147483648" in reach.access_advice("not/there")

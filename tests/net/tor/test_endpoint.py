from __future__ import annotations

import grp
import os
import pwd
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.net.tor import endpoint
from aegis_edge.net.tor.endpoint import Endpoint, EndpointError
from aegis_edge.net.tor.errors import Unreachable

GOOD = [
    ("unix:/run/tor/control", Endpoint(path="/run/tor/control")),
    ("/run/tor/a b", Endpoint(path="/run/tor/a b")),
    ("9051", Endpoint(host="127.0.0.1", port=9051)),
    ("127.8.8.8:1", Endpoint(host="127.8.8.8", port=1)),
    ("[::1]:65535", Endpoint(host="::1", port=65535)),
]


@pytest.mark.parametrize(("text", "place"), GOOD)
def test_a_place_on_this_host(text: str, place: Endpoint) -> None:
    assert Endpoint.parse(text) == place
    assert Endpoint.parse(str(place)) == place
    assert place.is_unix == text.startswith(("unix:", "/"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no port"),
        ("localhost:9051", "not on this host"),
        ("tor.example:9051", "not on this host"),
        ("192.0.2.1:9051", "not on this host"),
        ("[2001:db8::1]:9051", "not on this host"),
        ("0.0.0.0:9051", "not on this host"),
        ("127.0.0.1:0", "no port"),
        ("127.0.0.1:65536", "no port"),
        ("9" * 5000, "no port"),
        ("٣", "no port"),
        ("unix:run/tor", "no absolute path"),
        ("unix:", "no absolute path"),
        ("/a\0b", "no absolute path"),
        ("/" + "a" * 107, "no absolute path"),
    ],
)
def test_any_other_place_is_refused_with_the_right_form(text: str, words: str) -> None:
    with pytest.raises(EndpointError, match=f"{words}.*; write it as unix:"):
        Endpoint.parse(text)


@given(st.text(max_size=40) | st.text("0123456789.:[]unix/", max_size=20))
def test_any_text_is_a_place_or_an_endpoint_error(text: str) -> None:
    try:
        place = Endpoint.parse(text)
    except EndpointError:
        return
    assert Endpoint.parse(str(place)) == place


async def test_nothing_there_is_said_with_advice(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"there is no tor's control port.*start tor"):
        await endpoint.connect(Endpoint(path=f"{tmp_path}/none"), "control port")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")  # by a program that is gone: nobody listens
    with pytest.raises(Unreachable, match=r"nothing listens at unix:.*systemctl start tor"):
        await endpoint.connect(Endpoint(path=f"{tmp_path}/left"), "control port")
    with pytest.raises(Unreachable, match="cannot be opened"):
        await endpoint.connect(Endpoint(path="/dev/null/x"), "control port")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_is_said_with_advice(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match="nothing listens"):
            await endpoint.connect(Endpoint(host=host, port=port), "SOCKS port")


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

        monkeypatch.setattr(endpoint.trio.socket, "socket", lambda *_: Forbidden())
        monkeypatch.setattr(os, "getgroups", list)
        group = grp.getgrgid(os.stat(f"{tmp_path}/control").st_gid)[0]
        user = pwd.getpwuid(os.geteuid())[0]
        with pytest.raises(Unreachable, match=f"usermod -aG {group} {user}"):
            await endpoint.connect(Endpoint(path=f"{tmp_path}/control"), "control port")


def test_access_is_a_matter_of_the_mode_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    assert f"chmod g+rx {folder}" in endpoint.access_advice(f"{folder}/cookie")
    cookie = tmp_path / "cookie"
    cookie.write_bytes(b"")
    cookie.chmod(0o600)
    assert f"chmod g+r {cookie}" in endpoint.access_advice(str(cookie))
    monkeypatch.setattr(os, "geteuid", lambda: 2**31)
    assert "the user 2147483648" in endpoint.access_advice("not/there")

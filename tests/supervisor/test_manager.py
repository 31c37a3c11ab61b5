from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from aegis_edge.supervisor import manager


def listening(address: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(address)
    found.settimeout(5)
    return found


@pytest.mark.parametrize("abstract", [False, True])
def test_lines_travel_in_one_datagram(tmp_path: Path, abstract: bool) -> None:
    name = str(tmp_path / "notify")
    with listening("\0" + name if abstract else name) as end:
        tell = manager.connect({"NOTIFY_SOCKET": "@" + name if abstract else name})
        assert tell is not None
        tell(["READY=1", "STATUS=well é"])
        tell(["WATCHDOG=1"])
        assert end.recv(1000) == "READY=1\nSTATUS=well é".encode()
        assert end.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize("path", [None, "", "relative", "vsock:2:1"])
def test_without_a_manager_nothing_is_told(path: str | None) -> None:
    assert manager.connect({} if path is None else {"NOTIFY_SOCKET": path}) is None


def test_a_manager_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    tell = manager.connect({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert tell is not None
    tell(["READY=1"])


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "60000000"}, 60),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "8"}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "me"}, 0),
    ],
)
def test_how_often_the_watchdog_wants_to_hear(environment: dict[str, str], seconds: float) -> None:
    assert manager.watchdog_s(environment, 7) == seconds


def test_the_journal_is_known_by_its_file(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as file:
        found = os.fstat(file.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        assert manager.is_journal({"JOURNAL_STREAM": stream}, file.fileno())
        assert not manager.is_journal({"JOURNAL_STREAM": stream + "0"}, file.fileno())
        assert not manager.is_journal({}, file.fileno())
        closed = file.fileno()
    assert not manager.is_journal({"JOURNAL_STREAM": stream}, closed)

"""How a child that is no good tor is dealt with; a real one is in tests/tor."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
import trio

from aegis_edge.net.tor import child, torrc
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "tor")


def program(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def ended(places: Places, binary: Path) -> str:
    with pytest.raises(TorError) as caught:
        await child.run(places, SecurityLevel.STANDARD, binary=binary)
    return str(caught.value)


async def test_a_binary_that_is_not_there_is_told(places: Places, tmp_path: Path) -> None:
    assert "install tor (apt install tor)" in await ended(places, tmp_path / "none")
    assert "cannot be started" in await ended(places, tmp_path)
    with pytest.raises(TorError, match="cannot be started"):
        await child.modules(tmp_path / "none")


async def test_why_it_ended_is_told_at_once_with_its_last_complaints(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LAST_LINES_S", 600)
    script = "\n".join(
        [
            "echo 'Nov 22 15:44:21.782 [notice] Tor 0.4.9.11 running'",
            "echo 'Nov 22 15:44:21.782 [warn] One'",
            "echo 'Nov 22 15:44:21.782 [warn] Two\033[31m'",
            "echo 'Nov 22 15:44:21.782 [err] Three'",
            "exit 3",
        ]
    )
    with trio.fail_after(10):
        said = await ended(places, program(tmp_path, script))
    assert "tor ended by itself (with status 3), saying: Two?[31m / Three; mend what" in said
    assert "(by signal 9)" in await ended(places, program(tmp_path, "kill -9 $$"))


async def test_its_log_is_passed_on_within_bounds(
    places: Places, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = "\n".join(
        [
            "echo 'Nov 22 15:44:21.782 [warn] careful'",
            "echo 'no log line'",
            "printf '\\377\\n'",
            "head -c 3000000 /dev/zero",  # one line without an end
            "yes 'Nov 22 15:44:21.782 [notice] x' | head -n 5000",
        ]
    )
    with caplog.at_level(logging.DEBUG, "aegis_edge.net.tor.child"):
        await ended(places, program(tmp_path, script))
    levels = {record.getMessage(): record.levelno for record in caplog.records}
    assert levels["tor: careful"] == logging.WARNING
    assert levels["tor: no log line"] == levels["tor: \ufffd"] == logging.DEBUG
    assert levels["tor: x"] == logging.INFO
    assert max(map(len, levels)) <= child.LOG_LINE_BYTES_MAX + 10
    pieces = [record for record in caplog.records if record.getMessage().startswith("tor: ??")]
    assert len(pieces) > 100, "a line without an end is not kept until it ends"


async def test_what_holds_its_pipe_after_it_is_not_waited_for(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LAST_LINES_S", 0.1)
    pid = tmp_path / "pid"
    said = await ended(places, program(tmp_path, f"sleep 60 & echo $! > {pid}; exit 1"))
    assert "with status 1" in said
    os.kill(int(pid.read_text()), 9)


async def test_one_that_never_listens_is_stopped(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "START_TIMEOUT_S", 0.2)
    assert "by signal 9" in await ended(places, program(tmp_path, "exec sleep 60"))


async def test_one_that_will_not_go_is_killed(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STOP_TIMEOUT_S", 0.1)
    pid = tmp_path / "pid"
    os.mkfifo(pid)
    binary = program(tmp_path, f"trap '' TERM; echo $$ > {pid}; exec sleep 60")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: child.run(places, SecurityLevel.STANDARD, binary=binary))
        number = int(await trio.to_thread.run_sync(pid.read_text))
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


async def test_modules_are_what_it_says_yes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = program(tmp_path, "[ $1 = --list-modules ] && echo 'relay: yes\npow: no\nDirauth: yes'")
    assert await child.modules(good) == {"relay"}
    for script in ("true", "echo pow: maybe", "head -c 9000000 /dev/zero"):
        with pytest.raises(TorError, match="does not list its modules"):
            await child.modules(program(tmp_path, script))
    monkeypatch.setattr(child, "ASK_TIMEOUT_S", 0.1)
    with pytest.raises(TorError, match="does not end"):
        await child.modules(program(tmp_path, "exec sleep 60"))


async def test_settings_that_tor_refuses_are_told_in_its_words(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def checked(script: str) -> None:
        await child.check(places, SecurityLevel.HIGH, binary=program(tmp_path, script))

    await checked('[ "$1 $4 $5" = "--verify-config -f $(dirname $5)/torrc" ] && [ -s $5 ]')
    with pytest.raises(TorError, match=r"refuses its settings, saying: Odd; correct the extra"):
        await checked("echo 'Nov 22 15:44:21.782 [err] Odd'; exit 1")
    monkeypatch.setattr(child, "ASK_TIMEOUT_S", 0.1)
    with pytest.raises(TorError, match="--verify-config does not end"):
        await checked("exec sleep 60")


def test_the_folder_is_private_and_made_anew(places: Places, tmp_path: Path) -> None:
    places.folder.mkdir(mode=0o755)
    for left in ("control", "socks", "cookie", "torrc"):
        (places.folder / left).write_text("left by one that was killed")
    text = torrc.text(places, SecurityLevel.HIGH, 1)
    child.prepare(places, text)
    assert stat.S_IMODE(places.folder.stat().st_mode) == 0o700
    assert {path.name for path in places.folder.iterdir()} == {"torrc", "torrc-defaults"}
    assert places.torrc.read_text() == text and places.defaults.read_text() == ""
    for path in (places.torrc, places.defaults):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_had_is_told(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.folder.write_text("a file")
    with pytest.raises(TorError, match="cannot be made ready"):
        child.prepare(places, "")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(TorError, match="belongs to somebody else"):
        child.prepare(Places(tmp_path / "link"), "")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(TorError, match="belongs to somebody else"):
        child.prepare(Places(elsewhere), "")

"""Tables, sizes, times, and the words and exit codes of errors."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pytest

from aegis_edge.api import ApiError
from aegis_edge.cli import screen
from aegis_edge.client import protocol
from aegis_edge.config import ConfigError, FlagError
from aegis_edge.disk.errors import DatabaseLocked, DiskFull
from aegis_edge.home import HomeError
from aegis_edge.net.channel import LinkError, ListenError
from aegis_edge.peers.genesis import GenesisError
from aegis_edge.peers.identity import IdentityError
from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (262144, "256.0 KiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert screen.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (90, "2 min"), (7200, "2 h"), (200_000, "2 d"), (1e8, "3 y")]
)
def test_spans(seconds: float, text: str) -> None:
    assert screen.span(seconds) == text


def test_times_are_told_from_now() -> None:
    now_ms = int(time.time() * 1000)
    assert screen.ago(now_ms) == "now"
    assert screen.ago(now_ms - 120_000) == "2 min ago"
    assert screen.ago(now_ms + 7_250_000) == "in 2 h"


def test_a_table_is_aligned_whatever_its_colours(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(["KEY", "N"], [[screen.good("a"), "1"], ["long", "12"]], right="N")
    assert capsys.readouterr().out == "KEY    N\na      1\nlong  12\n"


def test_control_characters_of_others_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in screen.shown("\x1b[2Jhello\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (protocol.NotFound("m", "a"), screen.NOT_FOUND),
        (protocol.Conflict("m", "a", 3), screen.CONFLICT),
        (protocol.NoQuorum("m", "a"), screen.NO_QUORUM),
        (protocol.TimedOut("m", "a"), screen.NO_QUORUM),
        (protocol.NotRunning("m", "a"), screen.NOT_RUNNING),
        (protocol.Garbled("m", "a"), screen.ERROR),
        (screen.Failure("m", "a"), screen.ERROR),
        (DiskFull("m", "a"), 74),
        (DatabaseLocked("m", "a"), 75),
        (ListenError("m", 75), 75),
        (LinkError("m"), screen.ERROR),
        (ApiError("m"), 78),
        (HomeError("m"), 78),
        (ConfigError("m"), 78),
        (FlagError("m"), screen.USAGE),
        (GenesisError("m"), screen.ERROR),
        (IdentityError("m"), screen.ERROR),
        (FileNotFoundError(2, "m", "file"), screen.ERROR),
        (click.UsageError("m"), screen.USAGE),
        (click.Abort(), screen.INTERRUPTED),
        (ZeroDivisionError("m"), screen.ERROR),
    ],
)
def test_each_error_has_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert screen.explain(error, as_json=False) == code
    people = capsys.readouterr().err
    assert screen.explain(error, as_json=True) == code
    programs = capsys.readouterr().err
    if code != screen.INTERRUPTED:
        assert "m" in people
        assert ("a fault of this program" in people) == isinstance(error, ZeroDivisionError)
        assert '"message": ' in programs


def test_a_place_that_is_no_home_is_told_from_a_node_that_does_not_run(
    cli: Cli, home: Path
) -> None:
    said = cli("status")
    assert said.code == screen.NOT_RUNNING
    assert f"{home} is no node's home: there is no identity.key" in said.err
    for words in ("--home", "AEGIS_EDGE_HOME", "aegis-edge init"):
        assert words in said.err
    cli("init")
    for words in (("status",), ("status", "--socket", home / "elsewhere")):
        assert "the node is not running: no " in cli(*words).err


def test_several_things_to_do_are_several_lines(cli: Cli, home: Path) -> None:
    cli("init")
    said = cli("genesis", "show")
    assert said.code == 78
    assert said.err.splitlines()[0] == f"error: {home}/genesis: there is no genesis yet"
    assert all(line.startswith(" " * 7) for line in said.err.splitlines()[1:])
    assert "       with an invitation: aegis-edge join CODE\n" in said.err


def test_no_colours_where_nobody_sees_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.say(screen.bad("x"))
    assert capsys.readouterr().out == "x\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    screen.say(screen.bad("x"))
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    screen.say(screen.bad("x"))
    assert capsys.readouterr().out == "x\n"

"""Where vanguards are kept, on a tor of few words; with a real one: tests/tor/test_paranoid.py."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from aegis_edge.net.tor import lines, pinning, vanguards
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.lines import Reply, Word

NOW = 1_800_000_000
HOUR = 3_600


class Tor(Control):
    """Has a list of relays, and does what SETCONF says unless it `forgets`."""

    def __init__(self, relays: int) -> None:
        self.relays, self.forgets = range(relays), False
        self.conf: dict[str, str] = {}

    async def command(self, *words: Word, timeout_s: float = 0, reply_bytes_max: int = 0) -> Reply:
        if words[0] == "SETCONF":
            self.conf |= {} if self.forgets else dict(w for w in words if isinstance(w, tuple))
            return self._reply("250 OK\r\n")
        if words[0] == "GETCONF":
            rows = [f"250-{word}={self.conf.get(str(word), '')}\r\n" for word in words[1:]]
            return self._reply("".join([*rows, "250 OK\r\n"]))
        listed = "\r\n".join(map(self._listed, self.relays))
        return self._reply(f"250+ns/all=\r\n{listed}\r\n.\r\n250 OK\r\n")

    @staticmethod
    def _listed(number: int) -> str:
        identity = base64.b64encode(number.to_bytes(20, "big")).decode().rstrip("=")
        head = f"r n{number} {identity} d 2026-01-01 00:00:00 192.0.2.1 443 0"
        return f"{head}\r\ns Fast Running Stable Valid\r\nw Bandwidth=7"

    @staticmethod
    def _reply(said: str) -> Reply:
        parser = lines.Parser()
        (reply,) = parser.feed(said.encode())
        return reply


async def pin(tor: Tor, path: Path, now_s: float = NOW) -> float:
    return await pinning.pin(
        tor, SecurityLevel.PARANOID, path, clock=lambda: now_s, draw=lambda: 0.5
    )


async def test_they_are_drawn_once_and_kept(tmp_path: Path) -> None:
    tor, path = Tor(30), tmp_path / "vanguards"
    assert 0 < await pin(tor, path) <= pinning.LOOK_S
    drawn = dict(tor.conf)
    assert [len(drawn[layer.option].split(",")) for layer in vanguards.FULL] == [4, 8]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = path.stat()
    tor.conf.clear()
    await pin(tor, path, NOW + HOUR / 2)
    assert tor.conf == drawn
    assert path.stat().st_ino == kept.st_ino, "nothing is written without need"


async def test_those_that_left_or_expired_make_room_for_others(tmp_path: Path) -> None:
    tor, path = Tor(30), tmp_path / "vanguards"
    await pin(tor, path)
    drawn = dict(tor.conf)
    gone = int(drawn["HSLayer2Nodes"].split(",")[0].removeprefix("$"), 16)
    tor.relays = [number for number in tor.relays if number != gone]
    await pin(tor, path)
    before, after = (set(c["HSLayer2Nodes"].split(",")) for c in (drawn, tor.conf))
    assert len(before & after) == 3
    assert len(after) == 4
    later = NOW + 3 * 24 * HOUR
    await pin(tor, path, later)
    assert set(tor.conf["HSLayer2Nodes"].split(",")) == after, "they stay for months"
    second, third = vanguards.from_text(path.read_text())
    assert min(guard.expires_s for guard in third) > later, "these for hours, and are drawn anew"
    assert max(guard.expires_s for guard in second) > NOW + 30 * 24 * HOUR


async def test_the_next_look_is_when_the_first_of_them_expires(tmp_path: Path) -> None:
    tor, path = Tor(30), tmp_path / "vanguards"
    await pin(tor, path)
    first = vanguards.expires_s(vanguards.from_text(path.read_text()))
    assert await pin(tor, path, first - 100) == 100


async def test_too_few_relays_are_said_so_and_nothing_is_pinned(tmp_path: Path) -> None:
    tor = Tor(11)
    with pytest.raises(TorError, match="too few relays"):
        await pin(tor, tmp_path / "vanguards")
    assert not tor.conf
    assert not list(tmp_path.iterdir())


async def test_a_tor_that_does_not_pin_them_is_not_used(tmp_path: Path) -> None:
    tor = Tor(30)
    tor.forgets = True
    with pytest.raises(TorError, match="fewer than 4 relays are pinned by HSLayer2Nodes"):
        await pin(tor, tmp_path / "vanguards")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"aegis-edge vanguards 1\n0 none\n"])
async def test_a_damaged_file_is_never_drawn_anew_in_silence(
    tmp_path: Path, content: bytes
) -> None:
    tor, path = Tor(30), tmp_path / "vanguards"
    path.write_bytes(content)
    with pytest.raises(TorError, match="vanguards is damaged"):
        await pin(tor, path)
    assert path.read_bytes() == content
    assert not tor.conf


async def test_a_place_where_nothing_can_be_kept_is_named(tmp_path: Path) -> None:
    with pytest.raises(TorError, match="No such file or directory"):
        await pin(Tor(30), tmp_path / "nowhere" / "vanguards")
    (tmp_path / "vanguards").mkdir()
    with pytest.raises(TorError, match="cannot be kept at"):
        await pin(Tor(30), tmp_path / "vanguards")

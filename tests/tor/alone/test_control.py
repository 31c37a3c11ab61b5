"""The control client with a real tor at the other end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from aegis_edge.net.tor import child, control, facts, levels
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.errors import Closed, Hung, NotAuthenticated, NotTor, Refused
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places
from tests.tor.alone.stage import connected, running

BRIDGE = ("Bridge", "obfs4 192.0.2.1:443 " + "A" * 40 + " cert=x iat-mode=0")
TRANSPORT = ("ClientTransportPlugin", "obfs4 exec /bin/false")
HOSTILE = [
    'a "quoted" one',
    "back\\slash \\n \\",
    'out" NumCPUs="7',
    "#  comment $x %41 'q'",
    "ünïcode \u2028 🧅",
    " blanks ",
    '"',
    '"in quotes"',
]


async def test_a_safe_cookie_opens_it_and_another_cookie_does_not(
    places: Places, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(bytes(32))
    async with running(places), connected(places) as one:
        assert one.info.methods == {"COOKIE", "SAFECOOKIE"}
        assert one.info.cookie_file == str(places.cookie)
        assert levels.parse_version(one.info.version) >= levels.VERSION_MIN
        reply = await one.command("GETINFO", "version", "config-text")
        assert reply.values()["version"][0].startswith(one.info.version)
        assert f"ControlSocket {places.control}" in reply.values()["config-text"][0]
        with pytest.raises(NotAuthenticated, match="does not know the cookie"):
            await control.connect(places.control, Credentials(cookie_file=wrong))


async def test_a_password_opens_it_and_another_does_not(places: Places, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text('a "b" \\ ü\n')
    password.chmod(0o600)
    argv = [str(child.BINARY), "--quiet", "--hash-password", 'a "b" \\ ü']
    made = await trio.run_process(argv, capture_stdout=True)
    hashed = made.stdout.decode().strip()
    async with running(places, ("HashedControlPassword", hashed)):
        credentials = Credentials(password_file=password)
        async with connected(places, credentials) as one:
            assert (await one.command("GETINFO", "version")).is_good
        password.write_text("another")
        with pytest.raises(NotAuthenticated, match="HashedControlPassword in torrc"):
            await control.connect(places.control, credentials)


@pytest.mark.parametrize("value", HOSTILE)
async def test_what_is_quoted_arrives_as_it_was(places: Places, value: str) -> None:
    async with running(places), connected(places) as one:
        await one.command("SETCONF", ("ContactInfo", value))
        found = await facts.options(one, ("ContactInfo", "NumCPUs"))
        assert found == {"ContactInfo": (value,), "NumCPUs": ("0",)}


async def test_a_refusal_leaves_the_connection(places: Places) -> None:
    async with running(places), connected(places) as one:
        with pytest.raises(Refused, match="552 Unrecognized key"):
            await one.command("GETINFO", "nonsense")
        with pytest.raises(Refused, match="510 Unrecognized command"):
            await one.command("NONSENSE")
        assert (await one.command("GETINFO", "version")).is_good


async def test_events_come(places: Places) -> None:
    async with running(places), connected(places) as one:
        await one.command("SETEVENTS", "SIGNAL", "CONF_CHANGED")
        await one.command("SIGNAL", "NEWNYM")
        assert (await one.events.receive()).said == "SIGNAL NEWNYM"
        await one.command("SETCONF", ("ContactInfo", "me"))
        changed = await one.events.receive()
        assert [line.text for line in changed.lines] == ["CONF_CHANGED", "ContactInfo=me", "OK"]


async def test_a_tor_that_ends_is_noticed_at_once(places: Places) -> None:
    async with running(places, may_end=True) as pid, connected(places) as one:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(trio.EndOfChannel):
            await one.events.receive()
        with pytest.raises(Closed):
            await one.command("GETINFO", "version")


async def test_a_tor_that_hangs_is_told(places: Places) -> None:
    async with running(places) as pid, connected(places) as one:
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(Hung, match="does not answer GETINFO"):
                await one.command("GETINFO", "version", timeout_s=0.2)
            with pytest.raises(Hung, match="does not answer at"):
                await control.connect(places.control, Credentials(), timeout_s=0.2)
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("level", SecurityLevel)
async def test_a_child_keeps_each_promise_of_its_level(
    places: Places, level: SecurityLevel
) -> None:
    extra = (BRIDGE, TRANSPORT) if level is SecurityLevel.PARANOID else ()
    async with running(places, *extra, level=level), connected(places) as one:
        modules = await child.modules()
        found = await facts.gather(one, level, modules, places.control, places.socks)
        assert levels.missing(level, found) == ()
        for option in levels.TABLE[level].options:
            assert found.conf[option.name] == (option.value,), "GETCONF equals the table"
        broken = {"STANDARD": "SafeSocks", "HIGH": "ConnectionPadding", "PARANOID": "UseBridges"}
        await one.command("SETCONF", (broken[level.value], "0"))
        found = await facts.gather(one, level, modules, places.control, places.socks)
        (problem,) = levels.missing(level, found)
        assert problem.words.startswith(f"{broken[level.value]} is 0, not ")


async def test_a_tor_as_it_comes_is_not_enough(places: Places, tmp_path: Path) -> None:
    binary = tmp_path / "plain"
    (tmp_path / "data").mkdir(mode=0o700)
    binary.write_text(
        f"#!/bin/sh\nexec {child.BINARY} --defaults-torrc $2 -f $2 DisableNetwork 1 "
        f"DataDirectory {tmp_path}/data ControlSocket {places.control}\n"
    )
    binary.chmod(0o755)
    async with running(places, binary=binary):
        with pytest.raises(NotAuthenticated, match="lets anybody on this host control it"):
            await control.connect(places.control, Credentials())
        async with connected(places, Credentials(allow_none=True)) as one:
            for level, lacking in (
                (SecurityLevel.STANDARD, {"ClientOnly", "SafeSocks", "torrc"}),
                (SecurityLevel.HIGH, {"VanguardsLiteEnabled", "ConnectionPadding"}),
                (SecurityLevel.PARANOID, {"UseBridges", "tor"}),
            ):
                found = await facts.gather(one, level, None, places.control, places.socks)
                first = {p.words.split()[0] for p in levels.missing(level, found)}
                assert lacking <= first


async def test_a_socks_port_is_no_control_port(places: Places) -> None:
    """Without a network there is no SOCKS port: here there is one, to directories on loopback."""
    nowhere = ("DirAuthority", f"x orport=1 v3ident={'A' * 40} 127.0.0.1:2 {'B' * 40}")
    async with running(places, ("TestingTorNetwork", "1"), nowhere, network=True):
        with pytest.raises(NotTor, match="not its SocksPort"):
            await control.connect(places.socks, Credentials())

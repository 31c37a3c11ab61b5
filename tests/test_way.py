"""Which way links travel; through a real Tor: tests/tor/test_way.py."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aegis_edge import config, home, way
from aegis_edge.config import Config, ConfigError
from aegis_edge.crypto import sodium
from aegis_edge.disk import keyfile
from aegis_edge.net.channel import WayError
from aegis_edge.net.links import Traffic
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.transport import Onions
from aegis_edge.peers import onion
from aegis_edge.peers.address import parse
from aegis_edge.peers.genesis import Genesis, Parameters


def made(path: Path, *lines: str) -> Config:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.toml").write_text("\n".join(lines))
    found = config.load({"home": path}, {})
    if not found.key_file.exists():
        keyfile.create(found.key_file)
    return found


def found(settings: Config) -> way.Way:
    keys = keyfile.read(settings.key_file)
    record = home.own_record(settings, keys)
    genesis = Genesis.of([record], Parameters(0, bytes(16)))
    return trio.run(way.find, settings, genesis, keys, record)


def test_straight_links_wait_for_nothing(tmp_path: Path) -> None:
    straight = found(made(tmp_path, "p2p_port = 9000"))
    assert (straight.listen, straight.schedule) == ("tcp:127.0.0.1:9000", None)
    assert (straight.turn_ticks, straight.bytes_a_second, straight.way_ticks) == (0, 0, 0)
    assert straight.status([Traffic()]) == {}


@pytest.mark.parametrize(
    ("level", "mean_interval_s"), [("STANDARD", None), ("HIGH", 1.0), ("PARANOID", 0.5)]
)
def test_through_tor_the_address_is_known_before_any_tor_runs(
    tmp_path: Path, level: str, mean_interval_s: float | None
) -> None:
    settings = made(tmp_path, "transport = 'tor'", f"security_level = '{level}'")
    settings.tor_extra_file.write_text(
        "ClientTransportPlugin obfs4 exec /x\n  Bridge  obfs4 192.0.2.1:443 \n"
    )
    through = found(settings)
    keys = keyfile.read(settings.key_file)
    (address,) = home.own_addresses(settings, keys)
    assert through.listen == address
    assert address.startswith("onion:")
    assert (through.schedule and through.schedule.mean_interval_s) == mean_interval_s
    assert (through.turn_ticks > 2_000) is (mean_interval_s is not None)
    carried = 0 if mean_interval_s is None else int(424 / mean_interval_s)
    assert through.bytes_a_second == carried
    assert through.way_ticks == 2_000, "six hops, on a bad day"
    said = through.status([])
    assert (said["level"], said["stage"]) == (level, "no tor")
    assert list(through.transports) == ["onion"], "there is no other way out"
    onions = through.transports["onion"]
    assert isinstance(onions, Onions)
    assert onions._keyring is not None, "members knock at every level"
    assert onions._keyring.whose(onions._keyring.knock(parse(address).host)) == keys.public


def test_what_links_used_is_told_in_the_cells_of_their_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    through = found(made(tmp_path, "transport = 'tor'", "security_level = 'HIGH'"))
    now_s += 600
    each = Traffic(frames_in=600, frames_out=600, bytes_in=600 * 480, bytes_out=600 * 480)
    said = through.status([each, each, Traffic()])
    assert (said["used_s"], said["used_bytes"]) == (600, 4 * 600 * levels.CELL_BYTES)
    # Two of three links were up, and kept to their schedule.
    assert said["used_link_bytes_a_day"] == round(said["link_bytes_a_day"] * 2 / 3)
    assert through.status([])["used_link_bytes_a_day"] == 0


def test_lines_for_the_own_tor_are_read_and_comments_are_not(tmp_path: Path) -> None:
    extra = tmp_path / "torrc.extra"
    assert way._lines_of(extra) == ()
    extra.write_text("# mine\n\nUseBridges 1\nBridge obfs4 192.0.2.1:80 cert=x\n")
    assert way._lines_of(extra) == (("UseBridges", "1"), ("Bridge", "obfs4 192.0.2.1:80 cert=x"))
    extra.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="lines of a torrc"):
        way._lines_of(extra)


def test_who_links_directly_does_not_load_what_tor_needs() -> None:
    code = "import sys, aegis_edge.node; sys.exit('aegis_edge.net.tor.gateway' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("", "tor has no bridges"),
        ("bridge 192.0.2.1:443\n", "a bridge is without a transport"),
        ("Bridge obfs4 192.0.2.1:443\n", "nothing carries the transport obfs4"),
        ("obfs4 192.0.2.1:443\n", "with the word Bridge before it"),
    ],
)
def test_a_level_that_needs_bridges_is_refused_before_any_tor_runs(
    tmp_path: Path, extra: str, said: str
) -> None:
    settings = made(tmp_path, "transport = 'tor'", "security_level = 'PARANOID'")
    settings.tor_extra_file.write_text(extra)
    with pytest.raises(WayError, match=said):
        found(settings)
    assert not settings.tor_directory.exists()


def boards(path: Path, *names: str) -> tuple[list[Config], list[way.Record]]:
    """Homes without a tor, and the records of their nodes."""
    nowhere = [f"tor_{kind}_port = 'unix:{path}/{kind}'" for kind in ("control", "socks")]
    lines = ("transport = 'tor'", "tor = 'system'", *nowhere)
    homes = [made(path / name, *lines) for name in names]
    return homes, [home.own_record(each, keyfile.read(each.key_file)) for each in homes]


async def here(call: Callable[..., Any], *arguments: Any) -> None:
    """In the place of a thread, so that a test knows when nothing is under way."""
    await trio.lowlevel.checkpoint()
    call(*arguments)


def test_the_old_address_is_given_up_once_every_member_of_today_was_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings, *_), records = boards(tmp_path, "a", "b", "c", "d")
    genesis = Genesis.of(records[:2], Parameters(0, bytes(16)))
    keyfile.rotate_onion(settings.key_file)
    _, founder, newcomer, later = records

    async def play() -> None:
        keys = keyfile.read(settings.key_file)
        through = await way.find(settings, genesis, keys, records[0])
        (old,) = through.status([])["old_addresses"]
        assert old == onion.service_address(onion.service_seed(keys.seed, 0))
        monkeypatch.setattr(trio.to_thread, "run_sync", here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(through.keep)

            async def keeps() -> bool:
                await wait_all_tasks_blocked()
                return through.status([])["old_addresses"] == [old]

            assert await keeps(), "nobody has said yet who the members are"
            through.meet([founder, newcomer], ())
            through.heard(newcomer.signer)
            assert await keeps(), "the founder was not heard"
            through.meet([founder, newcomer, later], ())
            through.heard(founder.signer)
            assert await keeps(), "one has come who was not heard"
            through.meet([newcomer, founder], ())
            assert not await keeps()
            assert through.status([])["old_addresses"] == []
            nursery.cancel_scope.cancel()

    trio.run(play)
    assert keyfile.read(settings.key_file).onion_generations == (1,)


def test_who_comes_is_found_and_finds_us_and_who_goes_does_not(tmp_path: Path) -> None:
    homes, records = boards(tmp_path, "a", "b", "c")
    genesis = Genesis.of(records[:1], Parameters(0, bytes(16)))
    keys = [keyfile.read(each.key_file) for each in homes]
    ways = [
        trio.run(way.find, *each) for each in zip(homes, [genesis] * 3, keys, records, strict=True)
    ]
    founder, second, third = [each.transports["onion"] for each in ways]
    for one in (founder, second, third):
        assert isinstance(one, Onions)
    hosts = [parse(record.message.addresses[0]).host for record in records]

    def finds(caller: Onions, number: int, host: Onions) -> bool:
        """Whether `caller` has the key that the service of board `number` asks for."""
        key = caller._gateway._clients.get(hosts[number])
        expected = host._gateway._own[0].clients
        return key is not None and sodium.x25519_public(key) in expected

    for each in ways[1:]:  # they know the genesis
        each.meet(records[:1], ())
    assert not finds(second, 0, founder)
    ways[0].meet(records[1:2], ())
    assert finds(second, 0, founder) and finds(founder, 1, second)
    assert not finds(third, 0, founder)
    ways[0].meet(records[2:], ())
    assert not finds(second, 0, founder)
    assert hosts[1] not in founder._gateway._clients
    assert finds(third, 0, founder) and finds(founder, 2, third)
    assert finds(founder, 0, founder), "it dials itself"


@pytest.mark.parametrize("path", ["/tmp/" + "x" * 110, "/tmp/" + "x" * 100, "/tmp/a socket"])
def test_a_socket_to_which_tor_cannot_bring_callers_is_refused(tmp_path: Path, path: str) -> None:
    settings = made(tmp_path, "transport = 'tor'", f"onion_socket = '{path}'")
    with pytest.raises(ConfigError, match="cannot be the target of an onion service; use an abs"):
        found(settings)
    assert made(tmp_path / "direct").onion_socket == tmp_path / "direct" / "tor" / "onion.sock"


def test_a_line_that_would_weaken_the_level_ends_the_node(tmp_path: Path) -> None:
    settings = made(tmp_path, "transport = 'tor'")
    settings.tor_extra_file.write_text("VanguardsLiteEnabled 0\n")
    with pytest.raises(ConfigError, match=r"torrc.extra: VanguardsLiteEnabled cannot be an extra"):
        found(settings)


def test_whom_a_service_expects_is_its_business_only_where_callers_have_names(
    tmp_path: Path,
) -> None:
    guest = bytes([7]) * 32
    assert found(made(tmp_path / "direct")).expect is None
    settings = made(tmp_path / "a", "transport = 'tor'", "security_level = 'STANDARD'")
    assert found(settings).expect is None
    through = found(made(tmp_path / "b", "transport = 'tor'"))
    onions = through.transports["onion"]
    assert isinstance(onions, Onions) and through.expect is not None
    before = onions._gateway._own[0].clients
    through.expect([guest])
    assert set(onions._gateway._own[0].clients) == {*before, guest}
    through.meet([], ())
    assert guest in onions._gateway._own[0].clients, "members come and go, an invitation stays"
    through.expect([])
    assert onions._gateway._own[0].clients == before


async def test_a_visit_says_what_it_waits_for(tmp_path: Path) -> None:
    (settings, *_), _ = boards(tmp_path, "a")
    said: list[str] = []
    with trio.move_on_after(30) as patience:

        def tell(words: str) -> None:
            said.append(words)
            if "there is no tor's control port" in words:
                patience.cancel()

        async with way.visiting(settings, [], bytes(32), tell):
            pytest.fail("there is no tor")
    assert "start tor" in said[-1]


async def test_a_visit_by_a_tor_that_cannot_keep_the_level_is_none(tmp_path: Path) -> None:
    settings = made(tmp_path, "transport = 'tor'", "security_level = 'PARANOID'")
    with pytest.raises(WayError, match="tor has no bridges"):
        async with way.visiting(settings, [], bytes(32), print):
            pytest.fail("it went")
    assert not settings.tor_directory.exists()

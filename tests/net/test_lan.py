"""Beacons between nodes of one host: real sockets in a multicast group, on loopback."""

from __future__ import annotations

import errno
import itertools
import logging
import math
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net import lan
from aegis_edge.net.lan import CHECKED_MAX, GROUP, HEARD_MAX, Allowance, Lan
from aegis_edge.net.links import LinkOpened
from aegis_edge.peers import beacon
from aegis_edge.wire.codec import WireError
from cluster import free_ports
from tests.net.network import CLUSTER, Member, MemoryNetwork, cluster, running, until

HERE = "127.0.0.1"
PATIENCE_S = 30
#: Of Linux (ip(7)).
IP_RECVTTL = 12


@contextmanager
def speaker() -> Iterator[socket.socket]:
    """Anybody on this network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        yield made


@contextmanager
def listener(port: int) -> Iterator[trio.socket.SocketType]:
    """Another one that has joined the group."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((GROUP, port))
        group = socket.inet_aton(GROUP) + socket.inet_aton(HERE)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        yield trio.socket.from_stdlib_socket(made)


@pytest.fixture
def port() -> int:
    """A free port, if this machine has multicast on loopback."""
    return free_port()


def free_port() -> int:
    """As the fixture; skips the test on a machine whose kernel has none."""
    found = free_ports(1)[0]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard, speaker() as says:
            heard.bind((GROUP, found))
            group = socket.inet_aton(GROUP) + socket.inet_aton(HERE)
            heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            heard.settimeout(5)
            says.sendto(b"does it work?", (GROUP, found))
            heard.recv(100)
    except OSError as error:
        pytest.skip(f"this machine has no multicast on loopback: {error}")
    return found


class Heard:
    """What a node was told, as it would tell its links."""

    def __init__(self) -> None:
        self.into, self.out = trio.open_memory_channel[tuple[bytes, str]](1000)
        self.known: set[bytes] = set()
        self.refused = 0

    def introduced(self, envelope: bytes, by: str) -> None:
        if not envelope:
            self.refused += 1
            raise WireError("nothing in it")
        self.into.send_nowait((envelope, by))

    async def next(self) -> bytes:
        with trio.fail_after(PATIENCE_S):
            return (await self.out.receive())[0]


def made(heard: Heard, raw: bytes, port: int, **more: Any) -> Lan:
    options: dict[str, Any] = {"cluster_id": CLUSTER, "listen": HERE, "jitter": lambda: 0.5}
    return Lan(
        **(options | more),
        record_raw=raw,
        introduced=heard.introduced,
        known=lambda: heard.known,
        port=port,
    )


@asynccontextmanager
async def on_air(*several: Lan) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for each in several:
            nursery.start_soon(each.run)
        yield
        nursery.cancel_scope.cancel()


def sealed(raw: bytes, cluster_id: bytes = CLUSTER) -> bytes:
    return beacon.seal(cluster_id, raw, os.urandom(32))


# --- on a real network ---------------------------------------------------------------------------


async def test_two_nodes_hear_each_other_and_nobody_hears_itself(port: int) -> None:
    one, two = Heard(), Heard()
    async with on_air(made(one, b"one", port), made(two, b"two", port)):
        assert await one.next() == b"two"
        assert await two.next() == b"one"
        with speaker() as says:
            says.sendto(sealed(b"one"), (GROUP, port))
            says.sendto(sealed(b"end"), (GROUP, port))
        while (last := await one.next()) != b"end":
            assert last == b"two", "it comes again a little later"


async def test_all_that_goes_out_is_of_one_size_to_one_group_and_passes_no_router(
    port: int,
) -> None:
    with listener(port) as heard:
        heard.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        async with on_air(made(Heard(), b"secret record", port)):
            found = set()
            for _ in range(2):
                with trio.fail_after(PATIENCE_S):
                    data, ancillary, _, _ = await heard.recvmsg(4096, 64)
                assert len(data) == beacon.BEACON_BYTES
                assert b"secret" not in data
                assert [int.from_bytes(each[2], "little") for each in ancillary] == [1]
                found.add(data)
    assert len(found) == 2


async def test_hostile_bytes_are_no_introduction_and_cost_nobody_the_others(port: int) -> None:
    heard = Heard()
    good = sealed(b"good")
    hostile = [
        b"",
        b"x",
        os.urandom(beacon.BEACON_BYTES),
        good + b"x",
        good[:-1],
        bytes(beacon.BEACON_BYTES),
        os.urandom(60_000),
        sealed(b"of another cluster", b"o" * 32),
        sealed(b""),
    ]
    async with on_air(made(heard, b"own", port)):
        with listener(port) as other, speaker() as says:
            await other.recv(4096)  # it has joined the group
            for data in hostile:
                says.sendto(data, (GROUP, port))
            says.sendto(good, (GROUP, port))
        assert await heard.next() == b"good"
    assert heard.refused == 1, "the one that was sealed by who knows the cluster"


async def test_what_is_sent_to_this_host_alone_is_not_heard(port: int) -> None:
    heard = Heard()
    async with on_air(made(heard, b"own", port)):
        with listener(port) as other, speaker() as says:
            await other.recv(4096)
            says.sendto(sealed(b"from anywhere"), (HERE, port))
            says.sendto(sealed(b"good"), (GROUP, port))
        assert await heard.next() == b"good"


async def test_after_a_flood_it_hears_again(port: int) -> None:
    heard = Heard()
    async with on_air(made(heard, b"own", port)):
        with listener(port) as other, speaker() as says:
            await other.recv(4096)
            for _ in range(200):
                for _ in range(50):
                    says.sendto(bytes(beacon.BEACON_BYTES), (GROUP, port))
                await trio.lowlevel.checkpoint()
            with trio.fail_after(PATIENCE_S):
                while heard.out.statistics().current_buffer_used == 0:
                    says.sendto(sealed(b"good"), (GROUP, port))
                    await trio.sleep(0.1)


async def test_two_who_moved_at_once_find_each_other_with_nobody_between(port: int) -> None:
    """The records are news of members and no more: then they are dialled as any others are."""
    one, two = cluster(1, 2)
    before = [one.record, two.record]
    network = MemoryNetwork()
    one.record, two.record = one.says(("tcp:hill:1",), 2), two.says(("tcp:dale:1",), 2)
    stranger = Member(9, ("tcp:board9:1",))
    first = one.links(before, {"tcp": network})
    second = two.links(before, {"tcp": network})
    kept: list[bytes] = []
    first.learnt = lambda record: kept.append(record.raw)

    def of(links: Any, member: Member) -> Lan:
        return Lan(
            cluster_id=CLUSTER,
            record_raw=member.record.raw,
            listen=HERE,
            introduced=links.introduced,
            known=lambda: {record.raw for record in links.records()},
            port=port,
        )

    async with running((first, ["tcp:hill:1"]), (second, ["tcp:dale:1"])):
        async with on_air(of(first, one), of(second, two)):
            with listener(port) as other, speaker() as says:
                await other.recv(4096)
                says.sendto(sealed(stranger.record.raw), (GROUP, port))
                forged = bytearray(two.says(("tcp:trap:1",), 9).raw)
                forged[-1] ^= 1
                says.sendto(sealed(bytes(forged)), (GROUP, port))
                says.sendto(sealed(two.says((), 0).raw), (GROUP, port))
            assert (await until(first, LinkOpened)).peer == two.key
            assert [each.addresses for each in first.statistics()] == [("tcp:dale:1",)]
            assert kept == [two.record.raw]


# --- when, and how much ------------------------------------------------------------------------


class Air:
    """A network that a test plays: `at` is where this host is, "" for nowhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = "192.0.2.1"
        self.fails = False
        self.joined: list[str] = []
        self.sent: list[float] = []
        self.into, self.out = trio.open_memory_channel[bytes | None](math.inf)
        monkeypatch.setattr(Lan, "_at", lambda _: self.at)
        monkeypatch.setattr(Lan, "_socket", lambda _: self._join())

    def _join(self) -> Any:
        if not self.at:
            raise OSError(errno.ENODEV, "No such device")
        self.joined.append(self.at)
        return self

    def __enter__(self) -> Air:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def sendto(self, data: bytes, place: tuple[str, int]) -> None:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        self.sent.append(trio.current_time())

    async def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        data = await self.out.receive()
        if data is None:
            raise OSError(errno.ENETDOWN, "Network is down")
        return data, ("192.0.2.9", 1)


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    return Air(monkeypatch)


async def test_it_says_where_it_is_at_once_soon_again_and_then_seldom(
    air: Air, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    async with on_air(made(Heard(), b"own", 1)):
        await trio.sleep(5_000)
    times = [round(at - began) for at in air.sent]
    assert times[:6] == [0, 2, 6, 14, 30, 62]
    assert [b - a for a, b in itertools.pairwise(times[10:])] == [600] * (len(times) - 11)
    assert len(times) > 12


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 1.0), (1.0, 3.0)])
async def test_chance_decides_when_exactly(
    air: Air, jitter: float, first: float, autojump_clock: MockClock
) -> None:
    async with on_air(made(Heard(), b"own", 1, jitter=lambda: jitter)):
        await trio.sleep(4)
    assert air.sent[1] - air.sent[0] == pytest.approx(first)


async def test_where_it_has_moved_it_says_so_and_hears_there(
    air: Air, autojump_clock: MockClock
) -> None:
    async with on_air(made(Heard(), b"own", 1)):
        await trio.sleep(4_000)
        before = len(air.sent)
        air.at = "198.51.100.1"
        await trio.sleep(lan.LOOK_S + lan.SOON_S + 1)
        assert air.joined == ["192.0.2.1", "198.51.100.1"]
        assert len(air.sent) >= before + 2


async def test_without_a_network_it_waits_and_says_so_once(
    air: Air, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.WARNING)
    air.at = ""
    heard = Heard()
    async with on_air(made(heard, b"own", 1)):
        await trio.sleep(10 * lan.LOOK_S)
        assert len(caplog.messages) == 1
        assert "No such device" in caplog.text
        air.at, air.fails = "192.0.2.1", True
        await trio.sleep(10 * lan.LOOK_S)
        assert len(caplog.messages) == 2
        assert "unreachable" in caplog.text
        air.fails = False
        await air.into.send(None)
        await air.into.send(sealed(b"good"))
        assert await heard.next() == b"good"
        assert "cannot hear" in caplog.messages[-1]
        await trio.sleep(2 * lan.SELDOM_S)
        assert air.sent


async def test_of_a_flood_so_much_is_looked_at_and_no_more(
    air: Air, autojump_clock: MockClock
) -> None:
    heard = Heard()
    flood = [bytes(beacon.BEACON_BYTES), sealed(b""), b"x", sealed(b"other", b"o" * 32)] * 1_000
    async with on_air(made(heard, b"own", 1)):
        for data in flood:
            air.into.send_nowait(data)
        for seconds in range(1, 10):
            await trio.sleep(1)
            looked_at = len(flood) - air.into.statistics().current_buffer_used
            most = HEARD_MAX + seconds * 1_000 // lan.HEARD_TICKS
            assert most - 2 <= looked_at <= most + 2


async def test_records_are_checked_a_few_at_a_time_and_those_it_knows_never(
    air: Air, autojump_clock: MockClock
) -> None:
    heard = Heard()
    heard.known.add(b"known")
    async with on_air(made(heard, b"own", 1)):
        for n in range(2 * CHECKED_MAX):
            await air.into.send(sealed(b"known"))
            await air.into.send(sealed(b"%d" % n))
        while air.into.statistics().current_buffer_used:
            await trio.sleep(0.1)
        first = heard.out.statistics().current_buffer_used
        assert CHECKED_MAX <= first <= CHECKED_MAX + 2
        await trio.sleep(lan.CHECKED_TICKS / 1000)
        await air.into.send(sealed(b"later"))
        while await heard.next() != b"later":
            pass


def test_an_allowance_fills_again_with_time() -> None:
    allowance = Allowance(3, 10)
    assert [allowance.take(100) for _ in range(4)] == [True, True, True, False]
    assert allowance.wait_ticks(100) == 10
    assert not allowance.take(109)
    assert allowance.take(110)
    assert not allowance.take(110)
    assert [allowance.take(10_000) for _ in range(4)] == [True, True, True, False]


# --- where --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "interface"),
    [("192.0.2.1", "192.0.2.1"), ("0.0.0.0", "0.0.0.0"), ("::", "0.0.0.0"), ("::1", "0.0.0.0")],
)
def test_the_network_is_that_of_the_address_on_which_it_listens(
    listen: str, interface: str
) -> None:
    node = made(Heard(), b"own", 1, listen=listen)
    assert socket.inet_ntoa(node._interface) == interface


def test_where_it_is_follows_the_interface(port: int) -> None:
    assert made(Heard(), b"own", port)._at() == HERE
    assert made(Heard(), b"own", port, listen="192.0.2.77")._at() == "", "of another host"


def test_a_socket_that_cannot_join_is_closed(port: int) -> None:
    """Else the warnings of it would fail this test."""
    with pytest.raises(OSError):
        made(Heard(), b"own", port, listen="192.0.2.77")._socket()


def test_a_record_that_fits_no_beacon_is_refused_at_the_start() -> None:
    refuse: Callable[[], Lan] = lambda: made(Heard(), bytes(600), 1)  # noqa: E731
    with pytest.raises(WireError, match="fewer addresses"):
        refuse()

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable

import pytest
import trio

from aegis_edge.net.arrivals import UNPROVEN_MAX
from aegis_edge.net.direct import Direct
from aegis_edge.net.links import LinkOpened
from aegis_edge.net.strangers import Caller, Standing, Strangers
from tests.net.network import Member, place, running, until

PLACES = 8


class House:
    """Strangers, and who of them had to go."""

    def __init__(self, places: int = PLACES, seed: int = 1) -> None:
        self.strangers = Strangers(places, random.Random(seed).choice)
        self.dismissed: list[int] = []
        self.count = 0

    def enter(self, source: bytes, standing: Standing = Standing.CONNECTED) -> Caller:
        number, self.count = self.count, self.count + 1
        caller = self.strangers.enter(source, lambda: self.dismissed.append(number))
        self.strangers.rise(caller, standing)
        return caller


def here(caller: Caller) -> bool:
    return caller.standing is not None


# --- who must go --------------------------------------------------------------------------------


def test_a_crowd_of_one_source_pushes_out_only_itself() -> None:
    house = House()
    others = [house.enter(b"other%d" % i) for i in range(PLACES - 1)]
    crowd = [house.enter(b"crowd") for _ in range(1000)]
    assert all(map(here, others))
    assert sum(map(here, crowd)) == 1
    assert len(house.dismissed) == 999


def test_who_has_said_more_is_never_pushed_out_by_who_has_said_less() -> None:
    house = House()
    for standing in (Standing.GREETED, Standing.OPENED):
        callers = [house.enter(b"one", standing) for _ in range(PLACES)]
        for i in range(1000):
            house.enter(b"%d" % i)
        assert all(map(here, callers))


def test_a_member_that_is_known_gives_its_place_to_no_crowd_of_where_it_came_from() -> None:
    house = House()
    members = [house.enter(b"tor") for _ in range(PLACES - 1)]
    for number, caller in enumerate(members):
        house.strangers.rise(caller, Standing.OPENED, b"member%d" % number)
    for _ in range(1000):
        crowd = house.enter(b"tor")
        house.strangers.rise(crowd, Standing.OPENED)
    liar = [house.enter(b"tor") for _ in range(PLACES)]
    for caller in liar:
        house.strangers.rise(caller, Standing.OPENED, b"liar")
    assert all(map(here, members))


def test_the_silent_have_as_many_places_as_is_said() -> None:
    strangers = Strangers(2, silent=5)
    silent = [strangers.enter(b"%d" % i, lambda: None) for i in range(7)]
    assert sum(map(here, silent)) == 5
    for caller in silent:
        strangers.rise(caller, Standing.OPENED)
    assert sum(map(here, silent)) == 2


@pytest.mark.parametrize("sources", [1, 10**6])
def test_in_a_steady_flood_anybody_may_stay_and_nobody_surely_does(sources: int) -> None:
    """The oldest would be gone after exactly `PLACES` others, at every one of its tries."""
    stayed = 0
    for seed in range(200):
        house = House(seed=seed)
        crowd = (house.enter(b"%d" % (i % sources)) for i in itertools.count(1))
        for _ in range(PLACES):
            next(crowd)
        slow = house.enter(b"0")
        for _ in range(2 * PLACES):
            next(crowd)
        stayed += here(slow)
    chance = (1 - 1 / (PLACES + 1)) ** (2 * PLACES + 1)
    assert 0.7 * chance < stayed / 200 < 1.3 * chance


def test_who_left_or_had_to_go_does_not_come_back() -> None:
    house = House(places=1)
    first = house.enter(b"x", Standing.OPENED)
    house.strangers.leave(first)
    house.strangers.rise(first, Standing.GREETED)
    house.strangers.leave(first)
    assert not here(first)
    second = house.enter(b"x", Standing.OPENED)
    house.strangers.rise(second, Standing.CONNECTED)
    assert second.standing is Standing.OPENED, "nobody falls"
    assert house.dismissed == []


# --- a flood over real sockets ------------------------------------------------------------------

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: Who arrives between two packets of the honest member: 250 a second, if a round trip takes 160 ms.
CROWD = 40


class Crowd:
    """Strangers without end, from one address of this host or from ever another one."""

    def __init__(self, address: str, words: bytes, *, many: bool) -> None:
        self._place = place(address)
        self._words = words
        self._sources = itertools.count(2) if many else itertools.repeat(2)
        self._streams: deque[trio.SocketStream] = deque()
        self.count = 0

    async def arrive(self) -> None:
        """`CROWD` of them come in and are heard; they do not hang up."""
        for number in itertools.islice(self._sources, CROWD):
            local = f"127.{1 + number // 62_500 % 250}.{1 + number // 250 % 250}.{1 + number % 250}"
            stream = await trio.open_tcp_stream(*self._place, local_address=local)
            self._streams.append(stream)
            try:
                await stream.send_all(self._words)
            except trio.BrokenResourceError:
                pass
            self.count += 1
            if len(self._streams) > 4 * CROWD:
                await self._streams.popleft().aclose()  # it had to go long ago
        await trio.testing.wait_all_tasks_blocked(0.01)

    async def go(self) -> None:
        for stream in self._streams:
            await stream.aclose()


async def slow_path(
    to: str, between: Callable[[], Awaitable[None]], nursery: trio.Nursery
) -> tuple[str, list[int]]:
    """An address that leads to another, where much happens after each packet that goes there.

    With it, a list that grows by one for each connection.
    """
    tries: list[int] = []

    async def carry(one: trio.SocketStream, other: trio.SocketStream, *, slowly: bool) -> None:
        try:
            async for data in one:
                await other.send_all(data)
                if slowly:
                    await between()
            await other.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(one)

    async def handle(near: trio.SocketStream) -> None:
        tries.append(1)
        async with near, await trio.open_tcp_stream(*place(to)) as far:
            async with trio.open_nursery() as both:
                both.start_soon(lambda: carry(near, far, slowly=True))
                both.start_soon(lambda: carry(far, near, slowly=False))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(trio.serve_listeners, handle, listeners)
    return f"tcp:127.0.0.1:{listeners[0].socket.getsockname()[1]}", tries


@pytest.mark.parametrize(
    ("words", "many", "tries_max"),
    [
        (b"", False, 1),
        (b"", True, 1),
        (b"\x16\x03\x01 garbage", False, 1),
        (b"\x16\x03\x01 garbage", True, 1),
        (REQUEST, False, 1),
        (REQUEST, True, 200),
    ],
    ids=["silent", "silent, of many", "garbage", "garbage, of many", "web", "web, of many"],
)
async def test_a_member_on_a_slow_path_links_in_spite_of_a_flood_of_strangers(
    words: bytes, many: bool, tries_max: int
) -> None:
    """Where every stranger has an address of its own and opens, chance decides, try by try.

    It lets one of four or so through, and the rest of an earlier try's crowd may still be coming.
    """
    one, two = Member(1, ()), Member(2, ())
    listening = one.links([two.record], {"tcp": Direct()})
    async with running((listening, ["tcp:127.0.0.1:0"])) as ((address,),):
        crowd = Crowd(address, words, many=many)
        async with trio.open_nursery() as nursery:
            slow, tries = await slow_path(address, crowd.arrive, nursery)
            one.record = one.says((slow,), 1)
            # What one says of itself in the handshake is older than what two was told.
            near = {"tcp": Direct(is_on_one_host=True)}
            calling = two.links([one.record], near, jitter=lambda: 0.0)
            listening._credentials = (one.record.raw, *listening._credentials[1:])
            async with running((calling, [])):
                await until(listening, LinkOpened, timeout_s=60)
            assert len(tries) <= tries_max
            assert crowd.count >= 2 * CROWD > 2 * UNPROVEN_MAX
            nursery.cancel_scope.cancel()
        await crowd.go()

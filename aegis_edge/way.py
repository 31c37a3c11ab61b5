"""The way that links travel: straight over TCP, or through Tor, as the settings want it.

Knows what each way needs before the first link, what runs beside the links to keep it open, and
when the onion addresses from before a rotation have served their time.
Refuses to know what travels.  Tor's modules are imported only where they are used: who links
directly does not pay for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from aegis_edge import home
from aegis_edge.config import Config, ConfigError
from aegis_edge.disk import keyfile
from aegis_edge.disk.errors import disk_errors
from aegis_edge.disk.keyfile import NodeKeys
from aegis_edge.net.channel import Transport
from aegis_edge.net.direct import Direct
from aegis_edge.net.links import Schedule, Timing, Traffic
from aegis_edge.peers.address import ONION, TCP
from aegis_edge.peers.genesis import Genesis
from aegis_edge.wire.messages import NodeRecord, Verified
from aegis_edge.wire.session import CELL_CAPACITY_BYTES

if TYPE_CHECKING:
    from aegis_edge.net.tor.gateway import Standing, Tor
    from aegis_edge.net.tor.levels import SecurityLevel
    from aegis_edge.net.tor.torrc import Places

Record = Verified[NodeRecord]

#: A round trip over a link through Tor, until it is measured: six hops, on a bad day.
_TOR_WAY_TICKS = 2_000
#: Through Tor a handshake is three round trips over six hops.
_TOR_TIMING = Timing(handshake_s=90.0, keepalive_ticks=20_000, silence_ticks=120_000)


@dataclass(frozen=True, slots=True)
class Way:
    """`listen`: where this node is reached.  `keep` runs for as long as the links do.

    `turn_ticks`: how long nearly all messages wait for their turn on the schedule; 0 without one.
    `way_ticks`: what a round trip is taken for until links measure it; 0 where they are too quick
    to count.
    `status`: how far the way is and, from the traffic with each other member since the start, what
    it costs; in plain values, and empty if there is nothing to say.
    `meet`: to be told of the newest record of each other member, before `keep` and at each change
    of members, and of those who are none and may be linked to; `learnt`: of each newer one of
    theirs; `heard`: of each member that has shown,
    by a frame, that it took a link and with it this node's record.
    `expect`: of those who are invited, by their X25519 public keys, whenever these are others; None
    where whoever was told an address can call.
    """

    transports: Mapping[str, Transport]
    listen: str
    timing: Timing | None
    schedule: Schedule | None
    turn_ticks: int
    way_ticks: int
    keep: Callable[[], Awaitable[None]]
    status: Callable[[Sequence[Traffic]], Mapping[str, Any]]
    meet: Callable[[Sequence[Record], Sequence[Record]], None] = lambda *_: None
    learnt: Callable[[Record], None] = lambda _: None
    heard: Callable[[bytes], None] = lambda _: None
    expect: Callable[[Sequence[bytes]], None] | None = None

    @property
    def bytes_a_second(self) -> int:
        """What a link on the schedule carries; 0 without one: as much as there is."""
        schedule = self.schedule
        return 0 if schedule is None else int(CELL_CAPACITY_BYTES / schedule.mean_interval_s)


async def find(config: Config, genesis: Genesis, keys: NodeKeys, record: Record) -> Way:
    """The way that `config` wants; raises `ConfigError` or `WayError` where it cannot be gone.

    `record`: this node's own; the other members are for `Way.meet`.
    """
    if config.is_through_tor:
        return await _through_tor(config, genesis, keys, record)
    return _direct(config, genesis)


def _direct(config: Config, genesis: Genesis) -> Way:
    return Way(
        {TCP: Direct(is_on_one_host=genesis.is_on_one_host)},
        config.listen_address,
        None,
        None,
        0,
        0,
        trio.sleep_forever,
        lambda _: {},
    )


async def _through_tor(config: Config, genesis: Genesis, keys: NodeKeys, record: Record) -> Way:
    from aegis_edge.net.tor import levels, member
    from aegis_edge.net.tor.gateway import Gateway
    from aegis_edge.net.tor.keeper import Keeper
    from aegis_edge.net.tor.levels import SecurityLevel
    from aegis_edge.net.tor.service import target_problem
    from aegis_edge.net.tor.transport import Onions

    level = SecurityLevel(config["security_level"])
    own = member.Keys(keys.public, keys.seed, keys.noise_private, keys.onion_generations)
    keyring = member.Keyring(own, genesis.cluster_id, level, [record])
    target = str(config.onion_socket)
    services = member.own_services(own, level, config.p2p_port, target, keyring.callers)
    # Also of the one that a rotation will need.
    for problem in filter(None, map(target_problem, member.targets(target))):
        raise ConfigError(f"{config.values['onion_socket'].source}: onion_socket: {problem}")
    is_own = config["tor"] == "own"
    extra = _extra(config, level) if is_own else ()
    tor, places = await _tor(config)
    through = Gateway(tor, level, services, keyring.clients)
    shape = levels.TABLE[level].shape
    rotation = _Rotation(config.key_file, keys)
    began = time.monotonic()

    async def keep() -> None:
        async with trio.open_nursery() as nursery:
            if is_own:
                keeper = Keeper(places, level, extra)
                through.hung = keeper.restart
                nursery.start_soon(keeper.run)
            nursery.start_soon(through.run)
            await rotation.until_everybody_knows()
            through.retire()

    def meet(others: Sequence[Record], friends: Sequence[Record]) -> None:
        keyring.meet((*others, *friends))
        through.meet(keyring.clients, keyring.callers)
        rotation.meet(each.signer for each in others)

    def learnt(newer: Record) -> None:
        keyring.learn(newer)
        through.meet(keyring.clients, keyring.callers)

    def expect(guests: Sequence[bytes]) -> None:
        keyring.expect(guests)
        through.meet(keyring.clients, keyring.callers)

    def status(traffic: Sequence[Traffic]) -> Mapping[str, Any]:
        return {
            "level": level.value,
            "link_bytes_a_day": shape.link_bytes_a_day,
            "old_addresses": [each.address for each in services[1:] if not rotation.is_over],
            **_stands(through.standing),
            **_used(traffic, time.monotonic() - began),
        }

    return Way(
        {ONION: Onions(through, *(Path(each.target) for each in services), keyring=keyring)},
        home.own_addresses(config, keys)[0],
        _TOR_TIMING,
        None if shape.mean_interval_s is None else Schedule(shape.mean_interval_s),
        int(shape.wait_s(0.99) * 1000),
        _TOR_WAY_TICKS,
        keep,
        status,
        meet,
        learnt,
        rotation.heard,
        expect if levels.TABLE[level].client_authorisation else None,
    )


@asynccontextmanager
async def visiting(
    config: Config, hosts: Iterable[str], credential: bytes, tell: Callable[[str], object]
) -> AsyncIterator[Transport]:
    """How a node that does not run yet calls onion addresses, through its tor and at its level.

    `credential`: the X25519 private key with which `hosts` are found, if the level asks for one;
    `tell` hears how far it is until the block begins.  Raises `ConfigError` or `WayError`, alone.
    """
    from aegis_edge.net.tor import child, levels
    from aegis_edge.net.tor.errors import TorError, alone
    from aegis_edge.net.tor.gateway import Gateway, Progress
    from aegis_edge.net.tor.keeper import Keeper
    from aegis_edge.net.tor.levels import SecurityLevel
    from aegis_edge.net.tor.transport import Onions

    level = SecurityLevel(config["security_level"])
    is_own = config["tor"] == "own"
    extra = _extra(config, level) if is_own else ()
    tor, places = await _tor(config)
    keys = dict.fromkeys(hosts, credential) if levels.TABLE[level].client_authorisation else {}
    through = Gateway(tor, level, (), keys)
    with alone(Exception):
        async with trio.open_nursery() as nursery:
            if is_own:
                try:
                    await child.check(places, level, extra=extra)
                except TorError as error:  # it would be refused at each start
                    raise ConfigError(str(error)) from None
                keeper = Keeper(places, level, extra)
                through.hung = keeper.restart
                nursery.start_soon(keeper.run)
            nursery.start_soon(through.run)
            await through.until(Progress.CONNECTED, tell=tell)
            yield Onions(through)
            nursery.cancel_scope.cancel()


async def _tor(config: Config) -> tuple[Tor, Places]:
    """The tor that serves this node, and where the files of one of its own are."""
    from aegis_edge.net.tor import child
    from aegis_edge.net.tor.endpoint import Endpoint, EndpointError
    from aegis_edge.net.tor.errors import TorError
    from aegis_edge.net.tor.gateway import Tor
    from aegis_edge.net.tor.torrc import Places

    is_own = config["tor"] == "own"
    folder = config.tor_directory
    with disk_errors(folder):
        folder.mkdir(0o700, parents=True, exist_ok=True)
    try:
        places = Places(folder / "own")
        control, socks = (
            (places.control, places.socks)
            if is_own
            else (
                Endpoint.parse(config["tor_control_port"]),
                Endpoint.parse(config["tor_socks_port"]),
            )
        )
        modules = None
        with suppress(*(() if is_own else (TorError,))):
            modules = await child.modules()
    except (EndpointError, TorError) as error:
        raise ConfigError(str(error)) from None
    return (
        Tor(control, socks, modules=modules, is_own=is_own, vanguards=folder / "vanguards"),
        places,
    )


def _stands(standing: Standing) -> Mapping[str, Any]:
    return {
        "address": standing.address,
        "stage": standing.progress.value,
        "words": "; ".join(filter(None, (standing.words, standing.warning))),
        "bootstrap_percent": standing.percent,
        "tor_version": standing.version,
    }


def _used(traffic: Sequence[Traffic], seconds: float) -> Mapping[str, Any]:
    """What the links to all others used in that time, in the cells in which a budget counts."""
    from aegis_edge.net.tor import levels

    used_bytes = sum(
        levels.line_bytes(each.frames_in, each.bytes_in)
        + levels.line_bytes(each.frames_out, each.bytes_out)
        for each in traffic
    )
    each_a_second = used_bytes / max(1, len(traffic)) / max(1.0, seconds)
    return {
        "used_bytes": used_bytes,
        "used_s": round(seconds, 3),
        "used_link_bytes_a_day": round(each_a_second * levels.SECONDS_A_DAY),
    }


class _Rotation:
    """Waits until each other member was heard on a link, and so has this node's record.

    Members that were off when it began still look for this node where it was; so do those who are
    let in meanwhile, for they know the others by the records with which those came.
    """

    def __init__(self, key_file: Path, keys: NodeKeys) -> None:
        self._key_file, self._generation = key_file, keys.onion_generation
        self._others: frozenset[bytes] | None = None
        self._heard: set[bytes] = set()
        self._everybody = trio.Event()
        self.is_over = len(keys.onion_generations) == 1

    def meet(self, others: Iterable[bytes]) -> None:
        self._others = frozenset(others)
        self._look()

    def heard(self, peer: bytes) -> None:
        self._heard.add(peer)
        self._look()

    def _look(self) -> None:
        if self._others is not None and self._others <= self._heard:
            self._everybody.set()

    async def until_everybody_knows(self) -> None:
        if self.is_over:
            return
        await self._everybody.wait()
        await trio.to_thread.run_sync(keyfile.end_rotation, self._key_file, self._generation)
        self.is_over = True


def _extra(config: Config, level: SecurityLevel) -> tuple[tuple[str, str], ...]:
    """The owner's lines for the torrc of the node's own tor, if that tor will do with them."""
    from aegis_edge.net.tor import levels, torrc
    from aegis_edge.net.tor.errors import TorError
    from aegis_edge.net.tor.gateway import LevelError
    from aegis_edge.net.tor.torrc import Places

    extra = _lines_of(config.tor_extra_file)
    if problems := levels.lacking_bridges(level, extra):
        raise LevelError(level, problems)
    try:
        torrc.text(Places(config.tor_directory / "own"), level, os.getpid(), extra)
    except TorError as error:
        raise ConfigError(f"{config.tor_extra_file}: {error}") from None
    return extra


def _lines_of(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); it holds lines of a torrc, as text"
        ) from None
    words = [line.split(None, 1) for line in lines if not line.lstrip().startswith("#")]
    return tuple((name, rest[0].strip() if rest else "") for name, *rest in filter(None, words))

"""Onion services and streams through Tor for programs of one's own, at a level of the node's.

    async with create_secure_tor_gateway(SecurityLevel.HIGH) as gateway:
        async with gateway.create_onion_service(8080) as service:
            print(service.address, service.credential)     # for those who may call
            stream = await service.accept()

    async with create_secure_tor_gateway(SecurityLevel.HIGH) as gateway:
        stream = await gateway.connect(address, 8080, credential)

Knows how the parts of `net.tor` become one thing that is used and ended.  Refuses to know nodes and
links, and to begin with a tor that misses what the level demands.  Trio coroutines, all of them.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import child, levels
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.gateway import Gateway, LevelError, Progress, Tor
from aegis_edge.net.tor.keeper import Keeper
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.net.tor.torrc import Places
from aegis_edge.peers import onion
from aegis_edge.peers.address import ONION, Address

__all__ = [
    "LevelError",
    "OnionService",
    "SecureTorGateway",
    "SecurityLevel",
    "TorError",
    "create_secure_tor_gateway",
]

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class OnionService:
    """An onion service that callers reach at `address` and `port`.

    `credential`: the 32-byte X25519 key without which nobody finds it, to be told to those who may
    call; None at a level without client authorisation.
    """

    address: str
    port: int
    credential: bytes | None = field(repr=False)
    _listener: trio.SocketListener = field(repr=False)

    async def accept(self) -> trio.SocketStream:
        """The next caller's stream; who calls is not known, and Tor alone encrypts.

        One that ends at once may be the gateway's own: it calls now and then, to know that it can.
        """
        return await self._listener.accept()


class SecureTorGateway:
    """A tor that keeps a level, and is on the network; from `create_secure_tor_gateway`."""

    def __init__(self, tor: Tor, level: SecurityLevel, folder: Path, base: Gateway) -> None:
        self._tor = tor
        self._level = level
        self._folder = folder
        self._base = base
        self._numbers = itertools.count()

    @asynccontextmanager
    async def create_onion_service(
        self, port: int, *, seed: bytes | None = None, credential: bytes | None = None
    ) -> AsyncIterator[OnionService]:
        """An onion service at the virtual `port` (1 to 65535) for as long as the block lasts.

        `seed`: 32 secret bytes of which its address is made, to have the same again; new ones if
        not given, and so with `credential` where the level has client authorisation.  The block
        begins once the service was reached from outside.  Raises `TorError`.
        """
        if not 1 <= port <= 65_535:
            raise ValueError(f"{port} is no port from 1 to 65535")
        seed = os.urandom(SEED_BYTES) if seed is None else seed
        wanted = levels.TABLE[self._level]
        if wanted.client_authorisation:
            credential = os.urandom(SEED_BYTES) if credential is None else credential
        elif credential is not None:
            raise ValueError(f"{self._level.value} has no client authorisation")
        path = self._folder / f"service{next(self._numbers)}"
        clients = () if credential is None else (sodium.x25519_public(credential),)
        own = Service(seed, port, str(path), clients, wanted.max_streams, wanted.proof_of_work)
        keys = {} if credential is None else {own.address: credential}
        # The gateway itself has pinned the vanguards, and owns the tor.
        its_tor = replace(self._tor, is_own=False, vanguards=None)
        announced = Gateway(its_tor, self._level, [own], keys)
        with trio.socket.socket(trio.socket.AF_UNIX) as socket:
            await socket.bind(str(path))
            path.chmod(0o600)
            socket.listen()
            listener = trio.SocketListener(socket)
            async with _beside(announced.run):
                await _reached(announced, listener)
                yield OnionService(own.address, port, credential, listener)

    async def connect(
        self, address: str, port: int, credential: bytes | None = None
    ) -> trio.SocketStream:
        """A stream to an onion service; raises `TorError`, whose `advice` says what to do.

        Streams to different addresses share no circuit.
        """
        address = onion.address(onion.parse(address))
        if credential is not None:
            if len(credential) != SEED_BYTES:
                raise ValueError(f"a credential has {SEED_BYTES} bytes, this has {len(credential)}")
            await self._base.introduce(address, credential)
        return await self._base.stream_to(Address(ONION, address, port))


@asynccontextmanager
async def _beside(*tasks: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs these for as long as the block lasts; what ends it comes as it was raised.

    A `LevelError` says more than what else follows from it.
    """
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for task in tasks:
                nursery.start_soon(task)
            yield
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # the nursery's own, so one level of it is taken away
        errors = [each for each in group.exceptions if isinstance(each, LevelError)]
        if not errors and len(group.exceptions) > 1:
            raise
        raise (*errors, *group.exceptions)[0] from None


async def _reached(announced: Gateway, listener: trio.SocketListener) -> None:
    """Take the gateway's own call, which is no caller's: it shows that others can call."""
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            await trio.aclose_forcefully(await listener.accept())

        nursery.start_soon(take)
        await announced.until(Progress.REACHABLE)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def create_secure_tor_gateway(
    security_level: SecurityLevel | str = SecurityLevel.HIGH,
    *,
    folder: str | os.PathLike[str] | None = None,
    torrc: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[SecureTorGateway]:
    """A tor of its own that keeps `security_level`, for as long as the block lasts.

    The block begins once tor is on the network.  `folder`: a private one in which tor keeps what it
    knows of the network; one that goes with the block if not given.  PARANOID needs one: it keeps
    its guards there.
    `torrc`: further options, such as the bridges that PARANOID needs.

    Raises `LevelError` if this tor cannot keep the level, which ends the block too when that shows
    later; `TorError` where there is no tor, or one that refuses `torrc`.  These come by themselves,
    and so does what the block raises: not in a group.
    """
    level = SecurityLevel(security_level)
    if folder is None and levels.TABLE[level].full_vanguards:
        raise ValueError(f"{level.value} keeps its guards for months: name a folder for them")
    if problems := levels.lacking_bridges(level, torrc):
        raise LevelError(level, problems)
    with tempfile.TemporaryDirectory(prefix="aegis-edge.") as fleeting:
        place = Path(fleeting if folder is None else folder).absolute()
        places = Places(place / "own")
        tor = Tor(
            places.control,
            places.socks,
            modules=await child.modules(),
            is_own=True,
            vanguards=place / "vanguards",
        )
        await child.check(places, level, extra=torrc)  # it would be refused at each start
        base = Gateway(tor, level, (), {})
        keeper = Keeper(places, level, torrc)
        base.hung = keeper.restart
        async with _beside(keeper.run, base.run):
            await base.until(Progress.CONNECTED)
            yield SecureTorGateway(tor, level, Path(fleeting), base)

"""The way through Tor: keeps the node's onion service up, and dials those of others.

Knows in which order a tor becomes useful (found, judged, bootstrapped, service added, published,
reachable), begins anew whenever that tor goes, and says at any moment how far it is and why.
Refuses to know members and links; and to work at all with a tor that misses what the level demands.
Follows: control-spec; the addresses are those of `peers.address` of the kind ``onion``.

Non-detached services end with the control connection, so whoever owns that adds them again; and a
dial may hang on a descriptor of a service that was added anew, so each has a deadline of its own.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import trio

from aegis_edge.net import websocket
from aegis_edge.net.arrivals import Arrivals
from aegis_edge.net.channel import Channel, Handler, LinkError, ListenError, WayError
from aegis_edge.net.tor import (
    child,
    control,
    facts,
    levels,
    lines,
    pinning,
    service,
    socks,
)
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import Refused, TorError
from aegis_edge.net.tor.levels import Problem, SecurityLevel
from aegis_edge.net.tor.service import Publication, Service, Stage
from aegis_edge.net.tor.socks import SocksError
from aegis_edge.net.tor.torrc import Places
from aegis_edge.peers.address import ONION, Address, AddressError, parse

#: After tor has gone: soon, then less often; it may be an upgrade, or a person at work.
RETRY_S = 1.0
RETRY_S_MAX = 30.0
#: Between two looks at how far tor is, and two dials of the node's own service.
LOOK_S = 2.0
SELF_DIAL_S = 600.0
SELF_DIAL_RETRY_S = 10.0
#: A caller through Tor speaks first, but one round trip may take seconds.
SILENCE_S = 15.0
OPENING_TIMEOUT_S = 45.0

_EVENTS = ("SETEVENTS", service.EVENT, "STATUS_CLIENT")
_PROGRESS = re.compile(r"PROGRESS=(\d{1,3})\b")
_SUMMARY = re.compile(r'SUMMARY="([^"]{0,120})"')
_WARNING = re.compile(r'WARNING="([^"]{0,120})"')

log = logging.getLogger(__name__)


class LevelError(WayError):
    """This tor does not do what the security level demands: nothing is begun with it."""

    def __init__(self, level: SecurityLevel, problems: Sequence[Problem]) -> None:
        each = "; ".join(f"{problem.words}: {problem.fix}" for problem in problems)
        super().__init__(f"this tor cannot keep what SECURITY_LEVEL {level.value} promises: {each}")
        self.problems = tuple(problems)


class Progress(Enum):
    """How far the way through Tor is, from nothing to all that can be shown."""

    NO_TOR = "no tor"
    BOOTSTRAPPING = "bootstrapping"
    ANNOUNCING = "announcing"
    PUBLISHED = "published"
    REACHABLE = "reachable"


@dataclass
class Standing:
    """What `status` shows.  `words`: why it is no further, or ""; `percent`: of the bootstrap."""

    progress: Progress = Progress.NO_TOR
    words: str = "not looked for yet"
    percent: int = 0
    version: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Tor:
    """Which tor serves this node.

    `modules`: what it was built with; None if nobody could ask.  `is_own`: the node started it, and
    it shall end with the node.  `vanguards`: the file in which full ones are kept.
    """

    control: Endpoint
    socks: Endpoint
    vanguards: Path
    credentials: Credentials = field(default_factory=Credentials)
    modules: frozenset[str] | None = None
    is_own: bool = False


class Gateway:
    """The transport for ``onion:`` addresses; `run` keeps it up.

    `own`: this node's services, which have one target; the first is the one that lasts.
    `clients`: for each onion address of another member, the X25519 private key with which this
    node finds it, where the level has client authorisation.
    """

    def __init__(
        self,
        tor: Tor,
        level: SecurityLevel,
        own: Sequence[Service],
        clients: Mapping[str, bytes],
        *,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._tor = tor
        self._level = level
        self._own = tuple(own)
        self._clients = dict(clients)
        self._changed = trio.Event()
        self._arrivals = arrivals or Arrivals(SILENCE_S, opening_timeout_s=OPENING_TIMEOUT_S)
        # Streams of different peers, and of other programs of this tor, share no circuit.
        self._secret = os.urandom(16).hex().encode()
        self.standing = Standing(address=own[0].address)

    # --- as a transport -----------------------------------------------------------------------

    async def dial(self, address: str) -> Channel:
        """A channel to the onion service at `address`; raises `LinkError`."""
        place = _parsed(address)
        if self.standing.progress in (Progress.NO_TOR, Progress.BOOTSTRAPPING):
            raise LinkError(f"tor is not ready: {self.standing.words}")
        try:
            stream = await self._stream_to(place)
        except SocksError as error:
            raise LinkError(str(error)) from None
        channel = await websocket.connect(stream, OPENING_TIMEOUT_S)
        channel.remote = str(place)
        return channel

    async def _stream_to(self, place: Address) -> trio.SocketStream:
        isolation = (self._secret, place.host.encode("ascii"))
        return await socks.dial(self._tor.socks, place.host, place.port, isolation=isolation)

    async def serve(
        self, handler: Handler, address: str, *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run `handler` for every channel that tor brings to the socket of the node's service."""
        place = _parsed(address)
        assert place.host == self._own[0].address, "there is one way in, and it is this node's"
        path = Path(self._own[0].target)
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            try:
                path.unlink(missing_ok=True)
                await listener.bind(str(path))
                path.chmod(0o660)
                listener.listen(128)
            except OSError as error:
                raise ListenError(
                    f"tor's way to this node, {path}, cannot be made ({error.strerror}); see that "
                    "its folder may be written",
                    os.EX_CONFIG,
                ) from None
            task_status.started((str(place),))

            async def incoming(stream: trio.SocketStream) -> None:
                await self._arrivals.take(handler, stream, _source, _describe)

            try:
                await trio.serve_listeners(incoming, [trio.SocketListener(listener)])
            finally:
                path.unlink(missing_ok=True)

    # --- changed while it runs ----------------------------------------------------------------

    def meet(self, clients: Mapping[str, bytes]) -> None:
        """Further addresses of members, each with the key with which this node finds it."""
        self._clients.update(clients)
        self._changed.set()

    def retire(self) -> None:
        """Serve the first of the node's services alone from now on."""
        self._own = self._own[:1]
        self._changed.set()

    # --- kept up ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Find tor, begin, and begin again whenever it goes, until cancelled.

        Raises `LevelError` when this tor misses something that the level demands.
        """
        pause_s = RETRY_S
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    tor = await control.connect(self._tor.control, self._tor.credentials)
                    nursery.start_soon(self._until_it_ends, tor, nursery.cancel_scope)
                    await self._begin(tor, nursery)
                    pause_s = RETRY_S
                    nursery.start_soon(self._look, tor)
                    await self._heed(tor)
            except* TorError as group:
                self._fall(Progress.NO_TOR, str(_first(group)))
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def _until_it_ends(self, tor: Control, scope: trio.CancelScope) -> None:
        why = await tor.run()
        raise why

    async def _begin(self, tor: Control, nursery: trio.Nursery) -> None:
        """Judge this tor, then have it announce the node's services."""
        if self._tor.is_own:
            await tor.command("TAKEOWNERSHIP")
        found = await facts.gather(
            tor, self._level, self._tor.modules, self._tor.control, self._tor.socks
        )
        self.standing.version = lines.printable(found.version, 40)
        if problems := levels.missing(self._level, found):
            raise LevelError(self._level, problems)
        await tor.command(*_EVENTS)
        self._fall(Progress.BOOTSTRAPPING, "tor begins")
        while not await self._is_bootstrapped(tor):
            await trio.sleep(LOOK_S / 4)
        if levels.TABLE[self._level].full_vanguards:
            self._fall(Progress.BOOTSTRAPPING, "choosing the second and third hops")
            again_s = await pinning.pin(tor, self._level, self._tor.vanguards)
            nursery.start_soon(self._keep_pinned, tor, again_s)
        known = dict(self._clients)
        for address, private in known.items():
            await tor.command(*service.authorise(address, private))
        served = self._own
        for own in served:
            await self._announce(tor, own, can_prove_work=levels.can_prove_work(found))
        nursery.start_soon(self._follow, tor, known, served)
        self._fall(Progress.ANNOUNCING, "its service is on the way into Tor's directories")

    async def _announce(self, tor: Control, own: Service, *, can_prove_work: bool) -> None:
        if not can_prove_work:
            own = replace(own, proof_of_work=None)
        present = service.present(await tor.command(*service.ASK_PRESENT))
        if own.address in present:
            await tor.command(*service.remove(own.address))
        try:
            service.check_added(own, await tor.command(*service.add(own)))
        except Refused as error:
            raise service.explained(error) from None

    async def _follow(
        self, tor: Control, known: dict[str, bytes], served: Sequence[Service]
    ) -> None:
        """Tell tor what `meet` and `retire` changed since it was told of `known` and `served`."""
        while True:
            self._changed = trio.Event()
            for address, private in tuple(self._clients.items()):
                if known.get(address) != private:
                    await tor.command(*service.authorise(address, private))
                    known[address] = private
            for own in served:
                if own not in self._own:
                    await tor.command(*service.remove(own.address))
                    log.info("the onion service %s is given up", own.address)
            served = self._own
            await self._changed.wait()

    async def _keep_pinned(self, tor: Control, again_s: float) -> None:
        while True:
            await trio.sleep(again_s)
            again_s = await pinning.pin(tor, self._level, self._tor.vanguards)

    async def _is_bootstrapped(self, tor: Control) -> bool:
        reply = await tor.command("GETINFO", "status/bootstrap-phase")
        said = " ".join(reply.values().get("status/bootstrap-phase", ()))
        percent, summary, warning = (
            pattern.search(said) for pattern in (_PROGRESS, _SUMMARY, _WARNING)
        )
        self.standing.percent = min(100, int(percent[1])) if percent else 0
        words = f"tor is at {self.standing.percent} %"
        words += f": {lines.printable(summary[1])}" if summary else ""
        words += f" ({lines.printable(warning[1])})" if warning else ""
        if words != self.standing.words:
            log.info("%s", words)
            self.standing.words = words
        return self.standing.percent == 100

    async def _heed(self, tor: Control) -> None:
        """Follow the service's descriptor into Tor's directories."""
        publication = Publication(self._own[0].address)
        async for event in tor.events:
            found = service.descriptor_event(event)
            if found is None:
                continue
            publication = publication.after(found)
            if self.standing.progress is Progress.REACHABLE:
                continue
            if publication.stage is Stage.PUBLISHED:
                self._rise(Progress.PUBLISHED, "published; not dialled from outside yet")
            else:
                self._fall(Progress.ANNOUNCING, publication.words)

    async def _look(self, tor: Control) -> None:
        """Dial the node's own service through Tor, as others do: the proof that it can be found."""
        place = Address(ONION, self._own[0].address, self._own[0].virtual_port)
        while True:
            while self.standing.progress in (Progress.NO_TOR, Progress.ANNOUNCING):
                await trio.sleep(LOOK_S)
            try:
                await trio.aclose_forcefully(await self._stream_to(place))
            except SocksError as error:
                self._fall(Progress.PUBLISHED, f"not reached from outside: {error}")
                await trio.sleep(SELF_DIAL_RETRY_S)
            else:
                self._rise(Progress.REACHABLE, "")
                await trio.sleep(SELF_DIAL_S)

    # --- for people ---------------------------------------------------------------------------

    def _rise(self, progress: Progress, words: str) -> None:
        if progress is not self.standing.progress:
            log.info("the onion service %s is %s", self.standing.address, progress.value)
        self.standing.progress, self.standing.words = progress, words

    def _fall(self, progress: Progress, words: str) -> None:
        if words != self.standing.words:
            log.info("tor: %s", words)
        self.standing.progress, self.standing.words = progress, words


def _source(stream: trio.SocketStream) -> bytes:
    return b"tor"  # whoever calls, it is tor that connects


def _describe(channel: websocket.WebSocket, stream: trio.SocketStream) -> None:
    channel.remote = "through Tor"  # who it is shows in its handshake, and nowhere else


def _parsed(address: str) -> Address:
    try:
        return parse(address)
    except AddressError as error:
        raise LinkError(str(error)) from None


def _first(group: BaseExceptionGroup[TorError]) -> TorError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TorError)
    return error


async def keep_child(
    places: Places, level: SecurityLevel, extra: Sequence[tuple[str, str]]
) -> None:
    """Keep a tor of the node's own running, started again whenever it ends, until cancelled."""
    pause_s = RETRY_S
    while True:
        began = trio.current_time()
        try:
            await child.run(places, level, extra=extra)
        except* TorError as group:
            log.error("%s", _first(group))
        if trio.current_time() - began > 10 * RETRY_S_MAX:
            pause_s = RETRY_S
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, RETRY_S_MAX)

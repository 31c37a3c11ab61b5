"""The way through Tor: keeps the node's onion services up, and dials those of others.

Knows in which order a tor becomes useful (found, judged, bootstrapped, service added, published,
reachable), begins anew whenever that tor goes, and says at any moment how far it is and why.
Refuses to know members, links and sockets of its own; and to work at all with a tor that misses
what the level demands.
Follows: control-spec.

Non-detached services end with the control connection, so whoever owns that adds them again; and a
dial may hang on a descriptor of a service that was added anew, so each has a deadline of its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path

import trio

from aegis_edge.net.channel import WayError
from aegis_edge.net.tor import (
    bootstrap,
    control,
    facts,
    levels,
    lines,
    pinning,
    service,
    skew,
    socks,
)
from aegis_edge.net.tor.auth import Credentials
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import Hung, Refused, TorError, Unreachable, alone, first
from aegis_edge.net.tor.levels import Facts, Problem, SecurityLevel
from aegis_edge.net.tor.lines import Reply
from aegis_edge.net.tor.service import Publication, Service, Stage
from aegis_edge.net.tor.socks import Failure, SocksError
from aegis_edge.peers.address import ONION, Address

#: After tor has gone: soon, then less often; it may be an upgrade, or a person at work.
RETRY_S = 1.0
RETRY_S_MAX = 30.0
#: Between two looks at how far tor is, and two dials of the node's own service.
LOOK_S = 2.0
SELF_DIAL_S = 600.0
SELF_DIAL_RETRY_S = 10.0
#: Between two questions to a tor that does its work, and how long it may take for the answer: a
#: board under load is slow, too.
WATCH_S = 15.0
ANSWER_S = 30.0
#: Tor tries a service for up to two minutes, on circuits and descriptors of old without hope.
DIAL_TIMEOUT_S = 60.0
#: What a dial comes to that waited on something which is gone.
_OF_OLD = frozenset({Failure.TIMEOUT, Failure.EXPIRED})
#: So long at one percent; tor does not say of a clock that is days off that it is the reason.
STUCK_S = 60.0

_EVENTS = ("SETEVENTS", service.EVENT, service.EVENT_SIGNAL, skew.EVENT)
_ASKED = ("GETINFO", bootstrap.KEY, skew.FROM, skew.UNTIL)

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
    CONNECTED = "connected"
    ANNOUNCING = "announcing"
    PUBLISHED = "published"
    REACHABLE = "reachable"


@dataclass
class Standing:
    """What `status` shows.  `words`: why it is no further, or ""; `percent`: of the bootstrap.

    `warning`: what else its owner should mend; "" if there is nothing.
    """

    progress: Progress = Progress.NO_TOR
    words: str = "not looked for yet"
    warning: str = ""
    percent: int = 0
    version: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Tor:
    """Which tor serves this node.

    `modules`: what it was built with; None if nobody could ask.  `is_own`: the node started it, and
    it shall end with the node.  `vanguards`: the file in which full ones are kept,
    where the level has them.
    """

    control: Endpoint
    socks: Endpoint
    credentials: Credentials = field(default_factory=Credentials)
    modules: frozenset[str] | None = None
    is_own: bool = False
    vanguards: Path | None = None


class Gateway:
    """What there is to announce and to dial; `run` keeps it up.

    `own`: this node's services, the first of which is the one that lasts; there may be none.
    `clients`: for each onion address of another member, the X25519 private key with which this
    node finds it, where the level has client authorisation.  `now_s`: this board's clock, of which
    tor's view of the network shows whether it is right.
    """

    def __init__(
        self,
        tor: Tor,
        level: SecurityLevel,
        own: Sequence[Service],
        clients: Mapping[str, bytes],
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._tor = tor
        self._level = level
        self._own = tuple(own)
        self._clients = dict(clients)
        self._changed = trio.Event()
        # Streams of different peers, and of other programs of this tor, share no circuit.
        self._secret = os.urandom(16).hex().encode()
        self._now_s = now_s
        self._said_s: float | None = None
        self._doubt = trio.Event()
        self._tries: dict[str, int] = {}
        self._control: Control | None = None
        self._pause_s = RETRY_S
        self._hangs = 0
        #: Called when tor accepts connections and does not answer: whoever owns it may restart it.
        self.hung: Callable[[], None] = lambda: None
        self.standing = Standing(address=own[0].address if own else "")
        self._moved = trio.Event()
        self._publication = Publication(self.standing.address)

    # --- to others ----------------------------------------------------------------------------

    async def stream_to(self, place: Address) -> trio.SocketStream:
        """A stream to an onion service; raises `SocksError`, or `TorError` if tor is not ready."""
        if self.standing.progress in (Progress.NO_TOR, Progress.BOOTSTRAPPING):
            raise TorError(f"tor is not ready: {self.standing.words}", "see aegis-edge status")
        try:
            return await self._dialled(place)
        except SocksError as error:
            if error.failure in _OF_OLD:
                await self._afresh(place)
            raise

    async def _dialled(self, place: Address) -> trio.SocketStream:
        words = f"{place.host} {self._tries.get(place.host, 0)}"
        isolation = (self._secret, words.encode("ascii"))
        return await socks.dial(
            self._tor.socks, place.host, place.port, isolation=isolation, timeout_s=DIAL_TIMEOUT_S
        )

    async def _afresh(self, place: Address) -> None:
        """Have the next dial take nothing of what this one had.

        A board that lost its power has left circuits behind which its relays believe in, and tor
        waits on those, and on its old descriptor, for minutes: measured, 155 s, where a new dial
        takes less than a second.  Other words alone, or another descriptor alone, do not help.
        """
        self._doubt.set()
        self._tries[place.host] = self._tries.get(place.host, 0) + 1
        if self._control is None:
            return
        with suppress(TorError):  # if it is gone, `run` says so
            for command in service.forget(place.host, self._clients.get(place.host)):
                await self._control.command(*command)

    # --- changed while it runs ----------------------------------------------------------------

    def meet(self, clients: Mapping[str, bytes], callers: Sequence[bytes]) -> None:
        """The addresses of members from now on, each with the key with which it is found.

        `callers`: the X25519 public keys of those who may find this node's services from now on;
        empty where the level has no client authorisation.
        """
        assert callers or not any(each.clients for each in self._own), "it is not for everybody"
        self._own = tuple(replace(each, clients=tuple(callers)) for each in self._own)
        self._clients = dict(clients)
        self._tries = {host: n for host, n in self._tries.items() if host in clients}
        self._changed.set()

    async def introduce(self, address: str, private: bytes) -> None:
        """The same of one address; tor knows it when this returns.  Raises `TorError`."""
        self._clients[address] = private
        if self._control is not None:
            await self._control.command(*service.authorise(address, private))

    def retire(self) -> None:
        """Serve the first of the node's services alone from now on."""
        self._own = self._own[:1]
        self._changed.set()

    # --- kept up ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Find tor, begin, and begin again whenever it goes, until cancelled.

        Raises `LevelError` when this tor misses something that the level demands.
        """
        self._pause_s = RETRY_S
        while True:
            try:
                with alone(LevelError):
                    async with trio.open_nursery() as nursery:
                        tor = await control.connect(self._tor.control, self._tor.credentials)
                        nursery.start_soon(self._until_it_ends, tor)
                        await self._with(tor, nursery)
            except* TorError as group:
                self._lost(first(group))
            await trio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, RETRY_S_MAX)

    async def _until_it_ends(self, tor: Control) -> None:
        raise await tor.run()

    def _lost(self, why: TorError) -> None:
        self._hangs = self._hangs + 1 if isinstance(why, Hung) else 0
        # One that begins on a slow card is given the time of two openings.
        if self._hangs > (self._control is None):
            self.hung()
        self._control = None
        is_started_here = self._tor.is_own and isinstance(why, Unreachable)
        words = f"{why.message}; the node is starting its own" if is_started_here else str(why)
        self._fall(Progress.NO_TOR, words)
        self.standing.warning = ""

    async def _with(self, tor: Control, nursery: trio.Nursery) -> None:
        """All that is done with one connection to tor, until it ends."""
        if self._tor.is_own:
            await tor.command("TAKEOWNERSHIP")
        found = await self._judged(tor)
        self._control, self._said_s, self._hangs = tor, None, 0
        self._publication = Publication(self.standing.address)
        await tor.command(*_EVENTS)
        nursery.start_soon(self._heed, tor)
        await self._until_it_can(tor)
        if levels.TABLE[self._level].full_vanguards and self._tor.vanguards is not None:
            self._fall(Progress.BOOTSTRAPPING, "choosing the second and third hops")
            again_s = await pinning.pin(tor, self._level, self._tor.vanguards)
            nursery.start_soon(self._keep_pinned, tor, self._tor.vanguards, again_s)
        # Another may pin them, and may not have yet; and a bootstrap may have taken hours.
        self._check_guarded(await self._judged(tor))
        known, served = dict(self._clients), self._own
        await self._authorise(tor)
        announce = partial(self._announce, tor, can_prove_work=levels.can_prove_work(found))
        for own in served:
            await announce(own)
        nursery.start_soon(self._follow, tor, known, served, announce)
        nursery.start_soon(self._watch, tor)
        self.standing.percent = bootstrap.DONE_PERCENT
        self._pause_s = RETRY_S
        if not served:
            self._fall(Progress.CONNECTED, "")
            await trio.sleep_forever()
        self._announced()
        await self._look()

    async def _judged(self, tor: Control) -> Facts:
        """What this tor is, if it keeps what the level promises; before anything is asked of it."""
        found = await facts.gather(
            tor, self._level, self._tor.modules, self._tor.control, self._tor.socks
        )
        self.standing.version = lines.printable(found.version, 40)
        if problems := levels.missing(self._level, found):
            raise LevelError(self._level, problems)
        return found

    async def _until_it_can(self, tor: Control) -> None:
        """Return when tor is on the network, and this board's clock is right."""
        self._fall(Progress.BOOTSTRAPPING, "tor begins")
        began, percent = trio.current_time(), 0
        while True:
            reply = await tor.command(*_ASKED)
            phase, clock = bootstrap.phase(reply), self._clock_problem(reply)
            if phase.is_done and not clock:
                return
            if phase.percent != percent:
                began, percent = trio.current_time(), phase.percent
            words = [] if phase.is_done else [phase.words]
            if clock:
                words.append(clock)
            elif trio.current_time() - began > STUCK_S:
                words.append(f"see that this board is connected, and {skew.hint(self._now_s())}")
            self.standing.percent = phase.percent
            self._fall(Progress.BOOTSTRAPPING, "; ".join(words))
            await trio.sleep(LOOK_S / 4)

    def _clock_problem(self, reply: Reply) -> str:
        return skew.problem(self._now_s(), reply, self._said_s)

    async def _watch(self, tor: Control) -> None:
        """Ask a tor that does its work now and then: one that hangs does not answer in time.

        Who reloads its torrc, or sets an option by another connection, may take from it what the
        level demands, and has it forget the keys of members' services.
        """
        while True:
            await trio.sleep(WATCH_S)
            warning = self._clock_problem(await tor.command(*_ASKED, timeout_s=ANSWER_S))
            if warning and warning != self.standing.warning:
                log.warning("%s", warning)
            self.standing.warning = warning
            self._check_guarded(await self._judged(tor))
            held = service.authorised(await tor.command(*service.ASK_AUTHORISED))
            if not self._clients.keys() <= held:
                await self._authorise(tor)

    def _check_guarded(self, found: Facts) -> None:
        """Raises `TorError` unless the second and third hops are pinned, if the level has them so.

        Whatever is announced ends with the connection, and so with that error.
        """
        for problem in levels.unguarded(self._level, found.conf):
            raise TorError(problem.words, problem.fix)

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

    async def _authorise(self, tor: Control) -> None:
        for address, private in tuple(self._clients.items()):
            await tor.command(*service.authorise(address, private))

    async def _follow(
        self,
        tor: Control,
        known: dict[str, bytes],
        served: Sequence[Service],
        announce: Callable[[Service], Awaitable[None]],
    ) -> None:
        """Tell tor what `meet` and `retire` changed since it was told of `known` and `served`.

        Only a service that is added anew has other clients.  What that costs: for the seconds until
        it is published again nobody finds it, and who knows its last descriptor has to ask for the
        next one.  Streams that are open stay, for tor keeps the circuits on which they came; by
        such a one a member that was dismissed can call for some minutes more (MaxCircuitDirtiness),
        and is refused by its handshake.
        """
        while True:
            self._changed = trio.Event()
            wanted = self._own
            for address, private in tuple(self._clients.items()):
                if known.get(address) != private:
                    await tor.command(*service.authorise(address, private))
                    known[address] = private
            for address in known.keys() - self._clients.keys():
                del known[address]
                await tor.command(*service.deauthorise(address))
            for own in served:
                if own.address not in [each.address for each in wanted]:
                    await tor.command(*service.remove(own.address))
                    log.info("the onion service %s is given up", own.address)
            others = [own for own in wanted if own not in served]
            if others:
                self._publication = Publication(self.standing.address)
            for own in others:
                await announce(own)
                log.info("the onion service %s is for other members now", own.address)
            if others:
                self._announced()
                await self._afresh(self._own_place)
            served = wanted
            await self._changed.wait()

    async def _keep_pinned(self, tor: Control, path: Path, again_s: float) -> None:
        """Replace guards when their time is over; not by a clock that is wrong."""
        while True:
            await trio.sleep(again_s)
            again_s = pinning.LOOK_S
            if not self._clock_problem(await tor.command(*_ASKED)):
                again_s = await pinning.pin(tor, self._level, path)
                await self._authorise(tor)

    async def _heed(self, tor: Control) -> None:
        """Follow the service's descriptor into Tor's directories, and what else tor tells."""
        async for event in tor.events:
            said_s = skew.told(event)
            if said_s is not None:
                self._said_s = said_s
            if service.is_purge(event):
                await self._authorise(tor)
            found = service.descriptor_event(event)
            if found is not None and found.address == self._publication.address:
                self._publication = self._publication.after(found)
                self._show_publication()

    def _announced(self) -> None:
        self._fall(Progress.ANNOUNCING, "its service is on the way into Tor's directories")
        self._show_publication()  # a busy board may hear of it before it comes to this

    def _show_publication(self) -> None:
        """Before it is announced, nothing; after it was reached, nothing new."""
        if self.standing.progress not in (Progress.ANNOUNCING, Progress.PUBLISHED):
            return
        if self._publication.stage is Stage.PUBLISHED:
            self._rise(Progress.PUBLISHED, "published; not dialled from outside yet")
        else:
            self._fall(Progress.ANNOUNCING, self._publication.words)

    async def _look(self) -> None:
        """Dial the node's own service through Tor, as others do: the proof that it can be found."""
        place = self._own_place
        while True:
            while self.standing.progress is Progress.ANNOUNCING:
                await trio.sleep(LOOK_S)
            self._doubt = trio.Event()
            try:
                await trio.aclose_forcefully(await self._dialled(place))
            except SocksError as error:
                self._fall(Progress.PUBLISHED, f"not reached from outside: {error}")
            else:
                self._rise(Progress.REACHABLE, "")
                with trio.move_on_after(SELF_DIAL_S):
                    await self._doubt.wait()
            await trio.sleep(SELF_DIAL_RETRY_S)

    @property
    def _own_place(self) -> Address:
        """Where the service is that lasts."""
        return Address(ONION, self._own[0].address, self._own[0].virtual_port)

    # --- for people, and for those who wait ---------------------------------------------------

    async def until(
        self, *progress: Progress, tell: Callable[[str], object] = lambda _: None
    ) -> None:
        """Return when it is as far as one of these; `tell` hears meanwhile why it is not."""
        while self.standing.progress not in progress:
            tell(self.standing.words)
            await self._moved.wait()

    def _rise(self, progress: Progress, words: str) -> None:
        if progress is not self.standing.progress:
            log.info("the onion service %s is %s", self.standing.address, progress.value)
        self._move(progress, words)

    def _fall(self, progress: Progress, words: str) -> None:
        if words != self.standing.words:
            log.info("tor: %s", words)
        self._move(progress, words)

    def _move(self, progress: Progress, words: str) -> None:
        self.standing.progress, self.standing.words = progress, words
        self._moved.set()
        self._moved = trio.Event()

"""The links to the other members: dialled, proven, kept alive, and made anew when they end.

Whoever is no member comes in by the `door`, to a place of its own kind; it takes none of a member.
Knows deadlines, queues, and how the dial plan (`peers.book`) and sessions (`wire.session`) are
driven.  Refuses to know what messages say.  What a peer does wrong ends here, with its link.

    post -> queue of the peer -> flush, or the writer: all that waits in one batch -> channel
    channel -> receive: one frame of each link that has some -> whoever asked

A queue that is full drops the newest message: what is in it stays gapless, and the agreement
protocol asks for the rest.  Nothing is queued for a member without a link; `LinkOpened` says when
to begin, and that whatever was sent before may be lost.  Nothing is read ahead of `receive`: what
its caller has no time for waits in the sender, a peer that floods delays each other peer by one
frame at a time, and one that has to `rest` delays nobody.
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import trio

from aegis_edge.net import clock
from aegis_edge.net.alarms import Alarms
from aegis_edge.net.channel import Channel, Goodbye, LinkError, Misconduct, Transport
from aegis_edge.net.door import Door
from aegis_edge.net.echo import Echo
from aegis_edge.net.introductions import PASS, RECORD, SPAN_TICKS, Introductions, Surplus
from aegis_edge.net.poller import Poller
from aegis_edge.peers.bans import Ban
from aegis_edge.peers.book import Book, Dial
from aegis_edge.peers.conduct import Reason, What
from aegis_edge.peers.identity import open_record, short
from aegis_edge.peers.observers import PLACES
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import MESSAGE_BYTES_MAX, NodeRecord, Pass, Verified
from aegis_edge.wire.records import HEADER_BYTES
from aegis_edge.wire.session import (
    CELL_CAPACITY_BYTES,
    CELL_FRAME_BYTES,
    ENTROPY_BYTES,
    Breach,
    Delivered,
    Opened,
    OwnKey,
    Session,
    SessionError,
    Transmit,
)

#: What waits for one peer: room for the largest message, or for thousands of small ones.
QUEUE_MESSAGES_MAX = 4_096
QUEUE_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
#: The same for one that is no member: what it asks for at a time.
OBSERVER_QUEUE_BYTES_MAX = 3 * MESSAGE_BYTES_MAX // 4
#: What a member takes of it that is not whole yet: questions are small.
OBSERVER_PIECES_BYTES_MAX = 16 * 1024
#: How much is sealed at once: about one frame of the largest size.
BATCH_BYTES = 60_000
STEP_ENTROPY_BYTES = 32
#: All messages of the members are arrays (RFC 8949 section 3.1): what begins lower is a word.
_FIRST_OF_MESSAGES = b"\x80"
#: Of records, which belong to no cluster.
_OPENER = Opener(b"")
#: How often a link measures its way: that takes a frame, or on a schedule a little room in one.
MEASURE_TICKS, MEASURE_SCHEDULED_TICKS = 60_000, 20_000
#: A link that seems silent is given so long before it ends: perhaps it was us who did not listen.
DOUBT_TICKS = 1_000
#: How long a link to a member that is none any more lasts still: it shall hear of that.
PARTING_TICKS = 3_000
#: How long a link lasts that nobody vouches for any more: the next pass may be on its way; one that
#: this node has no use for; and how often to look.
UNVOUCHED_TICKS, UNWANTED_TICKS, LOOK_TICKS = 20_000, 20_000, 5_000
_SHARE_BYTES = 6

log = logging.getLogger(__name__)


class LinkOpened(NamedTuple):
    """A link to the member `peer` is open; what was sent to it before may be lost.

    `round_trip_ticks`: from a message of its handshake to the answer; at least 1.  `Measured` says
    when it takes another time.
    """

    peer: bytes
    record: Verified[NodeRecord]
    round_trip_ticks: int


class LinkClosed(NamedTuple):
    """The link to the member `peer` is gone; `reason` is for people."""

    peer: bytes
    reason: str


class Arrived(NamedTuple):
    """The member `peer` sent `raw`: authentic as to its sender, but not yet looked at."""

    peer: bytes
    raw: bytes


class Measured(NamedTuple):
    """The link to the member `peer` takes another time for a round trip than it last did."""

    peer: bytes
    round_trip_ticks: int


Event = LinkOpened | LinkClosed | Arrived | Measured

#: What makes the one message with which a guest is answered; may take its time.
Answer = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Timing:
    """When a link is given up.  A link that is idle sends a frame after at most `keepalive_ticks`.

    `silence_ticks` without a frame end it; they must be several times `keepalive_ticks`.
    """

    handshake_s: float = 10.0
    keepalive_ticks: int = 20_000
    silence_ticks: int = 60_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When frames go, where that may tell nothing: a Poisson process of `mean_interval_s` on each
    link, whose every event sends one frame of one size, with what waits if anything does.

    Real frames take the place of empty ones, none is ever added: what is seen on the line is the
    same whatever is said (Loopix, USENIX Security '17, section 4).
    """

    mean_interval_s: float


@dataclass(slots=True)
class Traffic:
    """What went over all links to one peer since the start."""

    links: int = 0
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A part of a member's score: so many times, the last one so long ago, and so many points."""

    what: str
    count: int
    points: int
    ago_ticks: int


@dataclass(frozen=True, slots=True)
class Outcast:
    """Why a member gets no link, and for how long still; None until its ban is lifted."""

    reason: str
    by_hand: bool
    left_ticks: int | None


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """One member, or observer, or the host that is known as no member yet (`role`), for `peers`.

    `state`: linked, dialling, waiting, expected, or banned.
    `expected` is one without an address that can be or is to be dialled from here: it has to call.
    `linked_ticks`: age of the link; `dial_in_ticks`: time to the next dial; `last_error` is
    empty while all is well.  `last_event`: what happened last, and how long ago; `score`: from 0
    to 100, and what it is made of (`peers.conduct`); `ban`: what keeps it out, if anything does.
    """

    peer: bytes
    name: str
    role: str
    state: str
    outbound: bool | None
    remote: str
    linked_ticks: int | None
    dial_in_ticks: int | None
    rtt_ms: float | None
    last_error: str
    last_event: str
    last_event_ticks: int | None
    score: int
    reasons: tuple[Verdict, ...]
    ban: Outcast | None
    addresses: tuple[str, ...]
    record_version: int
    expires_s: int
    queued: int
    traffic: Traffic


class _Link:
    """One link from the moment that it has proven itself."""

    __slots__ = (
        "announced",
        "busy",
        "channel",
        "doubted_at",
        "early",
        "echo",
        "ended",
        "failure",
        "heard_at",
        "introduced",
        "introductions",
        "is_heard",
        "keepalive_due",
        "older",
        "outbound",
        "outbox",
        "parting_at",
        "pause_ticks",
        "peer",
        "queue",
        "queue_bytes",
        "record",
        "round_trip_ticks",
        "sealed",
        "sent_at",
        "session",
        "since_ticks",
        "told",
        "unwanted_at",
        "wake",
        "watched",
        "writing",
    )

    def __init__(
        self,
        channel: Channel,
        session: Session,
        opened: Opened,
        outbound: bool,
        early: Sequence[Arrived],
        round_trip_ticks: int,
        measure_ticks: float,
    ) -> None:
        self.channel = channel
        self.session = session
        self.peer, self.record = opened
        self.outbound = outbound
        self.early = early
        self.round_trip_ticks = round_trip_ticks
        self.echo = Echo(round_trip_ticks, clock.now_ticks(), measure_ticks)
        self.since_ticks = clock.now_ticks()
        self.introductions = Introductions(self.since_ticks)
        self.introduced: dict[bytes, bytes] = {}  # what was said of observers, so often
        self.told = 0
        self.unwanted_at: float = math.inf
        self.older: _Link | None = None
        self.queue: deque[bytes] = deque()
        self.queue_bytes = 0
        self.outbox: deque[bytes] = deque()  # frames of a message that takes several, by schedule
        self.sealed = b""  # that message
        self.wake = trio.Event()
        self.keepalive_due = False
        self.busy = True  # the writer is at work; else it waits for `rouse`, and `flush` may write
        self.writing = trio.CancelScope()
        self.failure: LinkError | None = None
        self.ended = trio.Event()
        self.announced = False
        self.is_heard = False
        self.watched = False
        self.doubted_at = 0
        self.parting_at: float = math.inf
        self.heard_at = self.sent_at = self.pause_ticks = 0

    def rouse(self) -> None:
        """Set the writer to work."""
        self.busy = True
        self.wake.set()

    def end(self, failure: LinkError) -> None:
        """Stop the link; the first failure is the one that counts."""
        if self.failure is None:
            self.failure = failure
            self.writing.cancel()
            self.ended.set()


class _Guest(NamedTuple):
    """A caller that is to be answered once, and is no link whoever it is."""

    channel: Channel
    session: Session
    answer: Answer


class Links:
    """All links of one node; `run` owns them, and their user asks `receive` for what they bring.

    `poller`: what their user waits on; `book`: the other members; `record_raw`: this node's signed
    record, which names the public half of `noise_private`; `transports`: by scheme of address;
    `schedule`: of all frames after a link's handshake, None to send what there is at once.
    `entropy(size)` gives random bytes, `jitter()` a number evenly in 0..1.
    """

    def __init__(
        self,
        *,
        poller: Poller[_Link],
        book: Book,
        record_raw: bytes,
        noise_private: bytes,
        cluster_id: bytes,
        transports: Mapping[str, Transport],
        timing: Timing | None = None,
        schedule: Schedule | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._poller = poller
        self._book = book
        self._credentials = (record_raw, noise_private, cluster_id)
        self._transports = transports
        self._timing = timing or Timing()
        self._schedule = schedule
        self._entropy = entropy
        self._jitter = jitter
        self._events: list[Event] = []
        self._unread: list[_Link] = []  # links with bytes that are read, but not looked at
        self._open: dict[bytes, _Link] = {}
        self._resting: set[bytes] = set()
        self._traffic: defaultdict[bytes, Traffic] = defaultdict(Traffic)
        self._changed = trio.Event()
        self._posted: list[_Link] = []
        self._wants: frozenset[bytes] | None = None
        self.door = Door(book, cluster_id)
        #: Called with each record that is newer than what was known of a member: to keep it.
        self.learnt: Callable[[Verified[NodeRecord]], None] = lambda _: None
        #: Called with the member at the first frame of each of its links, or at its first as a
        #: member: none comes before it has taken that link, and with it this node's record.  What
        #: was only sent shows nothing.
        self.heard: Callable[[bytes], None] = lambda _: None
        #: Called with a caller's record, the hash of its handshake, and what it said with its first
        #: frame, which a member leaves empty: its answer if it was invited, else None.
        self.guest: Callable[[Verified[NodeRecord], bytes, Sequence[bytes]], Answer | None] = (
            lambda *_: None
        )
        self.alarms = Alarms()
        self.refused = 0
        self._is_counted = True  # as a member by the others, for all that they have said

    # --- for their user ---------------------------------------------------------------------

    def post(self, peer: bytes, raw: bytes) -> None:
        """Send `raw` to the member `peer` with the next `flush`, all that is for it together.

        Counted as dropped if there is no link, or no room.  On a schedule, what waits for its turn
        is not put in line a second time: whoever says it again would only make the rest wait.
        """
        link = self._open.get(peer)
        size = len(raw)
        if (
            link is None
            or len(link.queue) >= QUEUE_MESSAGES_MAX
            or link.queue_bytes + size > self._queue_bytes_max(peer)
        ):
            if peer in self._book:
                self._traffic[peer].dropped += 1
            return
        if self._schedule is not None and (raw == link.sealed or raw in link.queue):
            return
        if not link.queue:
            self._posted.append(link)
        link.queue.append(raw)
        link.queue_bytes += size

    def _queue_bytes_max(self, peer: bytes) -> int:
        return QUEUE_BYTES_MAX if self._book.is_member(peer) else OBSERVER_QUEUE_BYTES_MAX

    def flush(self) -> None:
        """Write what was posted: at once where the socket takes it, else the writer does.

        On a schedule it waits for its turn.
        """
        posted, self._posted = self._posted, []
        if self._schedule is not None:
            return
        for link in posted:
            if link.busy or not link.queue or link.failure is not None:
                continue
            try:
                if not link.channel.offer(self._seal(link)) or link.queue:
                    link.rouse()
            except Exception as error:
                link.end(_failure(error))

    def receive(self, but: Container[bytes] = ()) -> Sequence[Event]:
        """What happened since the last call, and one frame of each link that has some.

        Nothing is read of the peers in `but`, this once.
        Never waits; whoever got something asks again, and waits on the poller after nothing.
        """
        ready = dict.fromkeys(self._unread)
        self._unread.clear()
        ready.update(dict.fromkeys(self._poller.ready()))
        for link in ready:
            if link.failure is not None or link.peer in self._resting:
                continue
            if link.peer in but:
                if link.channel.has_more:
                    self._unread.append(link)
                continue
            try:
                self._read(link)
            except Exception as error:
                link.end(_failure(error))
        if self._unread:
            self._poller.wake()
        events, self._events = self._events, []
        return events

    def rest(self, peer: bytes) -> None:
        """Read nothing of `peer` until `resume`, whatever links it makes: it waits with its peer.

        For less than the silence that ends a link, for its end is not noticed either.
        """
        self._resting.add(peer)
        link = self._open.get(peer)
        if link is not None:
            self._unwatch(link)

    def resume(self, peer: bytes) -> None:
        """Read again what `peer` sends."""
        self._resting.discard(peer)
        link = self._open.get(peer)
        if link is not None:
            self._watch(link)

    def close(self, peer: bytes, reason: str) -> None:
        """End the link to `peer`, if there is one, because of what it sent; it is dialled anew."""
        link = self._open.get(peer)
        if link is not None:
            link.end(Misconduct(reason, Goodbye.BAD_MESSAGE))

    def accuse(self, peer: bytes, reason: str) -> None:
        """`peer` signed two things that contradict each other: it is kept out if it can be."""
        self._book.contradicted(peer, clock.now_ticks(), reason)
        self._part(peer)

    def ban(self, peer: bytes, until_ticks: float) -> None:
        """Have no link to `peer` until then, whoever it is: the owner wants it so."""
        self._book.bans.ban(peer, until_ticks)
        self._part(peer)

    def lift(self, peer: bytes) -> None:
        """Nothing is held against `peer` any more."""
        self._book.bans.lift(peer)
        self._changed.set()

    def banned(self) -> Mapping[bytes, float]:
        """Until when each is kept out by hand, members or not; infinite until somebody lifts it."""
        return self._book.bans.by_hand(clock.now_ticks())

    def _part(self, peer: bytes) -> None:
        """End the link to `peer` if it is kept out."""
        self._changed.set()
        ban = self._barred(peer)
        link = self._open.get(peer)
        if ban is not None and link is not None:
            link.end(LinkError(_out(ban), Goodbye.BANNED))

    def _barred(self, peer: bytes) -> Ban | None:
        """What keeps `peer` out from now on, if anything does; the log tells it."""
        now_ticks = clock.now_ticks()
        ban = self._book.barred(peer, now_ticks)
        if ban is not None and not ban.by_hand:
            left_s = (ban.until_ticks - now_ticks) / 1000
            log.warning("%s gets no link for %.0f s: %s", self._name(peer), left_s, ban.reason)
        return ban

    def introduced(self, envelope: bytes, by: str) -> None:
        """Somebody tells of a member by its record; kept if that is news.

        Raises `WireError` if it is none.
        """
        record = open_record(envelope, _OPENER.open)
        if self._book.introduced(record, clock.now_ticks()):
            self._learnt(record)
            log.info("%s told of a new record", by)
            self._changed.set()

    def dial(self, address: str) -> bytes | None:
        """Dial the member at `address` now if it has no link, and wait no longer; its key.

        None if no member says that it is there.
        """
        peer = self._book.at(address)
        if peer is not None:
            self._book.hasten(peer, clock.now_ticks())
            self._changed.set()
        return peer

    def meet(self, records: Iterable[Verified[NodeRecord]], quorum: int) -> None:
        """Have links with the signers of these records, and with nobody else after a moment.

        `quorum`: of them and this node; whoever that takes is linked, whatever it did.
        """
        self._book.quorum = quorum
        now_ticks, members = clock.now_ticks(), set()
        for record in records:
            members.add(record.signer)
            self._book.admit(record, now_ticks)
        self.door.meet(tuple(members))
        for peer in set(self._book.members) - members:
            self._book.dismiss(peer)
        for peer, link in self._open.items():
            is_welcome = peer in self._book
            link.parting_at = math.inf if is_welcome else now_ticks + PARTING_TICKS
        self._changed.set()

    def vouch(
        self, given: Mapping[bytes, Verified[Pass]], records: Iterable[Verified[NodeRecord]] = ()
    ) -> None:
        """Let these link too, who are no members, by the passes that this node gives them.

        `records`: as far as they are known.  Links with those for whom it vouched before end.
        """
        before = self.door.observers.guests
        for record in records:
            if record.signer in given and not self._book.refusal(record):
                self._book.vouch(record, clock.now_ticks())
        for peer in self.door.vouch(given):
            self.post(peer, self.door.pass_of(peer))
        self.flush()
        for peer in sorted(before - given.keys()):
            link = self._open.get(peer)
            if link is not None and not self._book.is_member(peer) and self.door.refusal(peer):
                link.end(LinkError("this node vouches for it no more", Goodbye.NOT_A_MEMBER))
        self._changed.set()

    def want(self, peers: frozenset[bytes] | None) -> None:
        """Of those who are known, dial these alone; None: dial all members.

        Who cannot be dialled from here is told of as one whose link is gone.
        """
        self._wants = peers
        self._changed.set()
        dialled = self.door.wanted(peers)
        for peer in sorted(peers or ()):
            is_tried = peer in self._book and (dialled is None or peer in dialled)
            if not is_tried and peer not in self._open:
                self._events.append(LinkClosed(peer, "it is not found from here"))
                self._poller.wake()

    def introduce(self, peer: bytes, others: Iterable[bytes]) -> None:
        """Tell `peer` where these observers are, as far as that is known and was not said yet."""
        link = self._open.get(peer)
        if link is None:
            return
        for key in others:
            said = self.door.introduction(key)
            spans = (clock.now_ticks() - link.since_ticks) // SPAN_TICKS
            if said and link.introduced.get(key) != said and link.told < PLACES + spans:
                link.told += 1
                link.introduced[key] = said
                self.post(peer, said)

    def records(self) -> tuple[Verified[NodeRecord], ...]:
        """The newest known record of each other member, in the order of their keys."""
        return tuple(self._book[peer].record for peer in self._book.members)

    def friends(self) -> tuple[Verified[NodeRecord], ...]:
        """The records of this node's guests, and of its host if that is known as no member."""
        found = (peer for peer in self._book.observers if self.door.knows(peer))
        return tuple(self._book[peer].record for peer in found)

    def record_of(self, peer: bytes) -> Verified[NodeRecord]:
        """The newest known record of one to whom there is, or was, a link."""
        return self._book[peer].record

    def statistics(self) -> tuple[PeerStatistics, ...]:
        """All other members, in the order of their keys; then those who are none."""
        now_ticks, book = clock.now_ticks(), self._book
        return tuple(self._statistics(p, now_ticks) for p in (*book.members, *book.observers))

    async def run(
        self, listen: Sequence[str] = (), *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen, dial and keep links until cancelled.

        Reports through `task_status` the addresses on which it listens; raises `LinkError` if
        there is one on which it cannot.
        """
        failure: LinkError | None = None
        async with trio.open_nursery() as nursery:
            try:
                bound = [await self._listen(nursery, address) for address in listen]
            except Exception as error:
                failure = _failure(error)
                nursery.cancel_scope.cancel()
            else:
                task_status.started(tuple(name for names in bound for name in names))
                await self._plan(nursery)
        if failure is not None:
            raise failure

    # --- the plan ---------------------------------------------------------------------------

    async def _listen(self, nursery: trio.Nursery, address: str) -> tuple[str, ...]:
        transport = self._transports.get(_scheme(address))
        if transport is None:
            raise LinkError(f"cannot listen on {address!r}: there is no such kind of address")
        names: tuple[str, ...] = await nursery.start(transport.serve, self._incoming, address)
        return names

    async def _plan(self, nursery: trio.Nursery) -> None:
        """Dial what is due, look after idle and silent links, and sleep until something is next."""
        while True:
            self._changed = trio.Event()
            now_ticks = clock.now_ticks()
            self._book.want(self.door.wanted(self._wants))
            for dial in self._book.dials(now_ticks):
                nursery.start_soon(self._outgoing, dial)
            wake_at: list[float] = [
                self._look_after(link, now_ticks) for link in self._open.values()
            ]
            if self._book.wake_at is not None:
                wake_at.append(self._book.wake_at)
            for peer in self.door.sweep(self._open):
                self._traffic.pop(peer, None)
            if self._book.observers or self.door.observers.host:
                wake_at.append(now_ticks + LOOK_TICKS)
            self.flush()
            with trio.move_on_at(min(wake_at) / 1000 + 0.001 if wake_at else math.inf):
                await self._changed.wait()

    def _look_after(self, link: _Link, now_ticks: int) -> float:
        """Whether the link is silent for too long, idle or to be parted; when to look again."""
        if link.peer in self._book:
            self._look_whether_needed(link, now_ticks)
        if now_ticks >= link.parting_at:
            link.end(LinkError("it is no member any more", Goodbye.NOT_A_MEMBER))
        if now_ticks >= link.unwanted_at:
            link.end(LinkError("there is no use for it now", Goodbye.NORMAL))
        ends_at = min(link.parting_at, link.unwanted_at)
        return min(ends_at, self._tell(link, now_ticks), self._keep(link, now_ticks))

    def _look_whether_needed(self, link: _Link, now_ticks: int) -> None:
        """Whether anybody vouches for who is no member; and whether this node has a use for it."""
        is_good = self._book.is_member(link.peer) or not self.door.refusal(link.peer)
        parting_at, unwanted_at = now_ticks + UNVOUCHED_TICKS, now_ticks + UNWANTED_TICKS
        link.parting_at = math.inf if is_good else min(link.parting_at, parting_at)
        is_used = not link.outbound or self._book.is_wanted(link.peer)
        link.unwanted_at = math.inf if is_used else min(link.unwanted_at, unwanted_at)

    def _keep(self, link: _Link, now_ticks: int) -> int:
        timing = self._timing
        silent_at = link.heard_at + timing.silence_ticks
        if now_ticks >= silent_at:
            link.doubted_at = link.doubted_at or now_ticks
            silent_at = link.doubted_at + DOUBT_TICKS
        if now_ticks >= silent_at:
            link.end(
                LinkError(
                    f"silent for {timing.silence_ticks // 1000} s; it is off, or its network is",
                    Goodbye.SILENT,
                )
            )
        if self._schedule is not None:  # its empty frames keep the link alive
            return silent_at
        if now_ticks - link.sent_at >= link.pause_ticks:
            link.sent_at = now_ticks
            link.pause_ticks = self._pause_ticks()
            link.keepalive_due = True
            link.rouse()
        return min(silent_at, link.sent_at + link.pause_ticks)

    def _pause_ticks(self) -> int:
        """How long a link may be idle before it sends an empty frame: half the bound, or more."""
        return int(self._timing.keepalive_ticks * (1 + self._jitter()) / 2)

    # --- a link, from its first byte to its last ----------------------------------------------

    async def _outgoing(self, dial: Dial) -> None:
        try:
            channel = await self._transports[_scheme(dial.address)].dial(dial.address)
        except Exception as error:
            self._missed(dial.peer, dial.address, _failure(error))
        else:
            await self._converse(channel, dial.peer)

    async def _incoming(self, channel: Channel) -> Goodbye:
        return await self._converse(channel, None)

    async def _converse(self, channel: Channel, expected: bytes | None) -> Goodbye:
        goodbye = Goodbye.GOING_AWAY
        try:
            goodbye = await self._live(channel, expected)
        finally:
            with trio.CancelScope(shield=True):
                await channel.aclose(goodbye)
        return goodbye

    async def _live(self, channel: Channel, expected: bytes | None) -> Goodbye:
        try:
            with trio.fail_after(self._timing.handshake_s):
                link = await self._handshake(channel, expected)
        except Exception as error:
            failure = _failure(error)
            if isinstance(error, OwnKey):
                where = "calls" if expected is None else f"answers at {channel.remote}"
                self._alarm(f"this node's own key {where}: {error}")
            self._missed(expected, channel.remote, failure)
            return failure.goodbye
        # Whoever was sent away while its proof was on its way to us must not become a link.
        await trio.lowlevel.checkpoint_if_cancelled()
        if isinstance(link, _Guest):
            return await self._answer(link)
        if not self._has_place(link):
            return Goodbye.NO_PLACE
        if self._admit(link):
            return await self._carry(link)
        return Goodbye.DUPLICATE

    async def _answer(self, guest: _Guest) -> Goodbye:
        """Tell a guest what it came for, and let it go; meanwhile it has a stranger's place."""
        try:
            said = (await guest.answer(),)
            _, frames = guest.session.send(
                said,
                clock.now_ticks(),
                self._entropy(STEP_ENTROPY_BYTES),
                cells=self._schedule is not None,
            )
            with trio.fail_after(self._timing.handshake_s):
                await guest.channel.send(frames)
        except Exception as error:
            failure = _failure(error)
            log.info("a guest from %s went without an answer: %s", guest.channel.remote, failure)
            return failure.goodbye
        return Goodbye.NORMAL

    async def _handshake(self, channel: Channel, expected: bytes | None) -> _Link | _Guest:
        """Prove who we are, and learn who the other end is.

        It is a member that is welcome, or a guest; else LinkError.

        A stranger, or another node than the one that was dialled, never gets our record to see.
        """
        entropy = self._entropy(ENTROPY_BYTES)
        asked_at: int | None = None
        round_trip_ticks = 0
        if expected is None:
            session = Session.respond(*self._credentials, entropy)
        else:
            session, hello = Session.initiate(*self._credentials, entropy, self.door.first())
            asked_at = clock.now_ticks()
            await channel.send((hello,))
        while True:
            frame = await channel.receive()
            if asked_at is not None:  # each side sends one frame that the other cannot foresee
                round_trip_ticks, asked_at = max(1, clock.now_ticks() - asked_at), None
            session, effects = session.received(frame)
            channel.greeted()
            opened = next((e for e in effects if type(e) is Opened), None)
            said = [e.message for e in effects if type(e) is Delivered]
            if opened is not None:
                if expected is None and said:
                    answer = self.guest(opened.record, session.transcript, said)
                    if answer is not None:
                        return _Guest(channel, session, answer)
                self._judge(opened, expected, said)
            data = [e.data for e in effects if type(e) is Transmit]
            if data:
                asked_at = clock.now_ticks()
                await channel.send(data)
            if opened is not None:
                early = [Arrived(opened.peer, m) for m in said if m[:1] != PASS]
                outbound = expected is not None
                pause_ticks = self._measure_ticks(channel)
                return _Link(
                    channel, session, opened, outbound, early, round_trip_ticks, pause_ticks
                )

    def _measure_ticks(self, channel: Channel) -> float:
        """How long to wait with the next question for the way, once one is answered."""
        if channel.rtt_ms is not None:  # the transport measures
            return math.inf
        return MEASURE_TICKS if self._schedule is None else MEASURE_SCHEDULED_TICKS

    def _judge(self, opened: Opened, expected: bytes | None, said: Sequence[bytes]) -> None:
        """LinkError if the peer, which has proven who it is and `said` so much, is not welcome."""
        peer = opened.peer
        if expected is not None and peer != expected:
            raise LinkError(
                f"another node answers there, {short(peer)}; correct the address",
                Goodbye.WRONG_NODE,
            )
        is_known, now_ticks = peer in self._book, clock.now_ticks()
        if not self._book.is_member(peer):
            self.door.enter(opened.record, said, self._open)
        ban = self._book.barred(peer, now_ticks)
        if ban is not None:
            raise LinkError(_out(ban), Goodbye.BANNED)
        if expected is None and is_known and self._book.deaf_ticks(peer, now_ticks):
            raise LinkError(
                f"the last links of {self._name(peer)} were short; is it started again and again?",
                Goodbye.TOO_SOON,
            )
        refusal = self._book.refusal(opened.record)
        if refusal:
            if expected is None and is_known:
                self._book.call_failed(peer, now_ticks)
            raise LinkError(refusal, Goodbye.RECORD)
        self._book.vouch(opened.record, now_ticks)

    def _missed(self, expected: bytes | None, where: str, failure: LinkError) -> None:
        """What was no link: put it on the plan again if it was ours."""
        if expected is None:
            self.refused += 1
            if self.refused & (self.refused - 1) == 0:  # strangers must not fill the log
                last = f"{where}: {failure}"
                log.info("calls refused so far: %d; the last, %s", self.refused, last)
            return
        if not self._book[expected].tries:
            log.info("no link to %s at %s: %s", self._name(expected), where, failure)
        what = failure.what or What.UNREACHABLE
        self._book.dial_failed(expected, clock.now_ticks(), str(failure), self._jitter(), what)
        self._changed.set()
        if self._wants is not None and expected not in self._open:
            self._events.append(LinkClosed(expected, str(failure)))
            self._poller.wake()

    def _has_place(self, link: _Link) -> bool:
        """Whether there is one for whoever calls and is no member; another may have to go."""
        if link.outbound or self._book.is_member(link.peer):
            return True
        book, observers = self._book, self.door.observers
        calls = [p for p, each in self._open.items() if not each.outbound and not book.is_member(p)]
        leaves = observers.who_goes(link.peer, calls)
        if leaves is not None and leaves != link.peer:
            self._open[leaves].end(
                LinkError("a guest of another member needs its place", Goodbye.NO_PLACE)
            )
        return leaves != link.peer

    def _admit(self, link: _Link) -> bool:
        """Whether this link is the one of its pair that stays."""
        now_ticks = clock.now_ticks()
        self._changed.set()
        if not self._book.opened(link.peer, link.outbound, now_ticks):
            return False
        if link.record != self._book[link.peer].record:
            self._book.learn(link.record)
            self._learnt(link.record)
            # Who cannot reach it may be linked to us.
            others = [p for p in self._open if p != link.peer and self._book.is_member(link.peer)]
            for peer in others:
                self._introduce(peer, link.record)
            self.flush()
        link.older = self._open.get(link.peer)
        if link.older is not None:
            link.older.end(LinkError("a newer link took its place", Goodbye.DUPLICATE))
        self._open[link.peer] = link
        self._traffic[link.peer].links += 1
        link.heard_at = link.sent_at = now_ticks
        link.pause_ticks = self._pause_ticks()
        link.channel.proven()
        log.info("linked to %s: %s", self._name(link.peer), link.channel.remote)
        return True

    def _introduce(self, peer: bytes, record: Verified[NodeRecord]) -> None:
        """Tell `peer` of a third member, once that is due."""
        link = self._open[peer]
        link.introductions.tell(record.signer, record.raw)
        self._tell(link, clock.now_ticks())
        self._changed.set()

    def _tell(self, link: _Link, now_ticks: int) -> float:
        """Say what is due of third members; when there is more of it."""
        members = len(self._book.members)
        for said in link.introductions.due(members, now_ticks):
            self.post(link.peer, said)
        return link.introductions.wake_at(members)

    def _introduced(self, link: _Link, envelope: bytes) -> None:
        """What the peer tells of a third member.  Raises `Misconduct` if it is no record."""
        try:
            self.introduced(envelope, self._name(link.peer))
        except WireError as error:
            raise Misconduct(
                f"it introduces somebody by what is no record: {error}", Goodbye.BAD_MESSAGE
            ) from None

    def _learnt(self, record: Verified[NodeRecord]) -> None:
        peer = record.signer
        if self._book.is_member(peer) or self.door.knows(peer):
            self.learnt(record)
        for address in self._book.shunned(peer):
            log.warning(
                "%s says that it is at %s, which is somewhere else for everybody: it is not "
                "dialled there; correct `advertise` on that board",
                self._name(peer),
                address,
            )

    async def _carry(self, link: _Link) -> Goodbye:
        """Run an admitted link to its end."""
        peer = link.peer
        if link.older is not None:
            self._retire(link.older)
            link.older = None
        link.announced = True
        opened = LinkOpened(peer, link.record, link.round_trip_ticks)
        self._events += (opened, *link.early)
        self._watch(link)
        for record in self._book.news(of_others_than=peer):
            self._introduce(peer, record)
        if self.door.pass_of(peer) and not self._book.is_member(peer):
            self.post(peer, self.door.pass_of(peer))
        self.flush()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guarded_write, link)
                await link.ended.wait()
        finally:  # also when it is cancelled: what is not here must not be on the plan as a link
            link.end(LinkError("it was given up here", Goodbye.GOING_AWAY))
            self._unwatch(link)
            self._leave(link)
        assert link.failure is not None, "a link ends for a reason"
        return link.failure.goodbye

    def _watch(self, link: _Link) -> None:
        """Have it read, unless its peer rests: first what the handshake or a rest has left."""
        if not link.watched and link.failure is None and link.peer not in self._resting:
            link.watched = True
            self._poller.add(link.channel.fileno(), link)
            self._unread.append(link)
        self._poller.wake()

    def _unwatch(self, link: _Link) -> None:
        if link.watched:
            link.watched = False
            self._poller.remove(link.channel.fileno())

    def _leave(self, link: _Link) -> None:
        """The end of a link that was admitted."""
        if self._open.get(link.peer) is link:
            del self._open[link.peer]
            what = (link.failure and link.failure.what) or What.CUT
            words = str(link.failure)
            self._book.closed(link.peer, clock.now_ticks(), words, self._jitter(), what)
            self._changed.set()
            level = logging.DEBUG if self._is_known_of(link) else logging.INFO
            log.log(level, "link to %s ended: %s", self._name(link.peer), link.failure)
            if what is What.WRONG:
                self._barred(link.peer)
        self._retire(link)

    def _is_known_of(self, link: _Link) -> bool:
        """Whether a member has said before why this link ended: that this node is none.

        Each of them says so to whoever waits to be let in; the first is enough.
        """
        was_counted = self._is_counted
        if str(link.failure) == Goodbye.NOT_A_MEMBER.words:
            self._is_counted = False
            return not was_counted
        self._is_counted = was_counted or link.is_heard
        return False

    def _retire(self, link: _Link) -> None:
        if link.announced:
            link.announced = False
            self._events.append(LinkClosed(link.peer, str(link.failure)))
            self._poller.wake()

    def _read(self, link: _Link) -> None:
        """One frame, if there is one."""
        data = link.channel.take()
        if data is None:
            return
        if link.channel.has_more:
            self._unread.append(link)
        if self._schedule is not None and len(data) != CELL_FRAME_BYTES:
            raise LinkError(
                "its frames are not of one size, so who watches can tell when it has something to "
                "say: it has a lower SECURITY_LEVEL; set the same on all boards",
                Goodbye.PROTOCOL,
            )
        link.heard_at = clock.now_ticks()
        link.doubted_at = 0
        link.session, effects = link.session.received(data)
        if self._is_too_long(link):
            raise LinkError("it says more than who only follows", Goodbye.TOO_BIG)
        if not link.is_heard and self._book.is_member(link.peer):
            link.is_heard = True
            self.heard(link.peer)
        messages = [
            Arrived(link.peer, e.message)
            for e in effects
            if type(e) is Delivered and not self._is_word(link, e.message)
        ]
        self._measure(link)
        traffic = self._traffic[link.peer]
        traffic.frames_in += 1
        traffic.bytes_in += len(data)
        traffic.messages_in += len(messages)
        self._events += messages

    def _is_too_long(self, link: _Link) -> bool:
        """Whether who is no member keeps a member waiting for the end of a long message."""
        pieces = link.session.pieces
        if pieces is None or pieces.size_bytes <= OBSERVER_PIECES_BYTES_MAX:
            return False
        return self.door.is_of_member and not self._book.is_member(link.peer)

    def _is_word(self, link: _Link, message: bytes) -> bool:
        """Whether this was for the links themselves.  Raises `LinkError`."""
        if message[:1] >= _FIRST_OF_MESSAGES:
            return False
        others = len(self._book.members) + PLACES
        try:
            told = link.introductions.hear(message, others, link.heard_at)
        except Surplus:
            return True
        if told is None:
            return link.echo.hear(message, link.heard_at)
        if message[:1] == RECORD:
            self._introduced(link, told)
        elif self.door.hears(message[:1], told, link.peer, self._open):
            for peer in self._open:
                if peer != link.peer:
                    self.post(peer, self.door.own_pass())
            self.flush()
        self._changed.set()
        return True

    def _measure(self, link: _Link) -> None:
        """Tell how long the way is now, and see to it that the peer learns it as well."""
        if link.echo.round_trip_ticks != link.round_trip_ticks:
            link.round_trip_ticks = link.echo.round_trip_ticks
            self._events.append(Measured(link.peer, link.round_trip_ticks))
        if link.echo.is_owing and self._schedule is None:
            link.keepalive_due = True
            link.rouse()

    async def _guarded_write(self, link: _Link) -> None:
        """Whatever goes wrong on a link ends it, and nothing else."""
        with link.writing:
            try:
                if self._schedule is None:
                    await self._write(link)
                else:
                    await self._write_on(self._schedule, link)
            except Exception as error:
                link.end(_failure(error))

    async def _write(self, link: _Link) -> None:
        """Send what `flush` could not; or a frame without content, when one is due."""
        while True:
            if link.queue:
                await trio.lowlevel.checkpoint()
            else:
                link.busy, link.wake = False, trio.Event()
                await link.wake.wait()
            await link.channel.send(())  # what an offer left
            if link.queue or link.keepalive_due:
                link.keepalive_due = False
                await link.channel.send(self._seal(link))

    async def _write_on(self, schedule: Schedule, link: _Link) -> None:
        """One frame at each of the schedule's times, whatever there is to say."""
        due = trio.current_time()
        while True:
            # What was late makes up for nothing: a burst after a pause would tell of the pause.
            due = max(trio.current_time(), due + self._wait_s(schedule))
            await trio.sleep_until(due)
            if not link.outbox:
                link.sealed = link.queue[0] if link.queue else b""
                link.outbox += self._seal(link)
            await link.channel.send((link.outbox.popleft(),))
            if not link.outbox:
                link.sealed = b""

    def _wait_s(self, schedule: Schedule) -> float:
        """From one event of a Poisson process to the next: exponentially distributed."""
        share = int.from_bytes(self._entropy(_SHARE_BYTES), "big") / (1 << 8 * _SHARE_BYTES)
        return -schedule.mean_interval_s * math.log1p(-share)

    def _seal(self, link: _Link) -> Sequence[bytes]:
        """The next frames to send: of what waits, as much as a batch holds, or one cell."""
        cells = self._schedule is not None
        link.sent_at = clock.now_ticks()
        words = link.echo.say(link.sent_at, self._entropy)
        messages: list[bytes] = []
        size, queue = 0, link.queue
        while queue and (
            _fits_cell(messages, size, queue[0], words) if cells else size < BATCH_BYTES
        ):
            raw = queue.popleft()
            messages.append(raw)
            size += len(raw)
        link.queue_bytes -= size
        link.session, frames = link.session.send(
            [*words, *messages], link.sent_at, self._entropy(STEP_ENTROPY_BYTES), cells=cells
        )
        traffic = self._traffic[link.peer]
        traffic.messages_out += len(messages)
        traffic.frames_out += len(frames)
        traffic.bytes_out += sum(map(len, frames))
        return frames

    # --- for people ---------------------------------------------------------------------------

    def _alarm(self, words: str) -> None:
        if self.alarms.add(words):
            log.error("alarm: %s", words)

    def _name(self, peer: bytes) -> str:
        return f"{self._book[peer].record.message.name} ({short(peer)})"

    def _statistics(self, peer: bytes, now_ticks: int) -> PeerStatistics:
        entry = self._book[peer]
        link = self._open.get(peer)
        record = entry.record.message
        conduct = self._book.conduct(peer, now_ticks)
        ban = self._book.barred(peer, now_ticks)
        if link is not None:
            state = "linked"
        elif ban is not None:
            state = "banned"
        elif entry.dialing:
            state = "dialling"
        else:
            is_due = entry.dial_at is not None and self._book.is_wanted(peer)
            state = "waiting" if is_due else "expected"
        return PeerStatistics(
            peer=peer,
            name=record.name,
            role="member" if entry.is_member else self.door.role(peer),
            state=state,
            outbound=None if link is None else link.outbound,
            remote=entry.dialing if link is None else link.channel.remote,
            linked_ticks=None if entry.link is None else now_ticks - entry.link.since_ticks,
            dial_in_ticks=None if entry.dial_at is None else max(0, entry.dial_at - now_ticks),
            rtt_ms=None if link is None else _rtt_ms(link),
            last_error=entry.last_error,
            last_event=conduct.last,
            last_event_ticks=None if conduct.last_ticks is None else now_ticks - conduct.last_ticks,
            score=conduct.score(now_ticks),
            reasons=tuple(_verdict(each, now_ticks) for each in conduct.reasons(now_ticks)),
            ban=None if ban is None else _outcast(ban, now_ticks),
            addresses=record.addresses,
            record_version=record.version,
            expires_s=record.expires_s,
            queued=0 if link is None else len(link.queue),
            traffic=replace(self._traffic[peer]),
        )


def _failure(error: Exception) -> LinkError:
    """The one place where what went wrong on a link becomes its reason."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # trio 0.22 wraps what ends a task before it has started
    if isinstance(error, LinkError):
        return error
    if isinstance(error, Breach):
        return Misconduct(str(error), Goodbye.HANDSHAKE)
    if isinstance(error, OwnKey):
        return LinkError(str(error), Goodbye.OWN_KEY)
    if isinstance(error, SessionError):
        return LinkError(str(error), Goodbye.HANDSHAKE)
    if isinstance(error, trio.TooSlowError):
        return LinkError("it did not prove in time who it is", Goodbye.HANDSHAKE, What.SILENT)
    log.error("a link met an error of this program", exc_info=error)
    return LinkError(f"an error of this program: {error!r:.200}; please report it with the log")


def _out(ban: Ban) -> str:
    """Why there is no link with somebody who is kept out."""
    if ban.by_hand:
        return "it is banned by hand; to have it linked again: aegis-edge peers unban"
    return f"it is kept out for a while, because {ban.reason}"


def _verdict(reason: Reason, now_ticks: int) -> Verdict:
    points = round(reason.left(now_ticks))
    return Verdict(reason.what.value, reason.count, points, now_ticks - reason.at_ticks)


def _outcast(ban: Ban, now_ticks: int) -> Outcast:
    left_ticks = None if ban.until_ticks == math.inf else int(ban.until_ticks - now_ticks)
    return Outcast(_out(ban), ban.by_hand, left_ticks)


def _rtt_ms(link: _Link) -> float:
    """What the transport believes a round trip to take; else what the link measured."""
    believed = link.channel.rtt_ms
    return float(link.round_trip_ticks) if believed is None else believed


def _fits_cell(messages: Sequence[bytes], size: int, raw: bytes, words: Sequence[bytes]) -> bool:
    """Whether `raw` goes with these messages of `size` bytes; one alone may take many cells."""
    size += sum(map(len, words)) + HEADER_BYTES * (len(messages) + len(words) + 1)
    room = CELL_CAPACITY_BYTES - size
    return not messages or len(raw) <= room


def _scheme(address: str) -> str:
    return address.partition(":")[0]

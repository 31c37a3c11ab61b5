"""Performs what the replica decides: one task owns it, one worker thread writes for it.

Knows how an effect is done, in which order it may be seen, and which caller waits for which bundle.
Refuses to know why: no quorum is counted here, no vote judged, no operation understood.
Follows: the contract of `pbft.events` (persist before send) and Castro and Liskov (OSDI '99).
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import trio

from aegis_edge.knowledge.operations import Barrier, Outcome
from aegis_edge.net.links import Arrived, LinkOpened
from aegis_edge.net.links import Event as LinkEvent
from aegis_edge.pbft.events import (
    Alarm,
    Bundled,
    Deliver,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Persist,
    Prune,
    Received,
    RootTaken,
    Send,
    SendCommitted,
    Submitted,
    TakeRoot,
    Tick,
)
from aegis_edge.peers.identity import node_id
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer, claimed_vote
from aegis_edge.wire.messages import (
    BUNDLE_BYTES_MAX,
    BUNDLE_OPERATIONS_MAX,
    OPERATION_BYTES_MAX,
    Message,
    Signed,
    Verified,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What may wait for a bundle, in operations and in bytes; more is refused with `Busy`.
PENDING_OPERATIONS_MAX = 16 * 1024
PENDING_BYTES_MAX = 16 * 1024 * 1024
#: How much time passes between two ticks while much is going on.
TICK_TICKS = 100
#: How long nothing must have happened before the state root is taken for `status`.
QUIET_TICKS = 300
#: What one burst handles before it looks at the clock and the callers again: messages of peers,
#: and for how long.
BURST_MESSAGES_MAX = 64
BURST_S = 0.02
#: The last alarms that `status` shows.
ALARMS_MAX = 16
#: How much of each envelope that proves an alarm goes to the log: all of a vote.
EVIDENCE_BYTES_LOGGED = 1024
#: Certificates sent at a time to a peer that catches up.
FETCH_BYTES_MAX = 1024 * 1024


class ReplicationError(Exception):
    """Why an operation was not confirmed; `code` for programs, `advice` for people."""

    code = "unavailable"
    advice = "try again"


class Busy(ReplicationError):
    """The queue of waiting operations is full; nothing was taken."""

    code = "busy"
    advice = "this node has more waiting writes than it can hold: slow down and try again"


class TooLarge(ReplicationError):
    """One operation is above the bound; nothing was taken."""

    code = "too_large"
    advice = "split the value: one entry holds at most 256 KiB"


class NoQuorum(ReplicationError):
    """Too few nodes are reachable.  `taken`: the operation may still happen when they return."""

    code = "no_quorum"
    advice = "start the missing nodes, or mend the network between them"

    def __init__(self, message: str, *, taken: bool) -> None:
        super().__init__(message)
        self.taken = taken


class Unconfirmed(ReplicationError):
    """No answer in time although a quorum is reachable; the operation may still happen."""

    code = "timeout"
    advice = "it may still happen: read the key before trying again"


class Stopped(ReplicationError):
    """The node is shutting down; the operation may or may not have happened."""

    code = "stopping"
    advice = "wait until the node runs again, and read the key before trying again"


class Halted(ReplicationError):
    """This node takes no part any more, for the reason in the message."""

    code = "halted"
    advice = "use another node, and mend this one: its log and `status` say what happened"


class Core(Protocol):
    """The replica as its performer sees it: `pbft.replica.Replica`, or a play in a test."""

    @property
    def view(self) -> int: ...
    @property
    def primary(self) -> bytes: ...
    @property
    def changing(self) -> bool: ...
    @property
    def halted(self) -> str | None: ...
    @property
    def executed(self) -> int: ...
    @property
    def stable(self) -> int: ...
    @property
    def wake_at(self) -> int | None: ...
    @property
    def bundle_room(self) -> int: ...
    def is_redundant(self, tag: int, fields: tuple[Any, ...]) -> bool: ...
    def step(self, event: Event) -> Sequence[Effect]: ...


class Store(Protocol):
    """The database as its performer sees it; all methods run in one worker thread.

    `perform` returns when every `Persist` among the steps is durable; a list of nothing but
    `Deliver` may wait for a later one.
    """

    def perform(self, steps: Sequence[Persist | Deliver | TakeRoot | Prune]) -> Sequence[Any]: ...
    def certificates(self, first: int, last: int, max_bytes: int) -> Sequence[bytes]: ...


class Wires(Protocol):
    """The links as their user sees them."""

    def post(self, peer: bytes, raw: bytes) -> None: ...
    def flush(self) -> None: ...
    def close(self, peer: bytes, reason: str) -> None: ...


#: Called once, from the owner's task, with the outcome of an operation or why there is none.
#: It must be quick and must not raise.
Done = Callable[["Outcome | ReplicationError"], None]


class LearningSigner:
    """A signer whose envelopes the opener knows already when they come back from others."""

    def __init__(self, signer: Signer, opener: Opener) -> None:
        self.public = signer.public
        self._signer = signer
        self._opener = opener

    def sign(self, message: Signed) -> Verified[Any]:
        """The message in its envelope."""
        signed = self._signer.sign(message)
        self._opener.learn(signed)
        return signed


class _RootForDisplay(TakeRoot):
    """A root that nobody but `status` waits for."""

    __slots__ = ()


class Ticket:
    """One waiting operation; `withdraw` it while it is in no bundle yet."""

    __slots__ = ("done", "operation", "taken")

    def __init__(self, operation: bytes, done: Done) -> None:
        self.operation = operation
        self.done: Done | None = done
        self.taken = False

    def withdraw(self) -> bool:
        """Ask for no answer any more; True if the operation certainly never happens."""
        self.done = None
        return not self.taken


@dataclass
class Counters:
    """What happened since the start; each only ever rises."""

    operations: int = 0
    own_operations: int = 0
    batches: int = 0
    transactions: int = 0
    messages_in: int = 0
    messages_out: int = 0
    refused: dict[bytes, int] = field(default_factory=dict)


class DatabaseThread:
    """The one thread that touches the database: jobs in order, each one to its end.

    A job's callback runs in the event loop with (result, error), soon after the job.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any, Any], None]] | None]
        self._jobs = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="database", daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        """Run `job` after all that were posted before."""
        self._jobs.put((job, done))

    async def call(self, job: Callable[[], T]) -> T:
        """Run `job`; its result, or what it raised.  Not cancellable: a job runs to its end."""
        finished = trio.Event()
        answer: list[Any] = []

        def done(result: Any, error: BaseException | None) -> None:
            answer.extend((result, error))
            finished.set()

        self.post(job, done)
        with trio.CancelScope(shield=True):
            await finished.wait()
        if answer[1] is not None:
            raise answer[1]
        return cast(T, answer[0])

    def close(self) -> None:
        """Finish what was posted, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:
                error = raised
            try:
                self._token.run_sync_soon(done, result, error)
            except trio.RunFinishedError:
                return


class Replication:
    """Owns the replica and the database of one node; everybody else talks to this.

    `key`: this node's public key; `names`: the members' keys and names, this node's among them;
    `read`: bytes of a link to a `Message`, raising `WireError`; `wall_ms`: Unix milliseconds;
    `revision`: the newest revision in `store`; `events`: what the links bring, after which they
    call `notify`.
    """

    def __init__(
        self,
        *,
        key: bytes,
        names: Mapping[bytes, str],
        quorum: int,
        faulty_max: int,
        core: Core,
        store: Store,
        wires: Wires,
        events: trio.MemoryReceiveChannel[LinkEvent],
        thread: DatabaseThread,
        read: Callable[[bytes], Message],
        revision: int = 0,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.key = key
        self.names = names
        self.quorum = quorum
        self.faulty_max = faulty_max
        self.counters = Counters()
        self.alarms: deque[dict[str, str]] = deque(maxlen=ALARMS_MAX)
        self.revision = revision
        self._core = core
        self._store = store
        self._wires = wires
        self._events = events
        self._thread = thread
        self._read = read
        self._wall_ms = wall_ms
        # What comes in.
        self._reachable: set[bytes] = set()
        self._link_events: deque[LinkUp | LinkDown] = deque()
        self._inboxes: dict[bytes, deque[bytes]] = {}
        self._inbox_count = 0
        self._poked = False
        self._sleeper: trio.lowlevel.Task | None = None
        self._timer = trio.CancelScope()
        self._wake_at: float = 0
        self._tick_at = 0
        # What callers wait for.
        self._pending: deque[Ticket] = deque()
        self._pending_bytes = 0
        self._forming: list[Ticket] = []
        self._bundles: dict[tuple[int, int], list[Ticket]] = {}
        self._room = trio.Event()
        self._moved = trio.Event()
        self._stopping = False
        self._ended = trio.Event()
        # What goes out: effects that wait for a write to begin, and those of the write under way.
        self._held: list[Effect] = []
        self._flying: list[Effect] | None = None
        self._landed: tuple[Any, BaseException | None] | None = None
        self._unsafe = 0
        self._serving: set[bytes] = set()  # peers with an answer to a fetch on its way
        # The state root for people: taken when nothing has happened for a moment.
        self.root = b""
        self.root_sequence = -1
        self._executed = core.executed
        self._quiet_at = 0

    # --- for callers ------------------------------------------------------------------------

    async def submit(self, operation: bytes, *, timeout_s: float = math.inf) -> Outcome:
        """Execute `operation` (encoded, see `knowledge.operations`); its `Outcome` once executed.

        By then it is readable here, and durable on a quorum.
        Raises `Busy`, `TooLarge`, `NoQuorum`, `Unconfirmed`, `Halted` or `Stopped`.
        """
        answer: list[Outcome | ReplicationError] = []
        answered = trio.Event()

        def done(outcome: Outcome | ReplicationError) -> None:
            answer.append(outcome)
            answered.set()

        ticket = self.enqueue(operation, done)
        try:
            with trio.move_on_after(timeout_s):
                await answered.wait()
        finally:
            untouched = ticket.withdraw()
        if not answer:
            raise self.late(timeout_s, taken=not untouched)
        if isinstance(answer[0], ReplicationError):
            raise answer[0]
        return answer[0]

    async def submit_many(
        self, operations: Sequence[bytes], *, timeout_s: float = math.inf
    ) -> list[Outcome]:
        """The outcomes of many operations, in their order; waits for room instead of refusing.

        Raises what `submit` raises; then some may have happened, in the order given.
        """
        outcomes: dict[int, Outcome] = {}
        answered = trio.Event()
        failed: list[ReplicationError] = []

        def done(outcome: Outcome | ReplicationError, index: int) -> None:
            if isinstance(outcome, ReplicationError):
                failed.append(outcome)
            else:
                outcomes[index] = outcome
            if failed or len(outcomes) == len(operations):
                answered.set()

        tickets: list[Ticket] = []
        try:
            with trio.move_on_after(timeout_s):
                for index, operation in enumerate(operations):
                    while True:
                        try:
                            ticket = self.enqueue(operation, partial(done, index=index))
                            break
                        except Busy:
                            await self.room()
                    tickets.append(ticket)
                if operations:
                    await answered.wait()
        finally:
            untouched = [ticket.withdraw() for ticket in tickets]
        if failed:
            raise failed[0]
        if len(outcomes) < len(operations):
            raise self.late(timeout_s, taken=not all(untouched))
        return [outcomes[index] for index in range(len(operations))]

    def enqueue(self, operation: bytes, done: Done) -> Ticket:
        """The fast path: `done(outcome)` is called later from the owner's task.

        Raises `Busy` (see `room`), `TooLarge`, `Halted` or `Stopped`; then `done` is never called.
        When the node halts or stops before an answer, `done` gets that error, not an outcome.
        """
        if self._stopping:
            raise Stopped("this node is stopping")
        if self._core.halted is not None:
            raise Halted(self._core.halted)
        size = len(operation)
        if size > OPERATION_BYTES_MAX:
            raise TooLarge(f"an operation of {size} bytes; the bound is {OPERATION_BYTES_MAX}")
        if (
            len(self._pending) >= PENDING_OPERATIONS_MAX
            or self._pending_bytes + size > PENDING_BYTES_MAX
        ):
            raise Busy(f"{len(self._pending)} operations wait already")
        ticket = Ticket(operation, done)
        self._pending.append(ticket)
        self._pending_bytes += size
        self.notify()
        return ticket

    async def room(self) -> None:
        """Return when `enqueue` would not answer `Busy`, for any size of operation."""
        while not self._stopping and (
            len(self._pending) >= PENDING_OPERATIONS_MAX
            or self._pending_bytes + OPERATION_BYTES_MAX > PENDING_BYTES_MAX
        ):
            await self._room.wait()

    async def barrier(self, *, timeout_s: float = math.inf) -> None:
        """Return when all that was acknowledged anywhere before the call is readable here."""
        await self.submit(Barrier().encode(), timeout_s=timeout_s)

    async def read(self, query: Callable[[Any], T]) -> T:
        """Run `query(database)` in the database's thread, between two transactions."""
        return await self._thread.call(lambda: query(self._store))

    async def revision_after(self, revision: int) -> int:
        """The newest revision, as soon as it is above `revision`: level-triggered, no polling."""
        while self.revision <= revision:
            await self._moved.wait()
        return self.revision

    def late(self, timeout_s: float, *, taken: bool) -> ReplicationError:
        """Why an operation has no answer after `timeout_s`; `taken`: it is in a bundle already."""
        if not self.has_quorum:
            return NoQuorum(self.no_quorum_text(), taken=taken)
        return Unconfirmed(f"not confirmed within {timeout_s:g} s")

    @property
    def has_quorum(self) -> bool:
        """True if enough nodes are reachable, this one included, for anything to be agreed on."""
        return len(self._reachable) + 1 >= self.quorum

    def no_quorum_text(self) -> str:
        """Who is missing, for a person to read."""
        missing = [
            name
            for key, name in sorted(self.names.items(), key=lambda item: item[1])
            if key != self.key and key not in self._reachable
        ]
        return (
            f"no quorum: {len(self._reachable) + 1} of {len(self.names)} nodes reachable;"
            f" waiting for {', '.join(missing)}"
        )

    def status(self) -> dict[str, Any]:
        """Where this node stands, in plain values; other members go by their names."""
        core, counters = self._core, self.counters
        return {
            "id": node_id(self.key),
            "name": self.names[self.key],
            "nodes": len(self.names),
            "faulty_max": self.faulty_max,
            "quorum": self.quorum,
            "has_quorum": self.has_quorum,
            "reachable": sorted(self.names[key] for key in self._reachable),
            "view": core.view,
            "primary": node_id(core.primary),
            "primary_name": self.names[core.primary],
            "view_changing": core.changing,
            "halted": core.halted,
            "executed": core.executed,
            "stable": core.stable,
            "state_root": self.root.hex(),
            "state_root_executed": self.root_sequence,
            "revision": self.revision,
            "pending": len(self._pending) + sum(map(len, self._bundles.values())),
            "operations": counters.operations,
            "own_operations": counters.own_operations,
            "batches": counters.batches,
            "transactions": counters.transactions,
            "messages_in": counters.messages_in,
            "messages_out": counters.messages_out,
            "refused": {self.names[key]: count for key, count in counters.refused.items()},
            "alarms": list(self.alarms),
        }

    # --- for the node -----------------------------------------------------------------------

    def notify(self) -> None:
        """Something happened, in the channel of events perhaps: the owner shall look."""
        self._poked = True
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the replica until cancelled or `stop`.  Raises what the database raises."""
        task_status.started()
        self._quiet_at = _now_ticks() + QUIET_TICKS
        try:
            while not self._is_over:
                with trio.CancelScope() as self._timer:
                    await self._work()
        finally:
            self._stopping = True
            self._room.set()
            self._refuse_all(Stopped("this node stopped before the operation was confirmed"))
            self._ended.set()

    async def stop(self) -> None:
        """Take nothing more; return when the write under way is done and `run` has ended."""
        self._stopping = True
        self.notify()
        await self._ended.wait()

    # --- the loop ---------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._stopping and self._flying is None

    async def _work(self) -> None:
        """A burst whenever something happened, until the end, or until the timer ends it."""
        while not self._is_over:
            self._poked = False
            if self._burst():
                await trio.lowlevel.checkpoint()
            else:
                await self._sleep()

    def _burst(self) -> bool:
        """Handle what is there; True if more is waiting."""
        if self._landed is not None:
            self._land()
        if self._stopping:
            return self._flying is None
        now_ticks = _now_ticks()
        is_tick = now_ticks >= min(self._wake_at, self._tick_at + TICK_TICKS)
        if is_tick:
            self._tick_at = now_ticks
            self._step(Tick(now_ticks, self._wall_ms()))
        is_more = self._hear_all()
        while self._link_events:
            self._step(self._link_events.popleft())
        if self._inbox_count:
            self._open_mail()
        if self._pending:
            self._bundle()
        if self._flying is None:
            if not self._held and self._root_due <= now_ticks:
                self._held.append(_RootForDisplay(self._executed))
            if self._held:
                self._write()
        self._wires.flush()
        self._set_timer(is_tick)
        return is_more or self._inbox_count > 0 or self._landed is not None

    def _set_timer(self, is_tick: bool) -> None:
        """Wake when the replica wants to be; it is asked at ticks only, for asking is not cheap."""
        wake_at: float = self._tick_at + TICK_TICKS
        if is_tick:
            wake_at = math.inf if self._core.wake_at is None else self._core.wake_at
            wake_at = max(min(wake_at, self._root_due), self._tick_at + 1)
        if wake_at != self._wake_at or self._timer.deadline == math.inf:
            self._wake_at = wake_at
            self._timer.deadline = (wake_at + 0.5) / 1000

    async def _sleep(self) -> None:
        """Until `notify`; cheaper than an event."""
        if self._poked:
            await trio.lowlevel.checkpoint()
            return
        self._sleeper = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    @property
    def _root_due(self) -> float:
        """The tick at which to take a root for display, if nothing happens before."""
        if self._flying is not None or self.root_sequence == self._executed:
            return math.inf
        return self._quiet_at

    def _step(self, event: Event) -> None:
        self._take(self._core.step(event))

    def _take(self, effects: Sequence[Effect]) -> None:
        """Do what may be done at once; hold what must wait for a write, in order."""
        for effect in effects:
            if isinstance(effect, Send):
                if self._unsafe or not self._serving.isdisjoint(effect.peers):
                    self._held.append(effect)
                else:
                    self._send(effect)
            elif isinstance(effect, SendCommitted):
                # One answer at a time to each peer: what it asked for last is what counts.
                self._held = [
                    e
                    for e in self._held
                    if not (isinstance(e, SendCommitted) and e.peer == effect.peer)
                ]
                self._serving.add(effect.peer)
                self._held.append(effect)
            elif isinstance(effect, Bundled):
                self._bundles[effect.incarnation, effect.number] = self._forming
                self._forming = []
            elif isinstance(effect, Alarm):
                self._alarm(effect)
            else:
                self._unsafe += isinstance(effect, Persist)
                self._held.append(effect)

    def _send(self, effect: Send) -> None:
        self.counters.messages_out += len(effect.peers)
        for peer in effect.peers:
            self._wires.post(peer, effect.raw)

    def _alarm(self, effect: Alarm) -> None:
        about = self.names.get(effect.about, effect.about.hex())
        log.error(
            "alarm about %s: %s (envelopes of evidence: %s)",
            about,
            effect.reason,
            " ".join(raw[:EVIDENCE_BYTES_LOGGED].hex() for raw in effect.evidence) or "none",
        )
        self.alarms.append({"about": about, "reason": effect.reason})
        if self._core.halted is not None:
            self._refuse_all(Halted(self._core.halted))

    # --- from the links ---------------------------------------------------------------------

    def _hear_all(self) -> bool:
        """Take what the links brought, a bounded burst of it; True if there may be more."""
        while self._inbox_count < BURST_MESSAGES_MAX:
            try:
                self._hear(self._events.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return False
        return True

    def _hear(self, event: LinkEvent) -> None:
        if isinstance(event, Arrived):
            self._inboxes.setdefault(event.peer, deque()).append(event.raw)
            self._inbox_count += 1
        elif isinstance(event, LinkOpened):
            self._reachable.add(event.peer)
            self._link_events.append(LinkUp(event.peer))
        else:
            self._reachable.discard(event.peer)
            self._link_events.append(LinkDown(event.peer))

    def _open_mail(self) -> None:
        """One message of each peer in turn, so that none of them can starve the others."""
        inboxes = self._inboxes
        until = trio.current_time() + BURST_S
        while inboxes and trio.current_time() < until:
            for peer in list(inboxes):
                inbox = inboxes[peer]
                raw = inbox.popleft()
                self._inbox_count -= 1
                if not inbox:
                    del inboxes[peer]
                self._open(peer, raw)

    def _open(self, peer: bytes, raw: bytes) -> None:
        self.counters.messages_in += 1
        claim = claimed_vote(raw)
        if claim is not None and self._core.is_redundant(*claim):
            return
        try:
            message = self._read(raw)
        except WireError as error:
            self.counters.refused[peer] = self.counters.refused.get(peer, 0) + 1
            log.warning("%s sent what is no message: %s", self.names.get(peer, "?"), error)
            self._inbox_count -= len(self._inboxes.pop(peer, ()))
            self._wires.close(peer, f"it sent what is no message: {error}")
            return
        self._step(Received(peer, message))

    # --- from the callers -------------------------------------------------------------------

    def _bundle(self) -> None:
        """Give the replica what waits, as much as a bundle holds, while it has room."""
        pending = self._pending
        while pending and pending[0].done is None:  # whoever waited for these has given up
            self._pending_bytes -= len(pending.popleft().operation)
        while pending and self.has_quorum and self._core.bundle_room > 0:
            size = 0
            while pending and len(self._forming) < BUNDLE_OPERATIONS_MAX:
                ticket = pending[0]
                if ticket.done is not None:
                    size += len(ticket.operation)
                    if size > BUNDLE_BYTES_MAX:
                        break
                    ticket.taken = True
                    self._forming.append(ticket)
                pending.popleft()
                self._pending_bytes -= len(ticket.operation)
            if self._forming:
                self._step(Submitted(tuple(ticket.operation for ticket in self._forming)))
                assert not self._forming, "a replica answers each Submitted with Bundled"
        if self._room.statistics().tasks_waiting:
            self._room.set()
            self._room = trio.Event()

    def _refuse_all(self, error: ReplicationError) -> None:
        waiting = [*self._pending, *(t for tickets in self._bundles.values() for t in tickets)]
        self._pending.clear()
        self._pending_bytes = 0
        self._bundles.clear()
        for ticket in waiting:
            if ticket.done is not None:
                ticket.done(error)

    # --- to the disk ------------------------------------------------------------------------

    def _write(self) -> None:
        """Hand the database everything that waits for it, in one go."""
        group, self._held = self._split(self._held)
        self._flying = group
        steps = [e for e in group if isinstance(e, (Persist, Deliver, TakeRoot, Prune))]
        fetches = [e for e in group if isinstance(e, SendCommitted)]
        store = self._store

        def job() -> tuple[Sequence[Any], list[Sequence[bytes]]]:
            results = store.perform(steps) if steps else ()
            return results, [store.certificates(f.first, f.last, FETCH_BYTES_MAX) for f in fetches]

        def done(result: Any, error: BaseException | None) -> None:
            self._landed = (result, error)
            self.notify()

        self.counters.transactions += 1
        self._thread.post(job, done)

    def _split(self, held: list[Effect]) -> tuple[list[Effect], list[Effect]]:
        """What goes to the database in one go: all, up to a second answer to some peer's fetch."""
        fetches = [i for i, effect in enumerate(held) if isinstance(effect, SendCommitted)]
        end = fetches[1] if len(fetches) > 1 else len(held)
        return held[:end], held[end:]

    def _land(self) -> None:
        """A write is done, its records durable: perform what waited for it, in order."""
        assert self._landed is not None and self._flying is not None
        (result, error), group = self._landed, self._flying
        self._landed = self._flying = None
        if error is not None:
            raise error
        results, certificates = iter(result[0]), iter(result[1])
        roots: list[RootTaken] = []
        for effect in group:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, SendCommitted):
                answer = next(certificates)
                for raw in answer:
                    self._wires.post(effect.peer, raw)
                if not answer:
                    self._cannot_help(effect.peer)
            else:
                value = next(results)
                if isinstance(effect, Deliver):
                    self._delivered(effect, value)
                elif isinstance(effect, TakeRoot):
                    self.root, self.root_sequence = value, effect.sequence
                    if not isinstance(effect, _RootForDisplay):
                        roots.append(RootTaken(effect.sequence, value))
        held, self._held, self._unsafe = self._held, [], 0
        self._serving.clear()
        self._take(held)
        for root in roots:
            self._step(root)

    def _cannot_help(self, peer: bytes) -> None:
        """A member was away for so long that the batches it missed are no longer kept here."""
        about = self.names.get(peer, peer.hex())
        alarm = {"about": about, "reason": "it missed more than this node still keeps"}
        if alarm not in self.alarms:
            log.error("alarm about %s: it missed more batches than this node still keeps", about)
            self.alarms.append(alarm)

    def _delivered(self, effect: Deliver, outcomes: Sequence[Sequence[Any]]) -> None:
        """Answer the callers whose bundles were executed, and wake those who watch."""
        self.counters.batches += 1
        self._executed = effect.sequence
        self._quiet_at = _now_ticks() + QUIET_TICKS
        newest = self.revision
        for bundle, of_bundle in zip(effect.bundles, outcomes, strict=True):
            self.counters.operations += len(of_bundle)
            newest = max([newest, *(o.revision for o in of_bundle)])
            if bundle.signer != self.key:
                continue
            name = (bundle.message.incarnation, bundle.message.number)
            tickets = self._bundles.pop(name, ())
            self.counters.own_operations += len(tickets)
            for ticket, outcome in zip(tickets, of_bundle, strict=False):
                if ticket.done is not None:
                    ticket.done(outcome)
        if newest > self.revision:
            self.revision = newest
            if self._moved.statistics().tasks_waiting:
                self._moved.set()
                self._moved = trio.Event()


def _now_ticks() -> int:
    return int(trio.current_time() * 1000)

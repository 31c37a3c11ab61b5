"""Performs what the replica decides: one task owns it, one worker thread writes for it.

Knows how an effect is done, and in which order it may be seen.
Refuses to know why: no vote is counted or judged here, no operation understood; it knows who is
reachable, and without a quorum of them nothing new is begun.
Follows: the contract of `pbft.events` (persist before send) and Castro and Liskov (OSDI '99).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import trio

from aegis_edge import proof
from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.disk.thread import DatabaseThread
from aegis_edge.knowledge.agreed import PARAMETERS, Agreed
from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.operations import Barrier, Outcome
from aegis_edge.knowledge.parts import ROWS, row_item
from aegis_edge.knowledge.roll import Roll
from aegis_edge.knowledge.state import Rotten
from aegis_edge.net import clock, links
from aegis_edge.net.alarms import Alarms
from aegis_edge.net.links import Arrived, LinkOpened
from aegis_edge.net.links import Event as LinkEvent
from aegis_edge.net.poller import Poller
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import (
    Alarm,
    Asked,
    BatchesGone,
    Bundled,
    Confirmed,
    Deliver,
    Effect,
    Event,
    Foresee,
    HangUp,
    InstallState,
    Introduce,
    JudgePart,
    LinkDown,
    LinkUp,
    Measured,
    MendRows,
    PartSent,
    Prune,
    Received,
    RootTaken,
    RowsMended,
    RowsRotten,
    Send,
    SendCommitted,
    SendPart,
    Settle,
    Settled,
    Step,
    Submitted,
    TakeRoot,
    Tick,
)
from aegis_edge.pbft.execution import START_AGAIN
from aegis_edge.pbft.followers import FOLLOWERS_MAX
from aegis_edge.pbft.pace import bundle_bytes_max
from aegis_edge.pbft.quorum import witnesses
from aegis_edge.peers.identity import node_id, short
from aegis_edge.replication.callers import Callers, Done, Ticket
from aegis_edge.replication.checkpoints import Checkpoints
from aegis_edge.replication.errors import (
    Busy,
    Damaged,
    Halted,
    NoLineage,
    NoMember,
    NoQuorum,
    Outlived,
    ReplicationError,
    Stopped,
    Unconfirmed,
)
from aegis_edge.replication.inbox import Inbox
from aegis_edge.replication.port import Core, Store, Wires
from aegis_edge.replication.readers import Readers
from aegis_edge.replication.shares import Shares
from aegis_edge.replication.steps import Steps
from aegis_edge.replication.writes import Writes
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import claimed
from aegis_edge.wire.messages import Message, StatePart

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How much time passes between two ticks while much is going on.
TICK_TICKS = 100
#: How long nothing must have happened before the state root is taken for `status`.
QUIET_TICKS = 300
#: What one burst handles before it looks at the callers again: messages of peers, and for how long;
#: both may be exceeded by one more of each peer.
BURST_MESSAGES_MAX = 64
BURST_S = 0.02
#: How much of each envelope that proves an alarm goes to the log: all of a vote.
EVIDENCE_BYTES_LOGGED = 1024
#: What the owner is told once a row is not as it was written.
ROT = "its disk spoils what was written: copy it to another one, and replace it"


@dataclass
class Counters:
    """What happened since the start; each only ever rises."""

    operations: int = 0
    own_operations: int = 0
    batches: int = 0
    transactions: int = 0
    messages_in: int = 0
    messages_out: int = 0
    #: Rows that the disk spoilt, and that others gave back; whole walks over the database.
    mended: int = 0
    scrubs: int = 0
    refused: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Members:
    """Who takes part: `names` has what people call each of them, `own_name` is this node's.

    `parameters` are those that go with the `configuration`, for which the members `agreed` on some.
    """

    configuration: Configuration
    parameters: Parameters
    names: Mapping[bytes, str]
    own_name: str
    agreed: tuple[Agreed, ...] = ()


class Replication:
    """Owns the replica and the database of one node; everybody else talks to this.

    `key`: this node's public key; `members`: who takes part, and `settle` what follows from another
    roll, called before anything is done among those members;
    `read`: bytes of a link to a `Message`, raising `WireError`; `wall_ms`: Unix milliseconds;
    `revision`: the newest revision in `store`;
    `poller`: is ready when `wires` have something;
    `alarms`: where others, such as the links, raise theirs too; `busy_s`: seconds that this thread
    has used of the processor.
    """

    def __init__(
        self,
        *,
        key: bytes,
        members: Members,
        settle: Callable[[Roll], Members],
        core: Core,
        store: Store,
        wires: Wires,
        poller: Poller[Any],
        thread: DatabaseThread,
        read: Callable[[bytes], Message],
        revision: int = 0,
        alarms: Alarms | None = None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        busy_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self.key = key
        #: It was invited to follow, and to be no member.
        self.is_observer = False
        #: As of the last batch that is durable here.
        self.members = members
        self._settle = settle
        self.counters = Counters()
        self.alarms = Alarms() if alarms is None else alarms
        self.revision = revision
        self._core = core
        self._store = store
        self._wires = wires
        self._poller = poller
        self._thread = thread
        self._read = read
        self._wall_ms = wall_ms
        self._busy_s = busy_s
        # What comes in.
        self._reachable: set[bytes] = set()
        self._inbox = Inbox(lambda peer: peer in self.members.configuration)
        self._shares = Shares(self.nodes)
        self._wanted: frozenset[bytes] | None = None
        self._poked = False
        self._timer = trio.CancelScope()
        self._wake_at: float = 0
        self._tick_at = 0
        self._callers = Callers(bundle_bytes_max(members.parameters))
        self._readers = Readers()
        self._checkpoints = Checkpoints()
        self._is_stirring = False
        self._moved = trio.Event()
        self._stopping = False
        self._ended = trio.Event()
        # What goes out.
        self._writes = Writes()
        self._landed: tuple[Any, BaseException | None] | None = None
        # What a read met on the disk.
        self._rotten: list[bytes] = []
        self._lost: DatabaseDamaged | Outlived | None = None
        self._rows_from = -1  # a checkpoint after so many batches has what is wanted of them
        # The state root for people: taken when nothing has happened for a moment.
        self.root = b""
        self.root_sequence = -1
        self._executed = core.executed
        self._quiet_at = 0
        # What the log said last of who leads.
        self._leading = core.view, core.changing
        self._steps = Steps(key) if log.isEnabledFor(logging.DEBUG) else None

    # --- for callers ------------------------------------------------------------------------

    async def submit(
        self, operation: bytes, *, timeout_s: float = math.inf, of_members: bool = False
    ) -> Outcome:
        """Execute `operation` (encoded, see `knowledge.operations`); its `Outcome` once executed.

        By then it is readable here, and durable on a quorum.  `of_members`: it is about members.
        Raises `Busy`, `TooLarge`, `NoQuorum`, `NoMember`, `Unconfirmed`, `Halted` or `Stopped`.
        """
        answer: list[Outcome | ReplicationError] = []
        answered = trio.Event()

        def done(outcome: Outcome | ReplicationError) -> None:
            answer.append(outcome)
            answered.set()

        ticket = self.enqueue(operation, done, of_members=of_members)
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

    def enqueue(self, operation: bytes, done: Done, *, of_members: bool = False) -> Ticket:
        """The fast path: `done(outcome)` is called later from the owner's task.

        Raises `Busy` (see `room`), `TooLarge`, `NoMember`, `Halted` or `Stopped`; then `done` is
        never called.
        When the node halts or stops before an answer, `done` gets that error, not an outcome.
        """
        self._check_that_it_runs()
        if not self.is_member:
            raise NoMember(self.no_member_text())
        ticket = self._callers.enqueue(operation, done, of_members=of_members)
        self.notify()
        return ticket

    async def room(self) -> None:
        """Return when `enqueue` would not answer `Busy`, for any size of operation."""
        await self._callers.room()

    async def barrier(self, *, timeout_s: float = math.inf) -> None:
        """Return when all that was acknowledged anywhere before the call is readable here.

        The members are asked how far they are; if too few answer, it takes a batch of nothing.
        Raises `Busy`, `NoQuorum`, `Unconfirmed`, `Halted` or `Stopped`.
        """
        with trio.move_on_after(timeout_s):
            self._check_that_it_runs()
            self.notify()
            if not await self._readers.wait():
                await self.submit(Barrier().encode())
            return
        raise self.late(timeout_s, taken=False)

    async def read(self, query: Callable[[Any], T]) -> T:
        """Run `query(database)` in the database's thread, between two transactions.

        Raises `Damaged` if it meets what the disk spoilt, which is fetched from the others then.
        """
        try:
            return await self._thread.call(lambda: query(self._store))
        except Rotten as error:
            self.alarms.add(ROT, about=self.name(self.key))
            self._rotten += error.labels
            self.notify()
            raise Damaged(f"{len(error.labels)} of its rows are damaged on this disk") from error
        except DatabaseDamaged as error:
            self._lost = error
            self.notify()
            raise

    async def prove(self, key: str, *, timeout_s: float = math.inf) -> bytes:
        """A proof (`aegis_edge.proof`) of what `key` has, no older than what is readable here now.

        If it changed since the last checkpoint, that takes another one, which this node brings
        about if it is a member.  Raises `NoQuorum`, `NoLineage`, `Unconfirmed`, `Halted`, `Stopped`
        or `Unprovable`.
        """
        with trio.move_on_after(timeout_s):
            revision = await self.read(lambda store: store.newest(key))
            while True:
                self._check_that_it_runs()
                news, signed = self._checkpoints.news, self._core.stable_checkpoint
                # Where a configuration begins nothing is signed, and at 0 there is no checkpoint.
                sequence = self._core.stable if signed else 0
                shown = await self.read(partial(_show, key, sequence, revision))
                if shown is not None:
                    number = signed[0].message.configuration
                    made = proof.make(shown, signed, await self._lineage(number))
                    if len(made) <= proof.PROOF_BYTES_MAX:
                        return made
                    raise NoLineage(f"the members changed {number} times: too often for a proof")
                with self._checkpoints.wanted(self._executed):
                    self.notify()
                    await news.wait()
        if self.is_member:
            raise self.late(timeout_s, taken=False)
        raise Unconfirmed(
            f"{key} changed since the last checkpoint, and only members bring about the next one"
        )

    async def _lineage(self, number: int) -> tuple[bytes, ...]:
        """What leads from the genesis to the members of configuration `number`."""
        handovers: tuple[bytes, ...] = await self.read(lambda store: store.handovers(number))
        if len(handovers) < number:
            raise NoLineage(f"only {len(handovers)} of {number} changes of members are proven here")
        return handovers

    def _check_that_it_runs(self) -> None:
        if self._stopping:
            raise Stopped("this node is stopping")
        if self._core.halted is not None:
            raise Halted(self._core.halted)

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
        """True if enough members are reachable, with this one, for anything to be agreed on."""
        return self.is_member and self._here >= self.members.configuration.quorum

    @property
    def is_member(self) -> bool:
        """Whether this node takes part; else it only follows."""
        return self.key in self.members.configuration

    @property
    def agreed_ms(self) -> int:
        """The agreed time of the last batch, Unix milliseconds."""
        return self._core.time_ms

    def behind(self, peer: bytes) -> int | None:
        """How many batches `peer` lacks that follows this node, as it said last; None if it is none
        of those that are fed here.
        """
        after = self._core.reached.get(peer)
        return None if after is None else max(0, self._core.executed - after)

    @property
    def nodes(self) -> int:
        """How many members there are."""
        return len(self.members.configuration.members)

    @property
    def _here(self) -> int:
        return len(self._reachable & self.members.names.keys()) + self.is_member

    def name(self, key: bytes) -> str:
        """What people call a node, which may be a member no more."""
        return self.members.names.get(key) or short(key)

    def no_member_text(self) -> str:
        """What this node is, if it is none of the members; for a person to read."""
        if self.is_observer:
            return (
                "this board is an observer: it reads what the members agree on, and writes nothing;"
                " write on a member's board, or have a member invite this one: aegis-edge invite"
                " there, and aegis-edge join here"
            )
        return (
            f"this node is no member of the cluster: it follows {self.nodes}, and takes part once"
            " they have admitted it"
        )

    def no_quorum_text(self) -> str:
        """Who is missing, for a person to read."""
        missing = [
            name
            for key, name in sorted(self.members.names.items(), key=lambda item: item[1])
            if key != self.key and key not in self._reachable
        ]
        return (
            f"no quorum: {self._here} of {self.nodes} nodes reachable;"
            f" waiting for {', '.join(missing)}"
        )

    def status(self) -> dict[str, Any]:
        """Where this node stands, in plain values; other members go by their names."""
        core, counters = self._core, self.counters
        configuration = self.members.configuration
        reachable = self._reachable & self.members.names.keys()
        return {
            "id": node_id(self.key),
            "name": self.members.own_name,
            "is_member": self.is_member,
            "is_observer": self.is_observer and not self.is_member,
            "configuration": configuration.number,
            "nodes": self.nodes,
            "faulty_max": configuration.f,
            "quorum": configuration.quorum,
            "has_quorum": self.has_quorum,
            "reachable": sorted(map(self.name, reachable)),
            "view": core.view,
            "primary": node_id(core.primary),
            "primary_name": self.name(core.primary),
            "view_changing": core.changing,
            "halted": core.halted,
            "learning": core.learning,
            "follows": self._follows(),
            "transfer": self._transfer(),
            "executed": core.executed,
            "stable": core.stable,
            "state_root": self.root.hex(),
            "state_root_executed": self.root_sequence,
            "revision": self.revision,
            "pending": len(self._callers),
            "operations": counters.operations,
            "own_operations": counters.own_operations,
            "batches": counters.batches,
            "transactions": counters.transactions,
            "rotten": core.rotten,
            "mended": counters.mended,
            "scrubs": counters.scrubs,
            "messages_in": counters.messages_in,
            "messages_out": counters.messages_out,
            "refused": {self.name(key): count for key, count in counters.refused.items()},
            "alarms": [*self.alarms.kept(), *self._learning_alarm()],
        }

    def _follows(self) -> dict[str, Any] | None:
        """Of a node without a vote: whom it follows, and how stale what it has to read may be.

        `behind`: so many batches less than it was told of; `hops`: those who hand the log on to it.
        """
        source = self._core.source
        if source is None:
            return None
        key, hops, behind = source
        return {"source": self.name(key) if key else None, "hops": hops, "behind": behind}

    def _transfer(self) -> dict[str, int] | None:
        """While the state of others is fetched: up to which batch, and how far that is."""
        progress = self._core.transfer_progress
        return (
            None if progress is None else dict(zip(("to", "done", "parts"), progress, strict=True))
        )

    def _learning_alarm(self) -> Iterator[dict[str, str]]:
        until = self._core.learning
        if until is not None:
            configuration = self.members.configuration
            heard = witnesses(self.nodes, configuration.f)
            when = (
                f"batch {until} is stable, which takes {configuration.quorum} nodes that remember"
                " theirs"
                if until
                else f"it has heard {heard} of the others"
            )
            if self.nodes == 1:
                when = (
                    "others show it who came since; if nobody ever did, stop it, and start it with"
                    " `aegis-edge run --alone`"
                )
            reason = f"this node lost its memory of votes: it follows, and votes again once {when}"
            yield {"about": self.members.own_name, "reason": reason}

    # --- for the node -----------------------------------------------------------------------

    def notify(self) -> None:
        """Something happened: the owner shall look.  From any thread."""
        if not self._poked:
            self._poked = True
            self._poller.wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the replica until cancelled or `stop`.

        Raises what the database raises, and `Outlived` where only a new life can go on.
        """
        task_status.started()
        self._quiet_at = clock.now_ticks() + QUIET_TICKS
        try:
            while not self._is_over:
                with trio.CancelScope() as self._timer:
                    await self._work()
        finally:
            self._stopping = True
            self._callers.refuse(Stopped("this node stopped before the operation was confirmed"))
            self._readers.refuse()
            self._checkpoints.tell()
            self._ended.set()

    async def stop(self) -> None:
        """Take nothing more; return when the write under way is done and `run` has ended."""
        self._stopping = True
        self.notify()
        await self._ended.wait()

    # --- the loop ---------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._stopping and not self._writes.under_way

    async def _work(self) -> None:
        """A burst whenever something happened, until the end, or until the timer ends it."""
        while not self._is_over:
            self._poked = False
            if self._burst():
                await trio.lowlevel.checkpoint()
            else:
                await self._poller.wait()

    def _burst(self) -> bool:
        """Handle what is there; True if more is waiting."""
        if self._landed is not None:
            self._land()
        if self._lost is not None:
            raise self._lost
        if self._rotten:
            self._mend()
        if self._stopping:
            self._wires.receive()  # or the poller would not wait
            return not self._writes.under_way
        now_ticks = clock.now_ticks()
        is_tick = now_ticks >= min(self._wake_at, self._tick_at + TICK_TICKS)
        if is_tick:
            self._tick_at = now_ticks
            self._step(Tick(now_ticks, self._wall_ms()))
        if self._shares.resting:
            for peer in self._shares.rested(trio.current_time()):
                self._wires.resume(peer)
        self._hear_and_open()
        lacks = self._core.learning is not None or self._checkpoints.is_lacking or self._lacks_rows
        if lacks and self.is_member:
            self._stir()
        self._ask()
        self._bundle()
        if self._core.wants != self._wanted:
            self._wanted = self._core.wants
            self._wires.want(self._wanted)
        if not self._writes.under_way:
            if not self._writes.waiting and self._root_due <= now_ticks:
                self._writes.hold(TakeRoot(self._executed, is_signed=False))
            if self._writes.waiting:
                self._write()
        self._wires.flush()
        self._set_timer(is_tick)
        return self._inbox.has_mail(but=self._shares.resting) or self._landed is not None

    @property
    def _lacks_rows(self) -> bool:
        """Whether rows are wanted that others have at the next checkpoint only."""
        return self._core.rotten > 0 and self._checkpoints.is_after(self._rows_from)

    def _mend(self) -> None:
        """Have the rows that were found rotten fetched from the others."""
        rotten, self._rotten = dict.fromkeys(self._rotten), []
        known = self._core.rotten
        self._step(RowsRotten(ROWS, tuple(row_item(label, 0) for label in rotten)))
        if self._core.rotten > known:
            log.error("the disk spoilt rows: %d are to be fetched from others", self._core.rotten)
        if not self._core.stable_checkpoint:
            self._rows_from = self._executed

    def _set_timer(self, is_tick: bool) -> None:
        """Wake when the replica wants to be, or when somebody has rested.

        The replica is asked at ticks only, for asking is not cheap.
        """
        wake_at: float = self._tick_at + TICK_TICKS
        if is_tick:
            wake_at = math.inf if self._core.wake_at is None else self._core.wake_at
            wake_at = max(min(wake_at, self._root_due), self._tick_at + 1)
        resting = self._shares.resting
        if wake_at != self._wake_at or resting or self._timer.deadline == math.inf:
            self._wake_at = wake_at
            self._timer.deadline = min((wake_at + 0.5) / 1000, self._shares.wake_at)

    @property
    def _root_due(self) -> float:
        """The tick at which to take a root for display, if nothing happens before."""
        if self._writes.under_way or self.root_sequence == self._executed:
            return math.inf
        return self._quiet_at

    def _step(self, event: Event) -> Sequence[Effect]:
        """Tell the replica of `event`, and do what it wants; gives that."""
        effects = self._core.step(event)
        if self._steps is not None:
            self._steps.note(effects)
        self._take(effects)
        self._tell_of_leader()
        return effects

    def _tell_of_leader(self) -> None:
        """A change of leader is worth a line in the log."""
        core = self._core
        if (core.view, core.changing) != self._leading:
            self._leading = core.view, core.changing
            what = "is to lead, once enough agree" if core.changing else "leads"
            log.info("view %d: %s %s", core.view, self.name(core.primary), what)

    def _take(self, effects: Sequence[Effect]) -> None:
        """Do what may be done at once; the rest waits for a write, in order."""
        for effect in effects:
            if isinstance(effect, Send):
                now, later = self._writes.part(effect)
                if now is not None:
                    self._send(now)
                if later is not None:
                    self._writes.hold(later)
            elif isinstance(effect, Bundled):
                self._callers.bundled(effect.incarnation, effect.number)
            elif isinstance(effect, Confirmed) and not self._writes.are_pending:
                self._confirmed(effect)
            elif isinstance(effect, Alarm):
                self._alarm(effect)
            elif isinstance(effect, HangUp):
                self._hang_up(effect.peer, effect.reason)
            elif isinstance(effect, Introduce):
                self._wires.introduce(effect.peer, effect.others)
            else:
                self._writes.hold(effect)

    def _send(self, effect: Send) -> None:
        self.counters.messages_out += len(effect.peers)
        for peer in effect.peers:
            self._wires.post(peer, effect.raw)

    def _alarm(self, effect: Alarm) -> None:
        about = self.name(effect.about)
        log.error(
            "alarm about %s: %s (envelopes of evidence: %s)",
            about,
            effect.reason,
            " ".join(raw[:EVIDENCE_BYTES_LOGGED].hex() for raw in effect.evidence) or "none",
        )
        self.alarms.add(effect.reason, about=about)
        if len(effect.evidence) > 1:  # envelopes that contradict each other
            self._wires.accuse(effect.about, effect.reason)
        if self._core.halted == START_AGAIN:
            self._lost = Outlived(START_AGAIN)
            self.notify()
        if self._core.halted is not None:
            self._callers.refuse(Halted(self._core.halted))
            self._readers.refuse()
            self._checkpoints.tell()

    # --- from the links ---------------------------------------------------------------------

    def _hear_and_open(self) -> None:
        """Take what the links bring, one message of each peer in turn, for a bounded burst.

        A peer of whom something waits is not read further: so it holds here what one frame brings,
        and however much that is, what others send meanwhile comes up in the next round.  What the
        hearing of a round cost is added to the first message in it.
        """
        inbox, left = self._inbox, BURST_MESSAGES_MAX
        until, before_s = trio.current_time() + BURST_S, self._busy_s()
        while left > 0:
            for event in self._wires.receive(but=inbox):
                self._hear(event)
            mail = inbox.next_round(but=self._shares.resting)
            if not mail:
                return
            left -= len(mail)
            for peer, raw in mail:
                is_idle = self._open(peer, raw)
                after_s = self._busy_s()
                if is_idle:
                    self._charge(peer, after_s - before_s)
                before_s = after_s
            if trio.current_time() >= until:
                return

    def _hear(self, event: LinkEvent) -> None:
        if isinstance(event, Arrived):
            self._inbox.put(event.peer, event.raw)
        elif isinstance(event, LinkOpened):
            self._reachable.add(event.peer)
            self._step(LinkUp(event.peer, event.round_trip_ticks))
        elif isinstance(event, links.Measured):
            self._step(Measured(event.peer, event.round_trip_ticks))
        else:
            self._reachable.discard(event.peer)
            self._step(LinkDown(event.peer))

    def _open(self, peer: bytes, raw: bytes) -> bool:
        """Give the replica a message; True if nothing came of it but a complaint."""
        self.counters.messages_in += 1
        claim = claimed(raw)
        if claim is not None and self._core.is_redundant(claim):
            return True
        try:
            message = self._read(raw)
        except WireError as error:
            self._hang_up(peer, f"it sent what is no message: {error}")
            return True
        effects = self._step(Received(peer, message))
        return all(isinstance(effect, (Alarm, HangUp)) for effect in effects)

    def _hang_up(self, peer: bytes, reason: str) -> None:
        """What came from `peer` is against the rules: hear nothing more of it on this link."""
        if peer in self.members.configuration:  # others come and go, without an end
            self.counters.refused[peer] = self.counters.refused.get(peer, 0) + 1
        log.warning("the link to %s is ended: %s", self.name(peer), reason)
        self._inbox.drop(peer)
        self._wires.close(peer, reason)

    def _charge(self, peer: bytes, took_s: float) -> None:
        """`peer` kept this node busy for nothing: if it does so too much, it has to rest.

        As many as may follow here have no more of it together than one of the members.
        """
        sharing = 1 if peer in self.members.configuration else FOLLOWERS_MAX
        if self._shares.charge(peer, took_s, trio.current_time(), sharing):
            self._wires.rest(peer)

    def _stir(self) -> None:
        """See to it that checkpoints come, where nobody else writes: this node waits for some.

        An empty operation at a time, each of which makes a batch, until it may vote again.
        """
        if not self._is_stirring:
            with suppress(Busy):  # then there is no lack of operations
                self._callers.enqueue(Barrier().encode(), self._stirred)
                self._is_stirring = True

    def _stirred(self, _: Outcome | ReplicationError) -> None:
        self._is_stirring = False

    # --- from the callers -------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask the members how far they are, if somebody wants to read what is newest."""
        number = self._readers.due()
        if number is not None:
            if self.has_quorum:
                self._step(Asked(number))
            else:
                self._readers.answered(is_fresh=False)

    def _confirmed(self, effect: Confirmed) -> None:
        self._readers.answered(is_fresh=effect.is_fresh)
        self.notify()  # others may wait for the next question

    def _bundle(self) -> None:
        """Give the replica what waits, as much as a bundle holds, while it has room."""
        callers = self._callers
        while callers.has_pending() and self.has_quorum and self._core.bundle_room > 0:
            operations = callers.form()
            self._step(Submitted(operations, callers.is_of_members))

    # --- to the disk ------------------------------------------------------------------------

    def _write(self) -> None:
        """Hand the database everything that waits for it, in one go."""
        group = self._writes.begin()
        steps = [e for e in group if isinstance(e, Step)]
        fetches = [e for e in group if isinstance(e, (SendCommitted, SendPart))]
        store = self._store

        def read(fetch: SendCommitted | SendPart) -> Sequence[bytes] | tuple[bytes | None, int]:
            if isinstance(fetch, SendCommitted):
                return store.certificates(fetch.first, fetch.last, fetch.bytes_max)
            data = store.part(fetch.peer, fetch.sequence, fetch.kind, fetch.items)
            return data, store.size_bytes()

        def job() -> tuple[Sequence[Any], list[Any]]:
            results = store.perform(steps) if steps else ()
            return results, [read(fetch) for fetch in fetches]

        def done(result: Any, error: BaseException | None) -> None:
            self._landed = (result, error)
            self.notify()

        self.counters.transactions += 1
        self._thread.post(job, done)

    def _land(self) -> None:
        """A write is done, its records durable: perform what waited for it, in order."""
        assert self._landed is not None, "a write has ended"
        (result, error), self._landed = self._landed, None
        group, held = self._writes.end()
        if error is not None:
            raise error
        results, answers = iter(result[0]), iter(result[1])
        follow: list[Event] = []
        for effect in group:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, SendCommitted):
                answer = next(answers)
                for raw in answer:
                    self._wires.post(effect.peer, raw)
                if not answer:
                    follow.append(BatchesGone(effect.peer, effect.first))
            elif isinstance(effect, SendPart):
                sent = self._send_part(effect, *next(answers))
                follow += [sent] if sent else []
            elif isinstance(effect, Confirmed):
                self._confirmed(effect)
            else:
                value = next(results)
                if isinstance(effect, Deliver):
                    self._delivered(effect, value)
                elif isinstance(effect, TakeRoot):
                    self.root, self.root_sequence = value, effect.sequence
                    if effect.is_signed:
                        self._checkpoints.took(effect.sequence)
                        follow.append(RootTaken(effect.sequence, value))
                elif isinstance(effect, Settle):
                    follow.append(self._settled(effect, *value))
                elif isinstance(effect, Foresee):
                    follow.append(value)
                elif isinstance(effect, Prune):
                    self._checkpoints.tell()
                elif isinstance(effect, (JudgePart, MendRows)):
                    follow.append(value)
                    if isinstance(effect, MendRows):
                        self._mended(value)
                elif isinstance(effect, InstallState):
                    settled = self._installed(effect, *value)
                    follow += [settled] if settled else []
        self._take(held)
        for event in follow:
            self._step(event)

    def _settled(self, effect: Settle, root: bytes, revision: int, roll: Roll) -> Settled:
        """The members after a batch that was about them; if they are others, this is known now."""
        self.root, self.root_sequence = root, effect.sequence
        self._rise(revision)
        if roll.number != self.members.configuration.number:
            self._meet(roll)
        elif effect.is_signed:
            self._checkpoints.took(effect.sequence)
        now = self.members
        return Settled(effect.sequence, root, now.configuration, now.parameters)

    def _meet(self, roll: Roll) -> None:
        """The members are others from now on."""
        before = self.members.configuration
        self.members = self._settle(roll)
        self._shares.among(self.nodes)
        self._callers.bound(bundle_bytes_max(self.members.parameters))
        self._checkpoints.tell()
        log.info("configuration %d: %s", roll.number, self._members_text())
        if self.key in before and not self.is_member:
            log.warning("%s", self.no_member_text())
            self._callers.refuse(NoMember(self.no_member_text()))

    def _members_text(self) -> str:
        configuration = self.members.configuration
        who = ", ".join(map(self.name, configuration.members))
        agreed = "".join(
            f"; {each.name} is {PARAMETERS[each.name].text(each.value)}"
            for each in self.members.agreed
        )
        return f"{who}; {configuration.quorum} decide, {configuration.f} may be faulty{agreed}"

    def _mended(self, answer: RowsMended) -> None:
        """Rows are on the disk again as they were agreed on; what is left changed meanwhile."""
        self.counters.mended += answer.mended
        if answer.left:
            self._rows_from = self._executed
        if answer.mended:
            log.warning("rows that the disk had spoilt are mended: %d", answer.mended)

    def _send_part(self, effect: SendPart, data: bytes | None, whole_bytes: int) -> PartSent | None:
        """Give a peer pieces of a state; or go on with finding them, after what waits."""
        if data is None:
            self._writes.hold(effect)
            return None
        self._wires.post(effect.peer, StatePart(effect.sequence, effect.kind, data).pack())
        return PartSent(effect.peer, len(data), whole_bytes)

    def _installed(
        self,
        effect: InstallState,
        root: bytes,
        revision: int,
        roll: Roll,
        origins: Mapping[bytes, tuple[int, int]],
    ) -> Settled | None:
        """The state is that of others now: what came of its own bundles there, nobody can tell.

        Its members may be others, too: then the replica has to know them.
        """
        log.info("the state after batch %d is here: it goes on from there", effect.sequence)
        self._executed = effect.sequence
        self._quiet_at = clock.now_ticks() + QUIET_TICKS
        self._callers.skipped(
            origins.get(self.key, (0, 0)),
            Unconfirmed("this node fetched the state of others, and not how it came about"),
        )
        self._checkpoints.took(effect.sequence)
        self._checkpoints.tell()
        self._rise(revision)
        if roll.number == self.members.configuration.number:
            return None
        self._meet(roll)
        now = self.members
        return Settled(effect.sequence, root, now.configuration, now.parameters)

    def _delivered(self, effect: Deliver, outcomes: Sequence[Sequence[Any]]) -> None:
        """Answer the callers whose bundles were executed, and wake those who watch."""
        self.counters.batches += 1
        self._executed = effect.sequence
        self._quiet_at = clock.now_ticks() + QUIET_TICKS
        newest = self.revision
        for bundle, of_bundle in zip(effect.bundles, outcomes, strict=True):
            self.counters.operations += len(of_bundle)
            if not bundle.message.of_members:  # else `Settle` says it, for numbers differ there
                newest = max([newest, *(o.revision for o in of_bundle)])
            if bundle.signer != self.key:
                continue
            said = bundle.message
            executed = self._callers.executed(said.incarnation, said.number, of_bundle)
            self.counters.own_operations += executed
        if self._steps is not None:
            log.debug("%s", self._steps.executed(effect))
        self._rise(newest)

    def _rise(self, revision: int) -> None:
        """Wake those who watch, if there is something newer."""
        if revision > self.revision:
            self.revision = revision
            if self._moved.statistics().tasks_waiting:
                self._moved.set()
                self._moved = trio.Event()


def _show(key: str, sequence: int, revision: int, store: Any) -> Inclusion | None:
    shown: Inclusion | None = store.show(key, sequence, revision)
    return shown

"""The performer: what is seen when, who is answered when, and what a bad neighbour can do.

The replica, the database and the links are played by second implementations of the same small
interfaces.  A write becomes durable exactly when the test says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
import trio.testing

from aegis_edge import proof
from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.knowledge.agreed import Agreed
from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.operations import Barrier
from aegis_edge.knowledge.parts import ROWS, row_item
from aegis_edge.knowledge.roll import Roll
from aegis_edge.knowledge.state import Rotten
from aegis_edge.net import links
from aegis_edge.net.links import Arrived, LinkClosed, LinkOpened
from aegis_edge.net.poller import Poller
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import (
    Alarm,
    Asked,
    BatchesGone,
    BeginTransfer,
    Bundled,
    Confirmed,
    Deliver,
    Effect,
    Event,
    Foresee,
    Foreseen,
    HangUp,
    InstallState,
    Introduce,
    JudgePart,
    LinkDown,
    LinkUp,
    Measured,
    MendRows,
    PartJudged,
    PartSent,
    Persist,
    Prune,
    Received,
    Record,
    RootTaken,
    RowsMended,
    RowsRotten,
    Send,
    SendCommitted,
    SendPart,
    Settle,
    Settled,
    Submitted,
    TakeRoot,
    Tick,
)
from aegis_edge.pbft.execution import START_AGAIN
from aegis_edge.pbft.followers import FOLLOWERS_MAX
from aegis_edge.replication import (
    Busy,
    Damaged,
    Halted,
    Members,
    NoLineage,
    NoMember,
    NoQuorum,
    Outlived,
    Replication,
    ReplicationError,
    Stopped,
    TooLarge,
    Unconfirmed,
    callers,
    performer,
)
from aegis_edge.replication.shares import ALLOWANCE_S
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Claim, Signer
from aegis_edge.wire.messages import Bundle, Checkpoint, Commit, StatePart, Verified
from tests import proofs
from tests.pbft.parts import stable
from tests.replication.many import submit_many

SIGNERS = {
    signer.public: signer
    for signer in (Signer(bytes([i]) * 32, b"", sign=lambda *_: bytes(64)) for i in range(4))
}
ME, ANNA, BERT, CARL = SIGNERS
NAMES = {ME: "me", ANNA: "anna", BERT: "bert", CARL: "carl"}


@dataclass(frozen=True)
class Outcome:
    """As much of an outcome as the performer looks at."""

    revision: int


class Core:
    """A replica whose answers a test writes: `plays` maps an event to its effects."""

    def __init__(self) -> None:
        self.view = 0
        self.primary = ANNA
        self.changing = False
        self.halted: str | None = None
        self.learning: int | None = None
        self.source: tuple[bytes, int, int] | None = None
        self.transfer_progress: tuple[int, int, int] | None = None
        self.rotten = 0
        self.executed = 0
        self.time_ms = 0
        self.wants: frozenset[bytes] | None = None
        self.reached: dict[bytes, int] = {}
        self.stable = 0
        self.stable_checkpoint: tuple[Verified[Checkpoint], ...] = ()
        self.wake_at: int | None = None
        self.bundle_room = 0
        self.heard: list[Event] = []
        self.ticks: list[Tick] = []
        self.plays: Callable[[Event], Sequence[Effect]] = lambda _: ()
        self.bundles = 0

    def is_redundant(self, claim: Claim) -> bool:
        return False

    def step(self, event: Event) -> Sequence[Effect]:
        if isinstance(event, Tick):
            self.ticks.append(event)
            if self.wake_at is not None and self.wake_at <= event.now_ticks:
                self.wake_at = None
            return ()
        self.heard.append(event)
        if isinstance(event, Submitted):
            self.bundles += 1
            self.bundle_room -= 1
            return (Bundled(1, self.bundles), *self.plays(event))
        return self.plays(event)


@dataclass
class Store:
    """A database that keeps what it was told; revisions count delivered operations."""

    transactions: list[list[Effect]] = field(default_factory=list)
    revision: int = 0
    error: Exception | None = None
    retired: int = 0
    searches: int = 3
    size: int = 4096
    #: Whether rows are not mended with what is given.
    left: bool = False
    #: What the next ones to settle are told.
    rolls: list[Roll] = field(default_factory=list)
    #: What shows a key, and from which checkpoint on it does.
    shown: tuple[Inclusion, int] | None = None
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    #: What leads to the members of today.
    lineage: tuple[bytes, ...] = ()

    def newest(self, key: str) -> int:
        return 7

    def handovers(self, number: int) -> tuple[bytes, ...]:
        return self.lineage[:number]

    def show(self, key: str, sequence: int, revision: int) -> Inclusion | None:
        self.asked.append((key, sequence, revision))
        if self.shown is None or sequence < self.shown[1]:
            return None
        return self.shown[0]

    def perform(self, steps: Sequence[Effect]) -> list[Any]:
        if self.error:
            raise self.error
        self.transactions.append(list(steps))
        return [self._one(step) for step in steps]

    def _one(self, step: Effect) -> Any:
        if isinstance(step, TakeRoot):
            return b"root"
        if isinstance(step, JudgePart):
            return PartJudged(step.sequence, step.peer, None)
        if isinstance(step, MendRows):
            return RowsMended(step.peer, None, step.items if self.left else (), not self.left)
        if isinstance(step, InstallState):
            roll = self.rolls.pop(0) if self.rolls else Roll(())
            return b"root", 77, roll, {ME: (1, 1)}
        if isinstance(step, Foresee):
            return Foreseen(step.sequence, step.digest, b"")
        if isinstance(step, Settle):
            return b"root", self.revision, self.rolls.pop(0)
        if not isinstance(step, Deliver):
            return None
        outcomes = []
        for bundle in step.bundles:
            first = self.revision + 1
            self.revision += len(bundle.message.operations)
            outcomes.append(tuple(Outcome(r) for r in range(first, self.revision + 1)))
        return outcomes

    def certificates(self, first: int, last: int, max_bytes: int) -> list[bytes]:
        if first <= self.retired:
            return []
        found = [b"certificate %d" % s for s in range(first, last + 1)]
        return found[: max(1, max_bytes // len(found[0]))]

    def size_bytes(self) -> int:
        return self.size

    def part(self, peer: bytes, sequence: int, kind: int, items: Sequence[bytes]) -> bytes | None:
        self.searches -= 1
        return None if self.searches > 0 else b"%d of %b: %b" % (sequence, peer, b"".join(items))


class Wires:
    """Links that remember what was given to them."""

    def __init__(self, poller: Poller[Any]) -> None:
        self._poller = poller
        self.incoming: list[Any] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self._posted: list[tuple[bytes, bytes]] = []
        self.closed: list[tuple[bytes, str]] = []
        self.accused: list[tuple[bytes, str]] = []
        self.resting: set[bytes] = set()
        self.wanted: list[frozenset[bytes] | None] = []
        self.introduced: list[tuple[bytes, tuple[bytes, ...]]] = []
        self.frame = 60

    def receive(self, but: Container[bytes] = ()) -> Sequence[Any]:
        """Of each peer that is to be read some of what came, as if each frame held as much."""
        self._poller.ready()
        counts = Counter[bytes]()
        events, left = [], []
        for event in self.incoming:
            counts[event.peer] += 1
            is_read = not (event.peer in but or event.peer in self.resting)
            (events if is_read and counts[event.peer] <= self.frame else left).append(event)
        self.incoming = left
        if any(event.peer not in self.resting for event in left):
            self._poller.wake()
        return events

    def rest(self, peer: bytes) -> None:
        self.resting.add(peer)

    def resume(self, peer: bytes) -> None:
        self.resting.remove(peer)
        self._poller.wake()

    def post(self, peer: bytes, raw: bytes) -> None:
        self._posted.append((peer, raw))

    def flush(self) -> None:
        self.sent += self._posted
        self._posted.clear()

    def close(self, peer: bytes, reason: str) -> None:
        self.closed.append((peer, reason))

    def accuse(self, peer: bytes, reason: str) -> None:
        self.accused.append((peer, reason))

    def want(self, peers: frozenset[bytes] | None) -> None:
        self.wanted.append(peers)

    def introduce(self, peer: bytes, others: Sequence[bytes]) -> None:
        self.introduced.append((peer, tuple(others)))


class Disk:
    """Plays `DatabaseThread`: a job is done when the test calls `finish`, or at once if `eager`."""

    def __init__(self, *, eager: bool = True) -> None:
        self.eager = eager
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any, Any], None]]] = []

    def post(self, job: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        self.jobs.append((job, done))
        if self.eager:
            trio.lowlevel.current_trio_token().run_sync_soon(self.finish)

    def finish(self) -> None:
        job, done = self.jobs.pop(0)
        try:
            result = job()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    async def call(self, job: Callable[[], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return job()


def read(raw: bytes) -> Any:
    if raw.startswith(b"bad"):
        raise WireError("not a message")
    return raw


def members(number: int = 0, *keys: bytes, quorum: int = 3, start: int = 0) -> Members:
    """Who takes part in configuration `number`: these, or all."""
    configuration = Configuration(number, tuple(sorted(keys or NAMES)), 0 if keys else 1, start)
    object.__setattr__(configuration, "quorum", quorum)
    names = {key: NAMES[key] for key in configuration.members}
    return Members(configuration, Parameters(), names, "me")


class Stage:
    """One node under test, running."""

    def __init__(self, *, eager: bool = True, quorum: int = 3) -> None:
        self.poller: Poller[Any] = Poller()
        self.core, self.store, self.wires = Core(), Store(), Wires(self.poller)
        self.disk = Disk(eager=eager)
        #: What the thread of the node has used of the processor, as far as a test says so.
        self.busy_s = 0.0
        #: The members by the number of the roll that says so.
        self.successors: dict[int, Members] = {}
        self.node = Replication(
            key=ME,
            members=members(quorum=quorum),
            settle=self.settle,
            core=self.core,
            store=self.store,
            wires=self.wires,
            poller=self.poller,
            thread=self.disk,  # type: ignore[arg-type]
            read=read,
            wall_ms=lambda: 1_000_000,
            busy_s=lambda: self.busy_s,
        )

    def settle(self, roll: Any) -> Members:
        return self.successors[roll.number]

    @asynccontextmanager
    async def running(self, *peers: bytes) -> AsyncIterator[Stage]:
        for peer in peers:
            self.brings(LinkOpened(peer, None, 7))  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(self.node.run)
            await self.quiet()
            yield self
            nursery.cancel_scope.cancel()
        self.poller.close()

    def brings(self, event: Any) -> None:
        """A link brings something, as `Links` would."""
        self.wires.incoming.append(event)
        self.poller.wake()

    async def quiet(self) -> None:
        """Until nobody has anything to do."""
        await trio.testing.wait_all_tasks_blocked()

    async def heard(self, *effects: Effect) -> None:
        """The replica hears something and answers with these effects."""
        waiting = [effects]
        self.core.plays = lambda event: (
            waiting.pop() if waiting and isinstance(event, Received) else ()
        )
        self.brings(Arrived(ANNA, b"cue"))
        await self.quiet()
        assert not waiting

    @property
    def said(self) -> list[bytes]:
        return [raw for _, raw in self.wires.sent]

    def deliver(self, sequence: int, *names: tuple[bytes, int, int, int]) -> Deliver:
        """A batch of bundles, each given as (origin, incarnation, number, operations)."""
        bundles = tuple(
            SIGNERS[origin].sign(Bundle(incarnation, number, (b"x",) * count))
            for origin, incarnation, number, count in names
        )
        return Deliver(sequence, 1, bundles, b"certificate")


def persist(number: int) -> Persist:
    return Persist(Record(4, 0, number, b""))


def send(raw: bytes) -> Send:
    return Send((BERT,), raw)


@pytest.fixture(autouse=True)
def no_root_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performer, "QUIET_TICKS", 10**9)


# --- what is seen, and when -----------------------------------------------------------------


async def test_sends_before_a_persist_go_at_once_and_those_after_it_wait() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(send(b"a"), persist(1), send(b"b"), persist(2), send(b"c"))
        assert stage.said == [b"a"]
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == [b"a", b"b", b"c"]
        assert stage.store.transactions == [[persist(1), persist(2)]]


async def test_a_send_of_a_later_step_waits_for_an_earlier_persist() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(persist(1))
        await stage.heard(send(b"later"))
        assert stage.said == []
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == [b"later"]


async def test_what_came_during_a_write_shares_the_next_one() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(persist(1), send(b"1"))
        for number in (2, 3, 4):
            await stage.heard(persist(number), send(b"%d" % number))
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == [b"1"]
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == [b"1", b"2", b"3", b"4"]
        assert [len(t) for t in stage.store.transactions] == [1, 3]


async def test_sends_do_not_wait_for_writes_that_promise_nothing() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(Prune(64), send(b"a"))
        assert stage.said == [b"a"]
        assert len(stage.disk.jobs) == 1


async def test_a_send_held_behind_a_finished_write_goes_before_the_next_write_ends() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(persist(1))
        await stage.heard(send(b"first"), persist(2), send(b"second"))
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == [b"first"]
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == [b"first", b"second"]


async def test_a_root_that_is_only_looked_at_is_not_answered_to_the_replica(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    async with Stage().running() as stage:
        await stage.heard(stage.deliver(3))
        await trio.sleep(1)
        assert stage.store.transactions[1:] == [[TakeRoot(3, is_signed=False)]]
        assert stage.node.root == b"root"
        assert not any(isinstance(event, RootTaken) for event in stage.core.heard)


async def test_a_root_is_answered_to_the_replica() -> None:
    async with Stage().running() as stage:
        await stage.heard(stage.deliver(64), TakeRoot(64))
        assert stage.core.heard[-1] == RootTaken(64, b"root")


# --- proofs ---------------------------------------------------------------------------------


class Proving:
    """Callers who wait for a proof of the key `door`, and what they were given."""

    def __init__(self, stage: Stage, nursery: trio.Nursery) -> None:
        self.stage = stage
        self.got: list[bytes | Exception] = []
        made = proofs.cluster()
        stage.store.shown = made.shows("door"), proofs.SEQUENCE
        self.signed = tuple(made.checkpoint(index) for index in range(3))
        self._nursery = nursery

    async def ask(self, timeout_s: float = math.inf) -> None:
        self._nursery.start_soon(self._prove, timeout_s)
        await self.stage.quiet()

    async def _prove(self, timeout_s: float) -> None:
        try:
            self.got.append(await self.stage.node.prove("door", timeout_s=timeout_s))
        except ReplicationError as error:
            self.got.append(error)

    async def agree(self) -> None:
        """The checkpoint becomes stable."""
        self.stage.core.stable = proofs.SEQUENCE
        self.stage.core.stable_checkpoint = self.signed
        await self.stage.heard(Prune(proofs.SEQUENCE))

    @property
    def submitted(self) -> int:
        return sum(isinstance(event, Submitted) for event in self.stage.core.heard)


async def test_what_the_last_checkpoint_shows_is_proven_at_once() -> None:
    async with Stage().running() as stage, trio.open_nursery() as nursery:
        proving = Proving(stage, nursery)
        await proving.agree()
        await proving.ask()
        assert proving.got == [proofs.cluster().proof("door")]
        assert stage.store.asked == [("door", proofs.SEQUENCE, 7)]


async def test_what_it_does_not_show_waits_for_the_next_one_which_comes_about() -> None:
    """An empty batch at a time, until its root is taken here: then the others are waited for."""
    async with Stage().running(ANNA, BERT) as stage, trio.open_nursery() as nursery:
        stage.core.bundle_room = 100
        proving = Proving(stage, nursery)
        await proving.ask()
        await proving.ask()
        for number in (1, 2):
            assert proving.submitted == number
            assert stage.core.heard[-1] == Submitted((Barrier().encode(),))
            await stage.heard(stage.deliver(62 + number, (ME, 1, number, 1)))
        await stage.heard(TakeRoot(64))
        at = proving.submitted
        await stage.heard(stage.deliver(65, (ME, 1, at, 1)))
        assert proving.submitted == at == 3
        assert proving.got == []
        await proving.agree()
        assert proving.got == [proofs.cluster().proof("door")] * 2
        assert [asked[1] for asked in stage.store.asked] == [0, 0, 64, 64]


async def test_a_state_that_was_fetched_shows_what_was_waited_for() -> None:
    """Its checkpoint may have been known to be stable before: then nothing is pruned with it."""
    async with Stage().running(ANNA, BERT) as stage, trio.open_nursery() as nursery:
        proving = Proving(stage, nursery)
        await proving.ask()
        stage.core.stable, stage.core.stable_checkpoint = proofs.SEQUENCE, proving.signed
        await stage.heard(InstallState(proofs.SEQUENCE))
        assert proving.got == [proofs.cluster().proof("door")]


async def test_who_waits_for_a_proof_is_told_when_there_will_be_none() -> None:
    async with Stage().running(ANNA, BERT) as stage, trio.open_nursery() as nursery:
        proving = Proving(stage, nursery)
        await proving.ask()
        stage.core.halted = "it differs"
        await stage.heard(Alarm("it differs", ME))
        await proving.ask()
        assert [type(error) for error in proving.got] == [Halted, Halted]
        stage.core.halted = None
        await proving.ask()
        await stage.node.stop()
        await proving.ask()
        assert [type(error) for error in proving.got[2:]] == [Stopped, Stopped]


async def test_a_proof_that_is_late_says_why(autojump_clock: trio.testing.MockClock) -> None:
    async with Stage().running(ANNA, BERT) as stage:
        with pytest.raises(Unconfirmed):
            await stage.node.prove("door", timeout_s=3)
    async with Stage().running(ANNA) as stage:
        with pytest.raises(NoQuorum) as caught:
            await stage.node.prove("door", timeout_s=3)
        assert not caught.value.taken
    async with Stage().running(ANNA, BERT, CARL) as stage:
        stage.node.members = members(0, ANNA, BERT, CARL)
        with pytest.raises(Unconfirmed, match="only members bring about the next one"):
            await stage.node.prove("door", timeout_s=3)
        assert stage.node.status()["pending"] == 0


async def test_certificates_are_read_after_what_precedes_them_and_sent_in_order() -> None:
    async with Stage().running() as stage:
        await stage.heard(stage.deliver(1), SendCommitted(CARL, 1, 2))
        assert stage.wires.sent == [(CARL, b"certificate 1"), (CARL, b"certificate 2")]
        await stage.heard(SendCommitted(CARL, 3, 3))
        assert stage.wires.sent[2:] == [(CARL, b"certificate 3")]
        assert len(stage.store.transactions) == 1, "reading alone writes nothing"


async def test_an_answer_to_a_fetch_is_as_large_as_the_replica_says() -> None:
    async with Stage().running() as stage:
        await stage.heard(SendCommitted(CARL, 1, 9, 2 * len(b"certificate 1")))
        assert stage.wires.sent == [(CARL, b"certificate 1"), (CARL, b"certificate 2")]


async def test_nothing_overtakes_an_answer_to_a_fetch() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(SendCommitted(CARL, 1, 2), Send((CARL,), b"status"), send(b"to bert"))
        assert stage.wires.sent == [(BERT, b"to bert")]
        stage.disk.finish()
        await stage.quiet()
        assert [raw for peer, raw in stage.wires.sent if peer == CARL] == [
            b"certificate 1",
            b"certificate 2",
            b"status",
        ]


async def test_a_flood_of_fetches_is_answered_once_and_one_peer_at_a_time() -> None:
    async with Stage(eager=False).running() as stage:
        await stage.heard(persist(1))
        await stage.heard(*(SendCommitted(CARL, first, 9) for first in range(1, 9)))
        await stage.heard(SendCommitted(BERT, 9, 9), persist(2))
        stage.disk.finish()
        await stage.quiet()
        assert stage.said == []
        stage.disk.finish()
        await stage.quiet()
        assert stage.wires.sent == [(CARL, b"certificate 8"), (CARL, b"certificate 9")]
        stage.disk.finish()
        await stage.quiet()
        assert stage.wires.sent[2:] == [(BERT, b"certificate 9")]
        assert len(stage.store.transactions) == 2


async def test_the_replica_is_told_of_whom_batches_cannot_help() -> None:
    async with Stage().running() as stage:
        stage.store.retired = 5
        await stage.heard(SendCommitted(CARL, 3, 9))
        assert stage.wires.sent == []
        assert stage.core.heard[-1] == BatchesGone(CARL, 3)


async def test_pieces_of_a_state_are_looked_for_until_they_are_found() -> None:
    async with Stage().running() as stage:
        await stage.heard(SendPart(CARL, 8, 1, (b"a", b"b")))
        assert stage.store.searches == 0
        data = b"8 of %b: ab" % CARL
        assert stage.wires.sent == [(CARL, StatePart(8, 1, data).pack())]
        sent = [e for e in stage.core.heard if isinstance(e, PartSent)]
        assert sent == [PartSent(CARL, len(data), 4096)], "once, and with what it was"


async def test_neither_kind_of_answer_takes_the_place_of_the_other() -> None:
    async with Stage(eager=False).running() as stage:
        stage.store.searches = 0
        await stage.heard(persist(1))
        await stage.heard(SendPart(CARL, 8, 1, (b"a",)), SendCommitted(CARL, 1, 1))
        await stage.heard(SendCommitted(CARL, 2, 2))
        for _ in range(3):
            stage.disk.finish()
            await stage.quiet()
        kinds = [raw == b"certificate 2" for _, raw in stage.wires.sent]
        assert kinds == [False, True]
        assert [type(e) for e in stage.core.heard if isinstance(e, PartSent)] == [PartSent]


async def test_pieces_are_judged_on_the_disk_and_the_replica_is_told() -> None:
    async with Stage().running() as stage:
        stage.core.transfer_progress = (8, 1, 3)
        assert stage.node.status()["transfer"] == {"to": 8, "done": 1, "parts": 3}
        await stage.heard(BeginTransfer(8, b"root"), JudgePart(ANNA, 8, 0, (b"",), b"data"))
        assert stage.core.heard[-1] == PartJudged(8, ANNA, None)


async def test_after_a_transfer_nobody_knows_what_became_of_the_own_bundles(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="aegis_edge.replication")
    async with Stage().running(ANNA, BERT) as stage:
        answers: list[Any] = []
        stage.core.bundle_room = 1
        stage.node.enqueue(b"one", answers.append)
        gone = stage.node.enqueue(b"withdrawn", answers.append)
        await stage.quiet()
        assert gone.withdraw() is False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.node.revision_after, 76)
            await stage.heard(InstallState(8))
        assert [answer.code for answer in answers] == ["timeout"]
        assert stage.node.revision == 77
        await stage.heard(InstallState(16))
        assert stage.node.revision == 77
    assert "the state after batch 8 is here: it goes on from there" in caplog.messages


# --- what the disk spoils -------------------------------------------------------------------

ROTTEN = label(b"rotten")


def spoilt(*labels: bytes) -> Callable[[Any], None]:
    def query(_: Any) -> None:
        raise Rotten(*labels)

    return query


async def test_what_a_read_finds_rotten_is_refused_told_and_fetched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = RowsRotten(ROWS, (row_item(ROTTEN, 0),))
    async with Stage().running() as stage:

        def plays(event: Event) -> Sequence[Effect]:
            stage.core.rotten = 1
            return ()

        stage.core.plays = plays
        for _ in range(2):
            with pytest.raises(Damaged, match="1 of its rows are damaged on this disk"):
                await stage.node.read(spoilt(ROTTEN))
            await stage.quiet()
        assert stage.core.heard == [wanted, wanted]
        assert caplog.messages == ["the disk spoilt rows: 1 are to be fetched from others"]
        said = stage.node.status()
        assert (said["rotten"], said["mended"], said["scrubs"]) == (1, 0, 0)
        assert [alarm["about"] for alarm in said["alarms"]] == [NAMES[ME]]
        await stage.heard(MendRows(ANNA, wanted.items, b"data"))
        assert stage.core.heard[-1] == RowsMended(ANNA, None, (), 1)
        assert stage.node.status()["mended"] == 1
        assert "rows that the disk had spoilt are mended: 1" in caplog.messages
        assert not any(isinstance(event, Submitted) for event in stage.core.heard)


@pytest.mark.parametrize("is_first", [True, False])
async def test_where_no_checkpoint_has_the_row_the_next_one_is_brought_about(
    is_first: bool,
) -> None:
    """None was agreed on yet, or the key was written since."""
    async with Stage().running(ANNA, BERT) as stage:
        stage.core.bundle_room = 100
        stage.core.stable_checkpoint = () if is_first else stable(64)
        stage.core.rotten = 1
        with pytest.raises(Damaged):
            await stage.node.read(spoilt(ROTTEN))
        await stage.quiet()
        if not is_first:
            assert not any(isinstance(event, Submitted) for event in stage.core.heard)
            stage.store.left = True
            await stage.heard(MendRows(ANNA, (row_item(ROTTEN, 0),), b"data"))
            assert stage.node.status()["mended"] == 0
        assert Submitted((Barrier().encode(),)) in stage.core.heard
        await stage.heard(stage.deliver(65, (ME, 1, 1, 1)), TakeRoot(65))
        bundles = stage.core.bundles
        await stage.heard(stage.deliver(66, (ME, 1, bundles, 1)))
        assert stage.core.bundles == bundles, "its root is taken"


async def test_a_read_that_finds_the_database_damaged_ends_the_node() -> None:
    def query(_: Any) -> None:
        raise DatabaseDamaged("malformed", "start again")

    stage = Stage()
    with pytest.raises(DatabaseDamaged):
        await stage.node.read(query)
    with pytest.raises(DatabaseDamaged, match="malformed"):
        await stage.node.run()
    stage.poller.close()


async def test_an_alarm_is_kept_for_the_owner() -> None:
    async with Stage().running() as stage:
        await stage.heard(Alarm("two proposals", BERT, (b"x",)))
        assert stage.node.status()["alarms"] == [{"about": "bert", "reason": "two proposals"}]
        assert stage.wires.accused == []


async def test_whoever_contradicts_itself_is_named_to_the_links() -> None:
    """Only where two envelopes of its own show it: one may be what it means to us alone."""
    async with Stage().running() as stage:
        await stage.heard(Alarm("it sent another state", ANNA))
        await stage.heard(Alarm("two votes", BERT, (b"x", b"y")))
        assert stage.wires.accused == [(BERT, "two votes")]
        assert stage.wires.closed == [], "the links decide whether it can be spared"


async def test_a_change_of_leader_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="aegis_edge.replication")
    stage = Stage()

    def lines() -> list[str]:
        return [line for line in caplog.messages if line.startswith("view")]

    async with stage.running(ANNA, BERT):
        await stage.heard()
        assert lines() == [], "nothing changed"
        stage.core.view, stage.core.primary, stage.core.changing = 1, BERT, True
        for _ in range(2):
            await stage.heard()
        assert lines() == ["view 1: bert is to lead, once enough agree"]
        stage.core.changing = False
        await stage.heard()
        assert lines()[1:] == ["view 1: bert leads"]


async def test_a_halted_replica_refuses_its_callers() -> None:
    stage = Stage()
    answers: list[Any] = []
    async with stage.running(ANNA, BERT):
        stage.node.enqueue(b"op", answers.append)
        stage.core.halted = "its state differs"
        await stage.heard(Alarm("its state differs", ME))
        assert isinstance(answers[0], Halted)
        with pytest.raises(Halted, match="its state differs"):
            await stage.node.submit(b"op")
        assert stage.node.status()["halted"] == "its state differs"


async def test_a_life_that_counts_for_nothing_ends() -> None:
    stage = Stage(quorum=1)

    def plays(_: object) -> list[Any]:
        stage.core.halted = START_AGAIN
        return [Alarm(START_AGAIN, ME)]

    stage.core.plays = plays
    stage.core.bundle_room = 1
    stage.node.enqueue(b"a", lambda _: None)
    with trio.fail_after(5), pytest.raises(Outlived):
        await stage.node.run()
    with pytest.raises(Stopped):
        stage.node.enqueue(b"b", lambda _: None)


async def test_a_failed_write_ends_the_node_and_answers_the_callers() -> None:
    stage = Stage(quorum=1)
    stage.store.error = OSError("disk full")
    stage.core.bundle_room = 1
    stage.core.plays = lambda _: (persist(1), send(b"never"))
    answers: list[Any] = []
    stage.node.enqueue(b"a", answers.append)
    with pytest.raises(OSError, match="disk full"):
        await stage.node.run()
    assert [type(a) for a in answers] == [Stopped]
    assert stage.said == []
    with pytest.raises(Stopped):
        stage.node.enqueue(b"b", answers.append)


async def test_stopping_waits_for_the_write_under_way_and_refuses_the_rest() -> None:
    stage = Stage(eager=False)
    answers: list[Any] = []
    async with stage.running(ANNA, BERT):
        stage.core.bundle_room = 1
        stage.node.enqueue(b"taken", answers.append)
        await stage.quiet()
        stage.node.enqueue(b"waiting", answers.append)
        await stage.heard(stage.deliver(1, (ME, 1, 1, 1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.node.stop)
            await stage.quiet()
            assert answers == []
            stage.disk.finish()
        assert answers[0] == Outcome(1)
        assert isinstance(answers[1], Stopped)


# --- what comes from the links --------------------------------------------------------------


async def test_links_and_messages_reach_the_replica() -> None:
    async with Stage().running(ANNA) as stage:
        stage.brings(Arrived(ANNA, b"hello"))
        stage.brings(LinkClosed(ANNA, "gone"))
        await stage.quiet()
        assert stage.core.heard[0] == LinkUp(ANNA, 7)
        assert set(map(repr, stage.core.heard[1:])) == {
            repr(Received(ANNA, b"hello")),  # type: ignore[arg-type]
            repr(LinkDown(ANNA)),
        }
        assert stage.node.status()["reachable"] == []


async def test_the_replica_learns_how_long_a_way_is_by_now() -> None:
    async with Stage().running(ANNA) as stage:
        stage.brings(links.Measured(ANNA, 900))
        await stage.quiet()
        assert stage.core.heard[-1] == Measured(ANNA, 900)
        assert stage.node.status()["reachable"] == [NAMES[ANNA]]


async def test_no_message_closes_the_link_of_its_sender_and_no_other() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        for event in (
            Arrived(ANNA, b"bad one"),
            Arrived(ANNA, b"dropped"),
            Arrived(BERT, b"good"),
        ):
            stage.brings(event)
        await stage.quiet()
        assert stage.core.heard[2:] == [Received(BERT, b"good")]  # type: ignore[arg-type]
        assert stage.wires.closed == [(ANNA, "it sent what is no message: not a message")]
        assert stage.node.status()["refused"] == {"anna": 1}


async def test_a_flood_of_one_peer_does_not_starve_the_others() -> None:
    async with Stage().running() as stage:
        for _ in range(50):
            stage.brings(Arrived(ANNA, b"flood"))
        stage.brings(Arrived(BERT, b"b"))
        stage.brings(Arrived(CARL, b"c"))
        await stage.quiet()
        order = [event.peer for event in stage.core.heard if isinstance(event, Received)]
        assert order[:3] == [ANNA, BERT, CARL]
        assert len(order) == 52


async def test_a_node_without_a_vote_says_whom_it_follows_and_how_far_it_is_behind() -> None:
    stage = Stage()
    async with stage.running():
        assert stage.node.status()["follows"] is None
        stage.core.source = (b"", 16, 0)
        assert stage.node.status()["follows"] == {"source": None, "hops": 16, "behind": 0}
        stage.core.source = (BERT, 1, 70)
        assert stage.node.status()["follows"] == {"source": "bert", "hops": 1, "behind": 70}


async def test_a_node_that_forgot_its_votes_stirs_the_cluster_and_says_so() -> None:
    stage = Stage(eager=False)
    stage.core.bundle_room = 4
    stage.core.learning = 0
    async with stage.running(ANNA, BERT, CARL):
        submitted = [e for e in stage.core.heard if isinstance(e, Submitted)]
        assert submitted == [Submitted((Barrier().encode(),))], "one at a time"
        (alarm,) = stage.node.status()["alarms"]
        assert alarm["about"] == "me"
        assert alarm["reason"].endswith("votes again once it has heard 3 of the others")
        stage.core.learning = 192
        (alarm,) = stage.node.status()["alarms"]
        assert alarm["reason"].endswith(
            "votes again once batch 192 is stable, which takes 3 nodes that remember theirs"
        )
        assert stage.node.status()["learning"] == 192
        await stage.heard(stage.deliver(1, (ME, 1, 1, 1)))
        stage.disk.finish()
        await stage.quiet()
        submitted = [e for e in stage.core.heard if isinstance(e, Submitted)]
        assert len(submitted) == 2, "when one is done, the next"
        stage.core.learning = None
        await stage.heard(stage.deliver(2, (ME, 1, 2, 1)))
        stage.disk.finish()
        await stage.quiet()
        assert stage.core.bundles == 2
        assert stage.node.status()["alarms"] == []


async def test_a_burst_is_bounded_so_that_callers_get_their_turn() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        stage.core.bundle_room = 1
        for number in range(500):
            stage.brings(Arrived(ANNA, b"%d" % number))
        stage.node.enqueue(b"op", lambda _: None)
        await stage.quiet()
        heard = [event.message for event in stage.core.heard if isinstance(event, Received)]
        assert heard == [b"%d" % number for number in range(500)], "nothing is lost"
        turn = next(i for i, e in enumerate(stage.core.heard) if isinstance(e, Submitted))
        assert turn <= 2 * performer.BURST_MESSAGES_MAX


async def test_a_burst_has_its_time_so_that_callers_get_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Stage().running(ANNA, BERT) as stage:
        stage.core.bundle_room = 1

        def play(event: Event) -> Sequence[Effect]:
            if isinstance(event, Received):
                autojump_clock.jump(0.4 * performer.BURST_S)
            return ()

        stage.core.plays = play
        for number in range(40):
            stage.brings(Arrived(ANNA, b"%d" % number))
        stage.node.enqueue(b"op", lambda _: None)
        await stage.quiet()
        kinds = [type(event) for event in stage.core.heard[2:]]
        assert kinds.count(Received) == 40
        assert kinds.index(Submitted) == 3


async def test_however_much_a_frame_brings_the_others_have_their_turn() -> None:
    async with Stage().running() as stage:
        stage.wires.frame = 530

        def play(event: Event) -> Sequence[Effect]:
            if isinstance(event, Received) and event.message == b"first":
                stage.brings(Arrived(BERT, b"meanwhile"))
            return ()

        stage.core.plays = play
        stage.brings(Arrived(ANNA, b"first"))
        for _ in range(529):
            stage.brings(Arrived(ANNA, b"flood"))
        await stage.quiet()
        heard = [event.peer for event in stage.core.heard if isinstance(event, Received)]
        assert len(heard) == 531
        assert heard.index(BERT) <= 2


async def test_who_keeps_the_node_busy_for_nothing_gets_half_an_even_share_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whatever comes to nothing counts: what is known, what is no use, what is only complained of.

    The node does not spin meanwhile, and hears the others at once.
    """
    async with Stage().running() as stage:
        start_s = trio.current_time()

        def works(event: Event) -> Sequence[Effect]:
            if isinstance(event, Received) and event.peer == ANNA:
                autojump_clock.jump(0.1)
                stage.busy_s += 0.1
                return (Alarm("it is refused", ANNA),)
            return ()

        def heard(peer: bytes) -> int:
            return sum(isinstance(e, Received) and e.peer == peer for e in stage.core.heard)

        stage.core.plays = works
        for _ in range(1000):
            stage.brings(Arrived(ANNA, b"flood"))
        await stage.quiet()
        assert stage.wires.resting == {ANNA}
        before = heard(ANNA)
        counter = Steps()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(0.05)
        trio.lowlevel.remove_instrument(counter)
        assert counter.count < 10, "it waits, without work"
        stage.brings(Arrived(BERT, b"vote"))
        await stage.quiet()
        assert (heard(ANNA), heard(BERT)) == (before, 1)
        await trio.sleep(40)
        took_s = 0.1 * heard(ANNA)
        share = took_s / (trio.current_time() - start_s)
        assert 0.11 < share < 0.13, "half of one of four"


async def test_late_votes_and_garbage_are_charged_for_too() -> None:
    vote = SIGNERS[ANNA].sign(Commit(0, 0, 1, bytes(32), 0)).raw
    async with Stage().running(ANNA, BERT) as stage:

        def late(_: Claim) -> bool:
            stage.busy_s += 1
            return True

        def slow(raw: bytes) -> Any:
            stage.busy_s += 1
            return read(raw)

        stage.core.is_redundant = late  # type: ignore[method-assign]
        stage.node._read = slow
        stage.brings(Arrived(ANNA, vote))
        stage.brings(Arrived(BERT, b"bad"))
        await stage.quiet()
        assert stage.wires.resting == {ANNA, BERT}


async def test_what_comes_to_something_costs_its_sender_nothing() -> None:
    async with Stage().running(ANNA) as stage:

        def works(event: Event) -> Sequence[Effect]:
            stage.busy_s += 1
            return (send(b"answer"),)

        stage.core.plays = works
        for _ in range(20):
            stage.brings(Arrived(ANNA, b"asked for"))
        await stage.quiet()
        assert stage.wires.resting == set()
        assert len(stage.said) == 20


async def test_whoever_signed_what_nobody_may_sign_is_hung_up_on() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        stage.core.plays = lambda event: (
            (HangUp(ANNA, "a view change was refused: a hole"),)
            if isinstance(event, Received) and event.peer == ANNA
            else ()
        )
        for event in (Arrived(ANNA, b"one"), Arrived(ANNA, b"two"), Arrived(BERT, b"good")):
            stage.brings(event)
        await stage.quiet()
        received = [event.message for event in stage.core.heard if isinstance(event, Received)]
        assert received == [b"one", b"good"]
        assert stage.wires.closed == [(ANNA, "a view change was refused: a hole")]
        assert stage.node.status()["refused"] == {"anna": 1}


class Steps(trio.abc.Instrument):
    """Counts how often any task runs."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_of_a_peer_whose_mail_waits_no_more_is_taken_than_a_frame() -> None:
    async with Stage().running(ANNA) as stage:
        left: list[int] = []

        def play(event: Any) -> tuple[Effect, ...]:
            if isinstance(event, Received):
                left.append(len(stage.wires.incoming))
            return ()

        stage.core.plays = play
        for _ in range(150):
            stage.brings(Arrived(ANNA, bytes(20)))
        await stage.quiet()
        assert left[0] == left[59] == 90, "what one frame brought, 60 messages, comes first"
        assert left[60] == 30
        assert len(left) == 150, "nothing is lost"


async def test_ticks_are_spared_while_much_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Stage().running() as stage:
        before = len(stage.core.ticks)
        for _ in range(5):
            await stage.heard()
        assert len(stage.core.ticks) == before
        await trio.sleep(1)
        assert len(stage.core.ticks) == before + 1, "one more, to learn when it wants the next"


async def test_a_vote_that_comes_too_late_is_not_even_read() -> None:
    vote = SIGNERS[ANNA].sign(Commit(0, 0, 1, bytes(32), 0)).raw
    async with Stage().running(ANNA) as stage:
        stage.core.is_redundant = lambda claim: claim.fields[2] <= 1  # type: ignore[method-assign]
        stage.brings(Arrived(ANNA, vote))
        late = SIGNERS[ANNA].sign(Commit(0, 0, 2, bytes(32), 0)).raw
        stage.brings(Arrived(ANNA, late))
        await stage.quiet()
        heard = [event.message for event in stage.core.heard if isinstance(event, Received)]
        assert heard == [late]


# --- what comes from the callers ------------------------------------------------------------


async def test_a_caller_is_answered_when_its_bundle_is_durable() -> None:
    stage = Stage(eager=False)
    answers: list[Any] = []
    async with stage.running(ANNA, BERT):
        stage.core.bundle_room = 1
        stage.node.enqueue(b"op", answers.append)
        await stage.quiet()
        await stage.heard(stage.deliver(1, (BERT, 1, 1, 3), (ME, 1, 1, 1)))
        assert answers == []
        stage.disk.finish()
        await stage.quiet()
        assert answers == [Outcome(4)]
        status = stage.node.status()
        assert (status["operations"], status["own_operations"]) == (4, 1)
        assert (status["pending"], status["revision"]) == (0, 4)


async def test_bundles_of_an_earlier_life_answer_nobody() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        answers: list[Any] = []
        stage.core.bundle_room = 1
        stage.node.enqueue(b"op", answers.append)
        await stage.heard(stage.deliver(1, (ME, 0, 1, 1)))
        assert answers == []


async def test_everything_that_waits_becomes_one_bundle() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        for number in range(5):
            stage.node.enqueue(b"%d" % number, lambda _: None)
        await stage.quiet()
        assert submitted(stage) == []
        stage.core.bundle_room = 2
        await stage.heard()
        assert submitted(stage) == [(b"0", b"1", b"2", b"3", b"4")]


async def test_a_bundle_is_bounded_in_count_and_in_bytes() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        small = callers.BUNDLE_OPERATIONS_MAX + 3
        for _ in range(small):
            stage.node.enqueue(b"x", lambda _: None)
        for _ in range(2):
            stage.node.enqueue(bytes(callers.OPERATION_BYTES_MAX), lambda _: None)
        stage.core.bundle_room = 5
        await stage.heard()
        assert [len(ops) for ops in submitted(stage)] == [small - 3, 4, 1]


async def test_those_who_are_no_members_have_one_members_share_together_and_count_nowhere() -> None:
    eve = b"e" * 32
    async with Stage().running(ANNA, eve) as stage:

        def works(event: Event) -> Sequence[Effect]:
            stage.busy_s += 2 * ALLOWANCE_S
            return ()

        stage.core.plays = works
        stage.brings(Arrived(ANNA, b"nothing"))
        stage.brings(Arrived(eve, b"nothing"))
        await stage.quiet()
        resting = stage.node._shares.resting
        now = trio.current_time()
        assert resting[eve] - now > (FOLLOWERS_MAX - 1) * (resting[ANNA] - now) > 0
        assert stage.node.status()["reachable"] == ["anna"]
        stage.core.plays = lambda _: (HangUp(eve, "it lied"),)
        stage.brings(Arrived(BERT, b"what eve says"))
        await stage.quiet()
        assert stage.wires.closed == [(eve, "it lied")]
        assert stage.node.status()["refused"] == {}


async def test_links_hear_whom_the_core_wants_and_whom_it_introduces() -> None:
    async with Stage().running(ANNA) as stage:
        assert stage.wires.wanted == []
        stage.core.wants = frozenset((BERT,))
        stage.core.executed, stage.core.reached, stage.core.time_ms = 9, {CARL: 7, BERT: 10}, 5
        await stage.heard(Introduce(ANNA, (BERT, CARL)))
        assert stage.wires.wanted == [frozenset((BERT,))]
        assert stage.wires.introduced == [(ANNA, (BERT, CARL))]
        assert [stage.node.behind(key) for key in (CARL, BERT, ANNA)] == [2, 0, None]
        assert stage.node.agreed_ms == 5


async def test_what_cannot_be_taken_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "PENDING_OPERATIONS_MAX", 2)
    async with Stage().running(ANNA, BERT) as stage:
        with pytest.raises(TooLarge):
            stage.node.enqueue(bytes(callers.OPERATION_BYTES_MAX + 1), lambda _: None)
        for _ in range(2):
            stage.node.enqueue(b"x", lambda _: None)
        with pytest.raises(Busy):
            await stage.node.submit(b"x")


async def test_many_operations_wait_for_room_and_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callers, "PENDING_OPERATIONS_MAX", 4)
    stage = Stage()
    async with stage.running(ANNA, BERT):
        stage.core.bundle_room = 100
        stage.core.plays = lambda event: (
            (stage.deliver(1, (ME, 1, stage.core.bundles, len(event.operations))),)
            if isinstance(event, Submitted)
            else ()
        )
        outcomes = await submit_many(stage.node, [b"%d" % n for n in range(10)])
        assert outcomes == [Outcome(n) for n in range(1, 11)]
        assert b"".join(op for ops in submitted(stage) for op in ops) == b"0123456789"
        assert await submit_many(stage.node, []) == []


def answers(stage: Stage, *, is_fresh: bool) -> None:
    """The members answer each question at once; operations are executed at once, too."""

    def plays(event: Event) -> Sequence[Effect]:
        if isinstance(event, Asked):
            return (Confirmed(event.number, is_fresh),)
        return (stage.deliver(1, (ME, 1, 1, 1)),) if isinstance(event, Submitted) else ()

    stage.core.bundle_room = 1
    stage.core.plays = plays


def questions(stage: Stage) -> list[int]:
    return [event.number for event in stage.core.heard if isinstance(event, Asked)]


async def test_a_barrier_is_a_question_and_no_operation() -> None:
    stage = Stage()
    async with stage.running(ANNA, BERT):
        answers(stage, is_fresh=True)
        await stage.node.barrier()
        await stage.node.barrier()
        assert (questions(stage), submitted(stage)) == ([1, 2], [])


async def test_a_barrier_is_an_operation_where_too_few_answer() -> None:
    stage = Stage()
    async with stage.running(ANNA, BERT):
        answers(stage, is_fresh=False)
        await stage.node.barrier()
        assert (questions(stage), submitted(stage)) == ([1], [(Barrier().encode(),)])


async def test_who_comes_while_a_question_is_under_way_waits_for_the_next_one() -> None:
    stage = Stage()
    async with stage.running(ANNA, BERT), trio.open_nursery() as nursery:
        read = []

        async def reader(name: str) -> None:
            await stage.node.barrier()
            read.append(name)

        nursery.start_soon(reader, "first")
        await stage.quiet()
        for name in ("second", "third"):
            nursery.start_soon(reader, name)
        await stage.quiet()
        assert questions(stage) == [1]
        await stage.heard(Confirmed(1, is_fresh=True))
        assert read == ["first"]
        assert questions(stage) == [1, 2], "one for both"
        await stage.heard(Confirmed(2, is_fresh=True))
        assert sorted(read) == ["first", "second", "third"]


async def test_nothing_is_fresh_before_what_was_decided_before_is_on_the_disk() -> None:
    stage = Stage(eager=False)
    async with stage.running(ANNA, BERT), trio.open_nursery() as nursery:
        read = trio.Event()

        async def reader() -> None:
            await stage.node.barrier()
            read.set()

        nursery.start_soon(reader)
        await stage.quiet()
        await stage.heard(stage.deliver(1, (ANNA, 1, 1, 1)), Confirmed(1, is_fresh=True))
        assert not read.is_set()
        stage.disk.finish()
        await stage.quiet()
        assert read.is_set()


async def test_a_barrier_without_an_answer_says_why(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Stage().running(ANNA, BERT) as stage:
        with pytest.raises(Unconfirmed, match="not confirmed within 2 s"):
            await stage.node.barrier(timeout_s=2)
    async with Stage().running(ANNA) as stage:
        with pytest.raises(NoQuorum, match="2 of 4 nodes reachable"):
            await stage.node.barrier(timeout_s=2)
        assert questions(stage) == [], "nobody to ask"


@pytest.mark.parametrize("how", ["halts", "stops"])
async def test_who_waits_for_an_answer_is_told_of_the_end(how: str) -> None:
    stage = Stage()
    async with trio.open_nursery() as nursery:
        told: list[BaseException] = []

        async def reader() -> None:
            try:
                await stage.node.barrier()
            except ReplicationError as error:
                told.append(error)

        async with stage.running(ANNA, BERT):
            for _ in range(2):
                nursery.start_soon(reader)
                await stage.quiet()
            if how == "halts":
                stage.core.halted = "that is enough"
                await stage.heard(Alarm("that is enough", ME))
            else:
                await stage.node.stop()
            await stage.quiet()
            assert [type(error) for error in told] == [Halted if how == "halts" else Stopped] * 2
            told.clear()
            await reader()
            assert len(told) == 1


# --- no answer ------------------------------------------------------------------------------


async def test_without_a_quorum_nothing_is_bundled_and_the_answer_names_who_is_missing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Stage().running(CARL) as stage:
        stage.core.bundle_room = 1
        with pytest.raises(NoQuorum) as caught:
            await stage.node.submit(b"op", timeout_s=2)
        assert str(caught.value) == "no quorum: 2 of 4 nodes reachable; waiting for anna, bert"
        assert not caught.value.taken
        stage.brings(LinkOpened(ANNA, None, 7))  # type: ignore[arg-type]
        await stage.quiet()
        assert submitted(stage) == [], "a withdrawn operation never happens"
        assert stage.node.status()["pending"] == 0


async def test_those_who_gave_up_make_room_for_others_even_without_a_quorum(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "PENDING_OPERATIONS_MAX", 3)
    async with Stage().running() as stage:
        for _ in range(10):
            with pytest.raises(NoQuorum):
                await stage.node.submit(b"op", timeout_s=1)
        assert stage.node.status()["pending"] <= 1


async def test_a_lost_quorum_says_that_the_operation_may_still_happen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Stage().running(ANNA, CARL) as stage:
        stage.core.bundle_room = 1
        async with trio.open_nursery() as nursery:
            caught: list[Exception] = []

            async def call() -> None:
                with pytest.raises(NoQuorum) as info:
                    await submit_many(stage.node, [b"a", b"b"], timeout_s=2)
                caught.append(info.value)

            nursery.start_soon(call)
            await stage.quiet()
            stage.brings(LinkClosed(ANNA, "gone"))
        assert caught[0].taken  # type: ignore[attr-defined]


async def test_with_a_quorum_lateness_is_a_time_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Stage().running(ANNA, CARL) as stage:
        with pytest.raises(Unconfirmed, match=r"not confirmed within 1.5 s"):
            await stage.node.submit(b"op", timeout_s=1.5)


async def test_all_callers_hear_of_the_end() -> None:
    stage = Stage()
    caught: list[Exception] = []

    async def call(operations: list[bytes]) -> None:
        with pytest.raises(Stopped) as info:
            await submit_many(stage.node, operations)
        caught.append(info.value)

    async with trio.open_nursery() as nursery:
        async with stage.running():
            nursery.start_soon(call, [b"a", b"b"])
            nursery.start_soon(call, [b"c"])
            await stage.quiet()
    assert len(caught) == 2


# --- time, and those who watch --------------------------------------------------------------


async def test_the_replica_is_woken_when_it_asked_to_be_and_not_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with stage.running():
        start_ticks = int(trio.current_time() * 1000)
        before = len(stage.core.ticks)
        stage.core.wake_at = start_ticks + 5000
        await stage.heard()
        await trio.sleep(60)
        woken = [tick.now_ticks - start_ticks for tick in stage.core.ticks[before + 1 :]]
        assert len(woken) == 1
        assert 5000 <= woken[0] <= 5002
        assert stage.core.ticks[-1].clock_ms == 1_000_000


async def test_a_replica_that_asks_for_the_past_does_not_spin_the_processor(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Insistent(Core):
        def step(self, event: Event) -> Sequence[Effect]:
            super().step(event)
            self.wake_at = 0
            return ()

    stage = Stage()
    stage.node._core = stage.core = Insistent()
    async with stage.running():
        before = len(stage.core.ticks)
        await trio.sleep(1)
        assert len(stage.core.ticks) - before <= 1001


async def test_watchers_wake_once_per_news_and_at_once_for_old_news() -> None:
    stage = Stage()
    seen: list[int] = []

    async def watch() -> None:
        newest = 0
        while newest < 5:
            newest = await stage.node.revision_after(newest)
            seen.append(newest)

    async with stage.running(), trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await stage.quiet()
        await stage.heard(stage.deliver(1, (BERT, 1, 1, 2)))
        await stage.heard(stage.deliver(2))
        await stage.heard(stage.deliver(3, (BERT, 1, 2, 3)))
        assert seen == [2, 5]
        assert await stage.node.revision_after(1) == 5


async def test_the_state_root_is_taken_when_it_is_quiet_and_once_only(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performer, "QUIET_TICKS", 300)
    async with Stage().running() as stage:
        await stage.heard(stage.deliver(1))
        assert stage.node.status()["state_root_executed"] == -1
        await trio.sleep(1)
        status = stage.node.status()
        assert (status["state_root"], status["state_root_executed"]) == (b"root".hex(), 1)
        transactions = len(stage.store.transactions)
        await trio.sleep(100)
        assert len(stage.store.transactions) == transactions
        assert not any(isinstance(event, RootTaken) for event in stage.core.heard)


async def test_reads_see_the_database() -> None:
    async with Stage().running() as stage:
        stage.store.revision = 7
        assert await stage.node.read(lambda store: store.revision) == 7


async def test_status_is_plain_data() -> None:
    async with Stage().running(ANNA) as stage:
        status = stage.node.status()
        assert status["primary_name"] == "anna"
        assert status["nodes"] == 4
        assert status["has_quorum"] is False
        assert status["reachable"] == ["anna"]


def submitted(stage: Stage) -> list[tuple[bytes, ...]]:
    return [event.operations for event in stage.core.heard if isinstance(event, Submitted)]


# --- who the members are ----------------------------------------------------------------------


async def test_what_is_about_members_goes_in_bundles_of_its_own() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        for name in "ab":
            stage.node.enqueue(name.encode(), lambda _: None)
        stage.node.enqueue(b"ballot", lambda _: None, of_members=True)
        stage.node.enqueue(b"c", lambda _: None)
        stage.core.bundle_room = 3
        stage.node.notify()
        await stage.quiet()
        assert [e for e in stage.core.heard if isinstance(e, Submitted)] == [
            Submitted((b"a", b"b")),
            Submitted((b"ballot",), of_members=True),
            Submitted((b"c",)),
        ]


async def test_other_members_are_known_before_the_replica_goes_on() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        stage.successors[1] = successor = members(1, ME, ANNA, quorum=2, start=1)
        stage.store.rolls = [Roll((), 1, 1)]
        number = SIGNERS[ANNA].sign(Bundle(1, 1, (b"x",) * 9, of_members=True))
        await stage.heard(Deliver(1, 1, (number,), b"certificate"), Settle(1))
        settled = Settled(1, b"root", successor.configuration, successor.parameters)
        assert stage.core.heard[-1] == settled
        status = stage.node.status()
        assert (status["nodes"], status["quorum"], status["configuration"]) == (2, 2, 1)
        assert status["reachable"] == ["anna"], "bert has a link still, and does not count"
        assert status["has_quorum"]
        assert stage.node.name(BERT) != "bert"


async def test_what_the_members_agreed_on_is_what_callers_go_by_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with Stage().running(ANNA, BERT) as stage:
        before = stage.node.members
        now = replace(before.parameters, bytes_a_second=400, timeout_ticks=10_000)
        stage.successors[1] = replace(
            members(1, ME, ANNA, BERT, quorum=2, start=1),
            parameters=now,
            agreed=(Agreed("pbft_timeout", 10_000, 1),),
        )
        stage.store.rolls = [Roll((), 1, 1)]
        await stage.heard(Settle(1))
        assert stage.core.heard[-1].parameters == now
        with pytest.raises(TooLarge, match="bound is 2000"):
            stage.node.enqueue(bytes(2001), lambda _: None)
        assert "pbft_timeout is 10 seconds" in caplog.text


async def test_what_a_batch_would_do_is_asked_of_the_disk() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        await stage.heard(Foresee(1, 5, (), b"digest"))
        assert stage.core.heard[-1] == Foreseen(1, b"digest", b"")


async def test_the_members_of_a_state_that_was_fetched_are_met_before_the_replica_goes_on() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        stage.successors[3] = successor = members(3, ME, ANNA, quorum=2, start=1)
        stage.store.rolls = [Roll((), 3, 1)]
        await stage.heard(InstallState(8))
        settled = Settled(8, b"root", successor.configuration, successor.parameters)
        assert stage.core.heard[-1] == settled
        assert stage.node.status()["configuration"] == 3


async def test_members_who_came_later_prove_with_what_leads_to_them() -> None:
    made = proofs.changed(2)
    async with Stage().running(ANNA, BERT) as stage:
        stage.core.stable = proofs.SEQUENCE
        stage.core.stable_checkpoint = tuple(made.checkpoint(index) for index in range(3))
        stage.store.shown = (made.shows("door"), proofs.SEQUENCE)
        for known in ((), made.handovers[:1]):
            stage.store.lineage = known
            with pytest.raises(NoLineage, match=f"only {len(known)} of 2 changes"):
                await stage.node.prove("door")
        stage.store.lineage = made.handovers
        assert await stage.node.prove("door") == made.proof("door")
        stage.store.lineage = (made.handovers[0], bytes(proof.PROOF_BYTES_MAX))
        with pytest.raises(NoLineage, match="too often"):
            await stage.node.prove("door")


async def test_a_batch_about_members_that_changes_none_is_settled_too() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        stage.store.rolls = [Roll(()), Roll(())]
        await stage.heard(Settle(1), Settle(2, is_signed=True))
        now = members().configuration
        assert [e.sequence for e in stage.core.heard if isinstance(e, Settled)] == [1, 2]
        assert all(e.configuration == now for e in stage.core.heard if isinstance(e, Settled))
        assert (stage.node.root, stage.node.root_sequence) == (b"root", 2)


async def test_who_is_no_member_any_more_says_so_to_all_who_wait() -> None:
    async with Stage().running(ANNA, BERT) as stage:
        answers: list[Any] = []
        stage.core.bundle_room = 1
        stage.node.enqueue(b"under way", answers.append)
        await stage.quiet()
        stage.node.enqueue(b"in line", answers.append)
        stage.successors[1] = members(1, ANNA, BERT, CARL, quorum=2, start=1)
        stage.store.rolls = [Roll((), 1, 1)]
        await stage.heard(Settle(1))
        assert [type(answer) for answer in answers] == [NoMember, NoMember]
        assert not stage.node.status()["is_member"]
        assert not stage.node.has_quorum, "two of three are reachable, and it is none of them"
        with pytest.raises(NoMember, match="no member"):
            await stage.node.barrier()
        assert not any(isinstance(event, Asked) for event in stage.core.heard)
        with pytest.raises(NoMember, match="no member of the cluster: it follows 3"):
            stage.node.enqueue(b"late", answers.append)

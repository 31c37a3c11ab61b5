"""A crowd of observers behind four voters: who feeds whom, what it costs the voters, who lags.

Knows links, their delays and what goes over them, boards that stop for a while, and sources that
lie.  All boards run the real core over the real state machine, with real signatures; a message is
read once for all observers, but by each voter for itself, so that what a voter uses of a processor
is its own.  Disks are quick here: `world` is where they are not.
"""

from __future__ import annotations

import gc
import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from aegis_edge.crypto import sodium
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import Put
from aegis_edge.knowledge.roll import Roll
from aegis_edge.pbft import certificates
from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.events import (
    BatchesGone,
    Deliver,
    Event,
    HangUp,
    InstallState,
    JudgePart,
    LinkDown,
    LinkUp,
    PartSent,
    Received,
    RootTaken,
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
from aegis_edge.pbft.followers import FOLLOWERS_MAX
from aegis_edge.pbft.replica import Replica
from aegis_edge.wire import messages as wire
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from tests.sim.disk import Disk
from tests.sim.machine import HISTORY_VERSIONS, RULES, Applied, DictState, configuration_of

CLUSTER_ID = b"crowd".ljust(32)
VOTERS = 4
PARAMETERS = Parameters(timeout_ticks=6_000, status_ticks=2_000, checkpoint_interval=16, window=64)
EPOCH_MS = 1_700_000_000_000
#: One batch of so many values a second.
BATCH_TICKS, PUTS, VALUE_BYTES = 1_000, 3, 100
#: A window of peace, one of troubles, and how long everybody has to be level before and after.
CALM_TICKS, TROUBLED_TICKS, LEVEL_TICKS = 15_000, 30_000, 60_000
#: Of a hundred observers, so many stop for a while, and so many lie where there is trouble.
CRASHES, LIARS = 10, 15
DOWN_TICKS = 5_000
VICES = ("forge", "stall", "hide", "garbage")
READ_MAX = 20_000
#: Behind so many, further ones cost a voter nothing; but for a few questions.
FED_BY_VOTERS, GROWTH_MAX = VOTERS * FOLLOWERS_MAX, 1.25


class Copy(Applied):
    """The applied state of one board."""

    def __init__(self, founders: Roll) -> None:
        self.state = DictState()
        self.founders = founders
        Machine.__init__(self, self.state, HISTORY_VERSIONS, founders, RULES)


@dataclass
class Traffic:
    """What went over the links of one board, and the processor's time that it took."""

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    links: int = 0
    cpu_s: float = 0.0


class Board:
    """A voter or an observer.  `vice`: what it does to those who follow it, in times of trouble."""

    def __init__(self, crowd: Crowd, index: int, vice: str = "") -> None:
        self.crowd = crowd
        self.index = index
        self.vice = vice
        self.signer = crowd.signers[index]
        self.key = self.signer.public
        self.is_voter = index < VOTERS
        self.disk = Disk(Copy(crowd.founders), kept=crowd.kept)
        self.replica: Any = None
        self.traffic = Traffic()
        self.links: dict[int, int] = {}  # to whom, and when the last message arrives there
        self.made: set[int] = set()  # those of its own making
        self.asked_after: dict[bytes, int] = {}
        self._read = Opener(CLUSTER_ID).open if self.is_voter else crowd.open
        self._life = 0
        self._armed: int | None = None

    @property
    def executed(self) -> int:
        return int(self.disk.machine.executed)

    @property
    def is_honest(self) -> bool:
        return not self.vice

    def start(self) -> None:
        configuration = configuration_of(self.disk.machine.roll)
        restored = self.disk.restored()
        self.replica = Replica(self.signer, configuration, PARAMETERS, restored, self._read)
        self.tick()

    def stop(self) -> None:
        for peer in list(self.links):
            self.crowd.unlink(self.index, peer)
        self.replica, self._armed = None, None
        self._life += 1

    # --- events ---

    def tick(self) -> None:
        self.step(Tick(self.crowd.now, EPOCH_MS + self.crowd.now))

    def _wake(self, what: tuple[int, int]) -> None:
        if what == (self._life, self._armed):
            self._armed = None
            self.tick()

    def arrived(self, what: tuple[int, bytes]) -> None:
        peer, raw = what
        if self.replica is None or peer not in self.links:
            return
        self.traffic.messages_in += 1
        self.traffic.bytes_in += len(raw)
        began = time.thread_time() if self.is_voter else 0.0
        try:
            message = wire.read(raw, self._read) if self.is_voter else self.crowd.read(raw)
        except WireError:
            self.crowd.unlink(self.index, peer)
            return
        if isinstance(message, wire.Follow):
            self.asked_after[self.crowd.boards[peer].key] = message.after
        self.step(Tick(self.crowd.now, EPOCH_MS + self.crowd.now), is_last=False)
        self.step(Received(self.crowd.boards[peer].key, message))
        if self.is_voter:
            self.traffic.cpu_s += time.thread_time() - began

    def step(self, event: Event, *, is_last: bool = True) -> None:
        follow = [event]
        while follow and self.replica is not None:
            for effect in self.replica.step(follow.pop(0)):
                follow += self._perform(effect)
        if is_last and self.replica is not None:
            wake_at = self.replica.wake_at
            if wake_at is not None and (self._armed is None or wake_at < self._armed):
                self._armed = max(wake_at, self.crowd.now + 1)
                self.crowd.at(self._armed, self._wake, (self._life, self._armed))
            self.crowd.wanted(self)

    # --- effects ---

    def _perform(self, effect: Any) -> list[Event]:
        if isinstance(effect, Send):
            for peer in effect.peers:
                self._send(peer, effect.raw)
        elif isinstance(effect, SendCommitted):
            return self._hand_on(effect)
        elif isinstance(effect, SendPart):
            data = None
            while data is None:
                data = self.disk.part(effect.peer, effect.sequence, effect.kind, effect.items)
            part = wire.StatePart(effect.sequence, effect.kind, data)
            self._send(effect.peer, part.pack())
            return [PartSent(effect.peer, len(data), 0)]
        elif isinstance(effect, HangUp):
            self.crowd.unlink(self.index, self.crowd.index_of[effect.peer])
        elif isinstance(effect, Step):
            return self._write(effect)
        return []

    def _write(self, step: Step) -> list[Event]:
        if isinstance(step, Deliver):
            self.crowd.delivered(self, step)
            step = replace(step, certificate=self.crowd.shared(step.certificate))
        result = self.disk.perform(step)
        if isinstance(step, TakeRoot):
            self.crowd.took(self, step.sequence, result)
            return [RootTaken(step.sequence, result)]
        if isinstance(step, Settle):
            root, roll = result
            return [Settled(step.sequence, root, configuration_of(roll), PARAMETERS)]
        if isinstance(step, InstallState):
            self.crowd.took(self, step.sequence, self.disk.machine.root())
            self.crowd.figures["transfers"] += 1
        return [result] if isinstance(step, JudgePart) else []

    def _hand_on(self, effect: SendCommitted) -> list[Event]:
        if self.lies:
            self._lie(effect.peer)
            return []
        found = self.disk.certified(effect.first, effect.last, effect.bytes_max)
        for raw in found:
            self._send(effect.peer, raw)
        return [] if found else [BatchesGone(effect.peer, effect.first)]

    @property
    def lies(self) -> bool:
        return self.crowd.is_troubled and not self.is_honest

    def _send(self, peer: bytes, raw: bytes) -> None:
        index = self.crowd.index_of[peer]
        if self.lies and index >= VOTERS and peer in self.asked_after:
            if self.vice == "stall":
                return
            if self.vice == "hide" and raw[:2] == _REACHED:
                raw = wire.Reached(self.asked_after[peer], 0, True, ()).pack()
        self.crowd.send(self.index, index, raw)

    def _lie(self, peer: bytes) -> None:
        """A batch that nobody agreed on, proven by friends; or noise, or nothing at all."""
        if self.vice == "forge":
            sequence = self.asked_after.get(peer, 0) + 1
            put = Put("forged", b"%d" % sequence).encode()
            batch = wire.Batch((), (self.signer.sign(wire.Bundle(sequence, 1, (put,))),))
            commit = wire.Commit(0, 0, sequence, batch.digest, 0)
            friends = self.crowd.signers[VOTERS : VOTERS + 3]
            votes = tuple(friend.sign(commit) for friend in friends)
            self._send(peer, wire.Committed(votes, batch).pack())
        elif self.vice == "garbage":
            self._send(peer, self.crowd.chance.randbytes(100))


_REACHED = wire.Reached(0, 0, True, ()).pack()[:2]


class Crowd:
    """Four voters, and as many observers as `grow` was told."""

    def __init__(self, observers_max: int, seed: int = 0, *, kept: int = 1 << 30) -> None:
        self.chance = random.Random(f"{seed} crowd")
        self.kept = kept
        self.now = 0
        self.is_troubled = False
        self.violations: list[str] = []
        self.figures: Counter[str] = Counter()
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._serial = 0
        seeds = [sodium.digest(b"crowd", b"%d" % i) for i in range(VOTERS + observers_max)]
        voters = sorted((Signer(s, CLUSTER_ID) for s in seeds[:VOTERS]), key=lambda s: s.public)
        self.signers = [*voters, *(Signer(s, CLUSTER_ID) for s in seeds[VOTERS:])]
        self.index_of = {signer.public: i for i, signer in enumerate(self.signers)}
        self.founders = Roll(tuple((s.public, _record(s)) for s in voters))
        self.open = Opener(CLUSTER_ID).open
        self._known: dict[bytes, wire.Message] = {}
        self._shared: dict[bytes, bytes] = {}
        #: What the voters agreed on, as the first of them executed it: its certificate's batch, and
        #: when that was; and the state root after it.
        self._digests: dict[int, bytes] = {}
        self._decided: dict[int, int] = {}
        self._roots: dict[int, bytes] = {}
        self.lags: list[int] = []
        self._measured: set[int] = set()  # batches of the window, whose lags count
        self._stopped: set[Board] = set()  # who was off for a part of it, and is late for that
        self._number = 0
        # One voter of the four is no good source, in times of trouble.
        self.boards = [Board(self, i, "hide" if i == 0 else "") for i in range(VOTERS)]
        for board in self.boards:
            board.start()
        for a in range(VOTERS):
            for b in range(a + 1, VOTERS):
                self.link(a, b)

    # --- time ---

    def at(self, tick: int, action: Callable[[Any], None], argument: Any) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (tick, self._serial, action, argument))

    def run(self, ticks: int) -> None:
        """Let so much time pass, in which callers write."""
        until = self.now + ticks
        self.at(until, lambda _: None, None)
        while self._heap[0][0] <= until:
            self.now, _, action, argument = heapq.heappop(self._heap)
            action(argument)
        self.now = until

    # --- links ---

    def link(self, a: int, b: int) -> None:
        """A link is made and measured."""
        if b in self.boards[a].links or any(self.boards[i].replica is None for i in (a, b)):
            return
        for own, peer in ((a, b), (b, a)):
            self.boards[own].links[peer] = self.now
            self.boards[own].traffic.links += 1
        for own, peer in ((a, b), (b, a)):
            self.boards[own].step(LinkUp(self.boards[peer].key, 50))

    def unlink(self, a: int, b: int) -> None:
        for own, peer in ((a, b), (b, a)):
            board = self.boards[own]
            if board.links.pop(peer, None) is not None and board.replica is not None:
                board.made.discard(peer)
                board.step(LinkDown(self.boards[peer].key))

    def wanted(self, board: Board) -> None:
        """Make the links that an observer wants, and end those of its own that it wants no more."""
        if board.is_voter:
            return
        wants = {self.index_of[key] for key in board.replica.following.wants}
        for peer in sorted(board.made - wants):
            board.made.discard(peer)
            self.at(self.now + 1, self._end, (board.index, peer))
        for peer in sorted(wants - board.made - board.links.keys()):
            board.made.add(peer)
            self.at(self.now + self.chance.randrange(50, 150), self._make, (board.index, peer))

    def _make(self, pair: tuple[int, int]) -> None:
        board = self.boards[pair[0]]
        if pair[1] in board.made:
            self.link(*pair)
            if pair[1] not in board.links:  # it is off: perhaps it is back later
                board.made.discard(pair[1])

    def _end(self, pair: tuple[int, int]) -> None:
        if pair[1] not in self.boards[pair[0]].made and pair[0] not in self.boards[pair[1]].made:
            self.unlink(*pair)

    def send(self, source: int, target: int, raw: bytes) -> None:
        sender = self.boards[source]
        if target not in sender.links:
            return
        sender.traffic.messages_out += 1
        sender.traffic.bytes_out += len(raw)
        arrives = self.now + 5 + (source * 7 + target * 13) % 40 + self.chance.randrange(5)
        sender.links[target] = arrives = max(arrives, sender.links[target])
        self.at(arrives, self.boards[target].arrived, (source, raw))

    # --- what all observers share ---

    def read(self, raw: bytes) -> wire.Message:
        """The message in bytes, read once; raises `WireError`."""
        message = self._known.get(raw)
        if message is None:
            message = wire.read(raw, self.open)
            if len(self._known) > READ_MAX:
                self._known.clear()
            self._known[raw] = message
        return message

    def shared(self, raw: bytes) -> bytes:
        """Equal bytes are kept once."""
        return self._shared.setdefault(raw, raw)

    # --- the judge ---

    def delivered(self, board: Board, step: Deliver) -> None:
        committed = self.read(step.certificate)
        assert isinstance(committed, wire.Committed)
        digest = committed.batch.digest
        if board.is_voter:
            self._decided.setdefault(step.sequence, self.now)
            if self._digests.setdefault(step.sequence, digest) != digest:
                self.violations.append(f"two batches at {step.sequence}")
        elif self._digests.get(step.sequence) != digest:
            self.violations.append(f"observer {board.index} executed another {step.sequence}")
        elif step.sequence in self._measured and board.is_honest and board not in self._stopped:
            self.lags.append(self.now - self._decided[step.sequence])

    def took(self, board: Board, sequence: int, root: bytes) -> None:
        """Every state is the voters' at the same sequence; who executes it first is one of them."""
        if self._roots.setdefault(sequence, root) != root:
            self.violations.append(f"board {board.index} has another state after {sequence}")

    def behind(self) -> list[int]:
        """The honest boards that run and lack something that was decided a while ago."""
        old = [s for s, tick in self._decided.items() if tick <= self.now - BATCH_TICKS]
        least = max(old, default=0)
        return [
            board.index
            for board in self.boards
            if board.is_honest and board.replica is not None and board.executed < least
        ]

    # --- what happens ---

    def grow(self, observers: int) -> int:
        """More observers come, some each tick; gives how long it took until all were level."""
        began = self.now
        for index in range(len(self.boards), VOTERS + observers):
            is_liar = self.chance.randrange(100) < LIARS
            vice = self.chance.choice(VICES) if is_liar else ""
            self.boards.append(Board(self, index, vice))
            self.at(self.now + 5 * (index - VOTERS), lambda board: board.start(), self.boards[-1])
        self.run(5 * observers + 1)
        return self._until_level(began)

    def _until_level(self, began: int) -> int:
        until = self.now + LEVEL_TICKS
        while self.behind() and self.now < until and not self.violations:
            self.run(500)
        if late := self.behind():
            self.violations.append(f"{len(late)} boards are left behind, such as {late[0]}")
        return self.now - began

    def write(self, _: None) -> None:
        """A voter's callers have something to say, again and again."""
        self._number += 1
        operations = tuple(
            Put(f"key/{self._number % 50}/{i}", self.chance.randbytes(VALUE_BYTES)).encode()
            for i in range(PUTS)
        )
        voter = self.boards[self._number % VOTERS]
        began = time.thread_time()
        voter.step(Submitted(operations))
        voter.traffic.cpu_s += time.thread_time() - began
        self.at(self.now + BATCH_TICKS, self.write, None)

    def window(self, ticks: int, *, is_troubled: bool) -> dict[str, Any]:
        """What happens in so much time: what each voter has to do, and how late observers are."""
        observers = self.boards[VOTERS:]
        self.is_troubled, self.lags = is_troubled, []
        if is_troubled:
            for board in observers:
                if self.chance.randrange(100) < CRASHES:
                    self.at(self.now + self.chance.randrange(ticks), self._crash, board)
        for board in self.boards:
            board.traffic = Traffic()
        first = max(self._decided, default=0) + 1
        self._stopped.clear()
        self._measured = set(range(first, first + ticks // BATCH_TICKS - 1))
        self.run(ticks)
        self.is_troubled = False
        used = [replace(board.traffic) for board in self.boards[:VOTERS] if board.is_honest]
        self._until_level(self.now)
        self._measured = set()
        return _figures(used, [board.traffic for board in observers], self.lags, ticks)

    def _crash(self, board: Board) -> None:
        if board.replica is not None:
            self.figures["crashes"] += 1
            self._stopped.add(board)
            board.stop()
            self.at(self.now + DOWN_TICKS, self._restart, board)

    def _restart(self, board: Board) -> None:
        if board.replica is None:
            board.start()

    def depths(self) -> dict[int, int]:
        """How many observers are how far from the voters."""
        found = Counter(b.replica.source[1] for b in self.boards[VOTERS:] if b.replica is not None)
        return dict(sorted(found.items()))


def _record(signer: Signer) -> bytes:
    return signer.sign(wire.NodeRecord(1, bytes(32), (), wire.COUNTER_MAX, "")).raw


def _figures(
    voters: Iterable[Traffic], observers: Iterable[Traffic], lags: list[int], ticks: int
) -> dict[str, Any]:
    seconds, lags = ticks / 1_000, sorted(lags) or [0]
    used, fed = list(voters), list(observers)

    def most(name: str) -> float:
        return round(max(getattr(each, name) for each in used) / seconds, 1)

    return {
        "bytes_in_s": most("bytes_in"),
        "bytes_out_s": most("bytes_out"),
        "messages_in_s": most("messages_in"),
        "messages_out_s": most("messages_out"),
        "links_s": most("links"),
        "cpu_ms_s": round(1000 * max(each.cpu_s for each in used) / seconds, 2),
        "observer_bytes_out_s": round(
            sum(t.bytes_out for t in fed) / max(1, len(fed)) / seconds, 1
        ),
        "lag_p50_ms": lags[len(lags) // 2],
        "lag_p99_ms": lags[len(lags) * 99 // 100],
        "lag_max_ms": lags[-1],
        "executed": len(lags),
    }


def measure(observers: int, tell: Callable[[str], None], seed: int = 0) -> dict[str, Any]:
    """Up to so many observers, in steps: what that costs a voter, and how late they are."""
    gc.collect()
    crowd = Crowd(observers, seed)
    crowd.at(1, crowd.write, None)
    crowd.run(5_000)
    sizes = sorted({size for size in (0, 10, 100, observers) if size <= observers})
    rows = []
    tell(_HEAD)
    for size in sizes:
        joined = crowd.grow(size)
        for is_troubled in (False, True) if size else (False,):
            ticks = TROUBLED_TICKS if is_troubled else CALM_TICKS
            row = {"observers": size, "troubled": is_troubled, "level_after_ms": joined}
            row |= crowd.window(ticks, is_troubled=is_troubled)
            row["depths"] = crowd.depths()
            rows.append(row)
            tell(_line(row))
        if crowd.violations:
            break
    return {"rows": rows, "violations": crowd.violations + _unbounded(rows), **crowd.figures}


def _unbounded(rows: list[dict[str, Any]]) -> list[str]:
    """What voters have to do more of for many observers than for as many as they feed."""
    calm = [row for row in rows if row["observers"] > FED_BY_VOTERS and not row["troubled"]]
    return [
        f"{row['observers']} observers cost a voter {row[name]:.0f} of {name}"
        for row in calm
        for name in ("bytes_in_s", "bytes_out_s", "messages_in_s", "messages_out_s")
        if row[name] > GROWTH_MAX * calm[0][name]
    ]


_HEAD = (
    "observers                each second a voter has: in                 out"
    "        CPU links       lag p50    p99     most    how many at which distance"
)


def _line(row: dict[str, Any]) -> str:
    what = "with troubles" if row["troubled"] else "calm"
    depths = ", ".join(f"{count} at {depth}" for depth, count in row["depths"].items())
    return (
        f"{row['observers']:9d} {what:14s} {row['messages_in_s']:9.1f} msg"
        f" {row['bytes_in_s']:7.0f} B {row['messages_out_s']:7.1f} msg"
        f" {row['bytes_out_s']:7.0f} B {row['cpu_ms_s']:7.2f} ms {row['links_s']:5.1f}"
        f" {row['lag_p50_ms']:6d} {row['lag_p99_ms']:6d} {row['lag_max_ms']:7d} ms  {depths}"
    )


def canary(observers: int = 40) -> list[str]:
    """What the judge says where observers believe whoever feeds them: one of them lies."""
    sound = certificates.is_commit
    crowd = Crowd(observers, 1)
    crowd.at(1, crowd.write, None)
    certificates.is_commit = lambda commits, configuration: True
    try:
        crowd.run(2_000)
        crowd.grow(observers)
        crowd.window(TROUBLED_TICKS, is_troubled=True)
    finally:
        certificates.is_commit = sound
    return crowd.violations

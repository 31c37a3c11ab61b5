"""Callers of all nodes who put and read all the time, and remember what they were promised.

Knows the client library and how to write a history down.  Refuses to know why an answer is late,
and to judge: `tests.sim.linearizability` does, as in the simulator.
A put without an answer may have happened or not, so its value is never put again.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_left
from collections.abc import Sequence

import trio

from aegis_edge.client import ClientError, NotFound, connect
from aegis_edge.client.concurrent import TrioClient
from cluster import Node
from tests.sim.linearizability import ABSENT, Call, check

#: Between two calls of one caller, so that two cores carry the nodes and whoever besieges them.
THINK_S = 0.02
#: How long a caller waits for one answer, and for another try after an error.
PATIENCE_S, PAUSE_S = 4.0, 0.1
#: Keys that all callers write and read: few, so that they meet.
SHARED_KEYS = 16


class Callers:
    """`each` callers for each node.  `history` is everything, `held` what each own key must have.

    Own keys are put once; shared ones are put and, linearizably, read.  `distrusted`: nodes whose
    answers are none, while they are in it.
    """

    def __init__(self, nodes: Sequence[Node], seed: int, each: int, think_s: float) -> None:
        self._nodes, self._seed, self._each = nodes, seed, each
        self._think_s = think_s
        self._began = 0
        self.distrusted: set[int] = set()
        self.history: list[Call] = []
        self.held: dict[str, tuple[int, bytes]] = {}
        self.acknowledged: list[float] = []
        self.by_node: list[list[float]] = [[] for _ in nodes]
        self.errors = 0
        #: How far agreed times were ahead of this clock, in milliseconds, at most.
        self.ahead_ms = 0
        self.prefix = ""
        self._moment = 0
        self._rest: trio.Event | None = None
        self._active = 0
        self._quiet = trio.Event()

    # --- for who watches ------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """What is put from now on is `name`'s; what was remembered is forgotten."""
        self._began += 1
        self.prefix = f"siege/{self._began:03d} {name}"
        self.history, self.held = [], {}
        self.acknowledged, self.errors, self.ahead_ms = [], 0, 0
        self.by_node = [[] for _ in self._nodes]

    def rate(self, since: float, until: float) -> float:
        """Answers a second between two moments of Trio's clock."""
        at = self.acknowledged
        return (bisect_left(at, until) - bisect_left(at, since)) / max(until - since, 1e-9)

    async def rest(self) -> None:
        """Return when nobody calls any more; `resume` ends it."""
        self._rest, self._quiet = trio.Event(), trio.Event()
        if self._active:
            await self._quiet.wait()

    def resume(self) -> None:
        if self._rest is not None:
            self._rest.set()
            self._rest = None

    @property
    def answered(self) -> int:
        """How many calls of the history have their answer."""
        return len(self.acknowledged)

    def answered_since(self, moment: int) -> bool:
        """Whether something that was asked after a moment has its answer already."""
        return any(c.invoked > moment and c.returned is not None for c in self.history)

    def anomalies(self) -> list[str]:
        return check(self.history)

    def moment(self) -> int:
        self._moment += 1
        return self._moment

    # --- the callers ----------------------------------------------------------------------------

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for index, node in enumerate(self._nodes):
                for number in range(self._each):
                    name = f"{index}.{number}"
                    chance = random.Random(f"{self._seed} caller {name}")
                    nursery.start_soon(self._caller, index, node, name, chance)

    async def _caller(self, index: int, node: Node, name: str, chance: random.Random) -> None:
        number = 0
        async with connect(str(node.socket), timeout_s=PATIENCE_S) as client:
            while True:
                number += 1
                while self._rest is not None:
                    await self._rest.wait()
                self._active += 1
                try:
                    done = await self._call(index, client, chance, f"{name}.{number}")
                finally:
                    self._active -= 1
                    if not self._active:
                        self._quiet.set()
                if done and index not in self.distrusted:
                    now = trio.current_time()
                    self.acknowledged.append(now)
                    self.by_node[index].append(now)
                await trio.sleep(self._think_s if done else PAUSE_S)

    async def _call(self, index: int, client: TrioClient, chance: random.Random, name: str) -> bool:
        kind = chance.random()
        shared = f"{self.prefix}/shared/{chance.randrange(SHARED_KEYS)}"
        if kind < 0.4:
            return await self.read(index, client, shared)
        key = shared if kind < 0.6 else f"{self.prefix}/own/{name}"
        return await self.put(index, client, key, f"{self._began} {name}".encode(), key != shared)

    async def put(
        self, index: int, client: TrioClient, key: str, value: bytes, own: bool = False
    ) -> bool:
        call, held = Call("put", key, self.moment(), value), self.held
        self.history.append(call)
        try:
            written = await client.put(key, value)
        except ClientError:
            self.errors += 1
            return False
        if index not in self.distrusted:
            call.returned, call.status, call.revision = self.moment(), "done", written.revision
            self.ahead_ms = max(self.ahead_ms, written.time_ms - time.time_ns() // 1_000_000)
            if own:
                held[key] = (written.revision, value)
        return True

    async def read(
        self, index: int, client: TrioClient, key: str, *, linearizable: bool = True
    ) -> bool:
        """A read, written down as a linearizable one in any case."""
        call, history = Call("get", key, self.moment(), status="done"), self.history
        try:
            entry = await client.get(key, linearizable=linearizable)
            call.seen, call.revision = entry.raw, entry.revision
        except NotFound:
            call.seen = ABSENT
        except ClientError:
            self.errors += 1
            return False  # a read without an answer explains nothing
        if index not in self.distrusted:
            call.returned = self.moment()
            history.append(call)
        return True

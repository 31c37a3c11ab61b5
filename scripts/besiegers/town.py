"""The cluster under siege: four processes, the lines between them, and callers all the time.

Knows what must hold after every attack: the cluster commits again at every node, what was
acknowledged is there, the nodes are equal, nobody grew, and no read saw the past.
Refuses to know the attacks.  What ended by itself is started again, as systemd would; nothing else
is helped.
"""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from aegis_edge import config, home
from aegis_edge.client import ClientError
from aegis_edge.pbft.execution import IN_USE_ELSEWHERE
from besiegers.callers import THINK_S, Callers
from besiegers.lines import Lines
from cluster import RUN, Cluster, Node, free_ports

NODES = 4
#: PBFT_TIMEOUT of the nodes: short, so that many attacks fit in a few minutes.
TIMEOUT_S = 1.0
#: How long is watched before and after an attack.
CALM_S = 1.5
#: How long the cluster may take to commit at every node again, and to be equal everywhere.
RECOVERY_S = 60.0
#: What a correct node may hold in memory, whatever is done to it.
RSS_BYTES_MAX = 160_000_000
SAMPLE_S = 0.5
#: How far the agreed time may be ahead of the clock that all correct nodes have.
AHEAD_MS_MAX = 1_000

_ALARM = re.compile(r"ERROR alarm(?: about (\S+))?: (.*?)(?: \(envelopes of evidence.*)?$")


class Fallen(Exception):
    """The cluster did not hold; the text says what is broken."""


@dataclass
class Outcome:
    """What one attack did.  Rates are answers a second; `lost` must be 0 and `wrong` empty."""

    name: str
    room: str
    before: float = 0.0
    during: float = 0.0
    after: float = 0.0
    pause_s: float = 0.0
    recovery_s: float = 0.0
    acknowledged: int = 0
    lost: int = 0
    operations: int = 0
    views: int = 0
    rss_mb_max: float = 0.0
    alarms: list[str] = field(default_factory=list)
    remark: str = ""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Adversary:
    """One attack: `act` returns when it is over, perhaps with what is to be said of it."""

    name: str
    room: str
    act: Callable[[Town], Awaitable[str | None]]
    quick: bool = False

    @property
    def what(self) -> str:
        return " ".join((self.act.__doc__ or "").split())


class Room:
    """The adversaries of one kind, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.adversaries: list[Adversary] = []

    def __call__(
        self, name: str, *, quick: bool = False
    ) -> Callable[[Callable[[Town], Awaitable[str | None]]], None]:
        def add(act: Callable[[Town], Awaitable[str | None]]) -> None:
            self.adversaries.append(Adversary(name, self.name, act, quick))

        return add


class Town:
    """Make with `town`; attack with `besiege`."""

    def __init__(self, directory: Path, seed: int, each: int, think_s: float) -> None:
        doors = free_ports(NODES)
        self.cluster = Cluster(directory, NODES, doors=doors, PBFT_TIMEOUT=f"{TIMEOUT_S:g}")
        self.nodes = self.cluster.nodes
        self.seed = seed
        self.chance = random.Random(f"{seed} town")
        self.lines = Lines(self.nodes, doors, random.Random(f"{seed} lines"))
        self.callers = Callers(self.nodes, seed, each, think_s)
        self.directory = directory
        #: Who is not correct now: nothing that it does or holds is judged.
        self.faulty = self.callers.distrusted
        #: Who does not run its own program, or runs it otherwise than usual.
        self.altered: set[int] = set()
        self._began = 0.0
        self._rss_max = 0
        self._marks: dict[int, int] = {}

    # --- nodes ----------------------------------------------------------------------------------

    @property
    def correct(self) -> list[int]:
        return [index for index in range(NODES) if index not in self.faulty]

    def start(self, index: int, *program: str, **settings: str) -> None:
        """In this thread: the leash of `Node.start` breaks with the thread that held it."""
        if program or settings:
            self.altered.add(index)
        self.nodes[index].start(program or RUN, **settings)

    async def kill(self, *indexes: int, number: int = signal.SIGKILL) -> None:
        for index in indexes:
            node = self.nodes[index]
            if node.process is not None:
                node.process.send_signal(number)
        for index in indexes:
            node = self.nodes[index]
            if node.process is not None:
                await trio.to_thread.run_sync(node.process.wait)
                node.process = None
            self.altered.discard(index)

    async def restart(self, index: int) -> None:
        await self.kill(index)
        self.start(index)

    def signal(self, index: int, number: int) -> None:
        process = self.nodes[index].process
        assert process is not None
        process.send_signal(number)

    async def status(self, index: int) -> dict[str, Any]:
        """What a node says of itself; empty while it does not."""
        try:
            return await trio.to_thread.run_sync(self.nodes[index].status)
        except ClientError:
            return {}

    async def primary(self, of: Sequence[int] = ()) -> int:
        """Who leads, as that one `of` these (or all correct) nodes has it whose view is highest.

        A view that has not begun does not count: a node may ask for one alone.
        """
        with within(30, "no correct node is in a view that has begun"):
            while True:
                statuses = [await self.status(index) for index in of or self.correct]
                begun = [s for s in statuses if s and not s["view_changing"]]
                if begun:
                    break
                await trio.sleep(0.05)
        name = max(begun, key=lambda status: status["view"])["primary_name"]
        return next(i for i, node in enumerate(self.nodes) if node.name == name)

    async def backup(self) -> int:
        primary = await self.primary()
        return self.chance.choice([i for i in self.correct if i != primary])

    def rank(self, index: int) -> int:
        """Where a node stands in the order of the members' keys."""
        genesis = home.read_genesis(config.load({"home": self.nodes[index].home}, {}))
        names = [record.message.name for record in genesis.records]
        return names.index(self.nodes[index].name)

    async def view(self) -> int:
        views: list[int] = [(await self.status(i)).get("view", 0) for i in self.correct]
        return max(views)

    async def lead(self, index: int) -> None:
        """Return when `index` leads: whoever leads before it is stopped until it is given up."""
        with within(60, f"{self.nodes[index].name} did not come to lead"):
            while (primary := await self.primary()) != index:
                self.signal(primary, signal.SIGSTOP)
                others = [i for i in self.correct if i != primary]
                try:
                    while await self.primary(others) == primary:
                        await trio.sleep(0.1)
                finally:
                    self.signal(primary, signal.SIGCONT)

    async def until(self, done: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
        """Return when `done`; Fallen if it is not for so long."""
        with within(seconds, f"not within {seconds:g} s: {what}"):
            while not await done():
                await trio.sleep(0.05)

    async def ended(self, index: int, seconds: float) -> int:
        """The exit code of a node that must end by itself."""
        process = self.nodes[index].process
        assert process is not None
        with within(seconds, f"{self.nodes[index].name} did not end in {seconds:g} s"):
            code = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        self.nodes[index].process = None
        return code

    def said(self, index: int) -> str:
        """What a node logged since the attack began."""
        log = self.nodes[index].log
        with log.open("rb") as file:
            file.seek(self._marks.get(index, 0))
            return file.read().decode(errors="replace")

    # --- the siege ------------------------------------------------------------------------------

    def begin(self) -> None:
        """The attack begins now; what was before was preparation."""
        self._began = trio.current_time()

    async def besiege(self, adversary: Adversary) -> Outcome:
        """One attack, from the calm before it to the accounts after it."""
        outcome = Outcome(adversary.name, adversary.room)
        self.callers.begin(adversary.name)
        self._marks = {i: n.log.stat().st_size for i, n in enumerate(self.nodes)}
        self._rss_max = 0
        self.callers.resume()
        calm = trio.current_time()
        await trio.sleep(CALM_S)
        outcome.before = self.callers.rate(calm, trio.current_time())
        self.begin()
        view = await self.view()
        try:
            outcome.remark = await adversary.act(self) or ""
        except Fallen as fallen:
            outcome.wrong.append(str(fallen))
        over = trio.current_time()
        outcome.during = self.callers.rate(self._began, over)
        try:
            await self._recover(outcome, over)
        except Fallen as fallen:
            outcome.wrong.append(str(fallen))
        at = [self._began, *[t for t in self.callers.acknowledged if t >= self._began]]
        outcome.pause_s = max((b - a for a, b in pairwise(at)), default=0.0)
        outcome.views = await self.view() - view
        outcome.alarms = self._alarms()
        outcome.rss_mb_max = self._rss_max / 1e6
        if self._rss_max > RSS_BYTES_MAX:
            outcome.wrong.append(f"a correct node grew to {self._rss_max / 1e6:.0f} MB")
        return outcome

    async def _recover(self, outcome: Outcome, over: float) -> None:
        liars = set(self.faulty)
        await self.relieve()
        fallen: Fallen | None = None
        async with trio.open_nursery() as nursery:
            for index in liars:
                nursery.start_soon(self._outlive, index)
            try:
                await self._settle(outcome, over)
            except Fallen as error:
                fallen = error
            nursery.cancel_scope.cancel()
        if fallen is not None:
            raise fallen

    async def _outlive(self, index: int) -> None:
        """Whose key has lied has lives of its own behind it, and is started until it is past them.

        Nobody but its owner can tell that no other has the key.
        """
        while True:
            await trio.sleep(SAMPLE_S)
            if (await self.status(index)).get("halted") == IN_USE_ELSEWHERE:
                await self.restart(index)

    async def _settle(self, outcome: Outcome, over: float) -> None:
        with within(RECOVERY_S, f"no commit at every node within {RECOVERY_S:g} s"):
            while not all(at and at[-1] > over for at in self.callers.by_node):
                await trio.sleep(0.05)
        again = trio.current_time()
        outcome.recovery_s = again - over
        await trio.sleep(CALM_S)
        outcome.after = self.callers.rate(again, trio.current_time())
        await self.account(outcome)

    async def account(self, outcome: Outcome) -> None:
        """With all callers at rest: is everything there, everywhere, and was every read right?"""
        await self.callers.rest()
        outcome.acknowledged = len(self.callers.held)
        outcome.operations = len(self.callers.history)
        await self.equal()
        missing = await trio.to_thread.run_sync(self._missing)
        outcome.lost = len(missing)
        outcome.wrong += missing[:3]
        outcome.wrong += self.callers.anomalies()[:3]
        if self.callers.ahead_ms > AHEAD_MS_MAX:
            outcome.wrong.append(f"the agreed time was {self.callers.ahead_ms} ms ahead")

    async def relieve(self) -> None:
        """The attack is over: what was done to lines and processes is undone."""
        self.lines.clear()
        self.lines.bodies.clear()
        for index, node in enumerate(self.nodes):
            if index in self.altered:
                await self.kill(index)
            if node.process is not None and node.process.poll() is None:
                self.signal(index, signal.SIGCONT)
            else:
                node.process = None
                self.start(index)
        self.faulty.clear()

    async def equal(self) -> None:
        """Return when all nodes have executed the same and have the same root."""
        last: object = None

        async def are_equal() -> bool:
            nonlocal last
            last = [await self.status(index) for index in range(NODES)]
            seen = {
                (s.get("executed"), s.get("state_root"), s.get("state_root_executed")) for s in last
            }
            (executed, root, of), *more = seen
            return not more and bool(root) and executed == of

        try:
            await self.until(are_equal, "", RECOVERY_S)
        except Fallen:
            assert isinstance(last, list)
            seen = [(s.get("executed"), str(s.get("state_root"))[:8]) for s in last]
            raise Fallen(f"nodes differ after {RECOVERY_S:g} s: {seen}") from None

    def _missing(self) -> list[str]:
        """What was acknowledged and is not there: all revisions at all nodes, all values at one."""
        missing = []
        held, prefix = dict(self.callers.held), self.callers.prefix
        reader = self.chance.randrange(NODES)
        for index, node in enumerate(self.nodes):
            with node.client() as client:
                there = {version.key: version.revision for version in client.ls(f"{prefix}/own/")}
                for key, (revision, value) in held.items():
                    if there.get(key) != revision:
                        missing.append(f"{node.name}: {key} at {there.get(key)}, not {revision}")
                    elif index == reader and client.get(key).raw != value:
                        missing.append(f"{node.name}: {key} has another value")
        return missing

    def _alarms(self) -> list[str]:
        found: Counter[str] = Counter()
        for index in range(NODES):
            for line in self.said(index).splitlines():
                match = _ALARM.search(line)
                if match:
                    about, reason = match.groups()
                    found[f"{about or self.nodes[index].name}: {reason}"] += 1
        return [f"{words} (×{count})" for words, count in sorted(found.items())]

    async def sample(self) -> None:
        """Notes the memory of correct nodes, for as long as it runs."""
        while True:
            for index in self.correct:
                node = self.nodes[index]
                if node.process is not None and index not in self.altered:
                    self._rss_max = max(self._rss_max, rss_bytes(node))
            await trio.sleep(SAMPLE_S)


def rss_bytes(node: Node) -> int:
    """What a node's process holds in memory; 0 if it is gone."""
    assert node.process is not None
    try:
        text = Path(f"/proc/{node.process.pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(match[1]) * 1024 if match else 0


@contextmanager
def within(seconds: float, otherwise: str) -> Iterator[None]:
    """`Fallen` with these words if the block takes longer."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise Fallen(otherwise)


@asynccontextmanager
async def town(
    directory: Path, seed: int, each: int = 3, think_s: float = THINK_S
) -> AsyncIterator[Town]:
    """A cluster that runs, is called and watched; it is ended with the block."""
    made = Town(directory, seed, each, think_s)
    try:
        await trio.to_thread.run_sync(made.cluster.make)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.lines.run)
            made.cluster.start()
            await trio.to_thread.run_sync(made.cluster.wait_ready)
            nursery.start_soon(made.callers.run)
            nursery.start_soon(made.sample)
            yield made
            nursery.cancel_scope.cancel()
    finally:
        for node in made.nodes:  # one that is stopped would not hear that it shall end
            if node.process is not None:
                node.process.send_signal(signal.SIGCONT)
        made.cluster.stop()

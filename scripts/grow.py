"""A cluster grows from one board to seven and shrinks to four, and never stops working meanwhile.

A caller puts at every member, one call after the other, from when it is let in until it is told to
go.  Says what each step took, and how long any call waited for its answer.  Exits with 1 if a call
failed, if anything that was acknowledged is not at every member, or if the members differ.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from aegis_edge.client import ClientError, connect
from cluster import Cluster, ClusterError, Node, ending_in_order
from show import Show

#: How long the members may take to agree on a change, and a newcomer to have all.
STEP_S = 120.0
#: How long a call may take before it counts as failed.
CALL_S = 60.0
VALUE = b"v" * 100


@dataclass(frozen=True)
class Step:
    """One change of members, and what the callers saw from its beginning to the next one's.

    `decided_s`: until it holds; `caught_up_s`: until the newcomer has executed all that the others
    had when it was let in; `longest_s`: the longest that a call waited.
    """

    what: str
    members: int
    decided_s: float
    caught_up_s: float | None
    puts_per_s: float
    longest_s: float


class Caller:
    """Puts at one node, one call after the other, until `stop`; nothing may fail."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.acknowledged: dict[str, int] = {}
        self.failed: list[str] = []
        #: When each answer came, and how long it was waited for, in seconds.
        self.waits: list[tuple[float, float]] = []
        self._called: float | None = None
        self._stopping = False
        self._ended = trio.Event()

    async def run(self) -> None:
        try:
            async with connect(str(self.node.socket), timeout_s=CALL_S) as client:
                while not self._stopping:
                    key = f"grow/{self.node.name}/{len(self.waits)}"
                    self._called = trio.current_time()
                    try:
                        written = await client.put(key, VALUE)
                    except ClientError as error:
                        self.failed.append(f"{self.node.name}: {error}")
                        return
                    self.acknowledged[key] = written.revision
                    now = trio.current_time()
                    self.waits.append((now, now - self._called))
                    self._called = None
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Return when the last call has its answer."""
        self._stopping = True
        await self._ended.wait()

    def longest_s(self, since: float) -> float:
        """How long a call waited that had no answer at `since`, or was made later."""
        waiting = [] if self._called is None else [trio.current_time() - self._called]
        return max([wait for at, wait in self.waits if at >= since] + waiting, default=0.0)

    def answers(self, since: float) -> int:
        return sum(at >= since for at, _ in self.waits)


class Growth:
    """As many boards as asked for, of which the first is the cluster at the beginning."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self.show = Show()
        self.steps: list[Step] = []
        self.wrong: list[str] = []
        self._options = options
        self._cluster = Cluster(directory, options.boards, patience_s=STEP_S)
        self._members: list[Node] = []
        self._callers: list[Caller] = []
        self._gone: list[Caller] = []

    async def run(self) -> None:
        """Raises `ClusterError` when a command fails or a node does not do what it should."""
        try:
            async with trio.open_nursery() as nursery:
                await self._found(nursery)
                for node in self._cluster.nodes[1:]:
                    await self._let_in(node, nursery)
                while len(self._members) > self._options.left:
                    await self._let_go()
                for caller in self._callers:
                    await caller.stop()
            await self._account()
        finally:
            self._cluster.stop()

    # --- steps ----------------------------------------------------------------------------------

    async def _found(self, nursery: trio.Nursery) -> None:
        """The first board, with `keys` entries, and its caller."""
        first, *others = self._cluster.nodes
        for node in self._cluster.nodes:
            await _run(node, "init", "--name", node.name, "--p2p-port", str(node.port))
        records = {}
        for node in self._cluster.nodes:
            records[node.name] = self._record(node)
            records[node.name].write_text(await _run(node, "record"))
        genesis = self._cluster.directory / "genesis"
        await _run(first, "genesis", "create", records[first.name], "--output", genesis)
        await _run(first, "genesis", "install", genesis)
        for node in others:
            await _run(node, "genesis", "install", genesis)
        first.start()
        await self._until(first, lambda status: status["executed"] >= 0, "start")
        keys = self._options.keys
        if keys:
            entries = [(f"before/{number}", VALUE) for number in range(keys)]
            async with (
                connect(str(first.socket), timeout_s=CALL_S) as client,
                client.pipeline() as p,
            ):
                for key, value in entries:
                    await p.put(key, value)
        self._members.append(first)
        self._begin(first, nursery)
        self.show.step(f"one board, {keys:,} keys")

    async def _let_in(self, node: Node, nursery: trio.Nursery) -> None:
        node.start()
        await self._until(node, lambda status: True, "start")
        began = trio.current_time()
        executed = (await _status(self._members[0]))["executed"]
        said = await _json(self._members[0], "members", "add", self._record(node))
        await self._decide(said, self._members)
        await self._until(node, lambda status: bool(status["is_member"]), "become a member")
        decided_s = trio.current_time() - began
        await self._until(node, lambda status: status["executed"] >= executed, "catch up")
        caught_up_s = trio.current_time() - began
        self._members.append(node)
        self._begin(node, nursery)
        await trio.sleep(self._options.seconds)
        self._note(f"{node.name} comes", began, decided_s, caught_up_s)

    async def _let_go(self) -> None:
        """The last of them goes: every other time by itself, else because the others say so."""
        node, caller = self._members[-1], self._callers[-1]
        await caller.stop()
        began = trio.current_time()
        others = self._members[:-1]
        by_itself = len(others) % 2 == 1
        if by_itself:
            said = await _json(node, "leave")
        else:
            said = await _json(others[0], "remove", node.name)
        await self._decide(said, others)
        for other in others:
            await self._until(other, lambda status: status["nodes"] == len(others), "let it go")
        decided_s = trio.current_time() - began
        self._members.pop()
        self._gone.append(self._callers.pop())
        await trio.sleep(self._options.seconds)
        self._note(f"{node.name} {'leaves' if by_itself else 'is removed'}", began, decided_s, None)

    async def _decide(self, said: dict[str, Any], voters: Sequence[Node]) -> None:
        """Members say yes, one after the other, until it is decided."""
        for node in voters[1:]:
            if not said["open"]:
                return
            said = await _json(node, "approve", str(said["number"]))
        if said["open"]:
            raise ClusterError(f"all have said yes, and proposal {said['number']} is still open")

    # --- accounts -------------------------------------------------------------------------------

    def _begin(self, node: Node, nursery: trio.Nursery) -> None:
        caller = Caller(node)
        self._callers.append(caller)
        nursery.start_soon(caller.run)

    def _note(self, what: str, began: float, decided_s: float, caught_up_s: float | None) -> None:
        lasted = trio.current_time() - began
        step = Step(
            what,
            len(self._members),
            decided_s,
            caught_up_s,
            sum(caller.answers(began) for caller in self._callers) / lasted,
            max(caller.longest_s(began) for caller in self._callers),
        )
        self.steps.append(step)
        caught = "" if caught_up_s is None else f", has all after {caught_up_s:.1f} s"
        self.show.step(
            f"{step.members} members: {what}, decided after {decided_s:.1f} s{caught};"
            f" {step.puts_per_s:.0f} puts/s, the longest waited {step.longest_s:.2f} s"
        )
        self._refuse_failures()

    def _refuse_failures(self) -> None:
        failed = [words for caller in [*self._callers, *self._gone] for words in caller.failed]
        if failed:
            raise ClusterError(f"a call failed: {failed[0]}")

    async def _account(self) -> None:
        """Is everything at every member, and are they equal?"""
        self._refuse_failures()
        last: list[tuple[Any, ...]] = []
        with trio.move_on_after(STEP_S) as scope:
            while len(set(last)) != 1 or last[0][0] != last[0][2]:
                last = []
                for node in self._members:
                    status = await _status(node)
                    last.append(
                        (status["executed"], status["state_root"], status["state_root_executed"])
                    )
                await trio.sleep(0.05)
        if scope.cancelled_caught:
            raise ClusterError(f"the members differ: {last}")
        held: dict[str, int] = {}
        for caller in [*self._callers, *self._gone]:
            held |= caller.acknowledged
        if not held:
            raise ClusterError("nothing was ever put")
        for node in self._members:
            there = await trio.to_thread.run_sync(_revisions, node)
            lost = [key for key, revision in held.items() if there.get(key) != revision]
            self.wrong += [f"{node.name} does not have {key}" for key in lost[:3]]
        self.show.step(
            f"{len(held):,} acknowledged writes at each of {len(self._members)} members,"
            f" {len(self.wrong)} lost"
        )

    # --- nodes ----------------------------------------------------------------------------------

    def _record(self, node: Node) -> Path:
        return self._cluster.directory / f"{node.name}.record"

    async def _until(self, node: Node, done: Any, what: str) -> None:
        await trio.to_thread.run_sync(self._cluster.wait, node, done, what)


def _revisions(node: Node) -> dict[str, int]:
    with node.client() as client:
        return {version.key: version.revision for version in client.ls("grow/")}


async def _status(node: Node) -> dict[str, Any]:
    return await trio.to_thread.run_sync(node.status)


async def _run(node: Node, *words: str | Path) -> str:
    return await trio.to_thread.run_sync(partial(node.run, *words))


async def _json(node: Node, *words: str | Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(await _run(node, *words, "--json"))
    return said


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/grow", description=__doc__)
    parser.add_argument("--boards", type=int, default=7, metavar="N", help="members at most (7)")
    parser.add_argument("--left", type=int, default=4, metavar="N", help="at the end (4)")
    parser.add_argument("--keys", type=int, default=10_000, metavar="N", help="there before")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(words)
    if not 1 <= options.left <= options.boards:
        parser.error("--left is at least 1 and at most --boards")
    return options


def main() -> int:
    options = options_of()
    directory = Path(tempfile.mkdtemp(prefix="aegis-edge-grow."))
    with ending_in_order():
        growth = Growth(directory, options)
        growth.show.title(f"From one board to {options.boards}, and to {options.left}, under load")
        began = time.monotonic()
        try:
            trio.run(growth.run)
        except* ClusterError as group:
            growth.wrong.append(str(group.exceptions[0]))
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    longest = max((step.longest_s for step in growth.steps), default=0.0)
    if options.json:
        report = {
            "steps": [asdict(step) for step in growth.steps],
            "longest_s": longest,
            "took_s": time.monotonic() - began,
            "wrong": growth.wrong,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if growth.wrong:
        for words in growth.wrong:
            growth.show.bad(words)
        return 1
    growth.show.good(f"no call failed, nothing lost; the longest waited {longest:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

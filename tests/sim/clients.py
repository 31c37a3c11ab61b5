"""Callers: they write, read, compare-and-set and delete, and remember what they were told.

Knows one honest node at a time and what an application would: keys, values, revisions.
Refuses to know anything of the agreement.  A caller whose node dies never learns what became of its
call, and goes to another node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis_edge.knowledge.operations import Barrier, Delete, Outcome, Put, Status
from tests.sim.linearizability import Call

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

#: Calls that every caller makes once the troubles are over.
AFTER_HEALING = 2

#: One in so many reads is ordered like a write from the start.
ORDERED = 5

_STATUS = {Status.DONE: "done", Status.CONFLICT: "conflict", Status.ABSENT: "absent"}


class Client:
    """One caller; it has one call at a time, unless it loses patience with the last one."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._random = world.plan.random(f"client {number}").random
        self._number = number
        share, more = divmod(world.plan.operations, world.plan.clients)
        self._left = share + (number < more)
        self._think = 1 + int(self._random() * world.plan.heal_at / (self._left + 1))
        self._patience = int((1 + 8 * self._random()) * world.plan.timeout_ticks)
        self._home = world.honest[number % len(world.honest)]
        self._revisions: dict[str, int] = {}
        self.history: list[Call] = []
        self.waiting: list[Call] = []
        self.completed = 0
        self._lined_up = False
        self._is_verbose = False

    def begin(self) -> None:
        self._line_up()

    def healed(self) -> None:
        """The rest of the calls come quickly."""
        self._left = min(max(self._left, AFTER_HEALING), 2 * AFTER_HEALING)
        self._think = 5
        self._patience = 1 << 30
        self._line_up()

    def last_call(self) -> None:
        """One more call, after a rest; where lines carry little, one that has much to say."""
        self._left = 1
        self._is_verbose = self._number == 0
        self._line_up()

    @property
    def finished(self) -> bool:
        return not self._left and not self.waiting

    def _line_up(self) -> None:
        if not self._lined_up and self._left:
            self._lined_up = True
            delay = int(self._random() * 2 * self._think)
            self._world.at(self._world.now + delay, self._next, None)

    def _next(self, _: None) -> None:
        self._lined_up = False
        node = self._node()
        if node is None or not self._left:
            self._line_up()
            return
        self._left -= 1
        call = self._choose()
        self.history.append(call)
        self.waiting.append(call)
        self.issue(node, call)
        self._world.at(self._world.now + self._patience, self._give_up, call)

    def _node(self) -> Node | None:
        """The caller's own node, or one that runs."""
        if self._home.is_member and self._random() < 0.95:
            return self._home
        running = [node for node in self._world.honest if node.is_member]
        return running[int(self._random() * len(running))] if running else None

    def _choose(self) -> Call:
        key = f"key/{int(self._random() * self._world.plan.keys)}"
        kind = self._random() if not self._is_verbose else 0.5
        value = b"client %d call %d" % (self._number, len(self.history))
        if self._is_verbose:
            value = value.ljust(self._world.plan.value_bytes)
        invoked = self._world.judges.moment()
        known = self._revisions.get(key, 0)
        if kind < 0.35:
            return Call("get", key, invoked)
        if kind < 0.7:
            return Call("put", key, invoked, value)
        if kind < 0.92:
            return Call("put", key, invoked, value, expected=known)
        return Call("delete", key, invoked)

    def issue(self, node: Node, call: Call) -> None:
        """Ask a node.  A read is answered locally, once the node knows that nothing is newer."""
        if call.kind == "get" and len(self.history) % ORDERED:
            life = node.life

            def confirmed(is_fresh: bool | None) -> None:
                if is_fresh is False and node.life == life and node.is_member:
                    self._order(node, call)
                else:
                    done = is_fresh and node.life == life
                    self.answered(node, call, Outcome(Status.DONE, 0, 0) if done else None)

            node.read(confirmed)
        else:
            self._order(node, call)

    def _order(self, node: Node, call: Call) -> None:
        """Have an operation executed; for a read one that does nothing."""
        operation: Put | Delete | Barrier
        if call.kind == "get":
            operation = Barrier()
        elif call.kind == "put":
            assert call.value is not None
            operation = Put(call.key, call.value, expected=call.expected)
        else:
            operation = Delete(call.key)
        life = node.life

        def done(outcome: Outcome | None) -> None:
            """An answer that its node did not live to give is none."""
            self.answered(node, call, outcome if node.life == life else None)

        node.call(operation.encode(), done)

    def answered(self, node: Node, call: Call, outcome: Outcome | None) -> None:
        """The outcome, or None if the node died."""
        self.waiting.remove(call)
        if outcome is not None:
            call.status = _STATUS[outcome.status]
            if call.kind == "get":
                call.revision, call.seen = node.disk.machine.get(call.key)
            else:
                call.revision = outcome.revision
            call.returned = self._world.judges.moment()
            self._revisions[call.key] = 0 if call.kind == "delete" else call.revision
            if call.kind == "get" and call.seen is None:
                self._revisions[call.key] = 0
            self.completed += 1
        self._line_up()

    def _give_up(self, call: Call) -> None:
        if call in self.waiting:
            self._line_up()

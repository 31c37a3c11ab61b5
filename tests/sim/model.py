"""What agreed batches should do, as an application programmer would put it: one dict.

Knows revisions, conditions and which bundle of an origin comes next.  It is the second opinion on
`knowledge.machine` and on the pool of bundles, so it shares no code with them but the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aegis_edge.knowledge.operations import (
    Adjust,
    Admit,
    Approve,
    Barrier,
    Delete,
    Dismiss,
    Leave,
    OperationError,
    Propose,
    Put,
    decode,
)
from aegis_edge.wire.messages import Bundle, Verified
from tests.sim import signing
from tests.sim.plan import Plan

if TYPE_CHECKING:
    from tests.sim.world import World

DONE, CONFLICT, ABSENT, INVALID, REFUSED = range(5)

Said = tuple[tuple[tuple[int, int], ...], ...]


@dataclass
class Motion:
    """A proposal that is open."""

    change: Admit | Dismiss | Adjust
    author: bytes
    until_ms: int
    votes: dict[bytes, bool]


class Members:
    """Who belongs, by what they go, and what is put to the vote."""

    WEEK_MS = 604_800_000
    BOUNDS: ClassVar = {"pbft_timeout": (100, 3_600_000), "checkpoint_interval": (1, 128)}

    def __init__(self, plan: Plan) -> None:
        records = signing.records(plan.n)
        self._key_of = {record: key for key, record in records}
        self._now = {records[i][0] for i in plan.founders}
        self._motions: dict[int, Motion] = {}
        self._last = 0
        self._number = 0
        #: What was agreed on, and for which configuration.
        self._values: dict[str, tuple[int, int]] = {}
        self._before = self._now, self._values

    def ended(self) -> None:
        """A batch is over: with other members, or other values, a configuration begins."""
        self._number += (self._now, self._values) != self._before
        self._before = self._now, self._values

    def ballot(self, who: bytes, time_ms: int, asked: Propose | Approve | Leave) -> tuple[int, int]:
        if who not in self._now:
            return REFUSED, 0
        if not isinstance(asked, Approve) and asked.expected not in (None, self._number):
            return CONFLICT, self._number
        self._motions = {k: m for k, m in self._motions.items() if time_ms < m.until_ms}
        if isinstance(asked, Leave):
            if self._now == {who}:
                return REFUSED, 0
            self._make(Dismiss(who))
            return DONE, 0
        if isinstance(asked, Approve):
            return self._vote(who, asked.number, asked.yes)
        for number, motion in self._motions.items():
            if motion.change == asked.change:
                return self._vote(who, number, True)
        if [m.author for m in self._motions.values()].count(who) == 4:
            return REFUSED, 0
        refused = self._objection(asked.change)
        if refused is not None:
            return refused, 0
        self._last += 1
        self._motions[self._last] = Motion(asked.change, who, time_ms + self.WEEK_MS, {})
        return self._vote(who, self._last, True)

    def _vote(self, who: bytes, number: int, yes: bool) -> tuple[int, int]:
        motion = self._motions.get(number)
        if motion is None:
            return ABSENT, 0
        motion.votes[who] = yes
        n = len(self._now)
        needed = (n + (n - 1) // 3) // 2 + 1
        said = [motion.votes.get(member) for member in self._now]
        if said.count(True) >= needed:
            self._make(motion.change)
        elif n - said.count(False) < needed:
            del self._motions[number]
        return DONE, number

    def _objection(self, change: Admit | Dismiss | Adjust) -> int | None:
        """Why it cannot be made; None: it can."""
        if isinstance(change, Adjust):
            lowest, highest = self.BOUNDS.get(change.name, (1, 0))
            if not lowest <= change.value <= highest:
                return INVALID
            return CONFLICT if self._values.get(change.name, (-1,))[0] == change.value else None
        if isinstance(change, Dismiss):
            if change.key not in self._now:
                return ABSENT
            return REFUSED if len(self._now) == 1 else None
        new = self._key_of.get(change.record)
        if new is None:
            return INVALID
        if change.instead_of is not None and change.instead_of not in self._now:
            return ABSENT
        return CONFLICT if new in self._now - {change.instead_of or b""} else None

    def _make(self, change: Admit | Dismiss | Adjust) -> None:
        if isinstance(change, Adjust):
            self._values = {**self._values, change.name: (change.value, self._number + 1)}
        elif isinstance(change, Dismiss):
            self._now = self._now - {change.key}
        else:
            self._now = self._now - {change.instead_of or b""} | {self._key_of[change.record]}
        self._motions = {
            k: m for k, m in self._motions.items() if self._objection(m.change) is None
        }


class Model:
    """The knowledge base as of the last agreed batch."""

    def __init__(self, plan: Plan) -> None:
        self.revision = 0
        self._members = Members(plan)
        #: Revision to (key, value); None for a deletion.
        self.writes: dict[int, tuple[str, bytes | None]] = {}
        self._now: dict[str, int] = {}
        self._taken: dict[bytes, tuple[int, int]] = {}
        self._origins: dict[int, bytes] = {}

    def follows(self, bundle: Verified[Bundle]) -> bool:
        """A bundle executes when it is its origin's next, or the first of a later incarnation."""
        incarnation, number = bundle.message.incarnation, bundle.message.number
        last_incarnation, last_number = self._taken.get(bundle.signer, (0, 0))
        if incarnation == last_incarnation:
            return number == last_number + 1
        return incarnation > last_incarnation and number == 1

    def take(self, bundle: Verified[Bundle]) -> None:
        self._taken[bundle.signer] = (bundle.message.incarnation, bundle.message.number)

    def execute(self, time_ms: int, bundles: Sequence[Verified[Bundle]]) -> Said:
        """The (status, revision) of every operation of every bundle."""
        said = tuple(
            tuple(self._operation(time_ms, bundle, raw) for raw in bundle.message.operations)
            for bundle in bundles
        )
        self._members.ended()
        return said

    def _operation(self, time_ms: int, bundle: Verified[Bundle], raw: bytes) -> tuple[int, int]:
        origin = bundle.signer
        try:
            asked = decode(raw)
        except OperationError:
            return INVALID, 0
        if isinstance(asked, (Propose, Approve, Leave)):
            if not bundle.message.of_members:
                return INVALID, 0
            return self._members.ballot(origin, time_ms, asked)
        if isinstance(asked, Barrier):
            return DONE, self.revision
        current = self._now.get(asked.key, 0)
        if asked.expected is not None and asked.expected != current:
            return CONFLICT, current
        if isinstance(asked, Delete) and not current:
            return ABSENT, 0
        self.revision += 1
        if isinstance(asked, Put):
            self._now[asked.key] = self.revision
            self.writes[self.revision] = (asked.key, asked.value)
        else:
            del self._now[asked.key]
            self.writes[self.revision] = (asked.key, None)
        self._origins[self.revision] = origin
        return DONE, self.revision

    def foreign(self, world: World) -> frozenset[bytes | None]:
        """The values that came from liars' own bundles."""
        liars = {world.keys[liar] for liar in world.plan.liars}
        return frozenset(
            self.writes[revision][1]
            for revision, origin in self._origins.items()
            if origin in liars
        )

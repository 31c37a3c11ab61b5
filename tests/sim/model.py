"""What agreed batches should do, as an application programmer would put it: one dict.

Knows revisions, conditions and which bundle of an origin comes next.  It is the second opinion on
`knowledge.machine` and on the pool of bundles, so it shares no code with them but the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aegis_edge.knowledge.operations import Barrier, Delete, OperationError, Put, decode
from aegis_edge.wire.messages import Bundle, Verified

if TYPE_CHECKING:
    from tests.sim.world import World

DONE, CONFLICT, ABSENT, INVALID = range(4)

Said = tuple[tuple[tuple[int, int], ...], ...]


class Model:
    """The knowledge base as of the last agreed batch."""

    def __init__(self) -> None:
        self.revision = 0
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
        return tuple(
            tuple(self._operation(bundle.signer, raw) for raw in bundle.message.operations)
            for bundle in bundles
        )

    def _operation(self, origin: bytes, raw: bytes) -> tuple[int, int]:
        try:
            asked = decode(raw)
        except OperationError:
            return INVALID, 0
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

"""What the performer needs of its neighbours, as small interfaces.

Knows their shapes alone; the tests play each of them with a second implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from aegis_edge.net.links import Event as LinkEvent
from aegis_edge.pbft.events import Deliver, Effect, Event, Persist, Prune, TakeRoot
from aegis_edge.wire.envelope import Claim


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
    @property
    def learning(self) -> int | None: ...
    def is_redundant(self, claim: Claim) -> bool: ...
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

    def receive(self) -> Sequence[LinkEvent]: ...
    def post(self, peer: bytes, raw: bytes) -> None: ...
    def flush(self) -> None: ...
    def close(self, peer: bytes, reason: str) -> None: ...

"""Who the members are where that matters little: the three who write in `histories`."""

from __future__ import annotations

from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.roll import Roll, Rules
from aegis_edge.knowledge.state import State
from aegis_edge.peers.identity import open_record
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import NodeRecord
from tests.knowledge.histories import origin, signer

RULES = Rules(
    quorum=lambda n: n // 2 + 1,
    fits=lambda n, agreed: n <= 7,
    open_record=lambda raw: open_record(raw, Opener(b"", verify=lambda *_: True).open),
)


def record(index: int) -> bytes:
    """The node record of `histories.signer(index)`."""
    return signer(index).sign(NodeRecord(1, bytes([index]) * 32, (), 9, "")).raw


FOUNDERS = Roll(tuple(sorted((origin(index), record(index)) for index in range(3))))


def machine_of(state: State, kept: int) -> Machine:
    """The machine over `state` that keeps so many versions of a key."""
    return Machine(state, kept, FOUNDERS, RULES)

"""The applied state of a simulated node: the real state machine over a dict.

Knows how to read a key as of now.  How anything is executed is for `knowledge.machine` to know.
"""

from __future__ import annotations

from copy import copy

from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.roll import Roll, Rules
from aegis_edge.knowledge.state import Version, newest_retained
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.peers.identity import open_record
from aegis_edge.wire.messages import MEMBERS_MAX
from tests.knowledge.memory_state import MemoryState
from tests.sim import signing
from tests.sim.plan import Plan

HISTORY_VERSIONS = 3


RULES = Rules(
    quorum=lambda n: quorum.quorum(n, quorum.faults(n)),
    fits=lambda n, agreed: n <= MEMBERS_MAX,
    open_record=lambda raw: open_record(raw, signing.open_record),
)


def configuration_of(roll: Roll) -> Configuration:
    """What a roll means for the agreement."""
    f = quorum.faults(len(roll.members))
    return Configuration(roll.number, roll.members, f, roll.start, terms=roll.terms)


class DictState(MemoryState):
    """`knowledge.state.State` in memory, and what a key has now."""

    def newest(self, key: str) -> Version | None:
        row = self.retained_rows.get(key)
        return None if row is None else self.versions[newest_retained(row)[0]]


class Applied(Machine):
    """The state machine, and a way to read what it wrote."""

    history_versions = HISTORY_VERSIONS
    rules = RULES

    def __init__(self, plan: Plan) -> None:
        self.state = DictState()
        self.founders = Roll(tuple(signing.records(plan.n)[i] for i in plan.founders))
        super().__init__(self.state, self.history_versions, self.founders, self.rules)

    def reborn(self, state: DictState) -> Applied:
        """The machine that a restart would make of `state`."""
        other = copy(self)
        other.state = state
        Machine.__init__(other, state, self.history_versions, self.founders, self.rules)
        return other

    def get(self, key: str) -> tuple[int, bytes | None]:
        """The newest revision of `key` (0: it never had one) and its value (None: deleted)."""
        version = self.state.newest(key)
        if version is None:
            return 0, None
        return version.revision, None if version.deleted else version.value

"""Who the members are, from the genesis on: what the roll means for agreement, links and people.

Knows how the genesis becomes the first roll and the rules of all that follow, and what a roll says
to those who count votes.  Refuses to know where the roll lies (`disk`), and what changes it.
Follows: Castro and Liskov (OSDI '99) section 4 for n and f; every number here follows from the
genesis and the roll alone, or members would differ.
"""

from __future__ import annotations

from functools import lru_cache

from aegis_edge.knowledge import agreed as shared
from aegis_edge.knowledge.agreed import INTERVAL, TIMEOUT, Agreed
from aegis_edge.knowledge.roll import Roll, Rules
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.peers.genesis import Genesis, window_max
from aegis_edge.peers.identity import open_record
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import MEMBERS_MAX, NodeRecord, Verified


def founders(genesis: Genesis) -> Roll:
    """The roll that the cluster begins with."""
    return Roll(tuple((record.signer, record.raw) for record in genesis.records))


def rules(genesis: Genesis) -> Rules:
    """The rules by which it changes.

    There are never so many members, nor batches under way, that a change of views fits into no
    message.
    """
    ratio_percent = genesis.parameters.byzantine_ratio_percent
    return Rules(
        quorum=lambda n: quorum.quorum(n, quorum.faults(n, ratio_percent)),
        fits=lambda n, agreed: n <= MEMBERS_MAX and intervals(genesis, agreed)[1] <= window_max(n),
        open_record=opened,
    )


def intervals(genesis: Genesis, agreed: tuple[Agreed, ...]) -> tuple[int, int]:
    """The `checkpoint_interval` and the `window`, which holds as many of them as in the genesis."""
    founded = genesis.parameters
    interval = shared.value_of(agreed, INTERVAL) or founded.checkpoint_interval
    return interval, founded.window // founded.checkpoint_interval * interval


def timeout_ticks(agreed: tuple[Agreed, ...], own_ticks: int) -> int:
    """The time-out of all members, in milliseconds; until one is agreed on, each has its own."""
    return shared.value_of(agreed, TIMEOUT) or own_ticks


def configuration(genesis: Genesis, roll: Roll) -> Configuration:
    """What the roll means for the agreement."""
    ratio_percent = genesis.parameters.byzantine_ratio_percent
    members = roll.members
    faulty = quorum.faults(len(members), ratio_percent)
    return Configuration(roll.number, members, faulty, roll.start, ratio_percent, roll.terms)


def records(roll: Roll) -> tuple[Verified[NodeRecord], ...]:
    """The members' records as they were admitted, in order of their keys; raises `WireError`."""
    return tuple(opened(raw) for _, raw in roll.records)


@lru_cache(maxsize=2 * MEMBERS_MAX)
def opened(raw: bytes) -> Verified[NodeRecord]:
    """A node record out of its bytes; raises `WireError`.

    Those of all members are looked at for each proposal, so they are not checked each time.
    """
    return open_record(raw, _OPENER.open)


#: Of records, which belong to no cluster.
_OPENER = Opener(b"")

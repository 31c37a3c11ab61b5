"""Who the members are, from the genesis on: what the roll means for agreement, links and people.

Knows how the genesis becomes the first roll and the rules of all that follow, and what a roll says
to those who count votes.  Refuses to know where the roll lies (`disk`), and what changes it.
Follows: Castro and Liskov (OSDI '99) section 4 for n and f; every number here follows from the
genesis and the roll alone, or members would differ.
"""

from __future__ import annotations

from functools import lru_cache

from aegis_edge.knowledge.roll import Roll, Rules
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.peers import genesis as genesis_module
from aegis_edge.peers.genesis import Genesis
from aegis_edge.peers.identity import open_record
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import MEMBERS_MAX, NodeRecord, Verified


def founders(genesis: Genesis) -> Roll:
    """The roll that the cluster begins with."""
    return Roll(tuple((record.signer, record.raw) for record in genesis.records))


def rules(genesis: Genesis) -> Rules:
    """The rules by which it changes.

    There are never so many members that a change of views fits into no message.
    """
    ratio_percent = genesis.parameters.byzantine_ratio_percent
    return Rules(
        quorum=lambda n: quorum.quorum(n, quorum.faults(n, ratio_percent)),
        members_max=members_max(genesis.parameters.window),
        open_record=opened,
    )


@lru_cache
def members_max(window: int) -> int:
    """How many members there may be, where so many batches may be under way."""
    return max(n for n in range(1, MEMBERS_MAX + 1) if genesis_module.window_max(n) >= window)


def configuration(genesis: Genesis, roll: Roll) -> Configuration:
    """What the roll means for the agreement."""
    ratio_percent = genesis.parameters.byzantine_ratio_percent
    members = roll.members
    faulty = quorum.faults(len(members), ratio_percent)
    return Configuration(roll.number, members, faulty, roll.start, ratio_percent)


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

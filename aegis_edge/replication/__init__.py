"""From decisions to deeds: the one task that owns the replica, and what callers wait for.

Floor 4.  `performer` does what the replica decides, in order; `callers` keeps who waits for which
operation; `inbox` is fair to peers; `errors` are what a caller may be told.
"""

from aegis_edge.replication.callers import Ticket
from aegis_edge.replication.errors import (
    Busy,
    Damaged,
    Halted,
    NoLineage,
    NoMember,
    NoQuorum,
    Outlived,
    ReplicationError,
    Stopped,
    TooLarge,
    Unconfirmed,
)
from aegis_edge.replication.performer import Members, Replication

__all__ = [
    "Busy",
    "Damaged",
    "Halted",
    "Members",
    "NoLineage",
    "NoMember",
    "NoQuorum",
    "Outlived",
    "Replication",
    "ReplicationError",
    "Stopped",
    "Ticket",
    "TooLarge",
    "Unconfirmed",
]

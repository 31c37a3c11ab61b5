"""From decisions to deeds: the one task that owns the replica, and what callers wait for.

Floor 4.  `performer` does what the replica decides, in order; `writes` knows what waits for the
disk, `checkpoints` whether one has to be brought about, and `port` what it needs of its neighbours.
`callers` keeps who waits for which operation, `readers` who waits for the newest; `errors` are what
both may be told.  `inbox` and `shares` are fair to peers; `scrub` walks over what the card keeps;
`steps` logs when each step of a batch was.
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

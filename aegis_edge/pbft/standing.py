"""Who a replica is and where it stands: what its parts have to know of each other.

Knows the constants, and the few variables that several parts read; exactly one part writes each.
Refuses to decide anything.
Follows: Castro and Liskov (OSDI '99) section 4.2, the state of a replica; a STATUS says most of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.pace import Pace
from aegis_edge.wire.messages import HOPS_MAX, Status


@dataclass(slots=True)
class Standing:
    """One replica's.

    `view`, `changing` (it asked for `view`, which has not begun) and `voting` (it is a member that
    remembers what it voted for) are written by `views`; `executed`, `time_ms` (the last batch, and
    the agreed time there) and `settling` (it is not yet known who the members are after that) by
    `execution`; `fetching` (the state of others is on its way: nothing is executed) by `transfer`;
    `depth` (so many hand the log on from those who vote to it; 0: it is one of them) by
    `following`; `now_ticks` and `clock_ms` (see `events.Tick`) by the replica itself, which also
    tells `pace` what links measure.  `is_over`: others go by a later configuration, as is known
    from elsewhere (`route`): a vote in this one counts for nobody, or for liars alone.
    """

    key: bytes
    configuration: Configuration
    parameters: Parameters
    executed: int = 0
    time_ms: int = 0
    view: int = 0
    changing: bool = False
    voting: bool = field(init=False)
    settling: bool = False
    fetching: bool = False
    depth: int = field(init=False)
    now_ticks: int = 0
    clock_ms: int = 0
    is_over: bool = False
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.voting = self.key in self.configuration and not self.is_over
        self.depth = 0 if self.key in self.configuration else HOPS_MAX
        self.pace = Pace(self.key, self.configuration, self.parameters)

    @property
    def primary(self) -> bytes:
        return self.configuration.primary(self.view)

    @property
    def follows(self) -> bool:
        """It is no member."""
        return self.key not in self.configuration

    @property
    def leads(self) -> bool:
        """It is the primary, and its view has begun."""
        return self.primary == self.key and self.voting and not self.changing and not self.settling

    def status(self, stable: int, following_bytes: int = 0) -> Status:
        """What there is to say of it, with the last checkpoint at `stable`."""
        return Status(
            self.configuration.number,
            self.view,
            self.changing,
            stable,
            self.executed,
            self.clock_ms,
            following_bytes,
        )

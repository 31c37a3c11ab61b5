"""The way from the members that a node began with to those that it was told of: the only true one.

Knows a configuration by its number and its digest, before it knows who is in it (`waypoint`), and
then each one that leads there.  Refuses to know how their history is fetched (`lineage`).
Follows: weak subjectivity (Buterin, "Proof of Stake: How I Learned to Love Weak Subjectivity",
2014): who once were a quorum can sign another history at any time later, with a stolen key, or
because they were thrown out.  One board that a cluster began as can do that alone.

Below the waypoint a node votes for nothing, and believes nothing before the whole way is proven.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aegis_edge.pbft.configuration import Configuration
from aegis_edge.wire.messages import Committed

#: How much of a digest is enough: who finds another one with the same beginning signs it, too.
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Waypoint:
    """The configuration `number`, whose digest begins with `digest` (16 bytes)."""

    number: int
    digest: bytes

    @classmethod
    def at(cls, configuration: Configuration) -> Waypoint:
        return cls(configuration.number, configuration.digest[:DIGEST_BYTES])


class Route:
    """`waypoint`: None where a node knows nothing but the genesis."""

    def __init__(self, waypoint: Waypoint | None) -> None:
        self._waypoint = waypoint
        self._proven: dict[int, Configuration] = {}

    def is_behind(self, number: int) -> bool:
        """Whether configuration `number` has ended, as this node knows."""
        return self._waypoint is not None and number < self._waypoint.number

    def is_closed(self, number: int) -> bool:
        """Whether it is not known yet what leads on from configuration `number`."""
        return self.is_behind(number) and number + 1 not in self._proven

    def ends_at(self, configuration: Configuration) -> bool:
        """Whether this is as far as the way has to be proven."""
        return self._waypoint is not None and configuration.number == self._waypoint.number

    def open(self, way: Iterable[Configuration]) -> bool:
        """Go this way, each of which is proven by the one before; False if it leads elsewhere."""
        proven = {configuration.number: configuration for configuration in way}
        assert self._waypoint is not None
        if Waypoint.at(proven[self._waypoint.number]) != self._waypoint:
            return False
        self._proven = proven
        return True

    def leads_through(self, configuration: Configuration) -> bool:
        """False if another one with this number is known."""
        return self._proven.get(configuration.number, configuration) == configuration

    def allows(self, committed: Committed) -> bool:
        """Whether this batch may be executed: it ends its configuration where that ended."""
        said = committed.commits[0].message
        if self.is_closed(said.configuration):
            return False
        following = self._proven.get(said.configuration + 1)
        if following is None:
            return True
        if said.sequence == following.start:
            return said.successor == following.digest
        return said.sequence < following.start and not said.successor

"""The owners of the boards: they let boards in and throw them out, one after another.

They know who lies, and never let more liars in, or so many honest members go, that the cluster
could not bear it: how many it bears is its promise, and this only keeps to the condition.
Refuses to know how a change comes about: every honest member that runs is told to propose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis_edge.knowledge.agreed import unpack
from aegis_edge.knowledge.operations import Adjust, Admit, Change, Dismiss, Leave, Propose
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration
from tests.sim import signing

if TYPE_CHECKING:
    from tests.sim.world import World

#: How often a member is asked again, in time-outs.
AGAIN_TIMEOUTS = 2
#: How often what they want is another value of what all members share.
ADJUSTMENTS = 0.3

#: Who the members shall be, and what they shall have agreed on.
Wish = tuple[frozenset[bytes], frozenset[tuple[str, int]]]


def wish_of(configuration: Configuration) -> Wish:
    """What somebody wanted who got this."""
    values = frozenset((name, value) for name, value, _ in unpack(configuration.terms))
    return frozenset(configuration.members), values


class Operator:
    """`wished`: all that was wanted, whether it came about or not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.plan.random("operator")
        self._records = dict(signing.records(world.plan.n))
        self._open: tuple[int, Change, int | None] | None = None
        self._number = 0
        self.wished: list[Wish] = []

    @property
    def waits(self) -> bool:
        """Whether something is wanted that has not come about."""
        world = self._world
        return self._open is not None and self._open[0] == world.configuration.number

    def wish(self, _: None) -> None:
        """Want another change, unless the last one is still under way."""
        world = self._world
        if self.waits or any(node.forgetful for node in world.honest):
            return
        now, values = wish_of(world.configuration)
        options: list[tuple[Change, Wish]]
        if self._random.random() < ADJUSTMENTS:
            options = self._adjustments(dict(values))
        else:
            options = [
                (change, (frozenset(after), values))
                for change, after in self._options(set(now))
                if self._fits(after)
            ]
        if not options:
            return
        change, after = self._random.choice(options)
        self.wished.append(after)
        leaver = None
        if isinstance(change, Dismiss) and self._random.random() < 0.3:
            leaver = world.index_of[change.key]
        self._open = (world.configuration.number, change, leaver)
        self._ask(None)

    def _options(self, members: set[bytes]) -> list[tuple[Change, set[bytes]]]:
        outside = sorted(set(self._world.keys) - members)
        options: list[tuple[Change, set[bytes]]] = []
        for key in sorted(members):
            options.append((Dismiss(key), members - {key}))
            for other in outside:
                change = Admit(self._records[other], key)
                options.append((change, members - {key} | {other}))
        for other in outside:
            options += [(Admit(self._records[other]), members | {other})] * 4
        return options

    def _adjustments(self, values: dict[str, int]) -> list[tuple[Change, Wish]]:
        members, plan = self._world.configuration.members, self._world.plan
        # Where lines carry little, callers have values that go by the time-out of the plan.
        fifths = (5, 6, 7) if plan.bytes_a_tick else (4, 5, 6)
        choices = [("pbft_timeout", plan.timeout_ticks * part // 5) for part in fifths]
        choices += [("checkpoint_interval", interval) for interval in (2, 3, 4, 8, 16)]
        return [
            (Adjust(name, value), (frozenset(members), frozenset({**values, name: value}.items())))
            for name, value in choices
            if values.get(name) != value
        ]

    def _fits(self, members: set[bytes]) -> bool:
        liars = sum(self._world.keys[liar] in members for liar in self._world.plan.liars)
        return bool(members) and liars <= quorum.faults(len(members))

    def _ask(self, _: None) -> None:
        """Tell every honest member that runs, until it has come about."""
        world = self._world
        if not self.waits:
            return
        assert self._open is not None
        number, change, leaver = self._open
        for node in world.honest:
            if node.is_member and not node.is_balloting:
                if leaver is None or world.nodes[leaver].liar:
                    node.vote(Propose(change, number).encode())
                elif leaver == node.index:
                    node.vote(Leave(number).encode())
        world.at(world.now + AGAIN_TIMEOUTS * world.plan.timeout_ticks, self._ask, None)

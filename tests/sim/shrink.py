"""The smallest part of a failing plan that still breaks the same promise.

Knows plans only: takes faults and vices away in halves, then quarters, then one by one (Zeller's
delta debugging), heals earlier, calms the network, and lets fewer callers' operations be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.sim.plan import Plan

#: True if a plan still fails the way that is being looked into.
Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails, trials_max: int = 120) -> tuple[Plan, int]:
    """The smallest failing plan found, and how many were tried."""
    trials = 0

    def still(candidate: Plan) -> bool:
        nonlocal trials
        trials += 1
        return trials <= trials_max and fails(candidate)

    shrunk = True
    while shrunk and trials < trials_max:
        shrunk = False
        for candidate in _smaller(plan):
            if still(candidate):
                plan, shrunk = candidate, True
                break
    return plan, min(trials, trials_max)


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that are a little less than this one, the boldest cuts first."""
    parts = plan.parts
    size = len(parts)
    while size:
        for at in range(0, len(parts), size):
            yield plan.without(frozenset(parts[at : at + size]))
        size //= 2
    for heal_at in (plan.heal_at // 4, plan.heal_at // 2, plan.heal_at * 3 // 4):
        if heal_at >= 200:
            yield plan.healing_at(heal_at)
    if not plan.is_calm:
        yield plan.calm()
    for operations in (plan.operations // 4, plan.operations // 2, plan.operations - 1):
        if 0 <= operations < plan.operations:
            yield plan.with_operations(operations)

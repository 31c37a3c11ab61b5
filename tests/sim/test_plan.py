"""Plans are data: the same seed, the same plan; less of it by flags; shrinking finds the cause."""

from __future__ import annotations

import pytest

from tests.sim import __main__ as command_line
from tests.sim import byzantine, plan
from tests.sim.shrink import shrink


def test_a_seed_is_a_plan() -> None:
    assert plan.make(7) == plan.make(7)
    assert plan.make(7) != plan.make(8)


@pytest.mark.parametrize("seed", range(60))
def test_plans_are_within_what_a_cluster_bears(seed: int) -> None:
    made = plan.make(seed)
    assert len(made.liars) <= (made.n - 1) // 3
    assert made.window >= 2 * made.checkpoint_interval
    assert all(fault.at < made.heal_at for fault in made.faults)
    assert {vice.node for vice in made.vices} == set(made.liars)


def test_sizes_can_be_chosen() -> None:
    assert {plan.make(seed, (7,)).n for seed in range(9)} == {7}
    assert {plan.make(seed).n for seed in range(20)} == {1, 2, 3, 4, 7}


def test_every_vice_is_drawn_by_some_seed() -> None:
    assert set(plan.SIEGE_VICES) == set(byzantine.VICES)
    plans = [plan.make(seed) for seed in range(300)]
    assert {vice.kind for made in plans for vice in made.vices} == set(plan.VICES)
    sieges = map(plan.besieged, plans)
    assert {vice.kind for made in sieges for vice in made.vices} == set(plan.SIEGE_VICES)
    faults = {fault.kind for seed in range(300) for fault in plan.make(seed).faults}
    assert faults >= set(plan.FAULT_WEIGHTS)


def test_a_share_of_the_seeds_has_lines_that_carry_little_and_nodes_that_differ() -> None:
    made = [plan.make(seed) for seed in range(400)]
    assert sum(p.bytes_a_tick > 0 for p in made) == pytest.approx(400 / plan.SLOW_LINES, rel=0.25)
    assert sum(p.mixed for p in made) == pytest.approx(400 / plan.MIXED, rel=0.25)
    slow = next(p for p in made if p.bytes_a_tick)
    assert slow.value_bytes < slow.bytes_a_tick * slow.timeout_ticks


def test_flags_make_the_same_plan_again() -> None:
    made = plan.make(11)
    assert made.parts
    less = made.without(frozenset(made.parts[1:])).healing_at(1_000).calm().with_operations(3)
    less = less.with_operations(2)
    text = command_line.command(less)
    assert text.startswith("scripts/sim --seed 11 ")
    assert text.count("--operations") == 1
    options = command_line._options().parse_args(text.split()[1:])
    again = plan.make(options.seed, options.n).keeping(frozenset(options.keep))
    again = again.healing_at(options.heal_at).calm().with_operations(options.operations)
    assert (again.faults, again.vices, again.weather) == (less.faults, less.vices, less.weather)
    assert (again.heal_at, again.operations) == (1_000, 2)


def test_shrinking_finds_the_parts_that_matter() -> None:
    made = next(p for seed in range(99) if len((p := plan.make(seed)).parts) > 10)
    culprits = {made.parts[2], made.parts[7]}
    smallest, trials = shrink(made, lambda candidate: culprits <= set(candidate.parts))
    assert set(smallest.parts) == culprits
    assert smallest.operations == 0
    assert smallest.is_calm
    assert trials <= 120


def test_shrinking_stops_when_it_has_tried_enough() -> None:
    made = plan.make(11)
    assert shrink(made, lambda candidate: True, trials_max=3)[1] == 3
    assert shrink(made, lambda candidate: False)[0] == made

"""The command line of the simulator: `scripts/sim`.

Runs seeds on all cores, says which promises were broken and how to see it again with one command,
shrinks what failed, flies the canaries, and sums up what was covered.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tests.sim import crowd
from tests.sim import plan as plans
from tests.sim.builds import REAL
from tests.sim.canaries import CANARIES, Canary, hunt
from tests.sim.plan import Plan
from tests.sim.shrink import shrink
from tests.sim.world import Result, World

#: Failing seeds that are shrunk before giving up on more.
SHRINK_MAX = 3


def main(arguments: list[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    if options.seed is not None:
        return replay(options)
    if options.observers is not None:
        return _observe(options)
    started = time.monotonic()
    failed = False
    figures: dict[str, Any] = {}
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        if not options.canaries:
            seeds = range(options.start, options.start + options.seeds)
            results = _run_seeds(pool, seeds, options.n, options.siege)
            figures = _summary(results, time.monotonic() - started)
            failed = any(result.violations for result in results)
        if options.canaries or not options.no_canaries:
            figures["canaries"] = _fly(pool)
            failed = failed or not all(c["caught"] for c in figures["canaries"])
    figures["wall_s"] = round(time.monotonic() - started, 1)
    print(f"{figures['wall_s']:.0f} s: " + ("FAILED" if failed else "all promises kept"))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    return int(failed)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/sim", description="Simulate clusters by seed.")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--n", type=_numbers, default=(), help="cluster sizes, such as 4,7")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--siege", action="store_true", help="let members come and go as well")
    parser.add_argument("--canaries", action="store_true", help="fly the canaries only")
    parser.add_argument("--no-canaries", action="store_true", help="fly no canaries")
    parser.add_argument("--observers", type=int, help="up to so many behind four voters, instead")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--seed", type=int, help="replay this seed alone")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--canary", help="with --seed: release this canary")
    parser.add_argument("--keep", type=_numbers, help="with --seed: only these faults and vices")
    parser.add_argument("--operations", type=int, help="with --seed: so many callers' operations")
    parser.add_argument("--heal-at", type=int, help="with --seed: end all troubles at this tick")
    parser.add_argument("--calm", action="store_true", help="with --seed: a network without chance")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(int(number) for number in text.split(","))


# --- one seed -------------------------------------------------------------------------------


def command(plan: Plan) -> str:
    """The one command that runs a plan again."""
    return " ".join(("scripts/sim --seed", str(plan.seed), *plan.flags, "--trace"))


def replay(options: argparse.Namespace) -> int:
    """Run one seed, as a whole or cut down, and tell what happened."""
    canary = next((c for c in CANARIES if c.name == options.canary), None)
    if options.canary and canary is None:
        print(f"no such canary; there are: {', '.join(c.name for c in CANARIES)}")
        return 2
    plan = plans.make(options.seed, options.n) if canary is None else canary.plan(options.seed)
    if options.siege:
        plan = plans.besieged(plan)
    if options.keep is not None:
        plan = plan.keeping(frozenset(options.keep))
    if options.heal_at is not None:
        plan = plan.healing_at(options.heal_at)
    if options.calm:
        plan = plan.calm()
    if options.operations is not None:
        plan = plan.with_operations(options.operations)
    print(
        f"seed {plan.seed}: n={len(plan.founders)} of {plan.n}, liars {list(plan.liars) or 'none'}"
    )
    for part in plan.faults + plan.vices:
        print(f"  {part}")
    trace = print if options.trace else None
    result = World(plan, REAL, trace).run() if canary is None else canary.fly(plan, trace)
    print(
        f"{result.ticks} ms simulated, {result.events} events, {result.batches} batches,"
        f" {result.operations} operations answered, trace {result.trace_hash}"
    )
    for violation in result.violations:
        print(f"VIOLATED {violation}")
    return int(bool(result.violations))


# --- observers --------------------------------------------------------------------------------


def _observe(options: argparse.Namespace) -> int:
    """What observers cost the voters, and how late they are; and the canary that believes all."""
    figures = crowd.measure(options.observers, partial(print, flush=True), options.start)
    for violation in figures["violations"]:
        print(f"VIOLATED {violation}")
    caught = crowd.canary()
    print(f"an observer that checks no certificates: {caught[0] if caught else 'GOT AWAY'}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    return int(bool(figures["violations"]) or not caught)


# --- many seeds -----------------------------------------------------------------------------


def _plan(seed: int, sizes: tuple[int, ...], siege: bool) -> Plan:
    plan = plans.make(seed, sizes)
    return plans.besieged(plan) if siege else plan


def _one(what: tuple[int, tuple[int, ...], bool]) -> Result:
    return World(_plan(*what), REAL).run()


def _run_seeds(pool: Any, seeds: range, sizes: tuple[int, ...], siege: bool) -> list[Result]:
    results: list[Result] = []
    started = time.monotonic()
    work = [(seed, sizes, siege) for seed in seeds]
    for result in pool.imap_unordered(_one, work, chunksize=4):
        results.append(result)
        if result.violations:
            shrunk = sum(bool(r.violations) for r in results) <= SHRINK_MAX
            _report(result, _plan(result.seed, sizes, siege), shrunk=shrunk)
        _progress(len(results), len(work), started, results)
    return sorted(results, key=lambda r: r.seed)


def _report(result: Result, plan: Plan, *, shrunk: bool) -> None:
    """What was broken, the command that shows it, and the smallest one that does, if asked."""
    violation = result.violations[0]
    print(f"\nseed {result.seed} (n={result.n}) VIOLATED {violation}")
    print(f"  replay: {command(plan)}", flush=True)
    if shrunk:

        def fails(candidate: Plan) -> bool:
            again = World(candidate, REAL).run()
            return any(v.promise == violation.promise for v in again.violations)

        smallest, trials = shrink(plan, fails)
        print(f"  shrunk in {trials} runs: {command(smallest)}", flush=True)


def _progress(done: int, count: int, started: float, results: list[Result]) -> None:
    """One line that changes on a terminal; a line every tenth elsewhere."""
    tenth = max(1, count // 10)
    if sys.stderr.isatty() or done % tenth == 0 or done == count:
        hours = sum(r.ticks for r in results) / 3_600_000
        elapsed = time.monotonic() - started
        broken = sum(bool(r.violations) for r in results)
        line = f"{done}/{count} seeds, {hours:.1f} h simulated in {elapsed:.0f} s, {broken} broken"
        end = "\r" if sys.stderr.isatty() and done < count else "\n"
        print(line, end=end, file=sys.stderr, flush=True)


def _summary(results: list[Result], elapsed: float) -> dict[str, Any]:
    hours = sum(r.ticks for r in results) / 3_600_000
    coverage: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    for result in results:
        coverage.update(result.coverage)
        faults.update(result.faults)
        alarms.update(result.alarms)
    slowest = max(results, key=lambda r: r.recovery_timeouts)
    figures = {
        "seeds": len(results),
        "violations": {r.seed: [str(v) for v in r.violations] for r in results if r.violations},
        "sizes": dict(sorted(Counter(r.n for r in results).items())),
        "simulated_hours": round(hours, 2),
        "simulated_hours_per_minute": round(60 * hours / elapsed, 2),
        "seeds_per_second": round(len(results) / elapsed, 1),
        "events": sum(r.events for r in results),
        "messages": sum(r.messages for r in results),
        "batches": sum(r.batches for r in results),
        "operations": sum(r.operations for r in results),
        "views": max(r.views for r in results),
        "slowest_recovery": {
            "seed": slowest.seed,
            "ticks": slowest.recovery_ticks,
            "timeouts": round(slowest.recovery_timeouts, 1),
        },
        "faults": dict(sorted(faults.items())),
        "alarms": dict(sorted(alarms.items())),
        "coverage": {f"{kind} x {vice}": count for (kind, vice), count in sorted(coverage.items())},
    }
    _print_summary(figures)
    _print_coverage(coverage)
    return figures


def _print_summary(figures: dict[str, Any]) -> None:
    sizes = ", ".join(f"{count} of {n}" for n, count in figures["sizes"].items())
    slowest = figures["slowest_recovery"]
    broken = len(figures["violations"])
    print(
        f"{figures['seeds']} seeds (cluster sizes: {sizes}), {broken} violations\n"
        f"{figures['simulated_hours']} hours simulated, "
        f"{figures['simulated_hours_per_minute']} hours a minute\n"
        f"{figures['messages']} messages, {figures['batches']} batches, "
        f"{figures['operations']} operations answered, views up to {figures['views']}\n"
        f"slowest recovery after healing: {slowest['timeouts']} time-outs,"
        f" seed {slowest['seed']}\n"
        f"faults: {', '.join(f'{k} {v}' for k, v in figures['faults'].items())}"
    )


def _print_coverage(coverage: Counter[tuple[str, str]]) -> None:
    """How often which vice touched which kind of message."""
    kinds = sorted({kind for kind, _ in coverage if kind != "(refused)"})
    vices = sorted({vice for kind, vice in coverage if kind != "(refused)"})
    if not vices:
        return
    print("vices by the kind of message that they touched:")
    for vice in vices:
        touched = ", ".join(f"{k} {coverage[k, vice]}" for k in kinds if coverage[k, vice])
        print(f"  {vice:18s} {touched}")
    refused = sum(count for (kind, _), count in coverage.items() if kind == "(refused)")
    print(f"  {refused} messages were refused before they were read")


# --- canaries -------------------------------------------------------------------------------


def _hunt(number: int) -> tuple[int, int, Result | None]:
    flown, result = hunt(CANARIES[number])
    return number, flown, result


def _fly(pool: Any) -> list[dict[str, Any]]:
    """Fly all canaries and say which were caught, by whom, and how soon."""
    figures = []
    print(f"{len(CANARIES)} canaries:")
    for number, flown, result in pool.imap_unordered(_hunt, range(len(CANARIES))):
        canary = CANARIES[number]
        _print_canary(canary, flown, result)
        promise = None if result is None else result.violations[0].promise
        figures.append(
            {"name": canary.name, "caught": result is not None, "seeds": flown, "by": promise}
        )
    return sorted(figures, key=lambda f: str(f["name"]))


def _print_canary(canary: Canary, flown: int, result: Result | None) -> None:
    if result is None:
        print(f"  {canary.name:38s} GOT AWAY: {canary.mistake}, {flown} seeds", flush=True)
        return
    promise = next(v.promise for v in _caught(canary, result))
    print(f"  {canary.name:38s} caught by '{promise}' after {flown} seeds", flush=True)


def _caught(canary: Canary, result: Result) -> Iterable[Any]:
    return (v for v in result.violations if v.promise in canary.caught_by)


if __name__ == "__main__":
    sys.exit(main())

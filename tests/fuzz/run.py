"""One worker's share of a run: so many inputs per target, what came of them, and the memory."""

from __future__ import annotations

import gc
import math
import os
import random
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from aegis_edge.wire.session import SIZE_BUCKETS
from tests.fuzz.mutation import Mutator, shrink
from tests.fuzz.targets import Target, targets

ROUNDS = 20
#: Memory is compared between the end of the first rounds, when caches are full, and the end.
WARM_ROUNDS = 8
FINDINGS_MAX = 10
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Tally:
    """What came of the inputs of one target."""

    inputs: int = 0
    taken: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    slowest: bytes = b""


@dataclass(frozen=True)
class Finding:
    """An input that ended in something else than a value or the typed error."""

    target: str
    data: bytes
    error: str


@dataclass
class Report:
    """A worker's result; `growth_bytes` is what the process grew after the warm-up."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    growth_bytes: int = 0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def run_named(names: list[str], inputs: int, seed: str) -> Report:
    """`run`, for another process to call."""
    return run([targets()[name] for name in names], inputs, seed)


def run(of: Iterable[Target], inputs: int, seed: str) -> Report:
    """At least `inputs` inputs, shared by weight; they follow from `seed`."""
    chosen = list(of)
    total = sum(target.weight for target in chosen)
    report = Report({target.name: Tally() for target in chosen})
    mutators = {t.name: Mutator(t.seeds, random.Random(f"{seed}/{t.name}")) for t in chosen}
    warm_bytes = 0
    for number in range(ROUNDS):
        for target in chosen:
            share = math.ceil(inputs * target.weight / total / ROUNDS)
            _feed(target, mutators[target.name], share, report)
        if number == WARM_ROUNDS - 1:
            gc.collect()
            warm_bytes = resident_bytes()
    gc.collect()
    report.growth_bytes = resident_bytes() - warm_bytes
    for target in chosen:
        _measure_slowest(target, report.tallies[target.name])
    return report


def replay(target: Target, data: bytes) -> str | None:
    """The traceback that this input ends in, or None if all is well."""
    try:
        target.run(data)
    except Exception:
        return traceback.format_exc()
    return None


def _feed(target: Target, mutator: Mutator, count: int, report: Report) -> None:
    tally = report.tallies[target.name]
    work, clock = target.run, time.perf_counter
    for _ in range(count):
        data = mutator.next()
        if target.fit and mutator.random.randrange(10):
            data = _fit(data)
        start = clock()
        try:
            tally.taken += work(data)
        except Exception as error:
            if len(report.findings) < FINDINGS_MAX:
                report.findings.append(_finding(target, data, error))
        passed = clock() - start
        tally.seconds += passed
        if passed * 1e3 > tally.slowest_ms:
            tally.slowest_ms, tally.slowest = passed * 1e3, data
    tally.inputs += count


def _fit(data: bytes) -> bytes:
    size = next((bucket for bucket in SIZE_BUCKETS if len(data) <= bucket), SIZE_BUCKETS[-1])
    return data[:size].ljust(size, b"\0")


def _finding(target: Target, data: bytes, error: Exception) -> Finding:
    kind = type(error)

    def still(shorter: bytes) -> bool:
        try:
            target.run(shorter)
        except Exception as other:
            return type(other) is kind
        return False

    data = shrink(data, still)
    return Finding(target.name, data, replay(target, data) or f"only once: {error!r}")


def _measure_slowest(target: Target, tally: Tally) -> None:
    """Again, a few times: on a busy machine the first time says little."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        replay(target, tally.slowest)
        times.append(time.perf_counter() - start)
    tally.slowest_ms = min(times) * 1e3

"""The command: shares the inputs among processes, prints the table, and fails on any finding."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from inspect import isfunction
from pathlib import Path
from typing import Any

import cbor2

from tests.fuzz.run import Report, Tally, replay, run_named
from tests.fuzz.targets import targets

#: What a process may grow after its warm-up; the allocator's own breathing stays well below.
GROWTH_BYTES_MAX = 8 * 1024 * 1024


def merged(reports: list[Report]) -> Report:
    """One report of all workers; the growth is that of the worker that grew most."""
    whole = Report()
    for report in reports:
        whole.findings += report.findings
        whole.growth_bytes = max(whole.growth_bytes, report.growth_bytes)
        for name, tally in report.tallies.items():
            sum_ = whole.tallies.setdefault(name, Tally())
            sum_.inputs += tally.inputs
            sum_.taken += tally.taken
            sum_.seconds += tally.seconds
            sum_.slowest_ms = max(sum_.slowest_ms, tally.slowest_ms)
    return whole


def show(report: Report) -> None:
    print(f"{'decoder':24}{'inputs':>10}{'taken':>9}{'us each':>10}{'slowest ms':>12}")
    for name, tally in report.tallies.items():
        each = tally.seconds / tally.inputs * 1e6
        print(
            f"{name:24}{tally.inputs:>10,}{tally.taken:>9,}{each:>10.1f}{tally.slowest_ms:>12.2f}"
        )
    for finding in report.findings:
        print(f"\n{finding.error}", file=sys.stderr)
        print(
            f"again: scripts/fuzz --replay '{finding.target}' {finding.data.hex()!r}",
            file=sys.stderr,
        )


def figures(report: Report, seconds: float, seed: int, workers: int) -> dict[str, Any]:
    total = sum(tally.inputs for tally in report.tallies.values())
    return {
        "inputs": total,
        "seconds": round(seconds, 1),
        "inputs_per_s": round(total / seconds),
        "untyped_exceptions": len(report.findings),
        "growth_bytes": report.growth_bytes,
        "seed": seed,
        "workers": workers,
        "cbor2": f"{version('cbor2')}, {'Python' if isfunction(cbor2.loads) else 'compiled'}",
        "decoders": {
            name: {
                "inputs": tally.inputs,
                "taken": tally.taken,
                "slowest_ms": round(tally.slowest_ms, 3),
            }
            for name, tally in report.tallies.items()
        },
    }


def arguments(line: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many, in all")
    parser.add_argument("--seed", type=int, default=1, help="everything follows from it")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--target", action="append", choices=targets(), help="these alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "HEX"), help="run one input again")
    return parser.parse_args(line)


def main(line: list[str] | None = None) -> int:
    options = arguments(line)
    if options.replay:
        name, text = options.replay
        error = replay(targets()[name], bytes.fromhex(text))
        print(error or "a value, or the typed error: all is well")
        return 1 if error else 0
    names = options.target or list(targets())
    workers = max(1, options.workers)
    start = time.perf_counter()
    share = -(-options.inputs // workers)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(run_named, names, share, f"{options.seed}/{worker}")
            for worker in range(workers)
        ]
        report = merged([job.result() for job in jobs])
    found = figures(report, time.perf_counter() - start, options.seed, workers)
    show(report)
    print(
        f"\n{found['inputs']:,} inputs in {found['seconds']} s ({found['inputs_per_s']:,}/s), "
        f"{found['untyped_exceptions']} exceptions but the typed ones, "
        f"{found['growth_bytes'] / 1e6:+.1f} MB; cbor2 {found['cbor2']}, seed {options.seed}"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if report.growth_bytes > GROWTH_BYTES_MAX:
        print(f"memory grew by more than {GROWTH_BYTES_MAX / 1e6:.0f} MB", file=sys.stderr)
        return 1
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""The simulator itself: it repeats to the byte, a few seeds pass, and the canaries are caught."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sim import __main__ as command_line
from tests.sim import plan
from tests.sim.builds import REAL
from tests.sim.canaries import CANARIES, Canary, hunt
from tests.sim.node import FalseRows, FalseSource, Node
from tests.sim.world import World

ROOT = Path(__file__).resolve().parents[2]

#: The canaries that fall within a few seeds: `scripts/sim --canaries` flies them all.
QUICK = [
    canary
    for canary in CANARIES
    if canary.name
    in {
        "speaks_before_it_writes",
        "quorum_2f",
        "quorum_too_small_proof",
        "commits_of_any_digest",
        "digest_from_a_field",
        "believes_one_view_change",
        "counts_envelopes",
        "believes_new_view",
        "executes_twice",
        "skips_a_batch",
        "keeps_other_versions",
        "believes_any_partition",
        "believes_any_value",
        "believes_the_latest_clock",
        "never_resends",
        "scribbles",
        "raises",
        "accuses_the_innocent",
    }
]


@pytest.mark.parametrize("seed", range(20))
def test_a_few_seeds(seed: int) -> None:
    result = World(plan.make(seed), REAL).run()
    assert not result.violations, command_line.command(plan.make(seed))


@pytest.mark.parametrize("node", [Node, FalseSource, FalseRows])
@pytest.mark.parametrize("seed", [0, 1, 22, 24])
def test_who_missed_what_nobody_keeps_comes_back(seed: int, node: type[Node]) -> None:
    world = World(plan.forgetful(plan.make(seed, (4,))), replace(REAL, node=node))
    assert not world.run().violations
    assert world.judges.transfers
    accused = world.judges.alarms["it sent a state that is not the agreed one"]
    assert accused == (1 if node is FalseSource else accused)


def test_the_same_seed_is_the_same_run() -> None:
    first, again = (World(plan.make(17), REAL).run() for _ in range(2))
    assert first == again
    other = World(plan.make(21), REAL).run()
    assert other.trace_hash != first.trace_hash


def test_a_run_does_not_depend_on_the_order_of_sets_and_dicts() -> None:
    """Python shuffles the order of sets of bytes anew in every process, by PYTHONHASHSEED."""
    code = (
        "from tests.sim import plan; from tests.sim.world import World;"
        "from tests.sim.builds import REAL;"
        "print([World(plan.make(s), REAL).run().trace_hash for s in (0, 1, 10, 17, 23)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "4711")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 80


def test_a_trace_changes_nothing() -> None:
    lines: list[str] = []
    traced = World(plan.make(10), REAL, lines.append).run()
    assert traced.trace_hash == World(plan.make(10), REAL).run().trace_hash
    assert any("Proposal" in line for line in lines)


@pytest.mark.parametrize("canary", QUICK, ids=lambda canary: canary.name)
def test_a_canary_is_caught(canary: Canary) -> None:
    flown, result = hunt(canary)
    assert result is not None, f"{canary.mistake}: not caught in {flown} seeds"


def test_a_canary_leaves_the_code_as_it_was() -> None:
    patched = next(canary for canary in CANARIES if canary.patches)
    owner, name, broken = patched.patches[0]
    sound = owner.__dict__[name]
    with patched.released():
        assert owner.__dict__[name] is broken
    assert owner.__dict__[name] is sound


def test_the_command_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--seed", "8", "--trace"]) == 0
    assert "healing" in capsys.readouterr().out
    canary = ["--seed", "1", "--canary", "quorum_too_small_proof"]
    assert command_line.main(canary) == 1
    assert "VIOLATED proof" in capsys.readouterr().out
    assert command_line.main(["--seed", "1", "--canary", "no such bird"]) == 2


def test_the_command_sums_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "sim.json"
    arguments = ["--seeds", "6", "--n", "1,2,3", "--jobs", "2", "--no-canaries"]
    assert command_line.main([*arguments, "--json", str(figures)]) == 0
    said = json.loads(figures.read_text())
    assert said["seeds"] == 6
    assert said["violations"] == {}
    assert said["simulated_hours_per_minute"] > 0
    assert "all promises kept" in capsys.readouterr().out

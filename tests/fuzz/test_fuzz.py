"""The fuzz harness: every decoder stands a short run, and what is broken is found."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import figures, main, merged, show
from tests.fuzz.mutation import CHANGES, Mutator, shrink
from tests.fuzz.run import replay, run
from tests.fuzz.targets import Target, targets

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", targets())
def test_every_decoder_stands_a_short_run(name: str) -> None:
    target = targets()[name]
    report = run([target], 200, "test")
    assert [finding.error for finding in report.findings] == []
    assert report.tallies[name].inputs > 0


@pytest.mark.parametrize("name", targets())
def test_the_good_bytes_are_good(name: str) -> None:
    """Else a target would only ever knock at a closed door."""
    target = targets()[name]
    assert any(target.run(seed) for seed in target.seeds)
    assert not target.run(b"\xff" * 300)


def broken(data: bytes) -> bool:
    if b"\xde\xad" in data:
        raise KeyError("as a careless decoder does")
    return True


def test_a_broken_decoder_is_found_and_its_input_shrunk(capsys: pytest.CaptureFixture[str]) -> None:
    target = Target("broken", 1, (b"abc\xde\xaddef" * 10,), broken)
    report = run([target], 100, "test")
    assert report.findings
    assert {finding.data for finding in report.findings} == {b"\xde\xad"}
    assert "KeyError" in report.findings[0].error
    show(merged([report, report]))
    assert "--replay 'broken' 'dead'" in capsys.readouterr().err
    assert figures(report, 1.0, 1, 1)["untyped_exceptions"] == len(report.findings)


LEAKING = """
from tests.fuzz.run import run
from tests.fuzz.targets import Target

kept = []

def leaking(data):
    kept.append(bytearray(b"x" * 50_000))
    return True

print(run([Target("leaking", 1, (b"",), leaking)], 1000, "test").growth_bytes)
"""


def test_a_decoder_that_keeps_its_inputs_is_found() -> None:
    """In a process of its own: this one has room that other tests left."""
    ran = subprocess.run(
        [sys.executable, "-c", LEAKING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) > 20_000_000


def test_a_slow_input_is_measured() -> None:
    def slow(data: bytes) -> bool:
        return bool(data == b"slow" and sum(range(500_000)))

    report = run([Target("slow", 1, (b"slow",), slow)], 400, "test")
    assert report.tallies["slow"].slowest_ms > 1


def test_inputs_follow_from_the_seed() -> None:
    seeds = targets()["message"].seeds
    streams = [Mutator(seeds, random.Random(seed)) for seed in ("a", "a", "b")]
    one, same, other = ([stream.next() for _ in range(200)] for stream in streams)
    assert one == same
    assert one != other
    assert len(set(one)) > 150


def test_every_change_takes_anything_at_any_place() -> None:
    mutator = Mutator((b"", b"seed" * 30), random.Random(1))
    for change in CHANGES:
        for size in (0, 1, 100):
            for at in range(size + 1):
                change(mutator, bytearray(size), at)


def test_shrinking_keeps_what_matters() -> None:
    assert shrink(b"0123456789", lambda data: b"3" in data and b"8" in data) == b"38"
    assert shrink(b"", lambda data: True) == b""


def test_replay_tells_good_from_bad(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(Target("broken", 1, (b"",), broken), b"\xde\xad") is not None
    assert main(["--replay", "codec", "00"]) == 0
    assert main(["--replay", "codec", "ff"]) == 0
    assert "all is well" in capsys.readouterr().out


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    line = ["--inputs", "400", "--workers", "2", "--target", "codec", "--json", str(path)]
    assert main([*line, "--seed", "7"]) == 0
    found = json.loads(path.read_text())
    assert found["inputs"] >= 400
    assert found["untyped_exceptions"] == 0
    assert found["seed"] == 7
    assert list(found["decoders"]) == ["codec"]

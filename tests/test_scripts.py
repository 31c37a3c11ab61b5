"""The scripts judge others, so they are judged here: what the demonstration would not forgive.

A node of a few lines stands in for a real one; an interrupted demonstration is a real one.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import bench
import etcd
import latency
from cluster import Node
from demo import Acknowledged, Demo, documents, reading
from show import Show

ROOT = Path(__file__).resolve().parent.parent
HELD = {f"work/{number}": b"value %d" % number for number in range(8)}


@pytest.mark.parametrize("name", ["observe", "tornet", "siege"])
def test_a_script_that_is_asked_for_help_keeps_its_lines(name: str) -> None:
    if name == "observe":
        pytest.importorskip("numpy")
    done = subprocess.run(
        [sys.executable, f"scripts/{name}.py", "-h"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"usage: scripts/{name} ")
    code = [line for line in done.stdout.splitlines() if line.startswith("    ")]
    assert name == "siege" or any(re.fullmatch(r"    \w+\.start\(\)", line) for line in code)


def test_the_checks_are_described_and_not_run() -> None:
    def said(word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["scripts/check", word], cwd=ROOT, capture_output=True, text=True, check=False
        )

    for word in ("-h", "--help"):
        assert said(word).returncode == 0
        assert said(word).stdout.endswith("scripts/check [--coverage]\n")
        assert "-- ruff" not in said(word).stdout
    assert said("--covreage").returncode == 2


class Standin:
    """A node that holds what it is told to hold: key -> (revision, value)."""

    name = "n1"

    def __init__(self, held: dict[str, tuple[int, bytes]]) -> None:
        self.held = held

    @contextmanager
    def client(self) -> Iterator[Standin]:
        yield self

    def ls(self) -> list[Any]:
        return [SimpleNamespace(key=key, revision=rev) for key, (rev, _) in self.held.items()]

    def get(self, key: str) -> Any:
        return SimpleNamespace(raw=self.held[key][1])


def missing(change: dict[str, tuple[int, bytes] | None]) -> list[str]:
    """What the demonstration says of a node that holds all but for `change`."""
    honest = {key: (number, value) for number, (key, value) in enumerate(HELD.items(), 1)}
    node = Standin({k: v for k, v in (honest | change).items() if v is not None})
    demo = object.__new__(Demo)
    demo.show, demo.done = Show(), Acknowledged()
    demo.cluster = cast(Any, SimpleNamespace(nodes=[node]))
    for key, (revision, value) in honest.items():
        demo.done.held[key] = (revision, hashlib.sha256(value).digest())
    return demo._missing(cast(Node, node))


# --- the command lines -----------------------------------------------------------------------


def options_of(script: Path) -> dict[str, str | None]:
    """Each option that a script takes, and what its help calls the value."""
    found: dict[str, str | None] = {}
    for call in ast.walk(ast.parse(script.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "parser.add_argument":
            name = ast.literal_eval(call.args[0])
            named = {word.arg: word.value for word in call.keywords}
            value = ast.unparse(named["metavar"]) if "metavar" in named else None
            found |= {name: value} if name.startswith("--") else {}
    return found


def shown_by(wrapper: Path) -> set[str]:
    """The options that the comment at the top of a script shows."""
    head = itertools.takewhile(lambda line: line.startswith("#"), wrapper.read_text().splitlines())
    return set(re.findall(r"--[a-z][a-z-]*", "\n".join(head)))


WRAPPED = [path for path in (ROOT / "scripts").glob("*.py") if path.with_suffix("").exists()]


@pytest.mark.parametrize("script", WRAPPED, ids=lambda path: path.stem)
def test_the_head_of_a_script_shows_its_options(script: Path) -> None:
    assert shown_by(script.with_suffix("")) == set(options_of(script))


def test_what_scripts_have_in_common_is_spelled_alike() -> None:
    everywhere = [(path.stem, options_of(path)) for path in WRAPPED]
    assert {"bench", "demo", "latency", "observe", "tornet"} <= {name for name, _ in everywhere}
    for (one, ours), (other, theirs) in itertools.combinations(everywhere, 2):
        for option, value in ours.items():
            assert theirs.get(option, value) == value, f"{option} of {one} and {other}"
            alike = [name for name in theirs if _alike(name, option) and name != option]
            assert not alike, f"{option} of {one}, {alike} of {other}"


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


@pytest.mark.parametrize("order", [["--debian", "--tor"], ["--tor", "--debian"]])
def test_the_tests_take_their_options_in_any_order(order: list[str]) -> None:
    script = [str(ROOT / "scripts" / "test"), *order, "--help"]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    options = "[--debian | --newest] [--tor | --system]"
    assert said.endswith(f"scripts/test {options} [pytest arguments ...]\n")


def test_a_level_hides_nothing_without_tor() -> None:
    demo = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--level", "HIGH"]
    done = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give it with --tor" in done.stderr


# --- what the demonstration would not forgive ------------------------------------------------


def test_nothing_is_missing_where_all_is_there() -> None:
    assert missing({}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"work/3": None}, "work/3 at None, not 4"),
        ({"work/3": (9, b"value 3")}, "work/3 at 9, not 4"),
        ({"work/3": (4, b"another")}, "work/3 has another content"),
    ],
    ids=["lost", "overwritten", "changed"],
)
def test_what_is_lost_or_changed_is_noticed(change: dict[str, Any], said: str) -> None:
    assert missing(change) == [f"n1: {said}"]


def test_the_pause_is_the_longest_wait_that_ends_after_the_kill() -> None:
    done = Acknowledged()
    done.gaps = [(5.0, 10.0), (1.5, 19.5), (0.1, 20.5)]  # (waited, asked)
    assert done.longest_wait(20.0) == 1.5
    assert Acknowledged().longest_wait(0.0) == 0.0


def test_documents_are_real_files_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.txt").write_bytes(b"a")
    (tmp_path / "in" / "large").write_bytes(bytes(256 * 1024 + 1))
    (tmp_path / "in" / "more").write_bytes(b"more than one")
    everything = 1 << 30
    assert documents(tmp_path / "in", tmp_path / "out", everything) == {
        "deep/a.txt": b"a",
        "more": b"more than one",
    }
    assert documents(tmp_path / "in", tmp_path / "few", 12) == {"deep/a.txt": b"a"}
    assert len(documents(None, tmp_path / "ours", everything)) > 50


def test_a_reading_is_of_this_host() -> None:
    key, value = reading(7)
    assert key.endswith("/000007")
    assert value["memory_available_kb"] > 0
    assert len(value["load"]) == 3


def test_bars_are_as_high_as_their_counts() -> None:
    show = Show()
    show._unicode = False
    assert show.bars([0, 1, 8]) == " .@"
    assert show.bars([0, 0]) == "  "


def test_a_put_for_etcd_is_one_message_of_grpc() -> None:
    body = etcd.put_request(b"k", b"v" * 200)
    assert body[:5] == b"\x00" + (206).to_bytes(4, "big")
    assert body[5:] == b"\x0a\x01k\x12\xc8\x01" + b"v" * 200


def test_medians_and_goals_of_a_run() -> None:
    run = {"ops_per_s": 10.0, "p50_ms": 4.0}
    side = bench.Side("aegis-edge", [1], "x", ("pipeline",), Path())
    side.runs = {("pipeline", n): [run, run | {"p50_ms": 9.0}, run] for n in bench.CALLERS}
    assert side.row("pipeline", 1)["p50_ms"] == 4.0
    side.idle = {
        "rss_mb_max": 41.0,
        "cpu_percent_per_node": 0.1,
        "written_bytes_per_s_per_node": 0.0,
    }
    side.full = {"keys": 9, "rss_mb_max": 50.0}
    assert [reached for reached, _ in bench.goals([side])] == [True, False, True, True, True]


def test_the_steps_of_a_put_are_told_from_the_logs_of_two_nodes() -> None:
    backup = latency.batches(
        "12:00 INFO view 1: n1 leads\n"
        "12:00 DEBUG steps of batch 6: committed=8.0000 executed=9.0000\n"
        "12:00 DEBUG steps of batch 7: bundled=10.1000 accepted=12.0000 prepared=13.5000"
        " committed=14.0000 executed=14.0100\n"
    )
    primary = latency.batches("steps of batch 7: accepted=11.0000 executed=14.5000\n")
    assert list(backup) == [6, 7]
    steps = latency.split(latency.Put(10.0, 14.1), backup, primary)
    assert steps == pytest.approx([100, 900, 1000, 1500, 500, 10, 90])
    assert len(steps) == len(latency.STEPS)
    assert latency.ways_ms(primary, [backup, primary, {}]) == pytest.approx([1000, 0])
    assert latency.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert latency.quantile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_the_table_of_latencies_has_a_line_for_each_node_that_was_asked() -> None:
    one: dict[str, Any] = {"p50_ms": 400.0, "p99_ms": 900.0, "one_way_ms": 100.0, "delays": 4.0}
    one |= {"steps_ms": dict.fromkeys(latency.STEPS, 1.0)}
    run = {"level": "HIGH", "delay_ms": 200, "backup": one, "primary": one}
    _, backup, primary = latency.table([run | {"primary_64": {"ops_per_s": 7.5}}]).splitlines()
    assert backup.split() == [
        *("HIGH", "200", "backup", "400", "900", "100", "4.0"),
        *["14.3%"] * len(latency.STEPS),
        "nan",
    ]
    assert primary.split()[-1] == "7.5"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_behind_and_says_so(
    number: signal.Signals, tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "demo.py")],
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with demo:
        assert demo.stdout is not None
        assert any("four processes" in line for line in demo.stdout)
        assert len(nodes_below(tmp_path)) == 4
        for _ in range(2):  # people press Ctrl-C twice
            demo.send_signal(number)
        assert demo.wait(30) == 128 + number
        assert f"the four nodes are ended, and {tmp_path}" in demo.stdout.read()
    assert nodes_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def nodes_below(directory: Path) -> list[int]:
    """The processes whose home is below `directory`."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            settings = (proc / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended, or it is somebody else's
        if any(s.startswith(b"AEGIS_EDGE_HOME=" + bytes(directory)) for s in settings):
            found.append(int(proc.name))
    return found

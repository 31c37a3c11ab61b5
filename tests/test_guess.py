"""The observer of `scripts/observe` is judged here: what he finds where there is something to find.

Lines are made up, of Poisson processes and of what a flawed schedule would make of them.
"""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import guess
from cluster import free_ports
from guess import Verdict, interval, judge
from observe import CONTROL, Finding, Observation
from pairs import Window
from tap import RECORD

ROOT = Path(__file__).resolve().parent.parent
WINDOW_S, LINES, WINDOWS = 4.0, 25, 24
CELL = 536
#: When something passes, and how much of it; in a window that is idle, or under load.
Line = list[tuple[float, int]]
Rng = np.random.Generator


def poisson(rng: Rng, rate: float = 1.0) -> Line:
    """One cell at a time, in both directions."""
    return [
        (float(at), sign * CELL)
        for sign in (1, -1)
        for at in rng.uniform(0, WINDOW_S, rng.poisson(rate * WINDOW_S))
    ]


def hides_all(rng: Rng, is_busy: bool) -> Line:
    return poisson(rng)


def adds(rng: Rng, is_busy: bool) -> Line:
    """Frames are added to the empty ones, not put in their place."""
    return poisson(rng, 1.8 if is_busy else 1.0)


def answers(rng: Rng, is_busy: bool) -> Line:
    """As many frames, but under load half of them go out at once when one has come in."""
    seen = poisson(rng)
    if not is_busy:
        return seen
    came = [at for at, size in seen if size < 0]
    out = [at for at, size in seen if size > 0]
    moved = [at + 0.005 for at in came[: len(out)][::2]]
    return [(at, -CELL) for at in came] + [(at, CELL) for at in moved + out[len(moved) :]]


def grows(rng: Rng, is_busy: bool) -> Line:
    """A frame in ten is of another size."""
    return [(at, size * 2 if is_busy and rng.random() < 0.1 else size) for at, size in poisson(rng)]


def judged(behaviour: Callable[[Rng, bool], Line]) -> Verdict:
    rng = np.random.default_rng(1)
    windows, records = [], []
    for line in range(LINES):
        for number, is_busy in enumerate(rng.permutation([False, True] * (WINDOWS // 2))):
            begins = number * WINDOW_S
            windows.append(Window(line, bool(is_busy), begins, begins + WINDOW_S))
            for at, size in behaviour(rng, bool(is_busy)):
                records.append((begins + at, line, line, size))
    seen = np.array(records, guess.SEEN)
    return judge(windows, seen[np.argsort(seen["at"])])


def test_what_hides_all_is_chance() -> None:
    found = judged(hides_all)
    assert found.is_chance
    assert (found.windows, found.lines) == (LINES * WINDOWS, LINES)


@pytest.mark.parametrize(("flawed", "at_least"), [(adds, 0.7), (answers, 0.7), (grows, 0.6)])
def test_a_schedule_that_is_flawed_is_found_out(
    flawed: Callable[[Rng, bool], Line], at_least: float
) -> None:
    found = judged(flawed)
    assert found.right > at_least
    assert not found.is_chance


def test_an_interval_is_as_wide_as_its_guesses_are_worth() -> None:
    rng = np.random.default_rng(1)
    lines = np.repeat(np.arange(49), 49)
    alone = interval(rng.permutation(np.arange(2_401) % 2 == 0), lines)
    assert alone.low == pytest.approx(0.48, abs=0.003)
    assert alone.high == pytest.approx(0.52, abs=0.003)
    together = interval(lines % 2 == 0, lines)  # a whole line is right or wrong
    assert together.high - together.low == pytest.approx(0.28, abs=0.01)
    # An order that balances each line makes no guess worth more than one.
    balanced = interval(np.arange(2_401) % 2 == 0, lines)
    assert balanced.high - balanced.low >= 0.0399


@pytest.mark.parametrize(("right", "is_chance"), [(0.03, False), (0.5, True), (0.97, False)])
def test_a_leak_shows_on_either_side(right: float, is_chance: bool) -> None:
    lines = np.repeat(np.arange(40), 60)
    assert interval(np.tile(np.arange(60) < right * 60, 40), lines).is_chance is is_chance


def test_all_right_is_not_certain() -> None:
    found = interval(np.ones(300, bool), np.repeat(np.arange(10), 30))
    assert found.right == 1 and 0.97 < found.low < found.high == pytest.approx(1)


# --- the rule -----------------------------------------------------------------------------------


class Scripted(Observation):
    """Finds what it is told to, look by look."""

    def __init__(self, *looks: dict[str, float]) -> None:
        super().__init__()
        self.looks = list(looks)

    def look(self, names: object) -> list[Finding]:
        look = self.looks.pop(0)
        assert look.keys() == set(names)  # type: ignore[call-overload]
        return [
            Finding(name, Verdict(right, right - 0.02, right + 0.02, 2_401, 100), 1, 1, 1, [])
            for name, right in look.items()
        ]


@pytest.mark.parametrize(
    ("looks", "holds"),
    [
        ([{"HIGH": 0.51, CONTROL: 0.96}], [True, True]),
        ([{"HIGH": 0.53, CONTROL: 0.96}, {"HIGH": 0.5}], [True, True]),
        ([{"HIGH": 0.53, CONTROL: 0.96}, {"HIGH": 0.53}], [False, True]),
        ([{"HIGH": 0.03, CONTROL: 0.5}, {"HIGH": 0.5, CONTROL: 0.95}], [True, False]),
    ],
)
def test_what_is_missed_is_looked_at_once_more(
    looks: list[dict[str, float]], holds: list[bool]
) -> None:
    scripted = Scripted(*looks)
    assert [found.holds for found in scripted.findings(["HIGH", CONTROL])] == holds
    assert scripted.looks == []


# --- the tap ------------------------------------------------------------------------------------


@contextmanager
def tap(path: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [sys.executable, str(ROOT / "scripts" / "tap.py"), str(port), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield port
        process.stdin.close()
        assert process.wait(20) == 0


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def call(port: int, head: bytes) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), 20)
    stream.sendall(head)
    return stream


def exactly(stream: socket.socket, count: int) -> bytes:
    with stream.makefile("rb", buffering=0) as file:
        data = b""
        while len(data) < count and (more := file.read(count - len(data))):
            data += more
    return data


def test_a_tap_notes_what_passes_and_changes_nothing(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    sent, said = bytes(range(256)) * 4_000, b"back" * 5_000
    with tap(seen) as port, listening() as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        who = base64.b64encode(b"7:tap").decode()
        head = f"CONNECT {where} HTTP/1.0\r\nProxy-Authorization: Basic {who}\r\n\r\n"
        with call(port, head.encode()) as near:
            far, _ = server.accept()
            with far:
                far.settimeout(20)
                assert exactly(near, 19) == b"HTTP/1.0 200 OK\r\n\r\n"
                sender = threading.Thread(target=near.sendall, args=(sent,))
                sender.start()
                assert exactly(far, len(sent)) == sent
                sender.join()
                far.sendall(said)
                assert exactly(near, len(said)) == said
                near.shutdown(socket.SHUT_WR)
                assert far.recv(1) == b""
    records = list(RECORD.iter_unpack(seen.read_bytes()))
    assert {(line, connection) for _, line, connection, _ in records} == {(7, 0)}
    assert sum(size for *_, size in records if size > 0) == len(sent)
    assert sum(-size for *_, size in records if size < 0) == len(said)


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.0\r\n\r\n", b"CONNECT 127.0.0.1:1 HTTP/1.0\r\n\r\n", b"x" * 5_000],
    ids=["no CONNECT", "no line", "too long"],
)
def test_a_tap_serves_tors_of_ours_alone(head: bytes, tmp_path: Path) -> None:
    with tap(tmp_path / "seen") as port, call(port, head) as stream:
        try:
            assert stream.recv(1) == b""
        except ConnectionResetError:
            pass  # it hung up before it had read everything

"""What the README shows is true: its commands run, on a real cluster, as they are written.

The walk-through is done for real by four boards with a home each; the rest is looked up in the
command tree, the settings and the folders.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

import aegis_edge
from aegis_edge import config
from aegis_edge.cli import screen
from aegis_edge.cli.root import EPILOG, root
from aegis_edge.disk.database import CERTIFICATE_BYTES_MAX
from aegis_edge.knowledge.operations import KEY_BYTES_MAX, VALUE_BYTES_MAX
from aegis_edge.net.tor import levels
from aegis_edge.pbft.clocks import STEP_MS
from aegis_edge.pbft.configuration import STATUS_TICKS
from aegis_edge.peers.genesis import (
    CHECKPOINT_INTERVAL,
    CHECKPOINT_INTERVAL_TOR,
    NONCE_BYTES,
    Parameters,
)
from cluster import free_ports

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BOARDS = ("attic", "barn", "cellar", "dock")
PROGRAM = Path(sys.executable).parent / "aegis-edge"


def shown() -> list[str]:
    """Every command in an indented block, without its remark."""
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    return [re.split(r"\s+# ", line)[0].strip() for line in lines if line.strip()]


def ours(line: str) -> list[str] | None:
    words = shlex.split(line)
    return words[1:] if words[0] == "aegis-edge" else None


# --- looked up ------------------------------------------------------------------------------


def resolve(words: list[str]) -> None:
    """Walks the command tree as click would; fails on a command or an option that is not there."""
    command: click.Command = root
    path = ["aegis-edge"]
    while isinstance(command, click.Group):
        named = [word for word in words if not word.startswith("-")]
        if not named and command.invoke_without_command:
            break
        name = named[0] if named else ""
        found = command.get_command(click.Context(command), name)
        if found is None and command.invoke_without_command:
            break
        assert found is not None, f"{' '.join(path)} has no command {name}"
        words = words[words.index(name) + 1 :]
        command = found
        path.append(name)
    options = {opt for parameter in command.params for opt in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{' '.join(path)} has no option {word}"


@pytest.mark.parametrize("line", [line for line in shown() if ours(line) is not None])
def test_the_command_exists(line: str) -> None:
    words = ours(line)
    assert words is not None
    resolve(words)


def test_commands_in_the_text_exist() -> None:
    found = re.findall(r"`aegis-edge ((?:[a-z]+ ?)+)`", README)
    found += re.findall(r"^\$ aegis-edge (.+)$", README, re.MULTILINE)
    assert found
    for words in found:
        resolve(words.split())


def test_unknown_commands_are_noticed() -> None:
    with pytest.raises(AssertionError, match="no command"):
        resolve(["kb", "steal"])
    with pytest.raises(AssertionError, match="no option"):
        resolve(["kb", "put", "--softly"])


@pytest.mark.parametrize("line", [line for line in shown() if line.startswith("scripts/")])
def test_the_script_exists_with_its_options(line: str) -> None:
    words = shlex.split(line)
    script = ROOT / words[0]
    assert script.stat().st_mode & 0o111
    texts = [script, *script.parent.glob(f"{script.name}.py")]
    known = "".join(path.read_text() for path in texts) + _simulator()
    for word in words[1:]:
        if word.startswith("--"):
            assert word in known, f"{words[0]} does not know {word}"


def _simulator() -> str:
    return "".join(path.read_text() for path in (ROOT / "tests" / "sim").glob("*.py"))


def test_every_setting_that_is_named_exists() -> None:
    keys = {setting.key for setting in config.SETTINGS}
    variables = {setting.variable for setting in config.SETTINGS} | {config.HOME_VARIABLE}
    for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", README):
        assert name in keys | {"aegis_edge"}, f"there is no setting {name}"
    for name in re.findall(r"`([A-Z0-9]+(?:_[A-Z0-9]+)+)`", README):
        assert name in variables, f"there is no variable {name}"


def test_the_exit_codes_are_those_of_the_help() -> None:
    cells = r"(\d+) *\|? +(\S.*?)(?= *\||  |$)"
    table = README.partition("| exit code |")[2].partition("\n\n")[0]
    found = dict(re.findall(cells, table, re.MULTILINE))
    assert found == dict(re.findall(cells, EPILOG, re.MULTILINE))
    assert {int(code) for code in found} == {*range(9), 66, 74, 75, 78, screen.INTERRUPTED}


def test_the_limits_are_those_of_the_code() -> None:
    said = " ".join(README.partition("## Limits")[2].partition("##")[0].split())
    usual = Parameters(created_ms=0, nonce=bytes(NONCE_BYTES))
    for limit in (
        f"Values are at most {VALUE_BYTES_MAX / 1024:g} KiB, keys {KEY_BYTES_MAX} bytes;",
        f"; {usual.history_versions} versions of a key are kept.",
        f"The others keep the last {CERTIFICATE_BYTES_MAX / 2**20:g} MiB of batches.",
        f"a time up to {STATUS_TICKS / 1000:g} seconds old.",
    ):
        assert limit in said
    often = f"every {CHECKPOINT_INTERVAL}th batch, through Tor every {CHECKPOINT_INTERVAL_TOR}th."
    assert often in README
    assert ("median of the boards' clocks, to the second" in said) == (STEP_MS == 1000)


def test_the_cost_of_a_link_through_tor_is_that_of_its_level() -> None:
    for name in config.SECURITY_LEVELS:
        shape = levels.TABLE[levels.SecurityLevel(name)].shape
        (row,) = [line for line in README.splitlines() if line.startswith(f"| `{name}`")]
        assert f"| {shape.link_bytes_a_day / 1e6:.1f} MB a day" in row


def test_each_setting_is_a_flag_where_the_readme_says() -> None:
    elsewhere = {"--byzantine-threshold-ratio"}
    for setting in config.SETTINGS:
        places = [["genesis", "create"], ["init"]] if setting.flag in elsewhere else [["run"]]
        for words in places:
            resolve([*words, setting.flag])
    with pytest.raises(AssertionError, match="no option"):
        resolve(["run", *elsewhere])


def test_the_service_starts_what_there_is_and_stops_where_a_person_must_act() -> None:
    unit = ConfigParser(interpolation=None)
    unit.read_string(README.partition("```ini\n")[2].partition("```")[0])
    program, *words = unit["Service"]["ExecStart"].split()
    assert program.startswith("%h/aegis-edge-venv/bin/")
    assert "python3 -m venv ~/aegis-edge-venv && . ~/aegis-edge-venv/bin/activate" in shown()
    assert Path(program).name == "aegis-edge"
    resolve(words)
    codes = unit["Service"]["RestartPreventExitStatus"].split()
    assert codes == [str(screen.USAGE), str(os.EX_CONFIG)]


def test_the_house_is_drawn_as_it_stands() -> None:
    package = Path(aegis_edge.__file__).parent
    rooms = {path.stem for path in package.iterdir() if not path.name.startswith(("_", "."))}
    rooms.discard("py")  # py.typed
    drawn = set(re.findall(r"`([a-z]+)`", README.partition("## The house")[2]))
    assert rooms <= drawn


def test_the_changelog_and_the_package_are_of_one_version() -> None:
    first = (ROOT / "debian" / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"aegis-edge ({aegis_edge.__version__}) ")


# --- done for real --------------------------------------------------------------------------


class Board:
    """A home directory, and what is typed there."""

    def __init__(self, name: str, home: Path, port: int) -> None:
        self.name, self.home = name, home
        self.port = port
        home.mkdir()
        self.environment = {
            "HOME": str(home),
            "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
        }

    def type(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            shlex.split(line),
            executable=PROGRAM,
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


@pytest.fixture(scope="module")
def boards() -> Iterator[list[Board]]:
    """The README's own cluster, made by the README's own commands."""
    running: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory(prefix="aegis-edge-docs.") as directory:
        made = [
            Board(name, Path(directory) / name, port)
            for name, port in zip(BOARDS, free_ports(len(BOARDS)), strict=True)
        ]
        try:
            make(made)
            running.extend(board.begin("aegis-edge run --json") for board in made)
            for process in running:
                assert process.stdout is not None
                assert process.stdout.readline(), "a node did not become ready"
            yield made
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(20)
                assert process.stdout is not None
                process.stdout.close()


def make(made: list[Board]) -> None:
    """Over TCP; the same through Tor: tests/tor/test_way.py."""
    wanted = ("aegis-edge init", "aegis-edge record", "aegis-edge genesis")
    lines = [line for line in shown() if line.startswith(wanted) and "--tor" not in line]
    init, record, create, install = lines
    for board in made:
        here = init.replace("attic", board.name)
        board.type(here.replace("192.168.1.20:8080", f"127.0.0.1:{board.port}"))
        board.type(record.replace("attic", board.name))
    for board in made[1:]:
        name = f"{board.name}.record"
        (made[0].home / name).write_text((board.home / name).read_text())
    made[0].type(create)
    for board in made:
        if board is not made[0]:
            (board.home / "genesis").write_text((made[0].home / "genesis").read_text())
        board.type(install)


def test_the_walk_through(boards: list[Board]) -> None:
    first = boards[0]
    for words in re.findall(
        r"^\$ (aegis-edge (?!kb|verify).+)$|`(aegis-edge config show)`", README, re.MULTILINE
    ):
        first.type("".join(words))
    (first.home / "manuals").mkdir()
    (first.home / "manuals" / "pump.txt").write_text("turn left\n")
    for line in shown():
        if line.startswith("aegis-edge kb watch"):
            watched(first, line)
        elif line.startswith(("aegis-edge kb", "aegis-edge verify", "curl", "eval", "python3")):
            first.type(line.replace("/tmp/", f"{first.home}/out/"))
    assert (first.home / "out" / "manuals" / "pump.txt").read_text() == "turn left\n"
    seen = boards[3].type("aegis-edge kb get --linearizable greenhouse/door")
    assert '"open"' in seen
    line, _, rest = README.partition("$ aegis-edge verify")[2].partition("\n")
    said = first.type(f"aegis-edge verify{line} --home /nowhere")
    assert [row[:9] for row in said.splitlines()] == [
        row[:9] for row in rest.partition("\n```")[0].splitlines()
    ]


def watched(board: Board, line: str) -> None:
    """A watch shows a write; it starts at its own pace, so writes go on until it has shown one."""
    watch = board.begin(line)
    assert watch.stdout is not None
    try:
        for number in range(200):
            board.type(f"aegis-edge kb put greenhouse/watched {number}")
            if select.select([watch.stdout], [], [], 0)[0]:
                return
        pytest.fail("the watch showed nothing")
    finally:
        watch.terminate()
        watch.wait(20)
        watch.stdout.close()


def test_the_python_programs(boards: list[Board]) -> None:
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert [name in text for text in programs for name in ("Client", "Engine")] == [1, 0, 0, 1]
    for text in programs:
        (boards[1].home / "program.py").write_text(text)
        said = boards[1].type(f"{sys.executable} program.py")
        assert said == ""  # nobody was faster, and what was signed is believed
    last = boards[2].type("aegis-edge kb get --linearizable greenhouse/temperature/999")
    assert last.strip() == "21.5"

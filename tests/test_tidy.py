"""The habits of the house that no linter knows, each with a canary: a text that breaks it.

A rule takes the text of a module and returns its complaints.
"""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "aegis_edge"
CORES = ("crypto", "wire", "peers", "pbft", "knowledge")
FUNCTION_LINES_MAX = 70
#: Nouns only: nothing in them to test that is not tested by those who use them.
UNTESTED = {"pbft/events.py", "replication/port.py"}

Rule = Callable[[str], Iterator[str]]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def says_what_it_is(text: str) -> Iterator[str]:
    """A module begins with a docstring."""
    if not ast.get_docstring(ast.parse(text)):
        yield "1: a module says in its docstring what it knows and what it refuses to know"


def short_functions(text: str) -> Iterator[str]:
    """A function fits on a screen."""
    for function in functions(ast.parse(text)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{function.lineno}: {function.name} has {lines} lines; {FUNCTION_LINES_MAX} do"


def finished(text: str) -> Iterator[str]:
    """Nothing is left for later, and no complaint is silenced without saying which."""
    marks = re.compile(
        r"\b(TODO|FIXME|XXX)\b|NotImplementedError|pytest\.mark\.(skip|xfail)"  # tidy: the rule
        r"|# *noqa(?!: *[A-Z])|# *type: *ignore(?!\[)"  # tidy: the rule
    )
    for number, line in enumerate(text.splitlines(), 1):
        if marks.search(line) and "# tidy: the rule" not in line:
            yield f"{number}: unfinished, or silenced without a reason: {line.strip()}"


def pure(text: str) -> Iterator[str]:
    """A core awaits nothing, opens nothing, and does the same in every process."""
    tree = ast.parse(text)
    hashers = [f for f in functions(tree) if f.name == "__hash__"]
    allowed = {id(node) for hasher in hashers for node in ast.walk(hasher)}
    for node in ast.walk(tree):
        if id(node) in allowed:
            continue
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)):
            yield f"{node.lineno}: a core is never async"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("open", "print", "input", "hash", "id", "__import__", "eval"):
                yield f"{node.lineno}: a core never calls {node.func.id}()"
        elif isinstance(node, (ast.For, ast.comprehension)):
            if _unordered(node.iter):
                line = node.iter.lineno
                yield f"{line}: the order of a set differs from process to process: sorted() it"
        elif isinstance(node, ast.Global):
            yield f"{node.lineno}: a core keeps no state in its module"


def _unordered(node: ast.expr) -> bool:
    """True for what is a set at first sight: a literal, a comprehension, set(...), their union."""
    if isinstance(node, ast.BinOp):
        return _unordered(node.left) or _unordered(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, (ast.Set, ast.SetComp))


def no_sleep(text: str) -> Iterator[str]:
    """A test waits for what it wants, never for a time (a mock clock is no wait)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield f"{node.lineno}: a test never sleeps"


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def complaints(rule: Rule, paths: list[Path]) -> list[str]:
    assert paths
    return [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in paths
        for complaint in rule(path.read_text())
    ]


HOUSE = [
    (says_what_it_is, ("aegis_edge", "scripts"), "x = 1\n"),
    (short_functions, ("aegis_edge", "scripts", "tests"), "def f():\n" + "    x = 1\n" * 70),
    (finished, ("aegis_edge", "scripts", "tests"), "x = 1  # TO" + "DO: more\n"),
    (finished, ("aegis_edge",), "x = 1  # no" + "qa\n"),
    (pure, tuple(f"aegis_edge/{core}" for core in CORES), "async def f():\n    pass\n"),
    (pure, tuple(f"aegis_edge/{core}" for core in CORES), "for x in {1, 2} | y:\n    pass\n"),
    (pure, tuple(f"aegis_edge/{core}" for core in CORES), "x = hash('a')\n"),
    (no_sleep, ("tests",), "import time\ntime.sl" + "eep(1)\n"),
]


@pytest.mark.parametrize(
    ("rule", "folders", "canary"), HOUSE, ids=[row[0].__name__ for row in HOUSE]
)
def test_rule_is_kept(rule: Rule, folders: tuple[str, ...], canary: str) -> None:
    assert list(rule(canary)), "the rule does not see its canary"
    assert complaints(rule, modules(*folders)) == []


def test_every_module_has_its_test_file() -> None:
    missing = []
    for path in modules("aegis_edge"):
        inside = path.relative_to(PACKAGE)
        if path.name.startswith("__") or str(inside) in UNTESTED:
            continue
        wanted = ROOT / "tests" / inside.parent / f"test_{path.name}"
        if not wanted.exists():
            missing.append(str(wanted.relative_to(ROOT)))
    assert missing == []


def test_every_exemption_is_needed() -> None:
    assert [name for name in sorted(UNTESTED) if not (PACKAGE / name).exists()] == []


def floors_kept() -> list[set[str]]:
    """The rooms as the import contract has them, the highest floor first."""
    kept = configparser.ConfigParser()
    kept.read(ROOT / "setup.cfg")
    lines = kept["importlinter:contract:floors"]["layers"].split("\n")
    return [{room.strip() for room in line.split("|")} for line in lines if line.strip()][1:]


def test_the_map_draws_the_floors_as_they_are_kept() -> None:
    import aegis_edge

    drawn: list[set[str]] = []
    for step, room in re.findall(
        r"^ {4}(\d(?:\.\d)?|) +([a-z]+) {2,}\S", aegis_edge.__doc__ or "", re.MULTILINE
    ):
        if step:
            drawn.append(set())
        drawn[-1].add(room)
    assert drawn == floors_kept()


def test_the_readme_draws_the_floors_as_they_are_kept() -> None:
    house = (ROOT / "README.md").read_text().partition("## The house")[2]
    rows = re.findall(r"^\| \d(?:\.\d)? \| (.*?) \|", house, re.MULTILINE)
    assert [set(re.findall(r"`([a-z]+)`", row)) for row in rows] == floors_kept()


@pytest.mark.parametrize("room", ["replication", "wire"])
def test_a_room_names_its_modules(room: str) -> None:
    said = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
    modules_in = {path.stem for path in (PACKAGE / room).glob("[a-z]*.py")}
    assert sorted(modules_in - set(re.findall(r"`([a-z]+)`", said or ""))) == []


def test_the_map_names_every_room() -> None:
    import aegis_edge

    rooms = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith(("_", "."))}
    rooms.discard("py")  # py.typed
    drawn = set(re.findall(r"\b[a-z]+\b", aegis_edge.__doc__ or ""))
    assert sorted(rooms - drawn) == []


def test_no_drawer_for_odds_and_ends() -> None:
    names = {"utils", "util", "helpers", "common", "misc"}
    assert [str(path) for path in modules("aegis_edge", "scripts") if path.stem in names] == []


def test_the_scripts_can_be_run() -> None:
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix]
    assert scripts
    for path in [*scripts, ROOT / ".ci" / "run"]:
        assert path.stat().st_mode & 0o111, f"chmod +x {path}"
        assert path.read_text().startswith("#!"), f"{path} has no #! line"

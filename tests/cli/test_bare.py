"""What `run` becomes: found as the command was, told the same, and without a command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_edge import node
from aegis_edge.cli import bare, screen


def test_nothing_of_a_command_line_is_in_it() -> None:
    code = (
        "import sys; import aegis_edge.cli.bare; from aegis_edge import config, node;"
        "print(sorted({'click', 'aegis_edge.cli.screen'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert said.stdout == b"[]\n"


@pytest.mark.parametrize("options", [["-P"], ["-I"]])
def test_a_module_that_lies_about_is_not_taken(tmp_path: Path, options: list[str]) -> None:
    for name in ("trio", "json", "aegis_edge"):
        (tmp_path / f"{name}.py").write_text("open('taken', 'w')")
    code = "from aegis_edge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, *options, "-c", code, "--home", "none", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        timeout=60,
    )
    assert not (tmp_path / "taken").exists()
    assert b"genesis" in done.stderr
    assert done.returncode == os.EX_CONFIG


def test_it_is_found_where_the_command_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda _, words, __: became.append(words))
    here = str(Path(bare.__file__).parents[2])
    for first, options in ((here, []), ("/usr/bin", ["-P"])):
        monkeypatch.setattr(sys, "path", [first, *sys.path])
        bare.become({"home": "h"}, alone=True, as_json=False)
        assert became.pop()[1:-1] == [*bare.SPARING, *options, "-m", "aegis_edge.cli.bare"]


@pytest.mark.parametrize(("said", "heaps"), [({}, "1"), ({"MALLOC_ARENA_MAX": "4"}, "4")])
def test_one_heap_is_enough_unless_the_owner_says_more(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], heaps: str
) -> None:
    became: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _, __, environment: became.append(environment))
    monkeypatch.setattr(os, "environ", said | {"HOME": "h"})
    bare.become({"home": "h"}, alone=True, as_json=False)
    assert became == [{"MALLOC_ARENA_MAX": heaps, "HOME": "h"}]


def test_what_was_given_comes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"home": str(tmp_path / "none"), "p2p_port": "8199"}
    words = {"given": given, "alone": False, "as_json": True}
    assert bare.main(json.dumps(words)) == os.EX_CONFIG
    said = json.loads(capsys.readouterr().err)
    assert str(tmp_path / "none") in said["message"] + said["advice"]
    words["given"] = {**given, "p2p_port": "none"}
    assert bare.main(json.dumps({**words, "as_json": False})) == screen.USAGE
    assert "flag --p2p-port" in capsys.readouterr().err


def test_control_c_before_it_runs_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(node, "main", interrupted)
    words = {"given": {"home": str(tmp_path)}, "alone": False, "as_json": False}
    assert bare.main(json.dumps(words)) == screen.INTERRUPTED

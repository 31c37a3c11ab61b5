"""A command line in this process, and a node for it to talk to."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aegis_edge.cli.root import root
from aegis_edge.config import SETTINGS
from tests.api.node import Replication, serving


class Said(NamedTuple):
    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("STATE_DIRECTORY", "NO_COLOR", *(s.variable for s in SETTINGS)):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AEGIS_EDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cli(
    home: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    def run(*words: object, stdin: bytes = b"") -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        code = root.main([str(word) for word in words], "aegis-edge", standalone_mode=False)
        out, err = capsysbinary.readouterr()
        return Said(code, out.decode(errors="replace"), err.decode(), out)

    return run


@pytest.fixture
def node(home: Path) -> Iterator[Replication]:
    with serving(home / "api.sock") as replication:
        yield replication

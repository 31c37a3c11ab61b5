"""Where a replica stands is written down once, and each part of it by one hand."""

import ast
from dataclasses import fields
from pathlib import Path

from aegis_edge.pbft import standing
from aegis_edge.pbft.standing import Standing
from aegis_edge.wire.messages import Status
from tests.pbft.parts import KEYS, Parts

#: Which module writes what; the rest never changes.
WRITERS = {
    "view": "views",
    "changing": "views",
    "voting": "views",
    "executed": "execution",
    "fetching": "transfer",
    "time_ms": "execution",
    "settling": "execution",
    "depth": "following",
    "now_ticks": "replica",
    "clock_ms": "replica",
}


def test_a_primary_leads_once_its_view_has_begun_and_it_remembers_its_votes() -> None:
    at = Parts(own=1).at
    assert (at.primary, at.leads) == (KEYS[0], False)
    at.view = 5
    assert (at.primary, at.leads) == (KEYS[1], True)
    at.changing = True
    assert not at.leads
    at.changing, at.voting = False, False
    assert not at.leads


def test_a_status_says_it() -> None:
    at = Parts(executed=9).at
    at.view, at.changing, at.clock_ms = 3, True, 77
    assert at.status(stable=8) == Status(0, 3, True, 8, 9, 77)


def assigned(module: Path) -> set[str]:
    """The fields of a `Standing` that a module assigns to."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = ast.unparse(node.value)
            if owner == "at" or owner.endswith("._at"):
                found.add(node.attr)
    return found


def test_every_variable_has_one_writer() -> None:
    rooms = Path(standing.__file__).parent
    written = {(name, module.stem) for module in rooms.glob("*.py") for name in assigned(module)}
    assert written == set(WRITERS.items())
    assert WRITERS.keys() <= {field.name for field in fields(Standing)}

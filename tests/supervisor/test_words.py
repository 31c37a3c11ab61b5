from __future__ import annotations

from typing import Any

import pytest

from aegis_edge.net.tor.gateway import Progress
from aegis_edge.supervisor import words
from tests.supervisor.boards import status, tor


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "4 of 4 nodes reachable; barn leads, view 2"),
        ({"nodes": 1, "reachable": []}, "1 of 1 nodes reachable; barn leads, view 2"),
        (
            {"has_quorum": False, "reachable": ["barn"]},
            "no quorum: 2 of 4 nodes reachable (barn), 3 needed",
        ),
        (
            {"has_quorum": False, "reachable": []},
            "no quorum: 1 of 4 nodes reachable, 3 needed",
        ),
        (
            {"is_member": False, "reachable": ["barn"]},
            "no member, waits to be let in; 1 of 4 members reachable",
        ),
        ({"halted": True, "has_quorum": False}, "takes no part any more; its log says why"),
        (
            {"transfer": {"to": 9, "done": 3, "parts": 17}},
            "4 of 4 nodes reachable; fetches the state of the others: 3 of 17 parts",
        ),
        (
            {"view_changing": True},
            "4 of 4 nodes reachable; waits for another leader than barn",
        ),
        (
            {"alarms": [{"reason": "x"}]},
            "4 of 4 nodes reachable; barn leads, view 2; 1 alarm: see aegis-edge status",
        ),
        (
            {"alarms": [{}, {}]},
            "4 of 4 nodes reachable; barn leads, view 2; 2 alarms: see aegis-edge status",
        ),
    ],
)
def test_the_line_says_the_worst_first(changed: dict[str, Any], line: str) -> None:
    assert words.standing(status(**changed)) == line


@pytest.mark.parametrize(
    ("stage", "said", "end"),
    [
        ("reachable", "", "; tor: reachable"),
        ("reachable", "its clock is odd", "; tor: reachable"),
        ("bootstrapping", "at 45 %", "; tor: bootstrapping; at 45 %"),
        ("published", "published; not dialled yet", "; tor: published; not dialled yet"),
    ],
)
def test_with_tor_it_says_how_far_the_way_is(stage: str, said: str, end: str) -> None:
    assert words.standing(status(**tor(stage, said))).endswith(end)


def test_who_waits_for_tor_says_so_in_one_short_line() -> None:
    waits = words.waiting(status(**tor("no tor", "refused:\nno cookie" + 1000 * "é")))
    assert waits.startswith("waits for tor to answer: refused: no cookie")
    assert len(waits.encode()) <= words.BYTES_MAX
    assert waits.isprintable()


def test_a_tor_answers_unless_there_is_none() -> None:
    assert words.answers(status())
    for stage in Progress:
        assert words.answers(status(**tor(stage.value))) == (stage is not Progress.NO_TOR)
    assert Progress.REACHABLE.value == words.REACHABLE

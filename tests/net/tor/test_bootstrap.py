"""What tor says of its start, in words for people."""

from __future__ import annotations

import pytest

from aegis_edge.net.tor import bootstrap
from aegis_edge.net.tor.lines import Line, Reply


def reply(said: str) -> Reply:
    return Reply(250, (Line(f"{bootstrap.KEY}={said}"), Line("OK")))


@pytest.mark.parametrize(
    ("said", "percent", "words"),
    [
        (
            'NOTICE BOOTSTRAP PROGRESS=30 TAG=loading_status SUMMARY="Loading the consensus"',
            30,
            "tor is at 30 %: Loading the consensus",
        ),
        (
            'WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting" WARNING="Refused\x1b" COUNT=4',
            5,
            "tor is at 5 %: Connecting (Refused?)",
        ),
        ("NOTICE BOOTSTRAP PROGRESS=999", 100, "tor is at 100 %"),
        ("nonsense", 0, "tor is at 0 %"),
        ("", 0, "tor is at 0 %"),
    ],
)
def test_percent_and_words_are_tors_own(said: str, percent: int, words: str) -> None:
    found = bootstrap.phase(reply(said))
    assert (found.percent, found.words) == (percent, words)
    assert found.is_done == (percent == 100)


def test_no_answer_is_no_progress() -> None:
    assert bootstrap.phase(Reply(250, (Line("OK"),))).percent == 0

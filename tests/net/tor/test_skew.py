"""A clock that is off is told from one that is right, whatever tor knows of the network."""

from __future__ import annotations

import pytest

from aegis_edge.net.tor import skew
from aegis_edge.net.tor.lines import Line, Reply

HOUR = 3_600
SINCE = 1_795_000_000
NONE = Reply(250, (Line(f"{skew.FROM}="), Line(f"{skew.UNTIL}="), Line("OK")))
VALID = Reply(
    250,
    (
        Line(f"{skew.FROM}=2026-11-18 11:06:40"),
        Line(f"{skew.UNTIL}=2026-11-18 14:06:40"),
        Line("OK"),
    ),
)


def event(text: str) -> Reply:
    return Reply(650, (Line(text),))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("STATUS_GENERAL WARN CLOCK_SKEW SKEW=-86400 SOURCE=OR:127.0.0.1:1", -86_400.0),
        ("STATUS_GENERAL WARN CLOCK_SKEW SOURCE=CONSENSUS SKEW=+7200", 7_200.0),
        ("STATUS_GENERAL WARN CLOCK_SKEW MIN_SKEW=-7200 SOURCE=CONSENSUS", None),
        ("STATUS_GENERAL WARN CLOCK_SKEW SKEW=soon", None),
        ("STATUS_GENERAL NOTICE CLOCK_JUMPED TIME=9999", None),
        ('STATUS_CLIENT WARN BOOTSTRAP REASON=CLOCK_SKEW SKEW="1', None),
        ("HS_DESC WARN CLOCK_SKEW SKEW=7200", None),
        ("", None),
    ],
)
def test_what_a_relay_says_of_the_clock(text: str, seconds: float | None) -> None:
    assert skew.told(event(text)) == seconds


@pytest.mark.parametrize("now_s", [SINCE - HOUR + 1, SINCE, SINCE + 3 * HOUR, SINCE + 4 * HOUR - 1])
@pytest.mark.parametrize("said_s", [None, -86_400.0, 86_400.0])
def test_a_clock_within_the_view_of_the_network_is_right(now_s: int, said_s: float | None) -> None:
    assert skew.problem(now_s, VALID, said_s) == ""


@pytest.mark.parametrize(
    ("hours", "said_h", "words"),
    [
        (-1, None, "is at least 60 min behind: it says 2026-11-18, 10 h UTC; set it"),
        (-24, None, "is at least 24 h behind"),
        (-24, -25, "is 25 h behind"),
        (-24, 25, "is at least 24 h behind"),
        (24 * 9, 24 * 9, "is 9 days ahead: it says 2026-11-27, 11 h UTC; set it (sudo timedatectl"),
        (27, None, "is at least 24 h ahead, or tor has had no news of its network for so long"),
        (27, -2, "is at least 24 h ahead, or"),
    ],
)
def test_how_far_it_is_off_and_what_to_do(hours: int, said_h: int | None, words: str) -> None:
    said_s = None if said_h is None else said_h * HOUR
    assert words in skew.problem(SINCE + hours * HOUR, VALID, said_s)


@pytest.mark.parametrize("reply", [NONE, Reply(250, (Line("OK"),))])
def test_without_a_view_of_the_network_what_relays_say_counts(reply: Reply) -> None:
    assert skew.problem(SINCE, reply, None) == skew.problem(SINCE, reply, 3_599.0) == ""
    assert "is 60 min behind" in skew.problem(SINCE, reply, -3_600.0)


def test_times_that_are_none_count_for_nothing() -> None:
    garbled = Reply(250, (Line(f"{skew.FROM}=x"), Line(f"{skew.UNTIL}=9999-99-99 00:00:00")))
    assert skew.problem(SINCE, garbled, None) == ""

from __future__ import annotations

from aegis_edge.supervisor.pulse import DISK_SILENCE_S, TOR_SILENCE_S, Pulse
from aegis_edge.supervisor.words import standing
from tests.supervisor.boards import status, tor

WELL = status()
GONE = status(**tor("no tor", "refused"))
BACK = status(**tor("bootstrapping"))


def test_a_direct_node_serves_at_once_and_says_a_line_once() -> None:
    pulse, lines = Pulse(10, 10).after(11, 11, WELL)
    assert lines == ("READY=1", "WATCHDOG=1", f"STATUS={standing(WELL)}")
    pulse, lines = pulse.after(16, 16, WELL)
    assert lines == ("WATCHDOG=1",)
    less = status(reachable=["barn", "dock"])
    assert pulse.after(21, 21, less)[1] == ("WATCHDOG=1", f"STATUS={standing(less)}")


def test_through_tor_it_serves_once_tor_answers_however_long_that_takes() -> None:
    pulse, lines = Pulse(0, 0).after(5, 5, GONE)
    assert lines == ("STATUS=waits for tor to answer: refused",)
    pulse, lines = pulse.after(9_000, 9_000, GONE)
    assert lines == ()
    pulse, lines = pulse.after(9_005, 9_005, BACK)
    assert lines[:2] == ("READY=1", "WATCHDOG=1")


def test_a_disk_that_hangs_stops_the_pulse_and_one_that_comes_back_starts_it() -> None:
    pulse, _ = Pulse(0, 0).after(0, 0, WELL)
    pulse, lines = pulse.after(DISK_SILENCE_S, 0, WELL)
    assert lines == ("WATCHDOG=1",)
    pulse, lines = pulse.after(DISK_SILENCE_S + 1, 0, WELL)
    assert lines == ("STATUS=the disk has not answered for 61 s",)
    now_s = DISK_SILENCE_S + 5
    assert pulse.after(now_s, now_s, WELL)[1] == ("WATCHDOG=1", f"STATUS={standing(WELL)}")


def test_a_tor_that_is_gone_is_waited_for_but_not_for_ever() -> None:
    pulse, _ = Pulse(0, 0).after(1, 1, BACK)
    pulse, lines = pulse.after(1 + TOR_SILENCE_S, 300, GONE)
    assert lines[0] == "WATCHDOG=1"
    pulse, lines = pulse.after(2 + TOR_SILENCE_S, 300, GONE)
    assert lines == ("STATUS=tor has not answered for 301 s",)
    assert pulse.after(303, 303, BACK)[1][0] == "WATCHDOG=1"

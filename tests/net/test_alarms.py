"""Alarms: each once, and the last few."""

from __future__ import annotations

from aegis_edge.net.alarms import KEPT_MAX, Alarms


def test_an_alarm_is_kept_once() -> None:
    alarms = Alarms()
    assert alarms.add("two proposals", about="barn")
    assert not alarms.add("two proposals", about="barn")
    assert alarms.add("two proposals", about="dock")
    assert alarms.add("a key was copied")
    assert alarms.kept() == [
        {"about": "barn", "reason": "two proposals"},
        {"about": "dock", "reason": "two proposals"},
        {"about": "", "reason": "a key was copied"},
    ]


def test_the_oldest_goes_first_and_may_come_again() -> None:
    alarms = Alarms()
    for number in range(KEPT_MAX + 1):
        alarms.add(str(number))
    assert [alarm["reason"] for alarm in alarms.kept()] == [str(n) for n in range(1, KEPT_MAX + 1)]
    assert alarms.add("0")

from __future__ import annotations

import logging

import pytest

from aegis_edge.supervisor.journal import Formatter


@pytest.mark.parametrize(
    ("level", "mark"),
    [
        (logging.CRITICAL, "<2>"),
        (logging.ERROR, "<3>"),
        (logging.WARNING, "<4>"),
        (logging.INFO, "<6>"),
        (logging.DEBUG, "<7>"),
    ],
)
def test_every_line_has_its_priority(level: int, mark: str) -> None:
    record = logging.makeLogRecord({"levelno": level, "msg": "one\ntwo %s", "args": ("x",)})
    assert Formatter("%(message)s").format(record) == f"{mark}one\n{mark}two x"


def test_an_empty_message_is_a_line_too() -> None:
    assert Formatter("%(message)s").format(logging.makeLogRecord({"levelno": 20})) == "<6>"

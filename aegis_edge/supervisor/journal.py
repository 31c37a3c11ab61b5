"""Log lines as the journal takes them: each with its priority, none with a time of its own.

Knows the prefixes of sd-daemon(3).  Refuses to know what is logged.
"""

from __future__ import annotations

import logging

_PRIORITIES = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
)
_DEBUG = "<7>"


class Formatter(logging.Formatter):
    """Puts the priority before each line, also of a message that has several."""

    def format(self, record: logging.LogRecord) -> str:
        mark = next((mark for level, mark in _PRIORITIES if record.levelno >= level), _DEBUG)
        lines = super().format(record).splitlines()
        return "\n".join(mark + line for line in lines) if lines else mark

"""What a script shows while it works: handsome on a terminal, one plain line per step in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

_BARS = " ▁▂▃▄▅▆▇█"
_ASCII_BARS = " .:-=+*#@"


class Show:
    """Progress on standard output; colours and live lines only where they can be seen."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = self.live and "NO_COLOR" not in os.environ
        encoding = (sys.stdout.encoding or "").lower()
        self._unicode = encoding.startswith("utf")
        self._began = time.monotonic()

    def title(self, text: str) -> None:
        self._line(f"\n{self._paint('1', text)}\n")

    def step(self, text: str) -> None:
        """Something was done."""
        self._line(f"  {self._elapsed()}  {text}")

    def event(self, text: str) -> None:
        """Something happened that a watcher should not miss."""
        self._line(f"  {self._elapsed()}  {self._paint('1;33', text)}")

    def now(self, text: str) -> None:
        """What is going on; replaced by the next line, and not shown in a log."""
        if self.live:
            shown = f"  {self._elapsed()}  {self._paint('2', text)}"
            sys.stdout.write(f"\r\x1b[K{self._fitting(shown)}")
            sys.stdout.flush()

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """The summary: names and what is to be said of them, in two columns."""
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            self._line(f"  {self._paint('2', name.ljust(width))}  {text}")

    def good(self, text: str) -> None:
        self._line(f"\n  {self._paint('1;32', text)}\n")

    def bad(self, text: str) -> None:
        self._line(f"\n  {self._paint('1;31', text)}\n")

    def bars(self, counts: Sequence[int]) -> str:
        """Counts as a row of bars; a space is a zero."""
        top, bars = max(counts, default=0), _BARS if self._unicode else _ASCII_BARS
        heights = (-(-count * (len(bars) - 1) // top) if top else 0 for count in counts)
        return "".join(bars[height] for height in heights)

    def _elapsed(self) -> str:
        return self._paint("2", f"{time.monotonic() - self._began:5.1f} s")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _fitting(self, text: str) -> str:
        columns = os.get_terminal_size().columns + (20 if self._colours else 0)
        return text[:columns]

    def _line(self, text: str) -> None:
        if not self._unicode:
            text = text.encode("ascii", "replace").decode()
        print(("\r\x1b[K" if self.live else "") + text, flush=True)

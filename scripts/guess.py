"""How often an observer of the line guesses right whether a link is idle or under load.

Knows what can be made of times, sizes and directions alone, a learner for it, and how sure a share
is that was counted on a few lines.  Refuses to know Tor, and what was said.

The learner is a random forest (Breiman, 2001), always asked about lines of which it has seen
nothing.  The interval is Wilson's, two-sided, 95 %, of as many independent guesses as the windows
are worth: those of one line may be right or wrong together, which widens it (the design effect
after Kish, from the spread between lines), and no line is worth more than its windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold

from pairs import Window

#: A record of `tap`.
SEEN = np.dtype([("at", "<f8"), ("line", "<u4"), ("connection", "<u4"), ("size", "<i4")])
CONFIDENCE = 0.95
FOLDS, TREES, LEAF = 5, 100, 5
#: Reads this close in time are one burst.
BURST_S = 0.05
#: How soon the answer to something comes, if it does.
PROMPT_S = (0.005, 0.02, 0.1, 0.5)
QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)

Seen = np.ndarray[Any, np.dtype[Any]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Verdict:
    """The share of windows that were guessed right, and its interval."""

    right: float
    low: float
    high: float
    windows: int
    lines: int

    @property
    def is_chance(self) -> bool:
        """Whether the interval contains one half: from both sides, for 3 % right is a leak too."""
        return self.low <= 0.5 <= self.high

    def __str__(self) -> str:
        return (
            f"{self.right:.1%} right, {CONFIDENCE:.0%} interval {self.low:.1%} to {self.high:.1%} "
            f"({self.windows} windows of {self.lines} lines)"
        )


def read(path: Path) -> Seen:
    """All that a tap has noted, in the order of time."""
    seen = np.fromfile(path, SEEN)
    return seen[np.argsort(seen["at"], kind="stable")]


def judge(windows: Sequence[Window], seen: Seen, *, seed: int = 0) -> Verdict:
    """What the learner makes of lines that it does not know."""
    told = np.array([features(window, line) for window, line in _lines(windows, seen)])
    truth = np.array([window.is_busy for window in windows])
    lines = np.array([window.line for window in windows])
    right = np.zeros(len(windows), bool)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for known, asked in folds.split(told, truth, lines):
        forest = RandomForestClassifier(
            TREES, min_samples_leaf=LEAF, n_jobs=-1, random_state=seed
        ).fit(told[known], truth[known])
        right[asked] = forest.predict(told[asked]) == truth[asked]
    return interval(right, lines)


def interval(right: Any, lines: Any) -> Verdict:
    """The verdict on guesses, of which those on one line belong together."""
    count, share = len(right), float(np.mean(right))
    groups = np.unique(lines)
    excess = [np.sum(right[lines == line] - share) for line in groups]
    spread = len(groups) / (len(groups) - 1) * float(np.sum(np.square(excess))) / count**2
    alone = share * (1 - share) / count
    worth = count / max(1.0, spread / alone if alone else 1.0)
    z = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(groups) - 1))
    middle = (share + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z * math.sqrt(share * (1 - share) / worth + z * z / (4 * worth**2)) / (1 + z * z / worth)
    return Verdict(share, middle - half, middle + half, count, len(groups))


def bytes_a_second(windows: Sequence[Window], seen: Seen) -> float:
    """What one line carries in these windows, with all that its tor says to anybody, both ways."""
    sizes = sum(float(np.sum(np.abs(_within(w, of)["size"]))) for w, of in _lines(windows, seen))
    return sizes / sum(window.ends_s - window.begins_s for window in windows)


# --- what can be seen ---------------------------------------------------------------------------


def _lines(windows: Sequence[Window], seen: Seen) -> list[tuple[Window, Seen]]:
    """Each window with all that was seen on its line."""
    per_line = {line: seen[seen["line"] == line] for line in {w.line for w in windows}}
    return [(window, per_line[window.line]) for window in windows]


def _within(window: Window, line: Seen) -> Seen:
    first, end = np.searchsorted(line["at"], (window.begins_s, window.ends_s))
    return line[first:end]


def features(window: Window, line: Seen) -> list[float]:
    """The figures of one window; what a tor has with other guards is told from the link's line."""
    inside = _within(window, line)
    found = [float(len(inside)), float(np.sum(np.abs(inside["size"])))]
    if len(inside):
        names, where = np.unique(inside["connection"], return_inverse=True)
        loads = np.bincount(where, np.abs(inside["size"]))
        inside = inside[inside["connection"] == names[np.argmax(loads)]]
    at, size = inside["at"] - window.begins_s, inside["size"].astype(float)
    span = window.ends_s - window.begins_s
    out, into = at[size > 0], at[size < 0]
    found += [len(out) / (len(at) + 1), float(np.sum(size))]
    for sign in (1, -1):
        mine = size * sign > 0
        found += _direction(at[mine], np.abs(size[mine]), span)
    found += _bursts(at, np.abs(size))
    found += _response(out, into, span) + _response(into, out, span)
    return found + _lags(out, into, span)


def _direction(at: Numbers, size: Numbers, span: float) -> list[float]:
    """Counts, sizes and pauses one way."""
    pauses = np.diff(at, prepend=0.0, append=span)
    bins = np.histogram(at, 16, (0, span))[0]
    kinds = np.histogram(size, (0, 550, 700, 1100, 1700, 5000, math.inf))[0]
    return [
        float(len(at)),
        float(np.sum(size)),
        *_quantiles(size),
        *kinds.astype(float),
        *_quantiles(pauses),
        float(np.std(pauses)),
        float(np.var(bins) / (np.mean(bins) + 1e-9)),
        float(np.sum(bins == 0)),
        *_quantiles(at % 0.1),
    ]


def _bursts(at: Numbers, size: Numbers) -> list[float]:
    """How much goes at once, whichever way."""
    if not len(at):
        return [0.0] * 5
    starts = np.flatnonzero(np.diff(at, prepend=-math.inf) > BURST_S)
    reads = np.diff(np.append(starts, len(at)))
    sizes = np.add.reduceat(size, starts)
    most = [max(reads), np.mean(reads), max(sizes), np.mean(sizes)]
    return [float(len(starts)), *map(float, most)]


def _response(cause: Numbers, effect: Numbers, span: float) -> list[float]:
    """How soon after each read one way there is one the other way."""
    after = np.append(effect, span)[np.searchsorted(effect, cause)] - cause
    prompt = [float(np.mean(after < bound)) if len(after) else 0.0 for bound in PROMPT_S]
    return [*prompt, *_quantiles(after)]


def _lags(out: Numbers, into: Numbers, span: float) -> list[float]:
    """How much the two directions go together, at once and a little later."""
    found = []
    for step in (0.1, 0.5):
        count = max(2, round(span / step))
        a, b = (np.histogram(at, count, (0, span))[0].astype(float) for at in (out, into))
        a, b = a - np.mean(a), b - np.mean(b)
        scale = math.sqrt(float(a @ a) * float(b @ b)) or 1.0
        whole = np.correlate(a, b, "full") / scale
        middle = count - 1
        reach = min(3, middle)
        found += [float(whole[middle + lag]) if abs(lag) <= reach else 0.0 for lag in range(-3, 4)]
    return found


def _quantiles(values: Numbers) -> list[float]:
    if not len(values):
        return [-1.0] * len(QUANTILES)
    return [float(value) for value in np.quantile(values, QUANTILES)]

"""Whether an observer of the line tells an idle link from one under load: he must not."""

from __future__ import annotations

import pytest
from scipy import stats

from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from observe import CONTROL, Finding, Observation

LEVELS = ("HIGH", "PARANOID")
WINDOWS, LINKS = 2_401, 140
#: A link that keeps to its schedule sends more frames than this in one of a million runs.
SURELY = 1 - 1e-6 / (2 * LINKS)


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    observation = Observation(WINDOWS, links=LINKS, say=print)
    observation.start()
    try:
        found = {each.name: each for each in observation.findings([*LEVELS, CONTROL])}
    finally:
        observation.stop()
    for each in found.values():
        for name, text in each.rows():
            print(name.ljust(9), text)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_idle_and_under_load_look_the_same(level: str, findings: dict[str, Finding]) -> None:
    """The 95 % interval of the share that is guessed right contains one half.

    An honest interval misses the truth in one of 20 looks, so the rule, which stands before any
    figure is known, is that of `Observation.findings`: a level that misses is looked at once more,
    on fresh windows, and the second look counts.  So a level that hides all fails here in one of
    400 runs, and one at which 55 % are guessed right in all but a few.
    """
    verdict = findings[level].verdict
    assert verdict.windows >= WINDOWS
    assert verdict.is_chance, str(verdict)


def test_without_a_schedule_the_observer_knows(findings: dict[str, Finding]) -> None:
    """The control: who would fail here has shown nothing above."""
    assert findings[CONTROL].verdict.right > 0.95, str(findings[CONTROL].verdict)


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_keeps_its_budget(level: str, findings: dict[str, Finding]) -> None:
    """In frames, as Poisson has it; and in bytes on the TCP side, with what tor adds of its own.

    That is TLS (4 %), flow control and padding, and circuits, most of them in its first minutes;
    and at PARANOID obfs4, which makes 1,380 bytes of a cell.
    """
    found = findings[level]
    most = {"HIGH": 1.6, "PARANOID": 4.0}[level]
    interval_s = levels.TABLE[SecurityLevel(level)].shape.mean_interval_s
    assert interval_s is not None and len(found.frames) == LINKS
    for seconds, frames in found.frames:
        assert frames <= stats.poisson.ppf(SURELY, seconds / interval_s)
    assert sum(f for _, f in found.frames) > 0.9 * sum(s for s, _ in found.frames) / interval_s
    assert found.busy_bytes == pytest.approx(found.idle_bytes, rel=0.1)
    assert found.budget_bytes < found.idle_bytes < most * found.budget_bytes

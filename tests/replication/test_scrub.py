"""The walk: how often, how much at a time, and that what it meets does not end it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from aegis_edge.disk.scrub import Slice
from aegis_edge.replication import Damaged, scrub
from aegis_edge.replication.performer import Counters
from aegis_edge.replication.scrub import FIRST_S, PAUSE_S, REST_S, SHARE, SLICE_KEYS

SLICES = 5


class Replication:
    """One whose walks have five slices; `damaged` are those which meet what the disk spoilt."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.damaged: set[int] = set()
        self.at_s: list[float] = []
        self.began_s = trio.current_time()

    async def read(self, query: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.at_s.append(trio.current_time() - self.began_s)
        if len(self.at_s) in self.damaged:
            raise Damaged("1 of its rows")
        return query(self)

    def scrub(self, keys_max: int) -> Slice:
        assert keys_max == SLICE_KEYS
        return Slice(keys_max, len(self.at_s) % SLICES == 0)


async def walked(replication: Replication, for_s: float) -> None:
    with trio.move_on_after(for_s):
        await scrub.scrub(replication)  # type: ignore[arg-type]


async def test_a_walk_begins_late_goes_slowly_and_is_followed_by_a_rest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    replication = Replication()
    await walked(replication, FIRST_S + REST_S + 60)
    assert replication.counters.scrubs == 2
    first, second = replication.at_s[:SLICES], replication.at_s[SLICES:]
    assert first[0] == pytest.approx(FIRST_S)
    assert all(b - a >= PAUSE_S for a, b in pairwise(first))
    assert second[0] - first[-1] >= REST_S
    assert len(second) == SLICES


async def test_a_walk_takes_no_more_of_the_processor_than_its_share(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(100))
    monkeypatch.setattr(scrub.time, "thread_time", lambda: next(times) * 0.05)
    replication = Replication()
    await walked(replication, FIRST_S + 3 * 0.05 / SHARE - 1)
    assert len(replication.at_s) == 3
    assert 0.05 / SHARE > PAUSE_S


async def test_what_it_meets_does_not_end_it(autojump_clock: trio.testing.MockClock) -> None:
    replication = Replication()
    replication.damaged = {2, 3}
    await walked(replication, FIRST_S + 60)
    assert replication.counters.scrubs == 1
    assert len(replication.at_s) == SLICES

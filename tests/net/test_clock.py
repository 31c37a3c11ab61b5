"""Ticks follow Trio's clock, and so a test's."""

from __future__ import annotations

import trio.testing

from aegis_edge.net.clock import now_ticks


def test_a_tick_is_a_millisecond() -> None:
    async def looked() -> tuple[int, int]:
        before = now_ticks()
        clock.jump(1.2345)
        return before, now_ticks()

    clock = trio.testing.MockClock()
    before, after = trio.run(looked, clock=clock)
    assert isinstance(after, int)
    assert 1234 <= after - before <= 1235

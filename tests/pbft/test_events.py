"""Events and effects are values: they compare, and cannot be changed on their way."""

import dataclasses

import pytest

from aegis_edge.pbft import events


def test_every_event_and_effect_is_frozen() -> None:
    kinds = [k for k in vars(events).values() if dataclasses.is_dataclass(k)]
    own = [k for k in kinds if k.__module__ == events.__name__]  # type: ignore[union-attr]
    assert len(own) >= 16
    assert all(k.__dataclass_params__.frozen for k in own)  # type: ignore[union-attr]


def test_a_tick_cannot_be_changed() -> None:
    tick = events.Tick(1, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tick.now_ticks = 3  # type: ignore[misc]
    assert tick == events.Tick(1, 2)

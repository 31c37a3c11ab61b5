"""Two real Tor networks for everything in this folder, which is left out without --tor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tornet import TorNetwork


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--tor"):
        return
    here = Path(__file__).parent
    config.hook.pytest_deselected(items=[item for item in items if here in item.path.parents])
    items[:] = [item for item in items if here not in item.path.parents]


@contextmanager
def running(**options: Any) -> Iterator[TorNetwork]:
    network = TorNetwork(say=print, **options)
    network.start()
    try:
        yield network
    finally:
        network.stop()


@pytest.fixture(scope="session")
def tor_network() -> Iterator[TorNetwork]:
    """One authority and three relays."""
    with running() as network:
        yield network


@pytest.fixture(scope="session")
def far_network() -> Iterator[TorNetwork]:
    """Another one, whose tors can be moved apart: see `TorNetwork.delay`."""
    with running(delay_ms=0) as network:
        yield network

"""Settings of the whole suite: how hard Hypothesis tries, and whether there is a Tor network.

`HYPOTHESIS_PROFILE=thorough` makes a long run of it.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Shared cores: a slow example is no finding.  No database: each run stands alone.
settings.register_profile(
    "modest",
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("modest"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "modest"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tor", action="store_true", help="also run tests/tor, on a real Tor network")
    parser.addoption(
        "--system", action="store_true", help="also run tests/system, in machines that boot systemd"
    )

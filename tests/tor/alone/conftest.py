"""One real tor, without a network: enough for its control port, and all that needs no circuit."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.net.tor.torrc import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Where the tor of this test has its files."""
    return Places(tmp_path / "tor")

from __future__ import annotations

from collections.abc import Callable

import pytest

from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Verified

MakeRecord = Callable[..., Verified[NodeRecord]]


@pytest.fixture
def make_record() -> MakeRecord:
    """Makes the signed record of a node from a seed byte."""

    def make(
        seed: int,
        *,
        version: int = 1,
        addresses: tuple[str, ...] = ("tcp:198.51.100.7:8080",),
        noise: bytes | None = None,
        name: str = "attic",
    ) -> Verified[NodeRecord]:
        signer = Signer(bytes([seed]) * 32, b"")
        noise = noise if noise is not None else bytes([seed ^ 0xFF]) * 32
        return signer.sign(NodeRecord(version, noise, addresses, 2_000_000_000, name))

    return make

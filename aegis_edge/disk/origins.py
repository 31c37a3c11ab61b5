"""The table of each origin's last executed bundle, as bytes in a row.

Knows its encoding.  Refuses to know what it is for: see `knowledge.state.Progress`.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.wire import codec


def pack_origins(origins: Mapping[bytes, tuple[int, int]]) -> bytes:
    return codec.encode(tuple((origin, *origins[origin]) for origin in sorted(origins)))


def unpack_origins(packed: bytes) -> dict[bytes, tuple[int, int]]:
    """Raises `DatabaseDamaged`."""
    try:
        return {origin: (i, n) for origin, i, n in codec.decode(packed)}
    except (codec.WireError, TypeError, ValueError) as error:
        raise DatabaseDamaged(f"the table of origins cannot be read: {error}", "") from error

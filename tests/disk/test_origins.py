"""The table of origins in a row."""

import pytest

from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.disk.origins import pack_origins, unpack_origins


def test_it_is_read_as_it_was_written() -> None:
    origins = {b"b": (2, 1), b"a": (1, 9)}
    assert unpack_origins(pack_origins(origins)) == origins
    assert pack_origins(dict(reversed(origins.items()))) == pack_origins(origins)


@pytest.mark.parametrize("packed", [b"", b"\x01", b"\x81\x01", b"\x81\x82\x41a\x01"])
def test_another_one_is_a_damaged_database(packed: bytes) -> None:
    with pytest.raises(DatabaseDamaged, match="table of origins"):
        unpack_origins(packed)

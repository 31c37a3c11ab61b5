from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.disk.card import Card


def test_it_asks_a_file_that_may_be_gone_by_then(tmp_path: Path) -> None:
    file = tmp_path / "genesis"
    file.write_bytes(b"x" * 10_000)
    card = Card(file)
    card.answer()
    file.unlink()
    card.answer()
    card.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        card.answer()

"""How the members came about, on the disk: in order, some at a time, and nothing that rots."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from aegis_edge.disk.database import HANDOVERS_BYTES_MAX
from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.knowledge.operations import Leave
from aegis_edge.pbft.events import KeepHandovers, Settle
from aegis_edge.wire.messages import Handover
from tests.disk.stage import open_database
from tests.disk.test_members import certificate, lineage, said
from tests.knowledge.histories import origin


def test_who_is_asked_gives_some_at_a_time_and_none_after_a_gap(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        raw = Handover((origin(0),), ()).raw
        database.perform([KeepHandovers(1, (raw,) * 3), KeepHandovers(5, (raw,))])
        assert [len(lineage(database, number)[1]) for number in range(6)] == [3, 2, 1, 0, 1, 0]
        assert len(database.handovers(5)) == 3
        large = bytes(HANDOVERS_BYTES_MAX)
        database.perform([KeepHandovers(1, (large, raw))])
        assert database._handovers.after(0, HANDOVERS_BYTES_MAX) == (large,)
        assert database._handovers.after(1, len(raw)) == (raw,)


def test_a_handover_that_rots_is_found(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        database.perform([said(1, 0, Leave(), certificate=certificate(1, 1, 2)), Settle(1)])
        while not database.scrub(100).is_last:
            continue
        database._connection.execute("UPDATE handovers SET data = data || x'00'")
        with pytest.raises(DatabaseDamaged, match="roll of members"):
            database.scrub(100)
        assert lineage(database, 0) == (None, [])
        database._damage = None

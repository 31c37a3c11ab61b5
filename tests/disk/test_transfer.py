"""A state that is fetched from another database: proven, kept over restarts, installed at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DiskError
from aegis_edge.disk.log import Log
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import Put
from aegis_edge.knowledge.parts import ROWS, Want
from aegis_edge.knowledge.rebuild import FIRST
from aegis_edge.knowledge.state import Version
from aegis_edge.pbft.events import (
    BeginTransfer,
    InstallState,
    JudgePart,
    PartJudged,
    TakeRoot,
)
from tests.disk.stage import INTERVAL, batch, deliver, info_of, open_database, replayed, steps
from tests.knowledge.memory_state import MemoryState

LAST = 5 * INTERVAL
PEER = b"peer"


def grown(folder: Path, first: int, last: int) -> Database:
    """A database in `folder` that performed this part of the history."""
    folder.mkdir(exist_ok=True)
    database = open_database(folder)
    for sequence in range(first, last + 1):
        for transaction in steps(sequence):
            database.perform(transaction)
    return database


def piece(source: Database, kind: int, items: Sequence[bytes]) -> bytes:
    while (data := source.part(PEER, LAST, kind, items)) is None:
        continue
    return data


def judged(database: Database, kind: int, items: tuple[bytes, ...], data: bytes) -> PartJudged:
    (result,) = database.perform([JudgePart(PEER, LAST, kind, items, data)])
    assert isinstance(result, PartJudged)
    return result


def fetch(source: Database, into: Database) -> int:
    """Take over all that differs; how many rows had to be asked for."""
    into.perform([BeginTransfer(LAST, replayed(LAST).root())])
    wants: deque[Want] = deque([FIRST])
    rows = 0
    while wants:
        kind, item = wants.popleft()
        rows += kind == ROWS
        found = judged(into, kind, (item,), piece(source, kind, (item,)))
        assert found.fault is None
        wants.extend(found.wants)
    assert found.done == found.parts > 0
    return rows


def _versions(model: Machine) -> dict[int, Version]:
    assert isinstance(model._state, MemoryState)
    return model._state.versions


def test_s8_15_a_state_is_fetched_and_installed_with_all_that_belongs_to_it(
    tmp_path: Path,
) -> None:
    source = grown(tmp_path / "source", 1, LAST)
    source.perform([batch(LAST + 1)])
    source.close()
    source = open_database(tmp_path / "source")  # what is held outlives a restart
    into = grown(tmp_path / "into", 1, 10)
    assert fetch(source, into) > 0
    model = replayed(LAST)
    (result,) = into.perform([InstallState(LAST)])
    assert result == (model.root(), model.revision, model.roll, model.origins)
    for _ in range(2):
        assert into.root() == (LAST, model.revision, model.root())
        restored = into.restored(1)
        assert (restored.executed, restored.time_ms) == (LAST, 1000 * LAST)
        assert restored.origins == model.origins
        assert into.certificates(1, LAST, 1 << 20) == []
        assert info_of(into).first_certificate == LAST
        wanted = [v for _, v in sorted(_versions(model).items())]
        assert into.changes(0, 1000) == (wanted, model.revision)
        assert piece(into, 0, (b"",)), "it can give what it was given"
        into.close()
        into = open_database(tmp_path / "into")
    into.perform([batch(LAST + 1)])
    assert into.root()[2] == source.root()[2] == replayed(LAST + 1).root()
    assert into.certificates(LAST + 1, LAST + 1, 1 << 20) == [batch(LAST + 1).certificate]


def test_proofs_after_an_installation_are_of_the_state_that_was_fetched(tmp_path: Path) -> None:
    """Nothing of the state that was here before is shown, not even what was wanted of it."""
    source = grown(tmp_path / "source", 1, LAST)
    into = grown(tmp_path / "into", 1, INTERVAL + 1)
    assert into.show("own/1", INTERVAL, 0) is not None
    assert into.show("counter", INTERVAL, 0) is None, "it changed, and is wanted from now on"
    fetch(source, into)
    assert into.show("own/1", LAST, 0) is None
    into.perform([InstallState(LAST)])
    assert into.show("own/1", INTERVAL, 0) is None
    model = replayed(LAST)
    for key in ("own/1", "counter", f"own/{LAST}", "key/3", "never"):
        shown = into.show(key, LAST, into.newest(key))
        assert shown is not None
        shown.check(model.root())
        newest = [v for _, v in sorted(_versions(model).items()) if v.key == key][-1:]
        assert [shown.version] == (newest or [None])
    into.perform([batch(LAST + 1)])
    shown = into.show("counter", LAST, 0)
    assert shown is not None, "it was wanted"
    shown.check(model.root())
    assert into.show(f"key/{(LAST + 1) * 7 % 11}", LAST, 0) is None, "it changed since"


def test_an_install_happens_whole_or_not_at_all_and_what_was_proven_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = grown(tmp_path / "source", 1, LAST)
    into = grown(tmp_path / "into", 1, 10)
    before = into.root()
    asked = fetch(source, into)

    def fails(*_: object) -> None:
        raise OSError("the power fails")

    with monkeypatch.context() as patched:
        patched.setattr(Log, "jump", fails)
        with pytest.raises(DiskError, match="power"):
            into.perform([InstallState(LAST)])
    into.close()
    into = open_database(tmp_path / "into")
    assert into.root() == before == (10, replayed(10).revision, replayed(10).root())
    assert into.certificates(1, 10, 1 << 20)
    assert fetch(source, into) == 0 < asked
    into.perform([InstallState(LAST)])
    assert into.root()[2] == replayed(LAST).root()


def test_a_lie_is_judged_and_nothing_of_it_kept(tmp_path: Path) -> None:
    source = grown(tmp_path / "source", 1, LAST)
    into = grown(tmp_path / "into", 1, 10)
    head = piece(source, 0, (b"",))
    assert judged(into, 0, (b"",), head) == PartJudged(LAST, PEER, None), "of nothing that goes on"
    into.perform([BeginTransfer(LAST, bytes(32))])
    assert "not the certified one" in str(judged(into, 0, (b"",), head).fault)
    assert source.part(PEER, LAST + 1, 0, (b"",)) == b""
    assert source.part(PEER, LAST, ROWS, (b"no row",)) == b""


def test_reads_do_not_see_what_is_pruned_late(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    database.perform([deliver(1, Put("key", b"1"), Put("key", b"2"), Put("key", b"3"))])
    database.perform([TakeRoot(1)])
    database.perform([deliver(2, Put("key", b"4"))])
    assert [v.revision for v in database.changes(0).versions] == [2, 3, 4]
    (kept,) = database._connection.execute("SELECT count(*) FROM versions").fetchone()
    assert kept == 4
    database.close()
    database = open_database(tmp_path)
    assert [v.revision for v in database.changes(0).versions] == [2, 3, 4]

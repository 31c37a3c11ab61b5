"""A database in a folder of its own, and a history of batches that anybody can repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aegis_edge.disk import schema
from aegis_edge.disk.database import Database, Step
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import Delete, Operation, Put
from aegis_edge.pbft.events import Deliver, Persist, Prune, Record, TakeRoot
from tests.knowledge.founders import FOUNDERS, RULES, machine_of
from tests.knowledge.histories import bundle
from tests.knowledge.memory_state import MemoryState

KEPT = 3
INTERVAL = 8


def open_database(folder: Path, **changes: object) -> Database:
    arguments: dict[str, object] = {
        "cluster_id": b"cluster",
        "node": b"node",
        "history_versions": KEPT,
        "founders": FOUNDERS,
        "rules": RULES,
        **changes,
    }
    return Database.open(folder / "node.db", **arguments)  # type: ignore[arg-type]


def deliver(sequence: int, *operations: Operation | bytes, certificate: bytes = b"") -> Deliver:
    """The batch at `sequence`, whose only bundle is numbered alike."""
    signed = (bundle(0, sequence, *operations),)
    return Deliver(sequence, 1000 * sequence, signed, certificate or b"certificate %d" % sequence)


def body(sequence: int) -> bytes:
    """The bytes of a batch: every third one is big."""
    return b"batch %d " % sequence * (1 if sequence % 3 else 500)


def batch(sequence: int) -> Deliver:
    """The batch at `sequence` of a history that is always the same."""
    operations = [
        Put(f"key/{sequence * 7 % 11}", b"value %d" % sequence * (1 + sequence % 40)),
        Put(f"own/{sequence}", bytes(100)),
        Put("counter", b"%d" % sequence, 0, None if sequence % 2 else 0),
        Delete(f"key/{sequence * 5 % 11}"),
    ]
    return deliver(sequence, *operations, certificate=b"certificate " + body(sequence))


def steps(sequence: int) -> list[Sequence[Step]]:
    """What is performed for `sequence`, one transaction after the other."""
    first: list[Step] = [Persist(Record(4, sequence % 2, sequence, b"proposal " + body(sequence)))]
    second: list[Step] = [
        Persist(Record(5, sequence % 2, sequence, b"prepared %d" % sequence)),
        batch(sequence),
    ]
    transactions = [first, second]
    if sequence % INTERVAL == 0:
        transactions.append(
            [
                TakeRoot(sequence),
                Persist(Record(7, 0, sequence, b"checkpoint %d" % sequence)),
                Persist(Record(8, 0, 0, b"stable %d" % sequence)),
                Prune(sequence),
            ]
        )
    return transactions


def replayed(executed: int) -> Machine:
    """What the state must be after that many batches of the history."""
    machine = machine_of(MemoryState(), KEPT)
    for sequence in range(1, executed + 1):
        step = batch(sequence)
        machine.apply(sequence, step.time_ms, step.bundles)
    return machine


class Info(NamedTuple):
    """Where a database stands.  `rebuilt`: it took the place of one that was lost."""

    executed: int
    time_ms: int
    revision: int
    keys: int
    first_certificate: int
    pruned: int
    rebuilt: bool
    size_bytes: int


def info_of(database: Database) -> Info:
    """What only tests want to know, from within."""
    machine, connection = database._machine, database._connection
    (first,) = connection.execute("SELECT ifnull(min(sequence), 0) FROM certificates").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return Info(
        machine.executed,
        machine.time_ms,
        machine.revision,
        machine.live_keys,
        first,
        database._log.pruned,
        database.restored(1).rebuilt,
        pages * schema.PAGE_BYTES,
    )


def check(database: Database) -> int:
    """The database holds exactly a prefix of the history, whole; how long a one."""
    executed, revision, root = database.root()
    model = replayed(executed)
    assert (revision, root) == (model.revision, model.root())
    info = info_of(database)
    versions = database.changes(0, 1000).versions
    state = model._state
    assert isinstance(state, MemoryState)
    assert versions == [v for _, v in sorted(state.versions.items())][: len(versions)]
    first = info.first_certificate
    assert database.certificates(first, executed, 1 << 30) == [
        batch(sequence).certificate for sequence in range(max(first, 1), executed + 1)
    ]
    restored = database.restored(1)
    assert (restored.executed, restored.time_ms) == (executed, 1000 * executed)
    assert restored.origins == model.origins
    check_records({(r.kind, r.view, r.sequence): r.data for r in restored.records}, info.pruned)
    return executed


def check_records(records: dict[tuple[int, int, int], bytes], pruned: int) -> None:
    """Each record is the one that was written under its key; the worthless ones are gone."""
    for (kind, view, sequence), data in records.items():
        if kind == 8:
            assert (view, sequence, data) == (0, 0, b"stable %d" % pruned)
        elif kind == 7:
            assert (view, sequence, data) == (0, pruned, b"checkpoint %d" % pruned)
        else:
            assert sequence > pruned
            assert view == sequence % 2
            wanted = b"proposal " + body(sequence) if kind == 4 else b"prepared %d" % sequence
            assert data == wanted

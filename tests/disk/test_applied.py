"""The state in SQLite against its twin in a dict: the same answers, the same roots, always."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aegis_edge.disk.database import Database
from aegis_edge.knowledge.operations import Operation, Put
from aegis_edge.pbft.events import Deliver, TakeRoot
from tests.disk.stage import deliver, info_of, open_database
from tests.knowledge.founders import machine_of
from tests.knowledge.histories import BATCHES, Numbers
from tests.knowledge.memory_state import MemoryState

#: How many puts a batch has: around the number of rows that one statement inserts, and well above.
SIZES = (1, 31, 32, 33, 64, 100)

Batch = list[tuple[int, list[Operation | bytes]]]


class Twins(RuleBasedStateMachine):
    """Batches go to both, in transactions of several; the SQLite side is opened again at will."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    @initialize(kept=st.integers(1, 4))
    def begin(self, kept: int) -> None:
        self.kept = kept
        self.numbers = Numbers()
        self.twin = MemoryState()
        self.machine = machine_of(self.twin, kept)
        self.open()

    def open(self) -> None:
        self.database = open_database(self.folder, history_versions=self.kept)
        self.database._connection.execute("PRAGMA synchronous = OFF")

    @rule(batches=BATCHES)
    def perform(self, batches: list[Batch]) -> None:
        steps, outcomes = [], []
        for batch in batches:
            sequence = self.machine.executed + 1
            bundles = self.numbers.bundles(batch)
            outcomes.append(self.machine.apply(sequence, sequence, bundles))
            steps.append(Deliver(sequence, sequence, bundles, b"certificate"))
        assert self.database.perform(steps) == outcomes

    @rule()
    def take_root(self) -> None:
        assert self.database.perform([TakeRoot(self.machine.executed)]) == [self.machine.root()]

    @rule()
    def open_again(self) -> None:
        self.database.close()
        self.open()

    @invariant()
    def same_contents(self) -> None:
        if not hasattr(self, "database"):
            return
        versions = [self.twin.versions[revision] for revision in sorted(self.twin.versions)]
        assert self.database.changes(0, 1000).versions == versions
        assert info_of(self.database).keys == self.machine.live_keys

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.take_root()
            assert sorted(self.database._state.rows()) == sorted(self.twin.rows())
            self.open_again()
            self.take_root()
            self.database.close()
        shutil.rmtree(self.folder)


TestTwins = Twins.TestCase
TestTwins.settings = settings(stateful_step_count=10)


def test_a_batch_of_any_size_is_all_there(tmp_path: Path) -> None:
    twin = MemoryState()
    machine = machine_of(twin, 2)
    database = open_database(tmp_path, history_versions=2)
    for sequence, size in enumerate(SIZES, 1):
        puts = [Put(f"{number % 80}", bytes([number]) * number) for number in range(size)]
        step = deliver(sequence, *puts, *puts[::3])
        machine.apply(sequence, step.time_ms, step.bundles)
        database.perform([step])
    for again in (False, True):
        if again:
            database.close()
            database = open_database(tmp_path, history_versions=2)
        found = database.changes(0, 1000).versions
        assert found == [twin.versions[revision] for revision in sorted(twin.versions)]
        assert sorted(database._state.rows()) == sorted(twin.rows())
        assert database.perform([TakeRoot(len(SIZES))]) == [machine.root()]
    database.close()

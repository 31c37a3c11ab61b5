"""Steps to durable facts: all or nothing, and nothing lost that was acknowledged."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from aegis_edge.disk import schema
from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseDamaged, DiskError, DiskFailing, DiskFull
from aegis_edge.knowledge.operations import Barrier, Put, Status
from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Deliver, Persist, Prune, Record, Restored, TakeRoot
from tests.disk import stage
from tests.disk.stage import check, deliver, info_of, open_database, steps
from tests.knowledge.histories import bundle

ROOT = Path(__file__).resolve().parent.parent.parent


def run(database: Database, first: int, last: int) -> None:
    for sequence in range(first, last + 1):
        for transaction in steps(sequence):
            database.perform(transaction)


def test_a_new_node_starts_from_nothing(tmp_path: Path) -> None:
    schema.mark_new(tmp_path, b"node")
    database = open_database(tmp_path)
    incarnation = database.next_incarnation(1000)
    assert database.restored(incarnation) == Restored(incarnation=1000)
    info = info_of(database)
    assert info[:6] == (0, 0, 0, 0, 0, 0)
    assert not info.rebuilt
    database.close()


def test_there_is_one_result_per_step(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    results = database.perform(
        [
            Persist(Record(4, 0, 1, b"proposal")),
            deliver(1, Put("a", b"1"), b"garbage"),
            TakeRoot(1),
            Prune(1),
            deliver(2, Put("a", b"2", 0, 7), Barrier()),
        ]
    )
    assert results[0] is None
    assert results[1] == [((Status.DONE, 1, 1000), (Status.INVALID, 0, 1000))]
    assert isinstance(results[2], bytes)
    assert results[3] is None
    assert results[4] == [((Status.CONFLICT, 1, 2000), (Status.DONE, 1, 2000))]
    assert database.root() == (2, 1, database.perform([TakeRoot(2)])[0])
    database.close()


def test_what_a_checkpoint_signs_is_shown_until_a_later_one_is_agreed_on(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        assert database.newest("a") == 0
        _, root = database.perform([deliver(1, Put("a", b"1")), TakeRoot(1)])
        assert isinstance(root, bytes)
        database.perform([deliver(2, Put("b", b"2")), TakeRoot(2, is_signed=False)])
        assert database.newest("b") == 2
        shown = database.show("a", 1, 1)
        assert shown is not None
        shown.check(root)
        assert shown.version == database.get("a")
        assert database.show("b", 2, 0) is None, "nobody signs a root that is only looked at"
        database.perform([deliver(3, Put("a", b"3")), TakeRoot(3), Prune(3)])
        assert database.show("never", 1, 0) is None, "a later one is agreed on"
        assert database.show("never", 3, 0) is not None
        shown = database.show("b", 3, 2)
        assert shown is not None
        assert shown.version == database.get("b")
    with closing(open_database(tmp_path)) as database:
        assert database.show("b", 3, 2) is None, "after a restart it takes the next one"


def test_all_is_there_after_a_restart(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    for first in (1, 10, 20, 40):
        run(database, first, {1: 9, 10: 19, 20: 39, 40: 47}[first])
        before = (database.root(), info_of(database), database.restored(1))
        assert check(database) == before[1].executed
        database.close()
        database = open_database(tmp_path)
        assert (database.root(), database.restored(1)) == (before[0], before[2])
        assert info_of(database)[:7] == before[1][:7]
        check(database)
    database.close()


def test_a_state_that_differs_from_the_agreed_one_is_set_aside(tmp_path: Path) -> None:
    """The next start begins anew, knows that it does, and fetches everything from the others."""
    schema.mark_new(tmp_path, b"node")
    database = open_database(tmp_path)
    run(database, 1, 10)
    assert not database.restored(1).rebuilt
    database.perform([Persist(journal.diverged(()))])
    database.close()
    with pytest.raises(DatabaseDamaged, match=r"members agreed on\); it is now"):
        open_database(tmp_path)
    assert (tmp_path / "node.db.damaged-1").exists()
    database = open_database(tmp_path)
    restored = database.restored(1)
    assert (restored.executed, restored.records, restored.rebuilt) == (0, (), True)
    database.close()


def copied(folder: Path, to: Path) -> closing[Database]:
    """What the disk would hold if the power failed now."""
    to.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            shutil.copy(file, to)
    return closing(open_database(to))


def test_batches_may_wait_for_the_next_write_that_may_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = open_database(home)
    database.perform([Persist(Record(4, 0, 1, b"proposal"))])
    database.perform([deliver(1, Put("a", b"1"))])
    version = database.get("a")
    assert version is not None, "it is read at once"
    assert version.revision == 1
    with copied(home, tmp_path / "before") as lost:
        assert info_of(lost).executed == 0
        assert [r.data for r in lost.restored(1).records] == [b"proposal"]
    database.perform([Persist(Record(4, 0, 2, b"next"))])
    with copied(home, tmp_path / "after") as kept:
        assert info_of(kept).executed == 1
    database.perform([deliver(2, Put("a", b"2"))])
    database.perform([TakeRoot(2)])
    with copied(home, tmp_path / "root") as kept:
        assert info_of(kept).executed == 2
    database.perform([deliver(3, Put("a", b"3"))])
    database.close()
    with copied(home, tmp_path / "closed") as kept:
        assert info_of(kept).executed == 3


def test_every_incarnation_is_higher_than_all_before(tmp_path: Path) -> None:
    used = []
    for now_s in (50, 10, 10, 60):
        database = open_database(tmp_path)
        used.append(database.next_incarnation(now_s))
        database.close()
    assert used == [50, 51, 52, 60], "a clock that went back does no harm"


def test_an_incarnation_follows_what_was_agreed_on_and_no_clock(tmp_path: Path) -> None:
    other, own = bundle(0, 1, Put("a", b"1")), bundle(1, 1, Put("b", b"2"), incarnation=70)
    database = open_database(tmp_path, node=own.signer)
    database.perform([Deliver(1, 1000, (other,), b"certificate")])
    assert database.next_incarnation(1000) == 1
    database.perform([Deliver(2, 2000, (own,), b"certificate")])
    assert database.next_incarnation(1000) == 71
    assert database.next_incarnation(1000) == 72
    database.close()


def test_a_transaction_that_fails_leaves_nothing_and_is_the_last(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    run(database, 1, 9)
    pages = info_of(database).size_bytes // schema.PAGE_BYTES
    database._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    big = deliver(10, Put("big", bytes(200_000)))
    with pytest.raises(DiskFull, match="make room"):
        database.perform([Persist(Record(4, 0, 10, b"proposal")), big])
    assert database.get("big") is None
    assert database.get("own/9") is not None
    with pytest.raises(DiskFailing, match="start the node again"):
        database.perform([TakeRoot(9, is_signed=False)])
    database.close()
    database = open_database(tmp_path)
    assert check(database) == 9
    database.close()


def test_a_bug_in_the_middle_of_a_transaction_leaves_nothing_either(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    with pytest.raises(AssertionError):
        database.perform([stage.batch(1), stage.batch(3)])
    with pytest.raises(DiskFailing):
        database.perform([stage.batch(1)])
    database.close()
    database = open_database(tmp_path)
    assert check(database) == 0
    with pytest.raises(AssertionError):
        database.perform([TakeRoot(1)])
    database.close()


def test_the_newest_record_of_each_node_is_kept(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    assert database.node_records() == []
    for node, record in ((b"b", b"1"), (b"a", b"2"), (b"b", b"3")):
        database.keep_node_record(node, record)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("node.db", "node.db-wal"):
        (crashed / name).write_bytes((tmp_path / name).read_bytes())
    survivor = open_database(crashed)
    assert survivor.node_records() == database.node_records() == [b"2", b"3"]
    survivor.close()
    database.close()


def test_a_node_record_that_cannot_be_written_is_the_last_write(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    database.perform([stage.batch(1)])  # may wait, and goes down with the record
    pages = info_of(database).size_bytes // schema.PAGE_BYTES
    database._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(DiskFull, match="make room"):
        database.keep_node_record(b"node", bytes(200_000))
    for write in (
        lambda: database.perform([stage.batch(2)]),
        lambda: database.keep_node_record(b"", b""),
    ):
        with pytest.raises(DiskFailing, match="an earlier write failed"):
            write()
    database.close()
    database = open_database(tmp_path)
    assert check(database) == 0
    assert database.node_records() == []
    database.close()


def test_two_threads_at_once_are_our_bug(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    with database._exclusively():
        caught: list[BaseException] = []

        def intrude() -> None:
            try:
                database.root()
            except AssertionError as error:
                caught.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
    assert len(caught) == 1
    database.close()


def test_one_thread_after_another_is_fine(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    thread = threading.Thread(target=run, args=(database, 1, 3))
    thread.start()
    thread.join()
    assert check(database) == 3
    database.close()


def written() -> tuple[int, int]:
    """Bytes that this process wrote: handed to the system, and bound for a device."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"]), int(fields["write_bytes"])


def test_reading_writes_nothing(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    run(database, 1, 9)
    before = written()
    for _ in range(20):
        database.root()
        database.ls()
        database.get("counter")
        database.history("counter")
        database.changes(0)
        database.certificates(1, 9, 1 << 20)
        database.restored(1)
        database.perform([TakeRoot(9, is_signed=False)])
        database.perform([])
    assert written() == before
    database.close()


def test_a_lone_write_and_a_batch_cost_the_card_little(tmp_path: Path) -> None:
    """The budget, in bytes written to the WAL and to the file; 4 nodes, values of 100 bytes."""
    database = open_database(tmp_path)
    database._connection.execute("PRAGMA synchronous = OFF")

    def spend(first: int, last: int, operations: int) -> float:
        before = written()[0]
        for sequence in range(first, last + 1):
            puts = [Put(f"item/{sequence:08}/{i}", os.urandom(100)) for i in range(operations)]
            raw = os.urandom(330 + 132 * (operations - 1))
            done = deliver(sequence, *puts, certificate=os.urandom(740) + raw)
            database.perform([Persist(Record(4, 0, sequence, os.urandom(240) + raw))])
            database.perform([Persist(Record(5, 0, sequence, os.urandom(620)))])
            database.perform([done])
            if sequence % 64 == 0:
                database.perform([TakeRoot(sequence), Prune(sequence)])
        return (written()[0] - before) / ((last - first + 1) * operations)

    spend(1, 128, 1)
    assert spend(129, 1024, 1) < 14_000
    spend(1025, 1100, 64)
    assert spend(1101, 1356, 64) < 1_300
    database.close()


MEMORY = """
import sys
from pathlib import Path
from tests.disk.stage import deliver, info_of, open_database
from aegis_edge.knowledge.operations import Put
from aegis_edge.pbft.events import Prune, TakeRoot
def rss_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
database = open_database(Path(sys.argv[1]))
before = rss_bytes()
for sequence in range(1, 201):
    puts = [Put(f"bench/item/{sequence:06}/{i:03}", bytes(100)) for i in range(500)]
    database.perform([deliver(sequence, *puts, certificate=bytes(65_000))])
    if sequence % 64 == 0:
        database.perform([TakeRoot(sequence), Prune(sequence)])
assert info_of(database).keys == 100_000
print((rss_bytes() - before) / 1e6)
"""


def child(script: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_hundred_thousand_keys_stay_on_the_disk(tmp_path: Path) -> None:
    with child(MEMORY, str(tmp_path)) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    assert float(output) < 15


PERFORM = """
import sys
from pathlib import Path
from tests.disk.stage import check, open_database, steps
database = open_database(Path(sys.argv[1]))
executed = check(database)
print(executed, flush=True)
while executed < int(sys.argv[2]):
    executed += 1
    for transaction in steps(executed):
        database.perform(transaction)
    print(executed, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    acknowledged = 0
    for _ in range(8):
        process = child(PERFORM, str(tmp_path), "1000000")
        assert process.stdout is not None
        for _ in range(chance.randrange(2, 60)):
            acknowledged = int(process.stdout.readline())
        # Between two lines the child is anywhere: in a transaction, in a checkpoint of the WAL.
        os.sched_yield()
        process.kill()
        process.wait()
        rest = process.stdout.read().split("\n")
        process.stdout.close()
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
        database = open_database(tmp_path)
        executed = check(database)
        assert acknowledged <= executed <= acknowledged + 1
        database.close()


def test_a_torn_tail_of_the_wal_is_cut_to_whole_transactions(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = open_database(home)
    run(database, 1, 20)
    wal = (home / "node.db-wal").read_bytes()
    lengths = [0, 100, 1100, 5000, *random.Random(7).sample(range(len(wal)), 12)]
    seen = set()
    for number, length in enumerate(sorted([*lengths, len(wal)])):
        torn = tmp_path / f"torn-{number}"
        torn.mkdir()
        shutil.copy(home / "node.db", torn / "node.db")
        (torn / "node.db-wal").write_bytes(wal[:length] + b"\xff" * (-length % 512))
        other = open_database(torn)
        seen.add(check(other))
        other.close()
    assert max(seen) == 20
    assert len(seen) > 4
    database.close()


LIMITED = """
import resource, sys
from pathlib import Path
from aegis_edge.disk.errors import DiskError
from tests.disk.stage import open_database, steps
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
database = open_database(Path(sys.argv[1]))
executed = 0
try:
    while True:
        for transaction in steps(executed + 1):
            database.perform(transaction)
        executed += 1
except DiskError as error:
    print(executed, type(error).__name__, error.advice)
"""


def test_a_file_that_may_not_grow_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    with child(LIMITED, str(tmp_path)) as process:
        output, _ = process.communicate()
    executed, kind, advice = output.split(" ", 2)
    assert kind in ("DiskFailing", "DiskFull")
    assert "start the node again" in advice
    database = open_database(tmp_path)
    assert check(database) >= int(executed) > 10
    database.close()


def mounted(folder: Path, options: str) -> bool:
    """Mount a small tmpfs, if this user may."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return os.geteuid() == 0 and not subprocess.run(command, capture_output=True).returncode


def test_a_full_file_system_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    if not mounted(tmp_path, "size=600k"):
        pytest.skip("mounting a small file system takes root")
    try:
        database = open_database(tmp_path)
        executed = 0
        with pytest.raises(DiskFull, match="make room"):
            run(database, 1, 10_000)
        executed = info_of(database).executed - 1
        assert executed > 10
        assert database.get("counter") is not None
        database._connection.close()
        database._lock.release()
        subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path)], check=True)
        database = open_database(tmp_path)
        assert check(database) >= executed
        database.close()
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_read_only_file_system_is_a_clear_error(tmp_path: Path) -> None:
    if not mounted(tmp_path, "size=4m"):
        pytest.skip("mounting a file system takes root")
    try:
        database = open_database(tmp_path)
        run(database, 1, 3)
        database.close()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(DiskError, match="writ"):
            open_database(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)

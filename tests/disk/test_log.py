"""Records and certificates: what is kept, what goes, and that a batch is on disk once."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.disk.database import Database
from aegis_edge.disk.log import _common_tail_bytes
from aegis_edge.knowledge.operations import Barrier
from aegis_edge.pbft.events import Persist, Prune, Record
from tests.disk.stage import deliver, info_of, open_database

BODY = b"the bytes of a batch " * 200


def perform(database: Database, *steps: Record | Persist | Prune) -> None:
    database.perform([Persist(step) if isinstance(step, Record) else step for step in steps])


def kept(database: Database) -> list[tuple[int, int, int, bytes]]:
    return [(r.kind, r.view, r.sequence, r.data) for r in database.restored(1).records]


def rows(database: Database) -> int:
    (count,) = database._connection.execute("SELECT count(*) FROM records").fetchone()
    return int(count)


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=30))
def test_the_common_tail_is_found(one: bytes, other: bytes, tail: bytes) -> None:
    shared = _common_tail_bytes(one + tail, other + tail)
    assert shared >= len(tail)
    a, b = one + tail, other + tail
    assert a[len(a) - shared :] == b[len(b) - shared :]
    assert shared in (len(a), len(b)) or a[-shared - 1] != b[-shared - 1]


def test_a_record_replaces_the_one_with_the_same_key_and_no_other(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    perform(database, Record(4, 0, 1, b"old"), Record(4, 1, 1, b"other view"))
    perform(database, Record(4, 0, 2, b"other sequence"), Record(5, 0, 1, b"other kind"))
    perform(database, Record(4, 0, 1, b"a new one, longer"), Record(1, 0, 0, b"view 0"))
    perform(database, Record(1, 0, 0, b"view 1"))
    wanted = [
        (1, 0, 0, b"view 1"),
        (4, 0, 1, b"a new one, longer"),
        (4, 1, 1, b"other view"),
        (5, 0, 1, b"other kind"),
        (4, 0, 2, b"other sequence"),
    ]
    assert kept(database) == wanted
    database.close()
    database = open_database(tmp_path)
    assert kept(database) == wanted
    database.close()


def test_a_stable_checkpoint_frees_what_it_makes_worthless(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    for sequence in (1, 2, 3):
        for kind in (4, 5, 7):
            perform(database, Record(kind, 0, sequence, b"%d at %d" % (kind, sequence)))
    for kind in (1, 2, 3, 8):
        perform(database, Record(kind, 0, 0, b"%d" % kind))
    database.perform([deliver(1, Barrier()), deliver(2, Barrier()), Prune(2)])
    wanted = [
        *[(kind, 0, 0, b"%d" % kind) for kind in (1, 2, 3, 8)],
        (7, 0, 2, b"7 at 2"),
        *[(kind, 0, 3, b"%d at 3" % kind) for kind in (4, 5, 7)],
    ]
    assert kept(database) == wanted
    before = rows(database)
    # Late or old ones are not taken; new ones are written over the worthless.
    perform(database, Prune(1), Record(4, 9, 2, b"late"), Record(7, 0, 1, b"late"))
    perform(database, Record(4, 0, 4, b"new"), Record(5, 0, 4, b"new"), Record(7, 0, 4, b"new"))
    wanted += [(4, 0, 4, b"new"), (5, 0, 4, b"new"), (7, 0, 4, b"new")]
    assert kept(database) == wanted
    assert rows(database) == before
    database.close()
    database = open_database(tmp_path)
    assert kept(database) == wanted
    perform(database, Record(4, 0, 5, b"newer"))
    assert rows(database) == before
    database.close()


def test_a_big_batch_is_on_disk_once_and_comes_back_whole(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    for sequence in (1, 2, 3):
        perform(database, Record(4, 0, sequence, b"first proposal" + BODY + b"?"))
        perform(database, Record(4, 1, sequence, b"proposal" + BODY))
        database.perform([deliver(sequence, Barrier(), certificate=b"proof" + BODY)])
    (heads,) = database._connection.execute("SELECT sum(length(data)) FROM certificates").fetchone()
    assert heads == 3 * len(b"proof")
    wanted = [b"proof" + BODY] * 3
    assert database.certificates(1, 9, 1 << 20) == wanted
    perform(database, Prune(2))
    assert [r[:3] for r in kept(database)] == [(4, 0, 3), (4, 1, 3)]
    assert rows(database) == 4  # the big ones without a certificate are gone
    assert database.certificates(1, 9, 1 << 20) == wanted
    database.close()
    database = open_database(tmp_path)
    assert [r[:3] for r in kept(database)] == [(4, 0, 3), (4, 1, 3)]
    assert database.certificates(1, 9, 1 << 20) == wanted
    database.close()


def test_a_proposal_that_a_certificate_needs_survives_its_successor(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    perform(database, Record(4, 0, 1, b"proposal" + BODY))
    database.perform([deliver(1, Barrier(), certificate=b"proof" + BODY)])
    perform(database, Record(4, 0, 1, b"another" + bytes(5000)))
    for _ in range(2):
        assert kept(database) == [(4, 0, 1, b"another" + bytes(5000))]
        assert database.certificates(1, 1, 0) == [b"proof" + BODY]
        database.close()
        database = open_database(tmp_path)
    perform(database, Prune(1))
    assert kept(database) == []
    assert database.certificates(1, 1, 0) == [b"proof" + BODY]
    database.close()


def test_a_proposal_of_another_batch_is_no_tail(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    perform(database, Record(4, 0, 1, b"proposal" + bytes(5000)))
    database.perform([deliver(1, Barrier(), certificate=b"proof" + BODY)])
    assert database.certificates(1, 1, 0) == [b"proof" + BODY]
    perform(database, Prune(1))
    assert rows(database) == 0
    database.close()


def test_certificates_come_in_bounded_portions(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    for sequence in range(1, 6):
        database.perform([deliver(sequence, Barrier(), certificate=b"%d" % sequence * 100)])
    assert [c[:1] for c in database.certificates(2, 4, 1000)] == [b"2", b"3", b"4"]
    assert [c[:1] for c in database.certificates(2, 9, 250)] == [b"2", b"3"]
    assert [c[:1] for c in database.certificates(4, 9, 1)] == [b"4"]
    assert database.certificates(6, 9, 1000) == []
    assert database.certificates(4, 3, 1000) == []
    database.close()


def test_only_the_newest_certificate_carries_the_origins(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    database.perform([deliver(1, Barrier()), deliver(2, Barrier())])
    found = database._connection.execute("SELECT sequence, origins NOT NULL FROM certificates")
    assert found.fetchall() == [(1, 0), (2, 1)]
    database.close()


def test_old_batches_go_when_the_log_is_full_but_none_that_is_needed(tmp_path: Path) -> None:
    database = open_database(tmp_path, certificate_bytes_max=20_000)
    executed = 0
    for stable in (4, 8, 12, 12):
        for _ in range(4):
            executed += 1
            perform(database, Record(4, 0, executed, b"proposal" + BODY))
            step = deliver(executed, Barrier(), certificate=b"proof %d" % executed + BODY)
            database.perform([step])
        perform(database, Prune(stable))
    # 4.2 kB each: after the checkpoint at 12 four were kept, 13 to 16 came on top.
    assert info_of(database).first_certificate == 9
    proofs = database.certificates(9, 16, 1 << 20)
    assert [p[:8].strip(b" t") for p in proofs] == [b"proof %d" % s for s in range(9, 17)]
    assert rows(database) == 8
    database.close()
    database = open_database(tmp_path, certificate_bytes_max=1)
    root = database.root()
    perform(database, Prune(16))
    # The last one says how far execution came: it stays whatever its size.
    assert info_of(database).first_certificate == 16
    assert rows(database) == 1
    database.close()
    database = open_database(tmp_path, certificate_bytes_max=1)
    assert database.root() == root
    assert database.restored(1).executed == 16
    database.close()

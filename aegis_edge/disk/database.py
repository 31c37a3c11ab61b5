"""The one database of a node: records, certificates and applied state in one transaction.

Knows how a list of steps becomes durable, all of it or nothing, and which list may wait for the
next one's sync.  Refuses to know why anything is written: it performs `pbft.events`, in order.
Follows: s8_15 (tests/pbft/test_checklist.py): applied and remembered as applied move together.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aegis_edge.disk import reads, schema
from aegis_edge.disk.applied import AppliedState
from aegis_edge.disk.errors import (
    DatabaseDamaged,
    DatabaseLost,
    DatabaseNewer,
    DiskFailing,
    disk_errors,
    is_rot,
)
from aegis_edge.disk.handovers import Handovers
from aegis_edge.disk.log import Log
from aegis_edge.disk.scrub import Scrub, Slice
from aegis_edge.knowledge.agreed import UnknownParameter
from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.moments import Moments
from aegis_edge.knowledge.operations import Outcome
from aegis_edge.knowledge.parts import read_row_item, read_rows
from aegis_edge.knowledge.roll import Roll, Rules
from aegis_edge.knowledge.state import Progress, Rotten, Version
from aegis_edge.pbft.configuration import digest_of
from aegis_edge.pbft.events import (
    BeginTransfer,
    Deliver,
    Foresee,
    Foreseen,
    InstallState,
    JudgePart,
    KeepHandovers,
    MendRows,
    PartJudged,
    Persist,
    Prune,
    Restored,
    RowsMended,
    Settle,
    Step,
    TakeRoot,
)
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import claimed
from aegis_edge.wire.messages import HANDOVERS, pack_handover, pack_lineage

CERTIFICATE_BYTES_MAX = 64 * 1024 * 1024
#: What one answer brings of how the members came about.
HANDOVERS_BYTES_MAX = 64 * 1024

#: Of a `Deliver`: the outcomes of each bundle.  Of a `TakeRoot`: the root; of a `Settle`: the
#: root, the newest revision, and the roll of members.  Of a `JudgePart`, `MendRows` or `Foresee`:
#: what came of it.  Of an `InstallState`: the root, the revision, the roll and the origins of the
#: new state.  Else None.
Result = (
    list[tuple[Outcome, ...]]
    | bytes
    | tuple[bytes, int, Roll]
    | PartJudged
    | RowsMended
    | Foreseen
    | tuple[bytes, int, Roll, dict[bytes, tuple[int, int]]]
    | None
)


class Database:
    """Owns the file.  One thread at a time may call; every method may raise `DiskError`."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        lock: schema.Lock,
        machine: Machine,
        state: AppliedState,
        log: Log,
    ) -> None:
        # A text that rots from now on is another text, which is noticed where it matters.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        self.path = path
        self._connection = connection
        self._lock = lock
        self._machine = machine
        self._state = state
        self._log = log
        self._handovers = Handovers(connection)
        self._moments = Moments(self._row, partial(reads.version_at, connection))
        self._scrub = Scrub(path, connection, machine, state, log, self._handovers)
        self._rotten: set[bytes] = set()
        self._damage: DatabaseDamaged | None = None
        self._one_thread = threading.Lock()
        self._failed: BaseException | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        cluster_id: bytes,
        node: bytes,
        history_versions: int,
        founders: Roll,
        rules: Rules,
        certificate_bytes_max: int = CERTIFICATE_BYTES_MAX,
    ) -> Database:
        """The database at `path`, made if it is missing, for this `node` (its public key).

        `founders` and `rules`: see `knowledge.machine`.
        Raises `DatabaseLocked`, `DatabaseNewer`, `DatabaseForeign`, `DatabaseDamaged` (after
        setting the file aside) or another `DiskError`.  Reads the file once, to check it.
        """
        lock = schema.Lock(path)
        try:
            connection = schema.connect(path, cluster_id, node, history_versions)
            try:
                with disk_errors(path):
                    log = Log(connection, certificate_bytes_max)
                    if log.has_diverged():
                        raise DatabaseDamaged(
                            "what it holds differs from what the members agreed on", ""
                        )
                    executed, time_ms, origins = log.executed()
                    (revision,) = connection.execute(
                        "SELECT ifnull(max(revision), 0) FROM versions"
                    ).fetchone()
                    found = connection.execute("SELECT roll FROM roll").fetchone()
                    roll = bytes(found[0]) if found else b""
                    progress = Progress(executed, time_ms, revision, origins, roll)
                    state = AppliedState(connection, progress)
                    machine = _machine(state, history_versions, founders, rules)
            except DatabaseDamaged as error:
                connection.close()
                raise schema.damaged(path, error.message) from error
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        return cls(path, connection, lock, machine, state, log)

    def close(self) -> None:
        """Fold the WAL into the file and let go of it.

        Raises `DatabaseLost`, after setting the file aside, if it was found to be damaged.
        """
        damage = self._damage
        with self._exclusively():
            try:
                if self._connection.in_transaction and damage is None:
                    self._connection.execute("COMMIT")
            finally:
                self._connection.close()
                self._scrub.close()
                try:
                    if damage is not None:
                        said = schema.damaged(self.path, damage.message)
                        raise DatabaseLost(said.message, said.advice) from damage
                finally:
                    self._lock.release()

    # --- what a replica needs ---------------------------------------------------------------

    def next_incarnation(self, now_s: int) -> int:
        """An incarnation of this node higher than any before, durable.

        Higher too than what it used in a file that was lost: than in anything of its own that the
        members agreed on, as far as this file knows; and where nothing was agreed on yet, it is at
        least `now_s`, the Unix time in seconds.
        """
        with self._exclusively(), self._transaction():
            query = "SELECT incarnation, node FROM meta"
            last, node = self._connection.execute(query).fetchone()
            agreed, _ = self._machine.origins.get(bytes(node), (0, 0))
            incarnation = max(last, agreed) + 1
            if not self._machine.executed:
                incarnation = max(incarnation, now_s)
            self._connection.execute("UPDATE meta SET incarnation = ?", (incarnation,))
        return int(incarnation)

    def forget_that_it_was_lost(self) -> None:
        """The owner says that this file took the place of none that mattered to anybody else."""
        with self._exclusively(), self._transaction():
            self._connection.execute("UPDATE meta SET rebuilt = 0")

    def restored(self, incarnation: int) -> Restored:
        """What a replica starts from, under an incarnation from `next_incarnation`."""
        with self._exclusively():
            machine = self._machine
            return Restored(
                incarnation,
                machine.executed,
                machine.time_ms,
                dict(machine.origins),
                self._log.records(),
                self._rebuilt(),
            )

    def perform(self, steps: Sequence[Step]) -> list[Result]:
        """Do all of `steps`, in order, in one transaction; one result per step.

        Durable when it returns, unless it only delivers: a quorum has on its disks what proves
        those batches, so they may become durable with the next call that does anything else.
        When it raises, nothing since the last durable call happened, and nothing more will until
        the database is opened again; reads still work.
        """
        lazy = all(isinstance(step, Deliver) for step in steps)
        with self._exclusively(), self._writing(commit=not lazy):
            return [self._perform(step) for step in steps]

    def _perform(self, step: Step) -> Result:
        match step:
            case Persist(record):
                self._log.persist(record)
                return None
            case Deliver(sequence, time_ms, bundles, certificate):
                number = self._machine.roll.number
                try:
                    outcomes = self._machine.apply(sequence, time_ms, bundles)
                except Rotten as error:
                    raise DatabaseDamaged(f"what batch {sequence} is to change rots", "") from error
                self._state.flush()
                self._log.certify(sequence, certificate, time_ms, self._machine.origins)
                if self._machine.roll.number != number:
                    self._hand_over(certificate)
                    self._log.forget()
                return outcomes
            case Foresee(sequence, time_ms, bundles, digest):
                after = self._machine.foresee(sequence, time_ms, bundles)
                is_other = after.number != self._machine.roll.number
                return Foreseen(sequence, digest, _digest_of(after) if is_other else b"")
            case KeepHandovers(first, raws):
                self._handovers.keep(first, raws)
                return None
            case TakeRoot(sequence, is_signed):
                assert sequence == self._machine.executed, "a root is taken right after its batch"
                if is_signed:
                    self._checkpoint(sequence)
                return self._machine.root()
            case Settle(sequence, is_signed):
                assert sequence == self._machine.executed, "settled right after its batch"
                if is_signed:
                    self._checkpoint(sequence)
                return self._machine.root(), self._machine.revision, self._machine.roll
            case Prune(sequence):
                self._log.prune(sequence, self._machine.executed)
                self._machine.release(sequence, self._log.oldest() - 1)
                self._state.flush()
                self._moments.forget_before(sequence)
                return None
            case BeginTransfer(sequence, root):
                self._machine.begin(sequence, root)
                return None
            case JudgePart():
                return self._judge(step)
            case InstallState():
                machine = self._machine
                number = machine.roll.number
                machine.install()
                self._state.flush()
                if machine.roll.number != number:
                    self._log.forget()
                self._log.jump(machine.executed, machine.time_ms, machine.origins)
                self._moments.forget_before(machine.executed)
                self._moments.took(machine.executed, machine.moment())
                return machine.root(), machine.revision, machine.roll, dict(machine.origins)
            case MendRows():
                return self._mend(step)

    def _hand_over(self, certificate: bytes) -> None:
        """Keep what proves the members after the batch just executed, all of whose commits say so.

        They are others than a quorum foresaw only where this state is another one than theirs.
        """
        roll = self._machine.roll
        _, commits, _ = codec.decode(certificate)
        for commit in commits:
            claim = claimed(commit)
            if claim is None or claim.fields[5:] != (_digest_of(roll),):
                raise DatabaseDamaged("what it holds differs from what the members agreed on", "")
        self._handovers.keep(roll.number, [pack_handover(roll.members, commits, roll.terms)])

    def _checkpoint(self, sequence: int) -> None:
        self._machine.hold()
        self._moments.took(sequence, self._machine.moment())

    def _mend(self, step: MendRows) -> RowsMended:
        """Put rows right; of another checkpoint than the last, or forged, they are of no use."""
        items = {read_row_item(item)[0]: item for item in step.items}
        done = items.keys() - self._rotten  # whoever read it told of it when it was mended already
        try:
            rows = [r for r in read_rows(step.data) if label(r.key.encode()) not in done]
            left = self._machine.mend([each for each in items if each not in done], rows)
        except WireError as error:
            return RowsMended(step.peer, str(error), step.items)
        mended = self._rotten.intersection(items).difference(left)
        self._rotten -= mended
        return RowsMended(step.peer, None, tuple(items[each] for each in left), len(mended))

    def _judge(self, part: JudgePart) -> PartJudged:
        rebuild = self._machine.rebuild
        if rebuild is None or rebuild.sequence != part.sequence:
            return PartJudged(part.sequence, part.peer, None)  # of a transfer that was given up
        try:
            wants = self._machine.take(part.kind, part.items, part.data)
        except WireError as error:
            return PartJudged(part.sequence, part.peer, str(error))
        progress = rebuild.progress
        assert progress is not None, "the head comes first"
        return PartJudged(
            part.sequence,
            part.peer,
            None,
            tuple(wants),
            rebuild.done,
            rebuild.parts,
            progress.time_ms,
            dict(progress.origins),
            rebuild.listing_bytes,
        )

    def part(self, peer: bytes, sequence: int, kind: int, items: Sequence[bytes]) -> bytes | None:
        """Pieces of the state after `sequence` for `peer`; b"": not held here; None: ask again."""
        with self._exclusively():
            if kind == HANDOVERS:
                number = int.from_bytes(b"".join(items[:1]), "big")
                raws = self._handovers.after(number, HANDOVERS_BYTES_MAX)
                return pack_lineage(self._log.proven(), raws)
            try:
                return self._machine.answer(peer, sequence, kind, items)
            except WireError:
                return b""

    def size_bytes(self) -> int:
        """What the file measures, more or less: no state that is given to others is larger."""
        with self._exclusively():
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return int(pages) * schema.PAGE_BYTES

    def certificates(self, first: int, last: int, max_bytes: int) -> list[bytes]:
        """The certificates from `first` on: to `last`, the first missing one, or `max_bytes`.

        At least one, however big, if there is one.
        """
        with self._exclusively():
            return self._log.certificates(first, last, max_bytes)

    # --- what the links need ----------------------------------------------------------------

    def keep_node_record(self, node: bytes, record: bytes) -> None:
        """Put the `record` of the member `node` in the place of its last one, durably.

        When it raises, the same holds as for `perform`.
        """
        with self._exclusively(), self._writing():
            self._connection.execute("REPLACE INTO node_records VALUES (?, ?)", (node, record))

    def node_records(self) -> list[bytes]:
        """All that were kept, as they were given, in the order of their nodes."""
        with self._exclusively():
            rows = self._connection.execute("SELECT record FROM node_records ORDER BY node")
            return [bytes(record) for (record,) in rows]

    # --- what callers read ------------------------------------------------------------------

    def get(self, key: str, revision: int | None = None) -> Version | None:
        """The value of `key` now, or as it was at `revision`; None if it has, or had, none.

        Raises `reads.Pruned` when the history is not kept that far back.
        """
        with self._exclusively():
            return reads.get(self._connection, self._row, key, revision)

    def ls(self, prefix: str = "", after: str = "", limit: int = 100) -> reads.Listing:
        """A page of the keys that have a value and start with `prefix`, in bytewise order."""
        with self._exclusively():
            return reads.ls(self._connection, self._row, prefix, after, limit)

    def history(self, key: str, limit: int = 100) -> list[Version]:
        """The kept versions of `key`, newest first, deletions included."""
        with self._exclusively():
            return reads.history(self._connection, self._row, key, limit)

    def changes(self, after_revision: int, limit: int = 100, prefix: str = "") -> reads.Changes:
        """A page of the kept versions after a revision, oldest first."""
        with self._exclusively():
            return reads.changes(
                self._connection,
                self._row,
                after_revision,
                limit,
                prefix,
                self._machine.revision,
            )

    def newest(self, key: str) -> int:
        """The revision that `key` had last, its deletion included; 0 if it never had one."""
        with self._exclusively():
            return self._moments.newest(key)

    def show(self, key: str, sequence: int, revision: int) -> Inclusion | None:
        """What shows `key` at a checkpoint; see `knowledge.moments`.  Raises `Unprovable`."""
        with self._exclusively():
            return self._moments.show(key, sequence, revision)

    def scrub(self, keys_max: int) -> Slice:
        """Look at some more of the file; see `disk.scrub`.  Raises `Rotten`."""
        with self._exclusively():
            return self._scrub.slice(keys_max)

    def roll(self) -> Roll:
        """Who belongs to the cluster, and what is proposed, as of the last executed batch."""
        with self._exclusively():
            return self._machine.roll

    def agreed_ms(self) -> int:
        """The agreed time of the last executed batch, Unix milliseconds; 0 before the first."""
        with self._exclusively():
            return self._machine.time_ms

    def handovers(self, number: int) -> tuple[bytes, ...]:
        """What leads from the genesis' members to those of configuration `number`.

        That is `wire.messages.Handover.raw`, `number` of them; fewer where they are not all here.
        """
        with self._exclusively():
            return self._handovers.after(0, 1 << 62)[:number]

    def root(self) -> tuple[int, int, bytes]:
        """The last executed sequence, the last revision, and the state root there."""
        with self._exclusively():
            return self._machine.executed, self._machine.revision, self._machine.root()

    def _row(self, key: str) -> bytes | None:
        """The row of `key`.  After a write that failed, nobody here knows what it should be."""
        return self._machine.row(key) if self._failed is None else self._state.retained(key)

    def _rebuilt(self) -> bool:
        (rebuilt,) = self._connection.execute("SELECT rebuilt FROM meta").fetchone()
        return bool(rebuilt)

    # --- how --------------------------------------------------------------------------------

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        alone = self._one_thread.acquire(blocking=False)
        assert alone, "one thread at a time uses the database"
        try:
            with disk_errors(self.path):
                try:
                    yield
                except Rotten as error:
                    self._found(error.labels)
                    raise
        except DatabaseDamaged as error:
            if self._damage is None and is_rot(error):
                self._damage = error
            raise
        finally:
            self._one_thread.release()

    def _found(self, labels: Sequence[bytes]) -> None:
        """Rows rot: the first time, look whether that is all, and not SQLite's own structures."""
        if not all(map(self._machine.has_label, labels)):
            raise DatabaseDamaged("it has a key that nobody wrote", "")
        if not self._rotten.issuperset(labels):
            self._rotten.update(labels)
            self._scrub.check_structure()

    @contextmanager
    def _writing(self, commit: bool = True) -> Iterator[None]:
        """A transaction of the running node: if it fails, nothing more is written."""
        if self._failed is not None:
            raise DiskFailing(
                f"{self.path}: an earlier write failed ({self._failed})",
                "start the node again",
            )
        try:
            with self._transaction(commit):
                yield
        except BaseException as error:
            self._failed = error
            raise

    @contextmanager
    def _transaction(self, commit: bool = True) -> Iterator[None]:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        try:
            with disk_errors(self.path):
                yield
                if commit:
                    self._connection.execute("COMMIT")
        except BaseException:
            self._state.discard()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _digest_of(roll: Roll) -> bytes:
    """What commits call the configuration that begins with this roll."""
    return digest_of(roll.number, roll.start, roll.members, roll.terms)


def _machine(state: AppliedState, history_versions: int, founders: Roll, rules: Rules) -> Machine:
    try:
        return Machine(state, history_versions, founders, rules)
    except UnknownParameter as error:
        raise DatabaseNewer(str(error), "the file was not touched") from error
    except WireError as error:
        raise DatabaseDamaged(f"the roll of members cannot be read: {error}", "") from error

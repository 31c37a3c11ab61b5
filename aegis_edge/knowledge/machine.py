"""Executes agreed batches on the applied state, the same on every node, and takes its root.

Knows operations, revisions, how many versions a key keeps, each origin's last bundle, and the roll
of members.
Refuses to know where the state lies (`state.State`), the clock (the agreed time comes with each
batch), and agreement itself: whoever calls `apply` has it on a quorum's word.
Follows: Castro and Liskov (OSDI '99), section 2 (deterministic state machines); s8_19
(tests/pbft/test_checklist.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aegis_edge.knowledge import merkle, parts
from aegis_edge.knowledge.held import Holds
from aegis_edge.knowledge.inclusion import Moment
from aegis_edge.knowledge.merkle import LABEL_BYTES, Tree, partition
from aegis_edge.knowledge.operations import (
    Barrier,
    Delete,
    OperationError,
    Outcome,
    Put,
    Status,
    decode,
)
from aegis_edge.knowledge.parts import Row, Want
from aegis_edge.knowledge.rebuild import Rebuild
from aegis_edge.knowledge.roll import Ballot, Roll, Rules, decoded, digest_of
from aegis_edge.knowledge.state import (
    RETAINED_BYTES,
    Progress,
    Rotten,
    State,
    Version,
    newest_retained,
    pack_retained,
    pack_totals,
    stands_for,
    state_root,
    unpack_retained,
)
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import Bundle, Verified

#: How many keys are looked at in one go, where all have to be.
_PAGE_KEYS = 1_000


class Machine:
    """One node's copy of the state machine.

    `history_versions`: how many versions a key keeps, its deletions included; part of the genesis,
    for the root binds what is kept.  `founders` is the roll of a state that was never written, and
    `rules` are those for all that follow.  After an exception out of `apply` (a failing disk) the
    machine is ahead of its state: drop it and make another.
    """

    def __init__(self, state: State, history_versions: int, founders: Roll, rules: Rules) -> None:
        assert history_versions >= 1, "a key keeps at least its newest version"
        self._state = state
        self._row_bytes_max = history_versions * RETAINED_BYTES
        progress = state.progress()
        self.executed = progress.executed
        self.time_ms = progress.time_ms
        self.revision = progress.revision
        self.origins: dict[bytes, tuple[int, int]] = dict(progress.origins)
        self._rules = rules
        self._founders = founders
        self._enrol(progress.roll)
        #: Keys that have a value now.
        self.live_keys = 0
        #: What is being fetched, if anything is.
        self.rebuild: Rebuild | None = None
        self._holds = Holds(state, history_versions)
        #: Labels under which other keys were looked for than the one that is there.
        self._shared: set[bytes] = set()
        self._tree = Tree()
        for key, row in state.rows():
            self._tree.replace(key.encode(), None, row)
            self.live_keys += not newest_retained(row)[1]

    def apply(
        self, sequence: int, time_ms: int, bundles: Sequence[Verified[Bundle]]
    ) -> list[tuple[Outcome, ...]]:
        """Execute the batch at `sequence` at the agreed time; the outcomes of each bundle.

        `bundles` is what remains of the batch after de-duplication.
        """
        assert sequence == self.executed + 1, "batches are executed in order, none twice"
        assert time_ms >= self.time_ms, "agreed time never goes back"
        self.executed = sequence
        self.time_ms = time_ms
        outcomes = []
        before = self.roll
        for bundle in bundles:
            last = self.origins.get(bundle.signer, (0, 0))
            this = (bundle.message.incarnation, bundle.message.number)
            assert this > last, "a bundle is executed once"
            self.origins[bundle.signer] = this
            outcomes.append(
                tuple([self._execute(bundle, raw) for raw in bundle.message.operations])
            )
        if self.roll is not before:
            self._enrol(self.roll.after(sequence, before).encoded())
        self._state.keep(self._progress())
        return outcomes

    def foresee(self, sequence: int, time_ms: int, bundles: Sequence[Verified[Bundle]]) -> Roll:
        """The roll that `apply` would lead to, which changes nothing yet."""
        assert sequence == self.executed + 1, "it is the next batch"
        roll = self.roll
        for bundle in bundles:
            for raw in bundle.message.operations if bundle.message.of_members else ():
                ballot = _ballot(raw)
                if ballot is not None:
                    roll, _, _ = roll.decide(bundle.signer, time_ms, ballot, self._rules)
        return roll.after(sequence, self.roll)

    def root(self) -> bytes:
        """The state root (32 bytes): binds all that is kept, the roll, the revision and origins."""
        return state_root(self._tree.top(), self._totals())

    def moment(self) -> Moment:
        """The state as it is now, for proofs against its root that are asked for later."""
        return Moment(self._tree, self._totals())

    def _totals(self) -> bytes:
        return pack_totals(self.revision, self.time_ms, self.origins, self._roll_digest)

    def _progress(self) -> Progress:
        origins = dict(self.origins)
        return Progress(self.executed, self.time_ms, self.revision, origins, self._packed_roll)

    def _enrol(self, packed: bytes) -> None:
        #: Who belongs to the cluster after the last batch.
        self.roll = decoded(packed) if packed else self._founders
        self._packed_roll = packed
        self._roll_digest = digest_of(packed or self._founders.encoded())

    # --- what the disk makes of it ---

    def row(self, key: str) -> bytes | None:
        """The row of `key`, or None if it never had a version.  Raises `Rotten`."""
        row = self._state.retained(key)
        head = merkle.label(key.encode())
        if not self.agrees(key, row) and not (row is None and head in self._shared):
            raise Rotten(head)
        return row

    def agrees(self, key: str, row: bytes | None) -> bool:
        """Whether `row` is that of `key`, and None: whether there is no such key."""
        return self._tree.agrees(key.encode(), row)

    def has_label(self, head: bytes) -> bool:
        """Whether there is a key with this label."""
        return self._tree.has_label(head)

    def keys(self) -> int:
        """How many keys there are, those that were deleted included."""
        return self._tree.size()

    def mend(self, labels: Sequence[bytes], rows: Sequence[Row]) -> list[bytes]:
        """Put right what is here, with rows that others had at a checkpoint.

        The labels under which something is wrong still: a key that was written since needs rows of
        a later one.  Raises `WireError` for a row that nobody asked for.
        """
        left = dict.fromkeys(labels)
        given: dict[bytes, list[Row]] = {}
        for found in rows:
            head = merkle.label(found.key.encode())
            if head not in left:
                raise WireError("a row that nobody asked for")
            given.setdefault(head, []).append(found)
        for head, sharing in given.items():  # nearly always one row has a label
            become = [self._mend(found) for found in sharing]
            if False not in become and len(become) >= self._count(head):
                del left[head]
                if True not in become:
                    self._shared.add(head)  # by a key that was looked for, and that there is not
        return list(left)

    def _count(self, head: bytes) -> int:
        """How many keys have this label."""
        entries = parts.entries(self._tree.entries(partition(head)))
        return sum(entry.startswith(head) for entry in entries)

    def _mend(self, found: Row) -> bool | None:
        """Whether a row is right by now; None: it was already."""
        row = self._state.retained(found.key)
        was_sound = row is not None and self.agrees(found.key, row)
        if row is None or not was_sound:
            row = found.row
            if not self.agrees(found.key, row):
                return False
        known = {version.digest(): version for version in found.versions}
        wrong = [
            retained
            for retained in unpack_retained(row)
            if not stands_for(retained, self._state.version(retained.revision))
        ]
        if was_sound and not wrong:
            return None
        self._state.adopt(found.key, row, [known[r.digest] for r in wrong if r.digest in known])
        return all(r.digest in known for r in wrong)

    # --- for others ---

    def hold(self) -> None:
        """This is a checkpoint: others may fetch the state as it is now; see `held`."""
        self._holds.hold(self._progress())

    def release(self, stable: int, oldest: int) -> None:
        """See `held.Holds.release`."""
        self._holds.release(stable, oldest)

    def answer(self, peer: bytes, sequence: int, kind: int, items: Sequence[bytes]) -> bytes | None:
        """A piece of the state after `sequence` for `peer`; see `held.Holds.answer`."""
        return self._holds.answer(peer, sequence, kind, items)

    # --- from others ---

    def begin(self, sequence: int, root: bytes) -> None:
        """From now on `take` takes in the state with this certified root; execute nothing."""
        assert sequence > self.executed, "a state is fetched by who is behind it"
        own = self._tree.partitions()
        founders = self._founders.encoded()
        self.rebuild = Rebuild(sequence, root, own, self.revision, self._state, founders)

    def take(self, kind: int, items: Sequence[bytes], data: bytes) -> list[Want]:
        """See `Rebuild.take`."""
        assert self.rebuild is not None, "it has begun"
        return self.rebuild.take(kind, items, data)

    def install(self) -> None:
        """Be in the state that was fetched, all of which is staged by now."""
        rebuild = self.rebuild
        assert rebuild is not None and rebuild.progress is not None, "it has begun"
        self._holds.clear()
        old: set[int] = set()
        new: set[int] = set()
        for key, entry in self._state.staged():
            if not rebuild.has_entry(entry):
                continue  # of another checkpoint's row
            row, versions = self._state.unstaged(key)
            before = self._state.retained(key)
            if before is not None:
                old.update(r.revision for r in unpack_retained(before))
                self.live_keys -= not newest_retained(before)[1]
            kept = {r.revision for r in unpack_retained(row)}
            new |= kept
            self._state.adopt(key, row, [v for v in versions if v.revision in kept])
            self.live_keys += not newest_retained(row)[1]
        for revision in sorted(old - new):
            self._state.prune(revision)
        for number, entries in sorted(rebuild.entries.items()):
            self._tree.adopt(number, entries)
        self._forget(
            _labels(rebuild.own[n] for n in rebuild.entries) - _labels(rebuild.entries.values())
        )
        self.executed, self.time_ms, self.revision, origins, packed = rebuild.progress
        self.origins = dict(origins)
        self._enrol(packed)
        assert self.root() == rebuild.root, "every partition was proven"
        self._state.keep(self._progress())
        self._state.clear_stage()
        self._state.unmark(self.executed)
        self.hold()
        self.rebuild = None

    def _forget(self, labels: set[bytes]) -> None:
        """Take away the keys that others do not have: where this state was another one."""
        after: str | None = "" if labels else None
        while after is not None:
            page = self._state.page(after, _PAGE_KEYS)
            after = page[-1][0] if page else None
            for key, row in page:
                if merkle.label(key.encode()) in labels:
                    for entry in unpack_retained(row):
                        self._state.prune(entry.revision)
                    self.live_keys -= not newest_retained(row)[1]
                    self._state.forget(key)

    # --- execution ---

    def _execute(self, bundle: Verified[Bundle], raw: bytes) -> Outcome:
        try:
            operation = decode(raw)
        except OperationError:
            return Outcome(Status.INVALID, 0, self.time_ms)
        if isinstance(operation, Barrier):
            return Outcome(Status.DONE, self.revision, self.time_ms)
        if isinstance(operation, (Put, Delete)):
            return self._change(bundle.signer, operation)
        if not bundle.message.of_members:  # nobody would wait for what comes of it
            return Outcome(Status.INVALID, 0, self.time_ms)
        return self._decide(bundle.signer, operation)

    def _decide(self, author: bytes, ballot: Ballot) -> Outcome:
        self.roll, status, number = self.roll.decide(author, self.time_ms, ballot, self._rules)
        return Outcome(status, number, self.time_ms)

    def _change(self, origin: bytes, operation: Put | Delete) -> Outcome:
        key = operation.key.encode()
        head = merkle.label(key)
        row, entry = None, None
        if self._tree.has_label(head):  # else no such key was agreed on, whatever the disk has
            row = self._state.retained(operation.key)
        if row is not None:
            entry = head + merkle.row_digest(key, row)
            if not self._tree.has(entry):
                raise Rotten(head)
        newest, deleted = (0, True) if row is None else newest_retained(row)
        current = 0 if deleted else newest
        if operation.expected is not None and operation.expected != current:
            return Outcome(Status.CONFLICT, current, self.time_ms)
        if isinstance(operation, Delete):
            if not current:
                return Outcome(Status.ABSENT, 0, self.time_ms)
            self.live_keys -= 1
            media, deleted, value = 0, True, b""
        else:
            self.live_keys += not current
            media, deleted, value = operation.media, False, operation.value
        self.revision += 1
        version = Version(
            self.revision, operation.key, newest, origin, self.time_ms, media, deleted, value
        )
        grown = self._grown(row, version)
        self._state.write(version, grown)
        self._tree.exchange(entry, head + merkle.row_digest(key, grown))
        return Outcome(Status.DONE, self.revision, self.time_ms)

    def _grown(self, row: bytes | None, version: Version) -> bytes:
        """The row with one more version, and without those that are too many."""
        entry = pack_retained(version.revision, version.deleted, version.digest())
        grown = entry if row is None else row + entry
        while len(grown) > self._row_bytes_max:
            self._holds.prune(version.key, grown[:RETAINED_BYTES])
            grown = grown[RETAINED_BYTES:]
        return grown


def _ballot(raw: bytes) -> Ballot | None:
    """The operation, if it is about members."""
    try:
        operation = decode(raw)
    except OperationError:
        return None
    return None if isinstance(operation, (Put, Delete, Barrier)) else operation


def _labels(partitions: Iterable[bytes]) -> set[bytes]:
    return {entry[:LABEL_BYTES] for joined in partitions for entry in parts.entries(joined)}

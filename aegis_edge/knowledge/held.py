"""The state as it was at checkpoints, for others to fetch, while execution goes on.

Knows which checkpoints are held, and how to answer from one with what the tables have now.
Refuses to know who asks, and what is certified.
Follows: Castro's thesis, chapter 5, whose checkpoints copy on write; here nothing is copied:
versions are never changed, only added and pruned.  What a batch prunes after a checkpoint that is
held stays for as long as that is, and a row of then is the versions up to the revision of then.
So a put writes no byte more than without it, a prune is only late, and a checkpoint that nobody
fetches costs no memory but a few words for what was pruned since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from aegis_edge.knowledge import merkle, parts
from aegis_edge.knowledge.merkle import DIGEST_BYTES, ENTRY_BYTES, LABEL_BYTES, PARTITIONS
from aegis_edge.knowledge.parts import GROUP, GROUP_PARTITIONS, HEAD, PARTITION, Head, Row
from aegis_edge.knowledge.state import (
    Progress,
    State,
    Version,
    pack_retained,
    retained_of,
    unpack_retained,
)

#: What an answer measures at most, give or take one row with one value.
ANSWER_BYTES_MAX = 64 * 1024
#: Keys that are looked at in one go, when somebody asks for the first time.
SCAN_KEYS = 1_000
#: One that is asked for stays for so many more checkpoints, unless who asked goes on to another.
LEASE_CHECKPOINTS = 16


class Held:
    """The state at one checkpoint.  Once it was asked for: 56 bytes a key, until it is let go."""

    def __init__(self, progress: Progress, history_versions: int) -> None:
        self.progress = progress
        self.idle_checkpoints = LEASE_CHECKPOINTS
        self._history_versions = history_versions
        self._pruned: dict[str, bytes] = {}
        self._scanned: str | None = ""
        self._entries: list[bytes] = [b""] * PARTITIONS
        #: After each label the newest revision of then, which leads to the key.
        self._places: list[bytes] = [b""] * PARTITIONS

    def pruned(self, key: str, retained: bytes) -> None:
        """This version of `key` would be gone by now, were it not of this state."""
        if self._scanned is not None:
            self._pruned[key] = self._pruned.get(key, b"") + retained

    def answer(self, state: State, kind: int, items: Sequence[bytes]) -> bytes | None:
        """The pieces, as many as fit, at least one; b"" if there is none; None: ask again.

        Raises `WireError` for what is no item.
        """
        self.idle_checkpoints = 0
        if self._scanned is not None:
            self._scan(state)
            return None
        if kind == HEAD:
            progress = self.progress
            groups = [merkle.digest_above(self._leaves(n)) for n in range(merkle.GROUPS)]
            _, time_ms, revision, origins, roll = progress
            return parts.pack_head(Head(revision, time_ms, origins, b"".join(groups), roll))
        if kind == GROUP:
            return _numbered(items, merkle.GROUPS, self._leaves)
        if kind == PARTITION:
            return _numbered(items, PARTITIONS, self._entries.__getitem__)
        return self._rows(state, [parts.read_row_item(item) for item in items])

    def _leaves(self, group: int) -> bytes:
        size = GROUP_PARTITIONS * DIGEST_BYTES
        return self._digests[group * size : (group + 1) * size]

    @cached_property
    def _digests(self) -> bytes:
        return b"".join(map(merkle.leaf_digest, self._entries))

    # --- what there was ---

    def _scan(self, state: State) -> None:
        """Look at some more keys; a row of then can be told whenever that is."""
        assert self._scanned is not None, "it is not over"
        page = state.page(self._scanned, SCAN_KEYS)
        for key, row in page:
            known = unpack_retained(self._pruned.get(key, b"") + row)
            then = [r for r in known if r.revision <= self.progress.revision]
            if then:
                raw = key.encode()
                label = merkle.label(raw)
                number = merkle.partition(label)
                kept = b"".join([pack_retained(*r) for r in then[-self._history_versions :]])
                self._entries[number] += label + merkle.row_digest(raw, kept)
                self._places[number] += label + then[-1].revision.to_bytes(8, "big")
        self._scanned = page[-1][0] if page else None
        if not page:
            self._pruned.clear()
            self._entries = [b"".join(sorted(parts.entries(e))) for e in self._entries]

    def _rows(self, state: State, wanted: Sequence[tuple[bytes, int]]) -> bytes:
        found: list[Row] = []
        room = ANSWER_BYTES_MAX
        for label, after in wanted:
            sharing = self._sharing(state, label)
            if found and sharing and room <= 0:
                break
            for key, row, versions in sharing:
                room -= len(key) + len(row)
                taken: list[Version] = []
                for version in versions:
                    if version.revision > after:
                        room -= len(version.value) + 100
                        if taken and room <= 0:
                            break
                        taken.append(version)
                found.append(Row(key, row, taken))
        return parts.pack_rows(found) if found else b""

    def _sharing(self, state: State, label: bytes) -> list[Row]:
        """The rows of all keys with this label, nearly always of one; none if any of them rots."""
        places = _find(self._places[merkle.partition(label)], label, LABEL_BYTES + 8)
        rows = [
            self._row(state, label, int.from_bytes(place[LABEL_BYTES:], "big")) for place in places
        ]
        return [row for row in rows if row is not None] if None not in rows else []

    def _row(self, state: State, label: bytes, revision: int) -> Row | None:
        """The row whose newest version was this one; None if it is not what it was."""
        number = merkle.partition(label)
        versions: list[Version] = []
        while revision and len(versions) < self._history_versions:
            version = state.version(revision)
            if version is None:
                return None
            versions.insert(0, version)
            revision = version.previous_revision
        known = [each for each in map(retained_of, versions) if each is not None]
        if not known or len(known) < len(versions):
            return None
        key = versions[0].key
        row = b"".join([pack_retained(*each) for each in known])
        entry = label + merkle.row_digest(key.encode(), row)
        is_whole = bool(_find(self._entries[number], entry, ENTRY_BYTES))
        return Row(key, row, versions) if is_whole else None


class Holds:
    """All states that are held; `state` is where what is pruned lies.

    After a restart what was held is held again: the versions that no row names were pruned late.
    """

    def __init__(self, state: State, history_versions: int) -> None:
        self._state = state
        self._history_versions = history_versions
        self._held: dict[int, Held] = {}
        self._late: list[tuple[int, int]] = []  # held last when it was pruned, which revision
        self._asked_for: dict[bytes, int] = {}  # by whom: which one last
        for progress in state.marked():
            self._hold(progress)
        for version in state.left():
            retained = retained_of(version)
            if retained is None:
                state.prune(version.revision)  # it rots, so it serves nobody
            else:
                self.prune(version.key, pack_retained(*retained))

    def prune(self, key: str, retained: bytes) -> None:
        """The batch that is executed has no use any more for this version of `key`."""
        revision = unpack_retained(retained)[0].revision
        needing = [h for h in self._held.values() if revision <= h.progress.revision]
        for held in needing:
            held.pruned(key, retained)
        if needing:
            self._late.append((max(self._held), revision))
        else:
            self._state.prune(revision)

    def hold(self, progress: Progress) -> None:
        """Execution has come to a checkpoint."""
        self._hold(progress)
        self._state.mark(progress)

    def _hold(self, progress: Progress) -> None:
        self._held[progress.executed] = Held(progress, self._history_versions)

    def release(self, stable: int, oldest: int) -> None:
        """The checkpoint at `stable` is stable: let go of those that nobody fetches.

        The one before stays, for who learnt of that; `oldest`: of an older one nobody could go on,
        because the batches after it are gone.
        """
        before = max((at for at in self._held if at < stable), default=stable)
        for at in [at for at in self._held if at < before]:
            held = self._held[at]
            held.idle_checkpoints += 1
            if held.idle_checkpoints > LEASE_CHECKPOINTS or at < oldest:
                del self._held[at]
        self._state.unmark(stable)
        self._sweep()

    def clear(self) -> None:
        """Another state takes the place of this one: nothing of it is held."""
        self._held.clear()
        self._sweep()

    def _sweep(self) -> None:
        late, self._late = self._late, []
        for last, revision in late:
            if any(a <= last and revision <= h.progress.revision for a, h in self._held.items()):
                self._late.append((last, revision))
            else:
                self._state.prune(revision)

    def answer(self, peer: bytes, sequence: int, kind: int, items: Sequence[bytes]) -> bytes | None:
        """See `Held.answer`; b"" too if the checkpoint at `sequence` is not held for `peer`.

        Nobody goes back to an older one, and what a peer leaves for a newer one is let go of soon:
        else it could have this node look at all keys, and remember them, once a checkpoint.
        """
        held, last = self._held.get(sequence), self._asked_for.get(peer, 0)
        if held is None or sequence < last:
            return b""
        self._asked_for[peer] = sequence
        if last in self._held and last not in self._asked_for.values():
            self._held[last].idle_checkpoints = LEASE_CHECKPOINTS
        return held.answer(self._state, kind, items)


def _numbered(items: Sequence[bytes], count: int, read: Callable[[int], bytes]) -> bytes:
    found: list[tuple[int, bytes]] = []
    size_bytes = 0
    for number in map(parts.read_number, items):
        if number < count:
            joined = read(number)
            size_bytes += len(joined)
            if found and size_bytes > ANSWER_BYTES_MAX:
                break
            found.append((number, joined))
    return parts.pack_numbered(found) if found else b""


def _find(joined: bytes, head: bytes, size_bytes: int) -> list[bytes]:
    """All with this head among joined ones of this size."""
    found = []
    at = joined.find(head)
    while at >= 0:
        if not at % size_bytes:
            found.append(joined[at : at + size_bytes])
        at = joined.find(head, at + 1)
    return found

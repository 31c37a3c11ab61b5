"""The state at the last few checkpoints, kept so that what they sign can be shown of any key.

Knows what changed since, and keeps what is asked for before it changes again.
Refuses to know which checkpoint is agreed on, and who waits for the next one.

Of the state as it was then only digests are kept, and a key that is written may have dropped the
version that a checkpoint binds.  So a key that is asked for in vain is wanted: at the next
checkpoint what shows it is made at once, and kept.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis_edge.knowledge.inclusion import Inclusion, Moment, Unprovable
from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.state import (
    Rotten,
    Version,
    newest_retained,
    stands_for,
    unpack_retained,
)

#: The last one agreed on, and those that may yet be: usually one or two, and as many as intervals
#: in a window where checkpoints travel long.  A node that catches up takes more, in vain.
MOMENTS_MAX = 6
#: Keys that may be wanted at a time, and how many bytes of values are kept for them.
WANTED_MAX = 256
CAUGHT_BYTES_MAX = 4 * 1024 * 1024


class Moments:
    """`retained` gives a key's row now, `version` that with a revision which a row names.

    Either may find something rotten on the disk: then nothing is shown.
    """

    def __init__(
        self, retained: Callable[[str], bytes | None], version: Callable[[int], Version | None]
    ) -> None:
        self._retained = retained
        self._version = version
        self._moments: dict[int, tuple[Moment, dict[str, Inclusion]]] = {}
        self._wanted: dict[str, None] = {}

    def took(self, sequence: int, moment: Moment) -> None:
        """The root was taken after `sequence`, just now."""
        caught: dict[str, Inclusion] = {}
        left = CAUGHT_BYTES_MAX
        for key in self._wanted:
            try:
                shown = self._shown(moment, key)
            except (Unprovable, Rotten):
                continue  # whoever asks again is told
            left -= len(shown.entries) + (len(shown.version.value) if shown.version else 0)
            if left < 0:
                break
            caught[key] = shown
        self._wanted.clear()
        self._moments[sequence] = moment, caught
        while len(self._moments) > MOMENTS_MAX:
            del self._moments[min(self._moments)]

    def forget_before(self, sequence: int) -> None:
        """The checkpoint at `sequence` is agreed on: older ones serve no more."""
        for old in [s for s in self._moments if s < sequence]:
            del self._moments[old]

    def newest(self, key: str) -> int:
        """The revision that `key` had last, its deletion included; 0 if it never had one."""
        row = self._retained(key)
        return 0 if row is None else newest_retained(row)[0]

    def show(self, key: str, sequence: int, revision: int) -> Inclusion | None:
        """What shows `key` at the checkpoint after `sequence`, if it had `revision` by then.

        None if it had not, or if its partition changed since: then it is wanted at the next one.
        Raises `Unprovable` or `Rotten`.
        """
        moment, caught = self._moments.get(sequence, (None, {}))
        shown = caught.get(key)
        if shown is not None and (shown.version.revision if shown.version else 0) >= revision:
            return shown
        if moment is not None and moment.is_current(key):
            return self._shown(moment, key)
        if len(self._wanted) < WANTED_MAX:
            self._wanted[key] = None
        return None

    def _shown(self, moment: Moment, key: str) -> Inclusion:
        row = self._retained(key)
        if row is None:
            return moment.shows(key, None, None)
        newest = unpack_retained(row)[-1]
        version = self._version(newest.revision)
        if not stands_for(newest, version):
            raise Rotten(label(key.encode()))
        return moment.shows(key, row, version)

"""The applied state of a simulated node: the real state machine over a dict.

Knows how to read a key as of now.  How anything is executed is for `knowledge.machine` to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.state import Progress, Version, newest_retained
from tests.sim.plan import Plan

HISTORY_VERSIONS = 3


class DictState:
    """`knowledge.state.State` in memory."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._rows: dict[str, bytes] = {}
        self._versions: dict[int, Version] = {}

    def copy(self) -> DictState:
        other = DictState()
        other._progress = self._progress
        other._rows = dict(self._rows)
        other._versions = dict(self._versions)
        return other

    def progress(self) -> Progress:
        return self._progress

    def keep(self, progress: Progress) -> None:
        self._progress = progress

    def retained(self, key: str) -> bytes | None:
        return self._rows.get(key)

    def write(self, version: Version, row: bytes) -> None:
        self._versions[version.revision] = version
        self._rows[version.key] = row

    def prune(self, revision: int) -> None:
        del self._versions[revision]

    def rows(self) -> Iterator[tuple[str, bytes]]:
        return iter(sorted(self._rows.items()))

    def newest(self, key: str) -> Version | None:
        row = self._rows.get(key)
        return None if row is None else self._versions[newest_retained(row)[0]]


class Applied(Machine):
    """The state machine, and a way to read what it wrote."""

    def __init__(self, plan: Plan) -> None:
        self.state = DictState()
        super().__init__(self.state, HISTORY_VERSIONS)

    def reborn(self, state: DictState) -> Applied:
        """The machine that a restart would make of `state`."""
        other = copy(self)
        other.state = state
        Machine.__init__(other, state, HISTORY_VERSIONS)
        return other

    def get(self, key: str) -> tuple[int, bytes | None]:
        """The newest revision of `key` (0: it never had one) and its value (None: deleted)."""
        version = self.state.newest(key)
        if version is None:
            return 0, None
        return version.revision, None if version.deleted else version.value

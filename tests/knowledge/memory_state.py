"""The applied state in a dict: the twin of `disk.applied`, for models and for the simulator."""

from __future__ import annotations

from collections.abc import Iterator

from aegis_edge.knowledge.state import Progress, Version


class MemoryState:
    """A `knowledge.state.State` without a disk.  `copy` is a snapshot that shares nothing."""

    def __init__(self) -> None:
        self.versions: dict[int, Version] = {}
        self.retained_rows: dict[str, bytes] = {}
        self.kept = Progress()

    def copy(self) -> MemoryState:
        other = MemoryState()
        other.versions = dict(self.versions)
        other.retained_rows = dict(self.retained_rows)
        other.kept = self.kept
        return other

    def progress(self) -> Progress:
        return self.kept

    def keep(self, progress: Progress) -> None:
        self.kept = progress

    def retained(self, key: str) -> bytes | None:
        return self.retained_rows.get(key)

    def write(self, version: Version, row: bytes) -> None:
        assert version.revision not in self.versions
        self.versions[version.revision] = version
        self.retained_rows[version.key] = row

    def prune(self, revision: int) -> None:
        del self.versions[revision]

    def rows(self) -> Iterator[tuple[str, bytes]]:
        return iter(self.retained_rows.items())

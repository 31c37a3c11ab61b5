"""The applied state in a dict: the twin of `disk.applied`, for models and for the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from aegis_edge.knowledge.merkle import row_digest
from aegis_edge.knowledge.state import Progress, Version, unpack_retained


class MemoryState:
    """A `knowledge.state.State` without a disk.  `copy` is a snapshot that shares nothing."""

    def __init__(self) -> None:
        self.versions: dict[int, Version] = {}
        self.retained_rows: dict[str, bytes] = {}
        self.kept = Progress()
        self.marks: dict[int, Progress] = {}
        self.staged_rows: dict[str, tuple[bytes, bytes]] = {}
        self.staged_versions: dict[int, Version] = {}

    def copy(self) -> Self:
        other = type(self)()
        other.marks = dict(self.marks)
        other.staged_rows = dict(self.staged_rows)
        other.staged_versions = dict(self.staged_versions)
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
        return iter(sorted(self.retained_rows.items()))

    def version(self, revision: int) -> Version | None:
        return self.versions.get(revision)

    def page(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        return sorted(item for item in self.retained_rows.items() if item[0] > after)[:limit]

    def mark(self, progress: Progress) -> None:
        self.marks[progress.executed] = progress

    def marked(self) -> list[Progress]:
        return [progress for _, progress in sorted(self.marks.items())]

    def unmark(self, stable: int) -> None:
        self.marks = {at: progress for at, progress in self.marks.items() if at >= stable}

    def left(self) -> Iterator[Version]:
        named = {r.revision for row in self.retained_rows.values() for r in unpack_retained(row)}
        return iter([v for revision, v in sorted(self.versions.items()) if revision not in named])

    def adopt(self, key: str, row: bytes, versions: Iterable[Version]) -> None:
        self.versions.update((version.revision, version) for version in versions)
        self.retained_rows[key] = row

    def forget(self, key: str) -> None:
        del self.retained_rows[key]

    def stage(self, label: bytes, key: str, row: bytes) -> None:
        self.staged_rows[key] = (label, row)

    def stage_version(self, version: Version) -> None:
        self.staged_versions[version.revision] = version

    def staged(self) -> list[tuple[str, bytes]]:
        return [
            (key, label + row_digest(key.encode(), row))
            for key, (label, row) in sorted(self.staged_rows.items())
        ]

    def unstaged(self, key: str) -> tuple[bytes, list[Version]]:
        _, row = self.staged_rows[key]
        return row, [v for _, v in sorted(self.staged_versions.items()) if v.key == key]

    def clear_stage(self) -> None:
        self.staged_rows.clear()
        self.staged_versions.clear()

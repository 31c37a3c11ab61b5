"""What this replica executed lately, to be held against what others prove.

Knows the digest of each batch, and the state root at each checkpoint, of one window back.
Refuses to know who proves what: a caller shows it valid certificates only.
Follows: Castro and Liskov (OSDI '99) sections 4.2 and 4.3: a certificate that contradicts what was
executed here means that more than f are faulty, or this node's own memory or card.
"""

from __future__ import annotations

from aegis_edge.wire.messages import Checkpoint, Verified


class Past:
    """Bounded by `window`: older batches and roots are forgotten."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._digests: dict[int, bytes] = {}
        self._roots: dict[int, bytes] = {}

    def spans(self, window: int) -> None:
        """From now on it goes back so far."""
        self._window = window
        newest = max(self._digests, default=0)
        self._digests = {s: d for s, d in self._digests.items() if s > newest - window}

    def executed(self, sequence: int, digest: bytes) -> None:
        self._digests[sequence] = digest
        self._digests.pop(sequence - self._window, None)

    def took(self, sequence: int, root: bytes) -> None:
        self._roots[sequence] = root
        for old in [s for s in self._roots if s <= sequence - self._window]:
            del self._roots[old]

    def root(self, sequence: int) -> bytes | None:
        return self._roots.get(sequence)

    def denies(self, sequence: int, digest: bytes) -> bool:
        """True if another batch than the one with `digest` was executed at `sequence`."""
        return self._digests.get(sequence, digest) != digest

    def denies_root(self, stable: tuple[Verified[Checkpoint], ...]) -> bool:
        """True if the state here was another one than a stable checkpoint says; `()` is genesis."""
        if not stable:
            return False
        said = stable[0].message
        return self._roots.get(said.sequence, said.root) != said.root

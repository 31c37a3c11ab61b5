"""Messages of peers that wait for the replica, and in which order they come up.

Knows fairness: one message of each peer in turn, so that none of them can starve the others.
Refuses to know what a message says.
"""

from __future__ import annotations

from collections import deque


class Inbox:
    """All that came in and was not looked at; `len` counts it, `size_bytes` is what it holds."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._queues: dict[bytes, deque[bytes]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, peer: bytes, raw: bytes) -> None:
        """Take a message in, behind all others of its peer."""
        self._queues.setdefault(peer, deque()).append(raw)
        self._count += 1
        self.size_bytes += len(raw)

    def next_round(self) -> list[tuple[bytes, bytes]]:
        """The oldest message of each peer that has one, as (peer, message)."""
        found = []
        for peer, queue in list(self._queues.items()):
            found.append((peer, queue.popleft()))
            if not queue:
                del self._queues[peer]
        self._count -= len(found)
        self.size_bytes -= sum(len(raw) for _, raw in found)
        return found

    def drop(self, peer: bytes) -> None:
        """Forget what waits of this peer."""
        queue = self._queues.pop(peer, ())
        self._count -= len(queue)
        self.size_bytes -= sum(map(len, queue))

"""Messages that came before their time: of a later view, or above the high watermark.

Knows how much of each member's may wait.  Refuses to know what the messages say.
Follows: s8_05 (tests/pbft/test_checklist.py): buffered within a bound per sender, then dropped; a
dropped one comes again when a status shows that it is missing.
"""

from __future__ import annotations

from collections import deque

from aegis_edge.wire.messages import Message, Proposal, Verified

COUNT_MAX = 64
SIZE_BYTES_MAX = 1024 * 1024


def size_bytes(message: Message) -> int:
    if isinstance(message, Verified):
        return len(message.raw)
    assert isinstance(message, Proposal), "no other carrier belongs to a view"
    return len(message.batch.raw)


class Early:
    """A queue per member; a full one loses its oldest messages."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Message]] = {}
        self._sizes: dict[bytes, int] = {}

    def add(self, sender: bytes, message: Message) -> None:
        queue = self._queues.setdefault(sender, deque())
        if message in queue:  # said again, perhaps by another who wants the rest dropped
            return
        queue.append(message)
        size = self._sizes.get(sender, 0) + size_bytes(message)
        while len(queue) > COUNT_MAX or (size > SIZE_BYTES_MAX and len(queue) > 1):
            size -= size_bytes(queue.popleft())
        self._sizes[sender] = size

    def drain(self) -> list[tuple[bytes, Message]]:
        """Everything that waits, sender by sender, each in its order; nothing waits afterwards."""
        drained = [(sender, m) for sender in sorted(self._queues) for m in self._queues[sender]]
        self._queues.clear()
        self._sizes.clear()
        return drained

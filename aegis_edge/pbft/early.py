"""Messages that came before their time: of what has not begun yet, or above the high watermark.

Knows how much of each member's may wait.  Refuses to know what the messages say.
Follows: s8_05 (tests/pbft/test_checklist.py): buffered within a bound per sender, then dropped; a
dropped one comes again when a status shows that it is missing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from aegis_edge.wire.messages import Message, Proposal, Verified

COUNT_MAX = 64
SIZE_BYTES_MAX = 1024 * 1024


Waiting = Verified[Any] | Proposal


def size_bytes(message: Waiting) -> int:
    return len(message.raw if isinstance(message, Verified) else message.batch.raw)


class Early:
    """A queue per member; a full one loses its oldest messages."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Waiting]] = {}
        self._sizes: dict[bytes, int] = {}

    def add(self, sender: bytes, message: Message) -> None:
        if not isinstance(message, (Verified, Proposal)):
            return  # other carriers answer a question, which is put again
        queue = self._queues.setdefault(sender, deque())
        if message in queue:  # said again, perhaps by another who wants the rest dropped
            return
        queue.append(message)
        size = self._sizes.get(sender, 0) + size_bytes(message)
        while len(queue) > COUNT_MAX or (size > SIZE_BYTES_MAX and len(queue) > 1):
            size -= size_bytes(queue.popleft())
        self._sizes[sender] = size

    def drain(self) -> list[tuple[bytes, Waiting]]:
        """Everything that waits, sender by sender, each in its order; nothing waits afterwards."""
        drained = [(sender, m) for sender in sorted(self._queues) for m in self._queues[sender]]
        self._queues.clear()
        self._sizes.clear()
        return drained

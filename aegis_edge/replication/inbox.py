"""Messages of peers that wait for the replica, and in which order they come up.

Knows fairness: one message of each peer in turn, so that none of them can starve the others; those
who are no members share one turn, however many they are.
Refuses to know what a message says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container


class Inbox:
    """All that came in and was not looked at; `len` counts it.

    `is_member`: whether a peer has turns of its own.
    """

    def __init__(self, is_member: Callable[[bytes], bool] = lambda _: True) -> None:
        self._is_member = is_member
        self._queues: dict[bytes, deque[bytes]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, peer: bytes, raw: bytes) -> None:
        """Take a message in, behind all others of its peer."""
        self._queues.setdefault(peer, deque()).append(raw)
        self._count += 1

    def __contains__(self, peer: object) -> bool:
        """Whether something of `peer` waits."""
        return peer in self._queues

    def has_mail(self, but: Container[bytes] = ()) -> bool:
        """Whether something waits of anybody `but` these."""
        return any(peer not in but for peer in self._queues)

    def next_round(self, but: Container[bytes] = ()) -> list[tuple[bytes, bytes]]:
        """The oldest message of each peer `but` these that has one, as (peer, message)."""
        found: list[tuple[bytes, bytes]] = []
        has_other = False
        for peer, queue in list(self._queues.items()):
            is_other = not self._is_member(peer)
            if peer in but or (is_other and has_other):
                continue
            found.append((peer, queue.popleft()))
            has_other = has_other or is_other
            if is_other or not queue:
                del self._queues[peer]
            if is_other and queue:
                self._queues[peer] = queue  # behind the others of its kind
        self._count -= len(found)
        return found

    def drop(self, peer: bytes) -> None:
        """Forget what waits of this peer."""
        queue = self._queues.pop(peer, ())
        self._count -= len(queue)

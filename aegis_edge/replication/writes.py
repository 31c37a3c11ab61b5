"""Which effects may be seen now, and which wait for the disk, in which order.

Knows the one rule: a `Send` after a `Persist` waits until that is durable (`pbft.events`).
Refuses to know disks and links.  One write is under way at a time; it carries all that waited.
"""

from __future__ import annotations

from collections.abc import Sequence

from aegis_edge.pbft.events import Effect, Persist, Send, SendCommitted, SendPart


class Writes:
    """Effects that wait for a write to begin, and those of the write under way."""

    def __init__(self) -> None:
        self._held: list[Effect] = []
        self._flying: list[Effect] | None = None
        self._unsafe = 0  # records of either that are not durable yet
        self._serving: set[bytes] = set()  # peers with an answer to a fetch on its way

    @property
    def waiting(self) -> bool:
        """Whether there is something to begin a write for."""
        return bool(self._held)

    @property
    def under_way(self) -> bool:
        """Whether a write has begun and not ended."""
        return self._flying is not None

    @property
    def are_pending(self) -> bool:
        """Whether something decided is not on the disk yet."""
        return self.waiting or self.under_way

    def part(self, send: Send) -> tuple[Send | None, Send | None]:
        """What of `send` may go at once, and what must be held: it would overtake what waits.

        A vote for everybody does not wait for what is read from the disk for one of them; but to
        that one it comes after it, and after all that was held before.
        """
        if self._unsafe:
            return None, send
        if self._serving.isdisjoint(send.peers):
            return send, None
        free = tuple(peer for peer in send.peers if peer not in self._serving)
        busy = tuple(peer for peer in send.peers if peer in self._serving)
        return (Send(free, send.raw) if free else None), Send(busy, send.raw)

    def hold(self, effect: Effect) -> None:
        """Keep `effect` for the next write, behind all others."""
        if isinstance(effect, Persist):
            self._unsafe += 1
        elif isinstance(effect, (SendCommitted, SendPart)):
            # One answer of a kind at a time to each peer: what it asked for last is what counts.
            self._held = [e for e in self._held if not _is_alike(e, effect)]
            self._serving.add(effect.peer)
        self._held.append(effect)

    def begin(self) -> Sequence[Effect]:
        """What goes to the database in one go: all, up to a second answer to a fetch."""
        assert self._flying is None, "one write at a time"
        fetches = [i for i, effect in enumerate(self._held) if _reads(effect)]
        end = fetches[1] if len(fetches) > 1 else len(self._held)
        self._flying, self._held = self._held[:end], self._held[end:]
        return self._flying

    def end(self) -> tuple[Sequence[Effect], Sequence[Effect]]:
        """The write is durable: what was in it, and what waited meanwhile, to be taken anew."""
        assert self._flying is not None, "a write ends once"
        done, held = self._flying, self._held
        self._flying, self._held, self._unsafe = None, [], 0
        self._serving.clear()
        return done, held


def _reads(effect: Effect) -> bool:
    return isinstance(effect, (SendCommitted, SendPart))


def _is_alike(effect: Effect, fetch: SendCommitted | SendPart) -> bool:
    return type(effect) is type(fetch) and effect.peer == fetch.peer

"""The bundles that wait for their place in the order, per origin and bounded.

Knows which bundle of an origin may execute next, and since when the oldest one waits.
Refuses to know operations, views, or who is primary.
Follows: s8_10, s8_20 and s8_22 (tests/pbft/test_checklist.py): age of the oldest request as the
measure of a primary, one execution per bundle whatever is resent, fairness between origins.

A bundle is named by its origin's (incarnation, number) and may execute exactly when it follows the
origin's last executed name: the next number of the same incarnation, or number 1 of a higher one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from aegis_edge.wire.messages import (
    BATCH_BUNDLES_MAX,
    BATCH_BYTES_MAX,
    Bundle,
    Verified,
)

Name = tuple[int, int]

#: How far ahead of its last executed bundle an origin may send: its share of everybody's memory.
AHEAD_MAX = 8
#: How many of the bundles that were executed last may have been what another one waited for.
CARRIED_MAX = 64


def follows(name: Name, last: Name) -> bool:
    """True if the bundle `name` executes right after `last`."""
    if name[0] == last[0]:
        return name[1] == last[1] + 1
    return name[0] > last[0] and name[1] == 1


def _wait_anew(
    waiting: dict[Name, tuple[Verified[Bundle], int]], filled: Name, now_ticks: int
) -> None:
    """What comes after a gap could not execute before `filled` was there: it waits since now.

    Else an origin that keeps a gap open, and fills it when it likes, deposes any primary.
    """
    for name, (bundle, _) in waiting.items():
        if name > filled:
            waiting[name] = (bundle, now_ticks)


class Pool:
    """Waiting bundles by origin; `executed` is the de-duplication table of the agreed state."""

    def __init__(self, executed: dict[bytes, Name]) -> None:
        self.executed = dict(executed)
        self._proposed: dict[bytes, Name] = {}
        self._waiting: dict[bytes, dict[Name, tuple[Verified[Bundle], int]]] = {}
        self._carried: deque[tuple[int, bytes, int]] = deque(maxlen=CARRIED_MAX)
        self._relayed: dict[bytes, dict[Name, int]] = {}
        self._turn = 0
        self._oldest: int | None = None
        self._oldest_known = False  # asked far more often than it changes

    def last_executed(self, origin: bytes) -> Name:
        return self.executed.get(origin, (0, 0))

    def add(self, bundle: Verified[Bundle], now_ticks: int) -> str:
        """Take a bundle in; says "new", "known", "stale", "far" (refused) or "conflict"."""
        name = (bundle.message.incarnation, bundle.message.number)
        last = self.last_executed(bundle.signer)
        if name <= last:
            return "stale"
        ahead = name[1] - (last[1] if name[0] == last[0] else 0)
        waiting = self._waiting.get(bundle.signer, {})
        newest = max(waiting, default=last)[0]
        # A higher incarnation voids what waits, so it begins with its first bundle: else a gap
        # would hide here what others hold to be overdue.
        if ahead > AHEAD_MAX or (name[0] > newest and name[1] != 1):
            return "far"
        if name in waiting:
            return "known" if waiting[name][0].message == bundle.message else "conflict"
        if name[0] < newest:
            return "stale"
        if name[0] > newest:  # the origin restarted: what it did not get executed is void
            waiting.clear()
        waiting = self._waiting.setdefault(bundle.signer, {})
        waiting[name] = (bundle, now_ticks)
        _wait_anew(waiting, name, now_ticks)
        self._oldest_known = False
        return "new"

    def may_relay(self, bundle: Verified[Bundle], now_ticks: int, pause_ticks: int) -> bool:
        """Whether to pass this bundle on now: each one once in `pause_ticks`, and few of an origin.

        Else an origin that says the same again and again would have everybody say it for it.
        """
        recent = {
            name: at
            for name, at in self._relayed.get(bundle.signer, {}).items()
            if now_ticks < at + pause_ticks
        }
        self._relayed[bundle.signer] = recent
        name = (bundle.message.incarnation, bundle.message.number)
        if name in recent or len(recent) >= AHEAD_MAX:
            return False
        recent[name] = now_ticks
        return True

    def eligible(self, origin: bytes, last: Name) -> Iterator[tuple[Verified[Bundle], int]]:
        """The waiting bundles of `origin` that follow `last` without a gap, with their ages."""
        waiting = self._waiting.get(origin, {})
        names = sorted(waiting)
        for name in names:
            if follows(name, last):
                yield waiting[name]
                last = name

    def oldest_ticks(self) -> int | None:
        """Since when the longest-waiting bundle that could execute waits; None if none does."""
        if not self._oldest_known:
            ages = [
                since
                for origin in self._waiting
                for _, since in self.eligible(origin, self.last_executed(origin))
            ]
            self._oldest = min(ages, default=None)
            self._oldest_known = True
        return self._oldest

    def since_ticks(self, bundles: tuple[Verified[Bundle], ...]) -> int | None:
        """Since when the longest-waiting of these that could execute waits; None: none does."""
        names = {(b.signer, b.message.incarnation, b.message.number) for b in bundles}
        ages = [
            since
            for origin in {bundle.signer: None for bundle in bundles}
            for b, since in self.waiting(origin)
            if (origin, b.message.incarnation, b.message.number) in names
        ]
        return min(ages, default=None)

    def waiting(self, origin: bytes) -> list[tuple[Verified[Bundle], int]]:
        """The bundles of `origin` that could execute, oldest first."""
        return list(self.eligible(origin, self.last_executed(origin)))

    def carried_bytes(self, since_ticks: int) -> dict[bytes, int]:
        """What the bundles measure that were executed after `since_ticks`, by origin.

        Whatever waits since then waited for them to arrive, too.
        """
        sizes: dict[bytes, int] = {}
        for at, origin, size in self._carried:
            if at > since_ticks:
                sizes[origin] = sizes.get(origin, 0) + size
        return sizes

    def waiting_bytes(
        self, ordered: Iterable[Verified[Bundle]], since_ticks: int
    ) -> dict[bytes, int]:
        """The same, and of those that could execute: waiting ones, and in `ordered`.

        What is none of these is on its way to nowhere: behind a gap, or executed long ago.
        """
        sizes: dict[bytes, dict[Name, int]] = {}
        for origin in self._waiting:
            for bundle, _ in self.waiting(origin):
                name = (bundle.message.incarnation, bundle.message.number)
                sizes.setdefault(origin, {})[name] = len(bundle.raw)
        for bundle in ordered:
            name = (bundle.message.incarnation, bundle.message.number)
            if name > self.last_executed(bundle.signer):
                sizes.setdefault(bundle.signer, {})[name] = len(bundle.raw)
        total = self.carried_bytes(since_ticks)
        for origin, named in sizes.items():
            total[origin] = total.get(origin, 0) + sum(named.values())
        return total

    def origins(self) -> list[bytes]:
        return sorted(self._waiting)

    def has_unproposed(self) -> bool:
        return any(
            next(self.eligible(origin, self._last_proposed(origin)), None) is not None
            for origin in self._waiting
        )

    def take(self) -> tuple[Verified[Bundle], ...]:
        """The next batch of a primary: a bundle of each origin in turn, within the size bound."""
        origins = self.origins()
        if not origins:
            return ()
        self._turn += 1
        start = self._turn % len(origins)
        queues = [
            (origin, self.eligible(origin, self._last_proposed(origin)))
            for origin in origins[start:] + origins[:start]
        ]
        taken: list[Verified[Bundle]] = []
        size = 0
        while queues and len(taken) < BATCH_BUNDLES_MAX:
            origin, queue = queues.pop(0)
            entry = next(queue, None)
            if entry is None:
                continue
            bundle = entry[0]
            if taken and size + len(bundle.raw) > BATCH_BYTES_MAX:
                break
            taken.append(bundle)
            size += len(bundle.raw)
            self._proposed[origin] = (bundle.message.incarnation, bundle.message.number)
            queues.append((origin, queue))
        return tuple(taken)

    def _last_proposed(self, origin: bytes) -> Name:
        return max(self._proposed.get(origin, (0, 0)), self.last_executed(origin))

    def mark_proposed(self, bundles: tuple[Verified[Bundle], ...]) -> None:
        """These bundles stand in an open slot of this view: they are not proposed again."""
        for bundle in bundles:
            name = (bundle.message.incarnation, bundle.message.number)
            if follows(name, self._last_proposed(bundle.signer)):
                self._proposed[bundle.signer] = name

    def forget_proposed(self, now_ticks: int) -> None:
        """A new view begins: nothing is proposed yet, and every age starts anew."""
        self._oldest_known = False
        self._proposed.clear()
        for waiting in self._waiting.values():
            for name, (bundle, _) in waiting.items():
                waiting[name] = (bundle, now_ticks)

    def jump(self, executed: dict[bytes, Name]) -> None:
        """The state is another one now: what its table holds was executed elsewhere."""
        self._oldest_known = False
        self.executed = dict(executed)
        for origin in self.origins():
            self._drop_executed(origin)

    def _drop_executed(self, origin: bytes) -> None:
        waiting = self._waiting.get(origin, {})
        for name in [n for n in waiting if n <= self.last_executed(origin)]:
            del waiting[name]
        if not waiting:
            self._waiting.pop(origin, None)

    def keep_only(self, members: Collection[bytes], now_ticks: int) -> None:
        """Other members from now on: what strangers want is void, and nothing is proposed yet."""
        self._waiting = {o: waiting for o, waiting in self._waiting.items() if o in members}
        self._relayed = {o: names for o, names in self._relayed.items() if o in members}
        self.forget_proposed(now_ticks)

    def would_execute(self, bundles: tuple[Verified[Bundle], ...]) -> tuple[Verified[Bundle], ...]:
        """What `execute` would give."""
        last: dict[bytes, Name] = {}
        done = []
        for bundle in bundles:
            name = (bundle.message.incarnation, bundle.message.number)
            if follows(name, last.get(bundle.signer, self.last_executed(bundle.signer))):
                last[bundle.signer] = name
                done.append(bundle)
        return tuple(done)

    def execute(
        self, bundles: tuple[Verified[Bundle], ...], now_ticks: int
    ) -> tuple[Verified[Bundle], ...]:
        """Those of a batch's bundles that execute, in order; the rest are repeats or gaps."""
        self._oldest_known = False
        done = []
        for bundle in bundles:
            name = (bundle.message.incarnation, bundle.message.number)
            if follows(name, self.last_executed(bundle.signer)):
                waiting = self._waiting.get(bundle.signer, {})
                if name not in waiting:  # this is the first that is heard of it here
                    _wait_anew(waiting, name, now_ticks)
                self.executed[bundle.signer] = name
                self._carried.append((now_ticks, bundle.signer, len(bundle.raw)))
                done.append(bundle)
        for origin in {b.signer: None for b in done}:
            self._drop_executed(origin)
        return tuple(done)

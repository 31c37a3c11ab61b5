"""Links between simulated nodes: they lose, delay, double, reorder, partition, and come and go.

Knows which pairs can reach each other and which ends believe that they can: the two differ for as
long as it takes to notice.  Refuses to know what the messages say.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.sim.plan import Weather

#: What waits for one line at most: as with real links, what comes last is dropped.
QUEUE_BYTES_MAX = 1 << 20


class Clockwork(Protocol):
    """What the network needs of its world."""

    now: int

    def at(self, tick: int, action: Callable[[Any], None], argument: Any) -> None: ...


@dataclass(slots=True)
class End:
    """One end of a link: what one node believes about its link to another, and sends into it."""

    up: bool = False
    #: Raised by every connection: what was sent into an earlier one is lost when links are ordered.
    connection: int = 0
    #: Silent loss of what goes out, by any number of causes at once.
    blocked: int = 0
    slower: int = 0
    last_arrival: int = 0
    #: What waits for its turn on a line that carries little, with when it will have left.
    queue: deque[tuple[int, bytes]] = field(default_factory=deque)
    queue_bytes: int = 0


class Network:
    """All links of one cluster.

    `opened(node, peer)` and `closed(node, peer)` tell a node about its links, `arrived(node, peer,
    raw)` hands it a message; `alive(node)` says whether it runs.
    `bytes_a_tick`: what each line carries, one message after another; 0: as much as there is.
    """

    def __init__(
        self,
        clockwork: Clockwork,
        n: int,
        weather: Weather,
        chance: random.Random,
        *,
        alive: Callable[[int], bool],
        opened: Callable[[int, int], None],
        closed: Callable[[int, int], None],
        arrived: Callable[[int, int, bytes], None],
        bytes_a_tick: int = 0,
    ) -> None:
        self._clock = clockwork
        self._n = n
        self._bytes_a_tick = bytes_a_tick
        self.weather = weather
        self._random = chance.random
        self._alive, self._opened, self._closed, self._arrived = alive, opened, closed, arrived
        self._ends = [[End() for _ in range(n)] for _ in range(n)]
        self._cuts = [[0] * n for _ in range(n)]
        self.sent = self.lost = 0

    # --- messages ---

    def send(self, source: int, target: int, raw: bytes, later: int = 0) -> None:
        """Give `raw` to the link; it arrives once, never, or twice."""
        end = self._ends[source][target]
        if not end.up:
            return
        self.sent += 1
        if self._bytes_a_tick:
            turn = self._turn(end, raw)
            if turn is None:
                return
            later += turn
        weather = self.weather
        chance = self._random
        if end.blocked or (weather.loss and chance() < weather.loss):
            self.lost += 1
            return
        self._schedule(source, target, end, raw, later)
        if weather.doubled and chance() < weather.doubled:
            self._schedule(source, target, end, raw, later)

    def _turn(self, end: End, raw: bytes) -> int | None:
        """In how many ticks `raw` will have left; None if it waits already, or there is no room."""
        now, queue = self._clock.now, end.queue
        while queue and queue[0][0] <= now:
            end.queue_bytes -= len(queue.popleft()[1])
        if end.queue_bytes + len(raw) > QUEUE_BYTES_MAX or any(raw == each for _, each in queue):
            return None
        free_at = queue[-1][0] if queue else now
        free_at += -(-len(raw) // self._bytes_a_tick)
        queue.append((free_at, raw))
        end.queue_bytes += len(raw)
        return free_at - now

    def _schedule(self, source: int, target: int, end: End, raw: bytes, later: int) -> None:
        weather = self.weather
        chance = self._random
        delay = weather.delay + int(chance() * (weather.jitter + 1)) + end.slower + later
        if weather.straggle and chance() < weather.straggle:
            delay += int(chance() * weather.straggle_ticks)
        arrival = self._clock.now + delay
        if weather.ordered:
            arrival = max(arrival, end.last_arrival)
            end.last_arrival = arrival
        self._clock.at(arrival, self._arrive, (source, target, raw, end.connection))

    def _arrive(self, what: tuple[int, int, bytes, int]) -> None:
        source, target, raw, connection = what
        end = self._ends[target][source]
        if (end.up and end.connection == connection) or not self.weather.ordered:
            self._arrived(target, source, raw)
        else:
            self.lost += 1

    # --- links ---

    def refresh(self, a: int, b: int, patience: int = 40) -> None:
        """Something changed between two nodes: their link comes or goes within `patience` ticks."""
        if a != b:
            delay = 1 + int(self._random() * patience)
            self._clock.at(self._clock.now + delay, self._settle, (min(a, b), max(a, b)))

    def refresh_all(self, patience: int = 40) -> None:
        for a in range(self._n):
            for b in range(a):
                self.refresh(a, b, patience)

    def _settle(self, pair: tuple[int, int]) -> None:
        a, b = pair
        there, back = self._ends[a][b], self._ends[b][a]
        wanted = self._alive(a) and self._alive(b) and not self._cuts[a][b]
        if wanted and not (there.up and back.up):
            self._drop(a, b)
            connection = max(there.connection, back.connection) + 1
            for end in (there, back):
                end.connection = connection
                end.last_arrival = self._clock.now
                end.queue, end.queue_bytes = deque(), 0
                end.up = True
            self._opened(a, b)
            self._opened(b, a)
        elif not wanted:
            self._drop(a, b)

    def _drop(self, a: int, b: int) -> None:
        for node, peer in ((a, b), (b, a)):
            end = self._ends[node][peer]
            if end.up:
                end.up = False
                self._closed(node, peer)

    def reset(self, a: int, b: int) -> None:
        """The link breaks, and is dialled again soon."""
        self._drop(a, b)
        self.refresh(a, b, 100)

    def crashed(self, node: int) -> None:
        """The node's own ends vanish at once; its peers notice when they notice."""
        for peer in range(self._n):
            self._ends[node][peer].up = False
            self.refresh(node, peer, 200)

    def started(self, node: int) -> None:
        for peer in range(self._n):
            self.refresh(node, peer)

    # --- faults ---

    def cut(self, a: int, b: int, by: int) -> None:
        """Nothing passes between two nodes; after a while both notice.  `by` is +1 or -1."""
        self._cuts[a][b] += by
        self._cuts[b][a] += by
        self.block(a, b, by)
        self.block(b, a, by)
        self.refresh(a, b, 300 if by > 0 else 100)

    def block(self, source: int, target: int, by: int) -> None:
        """Nothing passes in one direction, and nobody notices."""
        self._ends[source][target].blocked += by

    def slow(self, source: int, target: int, by: int) -> None:
        self._ends[source][target].slower += by

    def mend(self, weather: Weather) -> None:
        """No more faults: every pair of nodes that run gets a link that works."""
        self.weather = weather
        for a in range(self._n):
            for b in range(self._n):
                end = self._ends[a][b]
                end.blocked = end.slower = self._cuts[a][b] = 0
        self.refresh_all()

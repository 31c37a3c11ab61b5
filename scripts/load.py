"""One closed loop of callers in a process of its own: puts of 100 bytes, as fast as they return.

Five kinds, all on one thread, so that what is measured is the cluster and not its client: each
sends what its callers have to say in one write, and takes all answers that one read brings.
`bulk` is one program that writes as fast as a pipeline takes it: nobody waits for a single put, so
its latencies are 0.  Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

import trio

import aegis_edge.client
import etcd
from aegis_edge.client import ClientError, protocol
from aegis_edge.client.flight import FRAME_OPERATIONS, Flight

VALUE = b"v" * 100
#: What was asked longer ago than this is not coming.
PATIENCE_S = 300.0


class Caller(Protocol):
    """Any number of puts in flight."""

    def start(self, keys: Iterable[str]) -> list[int]:
        """Sends puts; a ticket for each."""

    def finished(self) -> list[int]:
        """Waits for at least one answer; the tickets of all puts that are durable now."""


class Etcd:
    """etcd's gRPC, one HTTP/2 connection."""

    def __init__(self, target: str) -> None:
        self._caller = etcd.Caller(int(target))

    def start(self, keys: Iterable[str]) -> list[int]:
        return self._caller.start([etcd.put_request(key.encode(), VALUE) for key in keys])

    def finished(self) -> list[int]:
        return self._caller.finished()


class Pipeline:
    """The node's pipeline, one connection, driven without a scheduler."""

    def __init__(self, target: str) -> None:
        self._flight, self._inbox = Flight(), protocol.Inbox()
        self._open: set[int] = set()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(target)
        self._socket.sendall(protocol.upgrade())
        self._drain(protocol.upgraded(self._inbox))

    def start(self, keys: Iterable[str]) -> list[int]:
        tickets = [self._flight.put(key, VALUE) for key in keys]
        for ticket in tickets:
            self._flight.claim(ticket)
        self._open.update(tickets)
        self._socket.sendall(self._flight.frame())
        return tickets

    def finished(self) -> list[int]:
        self._drain(self._flight.answers(self._inbox))
        done = [ticket for ticket in self._open if self._flight.answered(ticket)]
        for ticket in done:
            self._flight.result(ticket)
        self._open.difference_update(done)
        return done

    def _drain(self, parser: protocol.Parser[None]) -> None:
        for _ in parser:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ClientError("the node closed the pipeline")
            self._inbox.feed(data)


class Bulk(Pipeline):
    """The same pipeline, as full as it may be; counts answers and does not look for each."""

    def fill(self, keys: Iterator[str], until: float) -> int:
        """Puts until it is full, or time or keys are up; how many answers came meanwhile."""
        flight = self._flight
        while not flight.full and time.perf_counter() < until:
            for key in itertools.islice(keys, FRAME_OPERATIONS):
                flight.put(key, VALUE)
            frame = flight.frame()
            if not frame:
                break
            self._socket.sendall(frame)
        if flight.open:
            self._drain(flight.answers(self._inbox))
        return len(flight.all_written(flight.landed()))

    @property
    def open(self) -> int:
        return self._flight.open


class Http:
    """The node's HTTP, one kept connection for each caller."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._idle: list[tuple[socket.socket, protocol.Inbox]] = []
        self._next = 0

    def start(self, keys: Iterable[str]) -> list[int]:
        tickets = []
        for key in keys:
            wire, inbox = self._idle.pop() if self._idle else self._connection()
            call = protocol.put(key, VALUE, None, PATIENCE_S)
            wire.sendall(call.request)
            waiting = (self._next, call, protocol.response(inbox), inbox)
            self._selector.register(wire, selectors.EVENT_READ, waiting)
            tickets.append(self._next)
            self._next += 1
        return tickets

    def finished(self) -> list[int]:
        done: list[int] = []
        while not done:
            for key, _ in self._selector.select(PATIENCE_S):
                wire = key.fileobj
                assert isinstance(wire, socket.socket)
                ticket, call, parser, inbox = key.data
                inbox.feed(wire.recv(1 << 16))
                try:
                    next(parser)
                except StopIteration as end:
                    call.read(end.value)
                    self._selector.unregister(wire)
                    self._idle.append((wire, inbox))
                    done.append(ticket)
        return done

    def _connection(self) -> tuple[socket.socket, protocol.Inbox]:
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(PATIENCE_S)
        wire.connect(self._target)
        return wire, protocol.Inbox()


class Loop:
    """Keeps `callers` puts in flight until time or number is up; what each one took."""

    def __init__(self, prefix: str) -> None:
        self.latencies: list[float] = []
        self._prefix, self._number = prefix, 0

    def key(self) -> str:
        self._number += 1
        return f"{self._prefix}/{self._number:08d}"

    def run(self, caller: Caller, callers: int, seconds: float, count: int) -> float:
        """Returns the seconds that passed."""
        born: dict[int, float] = {}
        began = time.perf_counter()
        until = began + seconds
        room = callers
        while True:
            now = time.perf_counter()
            if room and now < until and self._number < count:
                keys = [self.key() for _ in range(min(room, count - self._number))]
                for ticket in caller.start(keys):
                    born[ticket] = now
            if not born:
                return time.perf_counter() - began
            done = caller.finished()
            now = time.perf_counter()
            self.latencies.extend(now - born.pop(ticket) for ticket in done)
            room = len(done)

    def bulk(self, target: str, seconds: float, count: int) -> float:
        """As many puts as go; the seconds that passed."""
        caller = Bulk(target)
        began = time.perf_counter()
        keys = (self.key() for _ in range(count))
        while True:
            self.latencies += [0.0] * caller.fill(keys, began + seconds)
            if not caller.open:
                return time.perf_counter() - began

    async def tasks(self, target: str, callers: int, seconds: float, count: int) -> float:
        """The same with a Trio task for each caller, sharing a pipeline as a program would."""
        began = time.perf_counter()
        until = began + seconds

        async def caller() -> None:
            while time.perf_counter() < until and self._number < count:
                asked = time.perf_counter()
                await pipeline.put_and_wait(self.key(), VALUE)
                self.latencies.append(time.perf_counter() - asked)

        async with (
            aegis_edge.client.connect(target, timeout_s=PATIENCE_S) as client,
            client.pipeline() as pipeline,
            trio.open_nursery() as nursery,
        ):
            for _ in range(callers):
                nursery.start_soon(caller)
        return time.perf_counter() - began


KINDS: dict[str, type[Etcd] | type[Pipeline] | type[Http]] = {
    "etcd": Etcd,
    "pipeline": Pipeline,
    "http": Http,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, "bulk", "tasks"])
    parser.add_argument("target", help="a port of etcd, or a node's socket")
    parser.add_argument("prefix", help="of the keys, which are all different")
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=1 << 40, help="stop after so many puts")
    options = parser.parse_args()
    loop = Loop(options.prefix)
    bounds = (options.callers, options.seconds, options.count)
    if options.kind == "tasks":
        seconds = trio.run(loop.tasks, options.target, *bounds, strict_exception_groups=True)
    elif options.kind == "bulk":
        seconds = loop.bulk(options.target, options.seconds, options.count)
    else:
        seconds = loop.run(KINDS[options.kind](options.target), *bounds)
    used = resource.getrusage(resource.RUSAGE_SELF)
    took = sorted(loop.latencies)
    figures = {
        "puts": len(took),
        "seconds": seconds,
        "ops_per_s": len(took) / seconds,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
        "client_cpu_s": used.ru_utime + used.ru_stime,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

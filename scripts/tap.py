"""What an observer of the line sees: a proxy for tors that notes every read, and changes nothing.

    python tap.py PORT FILE

A tor with `HTTPSProxy 127.0.0.1:PORT` and `HTTPSProxyAuthenticator LINE:tap` reaches its guards
through it; LINE is the number under which it is noted.  FILE gets a `RECORD` for each read, once it
has passed.  Says `ready` once it listens; the end of standard input is the end.
Knows no protocol but HTTP's CONNECT: no byte is lost, changed, moved, or waits.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import resource
import struct
import sys
import time

import trio

#: When (the system's monotonic clock, in seconds); line; connection, counted over all lines; bytes
#: in one TCP read: above zero from that tor to its guard, below zero to it.
RECORD = struct.Struct("<dIIi")

READ_BYTES = 65_536
HEAD_BYTES_MAX = 4_096
_CONNECT = re.compile(rb"CONNECT 127\.0\.0\.1:(\d{1,5}) HTTP/1\.[01]\r\n")
_LINE = re.compile(rb"\r\nProxy-Authorization: Basic (\S+)\r\n", re.IGNORECASE)
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Tap:
    """All connections of all lines, and the file in which they are noted."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._connections = itertools.count()

    async def handle(self, near: trio.SocketStream) -> None:
        """One connection: whichever side ends or breaks ends both."""
        async with near:
            try:
                port, line = await _asked(near)
                far = await trio.open_tcp_stream("127.0.0.1", port)
                await near.send_all(b"HTTP/1.0 200 OK\r\n\r\n")
            except (*_BROKEN, OSError, ValueError):
                return
            number = next(self._connections)
            async with far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, near, far, line, number, 1, nursery.cancel_scope)
                nursery.start_soon(self._pass, far, near, line, number, -1, nursery.cancel_scope)

    async def _pass(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        line: int,
        number: int,
        sign: int,
        connection: trio.CancelScope,
    ) -> None:
        try:
            while chunk := await source.receive_some(READ_BYTES):
                seen = time.monotonic()
                await sink.send_all(chunk)
                os.write(self._file, RECORD.pack(seen, line, number, sign * len(chunk)))
        except _BROKEN:
            pass  # its other end is told by the end of this one
        connection.cancel()


async def _asked(near: trio.SocketStream) -> tuple[int, int]:
    """Where a tor wants to go, and on which line it is; ValueError if it does not say so."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = await near.receive_some(HEAD_BYTES_MAX)
        head += more
        if not more or len(head) > HEAD_BYTES_MAX:
            raise ValueError("no head of a request")
    where, who = _CONNECT.match(head), _LINE.search(head)
    if where is None or who is None:
        raise ValueError("no request of a tor of ours")
    return int(where[1]), int(base64.b64decode(who[1]).partition(b":")[0])


async def main(port: int, path: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1", backlog=1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, Tap(file).handle, listeners)
        print("ready", flush=True)
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as orders:
            async for _ in orders:
                pass
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])

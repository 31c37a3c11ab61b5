"""Distance where there is none: what comes to one port of loopback goes on to another, later.

    python delay.py LISTEN:TARGET ...

Says `ready` once it listens.  Standard input says how many milliseconds each direction waits from
now on, a number a line; its end is the end.  Knows no protocol: no byte is lost, changed or moved.
"""

from __future__ import annotations

import os
import sys

import trio

#: On its way in one direction at most: far more than tor's own flow control leaves in flight.
CHUNKS_MAX, CHUNK_BYTES = 1024, 16384
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Distance:
    """What lies between the ports, the same for all connections, and for those that stand too."""

    def __init__(self) -> None:
        self.delay_s = 0.0

    async def follow(self, orders: trio.abc.ReceiveStream) -> None:
        """Sets the delay as told, until nobody is left to tell."""
        rest = b""
        async for chunk in orders:
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                self.delay_s = float(lines[-1]) / 1000

    async def between(self, here: trio.SocketStream, port: int) -> None:
        """One connection: whichever side ends or breaks ends both, once its bytes have arrived."""
        try:
            there = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await here.aclose()  # as if nobody listened here either
            return
        async with here, there, trio.open_nursery() as nursery:
            for source, sink in ((here, there), (there, here)):
                send, receive = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)
                nursery.start_soon(self._take, source, send)
                nursery.start_soon(self._give, receive, sink, nursery.cancel_scope)

    async def _take(
        self, source: trio.SocketStream, send: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        async with send:
            try:
                while chunk := await source.receive_some(CHUNK_BYTES):
                    await send.send((trio.current_time() + self.delay_s, chunk))
            except BROKEN:
                pass  # what it sent before still arrives

    @staticmethod
    async def _give(
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.SocketStream,
        connection: trio.CancelScope,
    ) -> None:
        try:
            async for due, chunk in receive:
                await trio.sleep_until(due)
                await sink.send_all(chunk)
        except BROKEN:
            pass  # nobody is there to hear the rest
        connection.cancel()


async def main(pairs: list[str]) -> None:
    distance = Distance()
    async with trio.open_nursery() as nursery:
        for pair in pairs:
            listen, target = map(int, pair.split(":"))

            async def handle(stream: trio.SocketStream, port: int = target) -> None:
                await distance.between(stream, port)

            listeners = await trio.open_tcp_listeners(listen, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, handle, listeners)
        print("ready", flush=True)
        await distance.follow(trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])

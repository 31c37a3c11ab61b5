"""A listener that says what a test tells it to: a hostile or broken program in tor's place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from aegis_edge.net.tor.endpoint import Endpoint

Script = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(script: Script) -> AsyncIterator[Endpoint]:
    """Run `script` for each connection to the endpoint."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await script(stream)
                except trio.BrokenResourceError:
                    pass  # whoever called has had enough

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield Endpoint(host="127.0.0.1", port=listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()

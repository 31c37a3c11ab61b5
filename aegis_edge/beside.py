"""What stands beside a node for its owner's programs: the client of the node whose home this is.

Knows how the home leads to the node's API.  Refuses to know what is asked there: `network` and
`consensus` do.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import Self

from aegis_edge import config
from aegis_edge.client import connect


class Beside:
    """The node whose home this is, while the block lasts.

    `home`: its home directory; by default the one that the `aegis-edge` command would use.  Raises
    `ConfigError`; each call raises `ClientError`, `NotRunning` among them.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        settings = config.load({"home": None if home is None else os.fspath(home)})
        self._socket = str(settings.api_socket)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._client = await self._stack.enter_async_context(connect(self._socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

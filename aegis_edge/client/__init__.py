"""The library for programs that use a node on this board: plain or Trio, one shape.

Knows the local API of one node, over its Unix socket.  Refuses to know other nodes, keys, settings.
Plain code needs the standard library only; Trio is imported when `connect` is called.

    with aegis_edge.client.Client("/run/aegis-edge/api.sock") as kb:
        kb.put("greenhouse/door", {"open": False})
        print(kb.get("greenhouse/door").value)

    async with aegis_edge.client.connect("/run/aegis-edge/api.sock") as kb:
        await kb.put("greenhouse/door", {"open": True})
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from aegis_edge.client.plain import Client, Pipeline
from aegis_edge.client.protocol import (
    Change,
    ClientError,
    Conflict,
    Disconnected,
    Entry,
    Garbled,
    Invalid,
    JsonText,
    NoQuorum,
    NotFound,
    NotRunning,
    Refused,
    TimedOut,
    TooLarge,
    Version,
    Written,
)

if TYPE_CHECKING:
    from aegis_edge.client.concurrent import TrioClient

__all__ = [
    "Change",
    "Client",
    "ClientError",
    "Conflict",
    "Disconnected",
    "Entry",
    "Garbled",
    "Invalid",
    "JsonText",
    "NoQuorum",
    "NotFound",
    "NotRunning",
    "Pipeline",
    "Refused",
    "TimedOut",
    "TooLarge",
    "Version",
    "Written",
    "connect",
]


def connect(
    path: str, *, timeout_s: float | None = None
) -> AbstractAsyncContextManager[TrioClient]:
    """A client for Trio: ``async with connect(path) as kb: await kb.put(key, value)``.

    `path` is the node's socket; `timeout_s` bounds every call, as for `Client`.  Raises
    `NotRunning` at the first call that finds nobody there.
    """
    from aegis_edge.client import concurrent

    return concurrent.opened(path, timeout_s=timeout_s)

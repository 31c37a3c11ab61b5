"""The network of a node, as its owner's programs see it: who its peers are, and how to try one.

    async with P2PNetworkManager() as network:
        for peer in await network.discover_peers():
            print(peer.name, peer.state, peer.last_error)
        await network.connect_to_peer("tcp:192.168.1.20:8080")

Knows which answers of the local API tell of peers.  Refuses to know links, and to make one of its
own: the node does, by its own rules.  Who is a peer the members decide (see `consensus`): nobody is
found by asking around.  Trio coroutines, all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from aegis_edge.beside import Beside
from aegis_edge.client import ClientError, TimedOut

CONNECT_S = 60.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Peer:
    """Another member, as the node has it.

    `state`: linked, dialling, waiting, expected (it has to call), or banned; `last_error`: why
    there is no link, "" while all is well; `score`: what its links were like, from 0 to 100;
    `rtt_ms`: how long a round trip takes, if that was measured.
    """

    node_id: str
    name: str
    state: str
    addresses: tuple[str, ...]
    last_error: str
    score: int
    rtt_ms: float | None

    @property
    def is_linked(self) -> bool:
        return self.state == "linked"

    @classmethod
    def of(cls, row: dict[str, Any]) -> Peer:
        return cls(
            row["peer"],
            row["name"],
            row["state"],
            tuple(row["addresses"]),
            row["last_error"],
            row["score"],
            row["rtt_ms"],
        )


class P2PNetworkManager(Beside):
    """The peers of the node whose home this is, while the block lasts.

    `home`: its home directory; by default the one that the `aegis-edge` command would use.  Raises
    `ConfigError`; each call raises `ClientError`, `NotRunning` among them.
    """

    async def discover_peers(self) -> tuple[Peer, ...]:
        """The other members, in the order of their keys, with the newest that is known of each."""
        rows = (await self._client.peers())["peers"]
        return tuple(Peer.of(row) for row in rows if row.get("role", "member") == "member")

    async def connect_to_peer(self, address: str, *, timeout_s: float = CONNECT_S) -> Peer:
        """Have the member at `address`, such as ``tcp:HOST:PORT``, dialled now; it once linked.

        Raises `NotFound` if no member says that it is there, `TimedOut` if there is no link after
        `timeout_s`: the node goes on trying.
        """
        node_id = (await self._client.dial(address))["peer"]
        seen: Peer | None = None
        with trio.move_on_after(timeout_s):
            while True:
                peers = {peer.node_id: peer for peer in await self.discover_peers()}
                seen = peers.get(node_id)
                if seen is None:
                    raise ClientError(f"{address} is no member's any more")
                if seen.is_linked:
                    return seen
                await trio.sleep(_LOOK_S)
        why = f": {seen.last_error}" if seen is not None and seen.last_error else ""
        raise TimedOut(f"no link to {address} within {timeout_s:g} s{why}")

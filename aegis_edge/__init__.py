"""aegis-edge: a few small boards share knowledge and decide together, whatever f of them do.

The house.  Imports go strictly down by floor, and on a floor by step; never sideways.

    6    cli          one screen per command; a client of the local API
    5.3  node         composes the tasks of one node: no decisions, no state
    5.2  way          the way that links travel: straight, or through Tor
    5.1  home         its record, its cluster, the members' names
         invitations  who is invited, and what a newcomer is told
         bans         whom the owner keeps out
         engine       the node's identity signs for its owner
         gateway      onion services and streams through Tor for programs
         network      the node's peers, for programs
         consensus    how its cluster stands and changes, for programs
    5.0  beside       the client of the node whose home this is
    4    replication  owns the replica and performs its effects, in order
         api          HTTP/1.1 on a Unix socket
         client       the same, for Python programs
         config       one TOML file, and the environment
         supervisor   what systemd is told of the node
    3.1  net          links to the peers: Trio begins here
         disk         the SQLite database and the key file
    3.0  membership   what the roll of members means for agreement, links and people
         proof        a value that proves itself to whoever has the genesis
    2    pbft         agreement, as a pure state machine: step(event) -> effects
         knowledge    what is agreed upon: keys, versions, the state root
         peers        who exists: ids, the genesis, the dial plan
    1    wire         bytes <-> meaning; bad input raises WireError and nothing else
    0    crypto       bytes in, bytes out; entropy is an argument

Floors 0 to 2 know no clock, no chance, no I/O and no concurrency: time and entropy are arguments,
so the simulator runs the same code as the node.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "CryptoEngine",
    "HybridConsensus",
    "P2PNetworkManager",
    "SecurityLevel",
    "__version__",
    "create_secure_tor_gateway",
]

if TYPE_CHECKING:
    from aegis_edge.consensus import HybridConsensus
    from aegis_edge.engine import CryptoEngine
    from aegis_edge.gateway import SecurityLevel, create_secure_tor_gateway
    from aegis_edge.network import P2PNetworkManager
else:
    _ROOMS = {
        "CryptoEngine": "engine",
        "HybridConsensus": "consensus",
        "P2PNetworkManager": "network",
        "SecurityLevel": "gateway",
        "create_secure_tor_gateway": "gateway",
    }

    def __getattr__(name: str) -> Any:
        """Public names load what stands behind them when they are first asked for."""
        if name in _ROOMS:
            return getattr(import_module(f"aegis_edge.{_ROOMS[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

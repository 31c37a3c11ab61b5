"""The local API: HTTP/1.1 on a Unix socket, for the command line and for programs on this board.

Knows routes, bounds, errors with advice, and one fast path, the pipeline.
Refuses to know how writes are agreed on or where values lie: `port` says what it needs of the node.
Bad bytes, slow clients and lost ones end in their own connection and nowhere else.
"""

from aegis_edge.api.http import serve
from aegis_edge.api.listener import ApiError, open_listener
from aegis_edge.api.port import Node

__all__ = ["ApiError", "Node", "open_listener", "serve"]

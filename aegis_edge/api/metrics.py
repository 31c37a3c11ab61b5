"""The node's figures as Prometheus text.

Knows which field of the status is which metric.  Refuses to know how it is counted.
Follows: the Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Field of the status, name, kind, help.
_TABLE = (
    ("nodes", "nodes", "gauge", "Members of the cluster."),
    ("quorum", "quorum_nodes", "gauge", "Members that must agree."),
    ("has_quorum", "has_quorum", "gauge", "1 if enough members are reachable."),
    ("view", "view", "gauge", "The view of the agreement."),
    ("view_changing", "view_changing", "gauge", "1 while a primary is being replaced."),
    ("executed", "executed_sequence", "counter", "The last executed batch."),
    ("stable", "stable_sequence", "counter", "The last stable checkpoint."),
    ("revision", "revision", "counter", "The newest revision of the knowledge base."),
    ("pending", "pending_operations", "gauge", "Operations of local callers without an answer."),
    ("operations", "operations_total", "counter", "Executed operations."),
    ("own_operations", "own_operations_total", "counter", "Executed operations of local callers."),
    ("batches", "batches_total", "counter", "Executed batches."),
    ("transactions", "transactions_total", "counter", "Writes handed to the database."),
    ("rotten", "rotten_rows", "gauge", "Rows that the disk spoilt and that are not mended yet."),
    ("mended", "mended_rows_total", "counter", "Rows that the disk spoilt and others gave back."),
    ("scrubs", "scrubs_total", "counter", "Whole walks over the own database."),
    ("messages_in", "messages_received_total", "counter", "Messages from peers."),
    ("messages_out", "messages_sent_total", "counter", "Messages to peers."),
)


def rendered(status: Mapping[str, Any]) -> str:
    """The metrics for a status; fields that it lacks are left out."""
    return "\n".join([*_lines(status), ""])


def _lines(status: Mapping[str, Any]) -> Iterator[str]:
    for field, name, kind, text in _TABLE:
        value = status.get(field)
        if isinstance(value, (bool, int, float)):
            yield f"# HELP aegis_edge_{name} {text}"
            yield f"# TYPE aegis_edge_{name} {kind}"
            yield f"aegis_edge_{name} {float(value):.17g}"
    reachable = status.get("reachable")
    if isinstance(reachable, (list, tuple)):
        yield "# HELP aegis_edge_reachable_nodes Other members that are reachable."
        yield "# TYPE aegis_edge_reachable_nodes gauge"
        yield f"aegis_edge_reachable_nodes {len(reachable)}"

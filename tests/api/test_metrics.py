"""Metrics as Prometheus reads them."""

from __future__ import annotations

import re

from aegis_edge.api import metrics


def test_every_figure_has_its_help_its_type_and_its_value() -> None:
    text = metrics.rendered(
        {"nodes": 4, "has_quorum": True, "operations": 7, "reachable": ["a", "b"], "name": "attic"}
    )
    assert "aegis_edge_nodes 4\n" in text
    assert "aegis_edge_has_quorum 1\n" in text
    assert "aegis_edge_reachable_nodes 2\n" in text
    assert "# TYPE aegis_edge_operations_total counter\n" in text
    assert "attic" not in text
    assert text.endswith("\n")
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) aegis_edge_\w+ .+|aegis_edge_\w+ \d+", line)

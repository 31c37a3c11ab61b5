"""The port is what the node's replication gives, and what the twin of these tests gives."""

from __future__ import annotations

import inspect

import pytest

from aegis_edge import replication
from aegis_edge.api import port
from aegis_edge.api.messages import STATUS
from tests.api import node


@pytest.mark.parametrize("kind", [replication.Replication, node.Replication])
@pytest.mark.parametrize(
    "name", [name for name in vars(port.Replication) if not name.startswith("_")]
)
def test_methods_have_the_parameters_that_the_port_names(kind: type, name: str) -> None:
    wanted = inspect.signature(getattr(port.Replication, name)).parameters
    method = getattr(kind, name)
    found = inspect.signature(method).parameters
    assert list(found)[: len(wanted)] == list(wanted)
    wanted_async = inspect.iscoroutinefunction(getattr(port.Replication, name))
    assert inspect.iscoroutinefunction(method) == wanted_async


def test_every_failure_of_the_node_has_a_status() -> None:
    kinds = replication.ReplicationError.__subclasses__()
    assert kinds
    assert {kind.code for kind in kinds} <= set(STATUS)

from __future__ import annotations

from aegis_edge.replication import errors
from aegis_edge.replication.errors import ReplicationError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ReplicationError)
]


def test_each_error_has_a_code_of_its_own_and_advice() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS) == 10
    assert all(kind.advice for kind in KINDS)

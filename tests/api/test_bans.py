"""The routes about bans, over a desk that remembers what it was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_edge.api.bans import FOR_S_MAX
from aegis_edge.api.messages import Refusal, Request
from aegis_edge.api.routes import waits
from aegis_edge.peers.identity import node_id
from tests.api.node import FOUNDERS, Replication
from tests.api.test_members import ask

KEY = FOUNDERS.members[1]
ID = node_id(KEY)


async def test_a_node_is_kept_out_and_let_in_again() -> None:
    node = Replication()
    said = await ask(node, "POST", "ban", {"id": ID, "for_s": 3600})
    assert said == {"id": ID, "for_s": 3600, "warning": ""}
    assert node.bans.kept == {KEY: 3600}
    node.bans.warning = "it is needed"
    said = await ask(node, "POST", "ban", {"id": ID, "for_s": None})
    assert (said["for_s"], said["warning"]) == (None, "it is needed")
    assert await ask(node, "POST", "unban", {"id": ID}) == {"id": ID}
    assert node.bans.kept == {}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("ban", None, "id and for_s"),
        ("ban", {"id": ID}, "id and for_s"),
        ("ban", {"id": "attic", "for_s": None}, "node id"),
        ("ban", {"id": ID, "for_s": 0}, "whole number of seconds"),
        ("ban", {"id": ID, "for_s": FOR_S_MAX + 1}, "whole number of seconds"),
        ("ban", {"id": ID, "for_s": True}, "whole number of seconds"),
        ("ban", {"id": ID, "for_s": "1h"}, "whole number of seconds"),
        ("unban", None, "id"),
        ("unban", {"id": 7}, "node id|does not occur"),
    ],
)
async def test_what_is_not_understood_is_refused(path: str, body: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        await ask(Replication(), "POST", path, body)


@pytest.mark.parametrize("path", ["/v1/ban", "/v1/unban"])
def test_nobody_waits_for_the_others(path: str) -> None:
    assert not waits(Request("POST", path, {}, True, b""))

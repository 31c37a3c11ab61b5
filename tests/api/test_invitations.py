"""The routes about invitations, over a desk that a test writes."""

from __future__ import annotations

from typing import Any

import pytest

from aegis_edge.api.invitations import LIFETIME_S_MAX, LIFETIME_S_MIN
from aegis_edge.api.messages import Refusal
from aegis_edge.api.port import Invited
from aegis_edge.peers.identity import node_id
from tests.api.node import FOUNDERS, NEWCOMER, TIME_MS, Replication
from tests.api.test_members import ask

HOUR = {"for_s": 3600, "instead_of": None}


async def test_an_invitation_is_made_listed_and_cancelled() -> None:
    node = Replication()
    said = await ask(node, "POST", "invitations", HOUR)
    row = {
        "invitation": "00000000",
        "state": "open",
        "until_ms": TIME_MS + 3_600_000,
        "instead_of": None,
        "guest": None,
        "guest_name": None,
        "proposal": None,
        "observer": False,
    }
    assert said == {"code": node.desk.code, **row}
    assert (await ask(node, "GET", "invitations")) == {"invitations": [row]}, "no code is shown"
    assert (await ask(node, "POST", "cancel", {"invitation": "00000000"})) == {
        "invitation": "00000000"
    }
    (listed,) = (await ask(node, "GET", "invitations"))["invitations"]
    assert listed["state"] == "cancelled"


async def test_one_in_the_place_of_a_member_names_it_and_the_guest() -> None:
    node = Replication()
    old = FOUNDERS.members[1]
    said = await ask(node, "POST", "invitations", {"for_s": 60, "instead_of": node_id(old)})
    assert said["instead_of"] == "n1"
    lifetime_s, instead_of, timeout_s = node.desk.wanted[0]
    assert (lifetime_s, instead_of, timeout_s) == (60, old, 40)
    node.desk.rows = [Invited("a", "waiting", 1, old, NEWCOMER.signer, 7)]
    (listed,) = (await ask(node, "GET", "invitations"))["invitations"]
    assert (listed["guest"], listed["guest_name"]) == (node_id(NEWCOMER.signer), "new")
    assert (listed["state"], listed["proposal"]) == ("waiting", 7)


async def test_one_for_an_observer_says_so_and_names_its_guest() -> None:
    node = Replication()
    assert (await ask(node, "POST", "invitations", HOUR | {"observer": True}))["observer"] is True
    assert node.desk.rows[0].is_observer
    node.desk.rows = [Invited("a", "observes", 1, None, NEWCOMER.signer, 0, True)]
    node.desk.vouched = {NEWCOMER.signer: "shed"}
    (listed,) = (await ask(node, "GET", "invitations"))["invitations"]
    assert (listed["state"], listed["guest_name"], listed["observer"]) == ("observes", "shed", True)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("invitations", None, "for_s and instead_of"),
        ("invitations", {"for_s": 3600}, "for_s and instead_of"),
        ("invitations", HOUR | {"for_s": LIFETIME_S_MIN - 1}, "whole number of seconds"),
        ("invitations", HOUR | {"for_s": LIFETIME_S_MAX + 1}, "whole number of seconds"),
        ("invitations", HOUR | {"for_s": "1h"}, "whole number of seconds"),
        ("invitations", HOUR | {"for_s": True}, "whole number of seconds"),
        ("invitations", HOUR | {"instead_of": "attic"}, "node id"),
        ("invitations", HOUR | {"observer": 1}, "takes the place of no member"),
        (
            "invitations",
            HOUR | {"observer": True, "instead_of": node_id(FOUNDERS.members[1])},
            "no",
        ),
        ("invitations", HOUR | {"observers": True}, "for_s and instead_of"),
        ("cancel", {}, "invitation"),
        ("cancel", {"invitation": "none"}, "no such invitation"),
        ("cancel", {"invitation": [1]}, "no such invitation"),
    ],
)
async def test_what_cannot_be_wanted_is_refused_with_words(
    path: str, body: Any, words: str
) -> None:
    node = Replication()
    with pytest.raises(Refusal, match=words):
        await ask(node, "POST", path, body)
    assert node.desk.rows == []

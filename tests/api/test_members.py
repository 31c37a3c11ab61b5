"""The routes about members, over a node whose roll a test writes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.api.messages import Refusal, Reply, Request, parse_query
from aegis_edge.api.routes import INDEX, answer
from aegis_edge.knowledge.agreed import Agreed
from aegis_edge.knowledge.operations import (
    Adjust,
    Admit,
    Approve,
    Dismiss,
    Leave,
    Propose,
    decode,
)
from aegis_edge.knowledge.roll import PROPOSAL_MS
from aegis_edge.peers.identity import node_id, record_to_text
from aegis_edge.wire.envelope import Signer
from tests.api.node import FOUNDERS, NEWCOMER, TIME_MS, Replication, node_of


async def ask(node: Replication, method: str, path: str, body: object = None, **more: Any) -> Any:
    raw = b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    request = Request(method, f"/v1/{path}", parse_query(query), True, raw)
    reply: Reply = await answer(replace(node_of(node), **more), request)
    return json.loads(reply.body)


def keys(node: Replication) -> list[str]:
    return [node_id(key) for key in node.database.members.members]


async def test_who_takes_part_is_listed_with_the_links_to_them() -> None:
    node = Replication()
    first, second = keys(node)
    node.peers = [{"peer": second, "state": "linked"}]
    said = await ask(node, "GET", "members")
    assert [(m["id"], m["name"], m["state"]) for m in said["members"]] == [
        (first, "n0", "here"),
        (second, "n1", "linked"),
    ]
    assert said["members"][1]["addresses"] == ["tcp:192.0.2.1:8080"]
    assert (said["configuration"], said["start"], said["is_member"]) == (0, 0, True)


async def test_who_follows_is_listed_beside_them() -> None:
    node = Replication()
    assert (await ask(node, "GET", "members"))["observers"] == []
    ours, away = node_id(NEWCOMER.signer), FOUNDERS.members[1]
    node.desk.vouched = {NEWCOMER.signer: "shed", away: "away"}
    linked = {"state": "linked", "role": "observer"}
    node.peers = [
        {"peer": ours, "name": "new", "behind": 3, **linked},
        {"peer": "other", "name": "of another", "behind": None, **linked},
        {"peer": node_id(FOUNDERS.members[0]), "name": "n0", "state": "here", "role": "member"},
    ]
    found = {each.pop("id"): each for each in (await ask(node, "GET", "members"))["observers"]}
    assert found == {
        ours: {"name": "new", "state": "linked", "behind": 3, "is_ours": True},
        node_id(away): {"name": "away", "state": "elsewhere", "behind": None, "is_ours": True},
        "other": {"name": "of another", "state": "linked", "behind": None, "is_ours": False},
    }


async def test_an_observer_is_dismissed() -> None:
    node = Replication()
    node.desk.vouched = {NEWCOMER.signer: "shed"}
    wanted = {"observer": node_id(NEWCOMER.signer)}
    assert await ask(node, "POST", "dismiss", wanted) == wanted
    assert node.desk.vouched == {}
    for body, words in ((wanted, "no such observer"), ({"observer": "x"}, "node id"), ({}, "obs")):
        with pytest.raises(Refusal, match=words):
            await ask(node, "POST", "dismiss", body)


async def test_an_addition_is_proposed_shown_and_approved() -> None:
    node = Replication()
    said = await ask(node, "POST", "proposals", {"add": record_to_text(NEWCOMER)})
    assert said == {"number": 1, "open": True, "time_ms": TIME_MS}
    assert node.ballots == [Propose(Admit(NEWCOMER.raw), 0)]
    (shown,) = (await ask(node, "GET", "proposals"))["proposals"]
    assert shown == {
        "number": 1,
        "change": "add",
        "id": node_id(NEWCOMER.signer),
        "name": "new",
        "addresses": [],
        "instead_of": None,
        "author": "n0",
        "time_ms": TIME_MS,
        "until_ms": TIME_MS + PROPOSAL_MS,
        "yes": ["n0"],
        "no": [],
        "needed": 2,
    }
    node.who = 1
    said = await ask(node, "POST", "vote", {"number": 1, "yes": True})
    assert not said["open"]
    assert node.ballots[-1] == Approve(1, True)
    assert node_id(NEWCOMER.signer) in keys(node)
    assert (await ask(node, "GET", "proposals")) == {"proposals": []}


async def test_an_addition_says_in_whose_place() -> None:
    node = Replication()
    old = FOUNDERS.members[1]
    node.decide(Propose(Admit(NEWCOMER.raw, old)))
    (shown,) = (await ask(node, "GET", "proposals"))["proposals"]
    assert (shown["change"], shown["name"]) == ("add", "new")
    assert shown["instead_of"] == {"id": node_id(old), "name": "n1"}


async def test_a_removal_is_proposed_and_a_node_leaves() -> None:
    node = Replication()
    await ask(node, "POST", "proposals", {"remove": keys(node)[1]})
    (shown,) = (await ask(node, "GET", "proposals"))["proposals"]
    assert (shown["change"], shown["name"]) == ("remove", "n1")
    assert node.ballots == [Propose(Dismiss(FOUNDERS.members[1]), 0)]
    await ask(node, "POST", "leave")
    assert node.ballots[-1] == Leave(0)
    assert node.database.members.members == FOUNDERS.members[1:]


async def test_a_value_is_proposed_shown_and_agreed_on() -> None:
    node = Replication()
    said = await ask(node, "POST", "proposals", {"set": {"pbft_timeout": 2.5}})
    assert (said["number"], said["open"]) == (1, True)
    assert node.ballots == [Propose(Adjust("pbft_timeout", 2_500), 0)]
    (shown,) = (await ask(node, "GET", "proposals"))["proposals"]
    described = {"change": "set", "name": "pbft_timeout", "value": 2.5, "unit": "seconds"}
    assert shown.items() >= (described | {"before": None, "yes": ["n0"]}).items()
    node.who = 1
    assert not (await ask(node, "POST", "vote", {"number": 1, "yes": True}))["open"]
    assert node.database.members.agreed == (Agreed("pbft_timeout", 2_500, 1),)
    await ask(node, "POST", "proposals", {"set": {"pbft_timeout": 4}})
    (shown,) = (await ask(node, "GET", "proposals"))["proposals"]
    assert (shown["before"], shown["value"]) == (2.5, 4.0)
    with pytest.raises(Refusal, match="it is so already") as refused:
        await ask(node, "POST", "proposals", {"set": {"pbft_timeout": 2.5}})
    assert refused.value.code == "conflict"


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("proposals", None, "invalid", "add and remove and set"),
        ("proposals", [1], "invalid", "add and remove and set"),
        ("proposals", {}, "invalid", "add and remove and set"),
        ("proposals", {"add": "", "remove": ""}, "invalid", "add and remove and set"),
        ("proposals", {"other": 1}, "invalid", "add and remove and set"),
        ("proposals", {"set": "pbft_timeout"}, "invalid", "one parameter at a time"),
        ("proposals", {"set": {}}, "invalid", "one parameter at a time"),
        ("proposals", {"set": {"quorum": 1}}, "invalid", "no parameter 'quorum'"),
        ("proposals", {"set": {"pbft_timeout": 0}}, "invalid", "0.1 to 3600 seconds"),
        ("proposals", {"set": {"pbft_timeout": "9"}}, "invalid", "must be a number"),
        ("proposals", {"set": {"checkpoint_interval": 1.5}}, "invalid", "a whole number, 1 to 128"),
        ("proposals", {"add": "nonsense"}, "invalid", "no record"),
        ("proposals", {"add": 7}, "invalid", "no record"),
        ("proposals", {"remove": "short"}, "invalid", "node id"),
        ("proposals", {"remove": node_id(NEWCOMER.signer)}, "not_found", "no such member"),
        ("proposals", {"add": record_to_text(NEWCOMER) * 2}, "invalid", "no record"),
        ("vote", {"number": 1}, "invalid", "number and yes"),
        ("vote", {"number": 0, "yes": True}, "invalid", "from 1 on"),
        ("vote", {"number": "1", "yes": True}, "invalid", "from 1 on"),
        ("vote", {"number": 9, "yes": False}, "not_found", "there is no open proposal 9"),
    ],
)
async def test_what_cannot_be_wanted_is_refused_with_words(
    path: str, body: Any, code: str, words: str
) -> None:
    node = Replication()
    with pytest.raises(Refusal, match=words) as refused:
        await ask(node, "POST", path, body)
    assert refused.value.code == code
    assert node.database.members.members == FOUNDERS.members


async def test_whom_nobody_here_could_reach_is_not_proposed() -> None:
    node = Replication()
    through_tor = {"schemes": frozenset({"onion"})}
    direct = replace(NEWCOMER.message, addresses=("tcp:192.0.2.1:8080",))
    text = record_to_text(Signer(bytes([3]) * 32, b"").sign(direct))
    with pytest.raises(
        Refusal, match="nobody here can reach that board, which says that it is at tcp:"
    ):
        await ask(node, "POST", "proposals", {"add": text}, **through_tor)
    assert node.ballots == []
    await ask(node, "POST", "proposals", {"remove": keys(node)[1]}, **through_tor)
    # Who says nothing of where it is calls by itself.
    await ask(node, "POST", "proposals", {"add": record_to_text(NEWCOMER)}, **through_tor)
    await ask(node, "POST", "proposals", {"add": text})


async def test_who_would_be_needed_at_once_has_to_be_there() -> None:
    node, adding = Replication(), {"add": record_to_text(NEWCOMER)}
    node.unseen = "nobody listens there"
    with pytest.raises(
        Refusal, match="2 of 3 would decide with new, of which 1 is here"
    ) as refused:
        await ask(node, "POST", "proposals", adding)
    assert refused.value.code == "conflict"
    assert "nobody listens there" in str(refused.value)
    assert "--unseen" in str(refused.value.body["advice"])
    assert (node.ballots, node.seen) == ([], [NEWCOMER.signer])
    await ask(node, "POST", "proposals?unseen=1", adding)
    assert node.ballots == [Propose(Admit(NEWCOMER.raw), 0)]
    assert len(node.seen) == 1
    node.unseen = ""
    await ask(node, "POST", "proposals", adding)
    assert len(node.seen) == 2
    # Where enough of the others are linked, whether it comes or not stops nobody.
    node.unseen, node.more = "nobody listens there", {"reachable": ["n1"]}
    await ask(node, "POST", "proposals", adding)
    assert len(node.seen) == 2
    # Who is a member already is told so.
    node.who = 1
    node.decide(Propose(Admit(NEWCOMER.raw)))
    node.more = {}
    with pytest.raises(Refusal, match="it is so already"):
        await ask(node, "POST", "proposals", adding)


async def test_a_board_that_hangs_keeps_nobody_waiting_for_longer_than_was_said(
    autojump_clock: MockClock,
) -> None:
    async def see(record: Any) -> str:
        await trio.sleep(90)
        return ""

    node, adding = Replication(), {"add": record_to_text(NEWCOMER)}
    with pytest.raises(Refusal, match="it did not answer in time"):
        await ask(node, "POST", "proposals?timeout=60", adding, see=see)
    await ask(node, "POST", "proposals?timeout=100", adding, see=see)
    assert node.timeouts_s == [10]


async def test_what_came_too_late_is_a_conflict() -> None:
    node = Replication()
    asked = node.database.members
    node.database.shown = asked
    node.database.members = replace(asked, number=3)
    with pytest.raises(Refusal, match="meanwhile") as refused:
        await ask(node, "POST", "leave")
    assert refused.value.code == "conflict"


def test_each_route_is_in_the_index() -> None:
    for path in ("GET /v1/members", "GET /v1/proposals"):
        assert path in INDEX
    assert decode(Leave(0).encode()) == Leave(0)

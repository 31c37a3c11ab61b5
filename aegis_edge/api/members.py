"""The routes about members: who they are, what is proposed, and what an owner wants of both.

Knows the JSON of members, of proposals and of wishes.  Refuses to know what a quorum is, and who is
let in: that is for `knowledge.roll` on every member.
"""

from __future__ import annotations

import json
from typing import Any

import trio

from aegis_edge.api.messages import Refusal, Reply, Request, allow, flag, json_reply, seconds
from aegis_edge.api.port import PATIENCE_S_MAX, Node
from aegis_edge.knowledge.agreed import PARAMETERS, value_of
from aegis_edge.knowledge.operations import (
    Adjust,
    Admit,
    Approve,
    Dismiss,
    Leave,
    OperationError,
    Outcome,
    Propose,
    Status,
)
from aegis_edge.knowledge.roll import PROPOSAL_MS, PROPOSALS_MAX, Proposal, Roll
from aegis_edge.peers.address import parse
from aegis_edge.peers.identity import IdentityError, parse_node_id, records_from_text
from aegis_edge.wire.messages import NodeRecord, Verified

#: Room for the text of a record.
BODY_BYTES_MAX = 16 * 1024
WITH_BODY = ("/v1/proposals", "/v1/vote", "/v1/leave", "/v1/dismiss")

#: What came of a wish, where it is not done: the code and the words.
_WORDS = {
    Status.CONFLICT: ("conflict", "it is so already, or the members have changed meanwhile"),
    Status.INVALID: ("invalid", "the record, or the parameter, is not valid"),
    Status.REFUSED: (
        "conflict",
        "the rules do not allow it: the last member stays, nobody has more than"
        f" {PROPOSALS_MAX} open proposals, and there is an upper bound of members, which is lower"
        " the larger checkpoint_interval is",
    ),
}


async def members(node: Node, request: Request) -> Reply:
    """Who takes part, and since when; and who follows."""
    allow(request.query)
    roll = await node.replication.read(lambda database: database.roll())
    peers = node.peers()["peers"]
    links = {peer["peer"]: peer["state"] for peer in peers}
    status = node.status()
    return json_reply(
        {
            "configuration": roll.number,
            "start": roll.start,
            "quorum": status["quorum"],
            "faulty_max": status["faulty_max"],
            "is_member": status["is_member"],
            "members": [
                {
                    "id": node.author(key),
                    "name": node.name(key),
                    "addresses": list(node.record(raw).message.addresses),
                    "state": links.get(node.author(key), "here"),
                }
                for key, raw in roll.records
            ],
            "observers": _observers(node, peers),
        }
    )


def _observers(node: Node, peers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who follows and is no member: whom this node vouches for, and who else is linked to it."""
    ours = {node.author(key): name for key, name in node.invitations.observers().items()}
    others = {peer["peer"]: peer for peer in peers if peer.get("role") == "observer"}
    return [
        {
            "id": key,
            "name": others[key]["name"] if key in others else ours[key],
            "state": others[key]["state"] if key in others else "elsewhere",
            "behind": others[key]["behind"] if key in others else None,
            "is_ours": key in ours,
        }
        for key in sorted({*ours, *others})
    ]


async def dismiss(node: Node, request: Request) -> Reply:
    """Vouch for an observer no more: {"observer": NODE ID}."""
    wanted = wanted_of(request, "observer")
    await node.invitations.dismiss(key_of(wanted["observer"]))
    return json_reply({"observer": wanted["observer"]})


async def proposals(node: Node, request: Request) -> Reply:
    """What waits for votes, the oldest first."""
    allow(request.query)
    roll = await node.replication.read(lambda database: database.roll())
    return json_reply({"proposals": [_described(node, roll, each) for each in roll.proposals]})


def _described(node: Node, roll: Roll, proposal: Proposal) -> dict[str, Any]:
    change = proposal.change
    if isinstance(change, Adjust):
        parameter = PARAMETERS[change.name]
        before = value_of(roll.agreed, change.name)
        what: dict[str, Any] = {
            "change": "set",
            "name": change.name,
            "value": parameter.said(change.value),
            "unit": parameter.unit,
            "before": None if before is None else parameter.said(before),
        }
    elif isinstance(change, Admit):
        record = node.record(change.record)
        what = {
            "change": "add",
            "id": node.author(record.signer),
            "name": record.message.name,
            "addresses": list(record.message.addresses),
            "instead_of": None,
        }
        if change.instead_of is not None:
            old = change.instead_of
            what["instead_of"] = {"id": node.author(old), "name": node.name(old)}
    else:
        what = {"change": "remove", "id": node.author(change.key), "name": node.name(change.key)}
    return {
        "number": proposal.number,
        **what,
        "author": node.name(proposal.author),
        "time_ms": proposal.time_ms,
        "until_ms": proposal.time_ms + PROPOSAL_MS,
        "yes": [node.name(key) for key in proposal.yes],
        "no": [node.name(key) for key in proposal.no],
        "needed": node.status()["quorum"],
    }


async def propose(node: Node, request: Request) -> Reply:
    """Put to the vote what the body says: {"add": RECORD}, {"remove": NODE ID} or {"set":
    {NAME: VALUE}}, the last in seconds or batches.

    A board that would be needed as soon as it is in has to answer first, unless it may be "unseen".
    """
    allow(request.query, "timeout", "unseen")
    timeout_s = _timeout_s(node, request)
    until = trio.current_time() + timeout_s
    wanted = wanted_of(request, "add", "remove", "set")
    number = await _configuration(node)
    if "set" in wanted:
        operation = Propose(_adjustment(wanted["set"]), number)
    elif "add" in wanted:
        record = _record(wanted["add"])
        _refuse_unreachable(node, record)
        if not flag(request.query, "unseen"):
            await _refuse_unseen(node, record, timeout_s)
        operation = Propose(Admit(record.raw), number)
    else:
        operation = Propose(Dismiss(key_of(wanted["remove"])), number)
    return await _decide(node, operation, max(0.0, until - trio.current_time()))


async def vote(node: Node, request: Request) -> Reply:
    """Say yes or no to a proposal: {"number": N, "yes": true}."""
    allow(request.query, "timeout")
    wanted = wanted_of(request, "number", "yes", all_of=True)
    number = wanted["number"]
    absent = f"there is no open proposal {number}"
    return await _decide(node, Approve(number, wanted["yes"]), _timeout_s(node, request), absent)


async def leave(node: Node, request: Request) -> Reply:
    """This node goes, and asks nobody."""
    allow(request.query, "timeout")
    return await _decide(node, Leave(await _configuration(node)), _timeout_s(node, request))


async def _configuration(node: Node) -> int:
    roll = await node.replication.read(lambda database: database.roll())
    return int(roll.number)


def _timeout_s(node: Node, request: Request) -> float:
    return seconds(request.query, "timeout", node.patience_s, PATIENCE_S_MAX)


async def _decide(
    node: Node,
    ballot: Propose | Approve | Leave,
    timeout_s: float,
    absent: str = "there is no such member",
) -> Reply:
    """What came of a wish; `absent`: the words if there is nothing that it could be about."""
    try:
        raw = ballot.encode()
    except OperationError as error:
        raise Refusal("invalid", str(error)) from None
    outcome: Outcome = await node.replication.submit(raw, timeout_s=timeout_s, of_members=True)
    if outcome.status is Status.ABSENT:
        where = "proposals" if isinstance(ballot, Approve) else "members"
        raise Refusal("not_found", absent, f"see aegis-edge {where}")
    if outcome.status is not Status.DONE:
        raise Refusal(*_WORDS[outcome.status], "see aegis-edge members, and aegis-edge proposals")
    roll = await node.replication.read(lambda database: database.roll())
    is_open = any(each.number == outcome.revision for each in roll.proposals)
    return json_reply({"number": outcome.revision, "open": is_open, "time_ms": outcome.time_ms})


def wanted_of(
    request: Request, *names: str, all_of: bool = False, or_else: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The object in the body: one of `names`, or `all_of` them; what is left out is `or_else`."""
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and or_else:
        said, names = or_else | said, (*names, *or_else)
    is_right = isinstance(said, dict) and said.keys() <= set(names)
    if not is_right or len(said) != (len(names) if all_of else 1):
        raise Refusal("invalid", f"the body must be a JSON object of {' and '.join(names)}")
    return dict(said)


def _refuse_unreachable(node: Node, record: Verified[NodeRecord]) -> None:
    """Its vote would be needed from then on, and nobody could ever hear it."""
    addresses = record.message.addresses
    if not addresses or any(parse(text).scheme in node.schemes for text in addresses):
        return
    raise Refusal(
        "invalid",
        f"nobody here can reach that board, which says that it is at {', '.join(addresses)}",
        "set `transport` there as it is here, run aegis-edge record again, and give that",
    )


async def _refuse_unseen(node: Node, record: Verified[NodeRecord], timeout_s: float) -> None:
    """From its admission on nothing is decided without it, not even that it goes again."""
    roll = await node.replication.read(lambda database: database.roll())
    here, members = len(node.status()["reachable"]) + 1, len(roll.records) + 1
    needed = node.quorum(members)
    if record.signer in roll.members or here >= needed:
        return
    why = "it did not answer in time"
    with trio.move_on_after(timeout_s):
        why = await node.see(record)
    if why:
        raise Refusal(
            "conflict",
            f"{needed} of {members} would decide with {record.message.name or 'that board'}, of"
            f" which {here} {'is' if here == 1 else 'are'} here, so it is needed; and it was not"
            f" seen: {why}",
            "install the genesis of this cluster there, run the node, and try again; or, if you"
            " are sure of it: --unseen.  Should it never come, this cluster stops for good",
        )


def _adjustment(wanted: Any) -> Adjust:
    """What one name and its value mean; what nobody could agree on is refused here already."""
    if not isinstance(wanted, dict) or len(wanted) != 1:
        raise Refusal("invalid", "one parameter at a time is set: its name, and its value")
    ((name, said),) = wanted.items()
    parameter = PARAMETERS.get(name)
    if parameter is None:
        raise Refusal("invalid", f"there is no parameter {name!r} to agree on", _known())
    try:
        return Adjust(name, parameter.value_of(said))
    except ValueError as error:
        raise Refusal("invalid", f"{error}, and not {json.dumps(said)}") from None


def _known() -> str:
    return "there is " + " and ".join(f"{p.name} ({p.bounds})" for p in PARAMETERS.values())


def _record(text: Any) -> Verified[NodeRecord]:
    try:
        (record,) = records_from_text(str(text))
    except (IdentityError, ValueError) as error:
        raise Refusal(
            "invalid", f"no record: {error}", "give what `aegis-edge record` prints on that board"
        ) from None
    return record


def key_of(text: Any) -> bytes:
    try:
        return parse_node_id(str(text))
    except IdentityError as error:
        raise Refusal("invalid", str(error), "see aegis-edge members") from None

"""The routes about invitations: made, listed and cancelled by this node's owner.

Knows their JSON.  Refuses to know when one is good, and to show a code a second time: nobody has it
any more but who was given it.
"""

from __future__ import annotations

from typing import Any

from aegis_edge.api.members import key_of, wanted_of
from aegis_edge.api.messages import Refusal, Reply, Request, allow, json_reply, seconds
from aegis_edge.api.port import PATIENCE_S_MAX, Invited, Node

#: How long an invitation may last.
LIFETIME_S_MIN = 60
LIFETIME_S_MAX = 30 * 24 * 3600
WITH_BODY = ("/v1/invitations", "/v1/cancel")


async def invite(node: Node, request: Request) -> Reply:
    """Invite somebody: {"for_s": SECONDS, "instead_of": NODE ID or null, "observer": false}."""
    allow(request.query, "timeout")
    timeout_s = seconds(request.query, "timeout", node.patience_s, PATIENCE_S_MAX)
    wanted = wanted_of(request, "for_s", "instead_of", all_of=True, or_else={"observer": False})
    lifetime_s = wanted["for_s"]
    if type(lifetime_s) is not int or not LIFETIME_S_MIN <= lifetime_s <= LIFETIME_S_MAX:
        raise Refusal(
            "invalid",
            f"for_s must be a whole number of seconds, {LIFETIME_S_MIN} to {LIFETIME_S_MAX}",
        )
    instead_of = None if wanted["instead_of"] is None else key_of(wanted["instead_of"])
    is_observer = wanted["observer"]
    if type(is_observer) is not bool or (is_observer and instead_of is not None):
        raise Refusal("invalid", "an observer takes the place of no member")
    issued = await node.invitations.issue(
        lifetime_s, instead_of, timeout_s=timeout_s, is_observer=is_observer
    )
    return json_reply({"code": issued.code, **_described(node, issued.invited)})


async def invitations(node: Node, request: Request) -> Reply:
    """What became of each, the newest first."""
    allow(request.query)
    listed = await node.invitations.listed()
    return json_reply({"invitations": [_described(node, each) for each in listed]})


async def cancel(node: Node, request: Request) -> Reply:
    """End one: {"invitation": ITS NAME}; not if the board is proposed already."""
    allow(request.query)
    name = wanted_of(request, "invitation")["invitation"]
    await node.invitations.cancel(str(name))
    return json_reply({"invitation": name})


def _described(node: Node, invited: Invited) -> dict[str, Any]:
    instead_of, guest = invited.instead_of, invited.guest
    observers = node.invitations.observers()
    return {
        "invitation": invited.name,
        "state": invited.state,
        "until_ms": invited.until_ms,
        "instead_of": None if instead_of is None else node.name(instead_of),
        "guest": None if guest is None else node.author(guest),
        "guest_name": None if guest is None else observers.get(guest) or node.name(guest),
        "proposal": invited.number or None,
        "observer": invited.is_observer,
    }

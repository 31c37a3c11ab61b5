"""The routes about bans by hand: whom this node's owner keeps out, and lets in again.

Knows their JSON.  Refuses to know what a ban costs: the desk says it.
"""

from __future__ import annotations

from aegis_edge.api.members import key_of, wanted_of
from aegis_edge.api.messages import Refusal, Reply, Request, allow, json_reply
from aegis_edge.api.port import Node

#: How long a ban may last that ends by itself.
FOR_S_MAX = 366 * 24 * 3600
WITH_BODY = ("/v1/ban", "/v1/unban")


async def ban(node: Node, request: Request) -> Reply:
    """Keep a node out: {"id": NODE ID, "for_s": SECONDS or null}; `warning` says what it costs."""
    allow(request.query)
    wanted = wanted_of(request, "id", "for_s", all_of=True)
    key, for_s = key_of(wanted["id"]), wanted["for_s"]
    if for_s is not None and (type(for_s) is not int or not 1 <= for_s <= FOR_S_MAX):
        raise Refusal(
            "invalid", f"for_s must be a whole number of seconds, 1 to {FOR_S_MAX}, or null"
        )
    warning = await node.bans.ban(key, for_s)
    return json_reply({"id": node.author(key), "for_s": for_s, "warning": warning})


async def unban(node: Node, request: Request) -> Reply:
    """Hold nothing against a node any more: {"id": NODE ID}."""
    allow(request.query)
    key = key_of(wanted_of(request, "id")["id"])
    await node.bans.lift(key)
    return json_reply({"id": node.author(key)})

"""The routes: which request is answered with what.

Knows the meaning of paths and methods.  Refuses to know HTTP's framing and the socket.

They are listed in `INDEX`, which is also what GET / answers.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import trio

from aegis_edge.api import bans, invitations, members, metrics
from aegis_edge.api.messages import (
    BYTES_TYPE,
    JSON_TYPE,
    Refusal,
    Reply,
    Request,
    allow,
    check_value,
    flag,
    json_reply,
    number,
    refusal_of,
    seconds,
    unquoted,
)
from aegis_edge.api.port import PATIENCE_S_MAX, Node
from aegis_edge.api.room import Room
from aegis_edge.disk.reads import PAGE_ENTRIES_MAX, PAGE_VALUE_BYTES_MAX, Pruned
from aegis_edge.knowledge import operations
from aegis_edge.knowledge.inclusion import Unprovable
from aegis_edge.knowledge.operations import (
    MEDIA_BYTES,
    MEDIA_JSON,
    VALUE_BYTES_MAX,
    Delete,
    OperationError,
    Outcome,
    Put,
    Status,
)

PAGE = 100
PAGE_MAX = PAGE_ENTRIES_MAX
#: Versions that a watch holds at a time; their values are bounded by the database's page.
WATCH_ROWS = 64
#: How long one page may keep its room, and how much: its values, and copies of a line of it.
PAGE_S = 5.0
WATCH_BYTES = PAGE_VALUE_BYTES_MAX + 4 * VALUE_BYTES_MAX

#: What there is, for whoever asks GET /.
INDEX = {
    "GET /v1/status": "where this node stands",
    "GET /v1/peers": "the other members and observers, and the links to them",
    "POST /v1/dial?address=": "try the member at this address now",
    "POST /v1/ban": 'have no link with a node: {"id": NODE ID, "for_s": N or null}',
    "POST /v1/unban": 'hold nothing against a node any more: {"id": NODE ID}',
    "GET /v1/members": "who takes part, and since when; and who follows",
    "POST /v1/leave?timeout=": "this node goes, and asks nobody",
    "GET /v1/proposals": "changes that wait for votes",
    "POST /v1/proposals?timeout=&unseen=": (
        'propose one: {"add": RECORD}, {"remove": NODE ID} or {"set": {NAME: VALUE}}'
    ),
    "POST /v1/vote?timeout=": 'say yes or no to one: {"number": N, "yes": true}',
    "GET /v1/invitations": "what became of each invitation",
    "POST /v1/invitations?timeout=": (
        'invite a board: {"for_s": N, "instead_of": NODE ID or null, "observer": false}'
    ),
    "POST /v1/cancel": 'end an invitation that nobody has used: {"invitation": NAME}',
    "POST /v1/dismiss": 'vouch for an observer no more: {"observer": NODE ID}',
    "GET /v1/config": "the settings, and where each came from",
    "GET /v1/version": "the versions of what runs here",
    "GET /metrics": "figures for Prometheus",
    "GET /v1/kb?prefix=&after=&limit=": "the keys, without values, page by page",
    "GET /v1/kb/KEY?revision=&linearizable=1&timeout=": "a value; X-Aegis-* say who and when",
    "PUT /v1/kb/KEY?expected=&timeout=": "write the body; Content-Type application/json marks JSON",
    "DELETE /v1/kb/KEY?expected=&timeout=": "delete the key; its history stays",
    "GET /v1/proof/KEY?linearizable=1&timeout=": "a proof of the value, or that there is none",
    "GET /v1/history/KEY?limit=": "the versions that are kept, the newest first",
    "GET /v1/watch?after=&prefix=": "every write as it happens, one JSON object a line",
    "POST /v1/pipeline": "with Upgrade: aegis-pipeline, many writes on the way at once",
}

_WITH_BODY = (*members.WITH_BODY, *invitations.WITH_BODY, *bans.WITH_BODY)
#: What this node decides alone.
_ALONE = ("/v1/dial", *bans.WITH_BODY)

KB = "/v1/kb/"
PROOF = "/v1/proof/"
HISTORY = "/v1/history/"

Handler = Callable[[Node, Request], Awaitable[Reply]]


async def answer(node: Node, request: Request) -> Reply:
    """The reply to a request; raises `Refusal`, or what the node raises."""
    return await handler_of(request.method, request.path)(node, request)


def waits(request: Request) -> bool:
    """Whether the answer must wait for the other nodes, however long they take."""
    if request.path in _ALONE:
        return False
    if request.method not in ("GET", "HEAD") or "linearizable" in request.query:
        return True
    return request.path.startswith(PROOF)


def body_bytes_max(method: str, path: str) -> int:
    """How large the body of such a request may be; 0 if it takes none."""
    if method == "PUT":
        return VALUE_BYTES_MAX
    if method == "POST" and path in _WITH_BODY:
        return members.BODY_BYTES_MAX
    return 0


def handler_of(method: str, path: str) -> Handler:
    """Who answers this method on this path; raises `Refusal` if nobody does."""
    if path.startswith(KB):
        methods = _KEY
    elif path.startswith(PROOF):
        methods = _PROOF
    elif path.startswith(HISTORY):
        methods = _HISTORY
    elif path in _FIXED:
        methods = _FIXED[path]
    else:
        raise Refusal("not_found", f"no route {path[:80]}", "GET / lists the routes")
    handler = methods.get("GET" if method == "HEAD" else method)
    if handler is None:
        known = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
        refusal = Refusal(
            "method_not_allowed", f"{method[:20]} is not for {path[:80]}", f"use {known}"
        )
        refusal.headers = (("Allow", known),)
        raise refusal
    return handler


async def _index(node: Node, request: Request) -> Reply:
    allow(request.query)
    # Laid out for people: it is they who look at an address without a path.
    return Reply(json.dumps({"routes": INDEX}, indent=2).encode() + b"\n")


# --- keys -----------------------------------------------------------------------------------


def _key(request: Request, start: str) -> str:
    key = unquoted(request.path[len(start) :])
    try:
        operations.check_key(key)
    except OperationError as error:
        raise Refusal("invalid", str(error)) from None
    return key


async def _get(node: Node, request: Request) -> Reply:
    allow(request.query, "revision", "linearizable", "timeout")
    key = _key(request, KB)
    revision = number(request.query, "revision")
    timeout_s = _patience_s(node, request)
    await _catch_up(node, request, timeout_s)
    newest = await node.replication.revision_after(-1)
    if revision is not None and revision > newest:
        raise Refusal(
            "not_found",
            f"there is no revision {revision} yet: the newest here is {newest}",
            "leave --revision out for what the key has now",
        )
    try:
        version = await node.replication.read(lambda database: database.get(key, revision))
    except Pruned as error:
        raise Refusal("not_found", f"{key}: {error}", "ask for a later revision") from None
    if version is None:
        when = "" if revision is None else f" at revision {revision}"
        raise Refusal("not_found", f"no key {key}{when}", "list the keys: aegis-edge kb ls")
    headers = (
        ("X-Aegis-Revision", str(version.revision)),
        ("X-Aegis-Author", node.author(version.author)),
        ("X-Aegis-Time", str(version.time_ms)),
    )
    kind = JSON_TYPE if version.media == MEDIA_JSON else BYTES_TYPE
    return Reply(version.value, kind, headers=headers)


async def _catch_up(node: Node, request: Request, timeout_s: float) -> None:
    """For a linearizable read: wait until all that was acknowledged is readable here."""
    if flag(request.query, "linearizable"):
        try:
            await node.replication.barrier(timeout_s=timeout_s)
        except Exception as error:
            raise refusal_of(error, is_read=True) from None


async def _prove(node: Node, request: Request) -> Reply:
    allow(request.query, "linearizable", "timeout")
    key = _key(request, PROOF)
    timeout_s = _patience_s(node, request)
    until = trio.current_time() + timeout_s
    await _catch_up(node, request, timeout_s)
    try:
        left_s = max(0.0, until - trio.current_time())
        return Reply(await node.replication.prove(key, timeout_s=left_s), BYTES_TYPE)
    except Unprovable as error:
        raise Refusal(
            "internal", str(error), "write it, and delete it: that can be proven"
        ) from None
    except Exception as error:
        raise refusal_of(error, is_read=True) from None


async def _put(node: Node, request: Request) -> Reply:
    allow(request.query, "expected", "timeout")
    key = _key(request, KB)
    media = MEDIA_JSON if request.is_json else MEDIA_BYTES
    return await _write(node, request, Put(key, request.body, media, _expected(request)))


async def _delete(node: Node, request: Request) -> Reply:
    allow(request.query, "expected", "timeout")
    return await _write(node, request, Delete(_key(request, KB), _expected(request)))


def _patience_s(node: Node, request: Request) -> float:
    return seconds(request.query, "timeout", node.patience_s, PATIENCE_S_MAX)


def _expected(request: Request) -> int | None:
    return number(request.query, "expected")


async def _write(node: Node, request: Request, operation: Put | Delete) -> Reply:
    timeout_s = _patience_s(node, request)
    check_value(operation)
    try:
        raw = operation.encode()
    except OperationError as error:
        raise Refusal("invalid", str(error)) from None
    outcome = await node.replication.submit(raw, timeout_s=timeout_s)
    if outcome.status is Status.DONE:
        return json_reply({"revision": outcome.revision, "time_ms": outcome.time_ms})
    code, message = refusal_words(outcome)
    if code == "conflict":
        raise Refusal(
            code,
            f"{operation.key}: {message}",
            "read it again, then decide",
            revision=outcome.revision,
        )
    raise Refusal(code, f"{operation.key}: {message}")


def refusal_words(outcome: Outcome) -> tuple[str, str]:
    """The error code and the message for an outcome that is not `DONE`."""
    if outcome.status is Status.CONFLICT:
        if outcome.revision == 0:
            return "conflict", "there is no such key now"
        return "conflict", f"the key has revision {outcome.revision} now"
    if outcome.status is Status.ABSENT:
        return "not_found", "there is no such key"
    return "invalid", "the operation is not valid"


async def _ls(node: Node, request: Request) -> Reply:
    allow(request.query, "prefix", "after", "limit")
    prefix, after = request.query.get("prefix", ""), request.query.get("after", "")
    limit = _limit(request)
    page = await node.replication.read(lambda database: database.ls(prefix, after, limit))
    entries = [_described(node, entry, False, entry.size_bytes) for entry in page.entries]
    return json_reply({"entries": entries, "more": page.more})


async def _history(node: Node, request: Request) -> Reply:
    allow(request.query, "limit")
    key = _key(request, HISTORY)
    limit = _limit(request)
    rows = await node.replication.read(lambda database: database.history(key, limit))
    if not rows:
        raise Refusal("not_found", f"no key {key}", "list the keys: aegis-edge kb ls")
    entries = [_described(node, row, row.deleted, len(row.value)) for row in rows]
    return json_reply({"entries": entries, "more": None})


def _limit(request: Request) -> int:
    limit = number(request.query, "limit", PAGE)
    if limit is None or not 1 <= limit <= PAGE_MAX:
        raise Refusal("invalid", f"limit must be 1 to {PAGE_MAX}")
    return limit


def _described(node: Node, row: Any, deleted: bool, size_bytes: int) -> dict[str, Any]:
    return {
        "key": row.key,
        "revision": row.revision,
        "author": node.author(row.author),
        "time_ms": row.time_ms,
        "media": "json" if row.media == MEDIA_JSON else "bytes",
        "deleted": deleted,
        "size_bytes": size_bytes,
    }


# --- watch ----------------------------------------------------------------------------------


async def _watch(node: Node, request: Request) -> Reply:
    allow(request.query, "after", "prefix")
    after = number(request.query, "after")
    if after is None:
        after = await node.replication.revision_after(-1)
    prefix = request.query.get("prefix", "")
    return Reply(b"", "application/x-ndjson", stream=partial(_changes, node, after, prefix))


async def _changes(node: Node, after: int, prefix: str, room: Room) -> AsyncIterator[bytes]:
    def rows_after(database: Any) -> Any:
        return database.changes(after, WATCH_ROWS, prefix)

    while True:
        await node.replication.revision_after(after)
        await room.take(WATCH_BYTES)
        try:
            page = await node.replication.read(rows_after)
            until = trio.current_time() + PAGE_S
            for row in page.versions:
                yield _line(node, row)
                after = row.revision
                if trio.current_time() > until:
                    break  # others want room too: the rest is read again
            else:
                after = page.upto
            page = row = None
        finally:
            room.give(WATCH_BYTES)


def _line(node: Node, row: Any) -> bytes:
    change = _described(node, row, row.deleted, len(row.value))
    if row.deleted:
        return json.dumps(change, ensure_ascii=False).encode() + b"\n"
    if row.media == MEDIA_JSON:
        try:
            change["value"] = json.loads(row.value)
            return json.dumps(change, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        except (ValueError, RecursionError):
            change.pop("value", None)  # another node's caller may have said JSON of what is none
    change["value_base64"] = b2a_base64(row.value, newline=False).decode()
    return json.dumps(change, ensure_ascii=False).encode() + b"\n"


# --- the node -------------------------------------------------------------------------------


async def _status(node: Node, request: Request) -> Reply:
    allow(request.query)
    return json_reply({**node.status(), "patience_s": node.patience_s})


async def _peers(node: Node, request: Request) -> Reply:
    allow(request.query)
    return json_reply(node.peers())


async def _dial(node: Node, request: Request) -> Reply:
    allow(request.query, "address")
    address = request.query.get("address", "")
    peer = node.dial(address)
    if peer is None:
        raise Refusal(
            "not_found",
            f"no other member says that it is at {address[:100]}",
            "see aegis-edge peers; who is to be a member: aegis-edge members add",
        )
    return json_reply({"peer": node.author(peer)})


async def _config(node: Node, request: Request) -> Reply:
    allow(request.query)
    return json_reply(node.config())


async def _version(node: Node, request: Request) -> Reply:
    allow(request.query)
    return json_reply(node.version())


async def _metrics(node: Node, request: Request) -> Reply:
    allow(request.query)
    text = metrics.rendered(node.status())
    return Reply(text.encode(), metrics.CONTENT_TYPE)


async def _pipeline(node: Node, request: Request) -> Reply:
    raise Refusal(
        "invalid",
        "the pipeline needs an upgrade",
        "send the headers Connection: Upgrade and Upgrade: aegis-pipeline",
    )


_KEY: dict[str, Handler] = {"GET": _get, "PUT": _put, "DELETE": _delete}
_PROOF: dict[str, Handler] = {"GET": _prove}
_HISTORY: dict[str, Handler] = {"GET": _history}
_FIXED: dict[str, dict[str, Handler]] = {
    "/": {"GET": _index},
    "/v1": {"GET": _index},
    "/v1/kb": {"GET": _ls},
    "/v1/watch": {"GET": _watch},
    "/v1/status": {"GET": _status},
    "/v1/peers": {"GET": _peers},
    "/v1/dial": {"POST": _dial},
    "/v1/ban": {"POST": bans.ban},
    "/v1/unban": {"POST": bans.unban},
    "/v1/members": {"GET": members.members},
    "/v1/leave": {"POST": members.leave},
    "/v1/proposals": {"GET": members.proposals, "POST": members.propose},
    "/v1/vote": {"POST": members.vote},
    "/v1/invitations": {"GET": invitations.invitations, "POST": invitations.invite},
    "/v1/cancel": {"POST": invitations.cancel},
    "/v1/dismiss": {"POST": members.dismiss},
    "/v1/config": {"GET": _config},
    "/v1/version": {"GET": _version},
    "/metrics": {"GET": _metrics},
    "/v1/pipeline": {"POST": _pipeline},
}

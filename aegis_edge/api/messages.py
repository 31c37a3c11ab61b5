"""What goes into a route and what comes out of it: requests, replies, refusals with advice.

Knows query strings, percent-encoding, and what may call itself JSON.  Refuses to know sockets and
routes.
Follows: RFC 3986 section 2.1 (a plus sign is a plus sign); RFC 8259 (JSON), without NaN.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aegis_edge.api.room import Room
from aegis_edge.knowledge import operations
from aegis_edge.knowledge.operations import MEDIA_JSON, Operation, OperationError, Put

INTEGER_MAX = 2**63 - 1
JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"

#: The HTTP status of each error code.
STATUS = {
    "invalid": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "conflict": 409,
    "too_large": 413,
    "headers_too_large": 431,
    "internal": 500,
    "busy": 503,
    "damaged": 503,
    "halted": 503,
    "no_member": 503,
    "no_quorum": 503,
    "stopping": 503,
    "timeout": 504,
    "unprovable": 501,
}


#: For reads through the cluster: what the node advises is meant for writes.
_READ_ADVICE = {"timeout": "try again", "stopping": "wait until the node runs again"}
_OWN_COPY = "what this node holds itself can be read without linearizable"


class Refusal(Exception):
    """An error answer: a code of `STATUS` for programs, a message and an advice for people."""

    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, code: str, message: str, advice: str = "", **more: object) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS[code]
        self.body = {"error": code, "message": message, "advice": advice, **more}


def refusal_of(error: Exception, *, is_read: bool = False) -> Refusal:
    """The refusal for a failure of the node, which has a `code`; any other error is raised on.

    `is_read`: the caller wanted to read through the cluster, so nothing was to be written.
    """
    if isinstance(error, Refusal):
        return error
    code = getattr(error, "code", None)
    if not isinstance(code, str) or code not in STATUS:
        raise error
    advice = str(getattr(error, "advice", ""))
    if is_read:
        advice = _READ_ADVICE.get(code, advice)
        return Refusal(code, str(error), f"{advice}; {_OWN_COPY}")
    taken = getattr(error, "taken", None)
    if taken is None:
        return Refusal(code, str(error), advice)
    may = "the write may still happen then" if taken else "nothing was written"
    return Refusal(code, str(error), f"{advice}; {may}", taken=taken)


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body has been read; `path` is still percent-encoded."""

    method: str
    path: str
    query: Mapping[str, str]
    is_json: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a body, or a stream that ends when the client goes.

    `stream` is given the room that its pages in memory must take their bytes from.
    """

    body: bytes
    content_type: str = JSON_TYPE
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    stream: Callable[[Room], AsyncIterator[bytes]] | None = field(default=None)


def json_reply(value: Mapping[str, Any], status: int = 200) -> Reply:
    """A JSON object on a line of its own."""
    return Reply(json.dumps(value, ensure_ascii=False).encode() + b"\n", status=status)


def refused(refusal: Refusal) -> Reply:
    """The reply for a refusal."""
    reply = json_reply(refusal.body, refusal.status)
    return replace(reply, headers=refusal.headers)


_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def unquoted(text: str) -> str:
    """Percent-encoded UTF-8 as text; raises `Refusal`."""
    if "%" not in text:
        return text
    pieces = _ESCAPE.split(text)
    if any("%" in piece for piece in pieces[::2]):
        raise Refusal("invalid", "a % in the URL is not followed by two hexadecimal digits")
    data = b"".join(
        bytes.fromhex(piece) if index % 2 else piece.encode() for index, piece in enumerate(pieces)
    )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refusal("invalid", "the URL is not percent-encoded UTF-8") from None


def parse_query(text: str) -> dict[str, str]:
    """The items of a query string; raises `Refusal` for an item that comes twice."""
    query: dict[str, str] = {}
    for item in text.split("&") if text else ():
        name, _, value = item.partition("=")
        name = unquoted(name)
        if name in query:
            raise Refusal("invalid", f"the query gives {name} twice")
        query[name] = unquoted(value)
    return query


def allow(query: Mapping[str, str], *known: str) -> None:
    """Refuse a query with an item that the route does not know."""
    for name in query:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Refusal("invalid", f"unknown query item {name!r}", f"known here: {listed}")


def number(query: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    """A whole number of the query, from 0."""
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > INTEGER_MAX:
        raise Refusal("invalid", f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)


def seconds(query: Mapping[str, str], name: str, default: float, most: float) -> float:
    """A duration of the query."""
    text = query.get(name)
    if text is None:
        return default
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is None or not 0 < float(text) <= most:
        raise Refusal(
            "invalid", f"{name} must be a number of seconds, more than 0, at most {most:g}"
        )
    return float(text)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A truth value of the query: 1, true or empty; 0, false or absent."""
    text = query.get(name, "0").lower()
    if text not in ("", "0", "1", "true", "false"):
        raise Refusal("invalid", f"{name} must be 0 or 1, not {text[:40]!r}")
    return text in ("", "1", "true")


def check_value(operation: Operation) -> None:
    """Refuse a put of what is marked as JSON and is none: the state machine does not look."""
    if isinstance(operation, Put) and operation.media == MEDIA_JSON:
        check_json(operation.value)


def check_encoded(operation: bytes) -> None:
    """`check_value` for an encoded operation; bytes that are none are let pass.

    Those of other kinds are not decoded, as a rule: the media stands before the last field, the
    expected revision, which CBOR writes in 1, 2, 3, 5 or 9 bytes.
    """
    if 1 in operation[-10:] and any(
        operation[-1 - size : -size] == b"\x01" for size in (1, 2, 3, 5, 9)
    ):
        try:
            decoded = operations.decode(operation)
        except OperationError:
            return
        check_value(decoded)


def check_json(body: bytes) -> None:
    """Refuse a body that is no JSON text."""
    try:
        json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(
            "invalid",
            f"the value is not JSON: {error}",
            "send JSON, or store it as bytes: without Content-Type: application/json",
        ) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

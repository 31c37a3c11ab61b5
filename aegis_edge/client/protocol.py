"""What a client and a node say to each other, without a socket: requests, answers, errors.

Knows the routes of the local API, HTTP/1.1 as that API speaks it, and the frames of the pipeline.
Refuses to know who moves the bytes: a parser is a generator that yields when it wants more.
Follows: RFC 9112 (HTTP/1.1); the pipeline is described in `aegis_edge.api.pipeline`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
#: How long a node may take for what it knows itself, and for all else where it does not say.
ANSWER_S = 30.0
FRAME_BYTES_MAX = 1024 * 1024

T = TypeVar("T")

# --- errors ---------------------------------------------------------------------------------


class ClientError(Exception):
    """Something that a node said, or could not say.  `advice` is what to do next.

    `str` gives both; `message` is without the advice.
    """

    code = "error"

    def __init__(self, message: str, advice: str = "", revision: int | None = None) -> None:
        super().__init__(f"{message}; {advice}" if advice else message)
        self.message = message
        self.advice = advice
        #: For a conflict: the revision that the key has now, 0 if it has none.
        self.revision = revision


class NotRunning(ClientError):
    """Nobody answers on the socket."""

    code = "not_running"


class Disconnected(ClientError):
    """The node closed the connection; what was not answered may or may not have happened."""

    code = "disconnected"


class Garbled(ClientError):
    """Bytes that are not what the node's API speaks."""

    code = "garbled"


class Refused(ClientError):
    """The node refuses for a reason of its own; the message says which."""


class Invalid(ClientError):
    """The request itself is wrong."""

    code = "invalid"


class NotFound(ClientError):
    """There is no such key, revision or route."""

    code = "not_found"


class Conflict(ClientError):
    """The key does not have the revision that the writer expected."""

    code = "conflict"


class TooLarge(ClientError):
    """A value, a key or a request above its bound."""

    code = "too_large"


class NoQuorum(ClientError):
    """Too few nodes are reachable to agree on anything."""

    code = "no_quorum"


class TimedOut(ClientError):
    """No answer in time; the write may still happen."""

    code = "timeout"


ERRORS: dict[str, type[ClientError]] = {
    kind.code: kind for kind in (Invalid, NotFound, Conflict, TooLarge, NoQuorum, TimedOut)
}


def error_of(code: str, message: str, advice: str = "", revision: int | None = None) -> ClientError:
    """The typed error for a `code` of the API."""
    kind = ERRORS.get(code, Refused)
    error = kind(message, advice, revision)
    if kind is Refused:
        error.code = code
    return error


# --- nouns ----------------------------------------------------------------------------------


class Written(NamedTuple):
    """A write that a quorum holds: its revision, and the agreed time (Unix milliseconds)."""

    revision: int
    time_ms: int


class Entry(NamedTuple):
    """A key's value as it was read."""

    key: str
    revision: int
    author: str
    time_ms: int
    is_json: bool
    raw: bytes

    @property
    def value(self) -> Any:
        """The parsed JSON, or the bytes; raises `Garbled` if the writer's JSON is none."""
        if not self.is_json:
            return self.raw
        try:
            return json.loads(self.raw)
        except (ValueError, RecursionError):
            raise Garbled(
                f"the JSON under {self.key} does not parse", "read its bytes through .raw"
            ) from None


class Version(NamedTuple):
    """One version of a key, without its value."""

    key: str
    revision: int
    author: str
    time_ms: int
    is_json: bool
    deleted: bool
    size_bytes: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> Version:
        return cls(
            row["key"],
            row["revision"],
            row["author"],
            row["time_ms"],
            row["media"] == "json",
            row["deleted"],
            row["size_bytes"],
        )


class Page(NamedTuple):
    """Some of the entries; `more` is what to ask for next, or None."""

    entries: list[Version]
    more: str | None


class Change(NamedTuple):
    """One write seen by a watch; `value` is None after a deletion."""

    version: Version
    value: Any

    @classmethod
    def of(cls, row: dict[str, Any]) -> Change:
        if "value_base64" in row:
            from binascii import a2b_base64

            return cls(Version.of(row), a2b_base64(row["value_base64"]))
        return cls(Version.of(row), row.get("value"))


class Response(NamedTuple):
    """A whole answer; header names in lower case.  `body` is empty when it is a stream."""

    status: int
    headers: dict[str, str]
    body: bytes


class Call(NamedTuple, Generic[T]):
    """A request, and how to read its answer."""

    request: bytes
    read: Callable[[Response], T]


# --- reading --------------------------------------------------------------------------------

#: A parser: yields when it wants more bytes in its inbox.
Parser = Generator[None, None, T]


class Inbox:
    """Bytes that came and are not read yet."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data

    def line(self, size_max: int = HEAD_BYTES_MAX) -> Parser[bytes]:
        start = 0
        while (end := self._data.find(b"\n", start)) < 0:
            start = len(self._data)
            if start > size_max:
                raise Garbled("a line without an end")
            yield
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        return line.rstrip(b"\r")

    def lines(self) -> list[bytes]:
        """Take all whole lines that are there."""
        *whole, rest = bytes(self._data).split(b"\n")
        if len(rest) > BODY_BYTES_MAX:
            raise Garbled("a line without an end")
        self._data = bytearray(rest)
        return whole

    def frame(self) -> Parser[bytes]:
        """A whole frame of the pipeline; nothing is taken before all of it is there."""
        while len(self._data) < 4:
            yield
        end = 4 + int.from_bytes(self._data[:4], "big")
        if end > 4 + FRAME_BYTES_MAX:
            raise Garbled("a frame above its bound")
        while len(self._data) < end:
            yield
        taken = bytes(self._data[4:end])
        del self._data[:end]
        return taken

    def exactly(self, size: int) -> Parser[bytes]:
        while len(self._data) < size:
            yield
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


def head(inbox: Inbox) -> Parser[tuple[int, dict[str, str]]]:
    """The status and the headers of an answer."""
    first = yield from inbox.line()
    parts = first.split(b" ", 2)
    if not first.startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
        raise Garbled("this is no answer of a node", "check that the socket is the node's")
    headers: dict[str, str] = {}
    left = HEAD_BYTES_MAX
    while line := (yield from inbox.line()):
        left -= len(line)
        name, colon, text = line.partition(b":")
        if not colon or left < 0:
            raise Garbled("the headers of the answer do not parse")
        headers[name.decode("latin-1").lower()] = text.strip().decode("latin-1")
    return int(parts[1]), headers


def chunk(inbox: Inbox) -> Parser[bytes]:
    """The next piece of a chunked body; empty at its end."""
    text = yield from inbox.line(64)
    try:
        size = int(text, 16)
    except ValueError:
        raise Garbled("the pieces of the answer do not parse") from None
    if not 0 <= size <= BODY_BYTES_MAX:
        raise Garbled("a piece of the answer above its bound")
    data = yield from inbox.exactly(size)
    yield from inbox.line(2)
    return data


def response(inbox: Inbox) -> Parser[Response]:
    """A whole answer."""
    status, headers = yield from head(inbox)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        left = BODY_BYTES_MAX
        while piece := (yield from chunk(inbox)):
            left -= len(piece)
            if left < 0:
                raise Garbled("an answer above its bound")
            pieces.append(piece)
        return Response(status, headers, b"".join(pieces))
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
        raise Garbled("an answer of no length, or above its bound")
    return Response(status, headers, (yield from inbox.exactly(int(length))))


def checked(answer: Response) -> Response:
    """The answer itself, or its error raised."""
    if answer.status < 400:
        return answer
    said = document(answer)
    raise error_of(
        str(said.get("error", "error")),
        str(said.get("message", f"the node answered {answer.status}")),
        str(said.get("advice", "")),
        said.get("revision"),
    )


def document(answer: Response) -> dict[str, Any]:
    """The JSON object that an answer holds."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Garbled("the answer is not the JSON that it should be")
    return value


# --- requests -------------------------------------------------------------------------------

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")


def quoted(text: str) -> str:
    """Percent-encoded UTF-8; slashes stay."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise Invalid("a key is Unicode text", "remove the lone surrogates") from None
    return "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in data)


def request(
    method: str,
    path: str,
    query: dict[str, object] | None = None,
    body: bytes = b"",
    content_type: str = "",
) -> bytes:
    """The bytes of a request; query items that are None are left out."""
    items = "&".join(f"{k}={quoted(str(v))}" for k, v in (query or {}).items() if v is not None)
    lines = [f"{method} {path}{'?' if items else ''}{items} HTTP/1.1", "Host: aegis-edge"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if body or method == "PUT":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class JsonText(NamedTuple):
    """JSON that is kept to the byte: as it stands in a file, say."""

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> JsonText:
        """What is JSON (RFC 8259: UTF-8, no NaN) by its looks too; raises `Invalid`."""
        try:
            json.loads(raw.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"the value is not JSON: {error}", "correct it, or store bytes") from None
        return cls(raw)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def packed(value: Any) -> tuple[bytes, bool]:
    """A value's bytes, and whether they are JSON: bytes stay bytes, all else becomes JSON."""
    if isinstance(value, JsonText):
        return value.raw, True
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), False
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), True
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"the value is not JSON: {error}", "pass bytes, or what JSON knows") from None


def put(key: str, value: Any, expected: int | None, timeout_s: float) -> Call[Written]:
    body, is_json = packed(value)
    kind = "application/json" if is_json else "application/octet-stream"
    query: dict[str, object] = {"expected": expected, "timeout": timeout_s}
    return Call(request("PUT", "/v1/kb/" + quoted(key), query, body, kind), _written)


def delete(key: str, expected: int | None, timeout_s: float) -> Call[Written]:
    query: dict[str, object] = {"expected": expected, "timeout": timeout_s}
    return Call(request("DELETE", "/v1/kb/" + quoted(key), query), _written)


def get(key: str, revision: int | None, patience_s: float | None) -> Call[Entry]:
    """`patience_s`: how long to wait for the cluster; None: this node's copy will do."""
    query: dict[str, object] = {"revision": revision}
    if patience_s is not None:
        query |= {"linearizable": 1, "timeout": patience_s}

    def read(answer: Response) -> Entry:
        said = checked(answer).headers
        try:
            return Entry(
                key,
                int(said["x-aegis-revision"]),
                said["x-aegis-author"],
                int(said["x-aegis-time"]),
                said["content-type"] == "application/json",
                answer.body,
            )
        except (KeyError, ValueError):
            raise Garbled("the answer lacks a header that it should have") from None

    return Call(request("GET", "/v1/kb/" + quoted(key), query), read)


def prove(key: str, linearizable: bool, patience_s: float) -> Call[bytes]:
    query: dict[str, object] = {"linearizable": 1 if linearizable else None, "timeout": patience_s}
    return Call(
        request("GET", "/v1/proof/" + quoted(key), query), lambda answer: checked(answer).body
    )


def ls(prefix: str, after: str, limit: int) -> Call[Page]:
    """One page of the keys under `prefix`."""
    query: dict[str, object] = {"prefix": prefix or None, "after": after or None, "limit": limit}
    return Call(request("GET", "/v1/kb", query), _page)


def history(key: str, limit: int) -> Call[Page]:
    return Call(request("GET", "/v1/history/" + quoted(key), {"limit": limit}), _page)


def watch(after: int | None, prefix: str) -> bytes:
    return request("GET", "/v1/watch", {"after": after, "prefix": prefix or None})


def table(name: str) -> Call[dict[str, Any]]:
    """`name`: of a route that shows one document, such as status."""
    return Call(request("GET", "/v1/" + name), lambda answer: document(checked(answer)))


def dial(address: str) -> Call[dict[str, Any]]:
    raw = request("POST", "/v1/dial", {"address": address}, b"")
    return Call(raw, lambda answer: document(checked(answer)))


def ban(node_id: str, for_s: int | None) -> Call[dict[str, Any]]:
    return _wish("/v1/ban", {"id": node_id, "for_s": for_s})


def unban(node_id: str) -> Call[dict[str, Any]]:
    return _wish("/v1/unban", {"id": node_id})


def propose(
    change: str, what: object, patience_s: float, *, unseen: bool = False
) -> Call[dict[str, Any]]:
    """`change`: "add", and the text of a record; "remove", and a node id; or "set", and a value by
    its name."""
    return _wish("/v1/proposals", {change: what}, patience_s, unseen=unseen)


def vote(number: int, yes: bool, patience_s: float) -> Call[dict[str, Any]]:
    return _wish("/v1/vote", {"number": number, "yes": yes}, patience_s)


def leave(patience_s: float) -> Call[dict[str, Any]]:
    return _wish("/v1/leave", {}, patience_s)


def invite(
    lifetime_s: int, instead_of: str | None, is_observer: bool, patience_s: float
) -> Call[dict[str, Any]]:
    wish = {"for_s": lifetime_s, "instead_of": instead_of, "observer": is_observer}
    return _wish("/v1/invitations", wish, patience_s)


def dismiss_observer(node_id: str) -> Call[dict[str, Any]]:
    return _wish("/v1/dismiss", {"observer": node_id})


def cancel_invitation(name: str) -> Call[dict[str, Any]]:
    return _wish("/v1/cancel", {"invitation": name})


def _wish(
    path: str, wanted: dict[str, Any], patience_s: float | None = None, *, unseen: bool = False
) -> Call[dict[str, Any]]:
    body = json.dumps(wanted).encode()
    query: dict[str, object] = {"timeout": patience_s, "unseen": 1 if unseen else None}
    raw = request("POST", path, query, body, "application/json")
    return Call(raw, lambda answer: document(checked(answer)))


def patience_s(status: dict[str, Any]) -> float:
    """How long a node thinks right to wait for its cluster, in seconds; see `api.port`."""
    said = status.get("patience_s")
    return float(said) if isinstance(said, (int, float)) else ANSWER_S


def metrics() -> Call[str]:
    return Call(request("GET", "/metrics"), lambda answer: checked(answer).body.decode())


def upgrade() -> bytes:
    return (
        b"POST /v1/pipeline HTTP/1.1\r\nHost: aegis-edge\r\n"
        b"Connection: Upgrade\r\nUpgrade: aegis-pipeline\r\n\r\n"
    )


def upgraded(inbox: Inbox) -> Parser[None]:
    """The answer to `upgrade`: after it, frames."""
    status, headers = yield from head(inbox)
    if status != 101:
        raise (yield from refusal(inbox, status, headers))


def refusal(inbox: Inbox, status: int, headers: dict[str, str]) -> Parser[ClientError]:
    """The error that an answer other than the expected one holds."""
    length = headers.get("content-length", "0")
    size = min(int(length), HEAD_BYTES_MAX) if length.isdecimal() else 0
    body = yield from inbox.exactly(size)
    try:
        checked(Response(status, headers, body))
    except ClientError as error:
        return error
    return Garbled(
        f"the node answered {status}, which has no meaning here",
        "use the same version of aegis-edge on both sides",
    )


def watched(inbox: Inbox) -> Parser[None]:
    """The answer to `watch`: after it, chunks."""
    status, headers = yield from head(inbox)
    if status != 200 or headers.get("transfer-encoding", "").lower() != "chunked":
        raise (yield from refusal(inbox, status, headers))


def changes(lines: Inbox) -> Iterator[Change]:
    """The whole lines of a watch that are in `lines`."""
    for line in lines.lines():
        if line:
            try:
                yield Change.of(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError):
                raise Garbled("a line of the watch does not parse") from None


def _written(answer: Response) -> Written:
    said = document(checked(answer))
    return Written(said["revision"], said["time_ms"])


def _page(answer: Response) -> Page:
    said = document(checked(answer))
    try:
        return Page([Version.of(row) for row in said["entries"]], said["more"])
    except (KeyError, TypeError):
        raise Garbled("the answer lacks a field that it should have") from None

"""The client for plain code: blocking calls over one kept connection, standard library only.

Knows a Unix socket and how to wait on it.  Refuses to know what is said: that is `protocol`.
One client belongs to one thread at a time.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

from aegis_edge.client import protocol
from aegis_edge.client.protocol import (
    Call,
    Change,
    ClientError,
    Disconnected,
    Entry,
    Inbox,
    NotRunning,
    Parser,
    TimedOut,
    Version,
    Written,
)

T = TypeVar("T")

RECEIVE_BYTES = 64 * 1024
PAGE = 1000
#: How much longer than the node this side waits, so that the node's own words arrive.
GRACE_S = 5.0


class _Wire:
    """One connection and what came over it; every foreign exception ends here."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        self.inbox = Inbox()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise not_running(path, error) from None

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise _late() from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # a node that refuses says why before it closes: the reader finds it
        except OSError as error:
            raise _lost(error) from None

    def read(self, parser: Parser[T]) -> T:
        """Run a parser to its end."""
        while True:
            try:
                next(parser)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except TimeoutError:
                raise _late() from None
            except OSError as error:
                raise _lost(error) from None
            if not data:
                raise Disconnected(
                    "the node closed the connection", "look at its log, and read before you retry"
                )
            self.inbox.feed(data)

    def wait(self, timeout_s: float | None) -> None:
        """Let each call take so long from now on; None: for ever."""
        self._socket.settimeout(timeout_s)

    @property
    def stale(self) -> bool:
        """True if the other side closed, or spoke without being asked."""
        # Not recv with MSG_DONTWAIT: a socket with a timeout waits all the same.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._socket.close()


class Client:
    """The knowledge base of the node whose API listens at `path`.

    `timeout_s` bounds each call; if not given, what waits for the cluster waits for as long as that
    may need to replace its leader, which the node is asked for once.  Values are bytes, or anything
    that JSON knows.  All calls raise `ClientError` and its kinds.  Connects at the first call.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float | None = None) -> None:
        self.path = os.fspath(path)
        self.timeout_s = timeout_s
        self._patience_s: float | None = None
        self._wire: _Wire | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # --- the knowledge base -----------------------------------------------------------------

    def put(self, key: str, value: Any, *, expected: int | None = None) -> Written:
        """Write `value`; returns when a quorum holds it durably.

        `expected`: the revision that the key must have now (0: none), else `Conflict`.
        """
        patience_s = self._patience()
        return self._do(protocol.put(key, value, expected, patience_s), patience_s)

    def delete(self, key: str, *, expected: int | None = None) -> Written:
        """Delete the key; its history stays.  Raises `NotFound` if there is no such key."""
        patience_s = self._patience()
        return self._do(protocol.delete(key, expected, patience_s), patience_s)

    def get(self, key: str, *, revision: int | None = None, linearizable: bool = False) -> Entry:
        """Read this node's copy, or `linearizable` through the cluster; may raise `NotFound`."""
        patience_s = self._patience() if linearizable else None
        return self._do(protocol.get(key, revision, patience_s), patience_s)

    def prove(self, key: str, *, linearizable: bool = False) -> bytes:
        """A proof of what the key has, or that it has none, for `aegis_edge.proof.verify`.

        No older than this node's copy; may wait for the cluster to sign the state.
        """
        patience_s = self._patience()
        return self._do(protocol.prove(key, linearizable, patience_s), patience_s)

    def ls(self, prefix: str = "", *, after: str = "", page: int = PAGE) -> Iterator[Version]:
        """The keys under `prefix` in bytewise order, without their values.

        Those behind the key `after`, which need not exist; so many to a `page`, which is a call.
        """
        more: str | None = after
        while more is not None:
            found = self._do(protocol.ls(prefix, more, page))
            yield from found.entries
            more = found.more

    def history(self, key: str, *, limit: int = 100) -> list[Version]:
        """The versions of a key that are kept, the newest first."""
        return self._do(protocol.history(key, limit)).entries

    def watch(self, *, after: int | None = None, prefix: str = "") -> Iterator[Change]:
        """Follow the writes under `prefix`, from now on or from revision `after`; never ends."""
        wire = _Wire(self.path, self._answer_s + GRACE_S)
        try:
            wire.send(protocol.watch(after, prefix))
            wire.read(protocol.watched(wire.inbox))
            wire.wait(None)
            lines = Inbox()
            while piece := wire.read(protocol.chunk(wire.inbox)):
                lines.feed(piece)
                yield from protocol.changes(lines)
        finally:
            wire.close()

    def pipeline(self) -> Pipeline:
        """Thousands of writes a second: ``with kb.pipeline() as p: p.put(...); ...; p.flush()``."""
        return Pipeline(self.path, timeout_s=self._patience())

    # --- the node ---------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Where the node stands."""
        return self._do(protocol.table("status"))

    def peers(self) -> dict[str, Any]:
        """The members, and the links to them."""
        return self._do(protocol.table("peers"))

    def dial(self, address: str) -> dict[str, Any]:
        """Have the member at `address` tried now; `peer` in the answer is its id.

        Raises `NotFound` if no member says that it is there.
        """
        return self._do(protocol.dial(address))

    def ban(self, node_id: str, for_s: int | None = None) -> dict[str, Any]:
        """Have no link with this node, for so many seconds or until `unban`, over restarts.

        `warning` in the answer says what that may cost, if it may.
        """
        return self._do(protocol.ban(node_id, for_s))

    def unban(self, node_id: str) -> dict[str, Any]:
        """Hold nothing against this node any more, whatever it was banned for."""
        return self._do(protocol.unban(node_id))

    # --- the members ------------------------------------------------------------------------

    def members(self) -> dict[str, Any]:
        """Who takes part, and since when."""
        return self._do(protocol.table("members"))

    def proposals(self) -> dict[str, Any]:
        """The changes that wait for votes: of members, and of what they share."""
        return self._do(protocol.table("proposals"))

    def propose_addition(self, record: str, *, unseen: bool = False) -> dict[str, Any]:
        """Propose the node whose record (the text of `aegis-edge record`) this is as a member.

        `number` in the answer names the proposal; it is done unless `open`.  Where the cluster
        would need that board from then on it has to answer first, or else `Conflict`; `unseen`:
        whether or not it does, and if it never comes the cluster stops for good.
        """
        patience_s = self._patience()
        call = protocol.propose("add", record, patience_s, unseen=unseen)
        return self._do(call, patience_s)

    def propose_removal(self, node_id: str) -> dict[str, Any]:
        """Propose that this member goes; the answer is as for `propose_addition`."""
        patience_s = self._patience()
        return self._do(protocol.propose("remove", node_id, patience_s), patience_s)

    def propose_value(self, name: str, value: float) -> dict[str, Any]:
        """Propose a value for a parameter that all members share, as `aegis-edge propose` does.

        `value` is in seconds or batches; the answer is as for `propose_addition`.
        """
        patience_s = self._patience()
        return self._do(protocol.propose("set", {name: value}, patience_s), patience_s)

    def vote(self, number: int, yes: bool) -> dict[str, Any]:
        """Say yes or no to a proposal, for this node; the answer is as for `propose_addition`."""
        patience_s = self._patience()
        return self._do(protocol.vote(number, yes, patience_s), patience_s)

    def leave(self) -> dict[str, Any]:
        """Have this node go; nobody is asked."""
        patience_s = self._patience()
        return self._do(protocol.leave(patience_s), patience_s)

    def invite(
        self, lifetime_s: int, instead_of: str | None = None, *, is_observer: bool = False
    ) -> dict[str, Any]:
        """Invite a board for so many seconds; the `code` in the answer is for `aegis-edge join`.

        `instead_of`: the node id of a member in whose place it is to be admitted; `is_observer`: it
        is to follow, and no member.
        """
        patience_s = self._patience()
        call = protocol.invite(lifetime_s, instead_of, is_observer, patience_s)
        return self._do(call, patience_s)

    def invitations(self) -> dict[str, Any]:
        """What became of the invitations of this node."""
        return self._do(protocol.table("invitations"))

    def cancel_invitation(self, name: str) -> dict[str, Any]:
        """End an invitation that nobody has used."""
        return self._do(protocol.cancel_invitation(name))

    def dismiss_observer(self, node_id: str) -> dict[str, Any]:
        """Vouch for an observer no more, whom this node has invited."""
        return self._do(protocol.dismiss_observer(node_id))

    def config(self) -> dict[str, Any]:
        """The settings that the node runs with, and where each came from."""
        return self._do(protocol.table("config"))

    def version(self) -> dict[str, Any]:
        """The version of the node."""
        return self._do(protocol.table("version"))

    def metrics(self) -> str:
        """The metrics as Prometheus text."""
        return self._do(protocol.metrics())

    def _patience(self) -> float:
        """How long to wait for the cluster, in seconds: what the caller says, else the node."""
        if self.timeout_s is not None:
            return self.timeout_s
        if self._patience_s is None:
            self._patience_s = protocol.patience_s(self.status())
        return self._patience_s

    @property
    def _answer_s(self) -> float:
        """How long to wait for what the node knows itself, in seconds."""
        return protocol.ANSWER_S if self.timeout_s is None else self.timeout_s

    def _do(self, call: Call[T], patience_s: float | None = None) -> T:
        answer_s = self._answer_s if patience_s is None else patience_s
        if self._wire is not None and self._wire.stale:
            self.close()
        if self._wire is None:
            self._wire = _Wire(self.path, answer_s + GRACE_S)
        wire, self._wire = self._wire, None
        try:
            wire.wait(answer_s + GRACE_S)
            wire.send(call.request)
            answer = wire.read(protocol.response(wire.inbox))
        except BaseException:
            wire.close()
            raise
        if answer.headers.get("connection", "").lower() == "close":
            wire.close()
        else:
            self._wire = wire
        return call.read(answer)


class Pipeline:
    """Many writes on the way at once, over a connection of their own.

    `put` and `delete` return at once (or wait for room) with the operation's number; `flush` waits
    for all answers.  Leaving the `with` block flushes.
    """

    def __init__(self, path: str, *, timeout_s: float) -> None:
        from aegis_edge.client import flight

        self._flight = flight.Flight()
        # No grace: on this way the node has no time of its own after which it would say why.
        self._wire = _Wire(path, timeout_s)
        try:
            self._wire.send(protocol.upgrade())
            self._wire.read(protocol.upgraded(self._wire.inbox))
        except BaseException:
            self._wire.close()
            raise

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._wire.close()

    def put(self, key: str, value: Any, *, expected: int | None = None) -> int:
        """Send a put on its way; its number, from 0."""
        number = self._flight.put(key, value, expected)
        self._pump()
        return number

    def delete(self, key: str, *, expected: int | None = None) -> int:
        """Send a deletion on its way; its number, from 0."""
        number = self._flight.delete(key, expected)
        self._pump()
        return number

    def settle(self) -> list[Written | ClientError]:
        """Wait for all answers since the last flush, in order; an error is an item, not raised."""
        self._wire.send(self._flight.frame())
        while self._flight.open:
            self._wire.read(self._flight.answers(self._wire.inbox))
        return self._flight.landed()

    def flush(self) -> list[Written]:
        """Wait until all writes since the last flush are durable; raises the first error."""
        return self._flight.all_written(self.settle())

    def _pump(self) -> None:
        if self._flight.frame_due:
            self._wire.send(self._flight.frame())
        while self._flight.full:
            self._wire.send(self._flight.frame())
            self._wire.read(self._flight.answers(self._wire.inbox))


def not_running(path: str, error: OSError) -> ClientError:
    """Why nobody answers at `path`, as the error for people."""
    if isinstance(error, PermissionError):
        return NotRunning(
            f"no permission to use {path}",
            "ask to join the group that owns the socket, or use the account of the node",
        )
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return NotRunning(f"no node answers at {path}", "start it with: aegis-edge run")
    return NotRunning(
        f"cannot reach the node at {path}: {error.strerror or error}",
        "check the path of the socket",
    )


def _late() -> ClientError:
    return TimedOut("the node did not answer in time", "look at: aegis-edge status")


def _lost(error: OSError) -> ClientError:
    return Disconnected(
        f"the connection to the node broke: {error.strerror or error}", "is the node still running?"
    )

"""Waiting for the cluster: for how long, and what a person is told meanwhile and in the end.

Knows a second caller, who asks the node where it stands.  Refuses to know what is waited for, and
to hold it up: whatever goes wrong here is not worth a word.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from aegis_edge.cli import screen

if TYPE_CHECKING:
    from aegis_edge.client import Client, ClientError

#: How long nothing is said.
SILENT_S = 2.0
ANSWER_S = 5.0


option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.001, 3600),
    default=30.0,
    metavar="SECONDS",
    help="How long to wait for the cluster.  [default: 30]",
)


@contextmanager
def shown(client: Client) -> Iterator[None]:
    """While the block waits for the cluster: after a moment, a line on standard error says why."""
    if screen.wants_json():
        yield
        return
    over = threading.Event()

    def look() -> None:
        from aegis_edge.client import Client, ClientError

        if over.wait(SILENT_S):
            return
        with suppress(ClientError, KeyError), Client(client.path, timeout_s=ANSWER_S) as other:
            line = words(other.status(), other.peers()["peers"])
            if not over.is_set():
                _say(line)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _say(line: str) -> None:
    """On a line of its own, also where a progress bar stands."""
    fresh = "\r\x1b[K" if sys.stderr.isatty() else ""
    click.echo(fresh + line, err=True)


@contextmanager
def explained(client: Client) -> Iterator[None]:
    """Who waits in vain on a way where the node says nothing of itself is told why all the same."""
    from aegis_edge.client import TimedOut

    try:
        yield
    except TimedOut as late:
        raise _reason(client) or late from None


def _reason(client: Client) -> ClientError | None:
    """That there is no quorum, in the words that the node has for it; None if there is one."""
    from aegis_edge.client import ClientError, NoQuorum

    with suppress(ClientError, KeyError):
        status = client.status()
        if not status["has_quorum"]:
            missing = _missing(client.peers()["peers"])
            return NoQuorum(
                f"no quorum: {_here(status)}; waiting for {missing}",
                "start the missing nodes, or mend the network between them",
            )
    return None


def words(status: dict[str, Any], peers: list[dict[str, Any]]) -> str:
    """Why an operation waits; raises `KeyError` if another version of the node does not say."""
    if not status["has_quorum"]:
        return (
            f"waiting for a quorum: {_here(status)}, {status['quorum']} needed;"
            f" missing {_missing(peers)} (Ctrl-C gives up)"
        )
    primary = screen.shown(status["primary_name"])
    if status["view_changing"]:
        return f"waiting for the nodes to replace {primary} as the leader"
    return f"waiting for the cluster: there is a quorum, and {primary} leads"


def _here(status: dict[str, Any]) -> str:
    return f"{len(status['reachable']) + 1} of {status['nodes']} nodes reachable"


def _missing(peers: list[dict[str, Any]]) -> str:
    """The members without a link, in the order in which the node names them elsewhere."""
    names = sorted(peer["name"] for peer in peers if peer["state"] != "linked")
    return ", ".join(map(screen.shown, names))

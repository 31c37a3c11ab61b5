"""Waiting for the cluster: for how long, and what a person is told meanwhile and in the end.

Knows a second caller, who asks the node where it stands.  Refuses to know what is waited for, and
to hold it up: whatever goes wrong here is not worth a word.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from aegis_edge.cli import screen

if TYPE_CHECKING:
    from aegis_edge.client import Client, ClientError

#: Between two looks at what may be worth a word, the first after as long.
LOOK_S = 2.0
ANSWER_S = 5.0
#: What takes no more than this part of the node's patience is on its way as it should be: its four
#: messages take a sixth of a time-out at most, and the patience is two.  At HIGH that is 13 s.
USUAL = 12


option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.001, 3600),
    metavar="SECONDS",
    help="How long to wait for the cluster.  [default: as long as it may take to replace its"
    " leader; over TCP a minute]",
)


@contextmanager
def wishing(timeout_s: float | None) -> Iterator[Client]:
    """A client for what the members have to agree on, or the node to propose; see `shown`."""
    try:
        with screen.client(timeout_s) as client, shown(client):
            yield client
    except KeyboardInterrupt:
        screen.note("not waiting any more; it may still happen: see aegis-edge proposals")
        raise


@contextmanager
def shown(client: Client) -> Iterator[None]:
    """While the block waits for the cluster: a line on standard error, once there is a reason."""
    if screen.wants_json():
        yield
        return
    over = threading.Event()
    began_s = time.monotonic()

    def look() -> None:
        from aegis_edge.client import Client, ClientError

        said = ""
        with suppress(ClientError, KeyError), Client(client.path, timeout_s=ANSWER_S) as other:
            while not over.wait(LOOK_S):
                waited_s = time.monotonic() - began_s
                line = words(other.status(), other.peers()["peers"], waited_s)
                if line not in ("", said) and not over.is_set():
                    _say(line)
                    said = line

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


def words(status: dict[str, Any], peers: list[dict[str, Any]], waited_s: float) -> str:
    """Why an operation waits, if there is more to say than that it takes its time; else "".

    Raises `KeyError` if another version of the node does not say.
    """
    if not status["has_quorum"]:
        return (
            f"waiting for a quorum: {_here(status)}, {status['quorum']} needed;"
            f" missing {_missing(peers)} (Ctrl-C gives up)"
        )
    primary = screen.shown(status["primary_name"])
    if status["view_changing"]:
        return f"waiting for the nodes to replace {primary} as the leader"
    if waited_s <= status["patience_s"] / USUAL:
        return ""
    return f"waiting for the cluster: there is a quorum, and {primary} leads"


def _here(status: dict[str, Any]) -> str:
    return f"{len(status['reachable']) + 1} of {status['nodes']} nodes reachable"


def _missing(peers: list[dict[str, Any]]) -> str:
    """The members without a link, in the order in which the node names them elsewhere."""
    names = sorted(peer["name"] for peer in peers if peer["state"] != "linked")
    return ", ".join(map(screen.shown, names))

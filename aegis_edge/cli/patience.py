"""What a person is told who waits for the cluster: why, and for whom, once it takes a while.

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
    from aegis_edge.client import Client

#: How long nothing is said.
SILENT_S = 2.0
ANSWER_S = 5.0


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


def words(status: dict[str, Any], peers: list[dict[str, Any]]) -> str:
    """Why an operation waits; raises `KeyError` if another version of the node does not say."""
    if not status["has_quorum"]:
        here = f"{len(status['reachable']) + 1} of {status['nodes']} nodes reachable"
        missing = [screen.shown(peer["name"]) for peer in peers if peer["state"] != "linked"]
        return (
            f"waiting for a quorum: {here}, {status['quorum']} needed;"
            f" missing {', '.join(missing)} (Ctrl-C gives up)"
        )
    primary = screen.shown(status["primary_name"])
    if status["view_changing"]:
        return f"waiting for the nodes to replace {primary} as the leader"
    return f"waiting for the cluster: there is a quorum, and {primary} leads"

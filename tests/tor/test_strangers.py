"""Who may not find a node learns nothing of it, and who cannot reach a member is told why."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.socks import Failure
from tests.tor.boards import (
    PATIENCE_S,
    Node,
    board,
    clustered,
    linked,
    overheard,
    running,
    system_tor,
)
from tests.tor.onion import Refused, dial
from tornet import TorNetwork, TorNetworkError
from tors import hush, until

HIGH = SecurityLevel.HIGH
CALLED = "PURPOSE=HS_SERVICE_REND"
CREDENTIAL_MISSING = 0xF4


def test_a_stranger_is_refused_by_the_descriptor_and_the_node_never_hears_of_it(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    names = ("host", "member", "stranger")
    tors = [system_tor(tor_network, name, HIGH) for name in names]
    host, member = (board(tmp_path / tor.name, tor, HIGH) for tor in tors[:2])
    clustered(host, member)
    tors[2].wait()
    with running(host) as node:
        address = node.until_reachable()["address"].removesuffix(".onion")
        # Not by its tor either: it builds a circuit for each caller that its descriptor lets in.
        with overheard(tors[0], "CIRC CIRC_MINOR") as heard:
            for _ in range(3):
                with pytest.raises(Refused) as caught:
                    dial(tors[2], address)
                assert caught.value.args == (CREDENTIAL_MISSING,)
            assert not [event for event in heard.so_far() if CALLED in event]
            with running(member) as other:
                linked(node, other)
            assert [event for event in heard.so_far() if CALLED in event]
        assert "calls refused" not in node.log


def test_why_a_member_cannot_be_reached_is_told_in_words(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    """One member is off; the other has made another genesis, for itself alone."""
    tors = (system_tor(tor_network, name, HIGH) for name in ("theirs", "mine", "plain"))
    theirs, mine, plain = tors
    alone = board(tmp_path / "alone", theirs, HIGH)
    off = board(tmp_path / "off", mine, HIGH)
    askers = (
        (board(tmp_path / "high", mine, HIGH), Failure.CREDENTIAL_WRONG),
        (board(tmp_path / "standard", plain, SecurityLevel.STANDARD), Failure.CREDENTIAL_MISSING),
    )
    for asker, _ in askers:
        clustered(asker, off, alone)
    clustered(alone)
    with running(alone) as other, ExitStack() as stack:
        other.until_reachable()
        for asker, failure in askers:
            node = stack.enter_context(running(asker))
            for name, expected in (("off", Failure.NO_DESCRIPTOR), ("alone", failure)):
                message, advice = expected.words
                said = last_error(node, name, message)
                assert said.startswith(f"{message} (SOCKS answer {expected.value}); {advice}")


def last_error(node: Node, name: str, message: str) -> str:
    """What `peers` says of a member once `message` is in it."""
    said = [""]

    def is_told() -> bool:
        said.append({peer["name"]: peer["last_error"] for peer in node.peers()}.get(name, ""))
        return message in said[-1]

    try:
        until(f"{name}: {message}", is_told, [], time.monotonic() + PATIENCE_S, hush)
    except TorNetworkError as error:
        raise AssertionError(f"{error}, but {said[-1]!r}") from None
    return said[-1]

"""Bad days that pass: the node starts, says why its tor is no further, and goes on by itself.

Nodes are processes, and their tors real ones on a private network.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.peers import onion
from cluster import free_ports
from tests.tor.boards import PATIENCE_S, board, clustered, overheard, running, system_tor
from tests.tor.onion import control
from tornet import TorNetwork
from tors import Client

HIGH, STANDARD = SecurityLevel.HIGH, SecurityLevel.STANDARD


# --- a wrong cookie -----------------------------------------------------------------------------


def test_with_a_wrong_cookie_nothing_is_asked(tor_network: TorNetwork, tmp_path: Path) -> None:
    tor = system_tor(tor_network, "cookie", HIGH)
    settings = clustered(board(tmp_path / "a", tor, HIGH))
    with overheard(tor) as heard:
        right = tor.cookie_path.read_bytes()
        tor.cookie_path.write_bytes(right[::-1])
        with running(settings) as node:
            said = node.until_words("does not know the cookie: it is another tor, or an impostor")
            assert said["stage"] == "no tor"
            assert "restart tor to have it written again" in said["words"]
            tor.cookie_path.write_bytes(right[:-1])
            assert "which has 32 bytes" in node.until_words("is not tor's cookie")["words"]
            assert heard.so_far() == []
            tor.cookie_path.write_bytes(right)
            node.until_reachable()


# --- its address is taken -----------------------------------------------------------------------


def key_of(settings: Config) -> str:
    """The key of a board's onion service, as tor takes it."""
    seed = onion.service_seed(keyfile.read(settings.key_file).seed, 0)
    return base64.b64encode(onion.expanded_secret(seed)).decode()


def test_an_address_that_somebody_holds_is_waited_for(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    """Somebody: another node with the same key, who has to be stopped before this one may run."""
    tor = system_tor(tor_network, "taken", HIGH)
    settings = clustered(board(tmp_path / "a", tor, HIGH))
    tor.wait()
    with control(tor) as other:
        other.create_ephemeral_hidden_service({1: 1}, "ED25519-V3", key_of(settings))
        with overheard(tor) as heard, running(settings) as node:
            said = node.until_words("this tor serves the node's onion address already")
            assert said["stage"] == "no tor"
            assert "stop the other aegis-edge that has the same key" in said["words"]
            assert not [event for event in heard.so_far() if event.startswith("STREAM")]
            other.close()
            node.until_reachable()


def test_a_service_that_was_left_behind_is_removed(tor_network: TorNetwork, tmp_path: Path) -> None:
    tor = system_tor(tor_network, "left", HIGH)
    settings = clustered(board(tmp_path / "a", tor, HIGH))
    tor.wait()
    with control(tor) as other:
        other.create_ephemeral_hidden_service({1: 1}, "ED25519-V3", key_of(settings), detached=True)
    with running(settings) as node:
        address = node.until_reachable()["address"]
        with control(tor) as other:
            assert address.removesuffix(".onion") not in other.get_info("onions/detached", "")


# --- tor is stuck -------------------------------------------------------------------------------


def test_a_tor_whose_network_cannot_be_reached_says_why(
    tor_network: TorNetwork, tmp_path: Path
) -> None:
    (closed,) = free_ports(1)
    authority = str(tor_network.torrc["DirAuthority"])
    nowhere = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{closed}", authority)
    nowhere = re.sub(r"orport=\d+", f"orport={closed}", nowhere)
    tor = system_tor(tor_network, "nowhere", HIGH, {"DirAuthority": nowhere})
    with running(clustered(board(tmp_path / "a", tor, HIGH))) as node:
        said = node.until_words("(Connection refused)")
        assert said["words"].startswith("tor is at 5 %: Connecting to a relay")
        assert (said["stage"], said["bootstrap_percent"]) == ("bootstrapping", 5)
        tor.torrc["DirAuthority"] = authority
        tor.hang_up()
        node.until_reachable()


@pytest.fixture
def undecided() -> Iterator[TorNetwork]:
    """A network whose authority has not voted: whoever asks it for the consensus gets none."""
    network = TorNetwork()
    network.begin(time.monotonic() + PATIENCE_S)
    try:
        yield network
    finally:
        network.stop()


def test_a_tor_that_is_stuck_at_30_percent_goes_on_when_it_can(
    undecided: TorNetwork, tmp_path: Path
) -> None:
    tor = system_tor(undecided, "stuck", HIGH)
    with overheard(tor) as heard, running(clustered(board(tmp_path / "a", tor, HIGH))) as node:
        said = node.until_words("tor is at 30 %: Loading networkstatus consensus")
        assert (said["stage"], said["bootstrap_percent"]) == ("bootstrapping", 30)
        assert heard.so_far() == []
        undecided.agree(time.monotonic() + PATIENCE_S)
        woken(tor)
        node.until_reachable()


def woken(tor: Client) -> None:
    """It waits longer after each refusal, and need not be waited for here."""
    tor.hang_up()
    tor.wait()

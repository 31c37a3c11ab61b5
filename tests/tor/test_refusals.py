"""A tor that cannot keep what the level promises: the node says what to mend, and does not start.

Each node is a process, and its tor a real one on the private network that is able to announce and
to dial, so that what is not heard from it was not asked.  No tor here lacks a build-time module:
Debian builds none without.  An older one, of Debian's backports, stands for it, which has the
module and cannot be told to use it for a service of the control port.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aegis_edge.net.tor.levels import SecurityLevel
from cluster import free_ports
from tests.tor.boards import Node, Overheard, board, clustered, overheard, running, system_tor
from tornet import TorNetwork
from tors import Client, Torrc

HIGH, STANDARD = SecurityLevel.HIGH, SecurityLevel.STANDARD
ROOT = Path(__file__).resolve().parents[2]
SETTINGS_MUST_BE_CORRECTED = 78


@pytest.fixture(scope="module")
def old_tor() -> str:
    """A tor of before 0.4.9."""
    done = subprocess.run(
        [ROOT / "scripts" / "oldtor", ROOT / ".oldtor"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"an older tor cannot be had here: {done.stderr.strip()}")
    return done.stdout.strip()


def refusal(node: Node, heard: Overheard) -> str:
    """What a node ends of that has asked nothing of its tor."""
    code, said = node.ended()
    assert code == SETTINGS_MUST_BE_CORRECTED
    assert heard.so_far() == []
    assert not (node.settings.directory / "tor" / "onion.sock").exists()
    return said


def test_without_vanguards(tor_network: TorNetwork, tmp_path: Path) -> None:
    tor = system_tor(tor_network, "unguarded", HIGH, {"VanguardsLiteEnabled": "0"})
    settings = clustered(board(tmp_path / "a", tor, HIGH))
    with overheard(tor) as heard, running(settings) as node:
        said = refusal(node, heard)
    assert said == (
        "error: this tor cannot keep what SECURITY_LEVEL HIGH promises: VanguardsLiteEnabled "
        "is 0, not 1: put the line VanguardsLiteEnabled 1 into its torrc and restart it"
    )


def over_tcp(network: TorNetwork, name: str, level: SecurityLevel) -> tuple[Client, str, str]:
    """A tor that listens on loopback; where it takes commands, and where streams."""
    control_at, socks_at = (f"127.0.0.1:{port}" for port in free_ports(2))
    listens: Torrc = {"ControlPort": control_at, "SocksPort": f"{socks_at} ExtendedErrors"}
    return system_tor(network, name, level, listens), control_at, socks_at


def test_without_unix_sockets(tor_network: TorNetwork, tmp_path: Path) -> None:
    tor, control_at, socks_at = over_tcp(tor_network, "tcp-high", HIGH)
    settings = board(tmp_path / "a", tor, HIGH, control_at=control_at, socks_at=socks_at)
    with overheard(tor) as heard, running(clustered(settings)) as node:
        said = refusal(node, heard)
    for name, place in (("ControlSocket", control_at), ("SocksPort", socks_at)):
        assert f"tor is reached at {place}, so this node needs a network: set {name} unix:" in said


def test_at_standard_loopback_will_do(tor_network: TorNetwork, tmp_path: Path) -> None:
    """And all that shows nothing elsewhere shows here, where a node is at work."""
    tor, control_at, socks_at = over_tcp(tor_network, "tcp-standard", STANDARD)
    settings = board(tmp_path / "a", tor, STANDARD, control_at=control_at, socks_at=socks_at)
    with overheard(tor) as heard, running(clustered(settings)) as node:
        node.until_reachable()
        seen = heard.so_far()
    assert any(event.startswith("HS_DESC UPLOADED") for event in seen)
    assert any(event.startswith("STREAM") and "SUCCEEDED" in event for event in seen)


def test_without_proof_of_work(tor_network: TorNetwork, tmp_path: Path, old_tor: str) -> None:
    tor = system_tor(tor_network, "old-high", HIGH, program=(old_tor,))
    settings = clustered(board(tmp_path / "a", tor, HIGH))
    with overheard(tor) as heard, running(settings) as node:
        said = refusal(node, heard)
    assert "tor 0.4.8." in said
    assert "cannot demand proof of work for the node's service: update tor: Debian's" in said
    assert "it takes 0.4.9.2" in said


def test_at_standard_an_older_tor_will_do(
    tor_network: TorNetwork, tmp_path: Path, old_tor: str
) -> None:
    tor = system_tor(tor_network, "old-standard", STANDARD, program=(old_tor,))
    with running(clustered(board(tmp_path / "a", tor, STANDARD))) as node:
        assert node.until_reachable()["tor_version"].startswith("0.4.8.")

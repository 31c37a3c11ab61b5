"""The network that all other tests of Tor stand on does what it says."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tor.onion import NO_DESCRIPTOR, Refused, ask, control, dial, mirror, reach
from tornet import FLAGS, TorNetwork, TorNetworkError
from tors import Client

TORNET = Path(__file__).resolve().parents[2] / "scripts" / "tornet.py"


@pytest.fixture(scope="module")
def attic(tor_network: TorNetwork) -> Client:
    return tor_network.client("attic")


@pytest.fixture(scope="module")
def barn(tor_network: TorNetwork) -> Client:
    return tor_network.client("barn")


def test_the_consensus_lists_all(tor_network: TorNetwork) -> None:
    consensus = tor_network.consensus()
    assert sorted(consensus) == ["authority", "relay1", "relay2", "relay3"]
    assert all(flags >= FLAGS for flags in consensus.values())


def test_a_node_needs_two_sockets_and_a_cookie(attic: Client) -> None:
    assert attic.socks_path.is_socket()
    assert len(attic.cookie_path.read_bytes()) == 32
    assert attic.folder.stat().st_mode & 0o777 == 0o700
    with control(attic) as controller:
        assert controller.get_info("status/circuit-established") == "1"
        assert "ExtendedErrors" in controller.get_conf("SocksPort")
        # Debian's defaults would show here.
        assert controller.get_info("config-defaults-file") == str(attic.folder / "defaults")
        # Had stem taken this tor over, it would end with the controller, and this be unset.
        owner = controller.get_conf("__OwningControllerProcess")
        assert owner == attic.torrc["__OwningControllerProcess"] != str(os.getpid())


def test_bytes_go_both_ways_to_an_onion_service(
    attic: Client, barn: Client, tmp_path: Path
) -> None:
    with mirror(attic, tmp_path) as (address, _), reach(barn, address) as stream:
        line = bytes(range(11, 256)) * 400
        assert ask(stream, line) == line[::-1]
        assert ask(stream, b"ping") == b"gnip"


def test_tor_says_why_there_is_no_stream(barn: Client) -> None:
    with pytest.raises(Refused) as caught:
        dial(barn, "a" * 55 + "d")
    assert caught.value.args != (0x01,), "a code of tor's own, not the general failure"


def test_a_client_that_was_killed_comes_back(attic: Client, barn: Client, tmp_path: Path) -> None:
    with mirror(attic, tmp_path) as (address, key):
        reach(barn, address).close()
        attic.kill()
    with pytest.raises(OSError):
        dial(attic, address)
    attic.start()
    with mirror(attic, tmp_path, key) as (again, _), reach(barn, again) as stream:
        assert again == address
        assert ask(stream, b"ping") == b"gnip"


def test_a_client_stops_in_order(tor_network: TorNetwork) -> None:
    client = tor_network.client("cellar", torrc={"Log": ["notice stdout", "warn stderr"]})
    client.stop()
    assert "Catching signal TERM, exiting cleanly." in client.log.read_text()
    client.start()
    assert client.ready()


def test_two_networks_know_nothing_of_each_other(
    tor_network: TorNetwork, far_network: TorNetwork, attic: Client, tmp_path: Path
) -> None:
    stranger = far_network.client("stranger")
    with mirror(attic, tmp_path) as (address, _), pytest.raises(Refused) as caught:
        dial(stranger, address)
    assert caught.value.args == (NO_DESCRIPTOR,)
    with mirror(stranger, tmp_path) as (address, _), reach(far_network.client("friend"), address):
        with pytest.raises(Refused):
            dial(attic, address)
    assert set(tor_network.torrc.items()) ^ set(far_network.torrc.items()) == {
        ("DirAuthority", network.torrc["DirAuthority"]) for network in (tor_network, far_network)
    }


def test_a_tor_that_ends_by_itself_is_heard(tor_network: TorNetwork) -> None:
    with pytest.raises(TorNetworkError, match=r"odd ended by itself:\n(.*\n)*.*Unknown option"):
        tor_network.client("odd", torrc={"NoSuchOption": "1"})
    tor_network.clients.pop().process = None
    tor_network.check()


def test_a_name_serves_once(tor_network: TorNetwork, attic: Client) -> None:
    with pytest.raises(TorNetworkError, match="take another name"):
        tor_network.client(attic.name)


def test_a_long_path_is_refused_before_tor_would(tor_network: TorNetwork) -> None:
    with pytest.raises(TorNetworkError, match="too long for a socket"):
        tor_network.client("x" * 100)


def test_who_is_late_is_said_and_nothing_is_left() -> None:
    network = TorNetwork()
    with pytest.raises(TorNetworkError) as caught:
        network.start(patience_s=0.0)
    assert "  authority: " in str(caught.value)
    assert not network.directory.exists()
    network.stop()


def test_everything_ends_with_its_owner(tmp_path: Path) -> None:
    """Not at the end of a `with`, but with kill -9."""
    owner = subprocess.Popen(
        [sys.executable, str(TORNET), "--clients", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        assert any("client1 has a circuit" in line for line in owner.stdout)
        ends = [os.pidfd_open(pid) for pid in below(tmp_path)]
        assert len(ends) == 6  # four relays, one client, the leash
        owner.kill()
        began = time.monotonic()
    for end in ends:
        assert select.select([end], [], [], 5)[0], "something lives on"
        os.close(end)
    assert time.monotonic() - began < 2
    assert list(tmp_path.iterdir()) == []


def below(directory: Path) -> Iterator[int]:
    """The processes that have something below `directory` on their command line."""
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if bytes(directory) in (proc / "cmdline").read_bytes():
                yield int(proc.name)
        except OSError:
            continue  # it ended

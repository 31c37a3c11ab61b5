from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.net.tor import levels, torrc
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.torrc import Places

PLACES = Places(Path("/run/aegis-edge/tor"))


def rows(text: str) -> list[tuple[str, str]]:
    pairs = [line.partition(" ") for line in text.splitlines()]
    return [(name, value) for name, _, value in pairs]


@pytest.mark.parametrize("level", SecurityLevel)
def test_it_names_private_places_and_no_network_port(level: SecurityLevel) -> None:
    found = dict(rows(torrc.text(PLACES, level, 4711)))
    assert found["__OwningControllerProcess"] == "4711"
    assert found["ControlSocket"] == "unix:/run/aegis-edge/tor/control"
    assert found["SocksPort"] == (
        "unix:/run/aegis-edge/tor/socks ExtendedErrors IsolateSOCKSAuth OnionTrafficOnly"
    )
    assert not {"ControlPort", "ORPort", "DNSPort", "TransPort", "HTTPTunnelPort"} & set(found)
    assert len(found) == len(rows(torrc.text(PLACES, level, 4711))), "an option twice"


def test_extras_come_last_and_bridges_may_be_many() -> None:
    extra = [("Bridge", "obfs4 192.0.2.1:1 x"), ("Bridge", "obfs4 192.0.2.2:1 y"), ("NumCPUs", "1")]
    assert rows(torrc.text(PLACES, SecurityLevel.HIGH, 1, extra))[-3:] == extra


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([("SafeSocks", "0")], "the node or its level sets it"),
        ([("safesocks", "0")], "the node or its level sets it"),
        ([("NumCPUs", "1"), ("numcpus", "2")], "the node or its level sets it"),
        ([("SocksPort", "9050")], "the node or its level sets it"),
        ([("+SocksPort", "9050")], "not one line"),
        ([("/SafeSocks", "x")], "not one line"),
        ([("%include", "/etc/passwd")], "not one line"),
        ([("", "x")], "not one line"),
        ([("NumCPUs", "")], "not one line"),
        ([("NumCPUs", "1\nSafeSocks 0")], "not one line"),
        ([("NumCPUs", "1\rSafeSocks 0")], "not one line"),
        ([("NumCPUs", "1\\")], "not one line"),
        ([("NumCPUs\nSafeSocks", "0")], "not one line"),
    ],
)
def test_an_extra_cannot_become_another_option(extra: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(TorError, match=words):
        torrc.text(PLACES, SecurityLevel.HIGH, 1, extra)


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=3))
def test_any_extra_is_a_line_or_refused(extra: list[tuple[str, str]]) -> None:
    plain = torrc.text(PLACES, SecurityLevel.HIGH, 1)
    try:
        text = torrc.text(PLACES, SecurityLevel.HIGH, 1, extra)
    except TorError:
        return
    assert len(text.splitlines()) == len(plain.splitlines()) + len(extra)


@pytest.mark.parametrize("folder", ["relative", "/a b", "/ä", '/a"b', "/a\nb", "/" + "x" * 100])
def test_a_folder_that_tor_could_misread_is_refused(folder: str) -> None:
    with pytest.raises(TorError, match="cannot be tor's folder; name one by an absolute path"):
        Places(Path(folder))


SAMPLE = Path(__file__).resolve().parents[3] / "torrc.sample"


def sample() -> list[tuple[str, str]]:
    lines = SAMPLE.read_text(encoding="ascii").splitlines()
    return [line.partition(" ")[::2] for line in lines if line and line[0] != "#"]


def test_the_sample_is_what_the_default_level_demands() -> None:
    """And nothing that a level sets stands there twice, or otherwise."""
    found = sample()
    assert set(levels.torrc_options(SecurityLevel.HIGH)) <= set(found)
    assert len({name for name, _ in found}) == len(found)
    socks = dict(found)["SocksPort"].split()
    assert set(levels.SOCKS_FLAGS) <= set(socks)

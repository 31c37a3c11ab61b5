from __future__ import annotations

import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.net.tor import levels
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.levels import TABLE, Facts, Problem, SecurityLevel, Shape
from aegis_edge.net.tor.vanguards import FULL
from aegis_edge.wire.session import CELL_FRAME_BYTES

STANDARD, HIGH, PARANOID = SecurityLevel
SOCKS = Endpoint(path="/run/tor/socks")
CONTROL = Endpoint(path="/run/tor/control")
BRIDGE = "obfs4 192.0.2.1:443 " + "A" * 40 + " cert=x iat-mode=0"


def conf(level: SecurityLevel, **changes: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    """What a tor with our torrc answers; None takes an option away."""
    found: dict[str, tuple[str, ...] | None] = {
        name: (value,) for name, value in levels.torrc_options(level)
    }
    found |= {"SocksPort": (f"{SOCKS} ExtendedErrors",), "HSLayer2Nodes": ("",)}
    found |= {"HSLayer3Nodes": ("",), "Bridge": (BRIDGE,) if level is PARANOID else ()}
    found["ClientTransportPlugin"] = ("obfs3,obfs4 exec /usr/bin/obfs4proxy",)
    return {name: value for name, value in (found | changes).items() if value is not None}


def facts(level: SecurityLevel, **changes: object) -> Facts:
    good = Facts("0.4.9.11", frozenset({"pow", "relay"}), conf(level), CONTROL, SOCKS)
    return good._replace(**changes)


def words(problems: tuple[Problem, ...]) -> str:
    assert all(problem.words and problem.fix for problem in problems)
    return " | ".join(f"{problem.words}: {problem.fix}" for problem in problems)


@pytest.mark.parametrize("level", SecurityLevel)
def test_a_tor_with_our_torrc_lacks_nothing(level: SecurityLevel) -> None:
    assert levels.missing(level, facts(level)) == ()
    assert set(conf(level)) == set(levels.asked(level))


@pytest.mark.parametrize("level", SecurityLevel)
def test_each_option_of_the_table_is_demanded(level: SecurityLevel) -> None:
    for option in TABLE[level].options:
        other = "0" if option.value != "0" else "1"
        for found, said in [
            ((other,), f"{option.name} is {other}, not {option.value}: put the line"),
            ((), f"{option.name} is nothing"),
            ((option.value, option.value), f"{option.name} is {option.value}, {option.value}"),
            (None, f"this tor does not know {option.name}: update tor"),
        ]:
            lacking = levels.missing(level, facts(level, conf=conf(level, **{option.name: found})))
            assert said in words(lacking) and len(lacking) == 1


def test_a_level_demands_what_the_one_below_does() -> None:
    for lower, higher in ((STANDARD, HIGH), (HIGH, PARANOID)):
        for option in TABLE[lower].options:
            (same,) = [o for o in TABLE[higher].options if o.name == option.name]
            assert same.value in (option.value, *option.also)
            assert set(same.also) <= {option.value, *option.also}
        low, high = TABLE[lower], TABLE[higher]
        for name in (
            "client_authorisation",
            "proof_of_work_required",
            "unix_sockets",
            "bridges",
            "full_vanguards",
        ):
            assert getattr(low, name) <= getattr(high, name)
        assert low.proof_of_work.queue_rate >= high.proof_of_work.queue_rate
        assert low.shape.link_bytes_a_day < high.shape.link_bytes_a_day


def test_what_may_be_left_to_tor_at_standard_is_demanded_above() -> None:
    for name, value in (("VanguardsLiteEnabled", "auto"), ("ConnectionPadding", "auto")):
        for level in SecurityLevel:
            lacking = levels.missing(level, facts(level, conf=conf(level, **{name: (value,)})))
            assert bool(lacking) == (level is not STANDARD)


@pytest.mark.parametrize("level", [HIGH, PARANOID])
@pytest.mark.parametrize(
    ("version", "modules", "said"),
    [
        ("0.4.6.12", frozenset({"pow"}), "'0.4.6.12' is too old to have vanguards"),
        ("", frozenset({"pow"}), "'' is too old"),
        ("nonsense\x1b", frozenset({"pow"}), r"'nonsense\?' is too old"),
        ("0.4.8.16", frozenset({"pow"}), "cannot demand proof of work.*it takes 0.4.9.2"),
        ("0.4.9.1-alpha", frozenset({"pow"}), "cannot demand proof of work"),
        ("0.4.9.11", frozenset({"relay"}), "built without proof of work"),
        ("0.4.9.11", None, "not known whether.*tor --list-modules"),
    ],
)
def test_a_tor_without_proof_of_work_will_not_do(
    level: SecurityLevel, version: str, modules: frozenset[str] | None, said: str
) -> None:
    lacking = levels.missing(level, facts(level, version=version, modules=modules))
    assert len(lacking) == 1
    assert re.search(said, words(lacking))
    assert not levels.can_prove_work(facts(level, version=version, modules=modules))


def test_standard_does_without_proof_of_work_but_not_without_vanguards() -> None:
    old = facts(STANDARD, version="0.4.8.16 (git-1234)", modules=None)
    assert levels.missing(STANDARD, old) == () and not levels.can_prove_work(old)
    assert levels.can_prove_work(facts(STANDARD, version="0.4.9.2-alpha"))
    assert "too old" in words(levels.missing(STANDARD, facts(STANDARD, version="0.4.6.1")))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "no SocksPort line for unix:/run/tor/socks: put the line SocksPort unix:/run"),
        (("9050 ExtendedErrors",), "no SocksPort line"),
        (("",), "no SocksPort line"),
        (("unix:nonsense",), "no SocksPort line"),
        ((f"{SOCKS}",), "without ExtendedErrors"),
        ((f"{SOCKS} ExtendedErrors NoIsolateSOCKSAuth",), "all members on one circuit"),
        ((f"{SOCKS} ExtendedErrors", f"{SOCKS}"), "without ExtendedErrors"),
    ],
)
@pytest.mark.parametrize("level", SecurityLevel)
def test_the_socks_port_has_to_be_ours(
    level: SecurityLevel, lines: tuple[str, ...], said: str
) -> None:
    lacking = levels.missing(level, facts(level, conf=conf(level, SocksPort=lines)))
    assert said in words(lacking) and len(lacking) == 1


def test_the_socks_port_may_be_written_in_several_ways() -> None:
    for place, line in [
        (SOCKS, 'unix:"/run/tor/socks" ExtendedErrors'),
        (Endpoint(host="127.0.0.1", port=9050), "9050 ExtendedErrors"),
        (Endpoint(host="127.0.0.1", port=9050), "127.0.0.1:9050 ExtendedErrors"),
    ]:
        good = facts(STANDARD, socks=place, conf=conf(STANDARD, SocksPort=("9999", line)))
        assert levels.missing(STANDARD, good) == ()


def test_a_level_without_any_network_needs_unix_sockets() -> None:
    port = Endpoint(host="127.0.0.1", port=9051)
    assert levels.missing(STANDARD, facts(STANDARD, control=port)) == ()
    for level in (HIGH, PARANOID):
        lacking = levels.missing(level, facts(level, control=port))
        assert "tor is reached at 127.0.0.1:9051" in words(lacking)
        assert "set ControlSocket unix:" in words(lacking)


@pytest.mark.parametrize(
    ("bridges", "said"),
    [
        ((), "tor has no bridges"),
        (("192.0.2.1:443 " + "A" * 40,), "without a transport"),
        (("[2001:db8::1]:443",), "without a transport"),
        ((BRIDGE, "192.0.2.1:443"), "without a transport"),
    ],
)
def test_paranoid_needs_bridges_with_a_transport(bridges: tuple[str, ...], said: str) -> None:
    lacking = levels.missing(PARANOID, facts(PARANOID, conf=conf(PARANOID, Bridge=bridges)))
    assert said in words(lacking) and len(lacking) == 1
    assert levels.missing(HIGH, facts(HIGH, conf=conf(HIGH, Bridge=bridges))) == ()


def test_paranoid_waits_for_its_vanguards() -> None:
    pinned = {
        layer.option: (",".join(f"${n:040X}" for n in range(layer.guards)),) for layer in FULL
    }
    assert levels.unguarded(PARANOID, conf(PARANOID, **pinned)) == ()
    assert levels.unguarded(HIGH, conf(HIGH)) == ()
    assert "fewer than 4 relays are pinned by HSLayer2Nodes" in words(
        levels.unguarded(PARANOID, conf(PARANOID))
    )
    for layer in FULL:
        short = (pinned[layer.option][0].rpartition(",")[0],)
        (lacking,) = levels.unguarded(PARANOID, conf(PARANOID, **(pinned | {layer.option: short})))
        assert layer.option in lacking.words
    assert len(levels.unguarded(PARANOID, {})) == 2


@given(
    st.text(max_size=20),
    st.dictionaries(
        st.sampled_from(levels.asked(PARANOID)), st.lists(st.text(max_size=30)).map(tuple)
    ),
)
def test_whatever_tor_says_there_is_a_verdict(
    version: str, found: dict[str, tuple[str, ...]]
) -> None:
    for level in SecurityLevel:
        strange = facts(level, version=version, conf=found)
        assert levels.missing(level, strange), "nonsense must not do for any level"
        levels.unguarded(level, found)


# --- the shape of traffic -----------------------------------------------------------------------


def test_a_frame_fills_whole_cells_of_both_kinds() -> None:
    for level in TABLE.values():
        assert level.shape.frame_bytes == CELL_FRAME_BYTES, "what a session seals for a schedule"
        for cells in (1, 2, 3):
            shape = Shape(1.0, cells, 20.0)
            on_the_stream = shape.frame_bytes + levels.WEBSOCKET_BYTES
            assert shape.frame_bytes >= 126, "shorter frames have shorter heads"
            for content in (levels.CELL_CONTENT_BYTES, 498):
                assert math.ceil(on_the_stream / content) == cells


@pytest.mark.parametrize(("level", "megabytes"), [(STANDARD, 4.4), (HIGH, 88.8), (PARANOID, 177.6)])
def test_the_budgets_are_those_of_the_table(level: SecurityLevel, megabytes: float) -> None:
    shape = TABLE[level].shape
    assert round(shape.link_bytes_a_day / 1e6, 1) == megabytes
    assert f"{megabytes:g} MB" in (levels.__doc__ or "")
    assert (shape.mean_interval_s is None) == (level is STANDARD)


@pytest.mark.parametrize("level", SecurityLevel)
def test_what_is_promised_is_said_where_it_is_first_demanded(level: SecurityLevel) -> None:
    said = (levels.__doc__ or "").partition("\nKnows")[0]
    ours = re.split("^(STANDARD|HIGH|PARANOID) ", said, flags=re.MULTILINE)
    section = ours[ours.index(level.value) + 1]
    before = list(SecurityLevel)[list(SecurityLevel).index(level) - 1]
    for field, words in (
        ("client_authorisation", "client authorisation"),
        ("proof_of_work_required", "proof of work"),
        ("unix_sockets", "Unix sockets"),
        ("bridges", "bridges"),
        ("full_vanguards", "full vanguards"),
    ):
        is_new = getattr(TABLE[level], field) and not getattr(TABLE[before], field)
        assert (words in section) == (is_new and level is not STANDARD)
    interval_s = TABLE[level].shape.mean_interval_s
    assert (interval_s is not None) == ("s apart" in section)
    assert interval_s is None or f"{interval_s:g} s apart" in section


def test_the_wait_for_a_turn_is_that_of_a_poisson_process() -> None:
    shape = TABLE[HIGH].shape
    dice = random.Random(1)
    waits = sorted(dice.expovariate(1 / (shape.mean_interval_s or 0)) for _ in range(20_000))
    for share in (0.0, 0.5, 0.9, 0.99):
        assert shape.wait_s(share) == pytest.approx(waits[int(share * 20_000)], rel=0.05, abs=1e-3)
    assert TABLE[STANDARD].shape.wait_s(0.99) == 0
    with pytest.raises(AssertionError):
        shape.wait_s(1.0)


@pytest.mark.parametrize(
    ("frames", "size_bytes", "cells"),
    [(0, 0, 0), (1, 256, 1), (1, 480, 1), (7, 7 * 480, 7), (1, 481, 2), (1, 65_536, 135)],
)
def test_frames_are_counted_in_cells(frames: int, size_bytes: int, cells: int) -> None:
    assert levels.line_bytes(frames, size_bytes) == cells * levels.CELL_BYTES

from __future__ import annotations

import base64
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.net.tor import vanguards
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.vanguards import FULL, Guard, Relay

NOW = 1_800_000_000
DAY = 86_400
RELAYS = tuple(Relay(f"{n:040X}", 100 + n) for n in range(40))
GOOD_FLAGS = "Fast Guard HSDir Running Stable V2Dir Valid"


def listed(number: int, flags: str = GOOD_FLAGS, weight: str = "Bandwidth=1000") -> str:
    identity = base64.b64encode(number.to_bytes(20, "big")).decode().rstrip("=")
    head = f"r nick{number} {identity} digest 2026-01-01 00:00:00 192.0.2.1 443 0"
    return f"{head}\ns {flags}\nw {weight}"


def names(guards: vanguards.Guards) -> list[set[str]]:
    return [{guard.fingerprint for guard in layer} for layer in guards]


def test_relays_that_will_do_are_found() -> None:
    text = "\n".join(
        [
            listed(1),
            listed(2, weight="Bandwidth=7 Unmeasured=1"),
            listed(3, GOOD_FLAGS + " Exit"),
            listed(4, GOOD_FLAGS.replace("Stable", "")),
            listed(5, GOOD_FLAGS.replace("Running ", "")),
            listed(6, weight="Bandwidth=0"),
            listed(7, weight="Nothing"),
            listed(8).replace("nick8 ", "nick8 !"),
            "r short",
            listed(9).replace("s Fast", "a [2001:db8::1]:443\ns Fast"),
            listed(10, GOOD_FLAGS + " MiddleOnly BadExit"),
        ]
    )
    found = vanguards.relays(text)
    assert {int(r.fingerprint, 16) for r in found if not r.may_be_drawn} == {3, 4, 5, 10}
    assert [(int(r.fingerprint, 16), r.bandwidth) for r in found if r.may_be_drawn] == [
        (1, 1000),
        (2, 7),
        (6, 1),
        (9, 1000),
    ]


@given(
    st.text(max_size=200) | st.lists(st.sampled_from(listed(1).split()) | st.text()).map(" ".join)
)
def test_any_list_is_read(text: str) -> None:
    for relay in vanguards.relays(text):
        assert len(relay.fingerprint) == vanguards.FINGERPRINT_CHARACTERS and relay.bandwidth > 0


@given(st.integers(0, 2**32))
def test_there_are_as_many_as_the_layers_want_each_once(seed: int) -> None:
    guards = vanguards.chosen((), RELAYS, NOW, random.Random(seed).random)
    assert [len(layer) for layer in guards] == [layer.guards for layer in FULL]
    assert len(set.union(*names(guards))) == sum(layer.guards for layer in FULL)
    for layer, held in zip(FULL, guards, strict=True):
        for guard in held:
            assert layer.lifetime_min_s <= guard.expires_s - NOW <= layer.lifetime_max_s
    assert vanguards.expires_s(guards) == min(g.expires_s for held in guards for g in held)
    assert vanguards.chosen(guards, RELAYS, NOW + 1, random.Random(1).random) == guards


def test_the_third_hops_stay_for_the_longer_of_two_draws() -> None:
    dice = random.Random(1)
    found: Counter[str] = Counter()
    for _ in range(200):
        for layer, held in zip(FULL, vanguards.chosen((), RELAYS, 0, dice.random), strict=True):
            found[layer.option] += sum(guard.expires_s for guard in held) // layer.guards
    assert found["HSLayer2Nodes"] / 200 == pytest.approx(45 * DAY, rel=0.02)
    assert found["HSLayer3Nodes"] / 200 == pytest.approx((1 + 47 * 2 / 3) * 3600, rel=0.03)


def test_only_who_is_gone_or_due_is_replaced() -> None:
    dice = random.Random(2)
    guards = vanguards.chosen((), RELAYS, NOW, dice.random)
    gone = guards[0][0].fingerprint
    alive = [relay for relay in RELAYS if relay.fingerprint != gone]
    after = vanguards.chosen(guards, alive, NOW, dice.random)
    assert guards[0][1:] == after[0][:-1] and after[1] == guards[1]
    due = min(guards[1], key=lambda guard: guard.expires_s)
    after = vanguards.chosen(guards, RELAYS, due.expires_s, dice.random)
    assert after[0] == guards[0]
    assert due not in after[1] and len(set(after[1]) & set(guards[1])) == 7


def test_a_clock_that_was_years_ahead_pins_nobody_for_years() -> None:
    guards = vanguards.chosen((), RELAYS, NOW + 3650 * DAY, random.Random(3).random)
    after = vanguards.chosen(guards, RELAYS, NOW, random.Random(4).random)
    assert vanguards.expires_s(after) < NOW + 2 * DAY
    assert all(g.expires_s <= NOW + 60 * DAY for layer in after for g in layer)


def test_relays_are_drawn_by_their_bandwidth() -> None:
    dice = random.Random(5)
    layers = (vanguards.Layer("X", 1, 1, 2, longer_of_two=False),)
    known = [Relay("A" * 40, 300), Relay("B" * 40, 100)]
    found = Counter(
        vanguards.chosen((), known, NOW, dice.random, layers)[0][0].fingerprint[0]
        for _ in range(4_000)
    )
    assert found["A"] / 4_000 == pytest.approx(0.75, abs=0.03)
    rounded = vanguards.chosen((), known, NOW, lambda: 1.0, layers)
    assert rounded[0][0].fingerprint == "B" * 40


def test_a_network_that_is_too_small_is_an_error() -> None:
    with pytest.raises(TorError, match=r"too few relays for 8 vanguards \(HSLayer3Nodes\)"):
        vanguards.chosen((), RELAYS[:11], NOW, random.Random(6).random)
    assert vanguards.chosen((), RELAYS[:12], NOW, random.Random(6).random)


def test_options_are_lists_of_fingerprints() -> None:
    guards = ((Guard("A" * 40, 1), Guard("B" * 40, 2)), (Guard("C" * 40, 3),))
    assert vanguards.options(guards) == (
        ("HSLayer2Nodes", f"${'A' * 40},${'B' * 40}"),
        ("HSLayer3Nodes", f"${'C' * 40}"),
    )


@given(st.integers(0, 2**32))
def test_they_are_kept_as_text(seed: int) -> None:
    guards = vanguards.chosen((), RELAYS, NOW, random.Random(seed).random)
    assert vanguards.from_text(vanguards.to_text(guards)) == guards


@pytest.mark.parametrize("change", ["", "head", "cut", "case", "layer", "number", "long"])
def test_a_damaged_file_is_told(change: str) -> None:
    text = vanguards.to_text(vanguards.chosen((), RELAYS, NOW, random.Random(7).random))
    damaged = {
        "": "",
        "head": text.replace("1\n", "2\n", 1),
        "cut": text[:-5],
        "case": text.lower(),
        "layer": text.replace("\n1 ", "\n7 ", 1),
        "number": text.replace(" 18", " 018", 1),
        "long": text + "x" * 5_000,
    }[change]
    assert damaged != text
    with pytest.raises(TorError, match="damaged; restore it from a backup"):
        vanguards.from_text(damaged)


@given(st.text(max_size=300))
def test_any_text_is_kept_guards_or_an_error(text: str) -> None:
    with pytest.raises(TorError):
        vanguards.from_text(text + "x")


def test_a_guard_that_loses_a_flag_stays_and_is_not_drawn_again() -> None:
    held = vanguards.chosen((), RELAYS, NOW, random.Random(1).random)
    fallen = tuple(relay._replace(may_be_drawn=False) for relay in RELAYS)
    assert vanguards.chosen(held, fallen, NOW + 60, random.Random(2).random) == held
    with pytest.raises(TorError, match="too few relays"):
        vanguards.chosen((), fallen, NOW, random.Random(2).random)

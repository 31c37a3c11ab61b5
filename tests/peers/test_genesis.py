from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.peers import armour
from aegis_edge.peers.genesis import (
    LABEL,
    Genesis,
    GenesisError,
    Parameters,
    intervals,
    window_max,
)
from aegis_edge.wire import codec
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import (
    MEMBERS_MAX,
    MESSAGE_BYTES_MAX,
    WINDOW_MAX,
    new_view_bytes_max,
)
from tests.peers.test_address import ONION

PARAMETERS = Parameters(created_ms=1_700_000_000_000, nonce=bytes(range(16)))


def test_the_order_in_which_records_are_given_does_not_matter(make_record: Any) -> None:
    records = [make_record(seed) for seed in (1, 2, 3, 4)]
    genesis = Genesis.of(records, PARAMETERS)
    assert genesis == Genesis.of(records[::-1], PARAMETERS)
    assert genesis.members == tuple(sorted(r.signer for r in records))
    assert len(genesis.cluster_id) == 32


def test_it_travels_as_text(make_record: Any) -> None:
    genesis = Genesis.of([make_record(1), make_record(2)], PARAMETERS)
    again = Genesis.from_text("our cluster\n" + genesis.to_text())
    assert again == genesis
    assert again.cluster_id == genesis.cluster_id
    assert again.records[0].message.addresses == ("tcp:198.51.100.7:8080",)


def test_it_knows_whether_its_members_share_a_host(make_record: Any) -> None:
    apart, here = make_record(1), make_record(2, addresses=("tcp:a:1", "tcp:127.0.0.1:1"))
    assert not Genesis.of([apart], PARAMETERS).is_on_one_host
    assert Genesis.of([apart, here], PARAMETERS).is_on_one_host


def test_the_cluster_id_does_not_change_between_releases(make_record: Any) -> None:
    genesis = Genesis.of([make_record(1), make_record(2)], PARAMETERS)
    assert (
        genesis.cluster_id.hex()
        == "ac54755289208bc42e32ef0bd85243a7a475159823a059857ce9b1ca8f3d01f0"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"created_ms": 1},
        {"nonce": bytes(16)},
        {"checkpoint_interval": 32},
        {"window": 256},
        {"byzantine_ratio_percent": 20},
        {"history_versions": 2},
    ],
)
def test_every_parameter_is_part_of_the_cluster_id_and_of_the_text(
    make_record: Any, change: dict[str, Any]
) -> None:
    genesis = Genesis.of([make_record(1)], PARAMETERS)
    other = replace(genesis, parameters=replace(PARAMETERS, **change))
    assert other.cluster_id != genesis.cluster_id
    assert Genesis.from_text(other.to_text()).parameters == replace(PARAMETERS, **change)


def test_every_member_is_part_of_the_cluster_id(make_record: Any) -> None:
    genesis = Genesis.of([make_record(1)], PARAMETERS)
    assert Genesis.of([make_record(1, version=2)], PARAMETERS).cluster_id != genesis.cluster_id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"created_ms": -1}, "created_ms"),
        ({"nonce": b"short"}, "16 bytes"),
        ({"nonce": "0123456789abcdef"}, "16 bytes"),
        ({"checkpoint_interval": 0}, "checkpoint_interval is 0"),
        ({"window": 127}, "128 to 256"),
        ({"window": 257}, "128 to 256"),
        ({"window": 129}, "a multiple of checkpoint_interval"),
        ({"byzantine_ratio_percent": 34}, "0 to 33"),
        ({"history_versions": True}, "history_versions is True"),
    ],
)
def test_parameters_out_of_bounds_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(GenesisError, match=says):
        replace(PARAMETERS, **change)


def test_impossible_memberships_are_refused(make_record: Any) -> None:
    one = make_record(1)
    with pytest.raises(GenesisError, match="1 to 64 members"):
        Genesis.of([], PARAMETERS)
    with pytest.raises(GenesisError, match="1 to 64 members"):
        Genesis.of([make_record(seed) for seed in range(65)], PARAMETERS)
    with pytest.raises(GenesisError, match="there twice"):
        Genesis.of([one, make_record(1, version=2)], PARAMETERS)
    with pytest.raises(GenesisError, match="same Noise key"):
        Genesis.of([one, make_record(2, noise=one.message.noise_key)], PARAMETERS)


def test_a_window_whose_new_view_would_fit_into_no_message_is_refused(make_record: Any) -> None:
    records = [make_record(seed) for seed in range(20)]
    assert Genesis.of(records[:19], PARAMETERS)
    with pytest.raises(GenesisError, match=r"128 is too large for 20 members.*at most 119 does"):
        Genesis.of(records, PARAMETERS)
    assert Genesis.of(records, replace(PARAMETERS, checkpoint_interval=59, window=118))


def test_the_largest_window_is_the_largest() -> None:
    assert [window_max(n) for n in (1, 4, 13)] == [WINDOW_MAX] * 3
    for members, quorum in ((16, 11), (19, 13), (22, 15), (MEMBERS_MAX, 43)):
        largest = window_max(members)
        assert new_view_bytes_max(quorum, largest) <= MESSAGE_BYTES_MAX
        assert new_view_bytes_max(quorum, largest + 1) > MESSAGE_BYTES_MAX
    assert window_max(MEMBERS_MAX) >= 8, "every cluster has some window"
    assert window_max(1000) == 0


def wrapped(value: Any) -> str:
    return armour.wrap(LABEL, codec.encode(value))


def test_texts_that_hold_no_genesis_are_refused(make_record: Any) -> None:
    one, two = sorted((make_record(1), make_record(2)), key=lambda r: r.signer)
    numbers = astuple(PARAMETERS)
    good = Genesis.of([one, two], PARAMETERS)
    for text, says in (
        ("", "is it the right file"),
        (good.to_text() * 2, "which one is meant"),
        (armour.wrap(LABEL, b"\xff"), "not a good genesis"),
        (wrapped(7), "three parts"),
        (wrapped((1, (one.raw,))), "three parts"),
        (wrapped((2, (one.raw,), numbers)), "another format"),
        (wrapped((True, (one.raw,), numbers)), "another format"),
        (wrapped((1, one.raw, numbers)), "array of byte strings"),
        (wrapped((1, (one.raw, 1), numbers)), "array of byte strings"),
        (wrapped((1, (b"x",) * 65, numbers)), "array of byte strings"),
        (wrapped((1, (one.raw,), 5)), "six parameters"),
        (wrapped((1, (one.raw,), (*numbers, 1))), "six parameters"),
        (wrapped((1, (one.raw,), ("now", *numbers[1:]))), "created_ms is 'now'"),
        (wrapped((1, (b"x",), numbers)), "not a signed envelope"),
        (wrapped((1, (two.raw, one.raw), numbers)), "not in order"),
    ):
        with pytest.raises(GenesisError, match=says):
            Genesis.from_text(text)


def test_a_forged_record_is_refused(make_record: Any) -> None:
    genesis = Genesis.of([make_record(1)], PARAMETERS)
    blind = Opener(b"", verify=lambda public, message, signature: False)
    with pytest.raises(GenesisError, match="signature"):
        Genesis.from_text(genesis.to_text(), blind.open)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_genesis_or_the_one_error(data: bytes) -> None:
    with pytest.raises(GenesisError):
        Genesis.from_text(armour.wrap(LABEL, data))


def test_checkpoints_come_as_often_as_the_way_wants(make_record: Any) -> None:
    near = [make_record(seed) for seed in range(4)]
    far = [*near[1:], make_record(9, addresses=(f"onion:{ONION}:8080",))]
    assert intervals(near) == (64, 128)
    assert intervals(far) == (8, 32), "one that is reached through Tor is enough"
    assert intervals([make_record(seed) for seed in range(20)]) == (59, 118)
    assert intervals(near * 50) == (1, 2), "of which no genesis is made"
    for found in (near, far):
        interval, window = intervals(found)
        assert Genesis.of(found, replace(PARAMETERS, checkpoint_interval=interval, window=window))

"""What the roll of members means: to agreement, and to the rules by which it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aegis_edge import membership
from aegis_edge.knowledge.agreed import INTERVAL, TIMEOUT, Agreed
from aegis_edge.peers.genesis import Genesis, Parameters, window_max
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import MEMBERS_MAX, NodeRecord

SIGNERS = sorted((Signer(bytes([i]) * 32, b"") for i in range(1, 8)), key=lambda s: s.public)
RECORDS = [
    signer.sign(NodeRecord(1, bytes([i]) * 32, (), 9, f"n{i}")) for i, signer in enumerate(SIGNERS)
]


def genesis_of(size: int, ratio_percent: int = 33) -> Genesis:
    return Genesis.of(
        RECORDS[:size], Parameters(0, bytes(16), byzantine_ratio_percent=ratio_percent)
    )


def test_the_founders_are_those_of_the_genesis() -> None:
    genesis = genesis_of(4)
    roll = membership.founders(genesis)
    assert roll.members == genesis.members
    assert membership.records(roll) == genesis.records
    configuration = membership.configuration(genesis, roll)
    assert (configuration.number, configuration.start) == (0, 0)
    assert (configuration.f, configuration.quorum) == (1, 3)


def test_f_and_quorums_follow_the_number_of_members_and_the_ratio_of_the_genesis() -> None:
    seven = membership.founders(genesis_of(7))
    for ratio_percent, f, needed in ((33, 2, 5), (20, 1, 5), (0, 0, 4)):
        genesis = genesis_of(1, ratio_percent)
        configuration = membership.configuration(genesis, seven)
        assert (configuration.f, configuration.quorum) == (f, needed)
        assert membership.rules(genesis).quorum(7) == needed


def test_a_later_roll_says_where_it_starts() -> None:
    genesis = genesis_of(4)
    before = membership.founders(genesis)
    after = membership.founders(genesis_of(3)).after(17, before)
    configuration = membership.configuration(genesis, after)
    assert (configuration.number, configuration.start) == (1, 17)
    assert configuration.members == genesis.members[:3]


def test_there_are_never_so_many_members_that_a_view_change_fits_into_no_message() -> None:
    fits = membership.rules(genesis_of(1)).fits
    for n in range(1, MEMBERS_MAX + 2):
        assert fits(n, ()) == (n <= MEMBERS_MAX and window_max(n) >= 128)
        larger = (Agreed(INTERVAL, 128, 1),)
        assert fits(n, larger) == (n <= MEMBERS_MAX and window_max(n) >= 256)
    smallest = (Agreed(INTERVAL, 1, 1),)
    assert fits(MEMBERS_MAX, smallest) and not fits(MEMBERS_MAX + 1, smallest)


def test_what_was_agreed_on_takes_the_place_of_what_the_genesis_and_the_owner_say() -> None:
    parameters = Parameters(0, bytes(16), checkpoint_interval=8, window=32)
    genesis = Genesis.of(RECORDS[:4], parameters)
    agreed = (Agreed(INTERVAL, 16, 1), Agreed(TIMEOUT, 2_500, 3))
    assert membership.intervals(genesis, ()) == (8, 32)
    assert membership.intervals(genesis, agreed) == (16, 64)
    assert membership.timeout_ticks((), 30_000) == 30_000
    assert membership.timeout_ticks(agreed, 30_000) == 2_500
    roll = replace(membership.founders(genesis), agreed=agreed)
    assert membership.configuration(genesis, roll).terms == roll.terms != b""
    # Four times as many batches under way as an interval has: 64 is too much for anybody.
    assert not membership.rules(genesis).fits(1, (Agreed(INTERVAL, 65, 1),))


def test_what_is_no_record_is_refused() -> None:
    assert membership.opened(RECORDS[0].raw) == RECORDS[0]
    with pytest.raises(WireError):
        membership.opened(RECORDS[0].raw[:-1] + b"x")


def test_nobody_is_let_in_at_an_address_that_is_none() -> None:
    open_record = membership.rules(genesis_of(1)).open_record
    assert open_record(RECORDS[0].raw) == RECORDS[0]
    bad = SIGNERS[0].sign(NodeRecord(1, bytes(32), (), 9, "", (bytes(64),)))
    with pytest.raises(WireError, match="bad address"):
        open_record(bad.raw)


def test_a_record_is_looked_at_once_however_often_its_member_is_counted() -> None:
    raw = RECORDS[0].raw
    assert membership.opened(raw) is membership.opened(bytes(bytearray(raw)))
    for _ in range(2):
        with pytest.raises(WireError):
            membership.opened(raw[:-1])

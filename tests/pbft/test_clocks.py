"""Agreed time: one bad clock cannot move it, and it never goes back."""

import itertools

import pytest

from aegis_edge.pbft.clocks import STEP_MS, Readings, acceptable, agreed_ms, median_ms
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Commit, Status, Verified

SIGNERS = sorted((Signer(bytes([i]) * 32, b"c" * 32) for i in range(1, 8)), key=lambda s: s.public)


def reading(i: int, clock_ms: int, configuration: int = 0) -> Verified[Commit]:
    return SIGNERS[i].sign(Commit(configuration, 0, 1, b"d" * 32, clock_ms))


def members(n: int) -> Configuration:
    return Configuration(0, tuple(s.public for s in SIGNERS[:n]), (n - 1) // 3)


@pytest.mark.parametrize("n", range(1, 8))
def test_f_bad_clocks_cannot_leave_the_range_of_the_correct_ones(n: int) -> None:
    configuration = members(n)
    correct = range(10_000, 10_000 + configuration.quorum)
    for bad in itertools.product((0, 2**62), repeat=configuration.f):
        clocks = [*bad, *list(correct)[configuration.f :]]
        evidence = tuple(reading(i, c) for i, c in enumerate(clocks))
        assert 10_000 <= median_ms(evidence) <= 10_000 + configuration.quorum


def test_time_is_monotone() -> None:
    evidence = tuple(reading(i, 500) for i in range(3))
    assert agreed_ms(400, evidence) == 500
    assert agreed_ms(600, evidence) == 600
    assert agreed_ms(600, ()) == 600


def test_evidence_is_a_quorum_of_distinct_members_of_this_configuration() -> None:
    configuration = members(4)
    good = tuple(reading(i, 1) for i in range(3))
    assert acceptable((), configuration)
    assert acceptable(good, configuration)
    assert not acceptable(good[:2], configuration)
    assert not acceptable((*good[:2], reading(1, 2)), configuration)
    assert not acceptable((*good[:2], reading(5, 1)), configuration)
    assert not acceptable((*good[:2], reading(2, 1, configuration=1)), configuration)


def test_readings_choose_the_newest_quorum_and_only_when_time_moves() -> None:
    configuration, readings = members(4), Readings()
    assert readings.clock_ms(SIGNERS[0].public) == 0
    for i in range(3):
        readings.note(reading(i, 5000 + i))
    readings.note(reading(6, 9999))
    assert readings.clock_ms(SIGNERS[0].public) == 5000
    assert len(readings.evidence(configuration, 4000)) == 3
    assert readings.evidence(configuration, 5002 - STEP_MS + 1) == ()
    readings.note(SIGNERS[3].sign(Status(0, 0, False, 0, 0, 7000)))
    newest = readings.evidence(configuration, 0)
    assert {r.signer for r in newest} == {s.public for s in SIGNERS[1:4]}


def test_no_evidence_without_a_quorum() -> None:
    readings = Readings()
    readings.note(reading(0, 5000))
    assert readings.evidence(members(4), 0) == ()

"""Rule 1: f and the quorum for every n, not only for 3f+1."""

import pytest

from aegis_edge.pbft.quorum import faults, quorum, witnesses


def test_known_values() -> None:
    assert [faults(n) for n in range(1, 11)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [quorum(n, faults(n)) for n in range(1, 11)] == [1, 2, 2, 3, 4, 4, 5, 6, 6, 7]


@pytest.mark.parametrize("n", range(1, 100))
def test_s8_01_two_quorums_share_a_correct_node_and_one_is_always_up(n: int) -> None:
    f = faults(n)
    q = quorum(n, f)
    assert 2 * q - n >= f + 1, "two quorums may meet in faulty nodes only"
    assert n - f >= q, "the correct nodes alone must make a quorum"
    assert 2 * (q - 1) - n < f + 1, "a smaller quorum would do"


@pytest.mark.parametrize("n", range(2, 100))
def test_s8_14_witnesses_meet_every_quorum_in_a_correct_node(n: int) -> None:
    f = faults(n)
    others_in_a_quorum = quorum(n, f) - 1
    assert witnesses(n, f) + others_in_a_quorum - (n - 1) == f + 1


def test_a_ratio_lowers_the_bound() -> None:
    assert faults(10, 33) == 3
    assert faults(10, 20) == 2
    assert faults(10, 0) == 0


def test_s6_01_2f_plus_1_would_fork_at_six() -> None:
    assert quorum(6, 1) == 4 > 2 * 1 + 1


@pytest.mark.parametrize("n", [0, -1])
def test_no_cluster_of_nobody(n: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        faults(n)


@pytest.mark.parametrize(("n", "f"), [(3, 1), (4, -1), (6, 2)])
def test_a_bound_that_n_nodes_cannot_bear_is_refused(n: int, f: int) -> None:
    with pytest.raises(ValueError, match="fewer than n/3"):
        quorum(n, f)

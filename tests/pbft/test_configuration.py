"""Who is primary, who is a member, and parameters that fit together."""

import pytest

from aegis_edge.pbft.configuration import Configuration, Parameters

KEYS = tuple(bytes([i]) * 32 for i in range(4))


def test_the_primary_goes_round() -> None:
    configuration = Configuration(0, KEYS, 1)
    assert [configuration.primary(v) for v in range(5)] == [*KEYS, KEYS[0]]
    assert configuration.quorum == 3


def test_membership() -> None:
    configuration = Configuration(0, KEYS[:3], 0)
    assert KEYS[0] in configuration
    assert KEYS[3] not in configuration
    assert configuration.others(KEYS[1]) == (KEYS[0], KEYS[2])


@pytest.mark.parametrize("members", [KEYS[::-1], (KEYS[0], KEYS[0])])
def test_members_have_one_order(members: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="bytewise order"):
        Configuration(0, members, 0)


def test_the_window_holds_two_intervals() -> None:
    for window in (127, 64, 129, 200):  # 129: a power cut at the edge would leave no checkpoint
        with pytest.raises(ValueError, match="two checkpoint intervals"):
            Parameters(checkpoint_interval=64, window=window)

"""Who is primary, who is a member, and parameters that fit together."""

import pytest

from aegis_edge.pbft.configuration import Configuration, Parameters, digest_of

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


def test_another_number_start_or_member_is_another_configuration() -> None:
    zero = Configuration(0, KEYS[:3], 0)
    one = zero.followed_by(7, KEYS[:4])
    assert (one.number, one.start, one.members, one.f, one.quorum) == (1, 7, KEYS[:4], 1, 3)
    others = [
        zero,
        one,
        zero.followed_by(8, KEYS[:4]),
        zero.followed_by(7, KEYS[1:4]),
        one.followed_by(7, KEYS[:4]),
        zero.followed_by(7, KEYS[:4], b"terms"),
        zero.followed_by(7, KEYS[:4], b"other terms"),
    ]
    assert len({each.digest for each in others}) == len(others)
    assert one.digest == digest_of(1, 7, KEYS[:4])
    assert others[-1].digest == digest_of(1, 7, KEYS[:4], b"other terms")
    assert others[-1].followed_by(9, KEYS[:4]).terms == b"", "each says all of its own"


def test_how_many_may_be_faulty_follows_the_genesis_for_good() -> None:
    careful = Configuration(0, KEYS[:1], 0, 0, 10).followed_by(1, KEYS[:4])
    assert (careful.f, careful.quorum, careful.ratio_percent) == (0, 3, 10)

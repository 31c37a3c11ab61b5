"""What all members share: which parameters there are, their bounds, and how they are packed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.knowledge import agreed
from aegis_edge.knowledge.agreed import INTERVAL, PARAMETERS, TIMEOUT, Agreed, UnknownParameter
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import TERMS_BYTES_MAX

BOTH = (Agreed(INTERVAL, 8, 2), Agreed(TIMEOUT, 5500, 4))


def test_people_say_seconds_and_batches() -> None:
    timeout, interval = PARAMETERS[TIMEOUT], PARAMETERS[INTERVAL]
    assert [timeout.value_of(said) for said in (10, 0.1, 3600, 2.5)] == [
        10_000,
        100,
        3_600_000,
        2500,
    ]
    assert [interval.value_of(said) for said in (1, 128)] == [1, 128]
    assert (timeout.text(2500), interval.text(64)) == ("2.5 seconds", "64 batches")
    assert (timeout.said(2500), interval.said(64)) == (2.5, 64)
    assert timeout.bounds == "0.1 to 3600 seconds"
    assert agreed.said(BOTH) == [(INTERVAL, 8, 2), (TIMEOUT, 5.5, 4)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *(
            (TIMEOUT, said)
            for said in (0, 0.09, 3600.1, 10**400, -1, "10", True, None, math.nan, math.inf)
        ),
        *((INTERVAL, said) for said in (0, 129, 8.0, "8", False)),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_them(name: str, said: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a .*number, .* to "):
        PARAMETERS[name].value_of(said)


@given(st.sampled_from(sorted(PARAMETERS)), st.integers(-10, 4_000_000))
def test_what_people_may_say_is_what_the_state_machine_takes(name: str, value: int) -> None:
    parameter = PARAMETERS[name]
    if parameter.allows(value):
        assert parameter.value_of(parameter.said(value)) == value
    else:
        with pytest.raises(ValueError):
            parameter.value_of(parameter.said(value))


def test_a_value_replaces_that_of_the_same_name_alone() -> None:
    assert agreed.replaced((), BOTH[1]) == BOTH[1:]
    assert agreed.replaced(BOTH[1:], BOTH[0]) == BOTH
    assert agreed.replaced(BOTH, Agreed(INTERVAL, 9, 5)) == (Agreed(INTERVAL, 9, 5), BOTH[1])
    assert [agreed.value_of(BOTH, name) for name in (INTERVAL, TIMEOUT, "none")] == [8, 5500, None]


def test_what_was_agreed_on_has_one_form() -> None:
    assert agreed.pack(()) == b"" and agreed.unpack(b"") == ()
    assert agreed.unpack(agreed.pack(BOTH)) == BOTH
    largest = tuple(Agreed(name, 1 << 62, 1 << 62) for name in sorted(PARAMETERS))
    assert len(agreed.pack(largest)) <= TERMS_BYTES_MAX


@pytest.mark.parametrize(
    "value",
    [
        (),
        7,
        (7,),
        ((INTERVAL, 8),),
        ((INTERVAL, 8, "2"),),
        ((b"name", 8, 2),),
        (("pbft_timeout", 100, 1), ("checkpoint_interval", 8, 2)),
        (("pbft_timeout", 100, 1), ("pbft_timeout", 100, 2)),
    ],
)
def test_what_is_no_such_form_is_refused(value: object) -> None:
    with pytest.raises(WireError) as refused:
        agreed.unpack(codec.encode(value))
    assert not isinstance(refused.value, UnknownParameter)


def test_a_name_of_a_later_release_is_one() -> None:
    with pytest.raises(UnknownParameter, match="install"):
        agreed.unpack(codec.encode((("later", 1, 1),)))


@given(st.binary(max_size=60))
def test_any_bytes_are_what_was_agreed_on_or_a_wire_error(data: bytes) -> None:
    try:
        agreed.unpack(data)
    except WireError:
        pass

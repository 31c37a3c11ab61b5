"""The parameters that all members share and can change while they run: names, bounds, bytes.

Knows which there are, what each may be, and how what was agreed on is packed.
Refuses to know how that comes about (`roll`), and what a number does.
Follows: Castro and Liskov (OSDI '99) section 2 (deterministic state machines): who knows a name or
a bound that another member does not know would be in another state.

What else is in the genesis stays as it is there: `byzantine_ratio_percent` says how many prove
anything, `history_versions` what was pruned already, which rows of earlier checkpoints are told by.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import WINDOW_MAX

TIMEOUT = "pbft_timeout"
INTERVAL = "checkpoint_interval"


class UnknownParameter(WireError):
    """The members agreed on something of which this release does not know what it does."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One line of the table: values are `lowest` to `highest`, and `scale` of them are a `unit`."""

    name: str
    lowest: int
    highest: int
    scale: int
    unit: str

    def allows(self, value: int) -> bool:
        """Whether the state machine takes it."""
        return self.lowest <= value <= self.highest

    @property
    def bounds(self) -> str:
        """For people: "0.1 to 3600 seconds"."""
        return f"{self.lowest / self.scale:g} to {self.highest / self.scale:g} {self.unit}"

    def value_of(self, said: Any) -> int:
        """The value for a number of units, as people say it; raises `ValueError` with words."""
        is_whole = self.scale == 1
        is_number = type(said) is int or (type(said) is float and not is_whole)
        if is_number and self.lowest <= said * self.scale <= self.highest:
            value: int = round(said * self.scale)
            return value
        what = "whole number" if is_whole else "number"
        raise ValueError(f"{self.name} must be a {what}, {self.bounds}")

    def said(self, value: int) -> int | float:
        """The number of units that a value stands for."""
        return value if self.scale == 1 else value / self.scale

    def text(self, value: int) -> str:
        """A value for people: "10 seconds"."""
        return f"{self.said(value):g} {self.unit}"


#: The one table.
PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter(TIMEOUT, 100, 3_600_000, 1_000, "seconds"),
        Parameter(INTERVAL, 1, WINDOW_MAX // 2, 1, "batches"),
    )
}


class Agreed(NamedTuple):
    """A `value` that all members go by from configuration `since` on."""

    name: str
    value: int
    since: int


def value_of(agreed: tuple[Agreed, ...], name: str) -> int | None:
    """What was agreed on for this parameter; None if nothing was."""
    return next((each.value for each in agreed if each.name == name), None)


def replaced(agreed: tuple[Agreed, ...], new: Agreed) -> tuple[Agreed, ...]:
    """With `new` in the place of what there was, in the one order: by name."""
    return tuple(sorted([new, *(each for each in agreed if each.name != new.name)]))


def said(agreed: tuple[Agreed, ...]) -> list[tuple[str, int | float, int]]:
    """The name of each, as many units as was agreed on, and since when."""
    return [(name, PARAMETERS[name].said(value), since) for name, value, since in agreed]


def pack(agreed: tuple[Agreed, ...]) -> bytes:
    """What members sign of it; b"" where nothing was agreed on."""
    return codec.encode(tuple(map(tuple, agreed))) if agreed else b""


def unpack(packed: bytes) -> tuple[Agreed, ...]:
    """What `pack` wrote, here or under the signatures of others; raises `WireError`."""
    return read(codec.decode(packed)) if packed else ()


def read(value: Any) -> tuple[Agreed, ...]:
    """The same, out of what `codec` decoded."""
    if type(value) is not tuple or not value:
        raise WireError("no list of what was agreed on")
    found = []
    for each in value:
        if type(each) is not tuple or tuple(map(type, each)) != (str, int, int):
            raise WireError("no name and value of what was agreed on")
        if each[0] not in PARAMETERS:
            raise UnknownParameter(
                f"the members agreed on {each[0]!a}, which this release does not know; install the"
                " one that they run"
            )
        found.append(Agreed(*each))
    if any(a.name >= b.name for a, b in pairwise(found)):
        raise WireError("what was agreed on is out of order")
    return tuple(found)

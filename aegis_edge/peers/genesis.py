"""The genesis of a cluster: its first members, the numbers all must agree on, and so its id.

Knows the one canonical encoding of these and its text form, a file that is copied to each member.
Refuses to know later membership, which is ordered by the cluster itself, and what the numbers do.
The encoding is `codec` (RFC 8949 section 4.2); records are in order of their signers' keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from aegis_edge.crypto import sodium
from aegis_edge.peers import armour
from aegis_edge.peers.address import ONION, peculiarities
from aegis_edge.peers.identity import open_record
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import (
    COUNTER_MAX,
    MEMBERS_MAX,
    MESSAGE_BYTES_MAX,
    WINDOW_MAX,
    NodeRecord,
    Open,
    Verified,
    new_view_bytes_max,
)

LABEL = "AEGIS-EDGE GENESIS"
FORMAT = 1
NONCE_BYTES = 16
CHECKPOINT_INTERVAL = 64
#: Where members are reached through Tor: a view change carries what was ordered since the last
#: checkpoint, three votes for each batch, and on a schedule that travels a cell at a time.
CHECKPOINT_INTERVAL_TOR = 8
#: How many intervals a window holds there: batches go on while checkpoints travel.
INTERVALS_TOR = 4
HISTORY_VERSIONS_MAX = 1024
BYZANTINE_RATIO_PERCENT_MAX = 33


class GenesisError(ValueError):
    """No genesis can be made of this; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What all members must do alike.  `nonce`: 16 random bytes, so that no two clusters are one.

    `checkpoint_interval` and `window` count batches, `history_versions` versions of a key;
    `byzantine_ratio_percent` bounds the members that may be faulty (never above a third);
    `created_ms` is Unix milliseconds.  Raises `GenesisError` out of bounds.
    """

    created_ms: int
    nonce: bytes
    checkpoint_interval: int = CHECKPOINT_INTERVAL
    window: int = 2 * CHECKPOINT_INTERVAL
    byzantine_ratio_percent: int = BYZANTINE_RATIO_PERCENT_MAX
    history_versions: int = 16

    def __post_init__(self) -> None:
        _within("created_ms", self.created_ms, 0, COUNTER_MAX)
        if type(self.nonce) is not bytes or len(self.nonce) != NONCE_BYTES:
            raise GenesisError(f"the nonce must be {NONCE_BYTES} bytes")
        _within("checkpoint_interval", self.checkpoint_interval, 1, WINDOW_MAX // 2)
        _within("window", self.window, 2 * self.checkpoint_interval, WINDOW_MAX)
        if self.window % self.checkpoint_interval:
            raise GenesisError("the window must be a multiple of checkpoint_interval")
        _within(
            "byzantine_ratio_percent",
            self.byzantine_ratio_percent,
            0,
            BYZANTINE_RATIO_PERCENT_MAX,
        )
        _within("history_versions", self.history_versions, 1, HISTORY_VERSIONS_MAX)


@dataclass(frozen=True)
class Genesis:
    """The beginning of a cluster: `records` of its first members, by key, and `parameters`."""

    records: tuple[Verified[NodeRecord], ...]
    parameters: Parameters

    def __post_init__(self) -> None:
        if not 1 <= len(self.records) <= MEMBERS_MAX:
            raise GenesisError(f"a cluster begins with 1 to {MEMBERS_MAX} members")
        if any(a >= b for a, b in pairwise(self.members)):
            raise GenesisError("the members are not in order, or one is there twice")
        if len({r.message.noise_key for r in self.records}) != len(self.records):
            raise GenesisError("two members have the same Noise key; was a key file copied?")
        largest = window_max(len(self.records))
        if self.parameters.window > largest:
            raise GenesisError(
                f"a window of {self.parameters.window} is too large for {len(self.records)}"
                f" members: a change of views would fit into no message; at most {largest} does"
            )

    @classmethod
    def of(cls, records: Iterable[Verified[NodeRecord]], parameters: Parameters) -> Genesis:
        """The genesis of these members, given in any order; raises `GenesisError`."""
        return cls(tuple(sorted(records, key=lambda r: r.signer)), parameters)

    @cached_property
    def members(self) -> tuple[bytes, ...]:
        """The public keys of the members, in the order that everybody uses."""
        return tuple(r.signer for r in self.records)

    @property
    def is_on_one_host(self) -> bool:
        """Whether members share a machine, as in the demo: one has a loopback address."""
        return any("loopback" in peculiarities(r.message.addresses) for r in self.records)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical encoding."""
        return codec.encode((FORMAT, tuple(r.raw for r in self.records), astuple(self.parameters)))

    @cached_property
    def cluster_id(self) -> bytes:
        """32 bytes that stand for this genesis and no other."""
        return sodium.digest(b"aegis genesis", self.encoded)

    def to_text(self) -> str:
        """The genesis as a text file, to be copied to each member."""
        return armour.wrap(LABEL, self.encoded)

    @classmethod
    def from_text(cls, text: str, open_: Open | None = None) -> Genesis:
        """The genesis in a text file, all signatures checked; raises `GenesisError`.

        `open_` checks envelopes; by default it is an `Opener` without a cluster.
        """
        open_ = open_ or Opener(b"").open
        try:
            blocks = armour.unwrap(LABEL, text)
            if len(blocks) != 1:
                raise WireError(f"{len(blocks)} of them in one file; which one is meant?")
            return _decode(blocks[0], open_)
        except (armour.ArmourError, WireError) as error:
            raise GenesisError(f"not a good genesis: {error}") from None


def intervals(records: Sequence[Verified[NodeRecord]]) -> tuple[int, int]:
    """The `checkpoint_interval` and `window` that serve these members."""
    usual, number = CHECKPOINT_INTERVAL, 2
    if any(address.startswith(f"{ONION}:") for r in records for address in r.message.addresses):
        usual, number = CHECKPOINT_INTERVAL_TOR, INTERVALS_TOR
    interval = max(1, min(usual, window_max(len(records)) // number))
    return interval, number * interval


def window_max(members: int) -> int:
    """The largest window with which each NEW-VIEW of so many members fits into one message."""
    quorum = (members + (members - 1) // 3 + 2) // 2  # of as many faulty ones as there may be
    fits = (
        window
        for window in range(WINDOW_MAX, 0, -1)
        if new_view_bytes_max(quorum, window) <= MESSAGE_BYTES_MAX
    )
    return next(fits, 0)


def _decode(data: bytes, open_: Open) -> Genesis:
    value = codec.decode(data)
    if type(value) is not tuple or len(value) != 3:
        raise WireError("not the three parts of a genesis")
    format_, raws, numbers = value
    if type(format_) is not int or format_ != FORMAT:
        raise WireError("of another format; both sides should run the same version of aegis-edge")
    if not _is_array_of(raws, bytes, MEMBERS_MAX):
        raise WireError("the records are no array of byte strings")
    if type(numbers) is not tuple or len(numbers) != 6:
        raise WireError("not the six parameters")
    return Genesis(tuple(open_record(raw, open_) for raw in raws), Parameters(*numbers))


def _is_array_of(value: Any, kind: type, count_max: int) -> bool:
    return type(value) is tuple and len(value) <= count_max and all(type(v) is kind for v in value)


def _within(name: str, value: Any, lowest: int, highest: int) -> None:
    if type(value) is not int or not lowest <= value <= highest:
        raise GenesisError(f"{name} is {value!r}; it must be a whole number, {lowest} to {highest}")

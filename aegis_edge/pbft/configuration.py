"""Who votes, and the constants that all voters share.

Knows the members of one configuration, where it begins and the arithmetic that follows from them.
Refuses to know how members are chosen, or how to reach them.
Follows: Castro and Liskov (OSDI '99) section 4: the primary of view v is member v mod n.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis_edge.crypto import sodium
from aegis_edge.pbft import quorum
from aegis_edge.wire import codec

_DOMAIN = b"aegis-edge heirs"


@dataclass(frozen=True)
class Configuration:
    """The voters: `members` are 32-byte public keys in bytewise order; `number` names the set.

    It orders what follows the sequence number `start`: the last batch of the configuration before.
    `ratio_percent`: see `quorum.faults`; the genesis says it, for all configurations.  `terms`:
    what else holds in it, which those before have signed; here it is only bytes.
    """

    number: int
    members: tuple[bytes, ...]
    f: int
    start: int = 0
    ratio_percent: int = 33
    terms: bytes = b""
    quorum: int = field(init=False)
    _member_set: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if list(self.members) != sorted(set(self.members)):
            raise ValueError("members must be distinct and in bytewise order")
        object.__setattr__(self, "quorum", quorum.quorum(len(self.members), self.f))
        object.__setattr__(self, "_member_set", frozenset(self.members))

    def primary(self, view: int) -> bytes:
        return self.members[view % len(self.members)]

    def __contains__(self, key: bytes) -> bool:
        return key in self._member_set

    def others(self, key: bytes) -> tuple[bytes, ...]:
        return tuple(m for m in self.members if m != key)

    @property
    def digest(self) -> bytes:
        """The 32 bytes that stand for it in the commits of the last batch before it."""
        return digest_of(self.number, self.start, self.members, self.terms)

    def followed_by(
        self, start: int, members: tuple[bytes, ...], terms: bytes = b""
    ) -> Configuration:
        """The configuration after this one, with these members, on these terms."""
        f = quorum.faults(len(members), self.ratio_percent)
        return Configuration(self.number + 1, members, f, start, self.ratio_percent, terms)


def digest_of(number: int, start: int, members: tuple[bytes, ...], terms: bytes = b"") -> bytes:
    """See `Configuration.digest`."""
    said = (number, start, members, terms) if terms else (number, start, members)
    return sodium.digest(_DOMAIN, codec.encode(said))


#: Between two statuses of a member that waits for nothing.
STATUS_TICKS = 10_000


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the protocol counts and waits for; ticks are milliseconds.

    `timeout_ticks`: how long the oldest request may wait at least before its primary is suspected;
    `pace` says how much longer.  `checkpoint_interval` and `window` must be equal on all members of
    a configuration, and may be others in the next one; the rest may differ.
    `turn_ticks`: how long nearly all messages wait for their turn, where links have a schedule, and
    `bytes_a_second` what such a link carries; 0 where there is none.
    `way_ticks`: what a round trip is taken for where none was measured, 0 if none is worth it.
    """

    checkpoint_interval: int = 64
    window: int = 128
    timeout_ticks: int = 30_000
    status_ticks: int = STATUS_TICKS
    pipeline: int = 4
    bundles_in_flight: int = 4
    turn_ticks: int = 0
    bytes_a_second: int = 0
    way_ticks: int = 0

    def __post_init__(self) -> None:
        if self.window < 2 * self.checkpoint_interval or self.window % self.checkpoint_interval:
            raise ValueError("the window must hold two checkpoint intervals or more, exactly")

"""Full vanguards: which relays may be the second and the third hop, for how long, and which next.

Knows the layers, how relays are read from tor's list and drawn, and how the choice is kept as text.
Refuses to know tor's control port, clocks and dice: times and random numbers are arguments.
Follows: vanguards-spec (4 second hops for 30 to 60 days, 8 third hops for 1 to 48 hours, the longer
of two draws); tor(1) on HSLayer2Nodes and HSLayer3Nodes.

Done here, and not by the vanguards add-on: that is without a release since 2023 and rests on stem,
costs each board a second Python with full control of tor, and cannot hold the node's service back
until its guards stand.  Its watch over bandwidth and rendezvous points is not done here.  Relays
with the flag Exit are left out and the others are drawn by bandwidth, as the consensus' weights for
middles come out while exits are scarce.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aegis_edge.net.tor.errors import TorError

FINGERPRINT_CHARACTERS = 40
#: Of tor's whole list of relays, as GETINFO ns/all gives it: 7,000 relays took 2 MB in 2024.
LIST_BYTES_MAX = 8 * 1024 * 1024
TEXT_CHARACTERS_MAX = 4_096
_HOUR_S = 3_600
_DAY_S = 24 * _HOUR_S
_TEXT_HEAD = "aegis-edge vanguards 1"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of guards: tor's option for it, how many there are, and how long each stays."""

    option: str
    guards: int
    lifetime_min_s: int
    lifetime_max_s: int
    longer_of_two: bool


FULL = (
    Layer("HSLayer2Nodes", 4, 30 * _DAY_S, 60 * _DAY_S, longer_of_two=False),
    Layer("HSLayer3Nodes", 8, _HOUR_S, 48 * _HOUR_S, longer_of_two=True),
)


class Relay(NamedTuple):
    """A relay of tor's list; `fingerprint` has 40 hexadecimal digits in upper case.

    `may_be_drawn`: it has the flags for it.  One that was drawn stays while it is listed at all:
    whoever can take a flag from it for an hour must not choose when another is drawn.
    """

    fingerprint: str
    bandwidth: int
    may_be_drawn: bool = True


class Guard(NamedTuple):
    """A relay in a layer, until `expires_s` (Unix time)."""

    fingerprint: str
    expires_s: int


Guards = tuple[tuple[Guard, ...], ...]


def relays(listed: str) -> tuple[Relay, ...]:
    """The relays of GETINFO ns/all; those may be drawn that are up, fast, stable and no exit.

    Nonsense is skipped.

    A bandwidth of 0 counts as 1: in a network that was never measured all have it.
    """
    found = {}
    fingerprint = ""
    flags: set[str] = set()
    for line in listed.split("\n"):
        words = line.split(" ")
        if words[0] == "r" and len(words) > 2:
            fingerprint, flags = _fingerprint(words[2]), set()
        elif words[0] == "s":
            flags = set(words[1:])
        elif words[0] == "w" and fingerprint:
            bandwidth = re.search(r" Bandwidth=([0-9]{1,15})(?![0-9])", line, re.ASCII)
            if bandwidth:
                may_be_drawn = flags >= _WANTED and not flags & _UNWANTED
                found[fingerprint] = Relay(fingerprint, max(1, int(bandwidth[1])), may_be_drawn)
    return tuple(found.values())


_WANTED = {"Running", "Valid", "Fast", "Stable"}
#: The last two are what authorities give to relays that they do not trust.
_UNWANTED = {"Exit", "BadExit", "MiddleOnly"}


def _fingerprint(identity: str) -> str:
    """Hexadecimal, of 20 bytes in base64 without padding; empty if it is something else."""
    try:
        data = base64.b64decode(identity + "=", validate=True)
    except ValueError:
        return ""
    return data.hex().upper() if len(data) * 2 == FINGERPRINT_CHARACTERS else ""


def chosen(
    held: Guards,
    known: Sequence[Relay],
    now_s: int,
    draw: Callable[[], float],
    layers: Sequence[Layer] = FULL,
) -> Guards:
    """The guards from now on: those held that are alive and not expired, and new ones.

    `draw`: random numbers from 0 to 1 (1 excluded), unpredictable.  A relay is in one layer only.
    A guard that is not in `known` is gone.  Raises `TorError` if the network
    has too few relays.
    """
    alive = {relay.fingerprint for relay in known}
    kept = [
        [g for g in guards if g.fingerprint in alive and _is_young(g, now_s, layer)][: layer.guards]
        for layer, guards in zip(layers, (*held, *([()] * len(layers))), strict=False)
    ]
    taken = {guard.fingerprint for guards in kept for guard in guards}
    free = [r for r in known if r.may_be_drawn and r.fingerprint not in taken]
    for layer, guards in zip(layers, kept, strict=True):
        while len(guards) < layer.guards:
            if not free:
                raise TorError(
                    f"Tor's list has too few relays for {layer.guards} vanguards ({layer.option})",
                    "wait until tor knows the whole network; see aegis-edge status",
                )
            relay = free.pop(_weighted(free, draw()))
            guards.append(Guard(relay.fingerprint, now_s + _lifetime_s(layer, draw)))
    return tuple(map(tuple, kept))


def _is_young(guard: Guard, now_s: int, layer: Layer) -> bool:
    """A clock that was wrong when it was drawn must not pin a guard for years."""
    return now_s < guard.expires_s <= now_s + layer.lifetime_max_s


def _weighted(free: Sequence[Relay], drawn: float) -> int:
    left = drawn * sum(relay.bandwidth for relay in free)
    for index, relay in enumerate(free):
        left -= relay.bandwidth
        if left < 0:
            return index
    return len(free) - 1


def _lifetime_s(layer: Layer, draw: Callable[[], float]) -> int:
    share = max(draw(), draw()) if layer.longer_of_two else draw()
    return layer.lifetime_min_s + int(share * (layer.lifetime_max_s - layer.lifetime_min_s))


def options(guards: Guards, layers: Sequence[Layer] = FULL) -> tuple[tuple[str, str], ...]:
    """The options of tor that pin these guards, for SETCONF or a torrc."""
    return tuple(
        (layer.option, ",".join(f"${guard.fingerprint}" for guard in layer_guards))
        for layer, layer_guards in zip(layers, guards, strict=True)
    )


def expires_s(guards: Guards) -> int:
    """When the first of them has to be replaced (Unix time); there is at least one."""
    return min(guard.expires_s for layer_guards in guards for guard in layer_guards)


# --- kept over restarts -------------------------------------------------------------------------


def to_text(guards: Guards) -> str:
    """The guards as a file; persistent guards are the point, so it is to be kept."""
    rows = [f"{n} {g.fingerprint} {g.expires_s}" for n, layer in enumerate(guards) for g in layer]
    return "\n".join([_TEXT_HEAD, *rows, ""])


def from_text(text: str, layers: Sequence[Layer] = FULL) -> Guards:
    """The guards of `to_text`; raises `TorError` for anything else."""
    head, *rows = text[:TEXT_CHARACTERS_MAX].split("\n")
    found: list[list[Guard]] = [[] for _ in layers]
    for layer, guard in _rows(rows):
        if layer < len(found):
            found[layer].append(guard)
    guards = tuple(map(tuple, found))
    if head != _TEXT_HEAD or to_text(guards) != text:
        raise TorError(
            "the file of the vanguards is damaged",
            "restore it from a backup; if there is none, remove it, and new ones are chosen",
        )
    return guards


def _rows(rows: Sequence[str]) -> Iterator[tuple[int, Guard]]:
    for row in rows:
        if found := _ROW.fullmatch(row):
            yield int(found[1]), Guard(found[2], int(found[3]))


_ROW = re.compile(r"([0-9]) ([0-9A-F]{40}) ([0-9]{1,12})", re.ASCII)

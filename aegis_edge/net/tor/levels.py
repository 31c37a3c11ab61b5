"""SECURITY_LEVEL: what each level promises, and what it demands of tor and of the links for that.

STANDARD  Hides where the boards are, and who talks to whom: links lead to onion services alone,
          over guards that last.  A link costs 4.4 MB a day when idle, more when there is something
          to say.
HIGH      Hides, too, whether there is anything to say: each link sends one cell at a time, at the
          moments of a Poisson process, 1 s apart in the mean, and a dummy if nothing waits.
          Only members find a board (client authorisation), and a knock costs work (proof of work).
          The node needs no network, only the Unix sockets of its tor.  88.8 MB, always.
PARANOID  Hides, too, that it is Tor, from who watches the line: bridges with a transport.  And
          which relay is the board's first, even in months of hunting: full vanguards, see
          `vanguards`.  The cells are 0.5 s apart: each waits half as long.  177.6 MB, always.

Knows how each promise is checked on the running tor, and the fix for each miss.  A level fails
closed: what cannot be shown to hold is a problem.  Refuses to know how tor is asked.

The megabytes are cells.  On the line, with TLS and what tor does for itself, `scripts/observe` saw
98 to 125 at HIGH, and 480 to 560 at PARANOID: obfs4 pads a cell to 1,380 bytes on average.

Why so:
- No pause when idle: a schedule that rests with the traffic is what a classifier sees.
- One cell a second: a put waits for four turns, so 4 s, and the votes of the agreement fit a cell.
- No iat-mode of obfs4: it would move times that the schedule has made meaningless.
- No defence of the introduction points in torrc: ADD_ONION cannot set it, and from HIGH on only
  members can read where those points are.

Follows: tor(1); path-spec and vanguards-spec; padding-spec; prop 327 (proof of work).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from aegis_edge.net.tor.endpoint import Endpoint, EndpointError
from aegis_edge.net.tor.lines import printable
from aegis_edge.net.tor.vanguards import FULL

SECONDS_A_DAY = 86_400
#: What a cell takes on the line (link protocol 4 and later), and what it carries of a stream: the
#: lesser figure, of relay cells that are sealed with Counter Galois Onion; older ones carry 498.
CELL_BYTES = 514
CELL_CONTENT_BYTES = 488
#: A WebSocket binary frame of 126 to 65,535 bytes, with the mask that clients send.
WEBSOCKET_BYTES = 8
#: The oldest tor that can do all of a level: 0.4.7 has vanguards-lite, 0.4.9.2 has proof of work
#: for services that are added through the control port.
VERSION_MIN = (0, 4, 7)
VERSION_POW = (0, 4, 9, 2)

_BRIDGES = ("Bridge", "ClientTransportPlugin")

Conf = Mapping[str, tuple[str, ...]]


class SecurityLevel(Enum):
    """How much is hidden from whom, and at which price; see what this module begins with."""

    STANDARD = "STANDARD"
    HIGH = "HIGH"
    PARANOID = "PARANOID"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of tor: what we write into a torrc, and all values that keep the promise."""

    name: str
    value: str
    also: tuple[str, ...] = ()

    def holds(self, found: tuple[str, ...] | None) -> bool:
        """Whether GETCONF's answer keeps the promise; None: it was not in the answer."""
        return found is not None and len(found) == 1 and found[0] in (self.value, *self.also)


@dataclass(frozen=True, slots=True)
class ProofOfWork:
    """Introductions a second that a service lets in without a puzzle growing, and at most."""

    queue_rate: int
    queue_burst: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How frames travel on a link.

    `mean_interval_s`: of a Poisson process in each direction, whose every event sends one frame of
    `frame_bytes`, real if one waits and a dummy else; None: frames go when there is something to
    say, and one after `keepalive_s` of silence.
    """

    mean_interval_s: float | None
    cells: int
    keepalive_s: float

    @property
    def frame_bytes(self) -> int:
        """The frame that, as a WebSocket message, fills `cells` whole cells of either kind."""
        return self.cells * CELL_CONTENT_BYTES - WEBSOCKET_BYTES

    @property
    def link_bytes_a_day(self) -> int:
        """Cells on the line in both directions of one link, less TLS and TCP; if idle, without
        a schedule.  Cells that tor adds for itself are not ours to count: `scripts/observe` does.
        """
        frames = SECONDS_A_DAY / (self.mean_interval_s or self.keepalive_s)
        return round(frames * self.cells * CELL_BYTES * 2)

    def wait_s(self, share: float) -> float:
        """How long this share (0 to 1) of frames waits at most for its turn, in seconds."""
        assert 0 <= share < 1, "no wait is certain"
        return 0.0 if self.mean_interval_s is None else -self.mean_interval_s * math.log1p(-share)


def line_bytes(frames: int, size_bytes: int) -> int:
    """The cells, at least, that carried so many frames of `size_bytes` in all; as on the line."""
    cells = -(-(size_bytes + frames * WEBSOCKET_BYTES) // CELL_CONTENT_BYTES)
    return max(frames, cells) * CELL_BYTES


@dataclass(frozen=True, slots=True)
class Level:
    """What one level demands."""

    options: tuple[Option, ...]
    client_authorisation: bool
    proof_of_work: ProofOfWork
    proof_of_work_required: bool
    unix_sockets: bool
    bridges: bool
    full_vanguards: bool
    shape: Shape
    #: A link needs one, and one that takes its place another.
    max_streams: int = 4


#: Demanded at every level.  `also` has the values that keep the same promise.
_COMMON = (
    Option("ClientOnly", "1"),
    Option("UseEntryGuards", "1"),
    Option("NumEntryGuards", "0"),  # as few as the network thinks right
    Option("SafeSocks", "1"),
    Option("SafeLogging", "1"),
    Option("HiddenServiceNonAnonymousMode", "0"),
    Option("HiddenServiceSingleHopMode", "0"),
    Option("CircuitPadding", "1"),
    Option("ReducedCircuitPadding", "0"),
    Option("ReducedConnectionPadding", "0"),
)

TABLE: Mapping[SecurityLevel, Level] = {
    SecurityLevel.STANDARD: Level(
        options=(
            *_COMMON,
            Option("VanguardsLiteEnabled", "1", ("auto",)),
            Option("ConnectionPadding", "auto", ("1",)),
        ),
        client_authorisation=False,
        proof_of_work=ProofOfWork(10, 100),
        proof_of_work_required=False,
        unix_sockets=False,
        bridges=False,
        full_vanguards=False,
        shape=Shape(None, cells=1, keepalive_s=20.0),
    ),
    SecurityLevel.HIGH: Level(
        options=(
            *_COMMON,
            Option("VanguardsLiteEnabled", "1"),
            Option("ConnectionPadding", "1"),
        ),
        client_authorisation=True,
        proof_of_work=ProofOfWork(10, 100),
        proof_of_work_required=True,
        unix_sockets=True,
        bridges=False,
        full_vanguards=False,
        shape=Shape(1.0, cells=1, keepalive_s=20.0),
    ),
    SecurityLevel.PARANOID: Level(
        options=(
            *_COMMON,
            Option("VanguardsLiteEnabled", "1"),
            Option("ConnectionPadding", "1"),
            Option("UseBridges", "1"),
        ),
        client_authorisation=True,
        proof_of_work=ProofOfWork(2, 20),
        proof_of_work_required=True,
        unix_sockets=True,
        bridges=True,
        full_vanguards=True,
        shape=Shape(0.5, cells=1, keepalive_s=20.0),
    ),
}

#: The flags of our own SOCKS port.  A port that somebody else set up needs the first, to tell why
#: a member cannot be reached; the second is tor's default, and must not be taken away.
SOCKS_FLAGS = ("ExtendedErrors", "IsolateSOCKSAuth", "OnionTrafficOnly")
_SOCKS_FLAG_REQUIRED = "ExtendedErrors"
_SOCKS_FLAG_FORBIDDEN = "NoIsolateSOCKSAuth"


class Facts(NamedTuple):
    """What is known of the running tor.

    `version`: of GETINFO version.  `modules`: those that ``tor --list-modules`` says yes to; None
    if nobody could ask.  `conf`: the answer to GETCONF of `asked`.  `control`, `socks`: where this
    node reaches it.
    """

    version: str
    modules: frozenset[str] | None
    conf: Conf
    control: Endpoint
    socks: Endpoint


class Problem(NamedTuple):
    """Something that a level demands and this tor does not do, and how to mend it."""

    words: str
    fix: str


def asked(level: SecurityLevel) -> tuple[str, ...]:
    """The options that GETCONF is to be asked for, for `missing` and `unguarded`."""
    names = (option.name for option in TABLE[level].options)
    return (*names, *_BRIDGES, "SocksPort", "HSLayer2Nodes", "HSLayer3Nodes")


def torrc_options(level: SecurityLevel) -> tuple[tuple[str, str], ...]:
    """The options of the table as a torrc has them; bridges are the owner's to add."""
    return tuple((option.name, option.value) for option in TABLE[level].options)


def missing(level: SecurityLevel, facts: Facts) -> tuple[Problem, ...]:
    """What this tor does not do of what `level` demands; unless it is empty, do not start.

    The vanguards of PARANOID can be chosen only once tor knows the network: see `unguarded`.
    """
    wanted = TABLE[level]
    return (
        *_version(wanted, facts),
        *_options(wanted, facts.conf),
        *_socks(facts),
        *(_sockets(facts) if wanted.unix_sockets else ()),
        *lacking_bridges(level, [(name, v) for name in _BRIDGES for v in facts.conf.get(name, ())]),
    )


def lacking_bridges(
    level: SecurityLevel, options: Sequence[tuple[str, str]]
) -> tuple[Problem, ...]:
    """What is amiss with the bridges among a torrc's options: tor does not start without any."""
    if not TABLE[level].bridges:
        return ()
    bridges, plugins = (
        [value for name, value in options if name.lower() == wanted.lower()] for wanted in _BRIDGES
    )
    return tuple(_bridges(bridges, plugins))


def unguarded(level: SecurityLevel, conf: Conf) -> tuple[Problem, ...]:
    """What is missing of full vanguards; unless it is empty, announce and dial nothing yet."""
    if not TABLE[level].full_vanguards:
        return ()
    return tuple(
        Problem(
            f"fewer than {layer.guards} relays are pinned by {layer.option}",
            "wait until tor knows the network; the node pins them then, by itself",
        )
        for layer in FULL
        if len([n for v in conf.get(layer.option, ()) for n in v.split(",") if n]) < layer.guards
    )


def can_prove_work(facts: Facts) -> bool:
    """Whether this tor lets a service of ours demand proof of work."""
    return parse_version(facts.version) >= VERSION_POW and "pow" in (facts.modules or ())


def parse_version(text: str) -> tuple[int, ...]:
    """(0, 4, 9, 11) of ``0.4.9.11``, ``0.4.9.11-dev (git-...)``; empty if it is no version."""
    found = re.match(r"[0-9]{1,4}(?:\.[0-9]{1,4}){3}(?![0-9.])", text, re.ASCII)
    return tuple(map(int, found[0].split("."))) if found else ()


# --- one function for each kind of demand -------------------------------------------------------


def _version(wanted: Level, facts: Facts) -> Iterator[Problem]:
    version = parse_version(facts.version)
    update = "update tor: Debian's security updates have a recent one, as has deb.torproject.org"
    if version < VERSION_MIN:
        yield Problem(f"tor {printable(facts.version)!r} is too old to have vanguards", update)
    elif wanted.proof_of_work_required and version < VERSION_POW:
        oldest = ".".join(map(str, VERSION_POW))
        yield Problem(
            f"tor {printable(facts.version)} cannot demand proof of work for the node's service",
            f"{update}; it takes {oldest}",
        )
    elif wanted.proof_of_work_required and facts.modules is None:
        yield Problem(
            "it is not known whether this tor was built with proof of work",
            "install Debian's tor, and let this user run it (/usr/sbin/tor --list-modules)",
        )
    elif wanted.proof_of_work_required and not can_prove_work(facts):
        yield Problem(
            "this tor was built without proof of work (tor --list-modules says pow: no)",
            "install Debian's tor, or one that was configured with --enable-gpl",
        )


def _options(wanted: Level, conf: Conf) -> Iterator[Problem]:
    for option in wanted.options:
        found = conf.get(option.name)
        if option.holds(found):
            continue
        line = f"put the line {option.name} {option.value} into its torrc and restart it"
        if found is None:
            yield Problem(f"this tor does not know {option.name}", "update tor")
        else:
            shown = printable(", ".join(found)) or "nothing"
            yield Problem(f"{option.name} is {shown}, not {option.value}", line)


def _socks(facts: Facts) -> Iterator[Problem]:
    found = [line.split() for line in facts.conf.get("SocksPort", ())]
    ours = [flags for place, *flags in filter(None, found) if _is(place, facts.socks)]
    line = f"SocksPort {facts.socks} {' '.join(SOCKS_FLAGS)}"
    fix = f"put the line {line} into its torrc and restart it"
    if not ours:
        yield Problem(f"torrc has no SocksPort line for {facts.socks}", fix)
    elif any(_SOCKS_FLAG_REQUIRED not in flags for flags in ours):
        yield Problem(f"the SocksPort at {facts.socks} is without {_SOCKS_FLAG_REQUIRED}", fix)
    elif any(_SOCKS_FLAG_FORBIDDEN in flags for flags in ours):
        yield Problem(f"the SocksPort at {facts.socks} puts all members on one circuit", fix)


def _is(place: str, socks: Endpoint) -> bool:
    try:
        return Endpoint.parse(place.replace('"', "")) == socks
    except EndpointError:
        return False


def _sockets(facts: Facts) -> Iterator[Problem]:
    for name, place in (("ControlSocket", facts.control), ("SocksPort", facts.socks)):
        if not place.is_unix:
            yield Problem(
                f"tor is reached at {place}, so this node needs a network",
                f"set {name} unix:/path in tor's torrc, and name that socket here; then this "
                "process can run with no network at all",
            )


def _bridges(bridges: Sequence[str], plugins: Sequence[str]) -> Iterator[Problem]:
    fix = (
        "install obfs4proxy; then put ClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy and "
        "each line of https://bridges.torproject.org, with the word Bridge before it, into its "
        "torrc, or, if the node starts tor itself, into torrc.extra in the node's home"
    )
    if not bridges:
        yield Problem("tor has no bridges, so who watches the line sees that it is Tor", fix)
    carried = {name for plugin in plugins for name in plugin.split(" ")[0].split(",")}
    for bridge in bridges:
        transport = re.match(r"[A-Za-z_][A-Za-z0-9_]*(?= )", bridge)
        if transport is None:
            yield Problem("a bridge is without a transport, so its traffic looks like Tor's", fix)
        elif transport[0] not in carried:
            yield Problem(f"nothing carries the transport {transport[0]} of a bridge", fix)

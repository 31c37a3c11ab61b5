"""The dial plan: which member to try when, at which address, and which of two links stays.

Knows members' records, back-off, the rule by which both ends of a pair keep the same link, how
long a member is not listened to whose calls come to nothing, and who is kept out (`bans`) though no
quorum of links needs it.
Who is no member may be in it as well, for as long as somebody vouches for it (`observers`).
A record that a member shows decides where this node dials, so an address is dialled that means
something else on each board (loopback, link-local) only if the member had such a one from the
beginning, in the record with which the book was made.
Refuses to know sockets, clocks and dice: `now_ticks` (monotonic milliseconds) and `jitter`
(evenly in 0..1) are arguments.  Back-off is "full jitter" (Brooker, AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aegis_edge.peers import address, places
from aegis_edge.peers.bans import Ban, Bans
from aegis_edge.peers.conduct import Conduct, What
from aegis_edge.wire.messages import NodeRecord, Verified

#: Dials under way at once; a board on a slow uplink must not time out all of them.
DIALS_MAX = 4
BACKOFF_TICKS = 500
BACKOFF_TICKS_MAX = 60_000
#: A link that lasted this long was good: the next dial starts the back-off anew.
STEADY_TICKS = 10_000
#: Longer than a dial and its handshakes may take.  A peer that dials although our link to it is
#: older than this has lost that link, and did not merely dial at the same moment.
SIMULTANEOUS_TICKS = 25_000


@dataclass(frozen=True, slots=True)
class Dial:
    """Try `peer` (a public key) at `address` now; report with `Book.dial_failed` or `opened`."""

    peer: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Link:
    """An open link; `outbound` if this node dialled it."""

    outbound: bool
    since_ticks: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What the book holds on one member.

    `peculiarities` are those of its first addresses: further ones of that kind are dialled too.
    `dial_at` is None while there is nothing to dial, `dialing` the address that is being tried,
    `tries` counts the failures since the last good link, `good_address` last led to the member.
    `calls_failed` counts its calls to us that came to nothing since then; before `deaf_until` no
    further one is taken.  `admitted_version` is that of the record with which it was let in, which
    all members know, and 0 of an observer.  Of whoever `is_member` no more, or `is_vouched` for as
    an observer, only what is under way is remembered.
    """

    record: Verified[NodeRecord]
    peculiarities: frozenset[str]
    dial_at: int | None = None
    link: Link | None = None
    dialing: str = ""
    tries: int = 0
    good_at: int = -1
    good_address: str = ""
    last_error: str = ""
    calls_failed: int = 0
    deaf_until: int | None = None
    is_member: bool = True
    is_vouched: bool = False
    admitted_version: int = 0
    conduct: Conduct = field(default_factory=Conduct)

    @property
    def is_welcome(self) -> bool:
        return self.is_member or self.is_vouched


class Book:
    """The other members and the plan to reach them; one task owns it.

    `own` is this node's key, `records` those of the genesis, and `schemes` the kinds of address
    that it can dial, such as "tcp".  `learnt` are records from before a restart, in any order; what
    `refusal` has something against is passed over.
    """

    def __init__(
        self,
        own: bytes,
        records: Iterable[Verified[NodeRecord]],
        schemes: Iterable[str],
        now_ticks: int = 0,
        learnt: Iterable[Verified[NodeRecord]] = (),
    ) -> None:
        self.own = own
        self.bans = Bans()
        #: How many members, with this one, must be linked before anybody is kept out for what it
        #: did: a quorum of them.
        self.quorum = 1
        self._schemes = frozenset(schemes)
        self._wanted: frozenset[bytes] | None = None
        self._entries = {r.signer: _new(r) for r in records if r.signer != own}
        for record in learnt:
            if record.signer in self and not self.refusal(record):
                self.learn(record)
        for key, entry in self._entries.items():
            if self._reachable(entry):
                self._entries[key] = replace(entry, dial_at=now_ticks)

    def __contains__(self, peer: bytes) -> bool:
        entry = self._entries.get(peer)
        return entry is not None and entry.is_welcome

    def __getitem__(self, peer: bytes) -> Entry:
        return self._entries[peer]

    def is_member(self, peer: bytes) -> bool:
        """Whether `peer` is one of the other members."""
        return peer in self and self._entries[peer].is_member

    @property
    def members(self) -> tuple[bytes, ...]:
        """The keys of the other members, in the order that everybody uses."""
        return tuple(sorted(peer for peer, entry in self._entries.items() if entry.is_member))

    @property
    def observers(self) -> tuple[bytes, ...]:
        """The keys of those who are no members and may link, in order."""
        found = (p for p, e in self._entries.items() if e.is_vouched and not e.is_member)
        return tuple(sorted(found))

    def admit(self, record: Verified[NodeRecord], now_ticks: int) -> None:
        """Its signer is a member from now on, if it was none.

        A newer record than this, which it has shown before, stays.
        """
        peer = record.signer
        if self.is_member(peer) or peer == self.own:
            return
        known = self._entries.get(peer)
        entry = _new(record)
        if known is not None:  # links and dials of its last time may still be on their way
            is_of_it = known.record.message.noise_key == record.message.noise_key
            seen = known.record if is_of_it else record
            newest = max(seen, record, key=lambda r: r.message.version)
            entry = replace(entry, record=newest, link=known.link, dialing=known.dialing)
        self._entries[peer] = replace(entry, dial_at=now_ticks if self._may_dial(entry) else None)

    def dismiss(self, peer: bytes) -> None:
        """`peer` is no member any more: it is not dialled, and no link to it stays."""
        entry = replace(self._entries[peer], is_member=False, is_vouched=False, dial_at=None)
        self._entries[peer] = entry

    def vouch(self, record: Verified[NodeRecord], now_ticks: int) -> None:
        """Its signer, who is no member, may link from now on; `refusal` has nothing against it."""
        peer = record.signer
        if peer in self or peer == self.own:
            return
        entry = self._entries.get(peer) or replace(_new(record), admitted_version=0)
        entry = replace(entry, is_member=False, is_vouched=True)
        self._entries[peer] = replace(entry, dial_at=now_ticks if self._may_dial(entry) else None)

    def disown(self, peer: bytes) -> None:
        """Nobody vouches for the observer `peer` any more."""
        self._entries[peer] = replace(self._entries[peer], is_vouched=False, dial_at=None)

    def sweep(self) -> list[bytes]:
        """Forget the observers for whom nobody vouches, once nothing of theirs is under way."""
        gone = [
            peer
            for peer, entry in self._entries.items()
            if not (entry.is_welcome or entry.admitted_version or entry.link or entry.dialing)
        ]
        for peer in gone:
            del self._entries[peer]
            self.bans.forget(peer)
        return gone

    # --- records ----------------------------------------------------------------------------

    def refusal(self, record: Verified[NodeRecord]) -> str:
        """Why this record must not be believed, or "" if it may be.

        An older version may name addresses that were left since.  A Noise key stays what it was at
        the admission: nothing changes it, and through Tor each change would have everybody announce
        its service anew.  That a record has expired is shown to people, never a reason to refuse:
        boards lose their clocks.
        """
        try:
            places.of(record)
        except address.AddressError as error:
            return f"its node record is of no use: {error}"
        if record.signer not in self._entries:
            return ""
        known = self._entries[record.signer].record
        if record.message.version < known.message.version:
            return (
                f"its node record is version {record.message.version}, but version "
                f"{known.message.version} is known; was it restored from an old backup?"
            )
        if record.message.noise_key != known.message.noise_key:
            return (
                "its node record names another Noise key than it was let in with; a board with new"
                " keys is a new member: remove the old one, and invite it"
            )
        if record.message.version == known.message.version and record != known:
            return "it has two different node records with one version; was its key file copied?"
        return ""

    def learn(self, record: Verified[NodeRecord]) -> None:
        """Keep a member's record that `refusal` had nothing against; it may hold new addresses."""
        assert not self.refusal(record)
        entry = self._entries[record.signer]
        self._entries[record.signer] = replace(entry, record=record)

    def introduced(self, record: Verified[NodeRecord], now_ticks: int) -> bool:
        """Whether this record, which another member handed on, is news; then it is kept.

        Its signer is tried at once if it can be anywhere else now.  What is old, or of nobody here,
        is no fault of whoever hands it on: it may know less, or other members.
        """
        peer = record.signer
        if peer not in self or self.refusal(record):
            return False
        known = self._entries[peer].record
        if record.message.version == known.message.version:
            return False
        self.learn(record)
        if set(record.message.addresses) - set(known.message.addresses):
            self.hasten(peer, now_ticks)
        return True

    def news(self, of_others_than: bytes) -> tuple[Verified[NodeRecord], ...]:
        """The records of members that are newer than those with which they were let in."""
        return tuple(
            entry.record
            for peer, entry in sorted(self._entries.items())
            if entry.is_member
            and peer != of_others_than
            and entry.record.message.version > entry.admitted_version
        )

    def at(self, text: str) -> bytes | None:
        """The member that says it is at this address; None if nobody does."""
        found = (p for p in self.members if text in self._entries[p].record.message.addresses)
        return next(found, None)

    def shunned(self, peer: bytes) -> tuple[str, ...]:
        """The addresses in the record of `peer` that will not be dialled, whatever happens."""
        entry = self._entries[peer]
        return tuple(text for text in entry.record.message.addresses if not _is_safe(entry, text))

    # --- dialling ---------------------------------------------------------------------------

    def want(self, peers: frozenset[bytes] | None) -> None:
        """Dial these and nobody else; None: all members, and nobody who is none."""
        self._wanted = peers

    def is_wanted(self, peer: bytes) -> bool:
        """Whether a link to `peer` is to be made from here."""
        if self._wanted is None:
            return self._entries[peer].is_member
        return peer in self._wanted

    def dials(self, now_ticks: int) -> tuple[Dial, ...]:
        """The dials to start now: those that are due, members known to be good lately first."""
        due = sorted(
            (-entry.conduct.rank(now_ticks), -entry.good_at, peer)
            for peer, entry in self._entries.items()
            if self._due_at(peer, entry) <= now_ticks
        )
        return tuple(self._dial(peer) for *_, peer in due[: self._room])

    @property
    def wake_at(self) -> int | None:
        """When `dials` will next have something, if nothing else happens; None for never."""
        if not self._room:
            return None
        soonest = min((self._due_at(*item) for item in self._entries.items()), default=math.inf)
        return None if soonest == math.inf else int(soonest)

    def hasten(self, peer: bytes, now_ticks: int) -> None:
        """Have `peer` dialled now and not later, from its best address on."""
        entry = replace(self._entries[peer], tries=0)
        if self._may_dial(entry):
            entry = replace(entry, dial_at=now_ticks)
        self._entries[peer] = entry

    def dial_failed(
        self,
        peer: bytes,
        now_ticks: int,
        reason: str,
        jitter: float,
        what: What = What.UNREACHABLE,
    ) -> None:
        """The dial of `peer` brought no link; `reason` is for people."""
        entry = replace(self._entries[peer], dialing="")
        if entry.link is None:
            conduct = entry.conduct.noted(what, now_ticks).happened("a dial failed", now_ticks)
            entry = replace(entry, last_error=reason, tries=entry.tries + 1, conduct=conduct)
        self._entries[peer] = self._postponed(entry, now_ticks, jitter)

    # --- links ------------------------------------------------------------------------------

    def opened(self, peer: bytes, outbound: bool, now_ticks: int) -> bool:
        """A link to `peer` has proven itself: whether it stays; if so, an older one must go.

        Of two links dialled at the same moment, both ends keep the one that the member with the
        lower key dialled.  Of two links dialled one after the other, the newer one stays: its
        dialler would not have dialled if it still had the older one.
        """
        entry = self._entries[peer]
        if outbound:
            entry = replace(entry, dialing="", good_address=entry.dialing)
        self._entries[peer] = entry
        if not entry.is_welcome:
            return False
        if entry.link is not None:
            if not self._supersedes(peer, entry.link, outbound, now_ticks):
                return False
            if outbound == entry.link.outbound:
                entry = _judged(entry, entry.link, now_ticks)
        self._entries[peer] = replace(
            entry,
            link=Link(outbound, now_ticks),
            dial_at=None,
            good_at=now_ticks,
            last_error="",
            conduct=entry.conduct.happened("it was linked", now_ticks),
        )
        return True

    def closed(
        self, peer: bytes, now_ticks: int, reason: str, jitter: float, what: What = What.CUT
    ) -> None:
        """The link to `peer` that stayed is gone; `reason` is for people."""
        entry = self._entries[peer]
        assert entry.link is not None
        tries = 0 if _is_steady(entry.link, now_ticks) else entry.tries + 1
        entry = _judged(entry, entry.link, now_ticks)
        conduct = entry.conduct.noted(what, now_ticks).happened("its link ended", now_ticks)
        entry = replace(entry, link=None, last_error=reason, tries=tries, conduct=conduct)
        if what is What.WRONG:
            self.bans.offence(peer, reason, now_ticks)
        self._entries[peer] = self._postponed(entry, now_ticks, jitter)

    # --- calls ------------------------------------------------------------------------------

    def deaf_ticks(self, peer: bytes, now_ticks: int) -> int:
        """For how long a call from `peer` is still to be refused; 0 if it is welcome."""
        return max(0, (self._entries[peer].deaf_until or now_ticks) - now_ticks)

    def call_failed(self, peer: bytes, now_ticks: int) -> None:
        """A call from `peer`, which has proven who it is, brought no link.

        Not for one that was refused because of `deaf_ticks`: that is no failure of its own, and
        nobody who calls often would ever be heard again.
        """
        entry = _failed(self._entries[peer], now_ticks)
        conduct = entry.conduct.noted(What.REFUSED, now_ticks)
        self._entries[peer] = replace(
            entry, conduct=conduct.happened("a call of its was refused", now_ticks)
        )

    # --- conduct ----------------------------------------------------------------------------

    def conduct(self, peer: bytes, now_ticks: int) -> Conduct:
        """What is known of a member's links, with the one that it has."""
        entry = self._entries[peer]
        if entry.link is not None and _is_steady(entry.link, now_ticks):
            return entry.conduct.noted(What.STEADY, now_ticks)
        return entry.conduct

    def contradicted(self, peer: bytes, now_ticks: int, reason: str) -> None:
        """`peer`, if it is known here, signed two things that contradict each other."""
        entry = self._entries.get(peer)
        if entry is not None:
            conduct = entry.conduct.noted(What.WRONG, now_ticks).happened(reason, now_ticks)
            self._entries[peer] = replace(entry, conduct=conduct)
            self.bans.offence(peer, reason, now_ticks, contradicts=True)

    def barred(self, peer: bytes, now_ticks: int) -> Ban | None:
        """What keeps `peer`, member or not, from having a link now; None if nothing does."""
        ban = self._ban(peer)
        return ban if ban is not None and now_ticks < ban.until_ticks else None

    # --- rules ------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        return DIALS_MAX - sum(e.dialing != "" for e in self._entries.values())

    def _ban(self, peer: bytes) -> Ban | None:
        if self.bans.is_spotless(peer):
            return None
        others = sum(
            entry.link is not None and entry.is_member
            for key, entry in self._entries.items()
            if key != peer
        )
        return self.bans.of(peer, is_needed=1 + others < self.quorum)

    def _due_at(self, peer: bytes, entry: Entry) -> float:
        """When `peer` is to be dialled, if nothing else happens; infinite for never."""
        if entry.dial_at is None or not self.is_wanted(peer):
            return math.inf
        ban = self._ban(peer)
        return entry.dial_at if ban is None else max(entry.dial_at, ban.until_ticks)

    def _supersedes(self, peer: bytes, old: Link, outbound: bool, now_ticks: int) -> bool:
        return (
            outbound == (self.own < peer)
            or old.outbound == outbound
            or now_ticks - old.since_ticks > SIMULTANEOUS_TICKS
        )

    def _dial(self, peer: bytes) -> Dial:
        entry = self._entries[peer]
        addresses = sorted(self._reachable(entry), key=lambda a: a != entry.good_address)
        chosen = addresses[entry.tries % len(addresses)]
        self._entries[peer] = replace(entry, dialing=chosen, dial_at=None)
        return Dial(peer, chosen)

    def _postponed(self, entry: Entry, now_ticks: int, jitter: float) -> Entry:
        if not self._may_dial(entry):
            return entry
        return replace(entry, dial_at=now_ticks + int(jitter * _ceiling_ticks(entry.tries)))

    def _may_dial(self, entry: Entry) -> bool:
        is_free = entry.is_welcome and entry.link is None and not entry.dialing
        return is_free and bool(self._reachable(entry))

    def _reachable(self, entry: Entry) -> tuple[str, ...]:
        """The addresses that can and may be dialled from here."""
        return tuple(
            text
            for text in entry.record.message.addresses
            if address.parse(text).scheme in self._schemes and _is_safe(entry, text)
        )


def _new(record: Verified[NodeRecord]) -> Entry:
    """What is known of a member when it is let in."""
    peculiarities = address.peculiarities(record.message.addresses)
    return Entry(record, peculiarities, admitted_version=record.message.version)


def _is_safe(entry: Entry, text: str) -> bool:
    peculiarity = address.parse(text).peculiarity
    return not peculiarity or peculiarity in entry.peculiarities


def _ceiling_ticks(failures: int) -> int:
    """The longest that a dialler waits after so many failures."""
    return min(BACKOFF_TICKS_MAX, BACKOFF_TICKS << min(failures, 16))


def _is_steady(link: Link, now_ticks: int) -> bool:
    return now_ticks - link.since_ticks >= STEADY_TICKS


def _judged(entry: Entry, link: Link, now_ticks: int) -> Entry:
    """The entry after the end of `link`: a good one is a new start, a short one a failed call."""
    if _is_steady(link, now_ticks):
        conduct = entry.conduct.noted(What.STEADY, now_ticks)
        return replace(entry, calls_failed=0, deaf_until=None, conduct=conduct)
    return entry if link.outbound else _failed(entry, now_ticks)


def _failed(entry: Entry, now_ticks: int) -> Entry:
    """The entry after a call that came to nothing; the first one is nobody's fault.

    An honest member counts the same failures and waits by itself.  This is what it then waits on
    average: it is seldom refused, and never kept out for longer than its own wait may be.
    """
    failures = entry.calls_failed + 1
    pause_ticks = _ceiling_ticks(failures) // 2 if failures > 1 else 0
    return replace(entry, calls_failed=failures, deaf_until=now_ticks + pause_ticks)

"""The roll of members: who belongs to the cluster, who is to come or to go, and what they share.

Knows the members of a configuration, the parameters that they agreed on, the open proposals to
change either, and when one is accepted.
Refuses to know where the roll lies, and when the change takes effect for agreement: whoever
executes a batch closes it with `after`, and the next configuration starts there.
Follows: Castro and Liskov (OSDI '99) section 2 (deterministic state machines): such a change
is an operation like any other.  One compromised member can propose and say yes, but not decide.

A proposal is accepted with the yes of a quorum of the members, which its author's is one of; it is
rejected as soon as a quorum can no longer be had, or when it is a week old.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aegis_edge.crypto import sodium
from aegis_edge.knowledge import agreed as shared
from aegis_edge.knowledge.agreed import PARAMETERS, Agreed
from aegis_edge.knowledge.operations import (
    Adjust,
    Admit,
    Approve,
    Change,
    Dismiss,
    Leave,
    Propose,
    Status,
)
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import NodeRecord, Verified

_DOMAIN = b"aegis-edge roll"
PROPOSAL_MS = 7 * 24 * 3600 * 1000
#: Open proposals of one author: so much of everybody's memory, and of people's attention.
PROPOSALS_MAX = 4

Ballot = Propose | Approve | Leave
_CHANGES: dict[object, Callable[..., Change]] = {c.KIND: c for c in (Admit, Dismiss, Adjust)}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the roll needs to know of others' business.

    `quorum`: how many of so many members decide; `fits`: whether so many can go by what they agreed
    on; `open_record`: a signed node record out of its bytes, raising `WireError`.
    """

    quorum: Callable[[int], int]
    fits: Callable[[int, tuple[Agreed, ...]], bool]
    open_record: Callable[[bytes], Verified[NodeRecord]]


class Proposal(NamedTuple):
    """A change that waits for votes.  `number` is its name, for good; `time_ms` the agreed time
    at which it was made; `yes` and `no` are members' keys in bytewise order."""

    number: int
    author: bytes
    time_ms: int
    change: Change
    yes: tuple[bytes, ...]
    no: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Roll:
    """The members of configuration `number`, which holds for batches after `start`.

    `records` are their signed node records as they were admitted, in order of their keys;
    `proposals` are open; `last` is the number of the last proposal ever; `agreed`: what the members
    share, beside and instead of what the genesis says, in order of the names.
    """

    records: tuple[tuple[bytes, bytes], ...]
    number: int = 0
    start: int = 0
    proposals: tuple[Proposal, ...] = ()
    last: int = 0
    agreed: tuple[Agreed, ...] = ()

    @property
    def members(self) -> tuple[bytes, ...]:
        """The public keys, in bytewise order."""
        return tuple(key for key, _ in self.records)

    @property
    def terms(self) -> bytes:
        """What those before sign of what is agreed on in this configuration."""
        return shared.pack(self.agreed)

    def encoded(self) -> bytes:
        """The canonical encoding, which `decoded` reads: as ever, where nothing was agreed on."""
        return codec.encode(
            (
                self.records,
                self.number,
                self.start,
                tuple((*p[:3], p.change.fields(), p.yes, p.no) for p in self.proposals),
                self.last,
                *((tuple(map(tuple, self.agreed)),) if self.agreed else ()),
            )
        )

    def digest(self) -> bytes:
        """32 bytes that stand for the roll in the state root."""
        return digest_of(self.encoded())

    def after(self, sequence: int, before: Roll) -> Roll:
        """The roll once the batch at `sequence` is executed whole; `before`: as it found it."""
        if (self.records, self.agreed) == (before.records, before.agreed):
            return self
        return replace(self, number=self.number + 1, start=sequence)

    def decide(
        self, author: bytes, time_ms: int, ballot: Ballot, rules: Rules
    ) -> tuple[Roll, Status, int]:
        """The roll after what a member wants, what came of that, and the proposal's number."""
        if author not in self.members:
            return self, Status.REFUSED, 0
        if not isinstance(ballot, Approve) and ballot.expected not in (None, self.number):
            return self, Status.CONFLICT, self.number
        roll = self._without_old(time_ms)
        if isinstance(ballot, Leave):
            if len(roll.records) == 1:
                return roll, Status.REFUSED, 0
            return roll._changed(Dismiss(author), rules), Status.DONE, 0
        if isinstance(ballot, Approve):
            return roll._vote(author, ballot, rules)
        return roll._propose(author, time_ms, ballot.change, rules)

    def _without_old(self, time_ms: int) -> Roll:
        kept = tuple(p for p in self.proposals if time_ms < p.time_ms + PROPOSAL_MS)
        return self if kept == self.proposals else replace(self, proposals=kept)

    def _propose(
        self, author: bytes, time_ms: int, change: Change, rules: Rules
    ) -> tuple[Roll, Status, int]:
        same = next((p for p in self.proposals if p.change == change), None)
        if same is not None:  # to want the same is to say yes
            return self._vote(author, Approve(same.number, True), rules)
        if sum(p.author == author for p in self.proposals) >= PROPOSALS_MAX:
            return self, Status.REFUSED, 0  # first, for it costs nothing to find out
        refused = self._objection(change, rules)
        if refused is not None:
            return self, refused, 0
        number = self.last + 1
        proposal = Proposal(number, author, time_ms, change, (author,), ())
        roll = replace(self, proposals=(*self.proposals, proposal), last=number)
        return roll._counted(number, rules), Status.DONE, number

    def _vote(self, author: bytes, vote: Approve, rules: Rules) -> tuple[Roll, Status, int]:
        known = next((p for p in self.proposals if p.number == vote.number), None)
        if known is None:
            return self, Status.ABSENT, 0
        yes, no = set(known.yes) - {author}, set(known.no) - {author}
        (yes if vote.yes else no).add(author)
        changed = known._replace(yes=tuple(sorted(yes)), no=tuple(sorted(no)))
        roll = replace(self, proposals=tuple(changed if p is known else p for p in self.proposals))
        return roll._counted(vote.number, rules), Status.DONE, vote.number

    def _counted(self, number: int, rules: Rules) -> Roll:
        """With what follows from the votes on one proposal."""
        proposal = next(p for p in self.proposals if p.number == number)
        members = set(self.members)
        quorum = rules.quorum(len(members))
        if len(members & set(proposal.yes)) >= quorum:
            return self._changed(proposal.change, rules)
        if len(members - set(proposal.no)) < quorum:
            return self._closed(number)
        return self

    def _closed(self, number: int) -> Roll:
        return replace(self, proposals=tuple(p for p in self.proposals if p.number != number))

    def _changed(self, change: Change, rules: Rules) -> Roll:
        """As it is from now on; what can no longer be done then is closed.

        Votes of whoever is gone count no more, and nobody's absence carries a proposal: the others
        are counted again when the next of them votes.
        """
        records, agreed = dict(self.records), self.agreed
        if isinstance(change, Adjust):
            agreed = self._adjusted(change)
        elif isinstance(change, Dismiss):
            del records[change.key]
        else:
            if change.instead_of is not None:
                del records[change.instead_of]
            records[rules.open_record(change.record).signer] = change.record
        roll = replace(self, records=tuple(sorted(records.items())), agreed=agreed)
        possible = tuple(p for p in roll.proposals if roll._objection(p.change, rules) is None)
        return replace(roll, proposals=possible)

    def _adjusted(self, change: Adjust) -> tuple[Agreed, ...]:
        return shared.replaced(self.agreed, Agreed(change.name, change.value, self.number + 1))

    def _objection(self, change: Change, rules: Rules) -> Status | None:
        """Why nobody could make this change now; None if it may be voted on."""
        if isinstance(change, Adjust):
            return self._objection_to_value(change, rules)
        members = dict(self.records)
        if isinstance(change, Dismiss):
            if change.key not in members:
                return Status.ABSENT
            return Status.REFUSED if len(members) == 1 else None
        try:
            record = rules.open_record(change.record)
        except WireError:
            return Status.INVALID
        if change.instead_of is not None and members.pop(change.instead_of, None) is None:
            return Status.ABSENT
        if record.signer in members:
            return Status.CONFLICT
        noise_keys = {rules.open_record(raw).message.noise_key for raw in members.values()}
        if record.message.noise_key in noise_keys or not rules.fits(len(members) + 1, self.agreed):
            return Status.REFUSED
        return None

    def _objection_to_value(self, change: Adjust, rules: Rules) -> Status | None:
        parameter = PARAMETERS.get(change.name)
        if parameter is None or not parameter.allows(change.value):
            return Status.INVALID
        if shared.value_of(self.agreed, change.name) == change.value:
            return Status.CONFLICT
        fits = rules.fits(len(self.records), self._adjusted(change))
        return None if fits else Status.REFUSED


def digest_of(encoded: bytes) -> bytes:
    """See `Roll.digest`."""
    return sodium.digest(_DOMAIN, encoded)


def decoded(data: bytes) -> Roll:
    """The roll that `Roll.encoded` wrote, here or under a root that others certified.

    Raises `WireError`, and `UnknownParameter` where a later release is needed.
    """
    try:
        records, number, start, proposals, last, *agreed = _tuple(codec.decode(data))
        return Roll(
            tuple((key, record) for key, record in records),
            number,
            start,
            tuple(
                Proposal(n, author, time_ms, _change(change), yes, no)
                for n, author, time_ms, change, yes, no in proposals
            ),
            last,
            *map(shared.read, agreed),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"no roll of members: {error}") from None


def _tuple(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise WireError("no roll of members")
    return value


def _change(fields: tuple[Any, ...]) -> Change:
    kind, *rest = fields
    return _CHANGES[kind](*rest)

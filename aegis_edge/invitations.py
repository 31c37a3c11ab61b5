"""The desk where newcomers are invited, let in, or sent away: on the member that invites.

Knows when an invitation is good, whom it was used by, and what its guest is told.  Refuses to
decide who is a member: it proposes, as `aegis-edge members add` does, and counts no votes.

An invitation is used up by the first who proves it and is no member.  The same newcomer may come
back with it, for links break; it is proposed once, before the invitation ends: that it is about to
be is on the disk first, for what is proposed may be agreed on long after.  Whether the invitation
has ended is judged by the agreed time, which takes a batch: a board whose clock starts in 1970
keeps none open, and one in 2100 ends none.  Nothing that is kept here lets anybody in.  So it is
with the X25519 key of a Tor client, of which a service is told the public half: that of an
invitation is made of what is kept anyway, and forgotten once its guest was told the end, or it is
over.

Who was invited as an observer follows for as long as this desk gives it passes (`peers.observers`),
and so does, until then, who waits to be let in.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from aegis_edge import membership
from aegis_edge.api.messages import Refusal
from aegis_edge.api.port import Invited, Issued
from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import CryptoError
from aegis_edge.disk import guestlist
from aegis_edge.disk.errors import DiskError
from aegis_edge.disk.guestlist import ROWS_MAX, Row, underway
from aegis_edge.knowledge.operations import Admit, Barrier, Propose, Status
from aegis_edge.knowledge.roll import Proposal, Roll
from aegis_edge.net.links import Answer as Answering
from aegis_edge.pbft.route import Waypoint
from aegis_edge.peers import welcome
from aegis_edge.peers.genesis import Genesis
from aegis_edge.peers.identity import short
from aegis_edge.peers.invitation import SECRET_BYTES, Invitation
from aegis_edge.peers.observers import PASS_MS, RENEWAL_MS
from aegis_edge.peers.welcome import Answer, Question, State
from aegis_edge.replication import Replication
from aegis_edge.replication.errors import ReplicationError
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Pass, Verified

#: Invitations that nobody has used yet, at once: each is a door.
OPEN_MAX = 8
#: Observers for whom a node vouches, at once.
OBSERVERS_MAX = 16
#: An agreed time has settled that moves no further from one batch to the next; and how many batches
#: that may take.
SETTLED_MS = 60_000
ROUNDS_MAX = 4
#: How long a guest waits for the cluster before it is told to ask again.
PATIENCE_S = 30.0
#: How often to see whether an invitation has ended, where a service is told of those that have not.
LOOK_S = 60.0
#: How often to see whose pass is to be renewed, and who needs none any more.
PASSES_S = 5.0
#: After these a guest has nothing more to ask.
_LAST = frozenset({State.ADMITTED, State.REJECTED, State.REFUSED, State.OBSERVER})

log = logging.getLogger(__name__)

Record = Verified[NodeRecord]


class Invitations:
    """The desk of one node; `guest` is what its links call.

    `own`: this node's record; `others`: gives those of the other members; `path`: the file in which
    invitations survive a restart; `level`: as in `Invitation`; `known`: records that may be of
    guests; `met`: called with that of each new one, to keep it.
    """

    def __init__(
        self,
        path: Path,
        genesis: Genesis,
        own: Record,
        others: Callable[[], Iterable[Record]],
        replication: Replication,
        entropy: Callable[[int], bytes] = os.urandom,
        *,
        level: str = "",
        known: Iterable[Record] = (),
    ) -> None:
        self._path = path
        self._genesis = genesis
        self._own = own
        self._others = others
        self._replication = replication
        self._entropy = entropy
        self._rows = {row.public: row for row in guestlist.read(path)}
        self._level = level
        self._lock = trio.Lock()
        self._served: set[bytes] = set()
        self._told: set[bytes] = set()
        self._changed = trio.Event()
        self._words: dict[bytes, Verified[Pass]] = {}
        self._records = {record.signer: record for record in known}
        self.met: Callable[[Record], None] = lambda _: None

    # --- for the owner ----------------------------------------------------------------------

    async def issue(
        self,
        lifetime_s: int,
        instead_of: bytes | None,
        *,
        timeout_s: float,
        is_observer: bool = False,
    ) -> Issued:
        """A new invitation, durable; raises `Refusal`, or what the replication raises.

        `instead_of`: the member in whose place the newcomer is to be admitted; `is_observer`: it is
        to follow, and no member.
        """
        roll = await self._roll()
        if instead_of == self._own.signer:
            raise Refusal(
                "invalid",
                "this board cannot invite somebody in its own place",
                "have another member replace it",
            )
        if instead_of is not None and instead_of not in roll.members:
            raise Refusal("not_found", "there is no such member", "see aegis-edge members")
        now_ms = await self._settled_ms(timeout_s)
        until_ms = now_ms + lifetime_s * 1000
        now = Waypoint.at(self._replication.members.configuration)
        invitation = Invitation(
            self._genesis.cluster_id,
            self._own.signer,
            self._own.message.addresses,
            self._entropy(SECRET_BYTES),
            until_ms // 1000,
            now.number,
            now.digest,
            self._level,
        )
        async with self._lock:
            if sum(self._is_open(row, now_ms) for row in self._rows.values()) >= OPEN_MAX:
                raise Refusal(
                    "conflict",
                    f"{OPEN_MAX} invitations are open already",
                    "wait until one is used, or end one: aegis-edge invite cancel",
                )
            if is_observer and sum(map(_observes, self._rows.values())) >= OBSERVERS_MAX:
                raise Refusal(
                    "conflict",
                    f"this board vouches for {OBSERVERS_MAX} observers already",
                    "have another member invite it, or end one: aegis-edge remove",
                )
            await self._keep(Row(invitation.public, until_ms, instead_of, is_observer=is_observer))
        return Issued(invitation.to_text(), _listed(self._rows[invitation.public], now_ms))

    async def listed(self) -> Sequence[Invited]:
        """What became of each invitation, the newest first."""
        roll = await self._roll()
        now_ms = await self._replication.read(lambda database: database.agreed_ms())
        return [_listed(row, now_ms, roll) for row in reversed(self._rows.values())]

    async def cancel(self, name: str) -> None:
        """End one by which nobody was proposed yet; `name` as in `Invited`.  Raises `Refusal`."""
        async with self._lock:
            found = [row for row in self._rows.values() if _name(row) == name]
            if not found:
                raise Refusal("not_found", "there is no such invitation", "aegis-edge invite list")
            if found[0].number:
                is_made = found[0].number > 0
                raise Refusal(
                    "conflict",
                    "its board is proposed already" if is_made else "its board is being proposed",
                    "a proposal that is still open ends with: aegis-edge reject",
                )
            await self._keep(replace(found[0], is_over=True))

    def observers(self) -> Mapping[bytes, str]:
        """The keys and the names of the observers for whom this node vouches."""
        found = [row.guest for row in self._rows.values() if _observes(row)]
        return {key: self._named(key) for key in found if key is not None}

    def records(self) -> list[Record]:
        """Those of the observers for whom this node vouches, as far as they are known.

        Not of those who wait to be let in: a service that learns of one is not found for a while,
        and who waits has to find it.
        """
        observers = self.observers()
        return [record for key, record in self._records.items() if key in observers]

    def _named(self, key: bytes) -> str:
        record = self._records.get(key)
        return short(key) if record is None else record.message.name

    async def dismiss(self, key: bytes) -> None:
        """Vouch for an observer no more; raises `Refusal`."""
        async with self._lock:
            found = [r for r in self._rows.values() if _observes(r) and r.guest == key]
            if not found:
                raise Refusal(
                    "not_found",
                    "this board vouches for no such observer",
                    "who does is who invited it: see aegis-edge members there",
                )
            for row in found:
                await self._keep(replace(row, is_over=True))

    # --- for guests -------------------------------------------------------------------------

    def guest(
        self, record: Record, transcript: bytes, messages: Sequence[bytes]
    ) -> Answering | None:
        """How the caller with this record is answered, if it was invited: see `Links.guest`."""
        try:
            asked = welcome.read_question(messages[0])
        except WireError:
            return None
        if asked.public not in self._rows or not asked.is_proven(transcript):
            return None
        return partial(self._answered, record, asked)

    async def _answered(self, record: Record, asked: Question) -> bytes:
        if asked.public in self._served:  # one at a time, for each may order a batch
            return Answer(State.LATER, "it is being answered already").encode()
        self._served.add(asked.public)
        try:
            answer = await self._answer(record, asked)
        except (ReplicationError, Refusal) as error:
            # Who is off, and where a file lies, is not for whoever has found a code.
            answer = Answer(State.LATER, "the member that invited could not settle it yet")
            log.info("%s has to wait with its invitation: %s", _called(record), error)
        finally:
            self._served.discard(asked.public)
        row = self._rows.get(asked.public)
        if answer.state in _LAST and row is not None and row.guest == record.signer:
            self._told.add(asked.public)
        return answer.encode()

    async def _answer(self, record: Record, asked: Question) -> Answer:
        row = self._row(asked.public)
        if row.guest not in (None, record.signer):
            return Answer(State.USED)  # at once: nothing is ordered for who has no right to it
        roll = await self._roll()
        # A member uses nothing up: perhaps the code was meant for the board beside it.
        is_used_up = row.is_over or row.number > 0 or _observes(row)
        if record.signer not in roll.members and not is_used_up:
            row = await self._judged(row.public, record)
            roll = await self._roll()
        if record.signer not in roll.members:
            if row.is_over:
                return await self._ended(row)
            if row.number and _proposal(row, roll) is None:
                return Answer(State.REJECTED)
        if not asked.is_ready:
            raws = tuple(each.raw for each in (self._own, *self._others()))
            return Answer(State.WELCOME, genesis=self._genesis.to_text(), records=raws)
        if row.is_observer:
            return Answer(State.ADMITTED if record.signer in roll.members else State.OBSERVER)
        return await self._admission(row, record, roll)

    async def _ended(self, row: Row) -> Answer:
        ended_ms = await self._replication.read(lambda database: database.agreed_ms())
        return Answer(State.EXPIRED if ended_ms >= row.until_ms else State.CANCELLED)

    async def _judged(self, public: bytes, record: Record) -> Row:
        """The invitation of this newcomer, once it is known to be in time, and if it was proposed.

        What this node had under way before is executed by then, or never will be.
        """
        now_ms = await self._settled_ms(PATIENCE_S)
        roll = await self._roll()
        async with self._lock:
            row = found = self._row(public)
            if row.number < 0:
                row = replace(row, number=_settled_number(row, roll))
            if row.is_over or row.number:
                pass
            elif now_ms >= row.until_ms:
                row = replace(row, is_over=True)
            elif row.guest is None:
                row = replace(row, guest=record.signer)
                self._records[record.signer] = record
                self.met(record)
                log.info("%s comes by invitation", _called(record))
            if row != found:
                await self._keep(row)
            return row

    async def _admission(self, row: Row, record: Record, roll: Roll) -> Answer:
        """How far the newcomer is on its way to be a member; it is proposed once, if it is none."""
        if record.signer not in roll.members and not row.number:
            row = await self._amended(row.public, number=underway(roll.last))
            if row.is_over:
                return await self._ended(row)
            wish = Propose(Admit(record.raw, row.instead_of), roll.number).encode()
            outcome = await self._replication.submit(wish, timeout_s=PATIENCE_S, of_members=True)
            is_made = outcome.status is Status.DONE
            row = await self._amended(row.public, number=outcome.revision if is_made else 0)
            if outcome.status is Status.CONFLICT:
                return Answer(State.LATER, "the members have changed meanwhile")
            if not is_made:
                return Answer(State.REFUSED, _REFUSALS[outcome.status])
            log.info(
                "%s was invited: proposal %d; while it waits for others: aegis-edge approve %d",
                *(_called(record), outcome.revision, outcome.revision),
            )
            roll = await self._roll()
        if record.signer in roll.members:
            if row.guest is not None and not row.number:
                # It came in by another door: this lets nobody in who is thrown out later.
                await self._amended(row.public, is_over=True)
            return Answer(State.ADMITTED)
        proposal = _proposal(row, roll)
        if proposal is None:
            return Answer(State.REJECTED)
        needed = self._replication.members.configuration.quorum
        return Answer(State.WAITING, number=proposal.number, yes=len(proposal.yes), needed=needed)

    # --- for the links ----------------------------------------------------------------------

    async def vouch(
        self, signer: Signer, give: Callable[[Mapping[bytes, Verified[Pass]]], None]
    ) -> None:
        """Say for whom this node vouches, by which passes, whenever they are others."""
        given: Mapping[bytes, Verified[Pass]] = {}
        while True:
            changed = self._changed
            self._words = await self._passes(signer)
            if self._words != given:
                given = self._words
                give(given)
            with trio.move_on_after(PASSES_S if given else math.inf):
                await changed.wait()

    async def _passes(self, signer: Signer) -> dict[bytes, Verified[Pass]]:
        """By key, the pass of each guest: the last one for as long as it is good for long."""
        now_ms, words = self._replication.agreed_ms, {}
        for key in await self._followers():
            word = self._words.get(key)
            if word is None or word.message.until_ms - RENEWAL_MS <= now_ms:
                word = signer.sign(Pass(key, now_ms + PASS_MS))
            words[key] = word
        return words

    async def _followers(self) -> list[bytes]:
        """The guests who follow, and are no members: observers, and those who wait to be let in."""
        rows = [row for row in self._rows.values() if row.guest is not None and not row.is_over]
        if not rows or not self._replication.is_member:
            return []
        roll = await self._roll()
        # The links know of a change of members by now, and need nobody's word for a member.
        members = self._replication.members.configuration
        found: set[bytes] = set()
        for row in rows:
            assert row.guest is not None
            if row.guest in members:
                if row.is_observer:  # thrown out later, it is not let in by this again
                    async with self._lock:
                        await self._keep(replace(row, is_over=True))
            elif row.is_observer or _waits(row, roll):
                found.add(row.guest)
        return sorted(found)

    # --- for the way ------------------------------------------------------------------------

    async def announce(self, expect: Callable[[Sequence[bytes]], None]) -> None:
        """Say by which X25519 public keys guests are known to a service, until cancelled."""
        while True:
            changed = self._changed
            expect(await self._expected())
            with trio.move_on_after(LOOK_S):
                await changed.wait()

    async def _expected(self) -> list[bytes]:
        roll = await self._roll()
        now_ms = await self._replication.read(lambda database: database.agreed_ms())
        rows = [row for row in self._rows.values() if self._may_come(row, now_ms, roll)]
        # Where nobody writes, agreed time stands still: this board's clock says when to ask for it.
        # Whose board is proposed waits for votes, and for no time.
        if any(not row.number and row.until_ms <= time.time() * 1000 for row in rows):
            with suppress(ReplicationError):
                now_ms = await self._settled_ms(PATIENCE_S)
                rows = [row for row in rows if self._may_come(row, now_ms, roll)]
        keys = []
        for row in rows:
            with suppress(CryptoError):  # of a file that somebody wrote into
                keys.append(sodium.x25519_public_of(row.public))
        return keys

    def _may_come(self, row: Row, now_ms: int, roll: Roll) -> bool:
        """Whether its bearer has something to ask, or to hear, that it was not told."""
        if row.is_over or row.public in self._told:
            return False
        return now_ms < row.until_ms or _proposal(row, roll) is not None

    # --- what it stands on ------------------------------------------------------------------

    async def _roll(self) -> Roll:
        roll: Roll = await self._replication.read(lambda database: database.roll())
        return roll

    async def _settled_ms(self, timeout_s: float) -> int:
        """The agreed time, now.

        The first batch of a cluster or after a pause, when all boards were off perhaps, carries an
        old time or none; the votes on it bring what the next one goes by.
        """
        time_ms = await self._agreed_ms(timeout_s)
        for _ in range(ROUNDS_MAX):
            before_ms, time_ms = time_ms, await self._agreed_ms(timeout_s)
            if 0 < time_ms <= before_ms + SETTLED_MS:
                break
        return time_ms

    async def _agreed_ms(self, timeout_s: float) -> int:
        """The agreed time of a batch."""
        outcome = await self._replication.submit(Barrier().encode(), timeout_s=timeout_s)
        return outcome.time_ms

    def _is_open(self, row: Row, now_ms: int) -> bool:
        return row.guest is None and not row.is_over and now_ms < row.until_ms

    def _row(self, public: bytes) -> Row:
        """Raises `Refusal` if newer ones have taken its place."""
        if public not in self._rows:
            raise Refusal("not_found", "there is no such invitation any more")
        return self._rows[public]

    async def _amended(self, public: bytes, **changes: Any) -> Row:
        """The row as it is by now, with these changes; as it is if it is over."""
        async with self._lock:
            row = self._row(public)
            if not row.is_over:
                row = replace(row, **changes)
                await self._keep(row)
            return row

    async def _keep(self, row: Row) -> None:
        """Make `row` durable, then heed it; the oldest go that are in the way.

        Whoever calls holds the lock.  Raises `Refusal` if the disk does not take it.
        """
        rows = self._rows | {row.public: row}
        old = [key for key, each in rows.items() if not _observes(each)]
        for public in old[: max(0, len(rows) - ROWS_MAX)]:
            del rows[public]
        try:
            await trio.to_thread.run_sync(guestlist.write, self._path, list(rows.values()))
        except DiskError as error:
            raise Refusal("internal", error.message, error.advice) from None
        self._rows = rows
        self._changed.set()
        self._changed = trio.Event()


_REFUSALS = {
    Status.ABSENT: "the board that it should take the place of is no member any more",
    Status.INVALID: "its record is not valid",
    Status.REFUSED: (
        "the rules do not allow it: there is an upper bound of members and of open proposals, and"
        " two members never have the same keys"
    ),
}


def _proposal(row: Row, roll: Roll) -> Proposal | None:
    """The open proposal to admit its guest, whoever made it."""
    for proposal in roll.proposals:
        change = proposal.change
        if (
            isinstance(change, Admit)
            and change.instead_of == row.instead_of
            and membership.opened(change.record).signer == row.guest
        ):
            return proposal
    return None


def _settled_number(row: Row, roll: Roll) -> int:
    """The number of what was being proposed, now that this is over; 0 if it never was.

    Where others have proposed something since, and nothing is open of it, it was: better once
    too few than once more than its guest was invited for.
    """
    proposal, last = _proposal(row, roll), underway(row.number)
    if proposal is not None:
        return proposal.number
    return 0 if roll.last == last else last + 1


def _waits(row: Row, roll: Roll) -> bool:
    """Whether its guest is proposed; or let in, and the links do not know yet."""
    is_open = _proposal(row, roll) is not None or row.guest in roll.members
    return bool(row.number) and is_open


def _observes(row: Row) -> bool:
    """Whether its guest is an observer, for as long as nobody says otherwise."""
    return row.is_observer and row.guest is not None and not row.is_over


def _listed(row: Row, now_ms: int, roll: Roll | None = None) -> Invited:
    state = "open"
    if row.guest is not None and row.is_observer:
        state = "ended" if row.is_over else "observes"
    elif row.guest is not None:
        members = () if roll is None else roll.members
        state = "admitted" if row.guest in members else "used"
        state = "waiting" if roll is not None and _proposal(row, roll) else state
    elif now_ms >= row.until_ms:
        state = "expired"
    elif row.is_over:
        state = "cancelled"
    return Invited(
        _name(row),
        state,
        row.until_ms,
        row.instead_of,
        row.guest,
        max(0, row.number),
        row.is_observer,
    )


def _name(row: Row) -> str:
    """What people call it; says nothing about the secret."""
    return row.public[:4].hex()


def _called(record: Record) -> str:
    return f"{record.message.name} ({short(record.signer)})"

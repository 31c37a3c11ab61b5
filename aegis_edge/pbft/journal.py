"""What a replica writes down before it speaks: the record kinds and their contents.

Knows how each durable fact is packed and read back.  Refuses to know the disk.
Follows: s8_13 (tests/pbft/test_checklist.py), persist before send; Castro and Liskov (TOCS 2002).

A record replaces the earlier one with the same (kind, view, sequence).  When a checkpoint at s is
stable, records of the kinds PROPOSAL and PREPARED with sequence <= s, and CHECKPOINT with
sequence < s, may be deleted; the other kinds have one record each.
A replica that forgot its votes writes no VIEW_CHANGE until it may vote again: that record says so.
It writes REMEMBERS once it can have said nothing in a later configuration either; who forgot
nothing has no need of it.
All are of one configuration: when its last batch is executed, every record goes, but STABLE: that
becomes INHERITED, which no replica reads, for others who are behind (`lineage`); and REMEMBERS,
which is as true in the next one, and has to be there at any moment at which the power may fail.
The numbers stand on disks, so none gets a second meaning: 6 is retired, 9 is the disk's own.
"""

from __future__ import annotations

from typing import Any

from aegis_edge.pbft.events import Record
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import (
    Batch,
    Checkpoint,
    Commit,
    NewView,
    Open,
    PreparedCertificate,
    PrePrepare,
    StableCheckpoint,
    Verified,
    ViewChange,
)

VIEW = 1
VIEW_CHANGE = 2
NEW_VIEW = 3
PROPOSAL = 4
PREPARED = 5
CHECKPOINT = 7
STABLE = 8
DIVERGED = 10
REMEMBERS = 11
INHERITED = 12


def view(number: int, changing: bool) -> Record:
    """The view that this replica is in or, while `changing`, the one that it asked for."""
    return Record(VIEW, 0, 0, codec.encode((number, changing)))


def view_change(own: Verified[ViewChange]) -> Record:
    return Record(VIEW_CHANGE, 0, 0, own.raw)


def new_view(installed: Verified[NewView]) -> Record:
    return Record(NEW_VIEW, 0, 0, installed.raw)


def proposal(pre_prepare: Verified[PrePrepare], batch: Batch) -> Record:
    """A pre-prepare that this replica made or accepted, and its batch: it may vote for no other."""
    named = pre_prepare.message
    return Record(PROPOSAL, named.view, named.sequence, codec.encode((pre_prepare.raw, batch.raw)))


def prepared(certificate: PreparedCertificate, own: Verified[Commit]) -> Record:
    """A prepared certificate and the commit that this replica sends on its strength."""
    named = certificate.pre_prepare.message
    return Record(PREPARED, named.view, named.sequence, codec.encode((certificate.pack(), own.raw)))


def checkpoint(own: Verified[Checkpoint]) -> Record:
    return Record(CHECKPOINT, 0, own.message.sequence, own.raw)


def stable(checkpoints: tuple[Verified[Checkpoint], ...]) -> Record:
    return Record(STABLE, 0, 0, StableCheckpoint(checkpoints).pack())


def diverged(checkpoints: tuple[Verified[Checkpoint], ...]) -> Record:
    """The state here is another one than this checkpoint's: none of it may be used any more."""
    return Record(DIVERGED, 0, 0, StableCheckpoint(checkpoints).pack())


def remembers(number: int) -> Record:
    """In configuration `number`, this replica has forgotten none of its votes that still count."""
    return Record(REMEMBERS, 0, 0, codec.encode(number))


# --- reading back -----------------------------------------------------------------------------


def read_view(record: Record) -> tuple[int, bool]:
    number, changing = _items(record.data, 2)
    return number, changing


def read_proposal(record: Record, open_: Open) -> tuple[Verified[PrePrepare], Batch]:
    pre_prepare, raw = _items(record.data, 2)
    return open_(pre_prepare), Batch.open(raw, open_)


def read_prepared(record: Record, open_: Open) -> tuple[PreparedCertificate, Verified[Commit]]:
    certificate, own = _items(record.data, 2)
    return PreparedCertificate.unpack(certificate, open_), open_(own)


def read_stable(record: Record, open_: Open) -> tuple[Verified[Checkpoint], ...]:
    _, *fields = _items(record.data, 2)
    return StableCheckpoint.unpack(tuple(fields), open_).checkpoints


def _items(data: bytes, count: int) -> tuple[Any, ...]:
    items = codec.decode(data)
    if type(items) is not tuple or len(items) != count:
        raise WireError("a journal record of another shape: the database is damaged")
    return items

"""What a replica reads in its own records when it starts again.

Knows which record counts where the power failed between two, and which votes were cast.
Refuses to know how a record is packed (`journal`), and speaks no word: nothing is sent from here.
Follows: s6_02, s6_03 and s8_13 (tests/pbft/test_checklist.py): it repeats what it may have said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aegis_edge.pbft import journal
from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.events import Record
from aegis_edge.pbft.log import Log
from aegis_edge.wire.messages import (
    Batch,
    Checkpoint,
    Commit,
    NewView,
    Open,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Verified,
    ViewChange,
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the records say; of slots, what lies in the window above the stable checkpoint.

    `view` and `changing`: where the replica was; `asked`: its last VIEW-CHANGE; `begun`: the last
    NEW-VIEW that it took; `remembers`: it has not forgotten what it said, or that is over.
    `checkpoints` are its own; `proposals` and `prepared` are of any view.
    """

    stable: tuple[Verified[Checkpoint], ...] = ()
    diverged: bool = False
    view: int = 0
    changing: bool = False
    asked: Verified[ViewChange] | None = None
    begun: Verified[NewView] | None = None
    remembers: bool = False
    checkpoints: tuple[Verified[Checkpoint], ...] = ()
    proposals: tuple[tuple[Verified[PrePrepare], Batch], ...] = ()
    prepared: tuple[tuple[PreparedCertificate, Verified[Commit]], ...] = ()

    @property
    def opening(self) -> Verified[NewView] | None:
        """What the present view began with; None for view 0, and while on the way to another."""
        present = self.begun is not None and self.begun.message.view == self.view
        return self.begun if present else None

    @property
    def votes(self) -> list[Verified[PrePrepare]]:
        """What this replica accepted in the present view, and so can vote for and nothing else."""
        accepted = [pre_prepare for pre_prepare, _ in self.proposals]
        accepted += [certificate.pre_prepare for certificate, _ in self.prepared]
        return [p for p in accepted if p.message.view == self.view and not self.changing]


def remember(records: Iterable[Record], start: int, parameters: Parameters, open_: Open) -> Memory:
    """Read the records of an earlier life, in any order; raises `WireError` if one is damaged.

    `start`: where the configuration starts, all of whose records they are.
    """
    kinds: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.kind, r.view, r.sequence)):
        kinds.setdefault(record.kind, []).append(record)

    def only(kind: int) -> Record | None:
        return kinds[kind][-1] if kind in kinds else None

    def in_window(kind: int) -> list[Record]:
        return [r for r in kinds.get(kind, ()) if low < r.sequence <= low + parameters.window]

    found = only(journal.STABLE)
    stable = () if found is None else journal.read_stable(found, open_)
    low = stable[0].message.sequence if stable else start
    found = only(journal.VIEW)
    view, changing = (0, False) if found is None else journal.read_view(found)
    found = only(journal.VIEW_CHANGE)
    asked = None if found is None else open_(found.data)
    found = only(journal.NEW_VIEW)
    begun = None if found is None else open_(found.data)
    view, changing = _latest_view(view, changing, asked, begun)
    return Memory(
        stable=stable,
        diverged=journal.DIVERGED in kinds,
        view=view,
        changing=changing,
        asked=asked,
        begun=begun,
        remembers=journal.REMEMBERS in kinds,
        checkpoints=tuple(open_(r.data) for r in kinds.get(journal.CHECKPOINT, ())),
        proposals=tuple(journal.read_proposal(r, open_) for r in in_window(journal.PROPOSAL)),
        prepared=tuple(journal.read_prepared(r, open_) for r in in_window(journal.PREPARED)),
    )


def _latest_view(
    view: int,
    changing: bool,
    asked: Verified[ViewChange] | None,
    begun: Verified[NewView] | None,
) -> tuple[int, bool]:
    """The power may have failed between two records: the later view is the one that counts."""
    if asked is not None and asked.message.view > view:
        view, changing = asked.message.view, True
    if begun is not None and begun.message.view >= view:
        view, changing = begun.message.view, False
    return view, changing


def refill(log: Log, memory: Memory, key: bytes, sign: Callable[[Any], Verified[Any]]) -> None:
    """Put back into an empty `log` what this replica, `key`, accepted and voted for."""
    if memory.stable:
        log.advance(memory.stable[0].message.sequence, memory.stable)
    for pre_prepare in memory.opening.message.pre_prepares if memory.opening else ():
        if log.in_window(pre_prepare.message.sequence):
            log.slot(pre_prepare.message.sequence).pre_prepare = pre_prepare
    for pre_prepare, batch in memory.proposals:
        log.add_body(pre_prepare.message.sequence, batch)
    for certificate, commit in memory.prepared:
        slot = log.slot(certificate.pre_prepare.message.sequence)
        slot.prepared, slot.own_commit = certificate, commit
        slot.commits[key] = commit
    for pre_prepare in memory.votes:
        slot = log.slot(pre_prepare.message.sequence)
        slot.pre_prepare, slot.journalled = pre_prepare, True
        if pre_prepare.signer != key:
            slot.prepares[key] = sign(Prepare(*pre_prepare.message.fields()))

"""How checkpoints come about, become stable, and find out who differs.

Knows when a root is signed, when the low watermark rises, and when this replica must stop.
Refuses to know how a root is computed; the votes are counted in `log`.
Follows: Castro and Liskov (OSDI '99) section 4.3; s8_16 (tests/pbft/test_checklist.py).
"""

from __future__ import annotations

from aegis_edge.pbft import journal
from aegis_edge.pbft.events import Prune, TakeRoot
from aegis_edge.pbft.log import Log
from aegis_edge.pbft.past import Past
from aegis_edge.pbft.restart import Memory
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import Checkpoint, Verified

DIVERGED = (
    "this node's state differs from what a quorum agreed on: "
    "start it again, and it fetches everything anew from the others"
)


class Checkpoints:
    def __init__(self, at: Standing, voice: Voice, log: Log, past: Past) -> None:
        self._at = at
        self._voice = voice
        self._log = log
        self._past = past
        self._owed: int | None = None
        #: Up to here it was executed in an earlier life, and the roots may be unknown.
        self._rootless = at.executed

    def restore(self, memory: Memory) -> None:
        """Take over the checkpoints that this replica signed in an earlier life.

        One that found its state to be another than the agreed one stays halted.
        """
        at = self._at
        if memory.diverged:
            self._voice.halted = DIVERGED
        for checkpoint in memory.checkpoints:
            self._log.add_checkpoint(checkpoint, at.executed)
            self._past.took(checkpoint.message.sequence, checkpoint.message.root)
        if (
            at.executed % at.parameters.checkpoint_interval == 0
            and at.executed > self._log.low
            and self._log.checkpoint_of(at.key, at.executed) is None
        ):
            self._owed = at.executed
            self._rootless = at.executed - 1

    def ask_again(self) -> None:
        """Ask for the root that was not answered with before a crash, if there is one."""
        if self._owed is not None:
            self._voice.add(TakeRoot(self._owed))
            self._owed = None

    def took(self, sequence: int, root: bytes) -> bool:
        """The root here after `sequence`; True if the low watermark rose."""
        self._past.took(sequence, root)
        if self.denies(self._log.stable):  # a checkpoint may become known before it is executed
            return False
        if self._at.voting:
            said = Checkpoint(self._at.configuration.number, sequence, root)
            checkpoint = self._voice.sign(said)
            if self._log.add_checkpoint(checkpoint, self._at.executed):
                self._voice.persist(journal.checkpoint(checkpoint))
                self._voice.send(checkpoint.raw)
        return self._stabilise(sequence)

    def jumped(self, stable: tuple[Verified[Checkpoint], ...]) -> None:
        """The state here is that of a stable checkpoint now."""
        self._owed = None
        said = stable[0].message
        self._past.took(said.sequence, said.root)
        if said.sequence > self._log.low:
            self.advance(said.sequence, stable)

    def add(self, checkpoint: Verified[Checkpoint]) -> bool:
        """A member's checkpoint; True if the low watermark rose."""
        if not self._log.add_checkpoint(checkpoint, self._at.executed):
            return False
        return self._stabilise(checkpoint.message.sequence)

    def denies(self, stable: tuple[Verified[Checkpoint], ...]) -> bool:
        """Halt if a quorum signed another root than was taken here; True once halted."""
        if self._past.denies_root(stable):
            self._voice.persist(journal.diverged(stable))
            self._voice.halt(DIVERGED, *(c.raw for c in stable))
        return self._voice.halted is not None

    def _stabilise(self, sequence: int) -> bool:
        """Advance the low watermark once a quorum and this replica agree on the root there.

        What was executed before a restart, and whose root was lost in the crash, can be compared no
        more: there the quorum is believed, and the next checkpoint tells.
        """
        agreed = self._log.agreed_root(sequence)
        own = self._past.root(sequence)
        if agreed is None or (own is None and sequence > self._rootless):
            return False
        if self.denies(agreed):
            return False
        self.advance(sequence, agreed)
        return True

    def advance(self, sequence: int, stable: tuple[Verified[Checkpoint], ...]) -> None:
        """Make a proven checkpoint the low watermark, and drop what lies under it."""
        self._log.advance(sequence, stable)
        self._voice.persist(journal.stable(stable))
        self._voice.add(Prune(sequence))

"""The slow look at the database's own file: is everything there as it was written, and agreed on?

Knows the order of the tables, and how to read past what is in memory.
Refuses to know when (`replication.scrub`), and what is done about what is found.
Follows: Castro's thesis, chapter 5, for the applied state: each row is held against its leaf of the
tree whose root the checkpoints sign; sqlite.org/fileformat2.html for all else is SQLite's business.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aegis_edge.disk.applied import AppliedState
from aegis_edge.disk.errors import DatabaseDamaged
from aegis_edge.disk.handovers import Handovers
from aegis_edge.disk.log import Log
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.merkle import label
from aegis_edge.knowledge.state import Rotten, stands_for, unpack_retained


class Slice(NamedTuple):
    """`keys` were looked at, and with them the walk is over if it `is_last`."""

    keys: int
    is_last: bool


class Scrub:
    """One walk after the other over all keys, a slice at a time, however much is written meanwhile.

    Memory: a few words.  It reads, and writes nothing.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        machine: Machine,
        state: AppliedState,
        log: Log,
        handovers: Handovers,
    ) -> None:
        self._execute = connection.execute
        self._machine = machine
        self._state = state
        self._log = log
        self._handovers = handovers
        # Its own descriptor: it may not be closed before SQLite's, whose locks would go with it.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._after = ""
        self._seen = self._least = 0

    def close(self) -> None:
        """To be called after the connection was closed."""
        os.close(self._descriptor)

    def slice(self, keys_max: int) -> Slice:
        """Look at the next keys.  Raises `Rotten` or `DatabaseDamaged`, and goes on behind them."""
        if not self._after:
            self.forget_what_is_in_memory()
            self._seen, self._least = 0, self._machine.keys()
        page = self._state.page(self._after, keys_max)
        self._seen += len(page)
        self._after = page[-1][0] if page else ""
        rotten = [label(key.encode()) for key, row in page if not self._is_sound(key, row)]
        if rotten:
            raise Rotten(*rotten)
        if not page:
            if self._seen < self._least:
                raise DatabaseDamaged("keys are missing from its table", "")
            self._check_the_rest()
        return Slice(len(page), not page)

    def forget_what_is_in_memory(self) -> None:
        """Let what is read next come from the card: neither SQLite nor the system has it then."""
        self._execute("PRAGMA shrink_memory").fetchall()
        with suppress(OSError):  # advice is all it is
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def check_structure(self) -> None:
        """Raise `DatabaseDamaged` unless SQLite finds its own structures whole: reads the file."""
        self.forget_what_is_in_memory()
        (verdict,) = self._execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DatabaseDamaged(verdict, "")

    def _is_sound(self, key: str, row: bytes) -> bool:
        return self._machine.agrees(key, row) and all(
            stands_for(entry, self._state.version(entry.revision)) for entry in unpack_retained(row)
        )

    def _check_the_rest(self) -> None:
        """What no row tells: the records, how far execution came, and who the members are."""
        machine = self._machine
        here = machine.executed, machine.time_ms, machine.origins
        if self._log.executed() != here or not self._log.is_sound():
            raise DatabaseDamaged("its records are not what was written", "")
        if not (self._state.has_its_roll() and self._handovers.is_sound()):
            raise DatabaseDamaged("its roll of members is not what was written", "")

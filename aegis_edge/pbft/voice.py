"""What a replica says and writes down in one step, in the order in which it must be performed.

Knows how to sign, to whom to speak, and what it accused whom of.
Refuses to know why anything is said.
Follows: the contract of `events`: the order of effects is all there is to "persist before send".
"""

from __future__ import annotations

from typing import Any, Protocol

from aegis_edge.pbft.events import Alarm, Effect, HangUp, Persist, Record, Send
from aegis_edge.wire.messages import Verified


class Signs(Protocol):
    """What a replica needs of `wire.envelope.Signer`."""

    @property
    def public(self) -> bytes: ...

    def sign(self, message: Any) -> Verified[Any]: ...


class Voice:
    """All parts of a replica speak through its one voice, so their effects are in one order.

    `halted`: the reason for which it fell silent for good; `others`: who "all" are.
    """

    def __init__(self, signer: Signs, others: tuple[bytes, ...] = ()) -> None:
        self.sign = signer.sign
        self.halted: str | None = None
        self._key = signer.public
        self.others = others
        self._alarmed: set[tuple[str, bytes]] = set()
        self._effects: list[Effect] = []

    def begin(self) -> list[Effect]:
        """A step begins: the list that its effects will be in."""
        self._effects = []
        return self._effects

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def persist(self, record: Record) -> None:
        self._effects.append(Persist(record))

    def send(self, raw: bytes, *peers: bytes) -> None:
        """Send to these peers, or to all others where none is named."""
        to = peers or self.others
        if to:
            self._effects.append(Send(to, raw))

    def alarm(self, reason: str, about: bytes, *evidence: bytes) -> None:
        """Accuse a member; of the same thing once only."""
        if (reason, about) not in self._alarmed:
            self._alarmed.add((reason, about))
            self._effects.append(Alarm(reason, about, evidence))

    def refuse(self, reason: str, message: Verified[Any]) -> None:
        """Accuse the signer of what no correct member signs, and hear no more of it for now."""
        self.alarm(reason, message.signer, message.raw)
        self._effects.append(HangUp(message.signer, reason))

    def halt(self, reason: str, *evidence: bytes) -> None:
        """The last word: this replica cannot go on."""
        self.halted = reason
        self.alarm(reason, self._key, *evidence)

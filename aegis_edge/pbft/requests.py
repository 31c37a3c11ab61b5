"""How bundles of requests come to the primary, and to everybody where it does not serve them.

Knows this node's own bundles and who is told of whose.
Refuses to know what orders them, and what becomes of them.
Follows: Castro and Liskov (OSDI '99) section 4.1: a request goes to the primary first, and to all
when no answer comes; s6_13 (tests/pbft/test_checklist.py).
"""

from __future__ import annotations

from aegis_edge.pbft.events import Bundled
from aegis_edge.pbft.pace import bundle_bytes_max
from aegis_edge.pbft.pacing import Pacing
from aegis_edge.pbft.pool import Name, Pool
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import Bundle, Verified


class Requests:
    """`incarnation`: names this life of the node, so that its bundles are numbered from 1.

    `number`: of its last one.
    """

    def __init__(
        self,
        at: Standing,
        voice: Voice,
        pool: Pool,
        pacing: Pacing,
        suspicion: Suspicion,
        incarnation: int,
        number: int = 0,
    ) -> None:
        self._at = at
        self._voice = voice
        self._pool = pool
        self._pacing = pacing
        self._suspicion = suspicion
        self._incarnation = incarnation
        self._number = number

    @property
    def newest(self) -> Name:
        """The last bundle that was made in this life; number 0 before the first."""
        return self._incarnation, self._number

    def room(self) -> int:
        """How many bundles of this node's may still be on their way."""
        if self._at.settling or self._at.key not in self._at.configuration:
            return 0
        in_flight = [bundle for bundle, _ in self._pool.waiting(self._at.key)]
        parameters = self._at.parameters
        size_bytes = sum(len(bundle.raw) for bundle in in_flight)
        if parameters.bytes_a_second and size_bytes > bundle_bytes_max(parameters) // 2:
            return 0
        return max(0, parameters.bundles_in_flight - len(in_flight))

    def submit(self, operations: tuple[bytes, ...], of_members: bool = False) -> None:
        """Make the next bundle, and hand it to the primary."""
        assert self.room() > 0, "submitted more bundles than there is room for"
        self._number += 1
        bundle = self._voice.sign(Bundle(self._incarnation, self._number, operations, of_members))
        self._pool.add(bundle, self._at.now_ticks)
        self._voice.add(Bundled(self._incarnation, self._number))
        primary = self._at.primary
        if self._at.leads:
            return
        if primary != self._at.key and not self._at.changing and self._suspicion.reachable(primary):
            self._voice.send(bundle.raw, primary)
            self._pacing.entrusted()
        else:
            self._voice.send(bundle.raw)

    def repeat(self, *peers: bytes) -> None:
        """Say again, to these peers or to all, which of our own bundles wait."""
        for bundle, _ in self._pool.waiting(self._at.key):
            self._voice.send(bundle.raw, *peers)

    def complain(self) -> None:
        """Tell everybody of our own bundles, and the primary of those that only we may hold."""
        self._pacing.complained()
        self.repeat()
        primary = self._at.primary
        if self._at.changing or primary == self._at.key:
            return
        for origin in self._pool.origins():
            for bundle, since in self._pool.waiting(origin):
                if origin != self._at.key and self._pacing.is_overdue(since):
                    self._voice.send(bundle.raw, primary)

    def on_bundle(self, bundle: Verified[Bundle], peer: bytes) -> None:
        now, pause = self._at.now_ticks, self._at.pace.resend_ticks
        outcome = self._pool.add(bundle, now)
        if outcome == "conflict":
            self._voice.alarm("two bundles under one number", bundle.signer, bundle.raw)
        elif (
            outcome in ("new", "known")
            and peer == bundle.signer
            and not self._at.changing
            and self._at.primary not in (self._at.key, peer)
            and self._pool.may_relay(bundle, now, pause)
        ):  # the origin complained: the primary shall not say that it never heard
            self._voice.send(bundle.raw, self._at.primary)

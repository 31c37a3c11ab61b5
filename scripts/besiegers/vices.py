"""Vices that only real processes feel: floods, bombs and garbage.  See `tests.sim.byzantine`."""

from __future__ import annotations

from aegis_edge.wire import messages as wire
from tests.sim.byzantine import Flood, Vice

#: What one turn of a vice says to each peer.
DELUGE_TURNS, BOMBS, EARLY_VIEWS = 20, 8, 12


class Deluge(Flood):
    """A flood that costs whoever it comes from as much as it can pay."""

    name = "deluge"

    def act(self) -> None:
        for _ in range(DELUGE_TURNS):
            super().act()


class Bomb(Vice):
    """The largest messages there are, early ones in particular: bodies of views that never come."""

    name = "bomb"

    def act(self) -> None:
        incarnation = self.liar.node.disk.incarnation + 1
        view, n = self.liar.view, self.world.plan.n
        mine = view + 1 + (self.liar.node.index - view - 1) % n
        load = (self.chance.randbytes(wire.BUNDLE_BYTES_MAX // 2),) * 2
        for number in range(BOMBS):
            peer = self.somebody()
            raw = self.liar.sign(wire.Bundle(incarnation, number + 2, load))
            self.liar.did("Bundle", self.name)
            self.liar.send(peer, raw)
        bundle = self.liar.node.signer.sign(wire.Bundle(incarnation, 2, load))
        for early in range(EARLY_VIEWS):
            batch = wire.Batch((), (bundle,))
            raw = self.propose(mine + n * early, self.liar.executed + 1, batch)
            self.liar.did("Proposal", self.name)
            self.liar.send(self.somebody(), raw)


class Garbage(Vice):
    """Bytes that are no message, and frames that no session sealed."""

    name = "garbage"

    def act(self) -> None:
        peer, raw = self.somebody(), self.chance.randbytes(self.chance.choice((1, 100, 60_000)))
        self.liar.did("(none)", self.name)
        if self.likely(0.5):
            self.liar.send(peer, raw)
        else:
            self.world.links.garble(self.world.keys[peer], raw)  # type: ignore[attr-defined]


VICES: dict[str, type[Vice]] = {vice.name: vice for vice in (Deluge, Bomb, Garbage)}

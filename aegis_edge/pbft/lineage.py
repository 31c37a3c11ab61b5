"""How a replica that is behind over a change of members learns, proven, who they are by now.

Knows the last configuration that is proven here, and whom it asks for what follows that; and that
a node believes nothing until it knows the way to where its cluster was when it was told (`route`).
Refuses to know how a state is fetched (`transfer`), and believes no configuration that a quorum of
the one before has not signed (`certificates.heir`), however many others speak of it.
Follows: s8_17 and s8_25 (tests/pbft/test_checklist.py); in kind a light client's skipping through
validator sets (CometBFT), which skips nothing here.

It asks one peer at a time, only where the batches that lead there are gone or too many, and only up
to the configuration of a checkpoint that the peer can show: to the state there `transfer` goes.
What is proven goes to the disk at once: this node will be asked for it, too.
"""

from __future__ import annotations

from aegis_edge.pbft import certificates
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import KeepHandovers
from aegis_edge.pbft.route import Route
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.transfer import ANSWER_BYTES, Stable, Transfer
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import (
    HANDOVERS,
    HANDOVERS_ITEM_BYTES,
    FetchState,
    Handover,
    Open,
    StatePart,
    Status,
    read_lineage,
)


class Lineage:
    """`_tip`: the last configuration that is proven here.

    `_way` and `_raws`: where the route is closed, what one peer said so far of how to come there.
    """

    def __init__(
        self, at: Standing, voice: Voice, transfer: Transfer, open_: Open, route: Route
    ) -> None:
        self._at = at
        self._voice = voice
        self._transfer = transfer
        self._open = open_
        self._route = route
        self._tip = at.configuration
        self._way: list[Configuration] = []
        self._raws: list[bytes] = []
        self._asked: tuple[bytes, int] | None = None  # whom, and until when
        self._last = b""  # who was asked last
        self._again_at = 0
        self._ahead: dict[bytes, int] = {}  # who is in a later configuration, and how far
        self._liars: set[bytes] = set()

    def note(self, peer: bytes, said: Status) -> None:
        """A peer says where it stands, in a later configuration."""
        self._ahead[peer] = said.executed_sequence

    @property
    def is_lost(self) -> bool:
        """Nothing may be believed that is said in this configuration: it ended, who knows how."""
        return self._route.is_closed(self._at.configuration.number)

    def ask_too(self, peer: bytes) -> None:
        """A peer has something that may not be believed yet."""
        self._ahead.setdefault(peer, 0)

    def wake_at(self) -> int | None:
        """When the question is in vain, or there may be another one."""
        if self._asked is not None:
            return self._asked[1]
        return self._again_at if self._sources() else None

    def go_on(self) -> None:
        """Ask, if that is due."""
        now_ticks = self._at.now_ticks
        if self._asked is not None and self._asked[1] <= now_ticks:
            self._asked = None
        if self._asked is None and self._again_at <= now_ticks:
            last = self._last
            sources = sorted(self._sources(), key=lambda peer: (peer <= last, peer))
            if sources:
                self._ask(sources[0])

    def _sources(self) -> list[bytes]:
        """Who can tell more, where that is needed."""
        if not self._ahead or self._at.fetching:
            return []
        is_due = self.is_lost or self._transfer.is_due(max(self._ahead.values()))
        return [peer for peer in self._ahead if peer not in self._liars] if is_due else []

    def _ask(self, peer: bytes) -> None:
        at, pace = self._at, self._at.pace
        if self.is_lost and peer != self._last:
            self._turn_back()
        self._last = peer
        patience_ticks = pace.fetch_ticks + pace.travel_ticks(ANSWER_BYTES)
        self._asked = (peer, at.now_ticks + patience_ticks)
        self._again_at = at.now_ticks + pace.resend_ticks
        known = self._tip.number.to_bytes(HANDOVERS_ITEM_BYTES, "big")
        fetch = FetchState(at.configuration.number, at.executed + 1, HANDOVERS, (known,))
        self._voice.send(self._voice.sign(fetch).raw, peer)

    def on_part(self, part: StatePart, peer: bytes) -> None:
        """The answer of a peer: how the members came about, and what those of today signed."""
        if self._asked is None or self._asked[0] != peer:
            return
        before = self._tip.number
        try:
            stable, raws = read_lineage(part.data, self._open)
            if not self._goes_on(raws):
                return  # late: it was asked for when less was known, or more
            self._asked = None
            if self.is_lost:
                self._lead(raws)
            else:
                self._follow(stable, raws)
        except WireError as error:
            self._asked = None
            self._liars.add(peer)
            if self.is_lost:
                self._turn_back()
            reason = "it sent a history of members that is not the agreed one"
            self._voice.alarm(f"{reason} ({error})", peer)
            return
        is_far = self.is_lost or (stable and stable[0].message.configuration > self._tip.number)
        if is_far and self._tip.number > before:
            self._ask(peer)  # one answer does not hold them all

    def _goes_on(self, raws: tuple[bytes, ...]) -> bool:
        """Whether they lead on from what is proven here; raises `WireError`."""
        if not raws:
            return True
        commits = Handover.open(raws[0], self._open).commits
        return any(c.message.configuration == self._tip.number for c in commits)

    def _turn_back(self) -> None:
        """What one peer said of the way counts only together with the rest of it."""
        self._tip = self._at.configuration
        self._way.clear()
        self._raws.clear()

    def _lead(self, raws: tuple[bytes, ...]) -> None:
        """Come nearer to where the cluster was, as this node was told; there, take the way."""
        for raw in raws:
            following = self._heir(raw, self._tip)
            self._tip = following
            self._way.append(following)
            self._raws.append(raw)
            if self._route.ends_at(following):
                if not self._route.open(self._way):
                    raise WireError("it does not lead to the members that this node was told of")
                first = self._at.configuration.number + 1
                self._voice.add(KeepHandovers(first, tuple(self._raws)))
                self._turn_back()
                return

    def _heir(self, raw: bytes, proven: Configuration) -> Configuration:
        following = certificates.heir(Handover.open(raw, self._open), proven)
        if following is None:
            raise WireError(f"the members of configuration {proven.number} did not sign it")
        if not self._route.leads_through(following):
            raise WireError(f"configuration {following.number} is known, and was another one")
        return following

    def _follow(self, stable: Stable, raws: tuple[bytes, ...]) -> None:
        """Go from one configuration to the next, up to that of the checkpoint."""
        if not stable:
            return
        last = stable[0].message.configuration
        if last < self._tip.number:  # who is not so far as another was is followed from the first
            self._tip = self._at.configuration
            return
        proven, kept = self._tip, []
        for raw in raws:
            if proven.number >= last:
                break
            proven = self._heir(raw, proven)
            kept.append(raw)
        if last == proven.number:
            if not certificates.is_stable(stable[0].message.sequence, stable, proven):
                raise WireError("its last checkpoint is not proven")
            self._transfer.heard(stable)
        if kept:
            self._voice.add(KeepHandovers(self._tip.number + 1, tuple(kept)))
        self._tip = proven

"""One line for every event, effect and message, for people who read a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis_edge.pbft.events import (
    Deliver,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Record,
    Restored,
    RootTaken,
    Send,
    SendCommitted,
    Submitted,
    Tick,
)
from aegis_edge.wire import messages as wire

if TYPE_CHECKING:
    from tests.sim.world import World

RECORDS = {
    1: "view",
    2: "view change",
    3: "new view",
    4: "proposal",
    5: "prepared",
    6: "commit",
    7: "checkpoint",
    8: "stable",
}


def kind(message: wire.Message) -> str:
    """The name of a message's kind."""
    inner = message.message if isinstance(message, wire.Verified) else message
    return type(inner).__name__


def describe(world: World, what: Any) -> str:
    """Events, effects, and whatever else a trace holds."""
    if isinstance(what, Received):
        return f"from {world.index_of[what.peer]}: {message(world, what.message)}"
    if isinstance(what, Send):
        read = world.reader.read(what.raw)
        peers = ",".join(str(world.index_of[peer]) for peer in what.peers)
        return f"to {peers}: {read if isinstance(read, str) else message(world, read)}"
    if isinstance(what, Persist):
        return f"record {record(what.record)}"
    if isinstance(what, Deliver):
        names = " ".join(bundle(world, b) for b in what.bundles)
        return f"batch {what.sequence} at {what.time_ms} [{names}]"
    if isinstance(what, SendCommitted):
        return f"batches {what.first} to {what.last} to {world.index_of[what.peer]}"
    if isinstance(what, (LinkUp, LinkDown)):
        return f"{type(what).__name__} {world.index_of[what.peer]}"
    if isinstance(what, Tick):
        return f"tick {what.now_ticks}"
    if isinstance(what, Submitted):
        return f"{len(what.operations)} operations of its callers"
    if isinstance(what, RootTaken):
        return f"root {what.root.hex()[:8]} after {what.sequence}"
    if isinstance(what, Restored):
        records = ", ".join(record(r) for r in what.records)
        return f"life {what.incarnation}, executed {what.executed}, {records or 'no records'}"
    return str(what)


def record(what: Record) -> str:
    return f"{RECORDS.get(what.kind, what.kind)} v{what.view} s{what.sequence}"


def bundle(world: World, what: wire.Verified[wire.Bundle]) -> str:
    origin = world.index_of.get(what.signer, "?")
    return f"{origin}:{what.message.incarnation}.{what.message.number}"


def message(world: World, what: wire.Message) -> str:
    """A message in a few words."""
    if isinstance(what, wire.Verified):
        signer = world.index_of.get(what.signer, "?")
        return f"{type(what.message).__name__} of {signer}: {_signed(world, what.message)}"
    if isinstance(what, wire.Proposal):
        content = " ".join(bundle(world, b) for b in what.batch.bundles)
        named = _signed(world, what.pre_prepare.message)
        return (
            f"Proposal of {world.index_of.get(what.pre_prepare.signer, '?')}: {named} [{content}]"
        )
    if isinstance(what, wire.Committed):
        named = _signed(world, what.commits[0].message) if what.commits else "nothing"
        return f"Committed by {len(what.commits)}: {named}"
    if isinstance(what, wire.Body):
        return f"Body {what.batch.digest.hex()[:8]}"
    if isinstance(what, wire.StatePart):
        return f"StatePart after {what.sequence}, kind {what.kind}, {len(what.data)} bytes"
    if isinstance(what, wire.Follow):
        return f"Follow after {what.after}, {what.bytes_max} bytes"
    if isinstance(what, wire.Reached):
        return f"Reached {what.executed} at depth {what.depth}, takes: {what.takes}"
    marks = [f"s{c.message.sequence} {c.message.root.hex()[:8]}" for c in what.checkpoints]
    return f"StableCheckpoint {' '.join(marks)}"


def _signed(world: World, what: Any) -> str:
    if isinstance(what, (wire.PrePrepare, wire.Prepare, wire.Commit)):
        return f"v{what.view} s{what.sequence} {what.digest.hex()[:8]}"
    if isinstance(what, wire.Bundle):
        return f"{what.incarnation}.{what.number} of {len(what.operations)}"
    if isinstance(what, wire.Checkpoint):
        return f"s{what.sequence} {what.root.hex()[:8]}"
    if isinstance(what, wire.ViewChange):
        held = " ".join(_signed(world, c.pre_prepare.message) for c in what.prepared)
        return f"to v{what.view} from s{what.stable_sequence} [{held}]"
    if isinstance(what, wire.NewView):
        votes = ",".join(str(world.index_of.get(v.signer, "?")) for v in what.view_changes)
        opens = " ".join(_signed(world, p.message) for p in what.pre_prepares)
        return f"v{what.view} by {votes} [{opens}]"
    if isinstance(what, wire.Status):
        mood = "wants" if what.changing else "in"
        return (
            f"{mood} v{what.view} stable {what.stable_sequence} executed {what.executed_sequence}"
        )
    if isinstance(what, wire.FetchBatches):
        return f"{what.first} to {what.last}"
    if isinstance(what, wire.FetchBody):
        return what.digest.hex()[:8]
    if isinstance(what, wire.AskReadIndex):
        return f"{what.incarnation}.{what.number}"
    if isinstance(what, wire.ReadIndex):
        return f"{what.sequence} for {what.incarnation}.{what.number}"
    if isinstance(what, wire.Gone):
        return f"from {what.first} on"
    if isinstance(what, wire.FetchState):
        return f"after {what.sequence}, {len(what.items)} of kind {what.kind}"
    return ""

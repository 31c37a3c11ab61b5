"""Building and judging VIEW-CHANGE and NEW-VIEW, as pure functions.

Knows which view changes are valid, and which pre-prepares must follow from a quorum of them.
Refuses to know when to change views: that is the replica's.
Follows: Castro and Liskov (OSDI '99) section 4.4: the sets V, P and O; every replica recomputes O.
"""

from __future__ import annotations

from collections.abc import Iterable

from aegis_edge.pbft import certificates
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.wire.messages import (
    NULL_BATCH,
    Checkpoint,
    NewView,
    Verified,
    ViewChange,
)


def judge_view_change(
    change: Verified[ViewChange], configuration: Configuration, parameters: Parameters
) -> str | None:
    """Why a VIEW-CHANGE is refused whole, or None if it is valid."""
    said = change.message
    if change.signer not in configuration or said.configuration != configuration.number:
        return "it is not from a member of this configuration"
    if not certificates.is_stable(said.stable_sequence, said.stable, configuration):
        return "its checkpoint is not proven"
    last = said.stable_sequence
    for certificate in said.prepared:
        named = certificate.pre_prepare.message
        if not last < named.sequence <= said.stable_sequence + parameters.window:
            return "its certificates are out of order or out of the window"
        if named.view >= said.view or not certificates.is_prepared(certificate, configuration):
            return "one of its certificates proves nothing"
        last = named.sequence
    return None


def stable_of(
    changes: Iterable[Verified[ViewChange]],
) -> tuple[int, tuple[Verified[Checkpoint], ...]]:
    """The highest proven checkpoint among valid view changes: where the new view starts."""
    highest = max(changes, key=lambda c: c.message.stable_sequence).message
    return highest.stable_sequence, highest.stable


def order(changes: Iterable[Verified[ViewChange]]) -> list[tuple[int, bytes]]:
    """The (sequence, digest) pairs that a new view starts with (the O set).

    For each sequence above the highest checkpoint, up to the highest prepared one, the digest that
    was prepared in the highest view; where nothing was prepared, the null batch.
    """
    changes = tuple(changes)
    start, _ = stable_of(changes)
    best: dict[int, tuple[int, bytes]] = {}
    for change in changes:
        for certificate in change.message.prepared:
            named = certificate.pre_prepare.message
            if named.sequence > start:
                found = (named.view, named.digest)
                best[named.sequence] = max(best.get(named.sequence, found), found)
    null = (0, NULL_BATCH.digest)
    last = max(best, default=start)
    return [(s, best.get(s, null)[1]) for s in range(start + 1, last + 1)]


def judge_new_view(
    new: Verified[NewView], configuration: Configuration, parameters: Parameters
) -> str | None:
    """Why a NEW-VIEW is refused, or None if it is valid: O is recomputed, never believed."""
    said = new.message
    if said.configuration != configuration.number or new.signer != configuration.primary(said.view):
        return "it is not from the primary of its view"
    signers = {c.signer for c in said.view_changes}
    if not len(signers) == len(said.view_changes) >= configuration.quorum:
        return "it shows no quorum of view changes"
    for change in said.view_changes:
        if change.message.view != said.view:
            return "it shows a view change for another view"
        reason = judge_view_change(change, configuration, parameters)
        if reason is not None:
            return f"it shows a view change that is refused: {reason}"
    expected = [
        (configuration.number, said.view, sequence, digest)
        for sequence, digest in order(said.view_changes)
    ]
    if [p.message.fields() for p in said.pre_prepares] != expected or any(
        p.signer != new.signer for p in said.pre_prepares
    ):
        return "its pre-prepares do not follow from its view changes"
    return None

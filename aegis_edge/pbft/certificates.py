"""What counts as proof: prepared and commit certificates, stable checkpoints, handovers.

Knows how many matching votes of whom prove what, in one configuration.
Refuses to know how votes arrive or where they are kept; signatures were checked before.
Follows: Castro and Liskov (OSDI '99) sections 4.2 (prepared, committed) and 4.3 (stable).
"""

from __future__ import annotations

from aegis_edge.pbft.configuration import Configuration
from aegis_edge.wire.messages import (
    Checkpoint,
    Commit,
    Handover,
    PreparedCertificate,
    Verified,
)


def is_prepared(certificate: PreparedCertificate, configuration: Configuration) -> bool:
    """A pre-prepare of that view's primary and quorum-1 equal prepares of distinct backups."""
    named = certificate.pre_prepare.message
    primary = configuration.primary(named.view)
    if named.configuration != configuration.number or certificate.pre_prepare.signer != primary:
        return False
    backups = {p.signer for p in certificate.prepares}
    return (
        len(backups) == len(certificate.prepares) >= configuration.quorum - 1
        and all(b in configuration and b != primary for b in backups)
        and all(p.message.fields() == named.fields() for p in certificate.prepares)
    )


def is_commit(commits: tuple[Verified[Commit], ...], configuration: Configuration) -> bool:
    """A quorum of commits of distinct members, equal but for their clocks.

    That those of a `Committed` name its batch was checked when it was read.
    """
    signers = {c.signer for c in commits}
    if not len(signers) == len(commits) >= configuration.quorum:
        return False
    named = commits[0].message.vote
    return (
        named[0] == configuration.number
        and all(s in configuration for s in signers)
        and all(c.message.vote == named for c in commits)
    )


def heir(handover: Handover, configuration: Configuration) -> Configuration | None:
    """The next configuration, if the members of this one say so in a commit certificate; or None.

    Each of them signs that only once it has executed all before that batch, so no two correct ones
    ever name different heirs of one configuration.
    """
    if not is_commit(handover.commits, configuration):
        return None
    said = handover.commits[0].message
    following = configuration.followed_by(said.sequence, handover.members, handover.terms)
    return following if said.successor == following.digest else None


def is_stable(
    sequence: int, checkpoints: tuple[Verified[Checkpoint], ...], configuration: Configuration
) -> bool:
    """A quorum of equal checkpoints at `sequence`; where the configuration starts there are none.

    Who is in a configuration has executed all that came before it, so that needs no proof.
    """
    if sequence == configuration.start:
        return not checkpoints
    signers = {c.signer for c in checkpoints}
    if not len(signers) == len(checkpoints) >= configuration.quorum:
        return False
    root = checkpoints[0].message.root
    return all(s in configuration for s in signers) and all(
        c.message.fields() == (configuration.number, sequence, root) for c in checkpoints
    )

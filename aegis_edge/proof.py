"""A value, or its absence, proven to whoever holds the genesis: bytes in, a statement or an error.

Knows the file: a key's way up to a state root (`knowledge.inclusion`), the checkpoints with which a
quorum of the members signed that root, and how those became members: for each change since the
genesis, what a quorum of those before it signed (`pbft.certificates`).
Refuses to know nodes, homes, clocks and files: it takes bytes and a genesis, and nothing else.
Follows: Castro and Liskov (OSDI '99) section 4.3 (a stable checkpoint is proof of the state).

What holds is that the key was so after batch `sequence`, at the agreed time `time_ms`: not that it
is so now, for nobody signs that nothing came after.  And of each configuration on the way no quorum
may ever have given its keys away, members who went long ago included: those who have such keys can
sign a history that branches off there, and whoever has nothing but the genesis cannot tell.

    ["aegis-edge proof", 2, what shows the key, [[checkpoint, ...], [handover, ...]]]
    ["aegis-edge proof", 1, what shows the key, [checkpoint, ...]]     where members never changed
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aegis_edge.knowledge.agreed import Agreed, unpack
from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.state import Version
from aegis_edge.pbft import certificates, quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.peers.genesis import Genesis
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import MEMBERS_MAX, Checkpoint, Handover, Verified

LABEL = "aegis-edge proof"
FORMAT = 2
#: Which says nothing of how the members came about, and is read still.
FORMAT_WITHOUT_HANDOVERS = 1
#: With 1,000 changes among four members it is 0.8 MB, among 13 it is 2.4 MB.
PROOF_BYTES_MAX = 3 * 1024 * 1024

_BEGINNING = b"\x84" + codec.encode(LABEL)
_CHANGES_MAX = 16 * 1024
_ITEMS_MAX = 4 + 6 + 5 + 2 + MEMBERS_MAX + _CHANGES_MAX


class ProofError(Exception):
    """A proof that does not hold; the message says where it breaks."""


class NotAProof(ProofError):
    """Bytes of another kind, or of a format that this release does not know."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof says: `key` had `version` (None: it never had one) after batch `sequence`.

    `revision` and `time_ms`: the last revision of all and the agreed time (Unix milliseconds) in
    that state; `signers`: the public keys of those who signed it; `changes`: how often the members,
    or what they share, had changed since the genesis.
    """

    key: str
    version: Version | None
    sequence: int
    revision: int
    time_ms: int
    signers: tuple[bytes, ...]
    changes: int
    #: All members then, in the bytewise order of their public keys; () where nothing is checked.
    members: tuple[bytes, ...]
    #: What they had agreed on beside, as those before signed it; () where nothing is checked.
    agreed: tuple[Agreed, ...] = ()


Stable = tuple[Verified[Checkpoint], ...]


@dataclass(frozen=True, slots=True)
class _File:
    """What is in a proof; `checkpoints` and `handovers` are envelopes not opened yet."""

    inclusion: Inclusion
    checkpoints: tuple[bytes, ...]
    handovers: tuple[bytes, ...]


def make(inclusion: Inclusion, checkpoints: Stable, handovers: tuple[bytes, ...] = ()) -> bytes:
    """The file in which `checkpoints`, a stable one's, stand for the root that the key leads to.

    `handovers` (`Handover.raw`) lead from the genesis to the configuration that signed them.
    """
    raws = tuple(c.raw for c in sorted(checkpoints, key=lambda c: c.signer))
    return codec.encode((LABEL, FORMAT, inclusion.fields(), (raws, handovers)))


def verify(data: bytes, genesis: Genesis) -> Proven:
    """What `data` proves in the cluster of this genesis.

    Raises `ProofError`; `NotAProof` if there is nothing to judge.
    """
    file = _read(data)
    try:
        configuration = _follow(file.handovers, genesis)
        checkpoints = _opened(file.checkpoints, _opener(genesis, configuration))
        signed = checkpoints[0].message
        if not certificates.is_stable(signed.sequence, checkpoints, configuration):
            raise WireError(
                f"its checkpoints are not of {configuration.quorum} members who signed one root"
            )
        file.inclusion.check(signed.root)
        agreed = unpack(configuration.terms)
    except WireError as error:
        raise ProofError(str(error)) from None
    return _said(file, checkpoints, configuration.members, agreed)


def claimed(data: bytes) -> Proven:
    """What `data` says, nothing of which is checked; raises `ProofError`."""
    file = _read(data)
    try:
        return _said(file, _opened(file.checkpoints, Opener(b"", verify=lambda *_: True)), ())
    except WireError as error:
        raise ProofError(str(error)) from None


def _follow(handovers: tuple[bytes, ...], genesis: Genesis) -> Configuration:
    """The configuration to which these lead from the genesis; raises `WireError`."""
    ratio_percent = genesis.parameters.byzantine_ratio_percent
    faulty = quorum.faults(len(genesis.members), ratio_percent)
    configuration = Configuration(0, genesis.members, faulty, 0, ratio_percent)
    for raw in handovers:
        handover = Handover.open(raw, _opener(genesis, configuration).open)
        following = certificates.heir(handover, configuration)
        if following is None:
            raise WireError(
                f"{configuration.quorum} members of configuration {configuration.number} did not"
                " sign who follows them"
            )
        configuration = following
    return configuration


def _opener(genesis: Genesis, configuration: Configuration) -> Opener:
    """Checks what members sign, and looks at nobody else's signatures."""
    return Opener(genesis.cluster_id, members=frozenset(configuration.members))


def _opened(raws: tuple[bytes, ...], opener: Opener) -> Stable:
    checkpoints = tuple(opener.open(raw) for raw in raws)
    if not all(isinstance(c.message, Checkpoint) for c in checkpoints):
        raise WireError("a signed message of another kind than belongs here")
    if any(a.signer >= b.signer for a, b in pairwise(checkpoints)):
        raise WireError("its signers are out of order, or one is there twice")
    return checkpoints


def _said(
    file: _File,
    checkpoints: Stable,
    members: tuple[bytes, ...],
    agreed: tuple[Agreed, ...] = (),
) -> Proven:
    return Proven(
        file.inclusion.key,
        file.inclusion.version,
        checkpoints[0].message.sequence,
        file.inclusion.revision,
        file.inclusion.time_ms,
        tuple(c.signer for c in checkpoints),
        len(file.handovers),
        members,
        agreed,
    )


def _read(data: bytes) -> _File:
    if not data.startswith(_BEGINNING):
        raise NotAProof("this is no proof; is it the right file?")
    format_ = data[len(_BEGINNING) : len(_BEGINNING) + 1]
    if format_ not in (codec.encode(FORMAT), codec.encode(FORMAT_WITHOUT_HANDOVERS)):
        raise NotAProof("a proof of another format; verify it with the release that made it")
    try:
        decoded = codec.decode(data, items_max=_ITEMS_MAX, size_max=PROOF_BYTES_MAX)
        _, number, fields, signed = decoded
        if number == FORMAT_WITHOUT_HANDOVERS:
            signed = (signed, ())
        if type(signed) is not tuple or len(signed) != 2:
            raise WireError("not its checkpoints, and what leads to their members")
        checkpoints, handovers = map(_raws, signed)
        if not checkpoints:
            raise WireError("it has no checkpoint")
        return _File(Inclusion.parse(fields), checkpoints, handovers)
    except WireError as error:
        raise ProofError(str(error)) from None


def _raws(value: Any) -> tuple[bytes, ...]:
    if type(value) is not tuple or not all(type(raw) is bytes for raw in value):
        raise WireError("what is signed is no array of byte strings")
    return value

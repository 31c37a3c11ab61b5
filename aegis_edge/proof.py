"""A value, or its absence, proven to whoever holds the genesis: bytes in, a statement or an error.

Knows the file: a key's way up to a state root (`knowledge.inclusion`), and the checkpoints with
which a quorum of the genesis' members signed that root (`pbft.certificates`).
Refuses to know nodes, homes, clocks and files: it takes bytes and a genesis, and nothing else.
Follows: Castro and Liskov (OSDI '99) section 4.3 (a stable checkpoint is proof of the state).

What holds is that the key was so after batch `sequence`, at the agreed time `time_ms`: not that it
is so now, for nobody signs that nothing came after.

    ["aegis-edge proof", 1, what shows the key, [checkpoint, ...]]      the house's CBOR
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.state import Version
from aegis_edge.pbft import certificates, quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.peers.genesis import Genesis
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import MEMBERS_MAX, Checkpoint, Open, Verified

LABEL = "aegis-edge proof"
#: Of members that never change.  Where they do, a proof also has to show who they were by then.
FORMAT = 1
PROOF_BYTES_MAX = 4 * 1024 * 1024

_BEGINNING = b"\x84" + codec.encode(LABEL)
_ITEMS_MAX = 4 + 6 + 5 + MEMBERS_MAX


class ProofError(Exception):
    """A proof that does not hold; the message says where it breaks."""


class NotAProof(ProofError):
    """Bytes of another kind, or of a format that this release does not know."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof says: `key` had `version` (None: it never had one) after batch `sequence`.

    `revision` and `time_ms`: the last revision of all and the agreed time (Unix milliseconds) in
    that state; `signers`: the public keys of those who signed it.
    """

    key: str
    version: Version | None
    sequence: int
    revision: int
    time_ms: int
    signers: tuple[bytes, ...]


def make(inclusion: Inclusion, checkpoints: tuple[Verified[Checkpoint], ...]) -> bytes:
    """The file in which `checkpoints`, a stable one's, stand for the root that the key leads to."""
    raws = tuple(c.raw for c in sorted(checkpoints, key=lambda c: c.signer))
    return codec.encode((LABEL, FORMAT, inclusion.fields(), raws))


def verify(data: bytes, genesis: Genesis) -> Proven:
    """What `data` proves in the cluster of this genesis.

    Raises `ProofError`; `NotAProof` if there is nothing to judge.
    """
    members = genesis.members
    opener = Opener(genesis.cluster_id, members=frozenset(members))
    inclusion, checkpoints = _read(data, opener.open)
    faulty = quorum.faults(len(members), genesis.parameters.byzantine_ratio_percent)
    configuration = Configuration(0, members, faulty)
    signed = checkpoints[0].message
    if not certificates.is_stable(signed.sequence, checkpoints, configuration):
        raise ProofError(
            f"its checkpoints are not of {configuration.quorum} members who signed one root"
        )
    try:
        inclusion.check(signed.root)
    except WireError as error:
        raise ProofError(str(error)) from None
    return _said(inclusion, checkpoints)


def claimed(data: bytes) -> Proven:
    """What `data` says, nothing of which is checked; raises `ProofError`."""
    return _said(*_read(data, Opener(b"", verify=lambda *_: True).open))


def _said(inclusion: Inclusion, checkpoints: tuple[Verified[Checkpoint], ...]) -> Proven:
    return Proven(
        inclusion.key,
        inclusion.version,
        checkpoints[0].message.sequence,
        inclusion.revision,
        inclusion.time_ms,
        tuple(c.signer for c in checkpoints),
    )


def _read(data: bytes, open_: Open) -> tuple[Inclusion, tuple[Verified[Checkpoint], ...]]:
    if not data.startswith(_BEGINNING):
        raise NotAProof("this is no proof; is it the right file?")
    if data[len(_BEGINNING) : len(_BEGINNING) + 1] != codec.encode(FORMAT):
        raise NotAProof("a proof of another format; verify it with the release that made it")
    try:
        _, _, fields, raws = codec.decode(data, items_max=_ITEMS_MAX, size_max=PROOF_BYTES_MAX)
        if type(raws) is not tuple or not raws or not all(type(raw) is bytes for raw in raws):
            raise WireError("its checkpoints are no array of byte strings")
        checkpoints = tuple(open_(raw) for raw in raws)
        if not all(isinstance(c.message, Checkpoint) for c in checkpoints):
            raise WireError("a signed message of another kind than belongs here")
        if any(a.signer >= b.signer for a, b in pairwise(checkpoints)):
            raise WireError("its signers are out of order, or one is there twice")
        return Inclusion.parse(fields), checkpoints
    except WireError as error:
        raise ProofError(str(error)) from None

"""Members who sign a state as a cluster does, and proofs of what is in it: no node, no disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from aegis_edge import membership, proof
from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import Delete, Put
from aegis_edge.knowledge.state import newest_retained
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import (
    Bundle,
    Checkpoint,
    Commit,
    NodeRecord,
    Verified,
    pack_handover,
)
from tests.knowledge.memory_state import MemoryState

SEQUENCE = 64
TIME_MS = 1_800_000_000_000


@dataclass(frozen=True)
class Cluster:
    """`door` has a value, `gone` was deleted, `text` is a line, `odd` is said to be JSON, and is
    none; all else was never there.

    `signers` are the members now, to whom the `handovers` lead.
    """

    genesis: Genesis
    signers: tuple[Signer, ...]
    state: MemoryState
    machine: Machine
    handovers: tuple[bytes, ...] = ()

    def shows(self, key: str) -> Inclusion:
        row = self.state.retained(key)
        version = None if row is None else self.state.versions[newest_retained(row)[0]]
        return self.machine.moment().shows(key, row, version)

    def checkpoint(self, index: int, **changes: object) -> Verified[Checkpoint]:
        number = len(self.handovers)
        said = {"configuration": number, "sequence": SEQUENCE, "root": self.machine.root()}
        said |= changes
        return self.signers[index].sign(Checkpoint(**said))  # type: ignore[arg-type]

    def proof(self, key: str, *indexes: int) -> bytes:
        signed = tuple(self.checkpoint(index) for index in indexes or (0, 1, 2))
        return proof.make(self.shows(key), signed, self.handovers)


@cache
def cluster(nonce: int = 0) -> Cluster:
    """Four members; another nonce makes another cluster of them, with the same content."""
    records = []
    for number in range(1, 5):
        named = NodeRecord(1, bytes([number + 9]) * 32, (), 2**31, f"n{number}")
        records.append(Signer(bytes([number]) * 32, b"").sign(named))
    genesis = Genesis.of(records, Parameters(1, bytes([nonce]) * 16))
    signers = [Signer(bytes([number]) * 32, genesis.cluster_id) for number in range(1, 5)]
    signers.sort(key=lambda signer: signer.public)
    state = MemoryState()
    kept = genesis.parameters.history_versions
    machine = Machine(state, kept, membership.founders(genesis), membership.rules(genesis))
    for number in range(1, SEQUENCE + 1):
        writes = [Put(f"filler/{number}", b"value").encode()]
        if number == 1:
            door, gone = Put("door", b'{"open":false}', 1), Put("gone", b"soon")
            text, odd = Put("text", b"a line\n"), Put("odd", b"\xff", 1)
            writes += [put.encode() for put in (door, gone, text, odd)]
        if number == 2:
            writes.append(Delete("gone").encode())
        bundle = signers[0].sign(Bundle(1, number, tuple(writes)))
        machine.apply(number, TIME_MS + number, (bundle,))
    return Cluster(genesis, tuple(signers), state, machine)


def member(number: int, cluster_id: bytes) -> Signer:
    return Signer(bytes([number]) * 32, cluster_id)


def keys(signers: Iterable[Signer]) -> tuple[bytes, ...]:
    return tuple(sorted(signer.public for signer in signers))


def handover(
    before: Configuration, signers: Sequence[Signer], following: Configuration, **changes: object
) -> bytes:
    """What these say about who follows `before`."""
    said = {
        "configuration": before.number,
        "view": 3,
        "sequence": following.start,
        "digest": bytes(32),
        "clock_ms": 7,
        "successor": following.digest,
    } | changes
    commits = tuple(signer.sign(Commit(**said)).raw for signer in signers)  # type: ignore[arg-type]
    return pack_handover(following.members, commits, following.terms)


@cache
def changed(changes: int = 3, nonce: int = 0) -> Cluster:
    """The cluster after so many changes: each time one goes and another one comes."""
    made = cluster(nonce)
    cluster_id = made.genesis.cluster_id
    numbers = [1, 2, 3, 4]
    signers = [member(number, cluster_id) for number in numbers]
    now = Configuration(0, made.genesis.members, 1)
    handovers = []
    for change in range(changes):
        numbers = [*numbers[1:], 5 + change % 200]
        following = now.followed_by(change + 1, keys(member(n, cluster_id) for n in numbers))
        handovers.append(handover(now, signers[:3], following))
        now, signers = following, [member(number, cluster_id) for number in numbers]
    signers.sort(key=lambda signer: signer.public)
    return replace(made, signers=tuple(signers), handovers=tuple(handovers))

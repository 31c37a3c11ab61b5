"""Members who sign a state as a cluster does, and proofs of what is in it: no node, no disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from aegis_edge import membership, proof
from aegis_edge.knowledge.inclusion import Inclusion
from aegis_edge.knowledge.machine import Machine
from aegis_edge.knowledge.operations import Delete, Put
from aegis_edge.knowledge.state import newest_retained
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Bundle, Checkpoint, NodeRecord, Verified
from tests.knowledge.memory_state import MemoryState

SEQUENCE = 64
TIME_MS = 1_800_000_000_000


@dataclass(frozen=True)
class Cluster:
    """`door` has a value, `gone` was deleted, `text` is a line, `odd` is said to be JSON, and is
    none; all else was never there.
    """

    genesis: Genesis
    signers: tuple[Signer, ...]
    state: MemoryState
    machine: Machine

    def shows(self, key: str) -> Inclusion:
        row = self.state.retained(key)
        version = None if row is None else self.state.versions[newest_retained(row)[0]]
        return self.machine.moment().shows(key, row, version)

    def checkpoint(self, index: int, **changes: object) -> Verified[Checkpoint]:
        said = {"configuration": 0, "sequence": SEQUENCE, "root": self.machine.root()} | changes
        return self.signers[index].sign(Checkpoint(**said))  # type: ignore[arg-type]

    def proof(self, key: str, *indexes: int) -> bytes:
        signed = tuple(self.checkpoint(index) for index in indexes or (0, 1, 2))
        return proof.make(self.shows(key), signed)


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

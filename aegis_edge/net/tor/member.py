"""A member's own service and its keys to those of the others: from node keys and records alone.

Knows which onion service a node has, and who may find it.  Refuses to know tor and its commands.

Where a level has client authorisation, each pair of members shares a secret already, that of their
Noise keys; the key with which one finds the other's service is derived from it on both sides.  So
there is nothing to hand over, and a tor that is taken gives away no key that stands for a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import CryptoError
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.peers import onion, places
from aegis_edge.peers.address import ONION
from aegis_edge.wire.messages import NodeRecord, Verified


@dataclass(frozen=True, slots=True)
class Keys:
    """What a node needs of its own: its public key, its seed, its Noise key, and the generations
    of its onion address that are in use, the last one first.
    """

    public: bytes
    seed: bytes = field(repr=False)
    noise_private: bytes = field(repr=False)
    onion_generations: tuple[int, ...] = (0,)


def own_services(
    keys: Keys,
    cluster_id: bytes,
    records: Iterable[Verified[NodeRecord]],
    level: SecurityLevel,
    port: int,
    target: str,
) -> tuple[Service, ...]:
    """The services of this node, which only the members of `records` find if the level says so.

    One for each of its generations, the last one first.  This node is among those who find them: it
    dials itself, to know that others can.
    """
    wanted = levels.TABLE[level]
    pairs = (
        _credential(keys, cluster_id, record, is_service=True)
        for record in (records if wanted.client_authorisation else ())
    )
    clients = tuple(sodium.x25519_public(key) for key in pairs if key is not None)
    return tuple(
        Service(
            onion.service_seed(keys.seed, generation),
            port,
            target,
            clients,
            wanted.max_streams,
            wanted.proof_of_work,
        )
        for generation in keys.onion_generations
    )


class Keyring:
    """For each onion address of a member, this node's included, the key with which it is found.

    Records are taken whose addresses are their signers' own (`peers.places`), so that nobody
    changes the key with which another is found.  `records`: at first, the last of a member counts.
    """

    def __init__(
        self,
        keys: Keys,
        cluster_id: bytes,
        level: SecurityLevel,
        records: Iterable[Verified[NodeRecord]],
    ) -> None:
        self._keys = keys
        self._cluster_id = cluster_id
        self._is_needed = levels.TABLE[level].client_authorisation
        self._hosts: dict[bytes, dict[str, bytes]] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: Verified[NodeRecord]) -> None:
        """The addresses of one member from now on; those that it had before are no more."""
        if not self._is_needed:
            return
        found = [place.host for place in places.of(record) if place.scheme == ONION]
        key = _credential(self._keys, self._cluster_id, record, is_service=False)
        self._hosts[record.signer] = {} if key is None else dict.fromkeys(found, key)

    @property
    def clients(self) -> Mapping[str, bytes]:
        """X25519 private keys by onion address."""
        return {host: key for hosts in self._hosts.values() for host, key in hosts.items()}


def _credential(
    keys: Keys, cluster_id: bytes, peer: Verified[NodeRecord], *, is_service: bool
) -> bytes | None:
    """None for a member whose Noise key is no key: there is no link to it either."""
    try:
        shared = sodium.x25519(keys.noise_private, peer.message.noise_key)
    except CryptoError:
        return None
    pair = (keys.public, peer.signer) if is_service else (peer.signer, keys.public)
    return onion.pair_credential(shared, cluster_id, *pair)

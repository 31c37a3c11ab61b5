"""A member's own service and its keys to those of the others: from node keys and records alone.

Knows which onion service a node has, and who may find it.  Refuses to know tor and its commands.

Where a level has client authorisation, each pair of members shares a secret already, that of their
Noise keys; the key with which one finds the other's service is derived from it on both sides.  So
there is nothing to hand over, and a tor that is taken gives away no key that stands for a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.peers import address, onion
from aegis_edge.peers.address import ONION
from aegis_edge.wire.messages import NodeRecord, Verified


class Keys(NamedTuple):
    """What a node needs of its own: its public key, its seed, its Noise key, and the generations
    of its onion address that are in use, the last one first.
    """

    public: bytes
    seed: bytes
    noise_private: bytes
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
    clients = tuple(
        sodium.x25519_public(_credential(keys, cluster_id, record, is_service=True))
        for record in (records if wanted.client_authorisation else ())
    )
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


def credentials(
    keys: Keys,
    cluster_id: bytes,
    records: Iterable[Verified[NodeRecord]],
    level: SecurityLevel,
) -> Mapping[str, bytes]:
    """For each onion address of a member, this node's included, the key with which it is found."""
    if not levels.TABLE[level].client_authorisation:
        return {}
    found = {}
    for record in records:
        for place in map(address.parse, record.message.addresses):
            if place.scheme == ONION:
                found[place.host] = _credential(keys, cluster_id, record, is_service=False)
    return found


def _credential(
    keys: Keys, cluster_id: bytes, peer: Verified[NodeRecord], *, is_service: bool
) -> bytes:
    shared = sodium.x25519(keys.noise_private, peer.message.noise_key)
    pair = (keys.public, peer.signer) if is_service else (peer.signer, keys.public)
    return onion.pair_credential(shared, cluster_id, *pair)

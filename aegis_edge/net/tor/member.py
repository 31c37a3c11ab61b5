"""A member's own service and its keys to those of the others: from node keys and records alone.

Knows which onion service a node has, and who may find it.  Refuses to know tor and its commands.

Where a level has client authorisation, each pair of members shares a secret already, that of their
Noise keys; the key with which one finds the other's service is derived from it on both sides.  So
there is nothing to hand over, and a tor that is taken gives away no key that stands for a node.

From that secret, too, comes what a caller knocks with at every level: a number that never comes
again, and its MAC.  To anybody but the two of them it is noise, each time another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aegis_edge.crypto import sodium
from aegis_edge.crypto.sodium import CryptoError
from aegis_edge.net.tor import levels
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.service import Service
from aegis_edge.peers import onion, places
from aegis_edge.peers.address import ONION
from aegis_edge.wire.messages import NodeRecord, Verified

_NONCE_BYTES = 16
_MARK_BYTES = 16


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
    keys: Keys, level: SecurityLevel, port: int, target: str, callers: tuple[bytes, ...]
) -> tuple[Service, ...]:
    """The services of this node, which only `callers` find if the level says so: see `Keyring`.

    One for each of its generations, the last one first, with a socket of its own: who floods the
    address that is given up is not heard at the new one.
    """
    assert len(keys.onion_generations) <= 2, "an address, and the one that it takes the place of"
    wanted = levels.TABLE[level]
    assert bool(callers) is wanted.client_authorisation, "without a name, anybody finds it"
    return tuple(
        Service(
            onion.service_seed(keys.seed, generation),
            port,
            path,
            callers,
            wanted.max_streams,
            wanted.proof_of_work,
        )
        for generation, path in zip(keys.onion_generations, targets(target), strict=False)
    )


def targets(target: str) -> tuple[str, str]:
    """The sockets of a node's services: of the address that lasts, and of the one before it."""
    return target, f"{target}.old"


class _Pair(NamedTuple):
    """What this node shares with one member.

    `credential`: with which it is found; `caller`: the public half of that with which it finds us.
    `ours`, `theirs`: the keys of this node's knocks there, and of that member's here.
    """

    hosts: tuple[str, ...]
    credential: bytes
    caller: bytes
    ours: bytes
    theirs: bytes


class Keyring:
    """For each onion address of a member, this node's included, the key with which it is found.

    And what one knocks with there, by which others who knock here are known, and who may find this
    node.

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
        self._pairs: dict[bytes, _Pair] = {}
        self._guests: tuple[bytes, ...] = ()
        for record in records:
            self.learn(record)

    def meet(self, records: Iterable[Verified[NodeRecord]]) -> None:
        """The other members from now on; of whoever is none any more nothing is known."""
        own = self._keys.public
        self._pairs = {peer: pair for peer, pair in self._pairs.items() if peer == own}
        for record in records:
            self.learn(record)

    def expect(self, guests: Iterable[bytes]) -> None:
        """Those who are invited, by their X25519 public keys; others are expected no more."""
        self._guests = tuple(guests)

    def learn(self, record: Verified[NodeRecord]) -> None:
        """The addresses of one member from now on; those that it had before are no more."""
        hosts = tuple(place.host for place in places.of(record) if place.scheme == ONION)
        own, peer, cluster = self._keys.public, record.signer, self._cluster_id
        self._pairs.pop(peer, None)
        shared = _shared(self._keys, record)
        if shared is not None:
            self._pairs[peer] = _Pair(
                hosts,
                onion.pair_credential(shared, cluster, peer, own),
                sodium.x25519_public(onion.pair_credential(shared, cluster, own, peer)),
                onion.pair_knock(shared, cluster, peer, own),
                onion.pair_knock(shared, cluster, own, peer),
            )

    @property
    def clients(self) -> Mapping[str, bytes]:
        """X25519 private keys by onion address, where the level has client authorisation."""
        pairs = self._pairs.values() if self._is_needed else ()
        return {host: pair.credential for pair in pairs for host in pair.hosts}

    @property
    def callers(self) -> tuple[bytes, ...]:
        """The X25519 public keys of those who may find this node, where the level asks for any.

        This node is among them: it dials itself, to know that others can.
        """
        if not self._is_needed:
            return ()
        return tuple(sorted({*self._guests, *(pair.caller for pair in self._pairs.values())}))

    def knock(self, host: str) -> bytes:
        """What to say first at a member's onion address; nothing where no member is known."""
        keys = [pair.ours for pair in self._pairs.values() if host in pair.hosts]
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + _mark(keys[0], nonce) if keys else b""

    def whose(self, knock: bytes) -> bytes | None:
        """The member (its key) who knocks so, or None."""
        if len(knock) != _NONCE_BYTES + _MARK_BYTES:
            return None
        nonce, mark = knock[:_NONCE_BYTES], knock[_NONCE_BYTES:]
        known = self._pairs.items()
        return next((k for k, pair in known if sodium.equal(_mark(pair.theirs, nonce), mark)), None)


def _mark(key: bytes, nonce: bytes) -> bytes:
    return sodium.mac("sha256", key, nonce)[:_MARK_BYTES]


def _shared(keys: Keys, peer: Verified[NodeRecord]) -> bytes | None:
    """None for a member whose Noise key is no key: there is no link to it either."""
    try:
        return sodium.x25519(keys.noise_private, peer.message.noise_key)
    except CryptoError:
        return None

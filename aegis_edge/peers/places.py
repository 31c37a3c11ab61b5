"""Where a node is, as its signed record has it: addresses that are good, and its own to give.

Knows which addresses must be proven.  An onion address is its service's key: only who holds that
may say whose it is, or a member could claim the one that another is about to move to.
Refuses to know who is a member, and which record of a node is the last one.
"""

from __future__ import annotations

from aegis_edge.peers import address, onion
from aegis_edge.peers.address import ONION, Address, AddressError
from aegis_edge.wire.messages import NodeRecord, Verified


def of(record: Verified[NodeRecord]) -> tuple[Address, ...]:
    """The addresses in `record`, in order; raises `AddressError`, also for one that is another's.

    There is one proof for each onion address, in order, and none besides.
    """
    found = address.parse_all(record.message.addresses)
    services = [place for place in found if place.scheme == ONION]
    proofs = record.message.proofs
    if len(proofs) != len(services):
        raise AddressError(
            f"{len(services)} onion addresses with {len(proofs)} proofs of whose they are; is that "
            "board of another version?"
        )
    for place, proof in zip(services, proofs, strict=True):
        if not onion.is_proven(onion.parse(place.host), record.signer, proof):
            raise AddressError(f"{str(place)!r} is not its own: the service's key does not say so")
    return found

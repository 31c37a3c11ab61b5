"""An onion address counts in the record of the node that its service's key names, in no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aegis_edge.peers import identity, onion, places
from aegis_edge.peers.address import AddressError
from aegis_edge.peers.book import Book
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import NodeRecord, Verified

SERVICES = [bytes([number]) * 32 for number in (70, 71)]
HOSTS = [onion.service_address(seed) for seed in SERVICES]
ANNA, EVE = (Signer(bytes([number]) * 32, b"") for number in (1, 2))
PROOFS = tuple(onion.proof(seed, ANNA.public) for seed in SERVICES)
ADDRESSES = (f"onion:{HOSTS[0]}:80", "tcp:198.51.100.7:80", f"onion:{HOSTS[1]}:80")
SAID = NodeRecord(2, bytes([9]) * 32, ADDRESSES, 2**31, "board", PROOFS)


def test_its_own_addresses_are_given_in_order() -> None:
    assert [str(place) for place in places.of(ANNA.sign(SAID))] == list(ADDRESSES)


@pytest.mark.parametrize(
    ("signer", "proofs", "words"),
    [
        (ANNA, (), "2 onion addresses with 0 proofs"),
        (ANNA, PROOFS[:1], "2 onion addresses with 1 proofs"),
        (ANNA, (*PROOFS, bytes(64)), "2 onion addresses with 3 proofs"),
        (ANNA, PROOFS[::-1], f"{HOSTS[0]}:80' is not its own"),
        (ANNA, (PROOFS[0], bytes(64)), f"{HOSTS[1]}:80' is not its own"),
        (EVE, PROOFS, f"{HOSTS[0]}:80' is not its own"),
    ],
)
def test_what_the_services_key_does_not_say_of_this_node_is_refused_wherever_it_comes_from(
    signer: Signer, proofs: tuple[bytes, ...], words: str
) -> None:
    record: Verified[NodeRecord] = signer.sign(replace(SAID, proofs=proofs))
    with pytest.raises(AddressError, match=words):
        places.of(record)
    with pytest.raises(WireError, match=words):  # in a genesis, a file, the database
        identity.open_record(record.raw, Opener(b"").open)
    first = signer.sign(NodeRecord(1, bytes([9]) * 32, (), 2**31, "board"))
    assert words in Book(bytes(32), [first], ()).refusal(record)  # from a link


def test_a_proof_is_of_one_service_and_one_node() -> None:
    keys = [onion.parse(host) for host in HOSTS]
    assert onion.is_proven(keys[0], ANNA.public, PROOFS[0])
    assert not onion.is_proven(keys[1], ANNA.public, PROOFS[0])
    assert not onion.is_proven(keys[0], EVE.public, PROOFS[0])

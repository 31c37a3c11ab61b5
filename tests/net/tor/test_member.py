from __future__ import annotations

from dataclasses import replace

import pytest

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import member
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.member import Keys
from aegis_edge.net.tor.service import Service
from aegis_edge.peers import onion
from aegis_edge.peers.address import AddressError
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Verified

CLUSTER = bytes(32)
TARGET = "/run/node/onion.sock"
HIGH, STANDARD = SecurityLevel.HIGH, SecurityLevel.STANDARD


class Board:
    def __init__(self, number: int) -> None:
        signer = Signer(bytes([number]) * 32, b"")
        self.keys = Keys(signer.public, bytes([number]) * 32, bytes([100 + number]) * 32)
        self.host = onion.service_address(onion.service_seed(self.keys.seed, 0))
        noise = sodium.x25519_public(self.keys.noise_private)
        addresses = ("tcp:192.168.1.9:80", f"onion:{self.host}:8080")
        self.record: Verified[NodeRecord] = signer.sign(
            NodeRecord(1, noise, addresses, 2_000_000_000, f"board{number}", (self.proof(0),))
        )

    def proof(self, generation: int) -> bytes:
        return onion.proof(onion.service_seed(self.keys.seed, generation), self.keys.public)


BOARDS = [Board(number) for number in (1, 2, 3)]
RECORDS = [board.record for board in BOARDS]


def services(
    board: Board, records: list[Verified[NodeRecord]] = RECORDS, level: SecurityLevel = HIGH
) -> tuple[Service, ...]:
    callers = member.Keyring(board.keys, CLUSTER, level, records).callers
    return member.own_services(board.keys, level, 8080, TARGET, callers)


def test_every_member_has_the_key_that_every_other_ones_service_expects() -> None:
    for server in BOARDS:
        (service,) = services(server)
        assert service.address == server.host
        for client in BOARDS:
            keys = member.Keyring(client.keys, CLUSTER, HIGH, RECORDS).clients
            assert set(keys) == {board.host for board in BOARDS}
            assert sodium.x25519_public(keys[server.host]) in service.clients
        assert len(set(service.clients)) == len(BOARDS)


def test_a_stranger_and_a_member_of_another_cluster_have_none_of_them() -> None:
    (service,) = services(BOARDS[0])
    for keys, cluster in ((Board(9).keys, CLUSTER), (BOARDS[1].keys, b"another".ljust(32))):
        found = member.Keyring(keys, cluster, HIGH, RECORDS).clients
        assert sodium.x25519_public(found[BOARDS[0].host]) not in service.clients


@pytest.mark.parametrize("level", [STANDARD, HIGH])
def test_only_where_the_level_says_so(level: SecurityLevel) -> None:
    (service,) = services(BOARDS[0], level=level)
    assert len(service.clients) == (3 if level is HIGH else 0)
    assert len(member.Keyring(BOARDS[0].keys, CLUSTER, level, RECORDS).clients) == len(
        service.clients
    )
    assert service.max_streams == 4
    assert service.target == TARGET


def test_each_address_in_use_has_its_service_and_the_last_one_is_first() -> None:
    keys = replace(BOARDS[0].keys, onion_generations=(3, 2))
    last, older = member.own_services(keys, HIGH, 8080, TARGET, (bytes(32),))
    assert last.address == onion.service_address(onion.service_seed(keys.seed, 3))
    assert older.address == onion.service_address(onion.service_seed(keys.seed, 2))
    assert last.clients == older.clients
    assert (last.target, older.target) == (TARGET, f"{TARGET}.old")


def test_nobody_takes_the_key_of_the_address_that_another_moves_to() -> None:
    one, two, liar = BOARDS
    keyring = member.Keyring(one.keys, CLUSTER, HIGH, RECORDS)
    before = dict(keyring.clients)
    next_host = onion.service_address(onion.service_seed(two.keys.seed, 1))
    moved = (f"onion:{next_host}:8080",)
    for proofs in ((liar.proof(0),), (two.proof(1),), ()):  # one that was copied, too
        claimed = replace(liar.record.message, version=2, addresses=moved, proofs=proofs)
        with pytest.raises(AddressError):
            keyring.learn(Signer(liar.keys.seed, b"").sign(claimed))
    assert keyring.clients == before
    mine = replace(two.record.message, version=2, addresses=moved, proofs=(two.proof(1),))
    keyring.learn(Signer(two.keys.seed, b"").sign(mine))
    assert keyring.clients[next_host] == before[two.host]


def test_the_addresses_of_a_member_are_its_last_ones() -> None:
    one, two, other = BOARDS
    keyring = member.Keyring(one.keys, CLUSTER, HIGH, RECORDS)
    host = onion.service_address(onion.service_seed(two.keys.seed, 7))
    moved = replace(
        two.record.message,
        version=2,
        addresses=(f"onion:{host}:8080",),
        proofs=(two.proof(7),),
    )
    before = dict(keyring.clients)
    keyring.learn(Signer(two.keys.seed, b"").sign(moved))
    assert set(keyring.clients) == {one.host, host, other.host}
    assert keyring.clients[host] == before[two.host]


@pytest.mark.parametrize("level", [STANDARD, HIGH])
def test_who_knocks_is_known_to_whom_it_calls_and_to_nobody_else(level: SecurityLevel) -> None:
    one, two, three = (member.Keyring(b.keys, CLUSTER, level, RECORDS) for b in BOARDS)
    stranger = member.Keyring(Board(9).keys, CLUSTER, level, RECORDS)
    knock = two.knock(BOARDS[0].host)
    assert one.whose(knock) == BOARDS[1].keys.public
    assert one.whose(three.knock(BOARDS[0].host)) == BOARDS[2].keys.public
    assert three.whose(knock) is None
    assert two.whose(knock) is None, "it is no good the other way round"
    assert one.whose(stranger.knock(BOARDS[0].host)) is None
    assert two.knock(BOARDS[0].host) != knock, "nobody can tell that it is the same one again"
    for wrong in (
        b"",
        knock[:-1],
        knock + b"\0",
        bytes(len(knock)),
        bytes([knock[0] ^ 1, *knock[1:]]),
    ):
        assert one.whose(wrong) is None
    assert two.knock(onion.service_address(bytes(32))) == b""


@pytest.mark.parametrize("level", [STANDARD, HIGH])
def test_who_is_let_in_is_known_from_then_on_and_who_is_dismissed_is_not(
    level: SecurityLevel,
) -> None:
    one, two, three = BOARDS
    host = member.Keyring(one.keys, CLUSTER, level, [one.record])
    guest, member_of_old = (member.Keyring(b.keys, CLUSTER, level, RECORDS) for b in (two, three))
    alone = host.callers
    assert len(alone) == (level is HIGH), "this node itself, or nobody who would be named"
    assert host.whose(guest.knock(one.host)) is None
    host.meet([two.record])
    assert host.whose(guest.knock(one.host)) == two.keys.public
    assert host.whose(member_of_old.knock(one.host)) is None
    assert host.knock(two.host) != b""
    both = host.callers
    host.meet([three.record])
    assert host.whose(guest.knock(one.host)) is None
    assert host.whose(member_of_old.knock(one.host)) == three.keys.public
    assert host.knock(two.host) == b""
    if level is HIGH:
        assert set(host.clients) == {one.host, three.host}
        found = guest.clients[one.host], member_of_old.clients[one.host]
        second, third = map(sodium.x25519_public, found)
        assert set(both) - set(alone) == {second}
        assert set(host.callers) - set(alone) == {third}
    else:
        assert (both, host.callers, dict(host.clients)) == ((), (), {})


@pytest.mark.parametrize("level", [STANDARD, HIGH])
def test_whoever_is_invited_is_expected_besides_the_members(level: SecurityLevel) -> None:
    keyring = member.Keyring(BOARDS[0].keys, CLUSTER, level, RECORDS)
    members, guest = set(keyring.callers), bytes([7]) * 32
    keyring.expect([guest])
    assert set(keyring.callers) - members == ({guest} if level is HIGH else set())
    keyring.meet([BOARDS[1].record])
    assert (guest in keyring.callers) is (level is HIGH)
    keyring.expect([])
    assert guest not in keyring.callers


def test_the_same_members_are_the_same_callers_in_whatever_order() -> None:
    """Else a service would be announced anew, and not be found meanwhile, for nothing."""
    keyring = member.Keyring(BOARDS[0].keys, CLUSTER, HIGH, RECORDS)
    before = keyring.callers
    keyring.meet([BOARDS[2].record, BOARDS[1].record])
    assert keyring.callers == before


@pytest.mark.parametrize(("level", "callers"), [(HIGH, ()), (STANDARD, (bytes(32),))])
def test_no_service_is_for_others_than_the_level_says(
    level: SecurityLevel, callers: tuple[bytes, ...]
) -> None:
    with pytest.raises(AssertionError, match="anybody finds it"):
        member.own_services(BOARDS[0].keys, level, 8080, TARGET, callers)


def test_a_member_whose_noise_key_is_none_stops_nobody() -> None:
    broken = BOARDS[1]
    record = Signer(broken.keys.seed, b"").sign(replace(broken.record.message, noise_key=bytes(32)))
    records = [BOARDS[0].record, record, BOARDS[2].record]
    assert broken.host not in member.Keyring(BOARDS[0].keys, CLUSTER, HIGH, records).clients
    (service,) = services(BOARDS[0], records)
    assert len(service.clients) == 2


def test_no_secret_shows() -> None:
    keys = BOARDS[0].keys
    assert repr(keys.seed)[2:-1] not in repr(keys)
    assert "noise" not in repr(keys)

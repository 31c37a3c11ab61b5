"""The decoders, each with good bytes to start from and the one error that it may raise.

A target says True for an input that it takes and False for one that it refuses; anything else that
it raises is a finding.  Where a signature or a seal would turn all damage away at the door, there
is a second target behind that door, as a hostile member with good keys would come in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from aegis_edge import proof
from aegis_edge.crypto import handshake as noise
from aegis_edge.crypto import ratchet, sodium
from aegis_edge.knowledge import operations
from aegis_edge.knowledge.inclusion import Inclusion, InclusionError
from aegis_edge.knowledge.operations import Barrier, Delete, OperationError, Put
from aegis_edge.net.channel import LinkError
from aegis_edge.net.frames import Parser, binary, close
from aegis_edge.net.tor import auth, levels, lines, service, vanguards
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import Facts, SecurityLevel
from aegis_edge.peers import address, armour, beacon, identity, onion, welcome
from aegis_edge.peers.address import AddressError
from aegis_edge.peers.genesis import Genesis, GenesisError, Parameters
from aegis_edge.peers.identity import IdentityError
from aegis_edge.peers.invitation import Invitation, InvitationError
from aegis_edge.peers.onion import OnionError
from aegis_edge.proof import ProofError
from aegis_edge.wire import codec, messages, session
from aegis_edge.wire import messages as say
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import PROTOCOL_VERSION, Opener, Signer, claimed
from aegis_edge.wire.session import SIZE_BUCKETS, Session, SessionError, Transmit
from tests import proofs

CLUSTER = bytes(range(32))


@dataclass(frozen=True)
class Target:
    """`weight` is its share of all inputs; `fit` gives most inputs the size of a transmission."""

    name: str
    weight: int
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], bool]
    fit: bool = False


def _blob(number: int) -> bytes:
    return bytes((number,)) * 32


def _believe(*_: bytes) -> bool:
    return True


# --- good bytes -------------------------------------------------------------------------------


@cache
def _voices() -> tuple[tuple[say.Verified[Any], ...], tuple[say.Carrier, ...]]:
    """One signed message of every kind, and one carrier of every kind."""
    signers = tuple(Signer(_blob(number), CLUSTER) for number in range(1, 5))
    one, two, three, four = signers
    record = say.NodeRecord(1, _blob(9), ("tcp:10.0.0.1:8080", "tcp:[::1]:80"), 2**31, "böard")
    bundle = one.sign(say.Bundle(1, 1, (b"put", bytes(300))))
    status = two.sign(say.Status(0, 3, True, 64, 70, 1_763_800_000_000, 40_000))
    commit = three.sign(say.Commit(0, 0, 1, _blob(7), 1_763_800_000_000))
    batch = say.Batch((status, commit), (bundle,))
    named = one.sign(say.PrePrepare(0, 3, 71, batch.digest))
    prepares = tuple(s.sign(say.Prepare(0, 3, 71, batch.digest)) for s in (two, three))
    commits = tuple(s.sign(say.Commit(0, 3, 71, batch.digest, 5)) for s in (one, two, three))
    checkpoints = tuple(s.sign(say.Checkpoint(0, 64, _blob(8))) for s in (one, two, three))
    prepared = say.PreparedCertificate(named, prepares)
    changes = tuple(s.sign(say.ViewChange(0, 4, 64, checkpoints, (prepared,))) for s in signers)
    signed = (
        four.sign(record),
        bundle,
        named,
        prepares[0],
        commit,
        checkpoints[0],
        changes[0],
        two.sign(say.NewView(0, 4, changes, (named,))),
        status,
        one.sign(say.FetchBatches(0, 5, 132)),
        one.sign(say.FetchBody(0, batch.digest)),
        two.sign(say.Gone(0, 5)),
        one.sign(say.FetchState(0, 64, 1, (b"\x01", b"\x02"))),
        two.sign(say.AskReadIndex(0, 1_763_800_000, 7)),
        one.sign(say.ReadIndex(0, 1_763_800_000, 7, 70)),
        one.sign(say.Pass(bytes(32), 1_763_800_000_000)),
    )
    carriers = (
        say.Proposal(named, batch),
        say.Committed(commits, batch),
        say.Body(batch),
        say.StableCheckpoint(checkpoints),
        say.StatePart(64, 1, b"pieces"),
        say.Follow(70, 1 << 20),
        say.Reached(71, 2, False, (bytes(32), bytes(range(32)))),
    )
    return signed, carriers


def _signed() -> tuple[bytes, ...]:
    return tuple(verified.raw for verified in _voices()[0])


def _carriers() -> tuple[bytes, ...]:
    return tuple(carrier.pack() for carrier in _voices()[1])


def _operations() -> tuple[bytes, ...]:
    return (
        Put("a/b", b"value").encode(),
        Put("notes/ä", b'{"x": 1}', operations.MEDIA_JSON, 7).encode(),
        Delete("a/b", None).encode(),
        Delete("a", 2**40).encode(),
        Barrier().encode(),
    )


def _values() -> tuple[bytes, ...]:
    return tuple(
        codec.encode(value)
        for value in (
            (5, 0, 3, 1234, _blob(7), 1_763_800_000_000),
            {1: -8, 4: _blob(1), "text": {"ä": None, "b": (True, False)}},
            ((((((1,),), 2), 3), 4), -1, -(2**63), 2**64 - 1),
            ((), tuple(bytes(size) for size in (0, 23, 24, 255, 256, 1000))),
            ["x" * size for size in (0, 23, 24, 300)],
            (0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32),
        )
    )


@cache
def _nodes(count: int) -> list[tuple[say.Verified[say.NodeRecord], bytes]]:
    found = []
    for number in range(1, count + 1):
        private = _blob(100 + number)
        key = sodium.x25519_public(private)
        record = say.NodeRecord(1, key, ("tcp:127.0.0.1:8080",), 2**31, f"n{number}")
        found.append((Signer(_blob(number), CLUSTER).sign(record), private))
    return found


def _addresses() -> tuple[bytes, ...]:
    hosts = (
        "192.168.1.20",
        "[2001:db8::1]",
        "[::ffff:127.0.0.1]",
        "board.local",
        "127.1",
        "0x7f.1",
    )
    return tuple(f"tcp:{host}:{port}".encode() for host in hosts for port in (1, 8080, 65535))


# --- floors 1 and 2 -----------------------------------------------------------------------------


def _codec(data: bytes) -> bool:
    try:
        value = codec.decode(data)
    except WireError:
        return False
    assert codec.encode(value) == data, "two encodings of one value"
    return True


def _opens(opener: Opener, known: tuple[bytes, ...] = ()) -> Callable[[bytes], bool]:
    """With `known`, anything else that is opened is a forgery."""

    def run(data: bytes) -> bool:
        try:
            verified = opener.open(data)
        except WireError:
            return False
        assert verified.raw == data
        assert not known or data in known, "a forged signature"
        return True

    return run


def _reads(opener: Opener) -> Callable[[bytes], bool]:
    def run(data: bytes) -> bool:
        try:
            messages.read(data, opener.open)
        except WireError:
            return False
        return True

    return run


def _in_envelopes(data: bytes) -> bool:
    """Any payload behind a good signature: what a member may sign."""
    header = codec.encode({1: -8, 4: _blob(1)})
    raw = codec.encode((header, {}, data, bytes(64)))
    return _opens(_forgetful())(raw)


def _claim(data: bytes) -> bool:
    """What is looked at before a signature is checked, in any payload."""
    header = codec.encode({1: -8, 4: _blob(1)})
    claims = [claimed(data), claimed(codec.encode((header, {}, data, bytes(64))))]
    return claims != [None, None]


@cache
def _forgetful() -> Opener:
    return Opener(CLUSTER, verify=_believe, memo_size=0)


def _payloads() -> tuple[bytes, ...]:
    return tuple(codec.decode(raw)[2] for raw in _signed())


def _operation(data: bytes) -> bool:
    try:
        operation = operations.decode(data)
    except OperationError:
        return False
    assert operation.encode() == data
    return True


def _genesis(data: bytes) -> bool:
    try:
        genesis = Genesis.from_text(data.decode("utf-8", "replace"))
    except GenesisError:
        return False
    assert Genesis.from_text(genesis.to_text()).cluster_id == genesis.cluster_id
    return True


def _inner_genesis(data: bytes) -> bool:
    """Good armour around any bytes, signatures believed."""
    text = armour.wrap("AEGIS-EDGE GENESIS", data)
    try:
        Genesis.from_text(text, Opener(b"", verify=_believe).open)
    except GenesisError:
        return False
    return True


def _proofs() -> tuple[bytes, ...]:
    of_founders = tuple(proofs.cluster().proof(key) for key in ("door", "gone", "never"))
    return (*of_founders, proofs.changed(2).proof("door"))


def _proof(data: bytes) -> bool:
    """Whatever holds was signed: of other keys than these, that they were never there."""
    made = proofs.cluster()
    try:
        said = proof.verify(data, made.genesis)
    except ProofError:
        return False
    assert said.version == made.shows(said.key).version, "a forged proof"
    return True


def _claimed_proof(data: bytes) -> bool:
    """What is read of a proof whose signatures are believed, held against a root of nothing."""
    try:
        proof.claimed(data)
    except ProofError:
        return False
    _, _, fields, _ = codec.decode(data)
    with suppress(InclusionError):
        Inclusion.parse(fields).check(bytes(32))
        raise AssertionError("it leads to a root of nothing")
    return True


_INVITATION = Invitation(_blob(1), _blob(2), ("tcp:10.0.0.1:8080",), bytes(16), 2**31, 7, bytes(16))


def _code(data: bytes) -> bool:
    try:
        found = Invitation.from_text(data.decode("utf-8", "replace"))
    except InvitationError:
        return False
    assert Invitation.from_text(found.to_text()) == found
    return True


def _words_of_a_guest() -> tuple[bytes, ...]:
    states = welcome.State
    return (
        welcome.question(_INVITATION, bytes(64), is_ready=True),
        welcome.Answer(states.WELCOME, genesis="genesis", records=(bytes(9),)).encode(),
        welcome.Answer(states.WAITING, number=3, yes=1, needed=2).encode(),
    )


def _words(data: bytes) -> bool:
    """What a host reads of anybody, and a newcomer of its host."""
    is_good = False
    with suppress(WireError):
        welcome.read_question(data).is_proven(bytes(64))
        is_good = True
    with suppress(WireError):
        assert welcome.read_answer(data).encode() == data
        is_good = True
    return is_good


@cache
def _beacons() -> tuple[bytes, ...]:
    record, _ = _nodes(1)[0]
    return tuple(beacon.seal(CLUSTER, raw, _blob(3)) for raw in (record.raw, b"", bytes(512)))


def _beacon(data: bytes) -> bool:
    """What anybody on the network sends to all; whoever does not know the cluster forges none."""
    try:
        beacon.read(CLUSTER, data)
    except WireError:
        return False
    assert data in _beacons(), "a forged beacon"
    return True


def _records(data: bytes) -> bool:
    try:
        identity.records_from_text(data.decode("utf-8", "replace"))
    except IdentityError:
        return False
    return True


def _address(data: bytes) -> bool:
    try:
        found = address.parse(data.decode("utf-8", "replace"))
    except AddressError:
        return False
    assert address.parse(str(found)) == found
    assert not (found.is_name and found.peculiarity not in ("", "loopback"))
    return True


def _node_id(data: bytes) -> bool:
    try:
        key = identity.parse_node_id(data.decode("utf-8", "replace"))
    except IdentityError:
        return False
    assert len(key) == 32
    return True


# --- a link -----------------------------------------------------------------------------------


def _first_bytes(data: bytes) -> bool:
    """What comes over a connection after the upgrade, from a server and from a client."""
    taken = False
    for masked in (False, True):
        parser = Parser(masked=masked)
        try:
            for start in range(0, len(data), 1000):
                parser.feed(data[start : start + 1000])
                while parser.next() is not None:
                    taken = True
        except LinkError:
            continue
    return taken


def _websocket_frames() -> tuple[bytes, ...]:
    return tuple(
        make(payload, mask)
        for payload in (b"", b"x" * 125, b"y" * 256, b"z" * 4096)
        for mask in (b"", b"mask")
        for make in (binary, lambda _, mask: close(1000, mask))
    )


@cache
def _states() -> dict[str, tuple[Session, bytes]]:
    """Each state of a session, and the transmission that it waits for."""
    (one, one_private), (two, two_private) = _nodes(2)
    entropy = random.Random(1)
    answering, hello = Session.initiate(one.raw, one_private, CLUSTER, entropy.randbytes(64))
    waiting = Session.respond(two.raw, two_private, CLUSTER, entropy.randbytes(64))
    proving, effects = waiting.received(hello)
    (answer,) = _transmitted(effects)
    initiator, effects = answering.received(answer)
    proof, confirmation = _transmitted(effects)
    confirming, _ = proving.received(proof)
    responder, _ = confirming.received(confirmation)
    _, frames = initiator.send((b"x" * 100, b"y" * 50), 0, bytes(32))
    return {
        "hello": (waiting, hello),
        "answer": (answering, answer),
        "proof": (proving, proof),
        "confirmation": (confirming, confirmation),
        "frame": (responder, frames[0]),
        "initiator": (initiator, b""),
    }


def _transmitted(effects: tuple[session.Effect, ...]) -> list[bytes]:
    return [effect.data for effect in effects if type(effect) is Transmit]


def _receives(state: Session, good: bytes | None = None) -> Callable[[bytes], bool]:
    """Given the `good` transmission, any other that is taken is a forgery."""

    def run(data: bytes) -> bool:
        try:
            state.received(data)
        except SessionError:
            return False
        assert good is None or data == good, "a forged transmission"
        return True

    return run


def _sealed(data: bytes) -> bool:
    """Any records, sealed by a member into an open session."""
    states = _states()
    initiator, (responder, _) = states["initiator"][0], states["frame"]
    assert initiator.ratchet is not None
    for size in SIZE_BUCKETS:
        if len(data) <= size - ratchet.OVERHEAD_BYTES:
            plaintext = data.ljust(size - ratchet.OVERHEAD_BYTES, b"\0")
            break
    else:
        plaintext = data[: SIZE_BUCKETS[-1] - ratchet.OVERHEAD_BYTES]
    frame = ratchet.encrypt(initiator.ratchet, plaintext, initiator.transcript)[1]
    return _receives(responder)(frame)


def _records_in_frames() -> tuple[bytes, ...]:
    def record(size: int, *, continues: bool = False) -> bytes:
        return (size | (continues << 31)).to_bytes(4, "big") + b"m" * size

    room = SIZE_BUCKETS[-1] - ratchet.OVERHEAD_BYTES
    return (
        record(100) + record(50),
        record(196),
        record(1) * 30,
        b"",
        record(10) + record(room - 18, continues=True),
    )


def _hello_payload(data: bytes) -> bool:
    """Any payload in a hello."""
    prologue = codec.encode(("aegis-edge", PROTOCOL_VERSION, CLUSTER))
    start = noise.start(
        "XX",
        "BLAKE2b",
        initiator=True,
        prologue=prologue,
        static=_blob(1),
        ephemeral=_blob(2),
    )
    _, hello = start.write(_fitted(data, 32))
    return _receives(_states()["hello"][0])(hello)


def _answer_payload(data: bytes) -> bool:
    """Any payload in an answer, from a responder with good keys."""
    answering = _states()["answer"][0]
    prologue = codec.encode(("aegis-edge", PROTOCOL_VERSION, CLUSTER))
    responder = noise.start(
        "XX",
        "BLAKE2b",
        initiator=False,
        prologue=prologue,
        static=_nodes(2)[1][1],
        ephemeral=_blob(3),
    )
    responder, _ = responder.read(_states()["hello"][1])
    _, answer = responder.write(_fitted(data, 96))
    return _receives(answering)(answer)


def _fitted(payload: bytes, overhead: int) -> bytes:
    room = next((s - overhead for s in SIZE_BUCKETS if len(payload) + overhead <= s), 4000)
    return payload[:room].ljust(room, b"\0")


def _handshake_payloads() -> tuple[bytes, ...]:
    public = sodium.x25519_public(_blob(2))
    proof = sodium.digest(b"aegis-edge hello", codec.encode((CLUSTER, public)))
    bodies = (codec.encode((PROTOCOL_VERSION, proof)), _nodes(2)[1][0].raw)
    return tuple(len(body).to_bytes(4, "big") + body for body in bodies)


# --- tor ----------------------------------------------------------------------------------------


def _onion(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    try:
        key = onion.parse(text)
    except OnionError:
        return False
    assert onion.address(key) == text.lower(), "two addresses of one service"
    return True


def _tor_answers() -> tuple[bytes, ...]:
    name = onion.service_address(_blob(1)).removesuffix(onion.SUFFIX)
    return (
        b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE "
        b'COOKIEFILE="/run/tor/\\"\\303\\244"\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n',
        b"250 AUTHCHALLENGE SERVERHASH=" + b"0f" * 32 + b" SERVERNONCE=" + b"A5" * 32 + b"\r\n",
        b"250-ServiceID="
        + name.encode()
        + b"\r\n250-ClientAuthV3="
        + b"A" * 52
        + b"\r\n250 OK\r\n",
        b"250-SocksPort=unix:/s ExtendedErrors\r\n250-Bridge\r\n250 UseBridges=0\r\n",
        b"250+ns/all=\r\nr n AAAAAAAAAAAAAAAAAAAAAAAAAAE d 2026-01-01 00:00:00 192.0.2.1 1 0\r\n"
        b"s Fast Running Stable Valid\r\nw Bandwidth=7\r\n.\r\n250 OK\r\n",
        b"650 HS_DESC FAILED " + name.encode() + b" UNKNOWN $AA~n id REASON=UPLOAD_REJECTED\r\n",
        b"552 Unrecognized key\r\n",
    )


def _tor(data: bytes) -> bool:
    """Whatever listens on the control port says this, and everybody reads it."""
    try:
        replies = lines.Parser().feed(data)
    except lines.Garbled:
        return False
    ours = service.Service(_blob(1), 80, "/s")
    level = SecurityLevel.PARANOID
    for reply in replies:
        with suppress(TorError):
            auth.protocol_info(reply)
        with suppress(TorError):
            auth.proof(reply, _blob(2), _blob(3))
        with suppress(TorError):
            service.check_added(ours, reply)
        service.present(reply)
        event = service.descriptor_event(reply)
        if event is not None:
            assert service.Publication(ours.address).after(event).words
        conf = {key: tuple(map(lines.unquoted, found)) for key, found in reply.values().items()}
        place = Endpoint(path="/s")
        assert levels.missing(level, Facts(reply.said, None, conf, place, place))
        vanguards.relays("\n".join(line.data or "" for line in reply.lines))
    return bool(replies)


# --- the table ----------------------------------------------------------------------------------


@cache
def targets() -> dict[str, Target]:
    """All of them, by name."""
    nodes = _nodes(4)
    genesis = Genesis.of([record for record, _ in nodes], Parameters(1, bytes(16)))
    ids = tuple(identity.node_id(record.signer).encode() for record, _ in nodes)
    records = tuple(identity.record_to_text(record).encode() for record, _ in nodes)
    states = _states()
    strict = Opener(CLUSTER, memo_size=64)
    believing = Opener(CLUSTER, verify=_believe, memo_size=64)
    found = [
        Target("codec", 400, (*_values(), *_signed(), *_carriers()), _codec),
        Target("envelope", 120, _signed(), _opens(strict, _signed())),
        Target("envelope, believed", 80, _signed(), _opens(believing)),
        Target("payload, believed", 80, _payloads(), _in_envelopes),
        Target("claim of a vote", 60, (*_payloads(), *_signed()), _claim),
        Target("message", 80, (*_signed(), *_carriers()), _reads(strict)),
        Target("message, believed", 80, (*_signed(), *_carriers()), _reads(believing)),
        Target("operation", 80, _operations(), _operation),
        Target("genesis", 20, (genesis.to_text().encode(),), _genesis),
        Target("genesis, in armour", 20, (genesis.encoded,), _inner_genesis),
        Target("proof", 20, _proofs(), _proof),
        Target("proof, believed", 40, _proofs(), _claimed_proof),
        Target("node record", 20, records, _records),
        Target("node id", 20, ids, _node_id),
        Target("invitation", 20, (_INVITATION.to_text().encode(),), _code),
        Target("newcomer and host", 40, _words_of_a_guest(), _words),
        Target("beacon", 20, _beacons(), _beacon),
        Target("address", 20, _addresses(), _address),
        Target("onion address", 20, (onion.service_address(_blob(1)).encode(),), _onion),
        Target("tor's answers", 60, _tor_answers(), _tor),
        Target("first bytes", 60, _websocket_frames(), _first_bytes),
        Target("records in frames", 30, _records_in_frames(), _sealed),
        Target("payload of a hello", 6, _handshake_payloads(), _hello_payload),
        Target("payload of an answer", 6, _handshake_payloads(), _answer_payload),
    ]
    found += [
        Target(f"session: {name}", 10, (good,), _receives(state, good), fit=True)
        for name, (state, good) in states.items()
        if good
    ]
    return {target.name: target for target in found}

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.net.tor import lines, service
from aegis_edge.net.tor.errors import Refused, TorError
from aegis_edge.net.tor.levels import ProofOfWork
from aegis_edge.net.tor.lines import Garbled, Parser, Reply
from aegis_edge.net.tor.service import DescriptorEvent, Publication, Service, Stage
from aegis_edge.peers import onion

SEED = bytes(range(32))
OURS = Service(SEED, 80, "/run/aegis-edge/onion.sock")
NAME = OURS.address.removesuffix(".onion")


def reply(data: bytes) -> Reply:
    (found,) = Parser().feed(data)
    return found


def event(action: str, directory: str = "$AA~nick", rest: str = "", name: str = NAME) -> Reply:
    return reply(f"650 HS_DESC {action} {name} UNKNOWN {directory} DESCID{rest}\r\n".encode())


def publication(events: Iterable[Reply]) -> Publication:
    found = Publication(OURS.address)
    for one in events:
        parsed = service.descriptor_event(one)
        assert parsed is not None
        found = found.after(parsed)
    return found


# --- commands ---------------------------------------------------------------------------------


def test_a_service_for_everybody() -> None:
    name, key, *rest = service.add(OURS)
    assert name == "ADD_ONION" and key.startswith("ED25519-V3:") and len(key) == 11 + 88
    assert rest == [
        "Flags=DiscardPK,MaxStreamsCloseCircuit",
        "MaxStreams=16",
        "Port=80,unix:/run/aegis-edge/onion.sock",
    ]
    assert "Detach" not in str(service.add(OURS)) and str(SEED) not in repr(OURS)


def test_a_service_for_members_that_have_to_work() -> None:
    clients = (bytes(32), bytes(range(32)))
    words = service.add(Service(SEED, 80, "/x", clients, 8, ProofOfWork(10, 100)))
    assert words[2:] == (
        "Flags=DiscardPK,MaxStreamsCloseCircuit,V3Auth",
        "MaxStreams=8",
        "Port=80,unix:/x",
        "PoWDefensesEnabled=1",
        "PoWQueueRate=10",
        "PoWQueueBurst=100",
        f"ClientAuthV3={'A' * 52}",
        f"ClientAuthV3={onion.authorised_client(clients[1])}",
    )
    lines.command(*words)


def test_the_largest_service_fits_into_a_line_of_tors() -> None:
    clients = tuple(number.to_bytes(32, "big") for number in range(service.CLIENTS_MAX))
    many = Service(SEED, 65_535, "/" + "x" * 106, clients, 65_535, ProofOfWork(1, 2))
    assert len(lines.command(*service.add(many))) < 65_536


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/",
        "relative",
        "/a b",
        "/a,b",
        '/a"b',
        "/a\r\nSIGNAL HALT",
        "/ä",
        "/a\\b",
        "/" + "x" * 107,
    ],
)
def test_a_target_that_could_break_out_is_refused(target: str) -> None:
    with pytest.raises(TorError, match="cannot be the target of an onion service"):
        service.add(Service(SEED, 80, target))


@given(st.text(max_size=120))
def test_any_target_is_one_word_or_refused(target: str) -> None:
    try:
        words = service.add(Service(SEED, 80, target))
    except TorError:
        return
    assert lines.command(*words).count(b" ") == len(words) - 1


def test_misuse_is_an_assertion() -> None:
    for wrong in (Service(SEED, 0, "/x"), Service(SEED, 80, "/x", (bytes(32),) * 331)):
        with pytest.raises(AssertionError):
            service.add(wrong)


def test_tor_has_to_confirm_the_same_service() -> None:
    client = bytes(32)
    protected = Service(SEED, 80, "/x", (client,))
    good = f"250-ServiceID={NAME}\r\n250-ClientAuthV3={'A' * 52}\r\n250 OK\r\n".encode()
    service.check_added(protected, reply(good))
    service.check_added(OURS, reply(f"250-ServiceID={NAME}\r\n250 OK\r\n".encode()))
    for wrong, answer in [
        (OURS, good),
        (protected, f"250-ServiceID={NAME}\r\n250 OK\r\n".encode()),
        (OURS, b"250 OK\r\n"),
        (OURS, b"250-ServiceID=" + b"a" * 56 + b"\r\n250 OK\r\n"),
    ]:
        with pytest.raises(TorError, match="confirms another service"):
            service.check_added(wrong, reply(answer))


def test_refusals_are_explained() -> None:
    collision = service.explained(Refused("ADD_ONION", 550, "Onion address collision"))
    assert "stop the other aegis-edge" in collision.advice
    old = Refused("ADD_ONION", 512, 'Unrecognized keyword argument "PoWDefensesEnabled"')
    assert "update tor to 0.4.9.2" in service.explained(old).advice
    other = Refused("ADD_ONION", 551, "Failed")
    assert service.explained(other) is other


def test_what_is_there_already() -> None:
    none = reply(b"250-onions/current=\r\n250-onions/detached=\r\n250 OK\r\n")
    assert service.present(none) == set()
    some = reply(b"250+onions/current=\r\na\r\nb\r\n.\r\n250-onions/detached=c\r\n250 OK\r\n")
    assert service.present(some) == {"a.onion", "b.onion", "c.onion"}
    assert service.remove(OURS.address) == ("DEL_ONION", NAME)


def test_credentials_for_a_service_of_others() -> None:
    assert service.authorise(OURS.address, bytes(32)) == (
        "ONION_CLIENT_AUTH_ADD",
        NAME,
        "x25519:" + "A" * 43 + "=",
    )
    assert service.deauthorise(OURS.address) == ("ONION_CLIENT_AUTH_REMOVE", NAME)
    with pytest.raises(onion.OnionError):
        service.authorise("example.com", bytes(32))


@pytest.mark.parametrize(("private", "last"), [(None, 1), (bytes(32), 2)])
def test_a_descriptor_goes_with_a_key_and_the_right_key_stays(
    private: bytes | None, last: int
) -> None:
    commands = service.forget(OURS.address, private)
    assert commands[1] == service.deauthorise(OURS.address)
    assert len(commands) == last + 1
    if private is not None:
        assert commands[last] == service.authorise(OURS.address, private)


def test_a_newnym_and_a_reload_have_tor_forget_keys_and_no_other_signal() -> None:
    assert service.is_purge(reply(b"650 SIGNAL NEWNYM\r\n"))
    assert service.is_purge(reply(b"650 SIGNAL RELOAD\r\n"))
    assert not service.is_purge(reply(b"650 SIGNAL DUMP\r\n"))
    assert not service.is_purge(event("UPLOAD"))


def test_the_keys_that_tor_holds_are_read() -> None:
    name = onion.service_address(bytes([5]) * 32)
    said = (
        b"250-ONION_CLIENT_AUTH_VIEW\r\n"
        b"250-CLIENT " + name.removesuffix(".onion").encode() + b" x25519:AAAA Flags=x\r\n"
        b"250-CLIENT\r\n250 OK\r\n"
    )
    assert service.authorised(reply(said)) == {name}
    assert service.authorised(reply(b"250-ONION_CLIENT_AUTH_VIEW\r\n250 OK\r\n")) == frozenset()


# --- descriptors --------------------------------------------------------------------------------


def test_an_event_is_read() -> None:
    assert service.descriptor_event(event("FAILED", rest=" REASON=UPLOAD_REJECTED")) == (
        DescriptorEvent("FAILED", OURS.address, "$AA~nick", "UPLOAD_REJECTED")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"650 NOTICE x\r\n",
        b"650 HS_DESC UPLOAD\r\n",
        b"650 HS_DESC UPLOAD UNKNOWN UNKNOWN $AA\r\n",
        b'650 HS_DESC UPLOAD a b REASON="\r\n',
    ],
)
def test_another_event_is_passed_over(data: bytes) -> None:
    assert service.descriptor_event(reply(data)) is None


def test_a_descriptor_is_published_once_one_directory_has_it() -> None:
    assert publication([]).stage is Stage.ADDED
    seen = publication([event("CREATED", "UNKNOWN"), event("UPLOAD"), event("UPLOAD", "$BB")])
    assert seen.stage is Stage.UPLOADING and "on its way" in seen.words
    seen = publication(
        [event("UPLOAD"), event("UPLOAD", "$BB"), event("FAILED", "$BB"), event("UPLOADED")]
    )
    assert seen.stage is Stage.PUBLISHED and "in 1 of" in seen.words
    assert seen.failed == {"$BB": "UNKNOWN"}


def test_a_descriptor_that_all_refuse_has_failed_until_it_is_sent_again() -> None:
    refused = [
        event("UPLOAD"),
        event("UPLOAD", "$BB"),
        event("FAILED", "$AA~nick", " REASON=UPLOAD_REJECTED"),
    ]
    assert publication(refused).stage is Stage.UPLOADING
    refused.append(event("FAILED", "$BB", " REASON=STRANGE"))
    seen = publication(refused)
    assert seen.stage is Stage.FAILED
    assert "is this board's clock right?" in seen.words and "reason STRANGE" in seen.words
    assert publication([*refused, event("UPLOAD", "$BB")]).stage is Stage.UPLOADING


def test_events_of_others_and_unasked_ones_change_nothing() -> None:
    other = onion.service_address(bytes(32)).removesuffix(".onion")
    assert publication([event("UPLOAD", name=other), event("UPLOADED", name=other)]) == (
        Publication(OURS.address)
    )
    # RECEIVED and FAILED come for descriptors that we fetch, too: even for our own, by a self-dial.
    unasked = [event("UPLOADED"), event("FAILED", rest=" REASON=NOT_FOUND"), event("RECEIVED")]
    assert publication(unasked) == Publication(OURS.address)


def test_a_long_life_collects_no_directories() -> None:
    seen = publication(
        one for n in range(500) for one in (event("UPLOAD", f"${n}"), event("UPLOADED", f"${n}"))
    )
    assert seen.stage is Stage.PUBLISHED and len(seen.tried) <= 64


@given(st.lists(st.sampled_from([*NAME[:3], NAME, "UPLOAD", "$A", '"', "x=", "HS_DESC"])))
def test_any_event_is_read_or_passed_over(words: list[str]) -> None:
    try:
        replies = Parser().feed(f"650 HS_DESC {' '.join(words)}\r\n".encode())
    except Garbled:
        return
    for found in replies:
        parsed = service.descriptor_event(found)
        if parsed is not None:
            Publication(OURS.address).after(parsed)

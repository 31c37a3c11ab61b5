"""Who is no member gets in with a member's word, to a place that is nobody else's."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock

from aegis_edge.net.introductions import OBSERVER, PASS
from aegis_edge.net.links import (
    LOOK_TICKS,
    OBSERVER_PIECES_BYTES_MAX,
    OBSERVER_QUEUE_BYTES_MAX,
    UNVOUCHED_TICKS,
    UNWANTED_TICKS,
    Arrived,
    LinkClosed,
    LinkOpened,
    Links,
)
from aegis_edge.peers.observers import PASS_MS, PLACES
from aegis_edge.wire import codec
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import Pass, Status, Verified
from tests.net.network import (
    CLUSTER,
    Member,
    MemoryNetwork,
    Taker,
    next_event,
    running,
    send,
    until,
)

NOW = 1_800_000_000_000
HOST, MEMBER, GUEST, OTHER = (Member(seed, (f"tcp:board{seed}:1",)) for seed in (1, 2, 3, 4))
MEMBERS = (HOST, MEMBER)


def place(member: Member) -> str:
    return f"tcp:board{member.seed}:1"


def given(
    to: Member = GUEST, by: Member = HOST, until_ms: int = NOW + 1, cluster_id: bytes = CLUSTER
) -> Verified[Pass]:
    return Signer(bytes([by.seed]) * 32, cluster_id).sign(Pass(to.key, until_ms))


class Time:
    """Agreed time, as all of them know it."""

    def __init__(self) -> None:
        self.now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


def node(
    member: Member,
    network: MemoryNetwork,
    agreed_ms: Time | None = None,
    members: Iterable[Member] = MEMBERS,
) -> Links:
    """The links of a member, or of who is none."""
    records = [each.record for each in members]
    links = member.links([r for r in records if r.signer != member.key], {"tcp": network})
    links.door.agreed_ms = agreed_ms or Time()
    links.meet(records, 1)
    return links


def follower(
    network: MemoryNetwork,
    member: Member = GUEST,
    host: Member = HOST,
    shown: Verified[Pass] | None = None,
    wants: Iterable[Member] = (),
    agreed_ms: Time | None = None,
) -> Links:
    """The links of one that was invited by `host`, and has this pass."""
    links = node(member, network, agreed_ms)
    links.door.follow(host.record, b"" if shown is None else shown.raw, 0)
    links.want(frozenset(each.key for each in wants))
    return links


def linked(links: Links) -> set[bytes]:
    return {each.peer for each in links.statistics() if each.state == "linked"}


async def closed(links: Links, by: Member) -> str:
    """Why the link to this one ended, or was none."""
    with trio.fail_after(200):
        while True:
            found = await until(links, LinkClosed, timeout_s=200)
            if found.peer == by.key:
                return str(found.reason)


# --- who gets in --------------------------------------------------------------------------------


async def test_who_shows_a_members_pass_is_let_in_by_another_and_both_talk(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        assert (await until(member, LinkOpened))[:2] == (GUEST.key, GUEST.record)
        await until(guest, LinkOpened)
        send(guest, MEMBER.key, b"\x80to")
        assert await until(member, Arrived) == Arrived(GUEST.key, b"\x80to")
        send(member, GUEST.key, b"\x80fro")
        assert await until(guest, Arrived) == Arrived(MEMBER.key, b"\x80fro")
        roles = {each.peer: each.role for each in member.statistics()}
        assert roles == {HOST.key: "member", GUEST.key: "observer"}
        assert [record.signer for record in member.records()] == [HOST.key]


BAD = {
    "forged": Signer(bytes([MEMBER.seed]) * 32, CLUSTER).sign(Pass(GUEST.key, NOW + 1)).raw[:-1]
    + b"\x00",
    "of another cluster": given(cluster_id=b"d" * 32).raw,
    "ended": given(until_ms=NOW).raw,
    "for too long": given(until_ms=NOW + 10 * PASS_MS).raw,
    "of another board": given(to=OTHER).raw,
    "of a removed member": given(by=OTHER).raw,
    "its own word": given(by=GUEST).raw,
    "another kind": Signer(bytes([1]) * 32, CLUSTER).sign(Status(0, 0, False, 0, 0, 0)).raw,
    "a record": HOST.record.raw,
    "noise": b"\xff" * 300,
    "nothing": b"",
}


@pytest.mark.parametrize("shown", BAD.values(), ids=BAD)
async def test_any_other_pass_opens_nothing_and_nothing_from_it_counts(
    shown: bytes, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = MemoryNetwork()
    member, guest = node(MEMBER, network), follower(network, wants=[MEMBER])
    monkeypatch.setattr(guest.door, "first", lambda: lambda _: PASS + shown)
    async with running((member, [place(MEMBER)]), (guest, [])):
        assert "does not count us a member" in await closed(guest, MEMBER)
        assert member.refused
        assert Taker.of(member).events.statistics().current_buffer_used == 0
        assert [each.peer for each in member.statistics()] == [HOST.key]
        assert GUEST.key not in member.door.observers


async def test_its_host_needs_no_pass_and_gives_one_which_others_take(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    host, member = node(HOST, network), node(MEMBER, network)
    guest = follower(network)
    kept: list[Verified[Pass]] = []
    guest.door.granted = kept.append
    first, second = given(), given(until_ms=NOW + PASS_MS)
    async with running((host, [place(HOST)]), (member, [place(MEMBER)]), (guest, [])):
        assert "does not count us" in await closed(guest, HOST), "it vouches for nobody yet"
        host.vouch({GUEST.key: first})
        while kept != [first]:
            await trio.sleep(0.1)
        guest.want(frozenset((MEMBER.key,)))
        while GUEST.key not in linked(member):
            await trio.sleep(0.1)
        assert member.door.observers[GUEST.key] == first
        host.vouch({GUEST.key: second})
        while member.door.observers[GUEST.key] != second:
            await trio.sleep(0.1)
        assert kept == [first, second], "what is new is shown to all at once"
        while GUEST.key in linked(host):
            await trio.sleep(1)
        guest.want(frozenset((MEMBER.key, HOST.key)))
        while GUEST.key not in linked(host):
            await trio.sleep(0.1)
        host.vouch({})
        while GUEST.key in linked(host):
            await trio.sleep(0.1)
        refused = host.refused
        while host.refused < refused + 3:
            await trio.sleep(1)
        assert GUEST.key not in linked(host), "whatever it shows"
        assert GUEST.key in linked(member), "until its pass ends"


async def test_only_the_host_gives_passes(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        await until(guest, LinkOpened)
        for shown in (given(by=MEMBER, until_ms=NOW + PASS_MS), given(until_ms=NOW + PASS_MS)):
            send(member, GUEST.key, PASS + shown.raw)
        send(member, GUEST.key, b"\x80end")
        await until(guest, Arrived)
        assert guest.door.observers.word == given()
        send(guest, MEMBER.key, PASS + given(to=OTHER).raw)
        send(guest, MEMBER.key, b"\x80end")
        await until(member, Arrived)
        assert OTHER.key not in member.door.observers, "of others nobody brings passes so"


async def test_who_was_told_of_nobody_takes_the_first_who_vouches_for_it(
    autojump_clock: MockClock,
) -> None:
    """A node that ran when its owner had it join."""
    network = MemoryNetwork()
    host, guest = node(HOST, network), node(GUEST, network)
    guest.want(frozenset())
    host.vouch({GUEST.key: given()})
    async with running((host, [place(HOST)]), (guest, [])):
        while guest.door.observers.word != given():
            await trio.sleep(0.1)
        assert guest.door.observers.host == HOST.key
        assert guest.record_of(HOST.key) == HOST.record


async def test_a_member_shows_no_pass_and_takes_none(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    host, member = node(HOST, network), node(MEMBER, network)
    async with running((host, [place(HOST)]), (member, [])):
        await until(host, LinkOpened)
        send(host, MEMBER.key, PASS + given(to=MEMBER).raw)
        send(host, MEMBER.key, b"\x80end")
        await until(member, Arrived)
        assert member.door.observers.word is None
        assert member.door.first() is None


async def test_an_old_record_does_not_come_in_with_a_good_pass(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    member.door.observers.guests = frozenset((GUEST.key,))
    member._book.vouch(GUEST.says((), 2), 0)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        assert "refuses our node record" in await closed(guest, MEMBER)


# --- how it ends --------------------------------------------------------------------------------


async def test_a_link_lasts_as_long_as_somebody_vouches_for_it(autojump_clock: MockClock) -> None:
    network, agreed_ms = MemoryNetwork(), Time()
    member = node(MEMBER, network, agreed_ms)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        await until(member, LinkOpened)
        agreed_ms.now_ms = NOW + 1
        began = trio.current_time()
        await closed(member, GUEST)
        waited = (trio.current_time() - began) * 1000
        assert UNVOUCHED_TICKS <= waited <= UNVOUCHED_TICKS + 2 * LOOK_TICKS
        while GUEST.key in {each.peer for each in member.statistics()}:
            await trio.sleep(1)
        assert GUEST.key not in member.door.observers, "and then nothing is kept of it"
        assert GUEST.key not in member._traffic
        member.post(GUEST.key, b"\x80lost")
        assert GUEST.key not in member._traffic


async def test_a_new_pass_comes_in_time(autojump_clock: MockClock) -> None:
    """The agreed time leaps when boards wake up; who vouches notices that a moment later."""
    network, agreed_ms = MemoryNetwork(), Time()
    member = node(MEMBER, network, agreed_ms)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        await until(member, LinkOpened)
        agreed_ms.now_ms = NOW + 1
        await trio.sleep((UNVOUCHED_TICKS - LOOK_TICKS) / 1000)
        send(guest, MEMBER.key, PASS + given(until_ms=NOW + PASS_MS).raw)
        await trio.sleep(2 * UNVOUCHED_TICKS / 1000)
        assert GUEST.key in linked(member)


async def test_when_its_member_is_removed_its_guests_go(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        await until(member, LinkOpened)
        member.meet([MEMBER.record], 1)
        await closed(member, GUEST)
        assert "does not count us a member" in await closed(guest, MEMBER)


async def test_who_is_let_in_keeps_its_link(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    host = node(HOST, network)
    guest = follower(network, shown=given())
    host.vouch({GUEST.key: given()})
    everybody = [each.record for each in (*MEMBERS, GUEST)]
    heard: list[bytes] = []
    host.heard = heard.append
    async with running((host, [place(HOST)]), (guest, [place(GUEST)])):
        await until(host, LinkOpened)
        send(guest, HOST.key, b"\x80as an observer")
        await until(host, Arrived)
        assert heard == []
        for links in (host, guest):
            links.meet(everybody, 1)
        guest.want(None)
        host.vouch({})
        await trio.sleep(2 * UNVOUCHED_TICKS / 1000)
        (seen,) = (each for each in host.statistics() if each.peer == GUEST.key)
        assert (seen.state, seen.role, seen.traffic.links) == ("linked", "member", 1)
        assert heard == [GUEST.key]


# --- whom an observer calls ---------------------------------------------------------------------


async def test_it_calls_whom_its_core_wants_and_leaves_whom_it_does_not(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    host, member = node(HOST, network), node(MEMBER, network)
    long = given(until_ms=NOW + PASS_MS)
    guest = follower(network, shown=long, wants=[MEMBER])
    async with running((host, [place(HOST)]), (member, [place(MEMBER)]), (guest, [])):
        await until(member, LinkOpened)
        await trio.sleep(100)
        assert linked(guest) == {MEMBER.key}
        assert GUEST.key not in {each.peer for each in host.statistics()}
        host.vouch({GUEST.key: long})
        guest.want(frozenset((HOST.key,)))
        began = trio.current_time()
        await closed(member, GUEST)
        assert trio.current_time() - began >= UNWANTED_TICKS / 1000
        assert linked(guest) == {HOST.key}


async def test_it_calls_its_host_before_its_pass_ends(autojump_clock: MockClock) -> None:
    network, agreed_ms = MemoryNetwork(), Time()
    host, member = node(HOST, network), node(MEMBER, network)
    guest = follower(
        network, shown=given(until_ms=NOW + PASS_MS), wants=[MEMBER], agreed_ms=agreed_ms
    )
    later = given(until_ms=NOW + 2 * PASS_MS)
    host.vouch({GUEST.key: later})
    async with running((host, [place(HOST)]), (member, [place(MEMBER)]), (guest, [])):
        await until(member, LinkOpened)
        agreed_ms.now_ms = NOW + PASS_MS * 3 // 4
        while guest.door.observers.word != later:
            await trio.sleep(1)
        await trio.sleep(60)
        assert linked(guest) == {MEMBER.key}, "and only for that"


async def test_when_it_wants_nobody_it_calls_its_host(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    host = node(HOST, network)
    host.vouch({GUEST.key: given()})
    guest = follower(network, shown=given(until_ms=NOW + PASS_MS))
    async with running((host, [place(HOST)]), (guest, [])):
        assert (await until(guest, LinkOpened)).peer == HOST.key


async def test_where_nobody_but_its_host_is_found_it_calls_that_one(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    host = node(HOST, network)
    host.vouch({GUEST.key: given()})
    guest = follower(network, shown=given(until_ms=NOW + PASS_MS))
    guest.door.is_host_alone = True
    guest.want(frozenset((MEMBER.key, HOST.key)))
    async with running((host, [place(HOST)]), (guest, [])):
        told = [await next_event(guest) for _ in range(2)]
        assert told[0] == LinkClosed(MEMBER.key, "it is not found from here")
        assert (type(told[1]), told[1].peer) == (LinkOpened, HOST.key)
        await trio.sleep(60)
        assert linked(guest) == {HOST.key}
        (member,) = (each for each in guest.statistics() if each.peer == MEMBER.key)
        assert (member.state, member.last_error) == ("expected", "")


async def test_a_call_in_vain_is_told_at_once(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    guest = follower(network, shown=given(until_ms=NOW + PASS_MS), wants=[MEMBER])
    async with running((guest, [])):
        assert await next_event(guest) == LinkClosed(MEMBER.key, "nobody listens there")


async def test_whom_nobody_has_introduced_cannot_be_called(autojump_clock: MockClock) -> None:
    guest = follower(MemoryNetwork(), shown=given(), wants=[OTHER])
    async with running((guest, [])):
        assert await closed(guest, OTHER) == "it is not found from here"


async def test_one_who_was_never_invited_calls_all_members(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    stranger = node(OTHER, network)
    stranger.want(frozenset((MEMBER.key,)))
    async with running((stranger, [])):
        await trio.sleep(1)
        assert {to for _, to in network.dials} == {place(HOST), place(MEMBER)}


# --- whom they may follow instead -----------------------------------------------------------------


async def test_a_member_leads_an_observer_to_another_which_takes_it(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    far = NOW + PASS_MS
    first = follower(network, OTHER, shown=given(to=OTHER, until_ms=far), wants=[MEMBER])
    second = follower(network, GUEST, shown=given(until_ms=far), wants=[MEMBER])
    async with running(
        (member, [place(MEMBER)]), (first, [place(OTHER)]), (second, [place(GUEST)])
    ):
        for _ in range(2):
            await until(member, LinkOpened)
        await until(second, LinkOpened)
        member.introduce(GUEST.key, (OTHER.key, HOST.key, b"?" * 32))
        member.introduce(b"?" * 32, (OTHER.key,))
        member.flush()
        second.want(frozenset((OTHER.key,)))
        assert (await until(second, LinkOpened)).peer == OTHER.key
        sent = member._open[GUEST.key].told
        member.introduce(GUEST.key, (OTHER.key,))
        assert (sent, member._open[GUEST.key].told) == (1, 1), "it knows that"
        send(first, GUEST.key, b"\x80certificate")
        assert (await until(second, Arrived)).peer == OTHER.key


async def test_a_host_introduces_its_guests_by_the_passes_that_it_gave(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    host = node(HOST, network)
    host.vouch({GUEST.key: given(), OTHER.key: given(to=OTHER)})
    first, second = follower(network, OTHER), follower(network, GUEST)
    async with running((host, [place(HOST)]), (first, []), (second, [])):
        for _ in range(2):
            await until(host, LinkOpened)
        while GUEST.key not in host._open:
            await trio.sleep(0.1)
        host.introduce(GUEST.key, (OTHER.key,))
        host.flush()
        while OTHER.key not in second.door.observers:
            await trio.sleep(0.1)
        assert second.record_of(OTHER.key) == OTHER.record


def introduction(by: Member, record: bytes, shown: Verified[Pass]) -> bytes:
    return OBSERVER + codec.encode((record, shown.raw))


async def test_introductions_without_a_good_pass_are_worth_nothing(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        await until(guest, LinkOpened)
        for shown in (given(), given(to=OTHER, until_ms=NOW), given(to=OTHER, by=OTHER)):
            send(member, GUEST.key, introduction(MEMBER, OTHER.record.raw, shown))
        send(guest, MEMBER.key, introduction(GUEST, OTHER.record.raw, given(to=OTHER)))
        for links, peer in ((member, GUEST), (guest, MEMBER)):
            send(links, peer.key, b"\x80end")
        for links in (member, guest):
            await until(links, Arrived)
            assert OTHER.key not in links._book, "and a member needs nobody's"
        newer = OTHER.says(("tcp:moved:1",), 2)
        good = given(to=OTHER)
        for record in (OTHER.record, newer, OTHER.record):
            send(member, GUEST.key, introduction(MEMBER, record.raw, good))
        send(member, GUEST.key, b"\x80end")
        await until(guest, Arrived)
        assert guest.record_of(OTHER.key) == newer


@pytest.mark.parametrize(
    "said",
    [
        PASS,
        PASS + b"noise",
        PASS + HOST.record.raw,
        OBSERVER,
        OBSERVER + codec.encode((b"",)),
        OBSERVER + codec.encode((b"", 7)),
        OBSERVER + codec.encode((HOST.record.raw, b"")),
        OBSERVER + codec.encode((given().raw, given().raw)),
    ],
)
async def test_who_shows_what_is_no_pass_loses_its_link(
    said: bytes, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    member = node(MEMBER, network)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, [])):
        await until(guest, LinkOpened)
        send(guest, MEMBER.key, said)
        assert "what is no pass" in await closed(member, GUEST)


# --- places -------------------------------------------------------------------------------------


def observers_of(by: Member, first: int, count: int) -> list[tuple[Member, Verified[Pass]]]:
    found = [Member(first + n, ()) for n in range(count)]
    return [(each, given(to=each, by=by, until_ms=NOW + PASS_MS)) for each in found]


async def test_a_flood_of_observers_takes_no_place_of_a_member_nor_of_anothers_guest(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = MemoryNetwork()
    member = node(MEMBER, network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, member, [place(MEMBER)])
        for each, shown in observers_of(HOST, 100, PLACES + 6):
            nursery.start_soon(serve, follower(network, each, shown=shown, wants=[MEMBER]), [])
        while len(linked(member)) < PLACES:
            await trio.sleep(0.1)
        await trio.sleep(30)
        assert len(linked(member)) == PLACES
        nursery.start_soon(serve, node(HOST, network), [])
        ((mine, shown),) = observers_of(MEMBER, 50, 1)
        member.vouch({mine.key: shown})
        nursery.start_soon(serve, follower(network, mine, MEMBER, shown, [MEMBER]), [])
        while not {HOST.key, mine.key} <= linked(member):
            await trio.sleep(0.1)
        await trio.sleep(60)
        assert {HOST.key, mine.key} <= linked(member)
        assert len(linked(member)) == PLACES + 1
        nursery.cancel_scope.cancel()


async def serve(links: Links, listen: list[str]) -> None:
    async with running((links, listen)):
        await trio.sleep_forever()


async def test_what_waits_for_an_observer_is_less_than_for_a_member(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    member, host = node(MEMBER, network), node(HOST, network)
    guest = follower(network, shown=given(), wants=[MEMBER])
    async with running((member, [place(MEMBER)]), (guest, []), (host, [])):
        for _ in range(2):
            await until(member, LinkOpened)
        for peer, fits in ((GUEST, False), (HOST, True)):
            for _ in range(2):
                member.post(peer.key, b"\x80" + bytes(OBSERVER_QUEUE_BYTES_MAX // 2))
            assert member._traffic[peer.key].dropped == (0 if fits else 1)


async def test_a_member_keeps_little_of_what_an_observer_says_at_length(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    member, host = node(MEMBER, network), node(HOST, network)
    far = NOW + PASS_MS
    guest = follower(network, shown=given(until_ms=far), wants=[MEMBER])
    other = follower(network, OTHER, shown=given(to=OTHER, until_ms=far), wants=[GUEST])
    other._book.vouch(GUEST.record, 0)
    other.door.observers.show(given(until_ms=far), GUEST.key, NOW)
    much = b"\x80" + bytes(4 * OBSERVER_PIECES_BYTES_MAX)
    async with running(
        (member, [place(MEMBER)]), (guest, [place(GUEST)]), (other, []), (host, [place(HOST)])
    ):
        for _ in range(2):
            await until(member, LinkOpened)
        send(host, MEMBER.key, much)
        assert (await until(member, Arrived)).raw == much
        while GUEST.key not in linked(other):
            await trio.sleep(0.1)
        send(guest, OTHER.key, much)
        assert (await until(other, Arrived)).raw == much, "a batch, from whom it follows"
        send(guest, MEMBER.key, much)
        assert "more than who only follows" in await closed(member, GUEST)


# --- at start -----------------------------------------------------------------------------------


async def test_a_host_whose_record_is_of_no_use_is_not_called() -> None:
    links = node(GUEST, MemoryNetwork(), members=[MEMBER])
    links.door.follow(HOST.says(("nonsense",), 1), b"noise", 0)
    assert HOST.key not in links._book
    assert links.door.observers.word is None
    links.door.follow(HOST.record, given().raw, 0)
    assert HOST.key in links._book, "though it is no member that is known here"
    assert {each.peer: each.role for each in links.statistics()} == {
        MEMBER.key: "member",
        HOST.key: "host",
    }
    assert links.door.refusal(HOST.key) == ""
    assert links.door.knows(HOST.key)
    assert links.door.observers.word == given()

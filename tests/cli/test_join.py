"""`join`: the newcomer's way, with a host that says what the test has it say.

With real hosts: tests/test_invitations.py.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from aegis_edge import config, way
from aegis_edge.cli import join
from aegis_edge.config import Config
from aegis_edge.disk import hostfile, keyfile, waypointfile
from aegis_edge.disk.hostfile import Host
from aegis_edge.home import own_record
from aegis_edge.net import guest
from aegis_edge.net.channel import LinkError
from aegis_edge.pbft.route import Waypoint
from aegis_edge.peers import welcome
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.peers.invitation import Invitation
from aegis_edge.peers.welcome import Answer, State
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord
from tests.cli.conftest import Cli
from tests.peers.test_address import ONION

PLACE = "tcp:127.0.0.1:28999"
HOST = Signer(bytes(32), b"").sign(NodeRecord(1, bytes(32), (PLACE,), 2**31, "host"))
GENESIS = Genesis.of([HOST], Parameters(0, bytes(16)))
OTHER_GENESIS = Genesis.of([HOST], Parameters(0, bytes(15) + b"1"))
INVITATION = Invitation(
    GENESIS.cluster_id, HOST.signer, (PLACE,), bytes(16), 1_800_000_000, 7, bytes(16)
)
CODE = INVITATION.to_text()
THROUGH_TOR = replace(INVITATION, addresses=(f"onion:{ONION}:80",), level="HIGH")
WELCOME = Answer(State.WELCOME, genesis=GENESIS.to_text(), records=(HOST.raw,))
ADMITTED = Answer(State.ADMITTED)
WAITING = Answer(State.WAITING, number=7, yes=1, needed=2)
HERE = ("--address", "127.0.0.1:28998")

Script = Callable[..., list[bool]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Has the host answer like this; whether each question wanted the newcomer to be proposed."""

    def script(*answers: Answer | bytes | Exception, place: Invitation = INVITATION) -> list[bool]:
        wanted: list[bool] = []
        left = list(answers)

        async def ask(
            caller: guest.Caller,
            transport: Any,
            address: str,
            key: bytes,
            question: Any,
            **patience: float,
        ) -> bytes:
            await trio.lowlevel.checkpoint()
            assert (address, key) == (place.addresses[0], HOST.signer)
            assert bool(patience) is bool(place.level), "a tor takes its time"
            assert caller.cluster_id == GENESIS.cluster_id
            asked = welcome.read_question(question(bytes(64)))
            assert asked.public == INVITATION.public
            assert asked.is_proven(bytes(64))
            wanted.append(asked.is_ready)
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer.encode() if isinstance(answer, Answer) else answer

        monkeypatch.setattr(guest, "ask", ask)
        return wanted

    monkeypatch.setattr(join, "POLL_S", 0.001)
    return script


def test_a_fresh_board_becomes_a_member(cli: Cli, host: Script, home: Path) -> None:
    wanted = host(WELCOME, ADMITTED)
    said = cli("join", CODE, "--name", "barn", *HERE)
    assert said.code == 0
    assert "This board is a member now" in said.out
    assert "Next: aegis-edge run" in said.out
    assert wanted == [False, True]
    settings = config.load({"home": home}, {})
    assert settings.name == "barn"
    assert settings.advertise == ("tcp:127.0.0.1:28998",)
    assert Genesis.from_text((home / "genesis").read_text()) == GENESIS
    assert waypointfile.read(settings.waypoint_file) == Waypoint(7, bytes(16))
    again = host(WELCOME, ADMITTED)
    said = cli("join", *CODE.lower().split("-"), "--name", "barn", *HERE, "--json")
    assert again == [False, True]
    record = own_record(settings, keyfile.read(settings.key_file))
    assert said.json["state"] == "member"
    assert record.message.version == 1, "it is the node that it was"


def test_an_observer_knows_its_host_and_what_it_is(cli: Cli, host: Script, home: Path) -> None:
    wanted = host(WELCOME, Answer(State.OBSERVER))
    said = cli("join", CODE, *HERE)
    assert said.code == 0
    assert "This board is an observer" in said.out
    assert wanted == [False, True]
    path = config.load({"home": home}, {}).host_file
    assert hostfile.read(path) == Host(HOST.raw, True)
    hostfile.write(path, Host(HOST.raw, True, b"pass"))
    host(WELCOME, Answer(State.OBSERVER))
    assert cli("join", CODE, "--json").json["state"] == "observer"
    assert hostfile.read(path) == Host(HOST.raw, True, b"pass"), "it has its pass still"
    host(WELCOME, WAITING)
    assert cli("join", CODE, "--no-wait").code == 0
    assert hostfile.read(path) == Host(HOST.raw, False, b"pass"), "it is to be more by now"


def test_whoever_is_no_host_is_not_followed(cli: Cli, host: Script, home: Path) -> None:
    other = Signer(bytes([7]) * 32, b"").sign(HOST.message)
    host(Answer(State.WELCOME, genesis=GENESIS.to_text(), records=(other.raw,)), ADMITTED)
    assert cli("join", CODE, *HERE).code == 0
    assert hostfile.read(config.load({"home": home}, {}).host_file) is None


def test_it_waits_and_says_for_what(cli: Cli, host: Script) -> None:
    later = Answer(State.LATER, "no quorum: waiting for attic")
    more = Answer(State.WAITING, number=7, yes=2, needed=3)
    wanted = host(later, WELCOME, later, WAITING, WAITING, LinkError("it is off"), more, ADMITTED)
    said = cli("join", CODE, *HERE)
    assert said.code == 0
    assert wanted == [False] * 2 + [True] * 6
    assert [line.partition(":")[0].partition(" (")[0] for line in said.err.splitlines()] == [
        "the cluster cannot decide now",
        "waiting for the cluster",
        "proposal 7 waits for others",
        "the member that invited cannot be reached",
        "proposal 7 waits for others",
    ]
    assert "aegis-edge approve 7" in said.err


def test_who_does_not_wait_is_let_in_later(cli: Cli, host: Script) -> None:
    host(WELCOME, WAITING)
    said = cli("join", "--no-wait", *HERE, stdin=f"{CODE}\n".encode())
    assert said.code == 0
    assert "let in once enough say: aegis-edge approve 7" in said.out
    host(WELCOME, WAITING)
    said = cli("join", "-", "--no-wait", "--json", stdin=CODE.encode())
    assert (said.json["state"], said.json["proposal"]) == ("waiting", 7)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(State.EXPIRED), "has expired: it was good until 2027-01-15 08:00 UTC"),
        (Answer(State.USED), "by another board"),
        (Answer(State.CANCELLED), "was cancelled"),
        (Answer(State.REJECTED), "did not let this board in"),
        (
            Answer(State.REFUSED, "too many\x1b[31m"),
            "cannot be let in: too many\N{REPLACEMENT CHARACTER}",
        ),
        (guest.Unknown("nothing"), "does not know this code"),
    ],
)
@pytest.mark.parametrize("before", [(), (WELCOME, WAITING)])
def test_what_is_over_has_an_exit_code_of_its_own(
    answer: Any, words: str, before: tuple[Answer, ...], cli: Cli, host: Script, home: Path
) -> None:
    host(*before, answer)
    said = cli("join", CODE, *HERE)
    assert said.code == 8
    assert words in said.err
    assert "ask for a new one" in said.err
    assert (home / "genesis").exists() is bool(before)


def test_another_genesis_than_the_promised_one_is_not_installed(
    cli: Cli, host: Script, home: Path
) -> None:
    host(Answer(State.WELCOME, genesis=OTHER_GENESIS.to_text()))
    said = cli("join", CODE, *HERE)
    assert said.code == 1
    assert "the genesis of another cluster" in said.err
    host(Answer(State.WELCOME, genesis="nothing"))
    assert "not a good genesis" in cli("join", CODE, *HERE).err
    assert not (home / "genesis").exists()


def test_hints_of_no_use_are_left_out(cli: Cli, host: Script, home: Path) -> None:
    host(Answer(State.WELCOME, genesis=GENESIS.to_text(), records=(b"noise",)), ADMITTED)
    said = cli("join", CODE, *HERE)
    assert said.code == 0
    assert "is left out" in said.err
    assert (home / "genesis").exists()


@pytest.mark.parametrize("answer", [b"noise", b"", LinkError("nothing listens there")])
def test_a_host_that_cannot_be_reached_or_understood_is_an_error(
    answer: Any, cli: Cli, host: Script
) -> None:
    host(answer)
    said = cli("join", CODE, *HERE)
    assert said.code == 1
    assert "the member that invited cannot be reached: tcp:127.0.0.1:28999: " in said.err
    assert "its node has to run" in said.err


@pytest.mark.parametrize("code", [CODE[:-2], CODE + "A", "AAAA", "ä", " "])
def test_a_code_with_a_typing_error_changes_nothing(
    code: str, cli: Cli, host: Script, home: Path
) -> None:
    said = cli("join", code, *HERE)
    assert said.code == 2
    assert "CODE" in said.err
    assert not home.exists()


def test_a_board_of_another_cluster_stays_there(cli: Cli, host: Script, home: Path) -> None:
    cli("init", "--single")
    wanted = host()
    said = cli("join", CODE)
    assert said.code == 78
    assert "belongs to another cluster already" in said.err
    assert wanted == []


def test_a_node_keeps_its_settings(cli: Cli, host: Script) -> None:
    cli("init", "--name", "barn", *HERE)
    wanted = host()
    said = cli("join", CODE, "--name", "attic")
    assert said.code == 1
    assert "with other settings: name" in said.err
    assert wanted == []
    host(WELCOME, ADMITTED)
    assert cli("join", CODE).code == 0


def test_others_must_be_able_to_reach_it(cli: Cli, host: Script, home: Path) -> None:
    far = Invitation(
        GENESIS.cluster_id,
        HOST.signer,
        ("tcp:attic.lan:80", "tcp:192.0.2.1:80"),
        bytes(16),
        0,
        0,
        bytes(16),
    )
    wanted = host()
    said = cli("join", far.to_text())
    assert said.code == 2
    assert "cannot reach this board at tcp:127.0.0.1:8080: say where, with --address" in said.err
    assert wanted == []
    assert not home.exists()


def test_the_address_that_is_proposed_is_the_one_towards_the_host() -> None:
    assert join._seen_from(["tcp:127.0.0.1:9"]) == "127.0.0.1"
    assert join._seen_from(["tcp:attic.lan:9", "tcp:[::1]:9"]) in ("[::1]", "")
    assert join._seen_from(["tcp:attic.lan:9"]) == ""


@pytest.mark.parametrize(
    ("invitation", "options", "words", "advice"),
    [
        (
            INVITATION,
            ["--tor"],
            "link directly, and this one is set to go through",
            "join without --tor\n",
        ),
        (THROUGH_TOR, HERE, "at HIGH, and this one would", "--tor --security-level HIGH"),
        (
            THROUGH_TOR,
            ["--tor", "--security-level", "STANDARD"],
            "at HIGH, and this one is set to STANDARD",
            "join with --tor --security-level HIGH",
        ),
    ],
)
def test_a_board_that_would_go_another_way_calls_nobody(
    invitation: Invitation,
    options: list[str],
    words: str,
    advice: str,
    cli: Cli,
    host: Script,
    home: Path,
) -> None:
    wanted = host()
    said = cli("join", invitation.to_text(), *options)
    assert said.code == 1
    assert words in said.err
    assert advice in said.err
    assert wanted == []
    assert not home.exists()


def test_a_node_that_goes_through_tor_is_told_where_that_is_set(
    cli: Cli, host: Script, home: Path
) -> None:
    cli("init", "--tor")
    said = cli("join", CODE)
    assert said.code == 1
    assert f"set transport to direct ({home}/config.toml)" in said.err


def test_a_code_leads_nowhere_on_the_board_that_made_it(cli: Cli, host: Script, home: Path) -> None:
    wanted = host()
    cli("init", *HERE)
    own = keyfile.read(home / "identity.key").public
    said = cli("join", replace(INVITATION, host=own).to_text())
    assert said.code == 2
    assert "this is the board that invited" in said.err
    assert wanted == []


def test_a_node_that_would_hide_less_is_told_where_to_mend_it(cli: Cli, host: Script) -> None:
    cli("init", "--tor", "--security-level", "STANDARD")
    said = cli("join", THROUGH_TOR.to_text())
    assert said.code == 1
    assert "set transport = 'tor' and security_level = 'HIGH' in " in said.err


class Visits:
    """In the place of a tor: whom the newcomer visits, and with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: list[tuple[list[str], bytes]] = []
        monkeypatch.setattr(way, "visiting", self._visiting)

    @asynccontextmanager
    async def _visiting(
        self, settings: Config, hosts: list[str], credential: bytes, tell: Callable[[str], object]
    ) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        assert (settings["transport"], settings["security_level"]) == ("tor", "HIGH")
        tell("tor begins")
        self.of.append((hosts, credential))
        yield


def test_through_tor_it_comes_with_the_key_of_its_invitation_and_is_not_found_at_once(
    cli: Cli, host: Script, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = Visits(monkeypatch)
    nothing = LinkError("no descriptor")
    wanted = host(nothing, nothing, WELCOME, WAITING, ADMITTED, place=THROUGH_TOR)
    said = cli("join", THROUGH_TOR.to_text(), "--tor", "--name", "barn")
    assert said.code == 0
    assert wanted == [False] * 3 + [True] * 2
    assert visits.of == [([ONION], THROUGH_TOR.credential)]
    assert "tor begins" in said.err
    assert "is not found yet" in said.err
    assert config.load({"home": home}, {})["security_level"] == "HIGH"
    wanted = host(*[nothing] * join.TRIES_THROUGH_TOR, place=THROUGH_TOR)
    said = cli("join", THROUGH_TOR.to_text())
    assert said.code == 1
    assert "the member that invited cannot be reached: onion:" in said.err
    assert len(wanted) == join.TRIES_THROUGH_TOR


def test_beside_a_node_that_runs_nobody_is_asked_through_tor(
    cli: Cli, host: Script, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = Visits(monkeypatch)
    cli("init", "--tor")
    with socket.socket(socket.AF_UNIX) as api:
        path = config.load({"home": home}, {}).api_socket
        path.parent.mkdir(parents=True, exist_ok=True)
        api.bind(str(path))
        api.listen()
        said = cli("join", THROUGH_TOR.to_text())
    assert said.code == 1
    assert "the node of this board runs" in said.err
    assert visits.of == []


def test_a_date_that_no_clock_shows_is_no_traceback(cli: Cli, host: Script) -> None:
    assert join._date(2**63 - 1) == "a time that no clock shows"


def test_errors_are_json_for_programs(cli: Cli, host: Script) -> None:
    host(Answer(State.USED))
    said = cli("join", CODE, *HERE, "--json")
    assert json.loads(said.err)["error"] == "not_invited"

"""`join`: the newcomer's way, with a host that says what the test has it say.

With real hosts: tests/test_invitations.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from aegis_edge import config
from aegis_edge.cli import join
from aegis_edge.disk import keyfile
from aegis_edge.home import own_record
from aegis_edge.net import guest
from aegis_edge.net.channel import LinkError
from aegis_edge.peers import welcome
from aegis_edge.peers.genesis import Genesis, Parameters
from aegis_edge.peers.invitation import Invitation
from aegis_edge.peers.welcome import Answer, State
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord
from tests.cli.conftest import Cli

PLACE = "tcp:127.0.0.1:28999"
HOST = Signer(bytes(32), b"").sign(NodeRecord(1, bytes(32), (PLACE,), 2**31, "host"))
GENESIS = Genesis.of([HOST], Parameters(0, bytes(16)))
OTHER_GENESIS = Genesis.of([HOST], Parameters(0, bytes(15) + b"1"))
INVITATION = Invitation(GENESIS.cluster_id, HOST.signer, (PLACE,), bytes(16), 1_800_000_000)
CODE = INVITATION.to_text()
WELCOME = Answer(State.WELCOME, genesis=GENESIS.to_text(), records=(HOST.raw,))
ADMITTED = Answer(State.ADMITTED)
WAITING = Answer(State.WAITING, number=7, yes=1, needed=2)
HERE = ("--address", "127.0.0.1:28998")

Script = Callable[..., list[bool]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Has the host answer like this; whether each question wanted the newcomer to be proposed."""

    def script(*answers: Answer | bytes | Exception) -> list[bool]:
        wanted: list[bool] = []
        left = list(answers)

        async def ask(
            caller: guest.Caller, transport: Any, address: str, key: bytes, question: Any
        ) -> bytes:
            await trio.lowlevel.checkpoint()
            assert (address, key) == (PLACE, HOST.signer)
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
    again = host(WELCOME, ADMITTED)
    said = cli("join", *CODE.lower().split("-"), "--name", "barn", *HERE, "--json")
    assert again == [False, True]
    record = own_record(settings, keyfile.read(settings.key_file))
    assert said.json["state"] == "member"
    assert record.message.version == 1, "it is the node that it was"


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
        GENESIS.cluster_id, HOST.signer, ("tcp:attic.lan:80", "tcp:192.0.2.1:80"), bytes(16), 0
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


def test_through_tor_it_says_how_it_is_done_by_hand(cli: Cli, host: Script, home: Path) -> None:
    from tests.peers.test_address import ONION

    onion = Invitation(GENESIS.cluster_id, HOST.signer, (f"onion:{ONION}:80",), bytes(16), 0)
    wanted = host()
    for words in ([CODE, "--tor"], [onion.to_text(), *HERE]):
        said = cli("join", *words)
        assert said.code == 1
        assert "through Tor nobody can be let in yet" in said.err
        assert "aegis-edge genesis create" in said.err
    assert wanted == []
    assert not home.exists()


def test_a_date_that_no_clock_shows_is_no_traceback(cli: Cli, host: Script) -> None:
    assert join._date(2**63 - 1) == "a time that no clock shows"


def test_errors_are_json_for_programs(cli: Cli, host: Script) -> None:
    host(Answer(State.USED))
    said = cli("join", CODE, *HERE, "--json")
    assert json.loads(said.err)["error"] == "not_invited"

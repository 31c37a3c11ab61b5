"""`invite` and `replace`: a code on the screen, with a picture where there is something to draw."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from aegis_edge.api.invitations import LIFETIME_S_MAX, LIFETIME_S_MIN
from aegis_edge.cli.invite import LIFETIME_S
from aegis_edge.peers.identity import node_id
from aegis_edge.peers.invitation import Invitation
from tests.api.node import FOUNDERS, NEWCOMER, Invited, Replication
from tests.cli.conftest import Cli

#: Draws nothing that a camera could read: what is asked of it is what counts.
SEGNO = """
asked = []

class Drawn:
    def terminal(self, *, out, compact):
        assert compact
        out.write("PICTURE \\N{FULL BLOCK}\\n")

def make_qr(text, *, error):
    asked.append((text, error))
    return Drawn()
"""


@pytest.fixture
def segno(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "segno.py").write_text(SEGNO)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "segno", raising=False)
    import segno

    yield segno
    del sys.modules["segno"]


def test_the_code_alone_is_on_standard_output(cli: Cli, node: Replication) -> None:
    said = cli("invite")
    assert said.code == 0
    assert said.out == f"aegis-edge join {node.desk.code}\n"
    assert "good once, for 60 min" in said.err or "good once, for 1 h" in said.err
    assert "only this machine" not in said.err
    assert [wanted[:2] for wanted in node.desk.wanted] == [(3600, None)]
    made = cli("invite", "--for", "2d", "--json").json
    assert made["code"] == node.desk.code
    assert node.desk.wanted[-1][0] == 2 * 86_400


def test_an_address_of_this_machine_alone_is_remarked_upon(cli: Cli, node: Replication) -> None:
    found = Invitation.from_text(node.desk.code)
    here = replace(found, addresses=("tcp:127.0.0.1:80",))
    node.desk.code = here.to_text()
    assert "tcp:127.0.0.1:80, which only this machine reaches" in cli("invite").err


@pytest.mark.parametrize("text", ["1", "h", "0h", "-1h", "1.5h", "1 h", "1w", "99999999s"])
def test_a_time_that_is_none_is_wrong_usage(text: str, cli: Cli, node: Replication) -> None:
    said = cli("invite", f"--for={text}")
    assert said.code == 2
    assert "must look like 30min, 1h or 2d" in said.err
    assert node.desk.wanted == []


def test_a_time_out_of_bounds_is_wrong_usage(cli: Cli, node: Replication) -> None:
    for text in ("31d", "721h", "59s", "1s"):
        for words in (("invite",), ("replace", "n1")):
            said = cli(*words, "--for", text)
            assert said.code == 2
            assert f"{text} is out of bounds: 1min to 30d" in said.err
    assert node.desk.wanted == []
    for text in ("60s", "1min", "30d", "720h"):
        assert cli("invite", "--for", text).code == 0
    assert (LIFETIME_S[0], LIFETIME_S[-1]) == (LIFETIME_S_MIN, LIFETIME_S_MAX)


def test_the_picture_holds_the_code(cli: Cli, node: Replication, segno: Any) -> None:
    said = cli("invite", "--qr")
    assert said.out.startswith("PICTURE \N{FULL BLOCK}\n")
    assert said.out.endswith(f"aegis-edge join {node.desk.code}\n")
    ((text, _),) = segno.asked
    assert Invitation.from_text(text) == Invitation.from_text(node.desk.code)
    assert text.isalnum() and text.isupper(), "the mode of QR codes that takes the least room"
    assert "PICTURE" not in cli("invite").out, "this is no terminal"
    assert "PICTURE" not in cli("invite", "--qr", "--json").out


def test_without_a_library_there_is_the_code_alone(
    cli: Cli, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    said = cli("invite", "--qr")
    assert said.code == 0
    assert said.out == f"aegis-edge join {node.desk.code}\n"
    assert "python3-segno" in said.err


def test_a_terminal_that_cannot_show_it_gets_the_code_alone(
    cli: Cli, node: Replication, segno: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aegis_edge.cli import invite

    class Ascii:
        encoding = "ascii"

    with click.Context(invite.command):
        assert invite._drawn("AAAA")
        monkeypatch.setattr(invite.sys, "stdout", Ascii())
        assert invite._drawn("AAAA") == ""


def test_what_became_of_each_is_listed(cli: Cli, node: Replication) -> None:
    assert cli("invite", "list").out == "nobody was invited\n"
    old = FOUNDERS.members[1]
    node.desk.rows = [
        Invited("aaaa", "open", 1_700_000_000_000, None, None, 0),
        Invited("bbbb", "waiting", 1_700_000_000_000, old, NEWCOMER.signer, 7),
    ]
    lines = cli("invite", "list").out.splitlines()
    assert lines[1].split()[:3] == ["bbbb", "waiting", "member"]
    assert lines[1].split()[-3:] == ["new", "n1", "7"]
    assert lines[2].split()[:2] == ["aaaa", "open"]
    listed = cli("invite", "list", "--json").json["invitations"]
    assert [each["invitation"] for each in listed] == ["bbbb", "aaaa"]


def test_an_observer_is_invited_and_listed(cli: Cli, node: Replication) -> None:
    said = cli("invite", "--observer", "--for", "2h")
    assert said.out == f"aegis-edge join {node.desk.code}\n"
    assert "good once, for an observer, for 2 h" in said.err
    assert node.desk.rows[0].is_observer
    assert cli("invite", "list").out.splitlines()[1].split()[1:3] == ["open", "observer"]
    cli("invite")
    assert not node.desk.rows[1].is_observer


def test_one_is_cancelled(cli: Cli, node: Replication) -> None:
    cli("invite")
    name = node.desk.rows[0].name
    assert "nobody can use it any more" in cli("invite", "cancel", name).out
    assert node.desk.rows[0].state == "cancelled"
    assert cli("invite", "cancel", name, "--json").json == {"invitation": name}
    said = cli("invite", "cancel", "none")
    assert said.code == 3
    assert "no such invitation" in said.err


def test_a_board_is_invited_in_the_place_of_a_member(cli: Cli, node: Replication) -> None:
    second = FOUNDERS.members[1]
    for name in ("n1", node_id(second)[:8]):
        said = cli("replace", name)
        assert said.code == 0
        assert said.out == f"aegis-edge join {node.desk.code}\n"
        assert node.desk.wanted[-1][1] == second
    assert "is no member" in cli("replace", "nobody").err
    assert len(node.desk.wanted) == 2


def test_it_takes_a_node(cli: Cli) -> None:
    assert cli("invite").code == 6
    assert cli("replace", "attic").code == 6

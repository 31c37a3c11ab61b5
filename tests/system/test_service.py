"""The service: when it is ready, what it survives, and what it waits for."""

from __future__ import annotations

import json

from aegis_edge.disk.keyfile import CREDENTIAL
from tests.system.machine import NODE, TOR, TOR_NODE, Machine

STANDS = "1 of 1 nodes reachable; {} leads, view 0"
KEY = "/var/lib/aegis-edge/identity.key"


def name_of(machine: Machine) -> str:
    return str(json.loads(machine.type("aegis-edge status --json"))["name"])


def again(machine: Machine, pid: str, result: str) -> None:
    """Return when another process serves in the place of `pid`, which ended so."""
    machine.until(
        "the node serves again",
        lambda: (
            machine.shown("ActiveState") == "active" and machine.shown("MainPID") not in (pid, "0")
        ),
    )
    log = machine.type(f"journalctl -u {NODE} --no-pager")
    assert f"Failed with result '{result}'" in log
    assert int(machine.shown("NRestarts")) > 0


def test_it_is_ready_when_it_serves_and_says_how_it_stands(board: Machine) -> None:
    assert board.shown("StatusText") == STANDS.format(name_of(board))
    board.type("aegis-edge kb put pump 'turn left'")
    board.type("id -u pi || useradd pi; usermod -aG aegis-edge pi; id -u eve || useradd eve")
    assert "turn left" in board.type("runuser -u pi -- aegis-edge kb get pump")
    assert "1 of 1 nodes" in board.type("runuser -u pi -- aegis-edge status")
    refused = board.tried("runuser -u eve -- aegis-edge kb get pump")
    assert (refused.returncode, "adduser YOU aegis-edge" in refused.stderr) == (78, True)
    assert board.tried(f"runuser -u pi -- cat {KEY}").returncode != 0


def test_one_that_hangs_is_killed_and_begins_again(board: Machine) -> None:
    board.drop_in("[Service]\nWatchdogSec=8\n")
    board.type("systemctl restart aegis-edge && aegis-edge kb put pump 'turn left'")
    pid = board.shown("MainPID")
    board.type(f"kill -STOP {pid}")
    again(board, pid, "watchdog")
    assert board.type("aegis-edge kb get pump") == "turn left\n"


def test_one_that_turns_is_not_killed(board: Machine) -> None:
    board.drop_in("[Service]\nWatchdogSec=8\n")
    board.type("systemctl restart aegis-edge")
    fed = "WatchdogTimestampMonotonic"
    first = int(board.shown(fed))
    board.until("it was fed for long", lambda: int(board.shown(fed)) > first + 9_000_000)
    assert board.shown("NRestarts") == "0"


def test_one_that_is_killed_begins_again(board: Machine) -> None:
    board.type("aegis-edge kb put pump 'turn left'")
    pid = board.shown("MainPID")
    board.type(f"kill -KILL {pid}")
    again(board, pid, "signal")
    assert board.type("aegis-edge kb get pump") == "turn left\n"


def test_it_reads_its_settings_again(board: Machine) -> None:
    pid = board.shown("MainPID")
    settings = "/var/lib/aegis-edge/config.toml"
    board.type(f"echo 'log_level = \"debug\"' >>{settings} && systemctl reload aegis-edge")
    log = f"journalctl -u {NODE} --no-pager -o cat"
    board.until("it was read", lambda: "the settings were read again" in board.type(log))
    board.type(f"echo nonsense >>{settings} && systemctl reload aegis-edge")
    board.until("it was refused", lambda: "the settings stay as they are" in board.type(log))
    errors = board.type(f"journalctl -u {NODE} --no-pager -o cat -p err")
    assert "the settings stay as they are" in errors
    board.until("it runs", lambda: board.shown("ActiveState") == "active")
    assert board.shown("MainPID") == pid


def test_where_a_person_must_act_it_does_not_begin_again(board: Machine) -> None:
    board.type("echo 'log_lvel = 1' >>/var/lib/aegis-edge/config.toml")
    assert board.tried("systemctl restart aegis-edge").returncode != 0
    assert board.shown("ActiveState") == "failed"
    assert (board.shown("ExecMainStatus"), board.shown("NRestarts")) == ("78", "0")
    log = board.type(f"journalctl -u {NODE} --no-pager -o cat")
    assert "unknown key log_lvel; did you mean log_level?" in log
    board.type("rm /var/lib/aegis-edge/config.toml && systemctl start aegis-edge")


def test_what_may_pass_is_tried_less_and_less_often(board: Machine) -> None:
    """Somebody has its port: it begins again, and says how long that will take."""
    board.type("systemctl stop aegis-edge")
    holder = "import socket,time; s=socket.create_server(('127.0.0.1',8080)); time.sleep(600)"
    board.type(f'systemd-run -q --unit=holder python3 -c "{holder}"')
    board.until("taken", lambda: ":8080" in board.type("ss -Hltn"))
    board.type("systemctl start --no-block aegis-edge")
    waits = "ended soon after each of 2 starts, begins again in 3 s; see its log"
    board.until("it waits", lambda: board.shown("StatusText") == waits)
    assert board.shown("ExecMainStatus") in ("0", "75")
    board.type("systemctl stop holder aegis-edge && systemctl start aegis-edge")
    assert board.shown("StatusText") == STANDS.format(name_of(board))


def test_its_identity_may_be_a_credential(board: Machine) -> None:
    before, record = board.type("aegis-edge status --json"), board.type("aegis-edge record")
    board.type("systemctl stop aegis-edge && mkdir -p -m 700 /etc/credstore")
    board.type(f"mv {KEY} /etc/credstore/{CREDENTIAL} && systemctl start aegis-edge")
    assert json.loads(board.type("aegis-edge status --json"))["id"] == json.loads(before)["id"]
    assert board.tried("aegis-edge record").returncode == 78, "it is the service's alone"
    beside = f"systemd-run -q --pipe --uid=aegis-edge -p LoadCredential={CREDENTIAL}"
    assert board.type(f"{beside} aegis-edge record") == record


def test_its_identity_may_be_an_encrypted_credential(board: Machine) -> None:
    before = board.type("aegis-edge status --json")
    board.type("systemctl stop aegis-edge && mkdir -p -m 700 /etc/credstore.encrypted")
    there = "/etc/credstore.encrypted/aegis-edge.identity"
    board.type(f"systemd-creds encrypt --with-key=host {KEY} {there} && rm {KEY}")
    board.drop_in("[Service]\nLoadCredential=\nLoadCredentialEncrypted=aegis-edge.identity\n")
    board.type("systemctl start aegis-edge")
    assert json.loads(board.type("aegis-edge status --json"))["id"] == json.loads(before)["id"]


def test_through_tor_it_waits_for_tor_and_has_no_network(machine: Machine) -> None:
    machine.type("aegis-edge init --single --tor")
    assert machine.tried("systemctl start aegis-edge").returncode != 0, "that unit is for links"
    assert machine.shown("ExecMainStatus") == "78"
    machine.type(f"systemctl reset-failed; systemctl mask --runtime {TOR}")
    machine.type(f"systemctl start --no-block {TOR_NODE}")
    said = "waits for tor to answer: "
    machine.until("it waits", lambda: machine.shown("StatusText", TOR_NODE).startswith(said))
    assert machine.shown("ActiveState", TOR_NODE) == "activating"
    machine.type(f"systemctl unmask --runtime {TOR} && systemctl start {TOR}")
    machine.until("it serves", lambda: machine.shown("ActiveState", TOR_NODE) == "active")
    machine.until(
        "it says so", lambda: "tor: bootstrapping" in machine.shown("StatusText", TOR_NODE)
    )
    pid = machine.shown("MainPID", TOR_NODE)
    rows = machine.type(f"cat /proc/{pid}/net/dev").splitlines()[2:]
    assert [row.split(":")[0].strip() for row in rows] == ["lo"]
    assert machine.type(f"readlink /proc/{pid}/ns/net") != machine.type("readlink /proc/1/ns/net")


def test_links_are_not_what_the_tor_unit_is_for(board: Machine) -> None:
    assert board.tried(f"systemctl start {TOR_NODE}").returncode != 0
    assert board.shown("ExecMainStatus", TOR_NODE) == "78"
    log = board.type(f"journalctl -u {TOR_NODE} --no-pager -o cat")
    assert "transport is direct" in log
    assert board.shown("ActiveState") == "inactive", "the two exclude each other"

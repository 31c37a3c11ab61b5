"""The package: what it brings, starts, keeps and takes away."""

from __future__ import annotations

from tests.system.machine import NODE, TOR, TOR_NODE, UNITS, Machine

CODE = "/usr/lib/python3/dist-packages/aegis_edge"


def test_it_brings_users_a_home_and_byte_code_and_starts_nothing(machine: Machine) -> None:
    assert [machine.shown("ActiveState", unit) for unit in UNITS] == ["inactive"] * 3
    assert [machine.shown("UnitFileState", unit) for unit in UNITS] == ["disabled"] * 3
    home = "stat -c '%U %G %a' /var/lib/aegis-edge /run/aegis-edge-onion"
    assert machine.type(home) == ("aegis-edge aegis-edge 750\naegis-edge aegis-edge-tor 2750\n")
    assert machine.type("getent passwd aegis-edge").endswith(":/usr/sbin/nologin\n")
    sources = machine.type(f"find {CODE} -name '*.py' | wc -l")
    assert machine.type(f"find {CODE} -name '*.pyc' | wc -l") == sources


def test_systemd_has_nothing_to_say_against_the_units(machine: Machine) -> None:
    for unit, exposure in ((NODE, 10), (TOR_NODE, 3), (TOR, 15)):
        done = machine.tried(f"systemd-analyze verify {unit}.service")
        assert (done.returncode, done.stderr) == (0, "")
        machine.type(f"systemd-analyze security --threshold={exposure} {unit}.service")


def test_pages_and_completion_are_there(machine: Machine) -> None:
    assert "EXIT STATUS" in machine.type("man --warnings aegis-edge 2>&1")
    assert "kb watch" in machine.type("man --warnings aegis-edge-kb 2>&1")
    bash = "/usr/share/bash-completion/completions/aegis-edge"
    assert "_aegis_edge_completion" in machine.type(f". {bash} && complete -p aegis-edge")


def test_an_upgrade_keeps_data_settings_and_what_runs_running(bare: Machine) -> None:
    bare.install(bare.old)
    try:
        bare.type("aegis-edge init --single && systemctl start aegis-edge")
        bare.type("aegis-edge kb put pump 'turn left'")
        bare.type("sed -i 's/^#UseBridges/UseBridges/' /etc/aegis-edge/torrc")
        before, pid = bare.type("aegis-edge record"), bare.shown("MainPID")
        bare.install(bare.new)
        assert bare.shown("ActiveState") == "active"
        assert bare.shown("MainPID") != pid
        assert bare.type("aegis-edge kb get pump") == "turn left\n"
        assert bare.type("aegis-edge record") == before
        assert "\nUseBridges 1\n" in bare.type("cat /etc/aegis-edge/torrc")
        assert bare.shown("ActiveState", TOR_NODE) == "inactive"
    finally:
        bare.purge()


def test_what_is_removed_leaves_the_data_and_what_is_purged_leaves_nothing(board: Machine) -> None:
    board.type("aegis-edge kb put pump 'turn left'")
    board.type("dpkg --remove aegis-edge")
    assert board.tried("pgrep -u aegis-edge").stdout == ""
    board.install(board.new)
    board.type("systemctl start aegis-edge")
    assert board.type("aegis-edge kb get pump") == "turn left\n"
    board.type("dpkg --purge aegis-edge")
    others = "-path /proc -o -path /root -o -path /var/cache/man"  # man keeps pages that it showed
    left = f"find / -xdev \\( {others} \\) -prune -o -name '*aegis*' -print"
    assert board.tried(left).stdout == ""
    board.install(board.new)


def test_what_is_installed_may_be_installed_again(board: Machine) -> None:
    before = board.type("aegis-edge record")
    board.type(f"dpkg -i {board.new}")
    assert board.shown("ActiveState") == "active"
    assert board.type("aegis-edge record") == before

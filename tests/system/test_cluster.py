"""Four services on one machine, each as tight as it comes: a put commits, and nothing is left."""

from __future__ import annotations

from tests.system.machine import NODE, Machine

NAMES = ("attic", "barn", "cellar", "dock")


def test_a_put_commits_among_four(machine: Machine) -> None:
    spaces = "lsns -n -o NS,TYPE | sort"
    before = machine.type(spaces)
    machine.type("mkdir -p /srv/boards && chmod 755 /srv/boards")
    for number, name in enumerate(NAMES):
        home = f"/var/lib/{name}"
        machine.type(f"install -d -o aegis-edge -g aegis-edge -m 750 {home}")
        as_node = f"runuser -u aegis-edge -- env AEGIS_EDGE_HOME={home} aegis-edge"
        machine.type(f"{as_node} init --name {name} --address 127.0.0.1:{9000 + number}")
        machine.type(f"{as_node} record >/srv/boards/{name}.record")
        machine.type(
            f"sed 's/^\\(State\\|Runtime\\)Directory=aegis-edge/\\1Directory={name}/'"
            f" /lib/systemd/system/{NODE}.service >/run/systemd/system/{name}.service"
        )
    machine.type("cd /srv/boards && aegis-edge genesis create *.record -o genesis")
    for name in NAMES:
        place = f"--home /var/lib/{name} genesis install /srv/boards/genesis"
        machine.type(f"runuser -u aegis-edge -- aegis-edge {place}")
    services = " ".join(NAMES)
    machine.type(f"systemctl daemon-reload && systemctl start {services}")
    at = "aegis-edge --socket /var/lib/{}/api.sock".format
    machine.type(f"{at('attic')} kb put pump 'turn left'")
    for name in NAMES:
        assert machine.type(f"{at(name)} kb get --linearizable pump") == "turn left\n"
    machine.until(
        "each says so", lambda: all("4 of 4 nodes" in machine.shown("StatusText", n) for n in NAMES)
    )
    machine.type(f"systemctl stop {services}")
    assert machine.type(spaces) == before, "no namespace outlives its service"
    machine.type(f"cd /run/systemd/system && rm {' '.join(f'{name}.service' for name in NAMES)}")
    machine.type(f"rm -r /srv/boards {' '.join(f'/var/lib/{name}' for name in NAMES)}")

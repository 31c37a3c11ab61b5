"""Each line of the sandbox is in effect: shown by a process that runs in it and tries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.system.machine import NODE, TOR_NODE, Machine

PROBE = Path(__file__).with_name("probe.py")
REFUSED = {"EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT"}
#: What only the one unit refuses.
OF_TOR = {"AF_INET"}
NETWORK = {"a public address", "a private address"}


def probed(machine: Machine, unit: str) -> dict[str, Any]:
    """What the probe says in the sandbox of a unit."""
    text = machine.type(f"cat /lib/systemd/system/{unit}.service")
    text = re.sub(
        r"^ExecStart=.*", "ExecStart=/usr/bin/python3 /opt/probe.py", text, flags=re.MULTILINE
    )
    text = re.sub(
        r"^(Restart|WatchdogSec|Conflicts|Wants|After|NotifyAccess).*\n",
        "",
        text,
        flags=re.MULTILINE,
    )
    text = text.replace("Type=notify", "Type=oneshot\nStandardOutput=truncate:/root/probe.json")
    machine.type("mkdir -p /opt && cat >/opt/probe.py", PROBE.read_text())
    machine.type("touch /tmp/of-the-host && mkdir -p /usr/lib/modules")
    machine.type("cat >/run/systemd/system/probe.service", text)
    machine.type("systemctl daemon-reload && systemctl start probe")
    machine.type("rm /run/systemd/system/probe.service")
    found: dict[str, Any] = json.loads(machine.type("cat /root/probe.json"))
    return found


@pytest.fixture
def addresses(machine: Machine) -> Machine:
    """One with a public address and a private one, where somebody listens."""
    machine.type("ip addr add 203.0.113.1/32 dev lo && ip addr add 192.168.77.1/32 dev lo")
    listens = "import socket,time; s=socket.create_server(('',9999)); time.sleep(600)"
    machine.type(f'systemd-run -q --unit=listens python3 -c "{listens}"')
    machine.until("listening", lambda: ":9999" in machine.type("ss -Hltn"))
    yield machine
    machine.type("systemctl stop listens; ip addr flush dev lo scope global")


@pytest.mark.parametrize("unit", [NODE, TOR_NODE])
def test_what_a_node_need_not_do_it_cannot(addresses: Machine, unit: str) -> None:
    said = probed(addresses, unit)
    tried = {name: value for name, value in said.items() if isinstance(value, str)}
    assert tried.pop("its own home") == ""
    assert tried.pop("ipc") != addresses.type("readlink /proc/1/ns/ipc").strip()
    network = {name: tried.pop(name) for name in NETWORK}
    if unit == NODE:
        assert {name: tried.pop(name) for name in OF_TOR} == {"AF_INET": ""}
        assert network["a private address"] == ""
    assert network["a public address"] in REFUSED | {"timeout"}
    assert {name: value for name, value in tried.items() if value not in REFUSED} == {}
    status = said["status"]
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Umask"]) == ("1", "2", "0077")
    assert (said["uid_map"][2], said["core"]) == ("1", [0, 0])

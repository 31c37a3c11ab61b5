"""A network namespace of whose every address a sensor hears: what leaves a process there is seen.

    python sensor.py FILE      becomes the sensor, in a namespace of its own: `unshare --net`

Its loopback is its only interface, and all routes lead there, so a packet to anywhere is made and
goes round; a socket of the packet family writes each one down, one line of JSON.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ETH_P_ALL = 3
OUTGOING = 4  # PACKET_OUTGOING: what goes round is seen twice
READY = b"ready\n"

#: To an address that is nobody's, port 9.
LAST = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"last", ("192.0.2.99", 9))
"""
LAST_PLACE = socket.inet_aton("192.0.2.99")
HEARD = b"heard\n"

#: As root, or in a user namespace where the kernel lets anybody make one.
WAYS = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])
ROUTES = (
    "ip link set lo up",
    "ip route add default dev lo src 127.0.0.1",
    "ip -6 route add default dev lo",
)


def unshare() -> list[str] | None:
    """The words before a command that run it without a network; None if this user may not."""
    for way in WAYS:
        if not subprocess.run([*way, "true"], capture_output=True, check=False).returncode:
            return way
    return None


class Sensed:
    """`inside`: the words before a command that run it where the sensor hears."""

    def __init__(self, sensor: subprocess.Popen[bytes], file: Path, *, mapped: bool) -> None:
        assert sensor.stdout is not None
        joins = ["--user", "--preserve-credentials"] if mapped else []
        self.inside = ["nsenter", f"--target={sensor.pid}", *joins, "--net", "--"]
        self._says = sensor.stdout.readline
        self._file = file

    def packets(self) -> list[dict[str, Any]]:
        """All that left before this call: a last one of our own is waited for, and left out."""
        subprocess.run([*self.inside, sys.executable, "-c", LAST], check=True)
        assert self._says() == HEARD, "the sensor hears nothing any more"
        return [json.loads(line) for line in self._file.read_text().splitlines()]


@contextmanager
def sensed(folder: Path, way: list[str]) -> Iterator[Sensed]:
    file = folder / "packets"
    command = [*way, sys.executable, __file__, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == READY, "the sensor did not start"
            yield Sensed(process, file, mapped="--map-root-user" in way)
        finally:
            process.kill()


def main() -> None:
    for route in ROUTES:
        subprocess.run(route.split(), check=True)
    path = Path(sys.argv[1])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as heard:
        with path.open("w", buffering=1) as file:
            sys.stdout.buffer.write(READY)
            sys.stdout.flush()
            while True:
                data, (_, protocol, kind, *_) = heard.recvfrom(65_535)
                if kind == OUTGOING and LAST_PLACE in data:
                    sys.stdout.buffer.write(HEARD)
                    sys.stdout.flush()
                elif kind == OUTGOING:
                    said = {"protocol": protocol, "data": data[14:].hex()}
                    file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()

"""Run in the place of a node, with its sandbox: tries what it may not do, and says what came of it.

Prints one JSON object: for each thing that was tried the error's name, or "" where it worked.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PERSONALITY_LINUX32, NAMESPACE_UTS, READ_ALL_OF_THE_LOG = 8, 0x04000000, 3
OWN = os.path.join(os.environ["STATE_DIRECTORY"], "own")


def called(name: str, *arguments: int) -> None:
    """A function of the C library; raises `OSError`."""
    if getattr(LIBC, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")


def opened(path: str, mode: str = "w") -> None:
    with open(path, mode):
        pass


def reached(host: str) -> None:
    with socket.create_connection((host, 9999), timeout=2):
        pass


def own_file(change: Callable[[str], Any]) -> None:
    opened(OWN)
    change(OWN)


TRIED: dict[str, Callable[[], Any]] = {
    "its own home": lambda: opened(OWN),
    "ProtectSystem": lambda: opened("/etc/probe"),
    "ProtectSystem of var": lambda: opened("/var/lib/probe"),
    "ProtectHome": lambda: os.listdir("/root"),
    "PrivateTmp": lambda: os.stat("/tmp/of-the-host"),
    "PrivateDevices": lambda: os.stat("/dev/kmsg"),
    "ProtectClock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "ProtectHostname": lambda: socket.sethostname("probe"),
    "ProcSubset": lambda: os.stat("/proc/sys/kernel"),
    "ProtectProc": lambda: os.stat("/proc/1"),
    "ProtectKernelLogs": lambda: called("klogctl", READ_ALL_OF_THE_LOG, 0, 0),
    "ProtectControlGroups": lambda: os.mkdir("/sys/fs/cgroup/probe"),
    "LockPersonality": lambda: called("personality", PERSONALITY_LINUX32),
    "MemoryDenyWriteExecute": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "RestrictRealtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "RestrictSUIDSGID": lambda: own_file(lambda path: os.chmod(path, 0o4755)),
    "RestrictNamespaces": lambda: called("unshare", NAMESPACE_UTS),
    "no @chown": lambda: own_file(lambda path: os.chown(path, os.getuid(), os.getgid())),
    "no @memlock": lambda: called("mlock", 0, 0),
    "no @resources": lambda: os.setpriority(os.PRIO_PROCESS, 0, 5),
    "no @setuid": lambda: os.setuid(os.getuid()),
    "AF_NETLINK": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "AF_PACKET": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "AF_INET": lambda: socket.socket(socket.AF_INET).close(),
    "a public address": lambda: reached("203.0.113.1"),
    "a private address": lambda: reached("192.168.77.1"),
}


def outcome(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return ""


def main() -> None:
    said: dict[str, Any] = {name: outcome(attempt) for name, attempt in TRIED.items()}
    with open("/proc/self/status", encoding="ascii") as file:
        said["status"] = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    with open("/proc/self/uid_map", encoding="ascii") as file:
        said["uid_map"] = file.read().split()
    said["core"] = resource.getrlimit(resource.RLIMIT_CORE)
    said["ipc"] = os.readlink("/proc/self/ns/ipc")
    said["modules"] = outcome(lambda: os.listdir("/usr/lib/modules"))
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()

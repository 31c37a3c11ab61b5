"""The socket on which a service manager listens, and what else it tells in the environment.

Knows datagrams.  Refuses to know what is in them, and to hold up a node whose manager is gone.
Follows: sd_notify(3), sd_watchdog_enabled(3), systemd.exec(5) for JOURNAL_STREAM.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping

#: A manager that is busy is waited for so long, once a datagram.
SEND_S = 1.0

log = logging.getLogger(__name__)

Tell = Callable[[Iterable[str]], None]


def connect(environment: Mapping[str, str]) -> Tell | None:
    """What sends lines to the manager, all in one datagram; None where there is no manager."""
    path = environment.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return None
    address = "\0" + path[1:] if path[0] == "@" else path

    def tell(lines: Iterable[str]) -> None:
        try:
            # One for each: they are few, and there is nothing to close.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.settimeout(SEND_S)
                sending.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.debug("the service manager does not listen: %s", error)

    return tell


def watchdog_s(environment: Mapping[str, str], pid: int) -> float:
    """How often process `pid` has to show that it lives; 0 if nobody watches it."""
    try:
        usec = int(environment.get("WATCHDOG_USEC", ""))
        watched = int(environment.get("WATCHDOG_PID", str(pid)))
    except ValueError:
        return 0.0
    return usec / 1e6 if usec > 0 and watched == pid else 0.0


def is_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether what is written to `descriptor` goes to the journal."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"

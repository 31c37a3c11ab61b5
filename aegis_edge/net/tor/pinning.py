"""Full vanguards on a running tor: chosen from its list, kept in a file, pinned, and looked after.

Knows when to look again, and that nothing is announced or dialled before they are pinned.
Refuses to know how they are drawn, and for how long: see `vanguards`.
Follows: control-spec on GETINFO ns/all and SETCONF.

Tor takes them by SETCONF and forgets them when it ends or reads its torrc again; the file does not.
With each SETCONF it also forgets whatever ONION_CLIENT_AUTH_ADD told it.  They are drawn only
once tor has bootstrapped, for it does not where the clock is far off: so a board that starts in
1970 does not throw away guards that seem to expire in fifty years.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import trio

from aegis_edge.net.tor import facts, levels, vanguards
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.errors import TorError
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.vanguards import Guards

#: Between two looks at whether a guard has expired or left the network.
LOOK_S = 3_600.0

_SYSTEM_DICE = secrets.SystemRandom().random


async def pin(
    tor: Control,
    level: SecurityLevel,
    path: Path,
    *,
    clock: Callable[[], float] = time.time,
    draw: Callable[[], float] = _SYSTEM_DICE,
) -> float:
    """Have `tor` use the guards kept at `path`, new ones in the place of those that are gone.

    Returns in how many seconds to do it again.  Raises `TorError` unless all are pinned.
    """
    reply = await tor.command("GETINFO", "ns/all", reply_bytes_max=vanguards.LIST_BYTES_MAX)
    listed = "\n".join(reply.values().get("ns/all", ()))
    now_s = int(clock())

    def choose() -> Guards:  # thousands of relays, and a card: neither is for the event loop
        known = vanguards.relays(listed)
        guards = vanguards.chosen(_kept(path), known, now_s, draw)
        _keep(path, guards)
        return guards

    guards = await trio.to_thread.run_sync(choose)
    wanted = vanguards.options(guards)
    held = await facts.options(tor, tuple(name for name, _ in wanted))
    if held != {name: (value,) for name, value in wanted}:
        await tor.command("SETCONF", *wanted)
    for problem in levels.unguarded(level, await facts.options(tor, levels.asked(level))):
        raise TorError(problem.words, problem.fix)
    return min(LOOK_S, math.inf if not guards else vanguards.expires_s(guards) - now_s)


def _kept(path: Path) -> Guards:
    try:
        return vanguards.from_text(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        return vanguards.from_text("")  # which says what to do
    except OSError as error:
        raise _unusable(path, error) from None


def _keep(path: Path, guards: Guards) -> None:
    """Durable when it returns: a power cut must not make this board draw again."""
    text = vanguards.to_text(guards)
    fresh = path.with_name(f".{path.name}.new")
    try:
        if path.exists() and path.read_text(encoding="ascii") == text:
            return
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: OSError) -> TorError:
    return TorError(
        f"the vanguards cannot be kept at {path} ({error.strerror})",
        "see that the folder may be written, and that the disk is not full",
    )

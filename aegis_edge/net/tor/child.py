"""A tor that the node starts and owns: it has one client, one folder, and dies with the node.

Knows how to start it, when it listens, what it logs, and how it ends.
Refuses to know what is done with it, and when to start it again: it raises, and the caller decides.

Tor watches the node by __OwningControllerProcess, every 15 seconds; send TAKEOWNERSHIP on the
control connection, and it also ends at once with that connection.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from aegis_edge.net.tor import reach, torrc
from aegis_edge.net.tor.errors import TorError, Unreachable
from aegis_edge.net.tor.levels import SecurityLevel
from aegis_edge.net.tor.lines import printable
from aegis_edge.net.tor.torrc import Places

#: Debian's tor; it needs no PATH.
BINARY = Path("/usr/sbin/tor")
#: Until its control socket is there: on a slow board, from a worn-out card.
START_TIMEOUT_S = 60.0
POLL_S = 0.05
#: From a polite request to the end of it.
STOP_TIMEOUT_S = 5.0
LAST_LINES_S = 1.0
ASK_TIMEOUT_S = 10.0
LOG_LINES_KEPT = 20
LOG_LINE_BYTES_MAX = 2_048

log = logging.getLogger(__name__)


async def run(
    places: Places,
    level: SecurityLevel,
    *,
    extra: Sequence[tuple[str, str]] = (),
    binary: Path = BINARY,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a tor until it ends or this is cancelled; report its process id once it listens.

    Always raises `TorError` in the end, unless cancelled; then tor has ended too.
    """
    prepare(places, torrc.text(places, level, os.getpid(), extra))
    process = await _started([str(binary), *_settings(places)])
    said: deque[str] = deque(maxlen=LOG_LINES_KEPT)
    assert process.stdout is not None
    try:
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()
            nursery.start_soon(_listen, process.stdout, said)
            nursery.start_soon(_until_it_listens, places, process, starting, task_status)
            await process.wait()
            starting.cancel()
            # The last lines say why; but a transport of tor's may live on, and hold the pipe open.
            nursery.cancel_scope.deadline = trio.current_time() + LAST_LINES_S
    finally:
        await _stop(process)
    raise TorError(
        f"tor ended by itself ({_how(process.returncode)}){_last(said)}",
        "mend what it complains about; the log has more",
    )


async def check(
    places: Places,
    level: SecurityLevel,
    *,
    extra: Sequence[tuple[str, str]] = (),
    binary: Path = BINARY,
) -> None:
    """Have tor read the settings that `run` would start it with, and no more.

    Raises `TorError` for those that it refuses, as it would each time.
    """
    prepare(places, torrc.text(places, level, os.getpid(), extra))
    process = await _started([str(binary), "--verify-config", *_settings(places)])
    said: deque[str] = deque(maxlen=LOG_LINES_KEPT)
    assert process.stdout is not None
    try:
        with trio.fail_after(ASK_TIMEOUT_S):
            await _listen(process.stdout, said)
            await process.wait()
    except trio.TooSlowError:
        raise TorError(f"{binary} --verify-config does not end", _ANEW) from None
    finally:
        await _stop(process)
    if process.returncode:
        raise TorError(f"tor refuses its settings{_last(said)}", "correct the extra options")


async def modules(binary: Path = BINARY) -> frozenset[str]:
    """The modules that this tor was built with, such as "pow"; raises `TorError`."""
    process = await _started([str(binary), "--list-modules"])
    assert process.stdout is not None
    output = b""
    try:
        with trio.fail_after(ASK_TIMEOUT_S):
            while (data := await process.stdout.receive_some(4_096)) and len(output) < 65_536:
                output += data
    except trio.TooSlowError:
        raise TorError(
            f"{binary} --list-modules does not end",
            _ANEW,
        ) from None
    finally:
        await _stop(process)
    found = re.findall(r"^([a-z]+): (yes|no)$", output.decode("utf-8", "replace"), re.MULTILINE)
    if not found:
        raise TorError(f"{binary} does not list its modules", "update tor; 0.4.7 is the oldest")
    return frozenset(name for name, built in found if built == "yes")


_ANEW = "install tor anew (apt install --reinstall tor)"


def _settings(places: Places) -> tuple[str, ...]:
    return ("--defaults-torrc", str(places.defaults), "-f", str(places.torrc))


def prepare(places: Places, text: str) -> None:
    """Make the private folder and its settings anew; raises `TorError`."""
    try:
        places.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if places.folder.stat().st_uid != os.geteuid() or places.folder.is_symlink():
            raise TorError(
                f"{places.folder} belongs to somebody else", "remove it, or name another folder"
            )
        places.folder.chmod(0o700)
        # What a killed tor left behind would look as if it listened.
        for left in (places.control.path, places.socks.path, str(places.cookie)):
            Path(left).unlink(missing_ok=True)
        _write(places.torrc, text)
        _write(places.defaults, "")
    except OSError as error:
        raise TorError(
            f"tor's folder {places.folder} cannot be made ready ({error.strerror})",
            "see that its parent may be written, and that the card is not full",
        ) from None


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


async def _started(argv: Sequence[str]) -> trio.Process:
    try:
        return await trio.lowlevel.open_process(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},  # ours may hold secrets
            start_new_session=True,  # Ctrl-C is for the node, which says goodbye through tor
        )
    except OSError as error:
        raise TorError(
            f"{argv[0]} cannot be started ({error.strerror})",
            "install tor (apt install tor)",
        ) from None


async def _until_it_listens(
    places: Places, process: trio.Process, starting: trio.CancelScope, task_status: Any
) -> None:
    """Tor writes its cookie before it answers, so who can connect can go on."""
    with starting:
        deadline = trio.current_time() + START_TIMEOUT_S
        while trio.current_time() < deadline:
            try:
                stream = await reach.connect(places.control, "control socket")
            except Unreachable:
                await trio.sleep(POLL_S)
                continue
            await stream.aclose()
            task_status.started(process.pid)
            return
        log.error("tor has no control socket after %g s, and is stopped", START_TIMEOUT_S)
        process.kill()


async def _listen(stdout: trio.abc.ReceiveStream, said: deque[str]) -> None:
    """Read the log for as long as there is one: tor would wait for ever on a full pipe."""
    rest = b""
    while data := await stdout.receive_some(4_096):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            _pass_on(line, said)
        if len(rest) > LOG_LINE_BYTES_MAX:
            _pass_on(rest, said)
            rest = b""


def _pass_on(raw: bytes, said: deque[str]) -> None:
    line = raw[:LOG_LINE_BYTES_MAX].decode("utf-8", "replace")
    _, _, message = line.partition(" [")
    severity, _, message = message.partition("] ")
    shown = printable(message or line, LOG_LINE_BYTES_MAX)
    if severity in ("warn", "err"):
        said.append(shown)
    log.log(_SEVERITIES.get(severity, logging.DEBUG), "tor: %s", shown)


_SEVERITIES = {"notice": logging.INFO, "warn": logging.WARNING, "err": logging.ERROR}


async def _stop(process: trio.Process) -> None:
    """End it politely, then not; it is gone when this returns."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with trio.move_on_after(STOP_TIMEOUT_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


def _how(returncode: int | None) -> str:
    assert returncode is not None, "it has ended"
    return f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"


def _last(said: deque[str]) -> str:
    """The last complaint, which with tor says why and is mostly the one before the last."""
    return f", saying: {' / '.join(list(said)[-2:])}" if said else ""

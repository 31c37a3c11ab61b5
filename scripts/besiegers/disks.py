"""Adversaries on the disk and at the clock: it fills up, fails, tears, forgets; time jumps.

Knows how SQLite's files are called.  Errors come from a shim in the place of the C library's writes
(`disk.c`): a device that fails takes root and the device mapper, a shim takes a C compiler.  The
limit on the size of files is the kernel's own.  A clock is libfaketime's, which moves what
CLOCK_REALTIME says; a time namespace could only move the monotonic clock.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import trio

from besiegers.town import NODES, Fallen, Room, Town

room = Room("disk and clock")

EXIT_IOERR = os.EX_IOERR
DATABASE = "aegis-edge.db"


async def _failing(town: Town, number: int, words: str) -> str:
    """A node's disk answers every write with an errno: it must end and say what to do."""
    index = await town.backup()
    node = town.nodes[index]
    order = town.directory / "disk.order"
    await town.kill(index)
    town.start(
        index,
        LD_PRELOAD=str(_shim(town.directory)),
        SIEGE_DISK=str(order),
        SIEGE_HOME=f"{node.home}/",  # its log is beside that
    )
    await _linked(town, index)
    town.begin()
    order.write_text(str(number))
    try:
        return await _ends(town, index, words)
    finally:
        order.unlink()


@room("disk full")
async def full(town: Town) -> str:
    """ENOSPC at every write of a backup: it ends and says so; it comes back once there is room."""
    return await _failing(town, errno.ENOSPC, "make room")


@room("read-only disk")
async def read_only(town: Town) -> str:
    """EROFS at every write of a backup, as when a card gives up."""
    return await _failing(town, errno.EROFS, "start the node again")


@room("failing disk")
async def failing(town: Town) -> str:
    """EIO at every write of a backup."""
    return await _failing(town, errno.EIO, "dmesg")


@room("file size limit")
async def limit(town: Town) -> str:
    """RLIMIT_FSIZE of the running primary falls below what its database needs."""
    index = await town.primary()
    process = town.nodes[index].process
    assert process is not None
    room_bytes = town.nodes[index].log.stat().st_size + 65_536  # its log is a file as well
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room_bytes, resource.RLIM_INFINITY))
    return await _ends(town, index, "size limits")


@room("torn write")
async def torn(town: Town) -> str:
    """kill -9, and half of the last page of the write-ahead log is missing."""
    return await _cut(town, lambda size: size - 2_000)


@room("lost writes")
async def lost(town: Town) -> str:
    """kill -9, and the last half of the write-ahead log was never written: the disk lied."""
    return await _cut(town, lambda size: size // 2)


@room("rotten page")
async def rotten(town: Town) -> str:
    """A page of a database is overwritten while its node is down: it is set aside, and rebuilt."""
    index = await town.backup()
    node = town.nodes[index]
    await town.kill(index, number=signal.SIGTERM)  # so that all is in the one file
    with (node.home / DATABASE).open("r+b") as file:
        pages = os.fstat(file.fileno()).st_size // 4096
        for page in range(1, pages):
            file.seek(4096 * page)
            file.write(town.chance.randbytes(64))
    town.start(index)
    await _linked(town, index)
    if "the database is damaged" not in town.said(index):
        raise Fallen("a rotten database was not noticed")
    return "set aside, rebuilt from the others"


@room("database lost")
async def database_lost(town: Town) -> str:
    """A node's database is gone: it follows, and votes again once it may."""
    index = await town.backup()
    node = town.nodes[index]
    await town.kill(index)
    for path in node.home.glob(f"{DATABASE}*"):
        path.unlink()
    town.start(index)
    await _linked(town, index)

    async def votes() -> bool:
        return (await town.status(index)).get("learning", 0) is None

    began = trio.current_time()
    await town.until(votes, "a node that lost its database votes again", 30)
    return f"votes again after {trio.current_time() - began:.1f} s"


@room("clock jumps")
async def clock(town: Town) -> str:
    """The wall clock of one node jumps ten years ahead, then ten years back."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise Fallen("libfaketime is not installed; run: sudo apt-get install faketime")
    index = await town.backup()
    file = town.directory / "clock"
    file.write_text("+0d\n")
    await town.kill(index)
    town.faulty.add(index)
    town.start(
        index,
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(file),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    await _linked(town, index)
    town.begin()
    for jump in ("+3650d", "-3650d"):
        file.write_text(f"{jump}\n")
        await trio.sleep(2)
    status = await town.status(index)
    return "it goes on" if status else f"it ended: {town.said(index).splitlines()[-1][-60:]}"


# --- how ------------------------------------------------------------------------------------


async def _linked(town: Town, index: int) -> None:
    async def linked() -> bool:
        return len((await town.status(index)).get("reachable", ())) == NODES - 1

    await town.until(linked, "a node that was started is linked to all others", 30)


async def _ends(town: Town, index: int, words: str) -> str:
    code = await town.ended(index, 15)
    last = (town.said(index).strip().splitlines() or ["nothing"])[-1]
    if code != EXIT_IOERR or words not in last:
        raise Fallen(f"it ended with {code}, and said: {last}")
    await trio.sleep(1.5)
    return f"ended with {code} and said what to do"


async def _cut(town: Town, left: Callable[[int], int]) -> str:
    index = await town.backup()
    town.faulty.add(index)
    await town.kill(index)
    wal = town.nodes[index].home / f"{DATABASE}-wal"
    size = wal.stat().st_size
    keeps = max(0, left(size))
    os.truncate(wal, keeps)
    town.start(index)
    await _linked(town, index)
    await trio.sleep(1)
    return f"{size - keeps} of {size} bytes lost"


def _shim(directory: Path) -> Path:
    library = directory / "disk.so"
    if not library.exists():
        source = Path(__file__).with_name("disk.c")
        words = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise Fallen(
                "there is no C compiler; run: sudo apt-get install gcc libc6-dev"
            ) from None
        if done.returncode:
            raise Fallen(f"the shim does not compile: {done.stderr}")
    return library

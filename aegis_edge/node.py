"""Puts one node together: reads its home, opens what it needs, and keeps it running until told.

Knows which parts there are, and in which order they start and stop.
Refuses to decide or to remember anything: no protocol, no state.
Follows: the structured concurrency of Trio; exit codes after sysexits(3), which systemd knows.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import trio

import aegis_edge
from aegis_edge import api
from aegis_edge.config import Config, ConfigError
from aegis_edge.disk import keyfile
from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseDamaged, DiskError, disk_errors
from aegis_edge.disk.thread import DatabaseThread
from aegis_edge.net.channel import LinkError
from aegis_edge.net.direct import Direct
from aegis_edge.net.links import Links
from aegis_edge.net.poller import Poller
from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.configuration import Parameters as Pace
from aegis_edge.pbft.replica import Replica
from aegis_edge.peers import identity
from aegis_edge.peers.address import TCP
from aegis_edge.peers.book import Book
from aegis_edge.peers.genesis import Genesis, GenesisError, Parameters
from aegis_edge.replication import Replication
from aegis_edge.wire import messages
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import PROTOCOL_VERSION, LearningSigner, Opener, Signer
from aegis_edge.wire.messages import NodeRecord, Verified

log = logging.getLogger(__name__)

#: How long a node record is good for, and how long before its end a node signs a new one.
RECORD_LIFETIME_S = 2 * 365 * 86_400
RECORD_RENEWAL_S = 365 * 86_400

#: What ends a process whose error has no exit code of its own.
EXIT_FAILURE = 1


class NodeError(Exception):
    """The node cannot start or go on; the message says what to do.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    exit_code = os.EX_CONFIG


#: What a node may end of: words for people, and for most an `exit_code`.
OURS = (NodeError, ConfigError, DiskError, GenesisError, LinkError, WireError, api.ApiError)


# --- the home -------------------------------------------------------------------------------


def own_record(config: Config) -> Verified[NodeRecord]:
    """This node's signed record, as its home and `config` want it; a new version if need be.

    Reads the key file, reads the record file, and writes both if something changed.  Raises
    `DiskError`.
    """
    keys = keyfile.read(config.key_file)
    wanted = (keys.noise_public, config.advertise, config.name)
    found = _record_at(config.record_file)
    now_s = int(time.time())
    if (
        found is not None
        and found.signer == keys.public
        and (found.message.noise_key, found.message.addresses, found.message.name) == wanted
        and found.message.version == keys.record_version
        and found.message.expires_s > now_s + RECORD_RENEWAL_S
    ):
        return found
    keys = keyfile.next_record_version(config.key_file)
    record = NodeRecord(
        keys.record_version,
        keys.noise_public,
        config.advertise,
        now_s + RECORD_LIFETIME_S,
        config.name,
    )
    signed = Signer(keys.seed, b"").sign(record)
    _replace(config.record_file, identity.record_to_text(signed))
    return signed


def _record_at(path: Path) -> Verified[NodeRecord] | None:
    try:
        return identity.records_from_text(path.read_text(encoding="ascii"))[0]
    except (OSError, ValueError):
        return None  # it is only a copy of what can be signed again


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        fresh.write_text(text, encoding="ascii")
        fresh.replace(path)


def read_genesis(config: Config) -> Genesis:
    """The cluster's genesis from the home.  Raises `NodeError`."""
    path = config.genesis_file
    try:
        return Genesis.from_text(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise NodeError(
            f"{path}: there is no genesis yet; make one of all boards' records with `aegis-edge"
            " genesis create`, then `aegis-edge genesis install FILE` on each board (a new board"
            " begins with `aegis-edge init`)"
        ) from None
    except OSError as error:
        raise NodeError(f"{path}: cannot be read ({error.strerror}); check its owner") from None
    except ValueError as error:
        raise NodeError(f"{path}: {error}") from None


def remarks(genesis: Genesis) -> list[str]:
    """What in a genesis is not as it usually is, for its members' owners to know; mostly nothing.

    No node can change it any more: whoever did not mean it makes another cluster.
    """
    found = []
    count, parameters = len(genesis.members), genesis.parameters
    percent = parameters.byzantine_ratio_percent
    borne, could = quorum.faults(count, percent), quorum.faults(count)
    if borne < could:
        found.append(
            f"byzantine_threshold_ratio is {percent / 100:g}: {borne or 'none'} of {count} members"
            f" may be hostile, where so many could bear {could}"
        )
    usual = {field.name: field.default for field in fields(Parameters)}
    for name in ("checkpoint_interval", "window", "history_versions"):
        value = getattr(parameters, name)
        if value != usual[name]:
            found.append(f"{name} is {value}, and usually {usual[name]}")
    return found


def member_names(genesis: Genesis) -> dict[bytes, str]:
    """What people call each member: the name in its record, made unique where two are alike."""
    names = [record.message.name for record in genesis.records]
    return {
        record.signer: name
        if name and names.count(name) == 1
        else f"{name} {identity.short(record.signer)}".strip()
        for record, name in zip(genesis.records, names, strict=True)
    }


# --- the parts ------------------------------------------------------------------------------


async def run(
    config: Config,
    *,
    ready: Callable[[Replication], None] = lambda _: None,
    stop: trio.Event | None = None,
) -> None:
    """Run the node described by `config` until `stop` is set or the task is cancelled.

    `ready` is called once the API answers and links are being made.  Raises `NodeError` and the
    typed errors of the disk, the links and the API, alone or in a group.
    """
    stop = trio.Event() if stop is None else stop
    genesis = read_genesis(config)
    for remark in remarks(genesis):
        log.warning("the genesis of this cluster: %s", remark)
    # The API's socket first: whoever runs here already is told before anything is touched.
    with api.open_listener(config.api_socket) as listener, closing(Poller[Any]()) as poller:
        record = _members_record(config, genesis)
        async with _database(config, genesis, record.signer) as (thread, database):
            links = await _links(config, genesis, record, poller, thread, database)
            replication = await _replication(config, genesis, links, poller, thread, database)
            speaker = _speaker(config, genesis, replication, links)
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(links.run, [config.listen_address]))
                nursery.start_soon(replication.run)
                await nursery.start(api.serve, speaker, listener)
                log.info(
                    "%s runs: %s listens on %s, its API on %s",
                    *(
                        config.name,
                        identity.short(record.signer),
                        config.listen_address,
                        config.api_socket,
                    ),
                )
                ready(replication)
                await stop.wait()
                await replication.stop()
                nursery.cancel_scope.cancel()


def _members_record(config: Config, genesis: Genesis) -> Verified[NodeRecord]:
    record = own_record(config)
    if record.signer not in genesis.members:
        raise NodeError(
            f"{config.genesis_file}: this node, {identity.node_id(record.signer)}, is no member of "
            "that cluster; make the genesis anew with its record, or correct --home"
        )
    return record


@asynccontextmanager
async def _database(
    config: Config, genesis: Genesis, key: bytes
) -> AsyncIterator[tuple[DatabaseThread, Database]]:
    """The database and the thread that it lives in."""
    opening = partial(
        Database.open,
        config.database_file,
        cluster_id=genesis.cluster_id,
        node=key,
        history_versions=genesis.parameters.history_versions,
    )
    thread = DatabaseThread()
    try:
        try:
            database = await thread.call(opening)
        except DatabaseDamaged as error:
            log.error("%s", error)  # it was set aside; the peers have what it held
            database = await thread.call(opening)
        try:
            yield thread, database
        finally:
            await thread.call(database.close)
    finally:
        thread.close()


async def _links(
    config: Config,
    genesis: Genesis,
    record: Verified[NodeRecord],
    poller: Poller[Any],
    thread: DatabaseThread,
    database: Database,
) -> Links:
    """The links, with what they learnt of the members before, and will keep from now on."""
    transports = {TCP: Direct(is_on_one_host=genesis.is_on_one_host)}
    kept = _kept_records(await thread.call(database.node_records))
    now_ticks = int(trio.current_time() * 1000)
    book = Book(record.signer, genesis.records, transports, now_ticks, kept)
    links = Links(
        poller=poller,
        book=book,
        record_raw=record.raw,
        noise_private=keyfile.read(config.key_file).noise_private,
        cluster_id=genesis.cluster_id,
        transports=transports,
    )

    def keep(learnt: Verified[NodeRecord]) -> None:
        job = partial(database.keep_node_record, learnt.signer, learnt.raw)
        thread.post(job, _kept)

    links.learnt = keep
    return links


def _kept_records(raws: Iterable[bytes]) -> Iterator[Verified[NodeRecord]]:
    """Those of them that are what they should be: the file is trusted no more than a peer."""
    opener = Opener(b"")
    for raw in raws:
        try:
            yield identity.open_record(raw, opener.open)
        except WireError as error:
            log.error("a kept node record is of no use, and the one in the genesis is: %s", error)


def _kept(_: None, error: BaseException | None) -> None:
    if error is not None:  # and the next write of the replica will say so too, and stop the node
        log.error("a node record could not be kept: %s", error)


async def _replication(
    config: Config,
    genesis: Genesis,
    links: Links,
    poller: Poller[Any],
    thread: DatabaseThread,
    database: Database,
) -> Replication:
    """The replica as its database remembers it, with its performer."""
    opener = Opener(genesis.cluster_id, members=frozenset(genesis.members))
    seed = keyfile.read(config.key_file).seed
    signer = LearningSigner(Signer(seed, genesis.cluster_id), opener)
    faulty_max = quorum.faults(len(genesis.members), genesis.parameters.byzantine_ratio_percent)
    configuration = Configuration(0, genesis.members, faulty_max)
    pace = Pace(
        checkpoint_interval=genesis.parameters.checkpoint_interval,
        window=genesis.parameters.window,
        timeout_ticks=config.pbft_timeout_ticks,
    )
    info = await thread.call(database.info)
    # A database that knows nothing may have taken the place of one that did: start above it.
    least = 1 if info.executed else int(time.time())
    origins = (await thread.call(lambda: database.restored(0))).origins
    least = max(least, origins.get(signer.public, (0, 0))[0] + 1)
    incarnation = await thread.call(lambda: database.next_incarnation(least))
    restored = await thread.call(lambda: database.restored(incarnation))
    return Replication(
        key=signer.public,
        names=member_names(genesis),
        quorum=configuration.quorum,
        faulty_max=faulty_max,
        core=Replica(signer, configuration, pace, restored, opener.open),
        store=database,
        wires=links,
        poller=poller,
        thread=thread,
        read=partial(messages.read, open_=opener.open),
        revision=info.revision,
    )


def _speaker(config: Config, genesis: Genesis, replication: Replication, links: Links) -> api.Node:
    """What the API says of this node."""
    cluster = {
        "cluster": genesis.cluster_id.hex(),
        "version": aegis_edge.__version__,
        "api_socket": str(config.api_socket),
    }

    def status() -> Mapping[str, Any]:
        said = replication.status()
        said["alarms"] = said["alarms"] + [{"about": "", "reason": r} for r in links.alarms]
        return said | cluster

    def peers() -> Mapping[str, Any]:
        return {
            "peers": [
                asdict(peer) | {"peer": identity.node_id(peer.peer)} for peer in links.statistics()
            ]
        }

    def settings() -> Mapping[str, Any]:
        return {
            "settings": [
                {"key": key, "value": value, "source": source}
                for key, value, source in config.rows()
            ]
        }

    return api.Node(
        replication=replication,
        author=identity.node_id,
        status=status,
        peers=peers,
        config=settings,
        version=lambda: {
            "version": aegis_edge.__version__,
            "protocol": PROTOCOL_VERSION,
            "python": platform.python_version(),
            "trio": trio.__version__,
        },
    )


# --- the process ----------------------------------------------------------------------------


def _told(error: BaseException) -> None:
    print(f"aegis-edge: {error}", file=sys.stderr)


def main(
    config: Config,
    *,
    ready: Callable[[Replication], None] = lambda _: None,
    tell: Callable[[Exception], object] = _told,
) -> int:
    """Run the node until SIGTERM or SIGINT; the process's exit code.

    0: told to stop; else the `exit_code` of what ended it, 1 if that has none: 74, the disk
    failed; 75, another process holds what this one needs; 78, settings, genesis, key or database
    must be corrected by a person.  `tell` is given each error.
    """
    logging.basicConfig(
        level=config.log_level.upper(),
        format=("" if "JOURNAL_STREAM" in os.environ else "%(asctime)s ")
        + "%(levelname)s %(message)s",
    )
    # What the imports made stays for good, and cycles are few: look for them less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    failures: list[Exception] = []
    try:
        trio.run(_until_signalled, config, ready, strict_exception_groups=True)
    except* OURS as group:
        failures = list(_leaves(group))
    for error in failures:
        tell(error)
    return max((getattr(error, "exit_code", EXIT_FAILURE) for error in failures), default=0)


async def _until_signalled(config: Config, ready: Callable[[Replication], None]) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def heed() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for number in signals:
                    log.info("stopping after %s", signal.Signals(number).name)
                    stop.set()

        nursery.start_soon(heed)
        await run(config, ready=ready, stop=stop)
        nursery.cancel_scope.cancel()


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found

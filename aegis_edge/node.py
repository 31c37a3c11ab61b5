"""Puts one node together: reads its home, opens what it needs, and keeps it running until told.

Knows which parts there are, what each is given, and in which order they start and stop.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import trio

import aegis_edge
from aegis_edge import api, home, membership, supervisor
from aegis_edge.bans import Bans
from aegis_edge.config import Config, ConfigError
from aegis_edge.disk import hostfile, keyfile, waypointfile
from aegis_edge.disk.card import Card
from aegis_edge.disk.database import Database
from aegis_edge.disk.errors import DatabaseDamaged, DatabaseLost, DiskError
from aegis_edge.disk.hostfile import Host
from aegis_edge.disk.keyfile import NodeKeys
from aegis_edge.disk.thread import DatabaseThread
from aegis_edge.home import HomeError
from aegis_edge.invitations import Invitations
from aegis_edge.knowledge.agreed import said
from aegis_edge.knowledge.roll import Roll
from aegis_edge.net.channel import LinkError, WayError
from aegis_edge.net.clock import now_ticks
from aegis_edge.net.guest import HANDSHAKE_S, Caller
from aegis_edge.net.lan import Lan
from aegis_edge.net.links import Links, PeerStatistics
from aegis_edge.net.poller import Poller
from aegis_edge.net.sighting import see
from aegis_edge.pbft.configuration import Parameters
from aegis_edge.pbft.pace import Pace
from aegis_edge.pbft.replica import Replica
from aegis_edge.pbft.route import Waypoint
from aegis_edge.peers import identity
from aegis_edge.peers.book import Book
from aegis_edge.peers.genesis import Genesis, GenesisError
from aegis_edge.replication import Members, Outlived, Replication
from aegis_edge.replication.scrub import scrub
from aegis_edge.supervisor import Service
from aegis_edge.way import Way
from aegis_edge.way import find as find_way
from aegis_edge.wire import messages
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import PROTOCOL_VERSION, LearningSigner, Opener, Signer
from aegis_edge.wire.messages import NodeRecord, Pass, Verified

log = logging.getLogger(__name__)

#: What ends a process whose error has no exit code of its own.
EXIT_FAILURE = 1
#: A process begins anew so often: a card that takes each database is no card, and a life that ends
#: each new one is led elsewhere.
BEGINNINGS_MAX = 3


#: What a node may end of: words for people, and for most an `exit_code`.
OURS = (
    HomeError,
    ConfigError,
    DiskError,
    GenesisError,
    LinkError,
    Outlived,
    WayError,
    WireError,
    api.ApiError,
)


# --- the parts ------------------------------------------------------------------------------


async def run(
    config: Config,
    *,
    alone: bool = False,
    ready: Callable[[Replication], None] = lambda _: None,
    stop: trio.Event | None = None,
    lost: str = "",
    service: Service | None = None,
) -> None:
    """Run the node described by `config` until `stop` is set or the task is cancelled.

    `ready` is called once the API answers and links are being made.  `alone`: the owner says that
    nobody but the members that the database knows ever took part; `lost`: what became of the
    database that was found damaged just now, for the owner to hear; `service`: the manager that
    wants to know how the node stands, if there is one.  Raises `HomeError` and the typed errors of
    the disk, the links and the API, alone or in a group.
    """
    stop = trio.Event() if stop is None else stop
    genesis = home.read_genesis(config)
    for remark in home.remarks(genesis):
        log.warning("the genesis of this cluster: %s", remark)
    # The API's socket first: whoever runs here already is told before anything is touched.
    with api.open_listener(config.api_socket) as listener, closing(Poller[Any]()) as poller:
        keys = keyfile.read(config.key_file)
        record = home.own_record(config, keys)
        async with _database(config, genesis, record.signer) as (thread, database):
            if alone:
                await thread.call(database.forget_that_it_was_lost)
                waypointfile.remove(config.waypoint_file)
            roll = await thread.call(database.roll)
            kept = tuple(_kept_records(await thread.call(database.node_records)))
            way = await find_way(config, genesis, keys, record)
            keep = partial(_keep, thread, database)
            links = _links(genesis, roll, keys, record, kept, way, poller, keep)
            replication = await _replication(
                config, genesis, roll, keys, links, way, poller, thread, database
            )
            if lost:
                replication.alarms.add(lost, about=config.name)
            _follow(config, links, replication, way, thread)
            desk = _desk(config, genesis, record, kept, links, replication, keep)
            bans = _bans(config, record, links, replication)
            lan = _lan(config, genesis, record, links) if config.lan_discovery else None
            caller = Caller(record.raw, keys.noise_private, genesis.cluster_id)
            seen = partial(_seen, caller, way)
            speaker = _speaker(config, genesis, replication, links, way, desk, bans, seen)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(way.keep)
                await nursery.start(partial(links.run, [way.listen]))
                nursery.start_soon(replication.run)
                if way.expect is not None:
                    nursery.start_soon(desk.announce, way.expect)
                vouch = partial(_vouch, links, way, desk)
                nursery.start_soon(desk.vouch, Signer(keys.seed, genesis.cluster_id), vouch)
                nursery.start_soon(scrub, replication)
                if lan is not None:
                    nursery.start_soon(lan.run)
                await nursery.start(api.serve, speaker, listener)
                _log_where(config, record, way, replication)
                if service is not None:
                    nursery.start_soon(_attended, service, speaker.status, thread, config)
                ready(replication)
                await stop.wait()
                await replication.stop()
                nursery.cancel_scope.cancel()


def _log_where(
    config: Config, record: Verified[NodeRecord], way: Way, replication: Replication
) -> None:
    """Where the node is by now, and what its owner may have to do."""
    short = identity.short(record.signer)
    places = (config.name, short, way.listen, config.api_socket)
    log.info("%s runs: %s listens on %s, its API on %s", *places)
    if replication.is_observer and not replication.is_member:
        log.info("%s", replication.no_member_text())
    elif not replication.is_member:
        log.warning(
            "%s; if none of them was asked yet, `aegis-edge join` does, or give one of them this"
            " node's record, from `aegis-edge record`",
            replication.no_member_text(),
        )


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
        founders=membership.founders(genesis),
        rules=membership.rules(genesis),
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


async def _attended(
    service: Service,
    status: Callable[[], Mapping[str, Any]],
    thread: DatabaseThread,
    config: Config,
) -> None:
    """Tell the manager how the node stands, and that its disk answers: where the database waits."""
    with closing(Card(config.genesis_file)) as card:
        await service.attend(status, partial(thread.call, card.answer))


def _links(
    genesis: Genesis,
    roll: Roll,
    keys: NodeKeys,
    record: Verified[NodeRecord],
    kept: Iterable[Verified[NodeRecord]],
    way: Way,
    poller: Poller[Any],
    keep: Callable[[Verified[NodeRecord]], None],
) -> Links:
    """The links, with what they learnt of the members before, and will keep from now on."""
    book = Book(record.signer, membership.records(roll), way.transports, now_ticks(), kept)
    links = Links(
        poller=poller,
        book=book,
        record_raw=record.raw,
        noise_private=keys.noise_private,
        cluster_id=genesis.cluster_id,
        transports=way.transports,
        timing=way.timing,
        schedule=way.schedule,
    )

    def learnt(record: Verified[NodeRecord]) -> None:
        keep(record)
        way.learnt(record)

    links.learnt = learnt
    links.heard = way.heard
    links.meet(membership.records(roll), membership.configuration(genesis, roll).quorum)
    way.meet(links.records(), ())
    return links


def _kept_records(raws: Iterable[bytes]) -> Iterator[Verified[NodeRecord]]:
    """Those of them that are what they should be: the file is trusted no more than a peer."""
    opener = Opener(b"")
    for raw in raws:
        try:
            yield identity.open_record(raw, opener.open)
        except WireError as error:
            log.error("a kept node record is of no use, and the one in the genesis is: %s", error)


def _keep(thread: DatabaseThread, database: Database, record: Verified[NodeRecord]) -> None:
    """Have this record here again after a restart."""
    thread.post(partial(database.keep_node_record, record.signer, record.raw), _kept)


def _kept(_: None, error: BaseException | None) -> None:
    if error is not None:  # and the next write of the replica will say so too, and stop the node
        log.error("what it learnt of the members could not be kept: %s", error)


def _parameters(config: Config, genesis: Genesis, way: Way, roll: Roll) -> Parameters:
    """What agreement counts and waits for while this is the roll."""
    interval, window = membership.intervals(genesis, roll.agreed)
    return Parameters(
        timeout_ticks=membership.timeout_ticks(roll.agreed, config.pbft_timeout_ticks),
        turn_ticks=way.turn_ticks,
        bytes_a_second=way.bytes_a_second,
        way_ticks=way.way_ticks,
        checkpoint_interval=interval,
        window=window,
    )


async def _replication(
    config: Config,
    genesis: Genesis,
    roll: Roll,
    keys: NodeKeys,
    links: Links,
    way: Way,
    poller: Poller[Any],
    thread: DatabaseThread,
    database: Database,
) -> Replication:
    """The replica as its database remembers it, with its performer."""
    # Of anybody: who was a member when something was signed is for the replica to say.
    opener = Opener(genesis.cluster_id)
    signer = LearningSigner(Signer(keys.seed, genesis.cluster_id), opener)

    def members(roll: Roll) -> Members:
        records = membership.records(roll)
        names = home.member_names(records)
        own_name = names.get(signer.public, config.name)
        for remark in config.overruled(said(roll.agreed)):
            log.warning("%s", remark)
        return Members(
            membership.configuration(genesis, roll),
            _parameters(config, genesis, way, roll),
            names,
            own_name,
            roll.agreed,
        )

    def settle(roll: Roll) -> Members:
        settled = members(roll)
        links.meet(membership.records(roll), settled.configuration.quorum)
        way.meet(links.records(), links.friends())
        note(settled)
        return settled

    def note(members: Members) -> None:
        waypoint = Waypoint.at(members.configuration)
        job = partial(waypointfile.advance, config.waypoint_file, waypoint)
        thread.post(job, _kept)

    known = members(roll)
    waypoint = waypointfile.read(config.waypoint_file)
    note(known)
    now_s = int(time.time())
    incarnation = await thread.call(lambda: database.next_incarnation(now_s))
    restored = await thread.call(lambda: database.restored(incarnation))
    restored = replace(restored, waypoint=waypoint)
    _, revision, _ = await thread.call(database.root)
    return Replication(
        key=signer.public,
        members=known,
        settle=settle,
        core=Replica(signer, known.configuration, known.parameters, restored, opener.open),
        store=database,
        wires=links,
        poller=poller,
        thread=thread,
        read=partial(messages.read, open_=opener.open),
        revision=revision,
        alarms=links.alarms,
    )


def _follow(
    config: Config, links: Links, replication: Replication, way: Way, thread: DatabaseThread
) -> None:
    """Have a board that was invited follow its host, and whom that leads it to."""
    door, path = links.door, config.host_file
    door.is_host_alone = way.expect is not None
    door.agreed_ms = lambda: replication.agreed_ms

    def granted(word: Verified[Pass]) -> None:
        """Keep the pass, for when the host is off."""
        record = links.record_of(word.signer).raw

        def keep() -> None:
            host = hostfile.read(path)  # a newcomer may have been told more while its node ran
            is_observer = replication.is_observer = host is not None and host.is_observer
            hostfile.write(path, Host(record, is_observer, word.raw))

        thread.post(keep, _kept)

    door.granted = granted
    host = hostfile.read(path)
    # Who is to be a member is found, where callers have names, once all members know it.
    if host is None or (door.is_host_alone and not host.is_observer):
        return
    replication.is_observer = host.is_observer
    try:
        door.follow(membership.opened(host.record), host.word, now_ticks())
        way.meet(links.records(), links.friends())
    except WireError as error:
        log.error("%s: who invited this board is not known; join again: %s", path, error)


def _desk(
    config: Config,
    genesis: Genesis,
    record: Verified[NodeRecord],
    kept: Iterable[Verified[NodeRecord]],
    links: Links,
    replication: Replication,
    keep: Callable[[Verified[NodeRecord]], None],
) -> Invitations:
    """The desk to which the links bring whoever was invited."""
    level = config["security_level"] if config.is_through_tor else ""
    file = config.invitations_file
    desk = Invitations(file, genesis, record, links.records, replication, level=level, known=kept)
    desk.met = keep
    links.guest = desk.guest
    return desk


def _bans(
    config: Config, record: Verified[NodeRecord], links: Links, replication: Replication
) -> Bans:
    return Bans(config.bans_file, record.signer, links, lambda: replication.members.configuration)


def _lan(config: Config, genesis: Genesis, record: Verified[NodeRecord], links: Links) -> Lan:
    try:
        return Lan(
            cluster_id=genesis.cluster_id,
            record_raw=record.raw,
            listen=config.listen,
            introduced=links.introduced,
            known=lambda: {known.raw for known in links.records()},
        )
    except WireError as error:
        raise ConfigError(
            f"{config.values['lan_discovery'].source}: lan_discovery: {error}"
        ) from None


async def _seen(caller: Caller, way: Way, record: Verified[NodeRecord]) -> str:
    """See `api.Node.see`."""
    if way.expect is not None:
        return "at this security level nobody but a member can call it"
    handshake_s = HANDSHAKE_S if way.timing is None else way.timing.handshake_s
    try:
        await see(caller, way.transports, record, handshake_s=handshake_s)
    except LinkError as error:
        return str(error)
    return ""


def _vouch(
    links: Links, way: Way, desk: Invitations, given: Mapping[bytes, Verified[Pass]]
) -> None:
    """Have the guests of this node find it, and link to it."""
    links.vouch(given, desk.records())
    way.meet(links.records(), links.friends())


def _speaker(
    config: Config,
    genesis: Genesis,
    replication: Replication,
    links: Links,
    way: Way,
    desk: Invitations,
    bans: Bans,
    seen: Callable[[Verified[NodeRecord]], Awaitable[str]],
) -> api.Node:
    """What the API says of this node."""
    cluster = {
        "cluster": genesis.cluster_id.hex(),
        "version": aegis_edge.__version__,
        "api_socket": str(config.api_socket),
    }

    def status() -> Mapping[str, Any]:
        found = links.statistics()
        used = [p.traffic for p in found if p.role == "member" or p.traffic.links]
        tor = dict(way.status(used))
        if tor:
            tor["is_own"] = config["tor"] == "own"
        observers = _followers(found, replication)
        return replication.status() | cluster | {"tor": tor or None, "observers": observers}

    def peers() -> Mapping[str, Any]:
        return {
            "peers": [_peer(each, replication) for each in links.statistics()],
            "bans": [
                {"peer": identity.node_id(kept.key), "left_ticks": kept.left_ticks}
                for kept in bans.listed()
            ],
        }

    def timeout_ticks() -> int:
        members = replication.members
        return Pace(replication.key, members.configuration, members.parameters).timeout_ticks

    return api.Node(
        replication=replication,
        author=identity.node_id,
        status=status,
        peers=peers,
        config=lambda: _settings(config, replication),
        version=lambda: {
            "version": aegis_edge.__version__,
            "protocol": PROTOCOL_VERSION,
            "python": platform.python_version(),
            "trio": trio.__version__,
        },
        name=replication.name,
        record=membership.opened,
        dial=links.dial,
        schemes=frozenset(way.transports),
        see=seen,
        quorum=membership.rules(genesis).quorum,
        invitations=desk,
        bans=bans,
        timeout_ticks=timeout_ticks,
    )


def _peer(peer: PeerStatistics, replication: Replication) -> dict[str, Any]:
    names = replication.members.names  # unique, where records need not be
    return asdict(peer) | {
        "peer": identity.node_id(peer.peer),
        "name": names.get(peer.peer, peer.name),
        "behind": replication.behind(peer.peer),
    }


def _followers(peers: Iterable[PeerStatistics], replication: Replication) -> list[dict[str, Any]]:
    """The observers that are linked, and how far each is if this node feeds it."""
    return [
        {
            "id": identity.node_id(each.peer),
            "name": each.name,
            "behind": replication.behind(each.peer),
        }
        for each in peers
        if each.role == "observer" and each.state == "linked"
    ]


def _settings(config: Config, replication: Replication) -> Mapping[str, Any]:
    """What the owner set, what the members agreed on, and where these two differ."""
    agreed = said(replication.members.agreed)
    return {
        "settings": [
            {"key": key, "value": value, "source": source}
            for key, value, source in config.rows(agreed)
        ],
        "agreed": [{"key": key, "value": value, "since": since} for key, value, since in agreed],
        "overruled": config.overruled(agreed),
    }


# --- the process ----------------------------------------------------------------------------


def _told(error: BaseException) -> None:
    print(f"aegis-edge: {error}", file=sys.stderr)


def main(
    config: Config,
    *,
    alone: bool = False,
    ready: Callable[[Replication], None] = lambda _: None,
    tell: Callable[[Exception], object] = _told,
    reread: Callable[[], Config] | None = None,
) -> int:
    """Run the node until SIGTERM or SIGINT; the process's exit code.

    0: told to stop; else the `exit_code` of what ended it, 1 if that has none: 74, the disk
    failed; 75, another process holds what this one needs; 78, settings, genesis, key or database
    must be corrected by a person.  `tell` is given each error; for `alone` see `run`.  A service
    reads its settings again at SIGHUP, by `reread`.  Where a database is found damaged while it is
    in use, the node begins anew with an empty one, a few times: of that one the owner said nothing,
    `alone` or not.  So it does where it has found an earlier life of its own that was counted
    higher.
    """
    _log_to_stderr(config)
    service = supervisor.of(os.environ)
    # What the imports made stays for good, and cycles are few: look for them less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    lost, left = "", BEGINNINGS_MAX
    signalled: list[int] = []
    while True:
        failures: list[Exception] = []
        try:
            hear = partial(_heed, config, service, reread)
            run_once = partial(
                _until_signalled, config, ready, alone, lost, signalled, service, hear
            )
            trio.run(run_once, strict_exception_groups=True)
        except* OURS as group:
            failures = list(_leaves(group))
        for error in failures:
            tell(error)
            if service is not None:
                service.say(str(error))
        left -= 1
        begins_anew = any(isinstance(error, (DatabaseLost, Outlived)) for error in failures)
        if not begins_anew or not left or signalled:
            break
        for error in failures:
            if isinstance(error, DatabaseLost):
                lost, alone = str(error), False
    return max((getattr(error, "exit_code", EXIT_FAILURE) for error in failures), default=0)


async def _until_signalled(
    config: Config,
    ready: Callable[[Replication], None],
    alone: bool,
    lost: str,
    signalled: list[int],
    service: Service | None,
    heed: Callable[[trio.Event, list[int]], Awaitable[None]],
) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed, stop, signalled)
        if service is not None:
            await service.pause(stop)
            nursery.start_soon(service.open)
        if not stop.is_set():
            await run(config, alone=alone, ready=ready, stop=stop, lost=lost, service=service)
        nursery.cancel_scope.cancel()


async def _heed(
    config: Config,
    service: Service | None,
    reread: Callable[[], Config] | None,
    stop: trio.Event,
    signalled: list[int],
) -> None:
    """Set `stop` when the process is told to end; a service is told to read its settings, too."""
    reload = [] if service is None or reread is None else [signal.SIGHUP]
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *reload) as signals:
        async for number in signals:
            if service is not None and reread is not None and number == signal.SIGHUP:
                service.reloading()
                _reload(config, reread)
                service.reloaded()
                continue
            log.info("stopping after %s", signal.Signals(number).name)
            signalled.append(number)
            if service is not None:
                service.stopping()
            stop.set()


def _reload(config: Config, reread: Callable[[], Config]) -> None:
    """How much is logged is changed at once; of the rest the owner is told when it counts."""
    try:
        fresh = reread()
    except ConfigError as error:
        log.error("the settings stay as they are: %s", error)
        return
    logging.getLogger().setLevel(fresh.log_level.upper())
    later = [key for key in fresh.values if key != "log_level" and fresh[key] != config[key]]
    if later:
        log.warning("%s: what the settings say now counts from the next start", ", ".join(later))
    log.info("the settings were read again")


def _log_to_stderr(config: Config) -> None:
    handler = logging.StreamHandler()
    if supervisor.is_journal(os.environ, 2):
        handler.setFormatter(supervisor.Formatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found

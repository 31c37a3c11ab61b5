"""What a home tells of its node: the node's record, its cluster, and what people call the members.

Knows when a record is signed anew, which genesis is out of the ordinary, and how names become
unique.  Refuses to know tasks and links: commands read a home without a node.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from aegis_edge.config import Config
from aegis_edge.disk import keyfile
from aegis_edge.disk.errors import disk_errors
from aegis_edge.disk.keyfile import NodeKeys
from aegis_edge.pbft import quorum
from aegis_edge.peers import identity, onion
from aegis_edge.peers.address import ONION, Address
from aegis_edge.peers.genesis import Genesis, Parameters, intervals
from aegis_edge.wire.envelope import Signer
from aegis_edge.wire.messages import NodeRecord, Verified

#: How long a node record is good for, and how long before its end a node signs a new one.
RECORD_LIFETIME_S = 2 * 365 * 86_400
RECORD_RENEWAL_S = 365 * 86_400


class HomeError(Exception):
    """A home that no node can run in as it is; `advice`: what to do, perhaps in several lines.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    exit_code = os.EX_CONFIG

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__("; ".join([message, *advice.splitlines()]))
        self.message = message
        self.advice = advice


def own_record(config: Config, keys: NodeKeys) -> Verified[NodeRecord]:
    """This node's signed record, as its `keys` and `config` want it; a new version if need be.

    Reads the record file; if something changed, writes it and the version in the key file.
    Raises `DiskError`.
    """
    addresses = own_addresses(config, keys)
    wanted = (keys.noise_public, addresses, config.name)
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
        addresses,
        now_s + RECORD_LIFETIME_S,
        config.name,
        _proofs(config, keys),
    )
    signed = Signer(keys.seed, b"").sign(record)
    _replace(config.record_file, identity.record_to_text(signed))
    return signed


def own_addresses(config: Config, keys: NodeKeys) -> tuple[str, ...]:
    """The addresses that this node's record shall give; the onion one is known before tor runs."""
    if not config.is_through_tor:
        return config.advertise
    hosts = map(onion.service_address, _service_seeds(keys))
    return tuple(str(Address(ONION, host, config.p2p_port)) for host in hosts)


def _proofs(config: Config, keys: NodeKeys) -> tuple[bytes, ...]:
    """That these addresses are this node's, as its record has to show: see `peers.places`."""
    if not config.is_through_tor:
        return ()
    return tuple(onion.proof(seed, keys.public) for seed in _service_seeds(keys))


def _service_seeds(keys: NodeKeys) -> tuple[bytes, ...]:
    return tuple(onion.service_seed(keys.seed, number) for number in keys.onion_generations)


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
    """The cluster's genesis from the home.  Raises `HomeError`."""
    path = config.genesis_file
    try:
        return Genesis.from_text(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise HomeError(
            f"{path}: there is no genesis yet",
            "with an invitation: aegis-edge join CODE\n"
            "as a cluster of this board alone: aegis-edge init --single\n"
            "of all boards' records, once: aegis-edge genesis create; then, on each:"
            " aegis-edge genesis install",
        ) from None
    except OSError as error:
        raise HomeError(f"{path}: cannot be read ({error.strerror})", "check its owner") from None
    except ValueError as error:
        raise HomeError(f"{path}: {error}") from None


def remember(config: Config, genesis: Genesis, own: bytes, raws: Sequence[bytes]) -> None:
    """Keep these records, which somebody gave us, for the node to begin with: where members are.

    They are hints: each is checked for what it says of itself, and gives way to what the member
    shows.  Raises `DiskError`, `DatabaseLocked` if the node runs.
    """
    from aegis_edge import membership  # which most who read a home need not import
    from aegis_edge.disk.database import Database

    records = [membership.opened(raw) for raw in raws]
    database = Database.open(
        config.database_file,
        cluster_id=genesis.cluster_id,
        node=own,
        history_versions=genesis.parameters.history_versions,
        founders=membership.founders(genesis),
        rules=membership.rules(genesis),
    )
    try:
        for record in records:
            if record.signer != own:
                database.keep_node_record(record.signer, record.raw)
    finally:
        database.close()


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
    usual["checkpoint_interval"], usual["window"] = intervals(genesis.records)
    for name in ("checkpoint_interval", "window", "history_versions"):
        value = getattr(parameters, name)
        if value != usual[name]:
            found.append(f"{name} is {value}, and usually {usual[name]}")
    return found


def member_names(records: Sequence[Verified[NodeRecord]]) -> dict[bytes, str]:
    """What people call each member: the name in its record, made unique where two are alike."""
    names = [record.message.name for record in records]
    return {
        record.signer: name
        if name and names.count(name) == 1
        else f"{name} {identity.short(record.signer)}".strip()
        for record, name in zip(records, names, strict=True)
    }

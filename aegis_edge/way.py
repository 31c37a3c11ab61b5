"""The way that links travel: straight over TCP, or through Tor, as the settings want it.

Knows what each way needs before the first link, and what runs beside the links to keep it open.
Refuses to know what travels.  Tor's modules are imported only where they are used: who links
directly does not pay for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from aegis_edge import home
from aegis_edge.config import Config, ConfigError
from aegis_edge.disk.errors import disk_errors
from aegis_edge.disk.keyfile import NodeKeys
from aegis_edge.net.channel import Transport
from aegis_edge.net.direct import Direct
from aegis_edge.net.links import Schedule, Timing
from aegis_edge.peers.address import ONION, TCP
from aegis_edge.peers.genesis import Genesis

#: Through Tor a handshake is three round trips over six hops.
#: What six hops take beside the schedule, on a bad day.
_TOR_HOP_TICKS = 2_000
_TOR_TIMING = Timing(handshake_s=90.0, keepalive_ticks=20_000, silence_ticks=120_000)


@dataclass(frozen=True, slots=True)
class Way:
    """`listen`: where this node is reached.  `keep` runs for as long as the links do.

    `hop_ticks`: how long nearly all messages take, if they have to wait for their turn; else 0.
    `status`: how far the way is, in plain values; empty if there is nothing to say.
    """

    transports: Mapping[str, Transport]
    listen: str
    timing: Timing | None
    schedule: Schedule | None
    hop_ticks: int
    keep: Callable[[], Awaitable[None]]
    status: Callable[[], Mapping[str, Any]]


async def find(config: Config, genesis: Genesis, keys: NodeKeys) -> Way:
    """The way that `config` wants; raises `ConfigError` where it cannot be gone."""
    return await (_through_tor if config.is_through_tor else _direct)(config, genesis, keys)


async def _direct(config: Config, genesis: Genesis, keys: NodeKeys) -> Way:
    return Way(
        {TCP: Direct(is_on_one_host=genesis.is_on_one_host)},
        config.listen_address,
        None,
        None,
        0,
        trio.sleep_forever,
        dict,
    )


async def _through_tor(config: Config, genesis: Genesis, keys: NodeKeys) -> Way:
    from aegis_edge.net.tor import child, levels, member
    from aegis_edge.net.tor.endpoint import Endpoint, EndpointError
    from aegis_edge.net.tor.errors import TorError
    from aegis_edge.net.tor.gateway import Gateway, Tor
    from aegis_edge.net.tor.keeper import Keeper
    from aegis_edge.net.tor.levels import SecurityLevel
    from aegis_edge.net.tor.torrc import Places

    level = SecurityLevel(config["security_level"])
    is_own = config["tor"] == "own"
    folder = config.tor_directory
    with disk_errors(folder):
        folder.mkdir(0o700, parents=True, exist_ok=True)
    try:
        places = Places(folder / "own")
        control, socks = (
            (places.control, places.socks)
            if is_own
            else (
                Endpoint.parse(config["tor_control_port"]),
                Endpoint.parse(config["tor_socks_port"]),
            )
        )
        modules = None
        with suppress(*(() if is_own else (TorError,))):
            modules = await child.modules()
    except (EndpointError, TorError) as error:
        raise ConfigError(str(error)) from None
    own = member.Keys(keys.public, keys.seed, keys.noise_private)
    target = str(folder / "onion.sock")
    service = member.own_service(
        own, genesis.cluster_id, genesis.records, level, config.p2p_port, target
    )
    clients = member.credentials(own, genesis.cluster_id, genesis.records, level)
    through = Gateway(Tor(control, socks, modules=modules, is_own=is_own), level, service, clients)
    shape = levels.TABLE[level].shape
    extra = _extra(config.tor_extra_file) if is_own else ()

    async def keep() -> None:
        async with trio.open_nursery() as nursery:
            if is_own:
                keeper = Keeper(places, level, extra)
                through.hung = keeper.restart
                nursery.start_soon(keeper.run)
            nursery.start_soon(through.run)

    def status() -> Mapping[str, Any]:
        standing = through.standing
        return {
            "level": level.value,
            "address": standing.address,
            "stage": standing.progress.value,
            "words": "; ".join(filter(None, (standing.words, standing.warning))),
            "bootstrap_percent": standing.percent,
            "tor_version": standing.version,
            "link_bytes_a_day": shape.link_bytes_a_day,
        }

    return Way(
        {ONION: through},
        home.own_addresses(config, keys)[0],
        _TOR_TIMING,
        None if shape.mean_interval_s is None else Schedule(shape.mean_interval_s),
        int(shape.wait_s(0.99) * 1000) + _TOR_HOP_TICKS if shape.is_scheduled else 0,
        keep,
        status,
    )


def _extra(path: Path) -> tuple[tuple[str, str], ...]:
    """The owner's lines for the torrc of the node's own tor."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); it holds lines of a torrc, as text"
        ) from None
    words = (line.partition(" ")[::2] for line in lines if line.strip() and line[0] != "#")
    return tuple((name, value.strip()) for name, value in words)

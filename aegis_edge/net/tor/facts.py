"""What a running tor says of itself, for `levels.missing` to judge.

Knows which questions to ask, and that an old tor does not know them all.
Refuses to judge.  Follows: control-spec sections 3.3 (GETCONF) and 3.9 (GETINFO).
"""

from __future__ import annotations

from aegis_edge.net.tor import levels
from aegis_edge.net.tor.control import Control
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import Refused
from aegis_edge.net.tor.levels import Conf, Facts, SecurityLevel
from aegis_edge.net.tor.lines import Reply, unquoted


async def gather(
    control: Control,
    level: SecurityLevel,
    modules: frozenset[str] | None,
    place: Endpoint,
    socks: Endpoint,
) -> Facts:
    """The facts about the tor behind `control`, which was reached at `place`; raises `TorError`.

    `modules`: of `child.modules`, None if that could not be asked; `socks`: where its SOCKS port is
    said to be.
    """
    reply = await control.command("GETINFO", "version")
    version = "".join(reply.values().get("version", ()))
    return Facts(version, modules, await options(control, levels.asked(level)), place, socks)


async def options(control: Control, names: tuple[str, ...]) -> Conf:
    """The values of these options; those that this tor does not know are missing."""
    try:
        return _values(await control.command("GETCONF", *names))
    except Refused:
        pass  # one unknown name spoils the whole answer
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        try:
            found |= _values(await control.command("GETCONF", name))
        except Refused:
            continue
    return found


def _values(reply: Reply) -> dict[str, tuple[str, ...]]:
    return {name: tuple(map(unquoted, found)) for name, found in reply.values().items()}

"""What a node's cluster agrees on, as its owner's programs see it: how it stands, and who is in it.

    async with HybridConsensus() as consensus:
        proposal = await consensus.propose_change(Addition(record))
        print((await consensus.get_network_stats())["quorum"])

Knows which answers of the local API tell of agreement.  Refuses to decide: a quorum of the members
does, each for its own node (`aegis-edge approve`).  Trio coroutines, all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aegis_edge.beside import Beside


@dataclass(frozen=True, slots=True)
class Addition:
    """That a board becomes a member; `record` is the text that `aegis-edge record` prints there.

    `unseen`: also where it would be needed and does not answer; if it never comes, the cluster
    stops for good.
    """

    record: str
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """That a member goes; `node_id` as `aegis-edge members` shows it."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Adjustment:
    """That all members go by another value of a parameter; see `aegis-edge propose --help`."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Proposed:
    """What came of a proposal: `number` names it; it waits for others while `is_open`."""

    number: int
    is_open: bool


#: What `get_network_stats` gives of a status.
_STATS = (
    "cluster",
    "nodes",
    "quorum",
    "faulty_max",
    "is_member",
    "reachable",
    "view",
    "view_changing",
    "primary_name",
    "executed",
    "stable",
    "revision",
    "state_root",
)


class HybridConsensus(Beside):
    """The agreement of the node whose home this is, while the block lasts.

    `home`: its home directory; by default the one that the `aegis-edge` command would use.  Raises
    `ConfigError`; each call raises `ClientError`, `NotRunning` among them.
    """

    async def propose_change(self, change: Addition | Removal | Adjustment) -> Proposed:
        """Propose a change, with this node's yes; whoever wants the same says yes to it.

        Raises `Conflict` if it is so already, the rules do not allow it or a board that would be
        needed does not answer, `NotFound` if there is
        no such member, `Invalid` for what is no record, id or parameter, or out of its bounds.
        """
        if isinstance(change, Addition):
            said = await self._client.propose_addition(change.record, unseen=change.unseen)
        elif isinstance(change, Adjustment):
            said = await self._client.propose_value(change.name, change.value)
        else:
            said = await self._client.propose_removal(change.node_id)
        return Proposed(said["number"], said["open"])

    async def vote(self, number: int, *, approve: bool) -> Proposed:
        """Say yes or no to a proposal, for this node; errors as for `propose_change`."""
        said = await self._client.vote(number, approve)
        return Proposed(said["number"], said["open"])

    async def get_network_stats(self) -> dict[str, Any]:
        """How the agreement stands, as this node has it: who decides, who leads, and how far it is.

        The keys are those of `aegis-edge status --json`: `nodes`, `quorum`, `faulty_max`,
        `reachable` (names), `view`, `primary_name`, `executed` (sequence numbers), `revision` and
        others.
        """
        status = await self._client.status()
        return {name: status[name] for name in _STATS}

"""Why an operation has no outcome: each error with a code for programs and advice for people.

Knows the words.  Refuses to know when they are said.
"""

from __future__ import annotations

import os

from aegis_edge.knowledge.operations import VALUE_BYTES_MAX


class ReplicationError(Exception):
    """Why an operation was not confirmed; `code` for programs, `advice` for people."""

    code = "unavailable"
    advice = "try again"


class Busy(ReplicationError):
    """The queue of waiting operations is full; nothing was taken."""

    code = "busy"
    advice = "this node has more waiting writes than it can hold: slow down and try again"


class TooLarge(ReplicationError):
    """One operation is above the bound; nothing was taken."""

    code = "too_large"
    advice = (
        f"split the value: one entry holds at most {VALUE_BYTES_MAX // 1024} KiB, and at HIGH and"
        " PARANOID so much less that no link is busy with it for long"
    )


class NoQuorum(ReplicationError):
    """Too few nodes are reachable.  `taken`: the operation may still happen when they return."""

    code = "no_quorum"
    advice = "start the missing nodes, or mend the network between them"

    def __init__(self, message: str, *, taken: bool) -> None:
        super().__init__(message)
        self.taken = taken


class NoMember(ReplicationError):
    """This node is not, or no longer, a member; nothing of what it still wanted will happen."""

    code = "no_member"
    advice = "ask a member; `aegis-edge members` shows who they are"


class NoLineage(ReplicationError):
    """A proof is judged by the genesis alone, and what leads from its members to today's is too
    long, or not here: members changed under a release that did not sign who follows.
    """

    code = "unprovable"
    advice = "read without a proof; a new cluster of the same boards can prove what it holds"


class Unconfirmed(ReplicationError):
    """No answer in time although a quorum is reachable; the operation may still happen."""

    code = "timeout"
    advice = "it may still happen: read the key before trying again"


class Damaged(ReplicationError):
    """This node's disk does not have what was agreed on; it is fetched from the others."""

    code = "damaged"
    advice = "try again: it is being fetched from the others; or use another node meanwhile"


class Stopped(ReplicationError):
    """The node is shutting down; the operation may or may not have happened."""

    code = "stopping"
    advice = "wait until the node runs again, and read the key before trying again"


class Outlived(Exception):
    """This life of the node counts for nothing beside an earlier one: the next one will not.

    Not for callers: it ends `Replication.run`.  `exit_code` is for who has begun anew too often.
    """

    exit_code = os.EX_CONFIG


class Halted(ReplicationError):
    """This node takes no part any more, for the reason in the message."""

    code = "halted"
    advice = "use another node, and mend this one: its log and `status` say what happened"

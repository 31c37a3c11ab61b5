"""How a node stands, in one line for `systemctl status`.

Knows the fields of the API's status, and which of them its owner has to hear of first.
Refuses to compute any, and to say what changes with every write: the line is sent when it is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What the way through Tor is called where no tor answers, and where nothing is left to wait for.
NO_TOR = "no tor"
REACHABLE = "reachable"
BYTES_MAX = 512


def answers(status: Mapping[str, Any]) -> bool:
    """Whether the tor of this node answers it, if it has one."""
    tor = status["tor"]
    return tor is None or tor["stage"] != NO_TOR


def standing(status: Mapping[str, Any]) -> str:
    """Where a node stands, the worst first.  `status`: what the API says of it."""
    parts = [_agreement(status)]
    if status["tor"] is not None:
        parts.append(_tor(status["tor"]))
    alarms = len(status["alarms"])
    if alarms:
        parts.append(f"{alarms} alarm{'' if alarms == 1 else 's'}: see aegis-edge status")
    return one_line("; ".join(parts))


def waiting(status: Mapping[str, Any]) -> str:
    """What a node that does not serve yet waits for."""
    return one_line(f"waits for tor to answer: {status['tor']['words']}")


def one_line(text: str) -> str:
    """`text` as the value of a line: printable, and no longer than anybody reads."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown.encode()[:BYTES_MAX].decode(errors="ignore")


def _agreement(status: Mapping[str, Any]) -> str:
    if status["halted"]:
        return "takes no part any more; its log says why"
    reachable, nodes = status["reachable"], status["nodes"]
    if not status["is_member"]:
        return f"no member, waits to be let in; {len(reachable)} of {nodes} members reachable"
    here = f"{len(reachable) + 1} of {nodes} nodes reachable"
    if not status["has_quorum"]:
        names = f" ({', '.join(reachable)})" if reachable else ""
        return f"no quorum: {here}{names}, {status['quorum']} needed"
    if status["transfer"] is not None:
        done, parts = status["transfer"]["done"], status["transfer"]["parts"]
        return f"{here}; fetches the state of the others: {done} of {parts} parts"
    if status["view_changing"]:
        return f"{here}; waits for another leader than {status['primary_name']}"
    return f"{here}; {status['primary_name']} leads, view {status['view']}"


def _tor(tor: Mapping[str, Any]) -> str:
    stage, words = tor["stage"], tor["words"]
    if stage == REACHABLE or not words:
        return f"tor: {stage}"
    return f"tor: {words}" if words.startswith(stage) else f"tor: {stage}; {words}"

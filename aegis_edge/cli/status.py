"""`aegis-edge status`: where the node stands, on one screen.

Knows which figures an owner looks at first.  Refuses to compute any.
"""

from __future__ import annotations

from typing import Any

import click

from aegis_edge.cli import screen

#: A tor that the node starts itself may take so long, on a slow board from a worn-out card.
TOR_START_S = 60
#: What the node says where no tor answers it.
NO_TOR = "no tor"


@click.command("status")
@screen.common
def command() -> None:
    """Show where the node stands: its cluster, who is reachable, what is agreed on.

    \b
    Examples:
      aegis-edge status
      aegis-edge status --json | jq .revision
    """
    with screen.client() as client:
        said = client.status()
    if screen.wants_json():
        screen.print_json(said)
        return
    screen.pairs(rows(said))
    for alarm in said.get("alarms", []):
        screen.say(f"{screen.bad('alarm')}  {screen.shown(_alarm(alarm))}")


def _alarm(said: dict[str, Any]) -> str:
    """Whom it is about, if it is about a member, and what."""
    return ": ".join(filter(None, (said.get("about"), said.get("reason"))))


def _transfer(said: dict[str, Any]) -> str:
    """How far a node is that fetches the state of others."""
    parts, done = said.get("parts", 0), said.get("done", 0)
    share = f": {done} of {screen.count(parts, 'part')} that differ" if parts else ""
    return f"the state after batch {said.get('to', '?')}{share}"


def _source(said: dict[str, Any]) -> str:
    """Whom a node without a vote follows, and how far it is."""
    if not said.get("source"):
        return screen.bad("nobody yet: see aegis-edge peers")
    behind, hops = said.get("behind", 0), said.get("hops", 0)
    stands = f"{screen.count(behind, 'batch', 'es')} behind" if behind else "nothing is missing"
    through = f", {hops} hops from who votes" if hops > 1 else ""
    return f"{screen.shown(said['source'])}: {stands}{through}"


def _observer(said: dict[str, Any]) -> str:
    behind = said.get("behind")
    stands = f" ({screen.count(behind, 'batch', 'es')} behind)" if behind else ""
    return f"{screen.shown(said['name'])}{stands}"


def _rot(said: dict[str, Any]) -> str:
    """What the disk did to what was written, and what became of it."""
    rows = screen.count(said.get("rotten", 0) + said.get("mended", 0), "row")
    left = said.get("rotten")
    mended = f"all but {left} mended" if left else "mended"
    return f"it spoilt {rows}, {mended} from what the others have"


def tolerance(nodes: int, quorum: int, faulty_max: int) -> str:
    """What so many members bear, in words: how many may be off, how many hostile."""
    if nodes == 1:
        return "alone: what this board loses is lost"
    off = nodes - quorum
    if not off:
        return f"all {nodes} needed; none may be off, none hostile"
    if off == faulty_max:
        return f"{quorum} needed; {off} may be off or hostile"
    return f"{quorum} needed; {off} may be off, {faulty_max or 'none'} hostile"


def rows(said: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines for people; fields that another version does not send are left out."""
    found: list[tuple[str, str]] = []
    if "name" in said:
        found.append(("node", f"{screen.strong(screen.shown(said['name']))}  {said.get('id', '')}"))
    if "cluster" in said:
        found.append(("cluster", said["cluster"]))
    if {"nodes", "quorum", "faulty_max", "reachable"} <= said.keys():
        is_member = said.get("is_member", True)
        here = len(said["reachable"]) + is_member
        # Who is no member is none of them, and has no part in it; they have theirs without it.
        is_there = said.get("has_quorum") if is_member else here >= said["quorum"]
        needs = tolerance(said["nodes"], said["quorum"], said["faulty_max"])
        state = screen.good("quorum") if is_there else screen.bad("no quorum")
        between = "; " if said["nodes"] == 1 else ", "
        reachable = f"{here} of {said['nodes']} nodes reachable"
        found.append(("members", f"{state}: {reachable}{between}{needs}"))
        if not is_member:
            words = screen.bad(
                "no member: it follows, and takes part once the members have admitted it"
            )
            if said.get("is_observer"):
                words = "an observer: it reads what the members agree on, and writes nothing"
            found.append(("this node", words))
    if said.get("follows"):
        found.append(("follows", _source(said["follows"])))
    if said.get("observers"):
        found.append(("observers", ", ".join(map(_observer, said["observers"]))))
    if said.get("halted"):
        found.append(("halted", screen.bad("this node takes no part any more; see its log")))
    if "view" in said:
        changing = screen.bad(" (waits for the next view)") if said.get("view_changing") else ""
        primary = screen.shown(str(said.get("primary_name", "?")))
        found.append(("primary", f"{primary}{changing}, view {said['view']}"))
    if "executed" in said:
        found.append(("agreed", f"batch {said['executed']}; checkpoint at {said.get('stable', 0)}"))
    if said.get("transfer"):
        found.append(("fetches", _transfer(said["transfer"])))
    if "revision" in said:
        waiting = screen.count(said.get("pending", 0), "write")
        found.append(("revision", f"{said['revision']}; {waiting} waiting"))
    if said.get("rotten") or said.get("mended"):
        found.append(("disk", screen.bad(_rot(said))))
    if said.get("state_root"):
        at = f"at batch {said.get('state_root_executed', '?')}"
        found.append(("state root", f"{said['state_root']} {screen.faint(at)}"))
    if said.get("tor"):
        found += tor_rows(said["tor"])
    if "version" in said:
        found.append(("version", str(said["version"])))
    return found


def tor_rows(said: dict[str, Any]) -> list[tuple[str, str]]:
    """How far the way through Tor is, and why no further."""
    stage, words = _stage(said)
    shown = screen.good(stage) if stage == "reachable" else screen.bad(stage)
    found = [
        ("tor", f"{said.get('level', '?')}: {shown}{f'; {screen.shown(words)}' if words else ''}"),
        ("onion", screen.shown(str(said.get("address", "?")))),
    ]
    for address in said.get("old_addresses", ()):
        words = "given up once every member has been linked"
        found.append(("old onion", f"{screen.shown(str(address))} {screen.faint(words)}"))
    if "link_bytes_a_day" in said:
        megabytes = said["link_bytes_a_day"] / 1e6
        found.append(("budget", f"{megabytes:.0f} MB a day for each link, both directions"))
    if {"used_bytes", "used_s", "used_link_bytes_a_day"} <= said.keys():
        rate = f"{said['used_link_bytes_a_day'] / 1e6:.0f} MB a day for each link"
        used = f"{said['used_bytes'] / 1e6:.1f} MB in {screen.span(said['used_s'])}"
        found.append(("used", f"{used}: {rate}"))
    return found


def _stage(said: dict[str, Any]) -> tuple[str, str]:
    """How far tor is, and why no further, for an owner of the node, and perhaps not of that tor."""
    stage, words = str(said.get("stage", "?")), str(said.get("words", ""))
    if stage == NO_TOR and said.get("is_own"):  # what the words advise, the node does by itself
        if said.get("tor_version"):
            return "starting again", "the node's log says why its tor ended"
        if said.get("used_s", 0) <= TOR_START_S:
            return "starting", ""
        return NO_TOR, "the one that the node starts does not come up: see the node's log"
    return stage, words.removeprefix(stage).lstrip("; ")

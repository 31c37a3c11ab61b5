"""`aegis-edge verify`: whether a proof holds, with no node and no home, and what it then shows.

Knows files and words.  Refuses to judge: that is `aegis_edge.proof`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_edge.cli import screen
from aegis_edge.cli.kb import entry_of, line_of_value, value_fields

if TYPE_CHECKING:
    from aegis_edge.peers.genesis import Genesis
    from aegis_edge.proof import Proven


@click.command("verify")
@click.argument("file", metavar="FILE", type=click.Path())
@click.option(
    "--genesis",
    "genesis_file",
    metavar="GENESIS",
    required=True,
    type=click.Path(),
    help="The genesis of the cluster, got by a way that you trust.",
)
@screen.common
def command(file: str, genesis_file: str) -> None:
    """Check a proof that `kb get --proof FILE` made: offline, with nothing but the genesis.

    What holds was so after the batch that is named, at the agreed time that is shown; what came
    after, no proof can say.  Exit code 0: it holds; 7: it does not; 66: there is nothing to check.

    \b
    Examples:
      aegis-edge kb get greenhouse/door --proof door.proof
      aegis-edge verify door.proof --genesis genesis
    """
    from aegis_edge import proof

    genesis = _genesis(genesis_file)
    try:
        proven = proof.verify(_data(file), genesis)
    except proof.NotAProof as error:
        raise screen.Failure(f"{file}: {error}", "", "unreadable") from None
    except proof.ProofError as error:
        raise screen.Failure(
            f"{file}: the proof does not hold: {error}",
            "believe nothing that it says; it is damaged, forged, or of another cluster",
            "not_proven",
        ) from None
    if screen.wants_json():
        screen.print_json(_said(proven, genesis))
    else:
        screen.pairs(_rows(proven, genesis))


def _data(name: str) -> bytes:
    """What is in the file, as much of it as a proof can have and one byte more."""
    from aegis_edge.proof import PROOF_BYTES_MAX

    try:
        with Path(name).open("rb") as file:
            return file.read(PROOF_BYTES_MAX + 1)
    except OSError as error:
        raise screen.Failure(
            f"{name}: {error.strerror}", "check the path and its permissions", "unreadable"
        ) from None


def _genesis(name: str) -> Genesis:
    from aegis_edge.peers.genesis import Genesis, GenesisError

    try:
        return Genesis.from_text(Path(name).read_text(encoding="ascii"))
    except OSError as error:
        message = str(error.strerror)
    except UnicodeDecodeError:
        message = "is not a text file"
    except GenesisError as error:
        message = str(error)
    raise screen.Failure(
        f"{name}: {message}", "give the file that `aegis-edge genesis create` made", "genesis"
    )


def _said(proven: Proven, genesis: Genesis) -> dict[str, Any]:
    from aegis_edge.client import Garbled
    from aegis_edge.knowledge import agreed
    from aegis_edge.peers.identity import node_id

    version = proven.version
    is_there = version is not None and not version.deleted
    said: dict[str, Any] = {"key": proven.key, "present": is_there}
    if version is not None:
        said |= {
            "deleted": version.deleted,
            "revision": version.revision,
            "author": node_id(version.author),
            "time_ms": version.time_ms,
        }
    if version is not None and is_there:
        said["media"] = "json" if version.media else "bytes"
        try:
            said |= value_fields(entry_of(version).value)
        except Garbled:  # somebody wrote as JSON what is none: that, too, is proven
            said |= value_fields(version.value)
    state = {
        "configuration": proven.changes,
        "members": [node_id(key) for key in proven.members],
        "agreed": {name: value for name, value, _ in agreed.said(proven.agreed)},
        "sequence": proven.sequence,
        "revision": proven.revision,
        "time_ms": proven.time_ms,
        "signers": [node_id(key) for key in proven.signers],
    }
    return said | {"state": state, "cluster": genesis.cluster_id.hex()}


def _rows(proven: Proven, genesis: Genesis) -> list[tuple[str, str]]:
    from aegis_edge import home
    from aegis_edge.peers.identity import node_id

    by_id = {node_id(key): name for key, name in home.member_names(genesis.records).items()}
    version = proven.version
    rows = [("proven", screen.good("it holds")), ("key", screen.strong(screen.shown(proven.key)))]
    if version is None:
        rows.append(("value", "none, and there never was one"))
    else:
        what = "none: deleted" if version.deleted else line_of_value(version.value)
        who = screen.author(node_id(version.author), by_id)
        rows += [
            ("value", what),
            ("written", f"revision {version.revision}, by {who}, {_time(version.time_ms)}"),
        ]
    signers = ", ".join(screen.author(node_id(key), by_id) for key in proven.signers)
    rows += [
        ("as of", f"batch {proven.sequence}, {_time(proven.time_ms)}; not of what came after"),
        ("signed", f"{signers}: {len(proven.signers)} of {len(proven.members)} members"),
        *([("members", _lineage(proven.changes))] if proven.changes else []),
        *([("agreed", _agreed(proven))] if proven.agreed else []),
        ("cluster", genesis.cluster_id.hex()),
    ]
    return rows


def _lineage(changes: int) -> str:
    """How many times those who signed, or what they share, are away from the genesis."""
    times = "once" if changes == 1 else f"{changes} times"
    return f"changed {times} since the genesis, each time signed by those before"


def _agreed(proven: Proven) -> str:
    """What those who signed had agreed on."""
    from aegis_edge.knowledge.agreed import PARAMETERS

    values = (f"{each.name} {PARAMETERS[each.name].text(each.value)}" for each in proven.agreed)
    return ", ".join(values)


def _time(time_ms: int) -> str:
    """An agreed time: whoever reads it may live in another zone, and years later."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms after 1970"

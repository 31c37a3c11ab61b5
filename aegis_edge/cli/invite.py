"""`aegis-edge invite` and `replace`: a code with which one board may ask to be let in.

Knows how a code is shown, as text and as a picture.  Refuses to keep it: it is shown once, and the
node itself has nothing that would let anybody in.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aegis_edge.cli import patience, screen
from aegis_edge.cli.meant import Group
from aegis_edge.cli.members import named

_F = TypeVar("_F", bound=Callable[..., Any])
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
#: As the node has it, whose rooms take long to import.
LIFETIME_S = range(60, 30 * 86_400 + 1)


def seconds_of(ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    """The seconds in such as 30min; for an option of click's."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})(s|min|h|d)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} must look like 30min, 1h or 2d")
    return int(found[1]) * _SECONDS[found[2]]


def _lifetime_s(ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    seconds = seconds_of(ctx, parameter, value)
    if seconds not in LIFETIME_S:
        raise click.BadParameter(f"{value} is out of bounds: 1min to 30d")
    return seconds


def _options(function: _F) -> _F:
    options = (
        click.option(
            "--for",
            "lifetime_s",
            callback=_lifetime_s,
            default="1h",
            show_default=True,
            metavar="TIME",
            help="How long it is good, from 1min to 30d, by the cluster's agreed time.",
        ),
        click.option(
            "--qr/--no-qr",
            "picture",
            default=None,
            help="A picture of it for a camera, or none; on a terminal there is one.",
        ),
        patience.option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("invite", cls=Group, invoke_without_command=True)
@_options
@click.option(
    "--observer",
    "is_observer",
    is_flag=True,
    help="Invite a board that reads, and is no member: nobody has to say yes.",
)
@screen.common
@click.pass_context
def command(
    ctx: click.Context,
    lifetime_s: int,
    picture: bool | None,
    timeout_s: float | None,
    is_observer: bool,
) -> None:
    """Invite a board: print a code that one board can use, once.

    The new board types `aegis-edge join CODE`, and this one proposes it.  A board alone lets it in
    by that; where there are more, the others say yes with `aegis-edge approve`.  Hand the code over
    like a key: whoever uses it first is who was invited.

    With --observer the new board follows what the members agree on and reads all of it, but has no
    vote and writes nothing.  This board alone vouches for it, until `aegis-edge remove`.

    \b
    Examples:
      aegis-edge invite
      aegis-edge invite --for 2d
      aegis-edge invite --observer
      aegis-edge invite list
      aegis-edge invite cancel 1f6a09c2
    """
    if ctx.invoked_subcommand is None:
        _invite(lifetime_s, None, picture, timeout_s, is_observer=is_observer)


@command.command("list")
@screen.common
def list_() -> None:
    """Show what became of the invitations of this board.

    \b
    Example:
      aegis-edge invite list
    """
    with screen.client() as client:
        said = client.invitations()
    if screen.wants_json():
        screen.print_json(said)
        return
    if not said["invitations"]:
        screen.say("nobody was invited")
        return
    rows = [
        [
            each["invitation"],
            each["state"],
            "observer" if each.get("observer") else "member",
            screen.ago(each["until_ms"]),
            screen.shown(each["guest_name"] or ""),
            screen.shown(each["instead_of"] or ""),
            str(each["proposal"] or ""),
        ]
        for each in said["invitations"]
    ]
    header = ["INVITATION", "STATE", "FOR", "ENDS", "BOARD", "INSTEAD OF", "PROPOSAL"]
    screen.table(header, rows, right="PROPOSAL")


@command.command("cancel")
@click.argument("invitation", metavar="INVITATION")
@screen.common
def cancel(invitation: str) -> None:
    """End an invitation, and what an observer has of it.

    INVITATION is what `aegis-edge invite list` calls it; the newest is first there.

    \b
    Example:
      aegis-edge invite cancel 1f6a09c2
    """
    with screen.client() as client:
        said = client.cancel_invitation(invitation)
    if screen.wants_json():
        screen.print_json(said)
    else:
        screen.say("nobody can use it any more")


@click.command("replace")
@click.argument("old", metavar="OLD")
@_options
@screen.common
def replace(old: str, lifetime_s: int, picture: bool | None, timeout_s: float | None) -> None:
    """Invite a board in the place of the member OLD, which is lost: its name, or its id's start.

    It is one proposal: the new board comes and OLD goes in the same moment, so that the cluster
    never has one member too few or too many.  Who goes is said here, by a member, and not by the
    new board: a code lets nobody choose.  On the new board it is `aegis-edge join CODE` as ever.

    \b
    Example:
      aegis-edge replace attic
    """
    with screen.client() as client:
        instead_of = named(old, client.members()["members"])
    _invite(lifetime_s, instead_of, picture, timeout_s)


def _invite(
    lifetime_s: int,
    instead_of: str | None,
    picture: bool | None,
    timeout_s: float | None,
    *,
    is_observer: bool = False,
) -> None:
    with patience.wishing(timeout_s) as client:
        said = client.invite(lifetime_s, instead_of, is_observer=is_observer)
    if screen.wants_json():
        screen.print_json(said)
        return
    code = said["code"]
    wanted = sys.stdout.isatty() if picture is None else picture
    if wanted:
        _show(code)
    whom = ", for an observer" if is_observer else ""
    screen.note(f"good once{whom}, for {screen.span(lifetime_s)}; on the new board type:")
    screen.say(f"aegis-edge join {code}")
    _remark(code)


def _show(code: str) -> None:
    drawn = _drawn(code.replace("-", ""))
    if drawn:
        screen.say(drawn)


def _drawn(text: str) -> str:
    """A QR code of blocks; empty, with a word on it, where there is nothing to draw it with."""
    import io

    try:
        import segno
    except ImportError:
        screen.note("for a picture of it: sudo apt install python3-segno, or pip install segno")
        return ""
    out = io.StringIO()
    segno.make_qr(text, error="l").terminal(out=out, compact=True)
    drawn = out.getvalue()
    try:
        drawn.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        screen.note("this terminal cannot show a picture of it: it is not set to UTF-8")
        return ""
    return drawn


def _remark(code: str) -> None:
    from aegis_edge.peers import address
    from aegis_edge.peers.invitation import Invitation

    addresses = Invitation.from_text(code).addresses
    if "loopback" in address.peculiarities(addresses):
        where = ", ".join(addresses)
        screen.note(
            f"it leads to {where}, which only this machine reaches: for other boards, set"
            " `advertise` (and `listen`) in config.toml, run the node again, and invite again"
        )

"""`aegis-edge join`: a new board comes to the cluster that invited it, and waits to be let in.

Knows the newcomer's way: its home, the member that invited it, the genesis, its admission.
Refuses to believe what it is given but for the genesis, whose digest is in the code.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

import click

from aegis_edge.cli import screen
from aegis_edge.cli.init import board_options

if TYPE_CHECKING:
    from aegis_edge.config import Config
    from aegis_edge.disk.keyfile import NodeKeys
    from aegis_edge.net.channel import Transport
    from aegis_edge.net.guest import Caller
    from aegis_edge.peers.invitation import Invitation
    from aegis_edge.peers.welcome import Answer
    from aegis_edge.wire.messages import NodeRecord, Verified

#: Between two questions how far it is, the first and the longest pause.
POLL_S = 1.0
POLL_S_MAX = 15.0

#: Through Tor the member that invited may be announcing its service just now: how often to try, and
#: how long it may take for its part of a handshake, and to ask its cluster.
TRIES_THROUGH_TOR = 6
HANDSHAKE_THROUGH_TOR_S = 90.0
ANSWER_THROUGH_TOR_S = 300.0


@click.command("join")
@click.argument("code", metavar="CODE", nargs=-1)
@board_options
@click.option("--no-wait", is_flag=True, help="End once the members are asked.")
@click.option("--run", "runs", is_flag=True, help="Once they are asked, run the node: see run.")
@screen.common
def command(code: Sequence[str], no_wait: bool, runs: bool, **board: Any) -> int:
    """Make this board a node of the cluster that it was invited to, with `aegis-edge invite`.

    CODE may have any blanks, dashes and capitals; without it, or as -, it is read from standard
    input, and so in no list of processes.  The node of the member that invited must run, this one
    need not.  The board becomes a node as by `init`, with the same options, if it is none yet.

    Where others have to say yes, it waits for them.  That may be left with Ctrl-C: what was asked
    stays asked, and a node that runs takes part once it is let in.  From then on its vote is
    needed, so run it soon, or with --run at once: a node that runs follows already while it waits,
    and so has caught up by then.  A board that was invited as an observer follows, and that is all.

    \b
    Examples:
      aegis-edge join CODE --name barn --address 192.168.1.21:8080
      aegis-edge join CODE --run
      aegis-edge join CODE --tor --run
      aegis-edge join --no-wait < code
    """
    from aegis_edge.cli import init, run
    from aegis_edge.disk import keyfile

    invitation = _read(code)
    config = init.settings_of(**board)
    _refuse_its_own_code(config, invitation)
    _refuse_another_cluster(config, invitation)
    _refuse_another_way(config, invitation)
    _refuse_nowhere(config, invitation)
    record = _made(config)
    newcomer = _Newcomer(config, invitation, keyfile.read(config.key_file), record)
    newcomer.come(wait=not no_wait and not runs)
    if runs:
        click.get_current_context().invoke(run.command)
    if not screen.wants_json():
        screen.say(f"Next: {screen.typed('run')}")
    return screen.OK


# --- before anybody is called -----------------------------------------------------------------


def _read(words: Sequence[str]) -> Invitation:
    from aegis_edge.peers.invitation import Invitation, InvitationError

    text = " ".join(words)
    if text in ("", "-"):
        if sys.stdin.isatty():
            screen.note("Type or paste the code, and then Enter:")
        text = sys.stdin.readline()
    try:
        return Invitation.from_text(text)
    except InvitationError as error:
        raise click.BadParameter(str(error), param_hint="CODE") from None


def _refuse_its_own_code(config: Config, invitation: Invitation) -> None:
    from aegis_edge.disk import keyfile

    if config.key_file.exists() and keyfile.read(config.key_file).public == invitation.host:
        raise click.UsageError("this is the board that invited: type the code on the new board")


def _refuse_another_cluster(config: Config, invitation: Invitation) -> None:
    from aegis_edge import home

    if not config.genesis_file.exists():
        return
    found = home.read_genesis(config).cluster_id
    if found != invitation.cluster_id:
        raise screen.Failure(
            f"this home belongs to another cluster already, {found.hex()[:16]}, and the code is of"
            f" {invitation.cluster_id.hex()[:16]}",
            "a board that is in two clusters has two homes: give another directory with --home,"
            " and other ports",
            "genesis",
        )


def _refuse_another_way(config: Config, invitation: Invitation) -> None:
    """A board goes the way of its cluster, and hides no less than the others do; or stays away."""
    here = config["security_level"] if config.is_through_tor else ""
    if here == invitation.level:
        return
    is_node = config.key_file.exists()
    if not invitation.level:
        source = config.values["transport"].source
        raise screen.Failure(
            "the boards of this cluster link directly, and this one is set to go through Tor",
            "join without --tor"
            if source.startswith("flag ")
            else f"set transport to direct ({source}), or give another directory with --home",
        )
    raise screen.Failure(
        f"the boards of this cluster link through Tor, at {invitation.level}, and this one "
        + (f"is set to {here}" if here else "would link directly"),
        f"set transport = 'tor' and security_level = '{invitation.level}' in {config.file}"
        if is_node
        else f"join with --tor --security-level {invitation.level}",
    )


def _refuse_nowhere(config: Config, invitation: Invitation) -> None:
    """Others have to reach this board where its record says that it is."""
    from aegis_edge.peers import address

    if config.is_through_tor:
        return
    ours = address.peculiarities(config.advertise)
    if not ours & {"loopback", "unspecified"}:
        return
    if "loopback" in address.peculiarities(invitation.addresses):
        return  # all on one machine
    raise click.UsageError(
        f"the others cannot reach this board at {', '.join(config.advertise)}: say where, with"
        f" --address {_seen_from(invitation.addresses) or 'HOST'}:{config.p2p_port}, or with"
        " `advertise` in config.toml if this is a node already"
    )


def _seen_from(addresses: Iterable[str]) -> str:
    """The address of this board that lies towards these; nothing is sent, and nobody is asked."""
    from aegis_edge.peers import address

    for place in map(address.parse, addresses):
        if not place.is_name:
            family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
            with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((place.host, place.port))
                host = str(probe.getsockname()[0])
                return f"[{host}]" if ":" in host else host
    return ""


def _made(config: Config) -> Verified[NodeRecord]:
    """This node's record; it is made a node if it is none yet."""
    from aegis_edge import home
    from aegis_edge.cli import init
    from aegis_edge.disk import keyfile

    unsaved = config.unsaved()
    if not config.key_file.exists():
        return init.make(config, unsaved)
    if unsaved:
        raise screen.Failure(
            f"this is a node already, with other settings: {', '.join(unsaved)}",
            f"write them into {config.file}, or join without",
        )
    return home.own_record(config, keyfile.read(config.key_file))


def _refuse_beside_a_node(config: Config) -> None:
    """Two would take the one tor from each other."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(config.api_socket))
        except OSError:
            return
    raise screen.Failure(
        "the node of this board runs, and its tor is for one of the two",
        "it takes part by itself once it is let in; to ask once more, stop it first",
    )


# --- the newcomer's way -------------------------------------------------------------------------


class _Patience(TypedDict, total=False):
    """How long to wait for a host, in seconds; what is not said is as of `net.guest`."""

    handshake_s: float
    answer_s: float


class _Newcomer:
    """One board on its way in."""

    def __init__(
        self,
        config: Config,
        invitation: Invitation,
        keys: NodeKeys,
        record: Verified[NodeRecord],
    ) -> None:
        from aegis_edge.net.guest import Caller

        self._config = config
        self._invitation = invitation
        self._record = record
        self._caller: Caller = Caller(record.raw, keys.noise_private, invitation.cluster_id)
        self._transport: Transport
        self._said = ""

    def come(self, *, wait: bool) -> None:
        import trio

        try:
            trio.run(self._come, wait)
        except BaseExceptionGroup as group:  # of a dial that was under way
            if group.split(KeyboardInterrupt)[0] is None:
                raise
            raise KeyboardInterrupt from None

    async def _come(self, wait: bool) -> None:
        from aegis_edge import way
        from aegis_edge.net.direct import Direct
        from aegis_edge.peers import address

        invitation = self._invitation
        if not invitation.level:
            is_on_one_host = "loopback" in address.peculiarities(invitation.addresses)
            self._transport = Direct(is_on_one_host=is_on_one_host)
            self._tell(await self._asked(wait))
            return
        _refuse_beside_a_node(self._config)
        hosts = [address.parse(text).host for text in invitation.addresses]
        visit = way.visiting(self._config, hosts, invitation.credential, self._note)
        async with visit as transport:
            self._transport = transport
            answer = await self._asked(wait)
        self._tell(answer)

    async def _asked(self, wait: bool) -> Answer:
        """Have the host propose this board; how far it is then."""
        from aegis_edge.net.channel import LinkError

        try:
            answer = await self._first()
            answer = await self._unless_later(answer, is_ready=False)
        except LinkError as error:
            raise screen.Failure(
                f"the member that invited cannot be reached: {error}",
                "its node has to run; try again then",
            ) from None
        self._settle(answer)
        # It holds the genesis, and knows where the members are.  Whatever it can do before it has
        # a vote begins here; from its admission on, its vote is needed.
        return await self._admission(wait)

    async def _first(self) -> Answer:
        """The first answer; raises `LinkError`."""
        import trio

        from aegis_edge.net.channel import LinkError

        for _ in range(TRIES_THROUGH_TOR - 1 if self._invitation.level else 0):
            try:
                return await self._ask(is_ready=False)
            except LinkError as error:
                self._note(f"the member that invited is not found yet: {error}")
            await trio.sleep(POLL_S)
        return await self._ask(is_ready=False)

    async def _ask(self, *, is_ready: bool) -> Answer:
        """What the host says, at the first of its addresses where it says something."""
        from aegis_edge.net import guest
        from aegis_edge.net.channel import LinkError
        from aegis_edge.peers import address, welcome
        from aegis_edge.wire.codec import WireError

        failure = LinkError("there is no address that can be called from here")
        scheme, patience = address.TCP, _Patience()
        if self._invitation.level:
            scheme = address.ONION
            patience = _Patience(handshake_s=HANDSHAKE_THROUGH_TOR_S, answer_s=ANSWER_THROUGH_TOR_S)
        for text in self._invitation.addresses:
            if address.parse(text).scheme != scheme:
                continue
            try:
                raw = await guest.ask(
                    self._caller,
                    self._transport,
                    text,
                    self._invitation.host,
                    lambda transcript: welcome.question(
                        self._invitation, transcript, is_ready=is_ready
                    ),
                    **patience,
                )
                answer = welcome.read_answer(raw)
            except guest.Unknown:
                _refused(
                    "the member that invited does not know this code: it was replaced by newer"
                    " ones, or is of a node that was made anew"
                )
            except LinkError as error:
                failure = LinkError(f"{text}: {error}")
            except WireError as error:
                failure = LinkError(f"{text}: {error}")
            else:
                self._judge(answer)
                return answer
        raise failure

    def _judge(self, answer: Answer) -> None:
        """End here if this code leads nowhere any more."""
        from aegis_edge.peers.welcome import State

        words = {
            State.EXPIRED: "this invitation has expired: it was good until"
            f" {_date(self._invitation.until_s)}",
            State.USED: "this invitation was used already, by another board",
            State.CANCELLED: "this invitation was cancelled",
            State.REJECTED: "the members did not let this board in",
            State.REFUSED: f"this board cannot be let in: {screen.shown(answer.words)}",
        }
        if answer.state in words:
            _refused(words[answer.state])

    async def _unless_later(self, answer: Answer, *, is_ready: bool) -> Answer:
        """The first answer that is more than a word of patience."""
        import trio

        from aegis_edge.peers.welcome import State

        pause_s = POLL_S
        while answer.state is State.LATER:
            self._note(f"the cluster cannot decide now ({screen.shown(answer.words)}); waiting")
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S_MAX)
            answer = await self._ask(is_ready=is_ready)
        return answer

    def _settle(self, answer: Answer) -> None:
        """Install the genesis, if it is the one that was promised, and keep the hints."""
        from aegis_edge import home
        from aegis_edge.cli import genesis
        from aegis_edge.disk import waypointfile
        from aegis_edge.disk.errors import DatabaseLocked
        from aegis_edge.pbft.route import Waypoint
        from aegis_edge.peers.genesis import Genesis, GenesisError
        from aegis_edge.wire.codec import WireError

        try:
            found = Genesis.from_text(answer.genesis)
        except GenesisError as error:
            raise screen.Failure(f"the member that invited gave {error}") from None
        if found.cluster_id != self._invitation.cluster_id:
            raise screen.Failure(
                "the member that invited gave the genesis of another cluster than its code names",
                "do not trust it; ask another member for an invitation",
            )
        if not self._config.genesis_file.exists():
            genesis.put(self._config, found)
        waypoint = Waypoint(self._invitation.number, self._invitation.mark)
        waypointfile.advance(self._config.waypoint_file, waypoint)
        try:
            home.remember(self._config, found, self._record.signer, answer.records)
        except DatabaseLocked:
            pass  # the node runs, and learns from the members themselves
        except WireError as error:
            screen.note(f"what it says of the members is of no use, and is left out: {error}")
        self._remember_host(answer.records[:1])

    def _remember_host(self, records: Sequence[bytes]) -> None:
        """Whom to follow before this board is a member, as the node will find it when it starts."""
        from aegis_edge import membership
        from aegis_edge.disk import hostfile
        from aegis_edge.wire.codec import WireError

        try:
            (host,) = map(membership.opened, records)
        except (ValueError, WireError):
            return  # the members will be found, or not, as by any other board
        known = hostfile.read(self._config.host_file)
        if host.signer == self._invitation.host and (known is None or known.record != host.raw):
            hostfile.write(self._config.host_file, hostfile.Host(host.raw, False))

    async def _admission(self, wait: bool) -> Answer:
        """Ask to be let in; and `wait` for it, or only until the members are asked."""
        import trio

        from aegis_edge.net.channel import LinkError
        from aegis_edge.peers.welcome import State

        pause_s = POLL_S
        while True:
            try:
                answer = await self._ask(is_ready=True)
            except LinkError as error:
                self._note(f"the member that invited cannot be reached ({error}); trying again")
            else:
                self._settle_role(answer.state is State.OBSERVER)
                if answer.state in (State.ADMITTED, State.OBSERVER):
                    return answer
                if answer.state is State.WAITING:
                    self._note(
                        f"proposal {answer.number} waits for others: {answer.yes} of"
                        f" {answer.needed} said yes; on their boards:"
                        f" aegis-edge approve {answer.number}"
                    )
                    if not wait:
                        return answer
                else:
                    self._note(f"waiting for the cluster: {screen.shown(answer.words)}")
            await trio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, POLL_S_MAX)

    def _settle_role(self, is_observer: bool) -> None:
        """Write down what this board was invited for: its node says so when asked to write."""
        from dataclasses import replace

        from aegis_edge.disk import hostfile

        known = hostfile.read(self._config.host_file)
        if known is not None and known.is_observer is not is_observer:
            hostfile.write(self._config.host_file, replace(known, is_observer=is_observer))

    def _note(self, line: str) -> None:
        if line != self._said:
            self._said = line
            screen.note(line)

    def _tell(self, answer: Answer) -> None:
        from aegis_edge.peers import identity
        from aegis_edge.peers.welcome import State

        becomes = {State.ADMITTED: "member", State.OBSERVER: "observer"}
        state = becomes.get(answer.state, "waiting")
        node_id = identity.node_id(self._record.signer)
        if screen.wants_json():
            screen.print_json(
                {
                    "state": state,
                    "node_id": node_id,
                    "name": self._config.name,
                    "cluster": self._invitation.cluster_id.hex(),
                    "home": str(self._config.directory),
                    "proposal": answer.number or None,
                }
            )
            return
        screen.pairs(
            [
                ("node", screen.strong(node_id)),
                ("name", screen.shown(self._config.name)),
                ("cluster", self._invitation.cluster_id.hex()),
                ("home", str(self._config.directory)),
            ]
        )
        screen.say()
        if state == "member":
            screen.say("This board is a member now, and the cluster counts on its vote.")
        elif state == "observer":
            screen.say("This board is an observer: it reads what the members agree on.")
        else:
            screen.say(f"This board is let in once enough say: aegis-edge approve {answer.number}")


def _refused(words: str) -> NoReturn:
    raise screen.Failure(words, "ask for a new one: aegis-edge invite", "not_invited")


def _date(until_s: int) -> str:
    import time

    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until_s))
    except (OverflowError, ValueError, OSError):
        return "a time that no clock shows"

"""The node's own onion service, and its credentials for others': commands, and what tor answers.

Knows ADD_ONION, DEL_ONION, ONION_CLIENT_AUTH_ADD and HS_DESC events as values.
Refuses to know the connection they travel on, and when to send them.
Follows: control-spec on ADD_ONION, DEL_ONION, ONION_CLIENT_AUTH_ADD and the event HS_DESC.

Services are never detached: they end with the control connection, so a node that was killed leaves
none behind, and one that lives adds its own again.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from aegis_edge.net.tor import lines
from aegis_edge.net.tor.errors import Refused, TorError
from aegis_edge.net.tor.levels import ProofOfWork
from aegis_edge.net.tor.lines import Garbled, Reply
from aegis_edge.peers import onion
from aegis_edge.peers.onion import OnionError

#: Tor takes no more: a descriptor with more clients is too big for the directories.
CLIENTS_MAX = 330
#: The only event that `Publication` needs; and the one that `is_purge` does.
EVENT = "HS_DESC"
EVENT_SIGNAL = "SIGNAL"
ASK_PRESENT = ("GETINFO", "onions/current", "onions/detached")


@dataclass(frozen=True, slots=True)
class Service:
    """An onion service: its key as a 32-byte seed, and where its connections go.

    `target`: the Unix socket of the node.  `clients`: X25519 public keys of those who may find it;
    empty: anybody may.  `max_streams`: at once on one circuit; more close it.
    """

    seed: bytes = field(repr=False)
    virtual_port: int
    target: str
    clients: tuple[bytes, ...] = ()
    max_streams: int = 16
    proof_of_work: ProofOfWork | None = None

    @property
    def address(self) -> str:
        """Its onion address, known before any tor is asked."""
        return onion.service_address(self.seed)


def target_problem(path: str) -> str:
    """Why tor cannot be told this path of a Unix socket; empty if it can.

    ADD_ONION knows no quotes, and a comma or a blank would end the path.
    """
    if _TARGET.fullmatch(path) and len(path) <= 107:
        return ""
    return (
        f"{lines.printable(path)!r} cannot be the target of an onion service; use an absolute path "
        "of at most 107 letters, digits and ._/-+@"
    )


_TARGET = re.compile(r"/[A-Za-z0-9._/+@-]+")


def add(service: Service) -> tuple[str, ...]:
    """The command that adds it; secret, for it holds the key."""
    assert 1 <= service.virtual_port <= 65_535, "a port is 1 to 65535"
    assert len(service.clients) <= CLIENTS_MAX, f"at most {CLIENTS_MAX} clients"
    if problem := target_problem(service.target):
        raise TorError(*problem.split("; "))
    key = base64.b64encode(onion.expanded_secret(service.seed)).decode("ascii")
    flags = ["DiscardPK", "MaxStreamsCloseCircuit", *(["V3Auth"] if service.clients else [])]
    words = [
        "ADD_ONION",
        f"ED25519-V3:{key}",
        f"Flags={','.join(flags)}",
        f"MaxStreams={service.max_streams}",
        f"Port={service.virtual_port},unix:{service.target}",
    ]
    if service.proof_of_work is not None:
        words += [
            "PoWDefensesEnabled=1",
            f"PoWQueueRate={service.proof_of_work.queue_rate}",
            f"PoWQueueBurst={service.proof_of_work.queue_burst}",
        ]
    words += [f"ClientAuthV3={onion.authorised_client(key)}" for key in service.clients]
    return tuple(words)


def check_added(service: Service, reply: Reply) -> None:
    """Raises `TorError` unless tor serves the address, for the clients, that it was told to."""
    found = reply.values()
    clients = {onion.authorised_client(key) for key in service.clients}
    if (
        found.get("ServiceID") != (service.address.removesuffix(onion.SUFFIX),)
        or set(found.get("ClientAuthV3", ())) != clients
    ):
        raise TorError(
            f"tor confirms another service than {service.address}",
            "do not go on with this tor: update it, or see what listens on its control port",
        )


def explained(error: Refused) -> TorError:
    """A refused ADD_ONION with what to do about it."""
    if "collision" in error.said:
        return TorError(
            "this tor serves the node's onion address already, for somebody else",
            "stop the other aegis-edge that has the same key, and remove a HiddenServiceDir with "
            "this key from torrc",
        )
    if "PoW" in error.said:
        return TorError(
            f"this tor cannot demand proof of work ({error.said})",
            "update tor to 0.4.9.2 or later",
        )
    return error


def present(reply: Reply) -> frozenset[str]:
    """The addresses of `ASK_PRESENT`'s answer: added by this connection, or detached."""
    names = {
        name
        for values in reply.values().values()
        for value in values
        for name in value.split("\n")
        if name
    }
    return frozenset(name + onion.SUFFIX for name in names)


def remove(address: str) -> tuple[str, ...]:
    """The command that ends a service.

    Before `add` of one that is `present`: adding a key twice makes tor log a bug of its own, and
    only a new service has the new clients.
    """
    return ("DEL_ONION", address.removesuffix(onion.SUFFIX))


def authorise(address: str, private: bytes) -> tuple[str, ...]:
    """The command that gives tor this node's X25519 key for one service.

    Tor keeps it in its memory, until a NEWNYM of anybody's has it forget all such keys: `is_purge`.
    """
    onion.parse(address)
    name = address.removesuffix(onion.SUFFIX)
    return ("ONION_CLIENT_AUTH_ADD", name, f"x25519:{onion.client_credential(private)}")


ASK_AUTHORISED = ("ONION_CLIENT_AUTH_VIEW",)


def authorised(reply: Reply) -> frozenset[str]:
    """The addresses of `ASK_AUTHORISED`'s answer: those for which tor holds a key."""
    words = (line.text.split(" ") for line in reply.lines)
    return frozenset(w[1] + onion.SUFFIX for w in words if w[0] == "CLIENT" and len(w) > 1)


def is_purge(event: Reply) -> bool:
    """Whether tor has just forgotten the keys that `authorise` gave it."""
    return event.lines[0].text in (f"{EVENT_SIGNAL} NEWNYM", f"{EVENT_SIGNAL} RELOAD")


def deauthorise(address: str) -> tuple[str, ...]:
    """The command that has tor forget that key, and its descriptor of the service."""
    return ("ONION_CLIENT_AUTH_REMOVE", address.removesuffix(onion.SUFFIX))


def forget(address: str, private: bytes | None) -> tuple[tuple[str, ...], ...]:
    """The commands that have tor forget its descriptor of a service, but not this node's key.

    `private`: that key, None where there is no client authorisation.  Tor has no command of its own
    for that: a descriptor goes when a key goes, so there has to be one.
    """
    commands = (authorise(address, private or _SPARE), deauthorise(address))
    return commands if private is None else (*commands, authorise(address, private))


#: A key that opens nothing.
_SPARE = bytes(31) + b"\x40"


# --- where a descriptor is ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DescriptorEvent:
    """One HS_DESC event: `action` and `directory` as tor names them, `reason` if it failed."""

    action: str
    address: str
    directory: str
    reason: str


def descriptor_event(event: Reply) -> DescriptorEvent | None:
    """The HS_DESC event in `event`; None if it is another one, or makes no sense."""
    try:
        words, pairs = lines.fields(event.lines[0].text)
    except Garbled:
        return None
    if len(words) < 5 or words[0] != EVENT:
        return None
    _, action, name, _, directory = words[:5]
    address = name.lower() + onion.SUFFIX
    try:
        onion.parse(address)
    except OnionError:
        return None
    reason = lines.printable(pairs.get("REASON", ""), 40)
    return DescriptorEvent(action, address, lines.printable(directory, 80), reason)


class Stage(Enum):
    """How far a service of ours is on its way into Tor's directories."""

    ADDED = "added"
    UPLOADING = "uploading"
    PUBLISHED = "published"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Publication:
    """What is known of one service's descriptor; `after` gives the next.

    `uploaded`: directories that have confirmed it; `failed`: those that did not, with tor's reason.
    """

    address: str
    tried: frozenset[str] = frozenset()
    uploaded: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """One directory that has it is enough for being found."""
        if self.uploaded:
            return Stage.PUBLISHED
        if self.failed and self.tried <= self.failed.keys():
            return Stage.FAILED
        return Stage.UPLOADING if self.tried else Stage.ADDED

    @property
    def words(self) -> str:
        """The stage for people, with the reasons of failures."""
        if self.stage is Stage.FAILED:
            reasons = sorted({_REASONS.get(r, f"reason {r}") for r in self.failed.values()})
            return f"not published: {', '.join(reasons)}; tor tries again by itself"
        return {
            Stage.ADDED: "added; tor is making its introduction points",
            Stage.UPLOADING: "on its way to Tor's directories",
            Stage.PUBLISHED: f"published in {len(self.uploaded)} of Tor's directories",
        }[self.stage]

    def after(self, event: DescriptorEvent) -> Publication:
        """What is known once `event` has come."""
        if event.address != self.address:
            return self
        place = event.directory
        failed = {key: reason for key, reason in self.failed.items() if key != place}
        if event.action == "UPLOAD":
            if len(self.tried) >= _DIRECTORIES_MAX:
                return replace(Publication(self.address), tried=frozenset({place}))
            return replace(self, tried=self.tried | {place}, failed=failed)
        if event.action == "UPLOADED" and place in self.tried:
            return replace(self, uploaded=self.uploaded | {place}, failed=failed)
        if event.action == "FAILED" and place in self.tried:
            failed[place] = event.reason or "UNKNOWN"
            return replace(self, uploaded=self.uploaded - {place}, failed=failed)
        return self


#: Directories change from day to day; a service that lives for years must not collect them all.
_DIRECTORIES_MAX = 64
_REASONS = {
    "UPLOAD_REJECTED": "its directories refuse it (is this board's clock right?)",
    "UNEXPECTED": "its directories answer with nonsense",
    "UNKNOWN": "its directories give no reason",
}

"""What every transport offers to the links: a channel of frames, and the ways to get one.

Knows the interface, its one error, and the codes with which a link says why it ends.
Refuses to know TCP, Tor and who is at the other end.
Codes are WebSocket close codes: RFC 6455 section 7.4, private ones from 4000.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Any, Protocol

import trio

from aegis_edge.peers.conduct import What

#: The largest frame that is taken from a peer before it has proven who it is; afterwards it is
#: `wire.session.FRAME_BYTES_MAX`.  With the HTTP head that is below 64 KiB.
FRAME_BYTES_MAX_UNPROVEN = 4_096


class Goodbye(IntEnum):
    """Why one end closes a link, told to the other end."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL = 1002
    TOO_BIG = 1009
    DUPLICATE = 4001
    NOT_A_MEMBER = 4002
    WRONG_NODE = 4003
    OWN_KEY = 4004
    RECORD = 4005
    HANDSHAKE = 4006
    SILENT = 4007
    BAD_MESSAGE = 4008
    TOO_SOON = 4009
    BANNED = 4010
    NO_PLACE = 4011

    @property
    def words(self) -> str:
        """The reason as the other end should read it."""
        return _WORDS[self]


_WORDS = {
    Goodbye.NORMAL: "the other node closed the link",
    Goodbye.GOING_AWAY: "the other node is shutting down",
    Goodbye.PROTOCOL: "the other node found our frames broken; do both run the same version?",
    Goodbye.TOO_BIG: "the other node found a frame too big; do both run the same version?",
    Goodbye.DUPLICATE: "the other node keeps another link to us",
    Goodbye.NOT_A_MEMBER: "the other node does not count us a member; is its genesis ours?",
    Goodbye.WRONG_NODE: "the other node looked for somebody else here; check the addresses",
    Goodbye.OWN_KEY: "the other node uses the same key; was a key file copied?",
    Goodbye.RECORD: "the other node refuses our node record; was an old backup restored?",
    Goodbye.HANDSHAKE: "the other node refused the handshake; do both have the same genesis?",
    Goodbye.SILENT: "the other node did not hear us for too long",
    Goodbye.BAD_MESSAGE: "the other node could not read a message of ours; update the older one",
    Goodbye.NO_PLACE: "the other node has no place for one more observer; it may have one later",
    Goodbye.TOO_SOON: "the other node takes no call from us for a while: our last links were short",
    Goodbye.BANNED: "the other node keeps us out; its `aegis-edge peers` says why",
}

#: What the end of a link tells of the other end, where this says it all.
_TELLS = {
    Goodbye.PROTOCOL: What.GARBAGE,
    Goodbye.TOO_BIG: What.GARBAGE,
    Goodbye.HANDSHAKE: What.GARBAGE,
    Goodbye.SILENT: What.SILENT,
    Goodbye.NOT_A_MEMBER: What.REFUSED,
    Goodbye.WRONG_NODE: What.REFUSED,
    Goodbye.OWN_KEY: What.REFUSED,
    Goodbye.RECORD: What.REFUSED,
    Goodbye.TOO_SOON: What.REFUSED,
}


class LinkError(Exception):
    """A link cannot be made, or has ended; the message says why, and what may help.

    `goodbye` is what the other end should be told; `what` it tells of the other end, None where
    that is no more than that there is no link.
    """

    def __init__(
        self, words: str, goodbye: Goodbye = Goodbye.NORMAL, what: What | None = None
    ) -> None:
        super().__init__(words)
        self.goodbye = goodbye
        self.what = _TELLS.get(goodbye) if what is None else what


class Misconduct(LinkError):
    """The other end, which had proven who it is, did what only it can have done, and none may.

    Only for what came sealed for the link: all else may be of anybody on the way.
    """

    def __init__(self, words: str, goodbye: Goodbye) -> None:
        super().__init__(words, goodbye, What.WRONG)


class ListenError(LinkError):
    """An address cannot be listened on; the message says why, and what may help.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    def __init__(self, words: str, exit_code: int) -> None:
        super().__init__(words)
        self.exit_code = exit_code


class WayError(Exception):
    """The way that links travel cannot be gone as it must be; the message says what to do.

    `exit_code`, after sysexits(3): what a program ends with when it ends of this.
    """

    exit_code = os.EX_CONFIG


class Channel(Protocol):
    """Frames in order to and from one other end.

    One task at a time sends and one receives, each to its end before another does.  The owner of
    the replica offers and takes, which does not wait; what was left over, the writer's task sends.
    """

    def offer(self, frames: Sequence[bytes]) -> bool:
        """Send what goes without waiting; True if that was all.

        Else the rest is kept, and the next `send` (of nothing, perhaps) begins with it: no other
        offer before that has returned.  Raises `LinkError`.
        """

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send these frames in one go; raises `LinkError`."""

    async def receive(self) -> bytes:
        """The next frame, without a checkpoint if it is there already; raises `LinkError`."""

    def take(self) -> bytes | None:
        """The next frame, or None if it is not there yet; raises `LinkError`."""

    @property
    def has_more(self) -> bool:
        """Whether bytes were read that `take` has not given yet."""

    def fileno(self) -> int:
        """The descriptor that is readable when `take` may have something new."""

    def greeted(self) -> None:
        """The other end's hello shows that it knows the cluster: no longer quite a stranger."""

    def proven(self) -> None:
        """The other end has proven who it is: lift the bounds that hold for strangers."""

    async def aclose(self, goodbye: Goodbye = Goodbye.NORMAL) -> None:
        """Tell the other end why, if that is possible at once, and close.  Never raises."""

    #: The address of the other end, for people.
    remote: str

    @property
    def rtt_ms(self) -> float | None:
        """What the transport believes a round trip to take, if it keeps count."""


#: Takes a channel and closes it in the end; gives the reason.
Handler = Callable[[Channel], Awaitable[Goodbye]]


class Transport(Protocol):
    """A way to reach others and to be reached."""

    async def dial(self, address: str) -> Channel:
        """A channel to `address`, within a deadline of its own; raises `LinkError`."""

    async def serve(
        self,
        handler: Handler,
        address: str,
        *,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `handler` in a task of its own for every channel that comes in at `address`.

        After `Goodbye.TOO_SOON` and `BANNED`, other callers from the same place may have to wait a
        moment.
        Reports through `task_status` the addresses on which it listens, as a tuple of texts;
        raises `LinkError` if it cannot listen.
        """

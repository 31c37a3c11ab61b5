"""LAN discovery: members on one network find each other's new addresses, with nobody between.

Knows a multicast group, when to say where this node is, and how much of what comes is looked at.
Refuses to know who is a member, and to answer: what is heard is an introduction, no more than what
another member tells on a link (`net.introductions`), and shows at most in a dial.

It says what `peers.beacon` makes of this node's record: at its start, whenever this host has
another address on that network, and seldom besides, at times that chance decides.  TTL 1: no router
passes it on.  It hears datagrams to the group alone, and no more of them in a second than costs
nearly nothing: strangers who flood it can keep it from hearing, and from nothing else.  Who knows
the cluster id can have it check signatures, a few; a record that it knows already costs none.
Follows: RFC 1112 for multicast, RFC 2365 for the group, which is of this network alone.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import socket
from collections.abc import Callable, Container

import trio

from aegis_edge.net import clock
from aegis_edge.peers import beacon
from aegis_edge.wire.codec import WireError

GROUP = "239.255.97.101"
PORT = 28_097
#: Between two beacons: the first pause after a start or a move, and the longest; times 0.5 to 1.5.
SOON_S = 2.0
SELDOM_S = 600.0
#: How often to see whether this host has moved, or has a network by now.
LOOK_S = 30.0
#: Datagrams that are looked at: at once, and one more in each span.
HEARD_MAX, HEARD_TICKS = 64, 20
#: Records that are checked of those who know the cluster: at once, and one more in each span.
CHECKED_MAX, CHECKED_TICKS = 72, 10_000
#: What waits in the kernel; what does not fit is lost.
_WAITING_BYTES = 64 * 1024
_DATAGRAM_BYTES_MAX = beacon.BEACON_BYTES + 1
#: Of Linux (ip(7)): else a socket gets what any other on this host has joined.
_IP_MULTICAST_ALL = 49

log = logging.getLogger(__name__)


class Allowance:
    """So many at once, and one more in each span: a leaky bucket, as the time at which it is empty.

    Follows the generic cell rate algorithm of ITU-T I.371.
    """

    def __init__(self, size: int, span_ticks: int) -> None:
        self._room_ticks = size * span_ticks
        self._span_ticks = span_ticks
        self._empty_at = 0

    def wait_ticks(self, now_ticks: int) -> int:
        """How long until there is one to take; 0: now."""
        return max(0, self._empty_at + self._span_ticks - self._room_ticks - now_ticks)

    def take(self, now_ticks: int) -> bool:
        """Take one, if there is one."""
        if self.wait_ticks(now_ticks):
            return False
        self._empty_at = max(self._empty_at, now_ticks) + self._span_ticks
        return True


class Lan:
    """Discovery for one node, while `run` does.

    `record_raw`: its signed record; `listen`: the address whose network it is, or 0.0.0.0 for the
    one that this host would take; `introduced(envelope, by)` is told of each record, and raises
    `WireError` if it is none; `known`: gives the envelopes of the records that are no news.
    """

    def __init__(
        self,
        *,
        cluster_id: bytes,
        record_raw: bytes,
        listen: str,
        introduced: Callable[[bytes, str], None],
        known: Callable[[], Container[bytes]],
        port: int | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        beacon.seal(cluster_id, record_raw, bytes(beacon.ENTROPY_BYTES))  # that it can be
        self._cluster_id = cluster_id
        self._record_raw = record_raw
        self._interface = _interface(listen)
        self._introduced = introduced
        self._known = known
        self._place = (GROUP, PORT if port is None else port)
        self._entropy = entropy
        self._jitter = jitter
        self._heard = Allowance(HEARD_MAX, HEARD_TICKS)
        self._checked = Allowance(CHECKED_MAX, CHECKED_TICKS)
        self._said = ""

    async def run(self) -> None:
        """Say where this node is, and hear where others are, until cancelled.

        Whatever the network does not allow now is tried again; the log says it once.
        """
        while True:
            at = self._at()
            try:
                with self._socket() as heard:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._hear, heard)
                        nursery.start_soon(self._announce, heard)
                        while self._at() == at:
                            await trio.sleep(LOOK_S)
                        nursery.cancel_scope.cancel()
            except OSError as error:
                self._complain(f"cannot be on this network: {error}")
                await trio.sleep(LOOK_S)

    async def _announce(self, to: trio.socket.SocketType) -> None:
        pause_s = SOON_S
        while True:
            said = beacon.seal(
                self._cluster_id, self._record_raw, self._entropy(beacon.ENTROPY_BYTES)
            )
            try:
                await to.sendto(said, self._place)
                self._said = ""
            except OSError as error:  # it comes and goes with the cable
                self._complain(f"cannot say where this node is: {error}")
            await trio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = min(2 * pause_s, SELDOM_S)

    async def _hear(self, heard: trio.socket.SocketType) -> None:
        while True:
            while wait_ticks := self._heard.wait_ticks(clock.now_ticks()):
                await trio.sleep(wait_ticks / 1000)
            try:
                data, sender = await heard.recvfrom(_DATAGRAM_BYTES_MAX)
            except OSError as error:
                self._complain(f"cannot hear: {error}")
                await trio.sleep(SOON_S)
                continue
            self._heard.take(clock.now_ticks())
            try:
                self._take(data, sender[0])
            except WireError as error:
                log.debug("what %s sends to all is of no use: %s", sender[0], error)

    def _take(self, data: bytes, sender: str) -> None:
        """One datagram; raises `WireError`."""
        envelope = beacon.read(self._cluster_id, data)
        if envelope == self._record_raw or envelope in self._known():
            return
        if not self._checked.take(clock.now_ticks()):
            raise WireError("more records than there are members: none is checked for a while")
        self._introduced(envelope, f"a beacon from {sender}")

    def _socket(self) -> trio.socket.SocketType:
        """A socket of the group; raises `OSError`."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # several nodes on a host
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING_BYTES)
            made.bind(self._place)  # to the group itself: nothing that is for this host alone
            group = socket.inet_aton(GROUP)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + self._interface)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._interface)
            made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        except BaseException:
            made.close()
            raise
        return trio.socket.from_stdlib_socket(made)

    def _at(self) -> str:
        """The address from which a beacon would go; empty where there is no network."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            try:
                probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._interface)
                probe.connect(self._place)  # sends nothing
                return str(probe.getsockname()[0])
            except OSError:
                return ""

    def _complain(self, words: str) -> None:
        if words != self._said:
            self._said = words
            log.warning("LAN discovery %s; it goes on trying", words)


def _interface(listen: str) -> bytes:
    """The IPv4 address that names an interface, 0.0.0.0 for the kernel's choice."""
    address = ipaddress.ip_address(listen)
    return address.packed if address.version == 4 else bytes(4)

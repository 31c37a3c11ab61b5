"""A call on one node by somebody who is no member of its cluster: one question, one answer.

Knows the caller's side; `net.links` has the host's.  Refuses to know what is asked.  The host has
proven who it is before it gets to see the caller's record, as on any link that a member dials.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import trio

from aegis_edge.net.channel import Channel, Goodbye, LinkError, Transport
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.session import ENTROPY_BYTES, Delivered, First, Opened, Session, Transmit

HANDSHAKE_S = 10.0
#: The host may have to ask its cluster first.
ANSWER_S = 90.0


class Unknown(LinkError):
    """The host knows nothing of what we asked with, and told us no more than any stranger."""


class Caller(NamedTuple):
    """Who calls, and into which cluster: as of `wire.session`."""

    record_raw: bytes
    noise_private: bytes
    cluster_id: bytes


async def ask(
    caller: Caller,
    transport: Transport,
    address: str,
    host: bytes,
    question: First,
    *,
    handshake_s: float = HANDSHAKE_S,
    answer_s: float = ANSWER_S,
    entropy: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """What the node with the key `host` answers at `address`; raises `LinkError`.

    `question` makes it of the hash of the handshake.
    """
    channel = await transport.dial(address)
    try:
        with trio.fail_after(handshake_s):
            session = await _introduced(caller, channel, host, question, entropy)
        with trio.fail_after(answer_s):
            return await _answer(channel, session)
    except trio.TooSlowError:
        raise LinkError("it did not answer in time") from None
    except WireError as error:
        raise LinkError(f"it answers as no node of that cluster would: {error}") from None
    finally:
        with trio.CancelScope(shield=True):
            await channel.aclose()


async def _introduced(
    caller: Caller,
    channel: Channel,
    host: bytes,
    question: First,
    entropy: Callable[[int], bytes],
) -> Session:
    """The session in which the question was asked."""
    session, hello = Session.initiate(*caller, entropy(ENTROPY_BYTES), question)
    await channel.send((hello,))
    session, effects = session.received(await channel.receive())
    (opened,) = (effect for effect in effects if type(effect) is Opened)
    if opened.peer != host:
        raise LinkError("another node answers there", Goodbye.WRONG_NODE)
    channel.greeted()
    channel.proven()
    await channel.send([effect.data for effect in effects if type(effect) is Transmit])
    return session


async def _answer(channel: Channel, session: Session) -> bytes:
    while True:
        try:
            frame = await channel.receive()
        except LinkError as error:
            # The one reason that any stranger is given, in the words of the table of reasons.
            if str(error) == Goodbye.NOT_A_MEMBER.words:
                raise Unknown(str(error)) from None
            raise
        session, effects = session.received(frame)
        for effect in effects:
            if type(effect) is Delivered:
                return effect.message

"""Whether a board that is no member yet is there, with our genesis: half a handshake shows it.

Knows when we have seen enough.  Refuses to know why that is asked.
Follows: the Noise Protocol Framework, pattern XX: with the second message the one that is called
has proven who it is and that it knows the cluster, and of the caller it has learnt neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import trio

from aegis_edge.net.channel import Channel, Goodbye, LinkError, Transport
from aegis_edge.net.guest import HANDSHAKE_S, Caller
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import NodeRecord, Verified
from aegis_edge.wire.session import ENTROPY_BYTES, Opened, Session


async def see(
    caller: Caller,
    transports: Mapping[str, Transport],
    record: Verified[NodeRecord],
    *,
    handshake_s: float = HANDSHAKE_S,
    entropy: Callable[[int], bytes] = os.urandom,
) -> None:
    """Return once the board with this record has shown itself; raises `LinkError`.

    `transports`: by scheme of address; `handshake_s`: for each of its addresses.
    """
    failure = LinkError("it says no address that can be called from here")
    for text in record.message.addresses:
        transport = transports.get(text.partition(":")[0])
        if transport is None:
            continue
        try:
            with trio.fail_after(handshake_s):
                channel = await transport.dial(text)
                try:
                    return await _recognise(caller, channel, record.signer, entropy)
                finally:
                    with trio.CancelScope(shield=True):
                        await channel.aclose()
        except LinkError as error:
            failure = LinkError(f"{text}: {error}")
        except trio.TooSlowError:
            failure = LinkError(f"{text}: it did not answer in time")
        except WireError as error:
            failure = LinkError(f"{text}: it answers as no node of this cluster would: {error}")
    raise failure


async def _recognise(
    caller: Caller, channel: Channel, wanted: bytes, entropy: Callable[[int], bytes]
) -> None:
    session, hello = Session.initiate(*caller, entropy(ENTROPY_BYTES))
    await channel.send((hello,))
    _, effects = session.received(await channel.receive())
    (opened,) = (effect for effect in effects if type(effect) is Opened)
    if opened.peer != wanted:
        raise LinkError("another node answers there", Goodbye.WRONG_NODE)

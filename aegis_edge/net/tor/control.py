"""One connection to tor's control port: commands one at a time, and events as they come.

Knows deadlines, bounds, and how the connection is opened, proven and given up.
Refuses to know what commands are for.  Follows: control-spec (spec.torproject.org/control-spec).

Written for Trio rather than with stem, whose Controller needs two threads and 12 MB more: measured
in `lines`, which also says why not even stem's parser is used.

    control = await connect(endpoint, Credentials())
    nursery.start_soon(control.run)                  # reads; ends when the connection ends
    reply = await control.command("GETINFO", "version")
    async for event in control.events: ...
"""

from __future__ import annotations

import logging
import os

import trio

from aegis_edge.net.tor import auth, lines, reach
from aegis_edge.net.tor.auth import Credentials, ProtocolInfo
from aegis_edge.net.tor.endpoint import Endpoint
from aegis_edge.net.tor.errors import Closed, Hung, NotTor, Refused, TorError
from aegis_edge.net.tor.lines import REPLY_BYTES_MAX, Garbled, Parser, Reply, Word

#: For the connection and all of its opening; and for one command.  On a board under load tor may
#: build circuits for seconds before it looks at its control port again.
OPENING_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 30.0
#: Events that wait for their taker.  More are dropped, and counted: nothing here may wait for one
#: who may himself be waiting for a command.
EVENTS_MAX = 256
RECEIVE_BYTES = 16_384

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

log = logging.getLogger(__name__)


async def connect(
    place: Endpoint, credentials: Credentials, *, timeout_s: float = OPENING_TIMEOUT_S
) -> Control:
    """An open, authenticated connection; raises `TorError`.  The caller runs `run` in a task."""
    try:
        with trio.fail_after(timeout_s):
            stream = await reach.connect(place, "control port")
            control = Control(stream, str(place))
            try:
                await control._open(credentials)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except trio.TooSlowError:
        raise Hung(
            f"tor does not answer at {place} within {timeout_s:g} s",
            "restart tor; if that does not help, see with top whether this board is overloaded",
        ) from None
    return control


class Control:
    """The connection.  `info`: what tor said of itself when it was opened."""

    info: ProtocolInfo

    def __init__(self, stream: trio.abc.Stream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._parser = Parser()
        self._turn = trio.Lock()
        self._reply: Reply | None = None
        self._answered: trio.Event | None = None
        self._ended: TorError | None = None
        self._events, self.events = trio.open_memory_channel[Reply](EVENTS_MAX)
        self.events_dropped = 0

    # --- opening ------------------------------------------------------------------------------

    async def _open(self, credentials: Credentials) -> None:
        self.info = auth.protocol_info(await self._ask("PROTOCOLINFO", "1"))
        how = auth.method(self.info, credentials)
        if how == "PASSWORD":
            assert credentials.password_file is not None
            reply = await self._ask(*auth.password_proof(credentials.password_file))
        elif how == "SAFECOOKIE":
            path = str(credentials.cookie_file or self.info.cookie_file)
            cookie = auth.read_cookie(path)
            nonce = os.urandom(auth.NONCE_BYTES)
            challenged = await self._ask(*auth.challenge(nonce))
            reply = await self._ask(*auth.proof(challenged, cookie, nonce))
        else:
            log.warning("tor at %s takes commands from anybody on this host", self._name)
            reply = await self._ask("AUTHENTICATE")
        if not reply.is_good:
            raise auth.refused(how, reply)

    async def _ask(self, *words: str) -> Reply:
        """One command before `run` reads: nothing may come but its reply."""
        try:
            await self._stream.send_all(lines.command(*words))
            while not (replies := self._parser.feed(await self._receive())):
                pass
        except Garbled as error:
            raise auth.not_tor(str(error)) from None
        except (Closed, *_BROKEN):
            raise NotTor(
                f"what listens at {self._name} hung up when it was greeted",
                "see that tor runs and listens there, and look at its log",
            ) from None
        if len(replies) > 1 or replies[0].is_event:
            raise auth.not_tor("it says more than it was asked")
        return replies[0]

    async def _receive(self) -> bytes:
        data = await self._stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise _closed(self._name)
        return bytes(data)

    # --- running ------------------------------------------------------------------------------

    async def run(self) -> TorError:
        """Read until the connection ends; return why.  Commands in flight raise the same."""
        try:
            while True:
                for reply in self._parser.feed(await self._receive()):
                    self._take(reply)
        except Garbled as error:
            self._end(NotTor(f"tor at {self._name} sent nonsense ({error})", "restart tor"))
        except TorError as error:
            self._end(error)
        except _BROKEN:
            self._end(_closed(self._name))
        finally:
            self._end(_closed(self._name))
            await trio.aclose_forcefully(self._stream)
        assert self._ended is not None
        return self._ended

    def _take(self, reply: Reply) -> None:
        if reply.is_event:
            try:
                self._events.send_nowait(reply)
            except trio.WouldBlock:
                self.events_dropped += 1
            except trio.BrokenResourceError:
                pass  # nobody wants events
        elif self._answered is None or self._reply is not None:
            raise Garbled("an answer without a question")
        else:
            self._reply = reply
            self._answered.set()

    def _end(self, why: TorError) -> None:
        """The first reason counts."""
        if self._ended is None:
            self._ended = why
            self._events.close()
            if self._answered is not None:
                self._answered.set()

    async def command(
        self,
        *words: Word,
        timeout_s: float = COMMAND_TIMEOUT_S,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> Reply:
        """Tor's good answer to one command; commands of several tasks take turns.

        A pair is sent as ``KEY="value"``, see `lines.command`, which refuses with `ValueError`
        what could break out of its place.  Raises `Refused` for a bad answer, and the connection
        goes on; any other `TorError`, and also a cancellation in the middle, ends it, for the next
        answer could be the one to this command.
        """
        line = lines.command(*words)
        async with self._turn:
            self._check()
            self._answered, self._reply = trio.Event(), None
            self._parser.reply_bytes_max = reply_bytes_max
            try:
                with trio.fail_after(timeout_s):
                    await self._stream.send_all(line)
                    await self._answered.wait()
            except trio.TooSlowError:
                self._end(
                    Hung(
                        f"tor does not answer {words[0]} within {timeout_s:g} s",
                        "restart tor; if that does not help, see whether this board is overloaded",
                    )
                )
            except _BROKEN:
                self._end(_closed(self._name))
            except trio.Cancelled:
                self._end(_closed(self._name))
                await self._let_go()
                raise
            finally:
                self._answered = None
                self._parser.reply_bytes_max = REPLY_BYTES_MAX
            await self._let_go()
            reply = self._outcome()
        if not reply.is_good:
            raise Refused(str(words[0]), reply.code, reply.said)
        return reply

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _outcome(self) -> Reply:
        """The reply, even if the connection ended with it, as after SIGNAL HALT."""
        if self._reply is None:
            self._check()
        assert self._reply is not None, "whoever wakes a command has a reply or has ended"
        return self._reply

    async def _let_go(self) -> None:
        """Close the stream of a connection that has ended, so that `run` ends too."""
        if self._ended is not None:
            await trio.aclose_forcefully(self._stream)

    async def aclose(self) -> None:
        """Close the connection; services that were added through it end, unless detached."""
        self._end(_closed(self._name))
        await trio.aclose_forcefully(self._stream)


def _closed(name: str) -> Closed:
    return Closed(
        f"the connection to tor at {name} has ended",
        "see in tor's log whether it was stopped or crashed, and start it again",
    )

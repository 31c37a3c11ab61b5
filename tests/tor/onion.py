"""An onion service of few lines, and the few that dial it: what a network is for."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from stem.control import Controller
from stem.socket import ControlSocketFile

from tors import PATIENCE_S, Client, hush, until

#: One dial; after that a new one, which takes another way, is sooner there.
DIAL_S = 15.0
NO_DESCRIPTOR = 0xF0


class Refused(Exception):
    """tor's answer to a dial; its argument is the code (RFC 1928, and tor's `ExtendedErrors`)."""


class _Onlooker(Controller):  # type: ignore[misc]
    """Else stem takes over a tor that this process owns, and ends it when it is closed."""

    def is_localhost(self) -> bool:
        return False


def control(tor: Client) -> AbstractContextManager[Controller]:
    return controller_at(tor.control_path)


@contextmanager
def controller_at(path: Path) -> Iterator[Controller]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "setDaemon", DeprecationWarning)  # stem 1.8's threads
        controller = _Onlooker(ControlSocketFile(str(path)))
    with controller:
        controller.authenticate()
        yield controller


class _Mirror(socketserver.BaseRequestHandler):
    """Says back, reversed, each line that it hears."""

    def handle(self) -> None:
        with self.request.makefile("rwb", buffering=0) as stream:
            for line in stream:
                stream.write(line[-2::-1] + b"\n")


@contextmanager
def mirror(tor: Client, folder: Path, key: str = "NEW:ED25519-V3") -> Iterator[tuple[str, str]]:
    """An onion service behind `tor` that says back what it hears; its address and its key."""
    kind, _, content = key.partition(":")
    path = folder / "mirror"
    path.unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), _Mirror) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            with control(tor) as controller:
                added = controller.create_ephemeral_hidden_service(
                    {80: f"unix:{path}"},
                    key_type=kind,
                    key_content=content,
                    await_publication=True,
                    timeout=PATIENCE_S,
                )
                yield added.service_id, f"ED25519-V3:{added.private_key or content}"
        finally:
            server.shutdown()


def reach(tor: Client, address: str) -> socket.socket:
    """A stream through `tor` to an onion service, dialled until it answers."""
    streams: list[socket.socket] = []

    def dialled() -> bool:
        try:
            streams.append(dial(tor, address))
        except (Refused, TimeoutError):
            return False
        return True

    until(f"{address} answers", dialled, [tor], time.monotonic() + PATIENCE_S, hush)
    return streams[0]


def dial(tor: Client, address: str) -> socket.socket:
    """The same, dialled once.  Raises `Refused`, TimeoutError."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(DIAL_S)
        stream.connect(str(tor.socks_path))
        host = f"{address}.onion".encode()
        stream.sendall(b"\x05\x01\x00")
        assert _exactly(stream, 2) == b"\x05\x00"
        stream.sendall(b"\x05\x01\x00\x03" + bytes((len(host),)) + host + (80).to_bytes(2, "big"))
        _, code, _, kind = _exactly(stream, 4)
        if code:
            raise Refused(code)
        _exactly(stream, {1: 4, 4: 16}[kind] + 2)
        return stream
    except BaseException:
        stream.close()
        raise


def ask(stream: socket.socket, line: bytes) -> bytes:
    """What the mirror says to one line."""
    stream.sendall(line + b"\n")
    return _exactly(stream, len(line) + 1)[:-1]


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = stream.recv(count - len(data))
        if not chunk:
            raise ConnectionError(f"the stream ended after {len(data)} of {count} bytes")
        data += chunk
    return data

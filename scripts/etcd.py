"""etcd, the yardstick: a cluster of it on loopback, and a lean client for its gRPC `Put`.

Knows how etcd is started and just enough of HTTP/2 (RFC 9113) and HPACK (RFC 7541) to keep any
number of unary calls in flight on one connection.  A client library would do, but costs the two
cores several times as much per call, and that would be etcd's loss in the comparison.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from cluster import free_ports

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_PUT_PATH = b"/etcdserverpb.KV/Put"
_WINDOW_BYTES = 1 << 30


class EtcdError(Exception):
    """etcd is missing, did not start, or refused a call."""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    """A literal header field that enters no table: no state, so every call sends the same bytes."""
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def put_request(key: bytes, value: bytes) -> bytes:
    """The DATA payload of one Put: gRPC's five-byte prefix and the protobuf message."""
    message = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Caller:
    """One connection with many calls in flight: `start` calls, `finished` collects answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HI", 4, _WINDOW_BYTES)
        window = struct.pack(">I", _WINDOW_BYTES)
        self._socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, window)
        )
        self._headers = (
            b"\x83\x86"  # :method POST, :scheme http, from the static table
            + _field(b":path", _PUT_PATH)
            + _field(b":authority", b"127.0.0.1:%d" % port)
            + _field(b"content-type", b"application/grpc")
            + _field(b"te", b"trailers")
        )
        self._buffer = b""
        self._next_stream = 1
        self._answered: set[int] = set()
        #: Answers that came before `start` had room for all that it sends.
        self._early: list[int] = []
        self._room_bytes = 65535  # what etcd lets us send; it tops this up as it reads

    def start(self, requests: Iterable[bytes]) -> list[int]:
        """Sends calls, in one write where there is room; returns a ticket per call."""
        out: list[bytes] = []
        tickets = []
        for body in requests:
            if self._room_bytes < len(body):
                self._socket.sendall(b"".join(out))
                out.clear()
                while self._room_bytes < len(body):
                    self._early += self._read()
            stream = self._next_stream
            self._next_stream += 2
            out.append(_frame(_HEADERS, _END_HEADERS, stream, self._headers))
            out.append(_frame(_DATA, _END_STREAM, stream, body))
            self._room_bytes -= len(body)
            tickets.append(stream)
        self._socket.sendall(b"".join(out))
        return tickets

    def finished(self) -> list[int]:
        """Waits for at least one answer; returns the tickets of all that came.

        A call that ends without a message has failed (gRPC sends the message only with OK).
        """
        done, self._early = self._early, []
        while not done:
            done = self._read()
        return done

    def _read(self) -> list[int]:
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise EtcdError("etcd closed the connection")
        data = self._buffer + chunk if self._buffer else chunk
        at, end, done = 0, len(data), []
        while end - at >= 9:
            head, flags, stream = struct.unpack_from(">IBI", data, at)
            kind, stop = head & 0xFF, at + 9 + (head >> 8)
            if stop > end:
                break
            if kind == _DATA:
                self._answered.add(stream)
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    if stream not in self._answered:
                        raise EtcdError(f"etcd refused a put: {data[at + 9 : stop]!r}")
                    self._answered.remove(stream)
                    done.append(stream)
            else:
                self._control(kind, flags, stream, data[at + 9 : stop])
            at = stop
        self._buffer = data[at:]
        return done

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._room_bytes += struct.unpack(">I", payload)[0]
        elif kind in (_GOAWAY, _RESET):
            raise EtcdError(f"etcd ended the connection: {payload!r}")

    def close(self) -> None:
        self._socket.close()


class Cluster:
    """`count` etcd processes on loopback ports that are free, each with its own directory."""

    def __init__(self, directory: Path, count: int = 3) -> None:
        self.directory, self.count = directory, count
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []

    @staticmethod
    def version() -> str | None:
        """etcd's version, or None where it is not installed."""
        if shutil.which("etcd") is None:
            return None
        shown = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=False)
        return shown.stdout.splitlines()[0].removeprefix("etcd Version: ")

    def start(self) -> None:
        free = free_ports(2 * self.count)
        self.ports, between = free[: self.count], free[self.count :]
        names = [f"etcd{i}" for i in range(self.count)]
        peers = [f"http://127.0.0.1:{port}" for port in between]
        everyone = ",".join(f"{n}={p}" for n, p in zip(names, peers, strict=True))
        for name, peer, port in zip(names, peers, self.ports, strict=True):
            client = f"http://127.0.0.1:{port}"
            command = ["etcd", "--name", name, "--data-dir", str(self.directory / name)]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--initial-cluster", everyone, "--initial-cluster-state", "new"]
            command += ["--quota-backend-bytes", str(4 << 30), "--log-level", "error"]
            with (self.directory / f"{name}.log").open("wb") as log:
                self.processes.append(
                    subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
                )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        ask = self._ctl("endpoint", "health")
        while subprocess.run(ask, env=_V3, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise EtcdError(f"etcd did not start; its logs are in {self.directory}")
            time.sleep(0.2)

    def _ctl(self, *words: str) -> list[str]:
        everyone = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return ["etcdctl", "--endpoints", everyone, *words]

    def leader(self) -> int:
        """The position of the leader: callers talk to it, which is the best case for etcd."""
        command = self._ctl("endpoint", "status")
        lines = subprocess.run(command, env=_V3, capture_output=True, text=True, check=True)
        rows = [row.split(", ") for row in lines.stdout.splitlines()]
        return next(i for i, row in enumerate(rows) if row[4] == "true")

    def count_keys(self) -> int:
        command = self._ctl("get", "/", "--from-key", "--keys-only")
        shown = subprocess.run(command, env=_V3, capture_output=True, check=True)
        return sum(bool(line) for line in shown.stdout.splitlines())

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.processes.clear()


_V3 = {**os.environ, "ETCDCTL_API": "3"}

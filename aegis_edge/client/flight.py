"""What a pipeline has on its way, without a socket: numbers, frames, answers.

Knows the frames of the pipeline, and the bounds of what is sent before answers must come.
Refuses to know who moves the bytes.  Follows: the format described in `aegis_edge.api.pipeline`.
"""

from __future__ import annotations

from typing import Any

from aegis_edge.client.protocol import (
    FRAME_BYTES_MAX,
    ClientError,
    Garbled,
    Inbox,
    Invalid,
    Parser,
    Written,
    error_of,
    packed,
)
from aegis_edge.knowledge import operations
from aegis_edge.wire import codec

#: The most that a pipeline leaves unanswered before it waits.
FLIGHT_OPERATIONS_MAX = 2048
FLIGHT_BYTES_MAX = 2 * 1024 * 1024
#: A frame is sent when it holds this much, or at a flush.
FRAME_OPERATIONS = 256
FRAME_BYTES = 64 * 1024


class Flight:
    """What a pipeline has sent and what came back, without a socket.

    Operations are numbered from 0; answers come in any order.
    """

    def __init__(self) -> None:
        self._next = 0
        self._waiting: list[tuple[int, bytes]] = []
        self._waiting_bytes = 0
        self._sizes: dict[int, int] = {}
        self._flight_bytes = 0
        self._results: dict[int, Written | ClientError] = {}
        self._claimed: set[int] = set()

    def put(self, key: str, value: Any, expected: int | None = None) -> int:
        """Queue a put; its number.  Raises `Invalid` at once for a bad key or value."""
        data, is_json = packed(value)
        try:
            operation = operations.Put(key, data, int(is_json), expected).encode()
        except operations.OperationError as error:
            raise Invalid(str(error)) from None
        return self.submit(operation)

    def delete(self, key: str, expected: int | None = None) -> int:
        """Queue a deletion; its number."""
        try:
            operation = operations.Delete(key, expected).encode()
        except operations.OperationError as error:
            raise Invalid(str(error)) from None
        return self.submit(operation)

    def submit(self, operation: bytes) -> int:
        number = self._next
        self._next += 1
        size = len(operation) + 16
        self._sizes[number] = size
        self._flight_bytes += size
        self._waiting.append((number, operation))
        self._waiting_bytes += size
        return number

    @property
    def frame_due(self) -> bool:
        """True when what waits is worth a frame."""
        return len(self._waiting) >= FRAME_OPERATIONS or self._waiting_bytes >= FRAME_BYTES

    @property
    def full(self) -> bool:
        """True when answers must come before more is sent."""
        return len(self._sizes) >= FLIGHT_OPERATIONS_MAX or self._flight_bytes >= FLIGHT_BYTES_MAX

    @property
    def open(self) -> int:
        """How many operations have no answer yet."""
        return len(self._sizes)

    def frame(self) -> bytes:
        """Everything that waits, as bytes to send."""
        frames = []
        while self._waiting:
            size = count = 0
            for _, operation in self._waiting[:FRAME_OPERATIONS]:
                size += len(operation) + 16
                if count and size > FRAME_BYTES_MAX:
                    break
                count += 1
            frames.append(framed(codec.encode(tuple(self._waiting[:count]))))
            del self._waiting[:count]
        self._waiting_bytes = 0
        return b"".join(frames)

    def answers(self, inbox: Inbox) -> Parser[None]:
        """Take one frame of answers; nothing is taken from the inbox before all of it is there."""
        data = yield from inbox.frame()
        try:
            for number, code, revision, detail in codec.decode(data):
                if number is None:
                    raise error_of(code, detail)
                self._flight_bytes -= self._sizes.pop(number)
                self._results[number] = (
                    Written(revision, detail)
                    if code == "ok"
                    else error_of(code, detail, revision=revision)
                )
        except (codec.WireError, KeyError, ValueError, TypeError):
            raise Garbled("a frame of answers that does not parse") from None

    def answered(self, number: int) -> bool:
        """True once the operation has its answer."""
        return number not in self._sizes

    def claim(self, number: int) -> None:
        """Keep the answer to this operation for `result`, out of `landed`."""
        self._claimed.add(number)

    def result(self, number: int) -> Written:
        """Take the answer to a claimed operation; raises it if it is an error."""
        self._claimed.remove(number)
        outcome = self._results.pop(number)
        if isinstance(outcome, ClientError):
            raise outcome
        return outcome

    @staticmethod
    def all_written(results: list[Written | ClientError]) -> list[Written]:
        """The results if all are good; raises the first error among them."""
        done: list[Written] = []
        for result in results:
            if isinstance(result, ClientError):
                raise result
            done.append(result)
        return done

    def landed(self) -> list[Written | ClientError]:
        """Take all answers that nobody claimed, in the order of the operations."""
        numbers = sorted(self._results.keys() - self._claimed)
        return [self._results.pop(number) for number in numbers]


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data

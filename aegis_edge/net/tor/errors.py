"""What can go wrong with a tor, and what its owner should do about it.

Knows words and advice, and one class for each way to react.
Refuses to know where an error was met.  Nothing secret is ever put into one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class TorError(Exception):
    """Tor does not do its part.  `advice` tells the owner of the node what to do next."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(f"{message}; {advice}")
        self.message = message
        self.advice = advice


class Unreachable(TorError):
    """Nothing answers where tor should listen, or this process may not go there."""


class NotTor(TorError):
    """What listens there does not speak as tor does; nothing was told to it."""


class NotAuthenticated(TorError):
    """Tor and the node could not prove to each other that they belong together."""


class Hung(TorError):
    """Tor accepts connections and does not answer."""


class Closed(TorError):
    """The connection to tor has ended: it was stopped, restarted, or crashed."""


class Refused(TorError):
    """Tor understood a command and refuses it.  `code`: control-spec section 4; `said`: why."""

    def __init__(self, command: str, code: int, said: str, advice: str = "") -> None:
        super().__init__(f"tor refuses {command} ({code} {said})", advice or _ADVICE)
        self.code = code
        self.said = said


_ADVICE = "look at tor's log, and see that this tor is recent enough"


def first(group: BaseExceptionGroup[E]) -> E:
    """The first error of a group, however deep it lies: a nursery's others follow from it."""
    error: E | BaseExceptionGroup[E] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def alone(kind: type[Exception]) -> Iterator[None]:
    """A `kind` leaves the block by itself, and in no group that a nursery has made of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        found = group.subgroup(kind)
        if found is None:
            raise
        raise first(found) from None

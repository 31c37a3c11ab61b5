"""The one thread that touches the database, and how the event loop hands it work.

Knows order and callbacks.  Refuses to know what a job does.  A thread of its own, not Trio's pool:
a job costs a queue and a callback, and no task; its caller is woken as it likes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import trio

T = TypeVar("T")


class DatabaseThread:
    """The one thread that touches the database: jobs in order, each one to its end."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any, Any], None]] | None]
        self._jobs = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="database", daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        """Run `job` after all that were posted before, then `done(result, error)`.

        Both run in the database's thread; `done` must be quick and must not raise.
        """
        self._jobs.put((job, done))

    async def call(self, job: Callable[[], T]) -> T:
        """Run `job`; its result, or what it raised.  Not cancellable: a job runs to its end."""
        finished = trio.Event()
        answer: list[Any] = []

        def done(result: Any, error: BaseException | None) -> None:
            answer.extend((result, error))
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(finished.set)

        self.post(job, done)
        with trio.CancelScope(shield=True):
            await finished.wait()
        if answer[1] is not None:
            raise answer[1]
        return cast(T, answer[0])

    def close(self) -> None:
        """Finish what was posted, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:
                error = raised
            done(result, error)
